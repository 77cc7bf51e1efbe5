//! The configuration of a node: flag, environment, `.env`, file, default, in this order.
//!
//! The file becomes a located tree; variables and flags are laid over it, each value keeping where it came from; then
//! one check and one reading. So a wrong port is reported as `config/node.yaml:4:9` or as `TROUPE_HTTP_ADDR`, by the
//! same rule, together with everything else that is wrong. Read at the start, where a node with problems does not start, and again
//! while it runs; then what is wrong leaves everything as it is.

mod dotenv;
mod example;
mod formats;
mod living;
mod prices;
mod section;
mod sections;
mod sources;
mod variables;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::check::check;
use super::located::{Entry, Node, Value};
use super::problem::{At, Place, Problem, Problems};
use super::reference;
use super::schema;
use super::setting::Setting;
use super::table::{Change, Kind, SOME_TEXT, Table};
use super::yaml::{YamlBudget, parse};
use crate::secret::{ExposeSecret as _, SecretString, Secrets};
use section::section;
use variables::{VARIABLES, Variable, flag_name};

pub use example::node_example;
pub use living::LivingSources;
pub use prices::Price;
pub use sections::{
    Admin, Agents, Bus, Cache, Cluster, Http, HttpGet, Identity, Journal, Lease, Log, Models, Postgres, Rabbitmq,
    Replies, Slack, Spool, Steps, Store, Supervision, Tools,
};
pub use sources::Sources;

/// What a node may be told to run.
pub const ROLES: [&str; 7] =
    ["all", "gateway", "orchestrator", "scheduler", "pool.autonomous", "pool.collaborative", "pool.continuous"];

/// The name of a node whose machine has none.
const NAMELESS: &str = "node";

section! {
    /// Everything that a node can be told.
    pub struct NodeConfig {
        /// Who this node is.
        node: Identity = Identity::default(), Kind::Table(&Identity::TABLE), parts;
        /// The SQLite file: the embedded bus, and the state when no server keeps it; and the spool.
        data_dir: PathBuf = PathBuf::from("./data"), Kind::Text(&SOME_TEXT), restart;
        /// The agents.
        agents: Agents = Agents::default(), Kind::Table(&Agents::TABLE), parts;
        /// The public listener: Slack and health.
        http: Http = Http::default(), Kind::Table(&Http::TABLE), parts;
        /// The administrators' listener: API, console, metrics.
        admin: Admin = Admin::default(), Kind::Table(&Admin::TABLE), parts;
        /// The Slack app.
        slack: Slack = Slack::default(), Kind::Table(&Slack::TABLE), parts;
        /// Log lines.
        log: Log = Log::default(), Kind::Table(&Log::TABLE), parts;
        /// The server that keeps the state, `postgres://user:password@host/database?sslmode=verify-full`; the file in the data folder when there is none.
        database_url: Option<SecretString> = None, Kind::Secret(&formats::DATABASE_URL), restart;
        /// RabbitMQ (3.10 and newer) as the bus, `amqp://user:password@host:port/vhost`, `amqps://` for TLS; the embedded bus when there is none.
        amqp_url: Option<SecretString> = None, Kind::Secret(&formats::AMQP_URL), restart;
        /// Redis as a read cache of what agents remember, shared by the nodes of one database: `redis://user:password@host:port/0`, `rediss://` for TLS; the cache in the process alone when there is none.
        redis_url: Option<SecretString> = None, Kind::Secret(&formats::REDIS_URL), restart;
        /// The link between nodes; arrives with a later version.
        cluster: Cluster = Cluster::default(), Kind::Table(&Cluster::TABLE), parts;
        /// How much work the node takes on.
        steps: Steps = Steps::default(), Kind::Table(&Steps::TABLE), parts;
        /// The node's lease, by which the nodes of one database know who is gone.
        lease: Lease = Lease::default(), Kind::Table(&Lease::TABLE), parts;
        /// How long what was done is kept; what is open stays whatever its age.
        journal: Journal = Journal::default(), Kind::Table(&Journal::TABLE), parts;
        /// The event bus.
        bus: Bus = Bus::default(), Kind::Table(&Bus::TABLE), parts;
        /// The connections to RabbitMQ, where it is the bus.
        rabbitmq: Rabbitmq = Rabbitmq::default(), Kind::Table(&Rabbitmq::TABLE), parts;
        /// What keeps events on the disk while the bus does not take them.
        spool: Spool = Spool::default(), Kind::Table(&Spool::TABLE), parts;
        /// The store and its one writer.
        store: Store = Store::default(), Kind::Table(&Store::TABLE), parts;
        /// The connections to PostgreSQL, where it keeps the state.
        postgres: Postgres = Postgres::default(), Kind::Table(&Postgres::TABLE), parts;
        /// The read cache in Redis, where there is one.
        cache: Cache = Cache::default(), Kind::Table(&Cache::TABLE), parts;
        /// Calls to models.
        models: Models = Models::default(), Kind::Table(&Models::TABLE), parts;
        /// Built-in tools.
        tools: Tools = Tools::default(), Kind::Table(&Tools::TABLE), parts;
        /// Restarts and liveness of actors.
        supervision: Supervision = Supervision::default(), Kind::Table(&Supervision::TABLE), parts;
        /// Answers on their way to Slack.
        replies: Replies = Replies::default(), Kind::Table(&Replies::TABLE), parts;
        /// Time that running steps have to reach a safe point when the node is told to stop.
        drain_timeout: Duration = Duration::from_secs(30),
            Kind::Duration(Duration::ZERO, Duration::from_hours(1)), restart;
    }
}

