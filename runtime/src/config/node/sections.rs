//! The sections of the node configuration: every address, limit and time of a node, with its default.
//!
//! Each limit of the product has its name here. The lead of a module maps its section to the module's options; a
//! default here is the default of the product.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::formats;
use super::prices::{self, Price};
use super::section::section;
use crate::config::table::{Kind, SOME_TEXT};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
const MIB: usize = 1024 * 1024;

/// A count from 1 up.
const fn count(max: u64) -> Kind {
    Kind::Whole(1, max)
}

/// A time from a millisecond to a day.
const TIME: Kind = Kind::Duration(Duration::from_millis(1), DAY);

/// A size from 1 KiB to 64 MiB.
const SIZE: Kind = Kind::Size(1024, 64 * MIB as u64);

section! {
    /// Who this node is.
    pub struct Identity {
        /// The node's name in logs, traces and the cluster; the host name when empty.
        name: String = String::new(), Kind::Text(&formats::NODE_NAME);
        /// What runs here: gateway, orchestrator, scheduler, pool.autonomous, pool.collaborative, pool.continuous; empty is all.
        roles: Vec<String> = Vec::new(), Kind::List(&Kind::Choice(&super::ROLES), 16);
    }
}

section! {
    /// Agent specs.
    pub struct Agents {
        /// The folder of the agent specs.
        dir: PathBuf = PathBuf::from("config/agents"), Kind::Text(&SOME_TEXT);
        /// Agent actors that one spec may ask for on a node.
        instances_max: u32 = 1000, count(1_000_000);
        /// Files that are read from the folder.
        files_max: usize = 10_000, count(1_000_000);
        /// Size of one spec.
        file_bytes_max: usize = MIB, SIZE;
    }
}

section! {
    /// The public listener: Slack and health.
    pub struct Http {
        /// Where it listens.
        addr: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080)), Kind::Text(&formats::SOCKET_ADDR);
        /// Size of a request; larger ones are answered 413.
        body_bytes_max: usize = MIB, SIZE;
        /// Time for the head of a request to arrive.
        head_timeout: Duration = Duration::from_secs(5), TIME;
        /// Time for the body of a request to arrive.
        body_timeout: Duration = Duration::from_secs(10), TIME;
        /// Time that the bus has to confirm an event before the request is answered another way.
        publish_timeout: Duration = SECOND, TIME;
        /// Connections at once; more wait to be accepted.
        connections_max: usize = 1024, count(1_000_000);
    }
}

section! {
    /// The administrators' listener: API, console, metrics.
    pub struct Admin {
        /// Where it listens; anything but loopback needs a token.
        addr: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8081)), Kind::Text(&formats::SOCKET_ADDR);
        /// Bearer token that requests must carry.
        token: Option<SecretString> = None, Kind::Secret(&formats::TOKEN);
        /// What the command line talks to.
        url: String = "http://127.0.0.1:8081".to_owned(), Kind::Text(&formats::URL);
    }
}

section! {
    /// The Slack app.
    pub struct Slack {
        /// Signing secrets; several during a rotation. Without one the Slack routes answer 503.
        signing_secrets: Vec<SecretString> = Vec::new(), Kind::List(&Kind::Secret(&formats::TOKEN), 8);
        /// Bot token for the Web API (xoxb-…).
        bot_token: Option<SecretString> = None, Kind::Secret(&formats::TOKEN);
        /// App token for Socket Mode (xapp-…); read, not used yet.
        app_token: Option<SecretString> = None, Kind::Secret(&formats::TOKEN);
        /// Where the Web API answers; another address for tests and gateways.
        api_base: String = "https://slack.com/api/".to_owned(), Kind::Text(&formats::URL);
        /// Hosts that a `response_url` may have.
        response_hosts: Vec<String> = vec!["hooks.slack.com".to_owned(), "hooks.slack-gov.com".to_owned()],
            Kind::List(&Kind::Text(&formats::RESPONSE_HOST), 32);
    }
}

section! {
    /// Log lines.
    pub struct Log {
        /// What is logged, as in `RUST_LOG`: `info`, or `info,troupe_runtime::bus=debug`.
        filter: String = "info".to_owned(), Kind::Text(&SOME_TEXT);
        /// json, pretty, or auto: pretty on a terminal.
        format: String = "auto".to_owned(), Kind::Choice(&["auto", "json", "pretty"]);
    }
}

