//! System tests: the real binary, from the outside, as people, Slack and power cuts meet it.
//!
//! Each test has a stage of its own (a folder, two ports) and may run beside all others. Nothing of the product is
//! called from inside, except for the words that Slack would send. `cargo build` comes first; `make test` does both.

#![expect(clippy::expect_used, clippy::panic, reason = "a stage that cannot be set fails the test")]
#![expect(clippy::print_stdout, reason = "a test says what it measured")]

#[path = "system/agents.rs"]
mod agents;
#[path = "system/asking.rs"]
mod asking;
#[path = "system/broker.rs"]
mod broker;
#[path = "system/cache.rs"]
mod cache;
#[path = "system/canaries.rs"]
mod canaries;
#[path = "system/chaos.rs"]
mod chaos;
#[path = "system/check.rs"]
mod check;
#[path = "system/crash.rs"]
mod crash;
#[path = "system/crowd.rs"]
mod crowd;
#[path = "system/damage.rs"]
mod damage;
#[path = "system/database.rs"]
mod database;
#[path = "system/demo.rs"]
mod demo;
#[path = "system/disk.rs"]
mod disk;
#[path = "system/dlq.rs"]
mod dlq;
#[path = "system/doors.rs"]
mod doors;
#[path = "system/drain.rs"]
mod drain;
#[path = "system/draining.rs"]
mod draining;
#[path = "system/events.rs"]
mod events;
#[path = "system/failover.rs"]
mod failover;
#[path = "system/forks.rs"]
mod forks;
#[path = "system/health.rs"]
mod health;
#[path = "system/history.rs"]
mod history;
#[path = "system/letters.rs"]
mod letters;
#[path = "system/outages.rs"]
mod outages;
#[path = "system/overload.rs"]
mod overload;
#[path = "system/reload.rs"]
mod reload;
#[path = "system/rotation.rs"]
mod rotation;
#[path = "system/runs.rs"]
mod runs;
#[path = "system/scale.rs"]
mod scale;
#[path = "system/settings.rs"]
mod settings;
#[path = "system/start.rs"]
mod start;
#[path = "system/upgrade.rs"]
mod upgrade;
