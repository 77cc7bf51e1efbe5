//! The stage of the tests: real nodes as processes, and stand-ins for what they talk to.
//!
//! | part | what it is |
//! |---|---|
//! | [`stage`] | a folder with agents, data and settings, on two free ports of its own |
//! | [`node`] | the real binary as a process that can be killed, stopped and started again |
//! | [`admin`] | the admin API, with plain HTTP, as a stranger would use it |
//! | [`authority`] | certificates for servers of the tests |
//! | [`canary`] | values that stand in secrets, and the search for them in all that a node leaves behind |
//! | [`cells`] | cells of a database, changed behind the store's back |
//! | [`effects`] | the outside world of tools: it does what it is told and forgets nothing |
//! | [`left`] | the file that a released node has left behind |
//! | [`model`] | a server that speaks chat completions, counts every call and never gives a number twice |
//! | [`pair`] | two nodes on one PostgreSQL, and a witness inside it |
//! | [`postgres`] | a PostgreSQL of the test's own, when it is installed |
//! | [`proxy`] | a line to a server that is cut, delayed, held, half-open, slow or refused on demand |
//! | [`rabbitmq`] | a RabbitMQ of the test's own, when it is installed |
//! | [`recorder`] | a server that keeps every request as it came, headers included |
//! | [`redis`] | a Redis of the test's own, when it is installed |
//! | [`victim`] | a troupe in a process of its own, with a [`tampered`] store: it is [killed](killer) at a commit, or [changed](mutant), and [judged](judge) |
//! | [`slack`] | Slack's side: signed requests out, replies in |
//! | [`wait`] | waiting for a condition, never for a time |
//!
//! Who calls: `tests/system`, `tests/live`, `tests/bench`. What fails here fails the test, with the node's own log.

#![expect(clippy::expect_used, clippy::panic, reason = "the stage of tests: what fails here fails the test")]

#[path = "support/admin.rs"]
pub mod admin;
#[path = "support/authority.rs"]
pub mod authority;
#[path = "support/canary.rs"]
pub mod canary;
#[path = "support/cells.rs"]
pub mod cells;
#[path = "support/effects.rs"]
pub mod effects;
#[path = "support/judge.rs"]
pub mod judge;
#[path = "support/killer.rs"]
pub mod killer;
#[path = "support/left.rs"]
pub mod left;
#[path = "support/model.rs"]
pub mod model;
#[path = "support/mutant.rs"]
pub mod mutant;
#[path = "support/node.rs"]
pub mod node;
#[path = "support/pair.rs"]
pub mod pair;
#[path = "support/ports.rs"]
pub mod ports;
#[path = "support/postgres.rs"]
pub mod postgres;
#[path = "support/proxy.rs"]
pub mod proxy;
#[path = "support/rabbitmq.rs"]
pub mod rabbitmq;
#[path = "support/recorder.rs"]
pub mod recorder;
#[path = "support/redis.rs"]
pub mod redis;
#[path = "support/seed.rs"]
pub mod seed;
#[path = "support/slack.rs"]
pub mod slack;
#[path = "support/stage.rs"]
pub mod stage;
#[path = "support/tampered.rs"]
pub mod tampered;
#[path = "support/victim.rs"]
pub mod victim;
#[path = "support/wait.rs"]
pub mod wait;

pub use stage::Stage;

/// Installs the TLS provider once; every HTTP client of a test needs it.
pub fn tls() {
    // Refused when another test was first, which is as good.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
}
