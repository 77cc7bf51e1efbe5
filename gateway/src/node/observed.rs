//! What is counted where it happens and read at a scrape: scripted calls, the writer, the spool, Slack's two directions.
//!
//! Called once when the node starts. A counter that cannot be read yields nothing at that scrape.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use troupe_runtime::domain::agent::AgentName;
use troupe_runtime::ports::Ports;
use troupe_runtime::store::redis_cache::{self, Standing};
use troupe_runtime::store::tiers;
use troupe_runtime::telemetry::metrics::Reading;
use troupe_runtime::telemetry::names;

use crate::slack::ingress::IngressStats;
use crate::slack::reply::ReplyStats;
use crate::spool::{Counts, Report, Spool};

/// Ties the counters to their metrics.
pub(super) fn observe(ports: &Arc<Ports>, received: &Arc<IngressStats>, sent: &Arc<ReplyStats>, spool: &Spool) {
    let calls = ports.models.scripted_calls();
    ports.metrics.observe(names::SCRIPTED_MODEL_CALLS, move || {
        let reading = |(agent, rule, value): (AgentName, usize, u64)| Reading {
            labels: vec![(names::AGENT, agent.to_string()), (names::RULE, rule.to_string())],
            value,
        };
        calls.snapshot().into_iter().map(reading).collect()
    });
    // Weak: the metrics are part of the ports and must not keep them.
    let writer = Arc::downgrade(ports);
    let written = move |of: fn(&troupe_runtime::group_commit::Written) -> u64| {
        let writer = writer.clone();
        move || writer.upgrade().map(|ports| vec![Reading::plain(of(&ports.written()))]).unwrap_or_default()
    };
    ports.metrics.observe(names::STORE_TRANSACTIONS, written(|w| w.transactions));
    ports.metrics.observe(names::STORE_BATCH_OPERATIONS, written(|w| w.operations));
    ports.metrics.observe(names::STORE_ROWS, written(|w| w.rows));

    cache(ports);
    kept(ports, spool);

    let stats = received.clone();
    ports.metrics.observe(names::SLACK_REQUESTS, move || {
        let IngressStats { accepted, spooled, unrouted, ignored, refused, malformed, unavailable, rate_limited } =
            &*stats;
        readings(
            names::ANSWER,
            &[
                ("accepted", accepted),
                ("spooled", spooled),
                ("unrouted", unrouted),
                ("ignored", ignored),
                ("refused", refused),
                ("malformed", malformed),
                ("unavailable", unavailable),
                ("rate_limited", rate_limited),
            ],
        )
    });
    let stats = sent.clone();
    ports.metrics.observe(names::REPLIES, move || {
        let ReplyStats { sent, reconciled, given_up, retried, rate_limited, passed, .. } = &*stats;
        readings(
            names::OUTCOME,
            &[
                ("sent", sent),
                ("reconciled", reconciled),
                ("given_up", given_up),
                ("retried", retried),
                ("rate_limited", rate_limited),
                ("passed", passed),
            ],
        )
    });
    let stats = sent.clone();
    ports.metrics.observe(names::REPLY_DOUBTFUL, move || vec![Reading::plain(stats.doubtful.load(Ordering::Relaxed))]);
}

/// The tiers before the store; what only Redis has is not there without one.
fn cache(ports: &Arc<Ports>) {
    let weak = Arc::downgrade(ports);
    let seen = move |of: fn(&tiers::Report) -> Vec<Reading>| {
        let ports = weak.clone();
        move || ports.upgrade().map(|ports| of(&ports.cache.report())).unwrap_or_default()
    };
    ports.metrics.observe(names::CACHE_LOOKUPS, seen(lookups));
    let of_redis = |of: fn(&redis_cache::Report) -> u64| move |report: &tiers::Report| report.redis.as_ref().map(of);
    for (metric, of) in [
        (names::CACHE_ERRORS, of_redis(|redis| redis.errors)),
        (names::CACHE_SKIPPED, of_redis(|redis| redis.skipped)),
        (names::CACHE_BREAKER_OPEN, of_redis(|redis| u64::from(redis.breaker != Standing::Closed))),
    ] {
        let weak = Arc::downgrade(ports);
        ports.metrics.observe(metric, move || {
            let value = weak.upgrade().and_then(|ports| of(&ports.cache.report()));
            value.map(|value| vec![Reading::plain(value)]).unwrap_or_default()
        });
    }
}

/// What the disk keeps for the bus.
fn kept(ports: &Arc<Ports>, spool: &Spool) {
    let level = |metric, of: fn(&Report) -> u64| {
        let spool = spool.clone();
        ports.metrics.observe(metric, move || vec![Reading::plain(of(&spool.report()))]);
    };
    level(names::SPOOL_DEPTH, |report| report.events);
    level(names::SPOOL_BYTES, |report| report.bytes);
    level(names::SPOOL_ISOLATED, |report| report.isolated);
    let spool = spool.clone();
    ports.metrics.observe(names::SPOOL_EVENTS, move || {
        let Counts { spooled, drained, dropped, buried, isolated, failed } = spool.counts();
        readings(
            names::OUTCOME,
            &[
                ("spooled", spooled),
                ("drained", drained),
                ("dropped", dropped),
                ("buried", buried),
                ("isolated", isolated),
                ("failed", failed),
            ],
        )
    });
}

fn lookups(report: &tiers::Report) -> Vec<Reading> {
    let process = report.process;
    let mut found = vec![("process", "hit", process.hits), ("process", "miss", process.misses)];
    found.push(("process", "outdated", process.outdated));
    if let Some(redis) = &report.redis {
        found.extend([("redis", "hit", redis.hits), ("redis", "miss", redis.misses)]);
        found.extend([("redis", "outdated", redis.outdated), ("redis", "unreadable", redis.unreadable)]);
    }
    let reading = |(tier, outcome, value): (&str, &str, u64)| Reading {
        labels: vec![(names::TIER, tier.to_owned()), (names::OUTCOME, outcome.to_owned())],
        value,
    };
    found.into_iter().map(reading).collect()
}

fn readings(label: &'static str, counts: &[(&str, &AtomicU64)]) -> Vec<Reading> {
    counts.iter().map(|(word, count)| Reading::of(label, *word, count.load(Ordering::Relaxed))).collect()
}