section! {
    /// The link between nodes; read, not used yet.
    pub struct Cluster {
        /// Where other nodes reach this one.
        addr: Option<String> = None, Kind::Text(&SOME_TEXT);
        /// Nodes to begin with; a name may have many addresses.
        seeds: Vec<String> = Vec::new(), Kind::List(&Kind::Text(&SOME_TEXT), 64);
        /// Shared secret of the nodes.
        cookie: Option<SecretString> = None, Kind::Secret(&formats::TOKEN);
        /// File with the authority that signed the nodes' certificates.
        tls_ca: Option<PathBuf> = None, Kind::Text(&SOME_TEXT);
        /// File with this node's certificate.
        tls_cert: Option<PathBuf> = None, Kind::Text(&SOME_TEXT);
        /// File with this node's key.
        tls_key: Option<PathBuf> = None, Kind::Text(&SOME_TEXT);
    }
}

section! {
    /// How much work a node takes on.
    pub struct Steps {
        /// Steps that run at once on the node; the backlog stays in the bus.
        per_node_max: usize = 4096, count(1_000_000);
        /// Steps that run at once in one agent actor.
        per_instance_max: usize = 256, count(100_000);
        /// Times that a step may be claimed, node crashes counted, before its task fails.
        claims_max: u32 = 20, count(10_000);
    }
}

section! {
    /// The event bus.
    pub struct Bus {
        /// Waits before each redelivery of an event that could not be accepted; after the last it is a dead letter.
        retry_ladder: Vec<Duration> = [1, 2, 4, 8, 16].map(Duration::from_secs).to_vec(), Kind::List(&TIME, 16);
        /// Size of one event.
        message_bytes_max: usize = MIB, SIZE;
        /// Events in one queue; more are refused, and who publishes hears it.
        queue_events_max: usize = 1_000_000, count(1_000_000_000);
        /// Deliveries that a consumer holds unacknowledged.
        prefetch: u16 = 256, count(65_535);
    }
}

section! {
    /// The store and its one writer.
    pub struct Store {
        /// Writes that go into one transaction, at most; none is waited for.
        batch_max: usize = 256, count(10_000);
        /// Writes that wait for the writer; more wait at the door.
        writer_queue_max: usize = 4096, count(1_000_000);
    }
}

section! {
    /// Calls to models.
    pub struct Models {
        /// Tries of one call at one model before the next of the chain is asked.
        tries: u32 = 3, count(20);
        /// Wait before the second try; doubles, with jitter.
        backoff_base: Duration = Duration::from_millis(500), TIME;
        /// Longest wait between tries.
        backoff_max: Duration = Duration::from_secs(10), TIME;
        /// Longest wait that a provider may ask for; beyond it the next model is asked.
        retry_after_max: Duration = Duration::from_mins(1), TIME;
        /// Time to connect.
        connect_timeout: Duration = Duration::from_secs(5), TIME;
        /// Size of one answer.
        answer_bytes_max: usize = 4 * MIB, SIZE;
        /// US dollars per million tokens; a model that is not here counts as free.
        prices: BTreeMap<String, Price> = prices::known(), Kind::Map(&Kind::Table(&prices::PRICE), 1_000);
    }
}

section! {
    /// The `http_get` tool.
    pub struct HttpGet {
        /// Time for the whole answer.
        timeout: Duration = Duration::from_secs(10), TIME;
        /// Size of an answer; the rest is cut and said so.
        body_bytes_max: usize = 256 * 1024, SIZE;
        /// Redirects that are followed, each checked like the first address.
        redirects_max: usize = 5, Kind::Whole(0, 20);
    }
}

section! {
    /// Built-in tools.
    pub struct Tools {
        /// Longest time that the `wait` tool waits.
        wait_max: Duration = Duration::from_hours(1), TIME;
        /// Limits of `http_get`.
        http_get: HttpGet = HttpGet::default(), Kind::Table(&HttpGet::TABLE);
    }
}

section! {
    /// Restarts and liveness of actors; a spec's `restart` holds the budget of its own instances.
    pub struct Supervision {
        /// Wait before the first restart; doubles, with jitter.
        backoff_base: Duration = Duration::from_millis(500), TIME;
        /// Longest wait between restarts.
        backoff_max: Duration = Duration::from_mins(1), TIME;
        /// Distance between two questions whether an actor still answers.
        ping_interval: Duration = Duration::from_secs(10), TIME;
        /// Silence after which an actor is killed and restarted.
        unresponsive_after: Duration = Duration::from_mins(1), TIME;
    }
}

section! {
    /// Answers on their way to Slack.
    pub struct Replies {
        /// Answers that are sent at once.
        in_flight_max: usize = 16, count(1_000);
        /// Time for one call to Slack.
        timeout: Duration = Duration::from_secs(10), TIME;
        /// Tries of one answer before it is a dead letter.
        tries: u32 = 5, count(20);
        /// Wait before the second try; doubles, with jitter.
        backoff_base: Duration = SECOND, TIME;
        /// Longest wait between tries.
        backoff_max: Duration = Duration::from_mins(1), TIME;
    }
}
