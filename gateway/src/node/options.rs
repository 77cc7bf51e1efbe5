//! One place where the node's configuration becomes the options of each part.
//!
//! Called once when the node starts; what a setting may be was checked when it was read.

use secrecy::SecretString;
use troupe_actors::{cleaner, lease, stage, vitals, watcher};
use troupe_runtime::config::NodeConfig;
use troupe_runtime::live::Live;
use troupe_runtime::model::{self, ModelOptions};
use troupe_runtime::retry::BackoffOptions;
use troupe_runtime::tool::{HttpGetOptions, ToolOptions};
use troupe_runtime::{bus, ports, postgres, sqlite, store, supervision};
use url::Url;

use super::StartError;
use crate::admin::AdminOptions;
use crate::listener::ListenerOptions;
use crate::slack::ingress::IngressOptions;
use crate::slack::reply::ReplyOptions;
use crate::spool;

pub(crate) fn ports(config: &NodeConfig) -> ports::Options {
    let (of_store, of_postgres) = (&config.store, &config.postgres);
    ports::Options {
        database_url: config.database_url.clone(),
        sqlite: sqlite::Options {
            readers: of_store.readers,
            batch_max: of_store.batch_max,
            writer_queue_max: of_store.writer_queue_max,
            busy_timeout: of_store.busy_timeout,
            page_cache_bytes: of_store.page_cache_bytes,
            checkpoint_pages: of_store.checkpoint_pages,
        },
        postgres: postgres::Options {
            connections: of_postgres.connections,
            statement_timeout: of_postgres.statement_timeout,
            lock_timeout: of_postgres.lock_timeout,
            connect_timeout: of_postgres.connect_timeout,
            answer_timeout: of_postgres.answer_timeout,
            doubt_timeout: of_postgres.doubt_timeout,
            migrate_timeout: of_postgres.migrate_timeout,
            start_timeout: of_postgres.start_timeout,
            batch_max: of_store.batch_max,
            writer_queue_max: of_store.writer_queue_max,
        },
        store: store::Options { rows_max: of_store.rows_max, payload: payloads(config), ..store::Options::default() },
        cache: store::tiers::Options {
            process: store::cache::Options {
                memory_bytes_max: of_store.cache_bytes_max,
                specs_max: of_store.cache_specs_max,
            },
            redis_url: config.redis_url.clone(),
            redis: redis(config),
        },
        amqp_url: config.amqp_url.clone(),
        rabbitmq: rabbitmq(config),
    }
}

fn queues(config: &NodeConfig) -> bus::Options {
    let of = &config.bus;
    bus::Options {
        retry_ladder: of.retry_ladder.clone(),
        event_bytes_max: of.event_bytes_max,
        queue_events_max: of.queue_events_max,
        cache_bytes_max: of.cache_bytes_max,
        index_events_max: of.index_events_max,
        aging: of.aging,
    }
}

pub(crate) fn rabbitmq(config: &NodeConfig) -> bus::rabbitmq::Options {
    let of = &config.rabbitmq;
    bus::rabbitmq::Options {
        bus: queues(config),
        publish_timeout: of.publish_timeout,
        publish_window: of.publish_window,
        publishes_max: of.publishes_max,
        publish_frame_bytes: of.publish_frame_bytes,
        consume_frame_bytes: of.consume_frame_bytes,
        lookahead: of.lookahead,
        queues_per_connection: of.queues_per_connection,
        gather_timeout: of.gather_timeout,
        linger: of.linger,
        answer_timeout: of.answer_timeout,
        connect_timeout: of.connect_timeout,
        backoff: bus::rabbitmq::backoff(of.backoff_base, of.backoff_max),
        heartbeat: of.heartbeat,
        tls_ca: of.tls_ca.clone(),
    }
}

pub(crate) fn redis(config: &NodeConfig) -> store::redis_cache::Options {
    let of = &config.cache;
    store::redis_cache::Options {
        answer_timeout: of.answer_timeout,
        connect_timeout: of.connect_timeout,
        failures_max: of.failures_max,
        rest: of.rest,
        keep: of.keep,
        memory_bytes_max: of.memory_bytes_max,
        key_prefix: of.key_prefix.clone(),
        flush_timeout: of.flush_timeout,
        tls_ca: of.tls_ca.clone(),
        payload: payloads(config),
    }
}

fn payloads(config: &NodeConfig) -> store::payload::Options {
    let of = &config.store;
    store::payload::Options {
        compress_above: of.compress_above,
        compress_min: of.compress_min,
        bytes_max: of.payload_bytes_max,
    }
}

pub(super) fn models(config: &NodeConfig) -> ModelOptions {
    let of = &config.models;
    let prices = of.prices.iter().map(|(model, price)| {
        let price = model::Price {
            input_usd: price.input_microusd as f64 / 1e6,
            output_usd: price.output_microusd as f64 / 1e6,
        };
        (model.clone(), price)
    });
    ModelOptions {
        backoff: BackoffOptions {
            tries: of.tries,
            base: of.backoff_base,
            cap: of.backoff_max,
            retry_after_max: of.retry_after_max,
        },
        connect_timeout: of.connect_timeout,
        idle_timeout: of.idle_timeout,
        answer_bytes_max: of.answer_bytes_max,
        tool_calls_max: of.tool_calls_max,
        stream: of.answers == "streamed",
        prices: prices.collect(),
    }
}

