//! One place where the node's configuration becomes the options of each part.

use troupe_actors::stage;
use troupe_runtime::config::NodeConfig;
use troupe_runtime::model::{self, ModelOptions};
use troupe_runtime::retry::BackoffOptions;
use troupe_runtime::tool::{HttpGetOptions, ToolOptions};
use troupe_runtime::{bus, ports, sqlite, store};
use url::Url;

use super::StartError;
use crate::listener::ListenerOptions;
use crate::slack::ingress::IngressOptions;
use crate::slack::reply::ReplyOptions;

pub(super) fn ports(config: &NodeConfig) -> ports::Options {
    ports::Options {
        sqlite: sqlite::Options {
            batch_max: config.store.batch_max,
            writer_queue_max: config.store.writer_queue_max,
            ..sqlite::Options::default()
        },
        store: store::sqlite::Options::default(),
        bus: bus::Options {
            retry_ladder: config.bus.retry_ladder.clone(),
            event_bytes_max: config.bus.message_bytes_max,
            queue_events_max: config.bus.queue_events_max as u64,
            ..bus::Options::default()
        },
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
        answer_bytes_max: of.answer_bytes_max,
        prices: prices.collect(),
        ..ModelOptions::default()
    }
}

pub(super) fn tools(config: &NodeConfig) -> ToolOptions {
    let of = &config.tools;
    ToolOptions {
        wait_max: of.wait_max,
        http_get: HttpGetOptions {
            timeout: of.http_get.timeout,
            body_bytes_max: of.http_get.body_bytes_max,
            redirects_max: of.http_get.redirects_max as u32,
            ..HttpGetOptions::default()
        },
    }
}

pub(super) fn actors(config: &NodeConfig) -> stage::Options {
    stage::Options {
        steps_max: config.steps.per_node_max,
        steps_per_instance_max: config.steps.per_instance_max,
        claims_max: config.steps.claims_max,
        prefetch: usize::from(config.bus.prefetch),
        ..stage::Options::default()
    }
}

pub(super) fn listener(config: &NodeConfig) -> ListenerOptions {
    ListenerOptions {
        connections_max: config.http.connections_max,
        head_timeout: config.http.head_timeout,
        grace: config.http.body_timeout.min(config.drain_timeout),
    }
}

pub(super) fn ingress(config: &NodeConfig) -> IngressOptions {
    IngressOptions {
        body_bytes_max: config.http.body_bytes_max,
        body_timeout: config.http.body_timeout,
        publish_timeout: config.http.publish_timeout,
        ..IngressOptions::default()
    }
}

pub(super) fn replies(config: &NodeConfig) -> Result<ReplyOptions, StartError> {
    let (slack, of) = (&config.slack, &config.replies);
    let base = if slack.api_base.ends_with('/') { slack.api_base.clone() } else { format!("{}/", slack.api_base) };
    let base = Url::parse(&base).map_err(|error| StartError::Slack(format!("SLACK_API_BASE: {error}")))?;
    Ok(ReplyOptions {
        bot_token: slack.bot_token.clone(),
        response_hosts: slack.response_hosts.clone(),
        in_flight_max: of.in_flight_max,
        attempts_max: of.tries,
        backoff: of.backoff_base,
        backoff_max: of.backoff_max,
        request_timeout: of.timeout,
        redeliveries_max: config.bus.retry_ladder.len() as u32,
        ..ReplyOptions::new(base)
    })
}