const NODE: Table = NodeConfig::TABLE;

/// One key of the node configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeKey {
    /// Its path, such as `log.filter`.
    pub key: String,
    /// Whether a change has its effect while the node runs; else it needs a restart.
    pub live: bool,
}

/// Every key of the node configuration.
#[must_use]
pub fn node_keys() -> Vec<NodeKey> {
    fn below(table: &Table, at: &str, keys: &mut Vec<NodeKey>) {
        for key in table.keys {
            let path = if at.is_empty() { key.name.to_owned() } else { format!("{at}.{}", key.name) };
            match key.kind {
                Kind::Table(table) => below(table, &path, keys),
                _ => keys.push(NodeKey { key: path, live: key.change == Change::Live }),
            }
        }
    }
    let mut keys = Vec::new();
    below(&NODE, "", &mut keys);
    keys
}

/// The JSON Schema of the node file, for editors and `troupe schema node`.
#[must_use]
pub fn node_schema() -> serde_json::Value {
    schema::of(&NODE, "A node of Troupe", "Configuration of one node: config/node.yaml")
}

impl NodeConfig {
    /// The settings that `sources` add up to, or everything that is wrong with them.
    ///
    /// `secrets` are those of [`Sources::secrets`]: what they resolve here is masked in the log from now on.
    pub fn load(sources: &Sources, secrets: &Secrets) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut root = file_tree(sources, &mut problems);
        for variable in &VARIABLES {
            for (origin, value) in sources.origins(variable.name) {
                overlay(&mut root, variable.key, from_variable(variable, &origin, value));
            }
        }
        problems.extend(sources.flags.keys().filter(|name| !is_variable(name)).map(|name| {
            Problem::of(flag_name(name), "no variable of the contract stands behind this flag; remove it")
        }));
        resolve_table(&mut root, &NODE, secrets, &mut problems);
        check(&root, &NODE, "the node configuration", &mut problems);
        rules(&root, &mut problems);
        let config = Self::read(&root).map(|mut config| {
            if config.node.name.is_empty() {
                config.node.name = safe_name(&sources.host_name);
            }
            config
        });
        Problems(problems).or(config)
    }
}

impl NodeConfig {
    /// The keys at which `other` is set otherwise.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<NodeKey> {
        let mut found = Vec::new();
        self.differ(other, "", false, &mut found);
        found
    }
}

fn is_variable(name: &str) -> bool {
    name == variables::CONFIG_VARIABLE || VARIABLES.iter().any(|variable| variable.name == name)
}