pub(super) fn tools(config: &NodeConfig) -> ToolOptions {
    let of = &config.tools;
    ToolOptions {
        wait_max: of.wait_max,
        http_get: HttpGetOptions {
            timeout: of.http_get.timeout,
            connect_timeout: of.http_get.connect_timeout,
            body_bytes_max: of.http_get.body_bytes_max,
            redirects_max: of.http_get.redirects_max,
            ..HttpGetOptions::default()
        },
    }
}

pub(super) fn actors(config: &NodeConfig) -> stage::Options {
    let (of, watch) = (&config.steps, &config.supervision);
    stage::Options {
        steps_max: of.per_node_max,
        steps_per_instance_max: of.per_instance_max,
        ahead_max: of.ahead_max,
        accept_max: of.accept_max,
        prefetch: of.prefetch,
        aging: config.bus.aging,
        claims_max: of.claims_max,
        record_for: of.record_for,
        store_wait_max: of.store_wait_max,
        attempt_backoff: of.attempt_backoff,
        stalled_after: of.stalled_after,
        relay_batch: of.relay_batch,
        relay_window: of.relay_window,
        relay_queue: of.relay_queue,
        relay_bytes_max: of.relay_bytes_max,
        sweep_every: of.sweep_every,
        orphans_max: of.orphans_max,
        call_timeout: of.call_timeout,
        steps_shown_max: watch.steps_shown_max,
        pool_children_max: watch.children_max,
        backoff: supervision::BackoffOptions {
            first: watch.backoff_base,
            cap: watch.backoff_max,
            healthy_after: watch.healthy_after,
            ..supervision::BackoffOptions::default()
        },
        vitals: vitals::Options {
            every: watch.ping_every,
            timeout: watch.ping_timeout,
            misses_max: watch.ping_misses_max,
        },
        ledger: supervision::LedgerOptions {
            per_actor_max: watch.falls_max,
            actors_max: watch.fallen_max,
            steps_max: watch.steps_shown_max,
        },
        lease: lease::Options {
            node: config.node.name.clone(),
            ttl: config.lease.ttl,
            renew_every: config.lease.renew_every,
            look_every: config.lease.look_every,
        },
        cleaner: cleaner::Options {
            keep: config.journal.keep,
            keep_results: config.journal.keep_results,
            every: config.journal.clean_every,
            batch: config.journal.clean_batch,
            pause: config.journal.clean_pause,
        },
        watch: None,
    }
}

pub(crate) fn watcher(config: &NodeConfig) -> watcher::Options {
    let of = &config.agents;
    watcher::Options {
        look_every: of.look_every,
        settle: of.settle,
        settle_max: of.settle_max,
        reread_every: of.reread_every,
    }
}

pub(super) fn spool(config: &NodeConfig) -> spool::Options {
    let of = &config.spool;
    spool::Options {
        publish_timeout: config.http.publish_timeout,
        append_timeout: of.append_timeout,
        bytes_max: of.bytes_max,
        segment_bytes: of.segment_bytes,
        appends_max: of.appends_max,
        batch_max: of.batch_max,
        window: of.window,
        handover_events: of.handover_events,
        confirm_timeout: of.confirm_timeout,
        retry_max: of.retry_max,
        settle: of.settle,
        event_bytes_max: config.bus.event_bytes_max,
    }
}

pub(super) fn listener(config: &NodeConfig) -> ListenerOptions {
    ListenerOptions {
        connections_max: config.http.connections_max,
        head_timeout: config.http.head_timeout,
        grace: config.http.body_timeout.min(config.drain_timeout),
    }
}

pub(super) fn admin(config: &NodeConfig) -> AdminOptions {
    AdminOptions {
        body_bytes_max: config.http.body_bytes_max,
        tails_max: config.admin.tails_max,
        tail_events_max: config.admin.tail_events_max,
        ..AdminOptions::default()
    }
}

pub(super) fn ingress(config: &NodeConfig) -> IngressOptions {
    IngressOptions {
        body_bytes_max: config.http.body_bytes_max,
        body_timeout: config.http.body_timeout,
        skew_seconds_max: config.slack.skew_max.as_secs() as i64,
        bodies_bytes_max: config.http.bodies_bytes_max,
    }
}

pub(super) fn replies(config: &NodeConfig, bot_token: Live<Option<SecretString>>) -> Result<ReplyOptions, StartError> {
    let (slack, of) = (&config.slack, &config.replies);
    let base = if slack.api_base.ends_with('/') { slack.api_base.clone() } else { format!("{}/", slack.api_base) };
    let base = Url::parse(&base).map_err(|error| StartError::Slack(format!("SLACK_API_BASE: {error}")))?;
    Ok(ReplyOptions {
        bot_token,
        response_hosts: slack.response_hosts.clone(),
        in_flight_max: of.in_flight_max,
        prefetch: of.prefetch,
        attempts_max: of.tries,
        backoff: of.backoff_base,
        backoff_max: of.backoff_max,
        store_wait_max: config.steps.store_wait_max,
        request_timeout: of.timeout,
        connect_timeout: of.connect_timeout,
        retry_after_max: of.retry_after_max,
        answer_bytes_max: of.answer_bytes_max,
        pages_max: of.pages_max,
        text_chars_max: of.text_chars_max,
        redeliveries_max: config.bus.retry_ladder.len() as u32,
        ..ReplyOptions::new(base)
    })
}
