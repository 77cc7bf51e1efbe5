//! Configuration: agent specs and the node's settings, read so that one look at the messages mends the file.
//!
//! ```text
//!  file ──► yaml ──► located tree ──► check (table of keys) ──► AgentSpec / NodeConfig
//!                      ▲ variables and flags, for the node            │
//!  every value keeps its place ───────────────────────────────────────┴──► problems, all at once
//! ```
//!
//! Called at start, when the folder of agents changes, and by `troupe check | schema`. Nothing here panics on input:
//! what is wrong comes back as [`Problem`]s, one line each, with file, line and column. Secrets stay `${NAME}` in
//! specs; only the names are collected here.

mod agent;
mod check;
mod located;
mod measure;
mod nearest;
mod node;
mod problem;
mod reference;
mod schema;
mod setting;
mod table;
mod yaml;

pub use agent::{
    Kept, LastGood, Loaded, Stamp, Wanted, Wish, agent_schema, changed, load_agents, load_agents_again,
    missing_secrets, parse_agent, secret_names,
};
pub use nearest::nearest;
pub use node::{
    Admin, Agents, Bus, Cache, Cluster, Http, HttpGet, Identity, Journal, Lease, LivingSources, Log, Models,
    NodeConfig, NodeKey, Postgres, Price, ROLES, Rabbitmq, Replies, Slack, Sources, Spool, Steps, Store, Supervision,
    Tools, node_example, node_keys, node_schema,
};
pub use problem::{PROBLEMS_MAX, Place, Problem, Problems};