/// The tree of the file; an empty one when there is no file or it is no YAML.
fn file_tree(sources: &Sources, problems: &mut Vec<Problem>) -> Node {
    let (path, text) = sources.file.as_ref().map_or(("config/node.yaml", ""), |(path, text)| (path, text));
    let path: Arc<str> = path.into();
    parse(&path, text, &YamlBudget::default()).unwrap_or_else(|problem| {
        problems.push(problem);
        Node { at: At::file(&path, Place::START), value: Value::Map(Vec::new()) }
    })
}

/// Puts values for the `${NAME}` in secrets of the file; other keys are taken as they stand.
fn resolve_table(node: &mut Node, table: &Table, secrets: &Secrets, problems: &mut Vec<Problem>) {
    let Value::Map(entries) = &mut node.value else { return };
    for entry in entries {
        if let Some(key) = table.key(&entry.key) {
            resolve(&mut entry.node, &key.kind, secrets, problems);
        }
    }
}

fn resolve(node: &mut Node, kind: &Kind, secrets: &Secrets, problems: &mut Vec<Problem>) {
    match (kind, &mut node.value) {
        (Kind::Table(table), _) => resolve_table(node, table, secrets, problems),
        (Kind::List(of, _), Value::List(items)) => {
            for item in items {
                resolve(item, of, secrets, problems);
            }
        }
        (Kind::Secret(_), Value::Text(text)) => match reference::names(text).map(|_| secrets.resolve(text)) {
            Ok(Ok(value)) => value.expose_secret().clone_into(text),
            Ok(Err(missing)) => problems.push(node.at.problem(missing.to_string())),
            Err(why) => problems.push(node.at.problem(why)),
        },
        // A variable holds the value itself; it is resolved all the same, so that the log masks it.
        (Kind::Secret(_), Value::Loose(text)) => drop(secrets.resolve(&text.replace("${", "$${"))),
        _ => {}
    }
}

/// A variable's value as a node of the tree.
fn from_variable(variable: &Variable, origin: &str, value: String) -> Node {
    let at = At::named(origin);
    let value = if variable.list {
        let words = value.split(',').map(str::trim).filter(|word| !word.is_empty());
        Value::List(words.map(|word| Node { at: at.clone(), value: Value::Loose(word.to_owned()) }).collect())
    } else {
        Value::Loose(value)
    };
    Node { at, value }
}

/// Sets the key at `path`, whatever stood there. A section of the wrong shape stays as it is: the check reports it.
fn overlay(root: &mut Node, path: &[&str], leaf: Node) {
    let Some((key, rest)) = path.split_first() else {
        *root = leaf;
        return;
    };
    if root.value == Value::Null {
        root.value = Value::Map(Vec::new());
    }
    let Value::Map(entries) = &mut root.value else { return };
    if let Some(entry) = entries.iter_mut().find(|entry| entry.key == *key) {
        return overlay(&mut entry.node, rest, leaf);
    }
    let at = leaf.at.clone();
    let mut node = Node { at: at.clone(), value: Value::Null };
    overlay(&mut node, rest, leaf);
    entries.push(Entry { key: (*key).to_owned(), key_at: at, node });
}

/// What must hold between keys, and what cannot be set yet.
fn rules(root: &Node, problems: &mut Vec<Problem>) {
    for (variable, why) in VARIABLES.iter().filter_map(|variable| Some((variable, variable.later?))) {
        let node = find(root, variable.key);
        if let Some(node) = node.filter(|node| node.value != Value::List(Vec::new())) {
            problems.push(node.at.problem(format!("{}: {why}", variable.key.join("."))));
        }
    }
    admin_is_guarded(root, problems);
    listeners_differ(root, problems);
    leases_are_renewed(root, problems);
    answers_are_awaited(root, problems);
    journals_go_first(root, problems);
    for section in ["models", "supervision", "replies", "rabbitmq"] {
        let time = |key| find(root, &[section, key]).and_then(|node| Some((node, Duration::read(node)?)));
        if let (Some((base, base_time)), Some((_, max_time))) = (time("backoff_base"), time("backoff_max"))
            && base_time > max_time
        {
            problems.push(base.at.problem(format!("{section}.backoff_base: it is longer than {section}.backoff_max")));
        }
    }
}

/// The API can stop agents and show what they said: off loopback it needs a token.
fn admin_is_guarded(root: &Node, problems: &mut Vec<Problem>) {
    let addr = find(root, &["admin", "addr"]);
    let Some((node, addr)) = addr.and_then(|node| Some((node, std::net::SocketAddr::read(node)?))) else { return };
    if !addr.ip().to_canonical().is_loopback() && find(root, &["admin", "token"]).is_none() {
        let message = format!(
            "admin.addr: {addr} can be reached from other machines; set TROUPE_ADMIN_TOKEN, or listen on 127.0.0.1"
        );
        problems.push(node.at.problem(message));
    }
}

fn listeners_differ(root: &Node, problems: &mut Vec<Problem>) {
    let defaults = (Http::default().addr, Admin::default().addr);
    let read = |section| {
        let node = find(root, &[section, "addr"]);
        (node, node.and_then(std::net::SocketAddr::read))
    };
    let ((http_node, http), (admin_node, admin)) = (read("http"), read("admin"));
    let (http, admin) = (http.unwrap_or(defaults.0), admin.unwrap_or(defaults.1));
    if let Some(node) = admin_node.or(http_node).filter(|_| http == admin && http.port() != 0) {
        problems.push(node.at.problem(format!("http.addr and admin.addr are both {http}; give them two ports")));
    }
}

/// A lease must survive a renewal that fails.
fn leases_are_renewed(root: &Node, problems: &mut Vec<Problem>) {
    let time = |key: &str| find(root, &["lease", key]).and_then(|node| Some((node, Duration::read(node)?)));
    let (ttl, every) = (time("ttl"), time("renew_every"));
    let defaults = Lease::default();
    let Some((node, _)) = every.or(ttl) else { return };
    if every.map_or(defaults.renew_every, |(_, time)| time) > ttl.map_or(defaults.ttl, |(_, time)| time) / 2 {
        problems.push(node.at.problem("lease.renew_every: it must be at most half of lease.ttl".to_owned()));
    }
}

/// A statement that the server itself would end must not be given up before that.
fn answers_are_awaited(root: &Node, problems: &mut Vec<Problem>) {
    let time = |key: &str| find(root, &["postgres", key]).and_then(|node| Some((node, Duration::read(node)?)));
    let (answer, statement) = (time("answer_timeout"), time("statement_timeout"));
    let defaults = Postgres::default();
    let limit = statement.map_or(defaults.statement_timeout, |(_, time)| time);
    let Some((node, _)) = answer.or(statement) else { return };
    if answer.map_or(defaults.answer_timeout, |(_, time)| time) <= limit {
        let message = "postgres.answer_timeout: it must be longer than postgres.statement_timeout".to_owned();
        problems.push(node.at.problem(message));
    }
}

/// A journal without its task would be nobody's.
fn journals_go_first(root: &Node, problems: &mut Vec<Problem>) {
    let time = |key: &str| find(root, &["journal", key]).and_then(|node| Some((node, Duration::read(node)?)));
    let (keep, results) = (time("keep"), time("keep_results"));
    let defaults = Journal::default();
    let Some((node, _)) = results.or(keep) else { return };
    if results.map_or(defaults.keep_results, |(_, time)| time) < keep.map_or(defaults.keep, |(_, time)| time) {
        problems.push(node.at.problem("journal.keep_results: it must not be shorter than journal.keep".to_owned()));
    }
}

/// The value at a path; `None` when it is absent or empty.
fn find<'a>(root: &'a Node, path: &[&str]) -> Option<&'a Node> {
    path.iter().try_fold(root, |node, key| node.get(key))
}

/// A host name as a node name.
fn safe_name(host: &str) -> String {
    let good = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let name: String = host.chars().map(good).take(63).collect();
    let name = name.trim_start_matches(['.', '_', '-']);
    if name.is_empty() { NAMELESS.to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests;
