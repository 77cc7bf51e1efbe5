//! The sections of the node configuration: every address, limit and time of a node, with its default.
//!
//! Each limit of the product has its name here. Whoever assembles a node maps a section to the options of its module;
//! a default here is the default of the product.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::secret::SecretString;
use crate::store::retention::KEEP_MIN;

use super::formats;
use super::prices::{self, Price};
use super::section::section;
use crate::config::table::{Kind, SOME_TEXT};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
const CENTURY: Duration = Duration::from_hours(24 * 36_500);
const MIB: usize = 1024 * 1024;

/// A count from 1 up.
const fn count(max: u64) -> Kind {
    Kind::Whole(1, max)
}

/// A time from a millisecond to a day.
const TIME: Kind = Kind::Duration(Duration::from_millis(1), DAY);

/// A size from 1 KiB to 64 MiB: what one thing may have.
const SIZE: Kind = Kind::Size(1024, 64 * MIB as u64);

/// A size from 1 MiB to 64 GiB: what many things may have together.
const LARGE: Kind = Kind::Size(MIB as u64, 65_536 * MIB as u64);

section! {
    /// Who this node is.
    pub struct Identity {
        /// The node's name in logs, traces and the cluster; the host name when empty.
        name: String = String::new(), Kind::Text(&formats::NODE_NAME), restart;
        /// What runs here: gateway, orchestrator, scheduler, pool.autonomous, pool.collaborative, pool.continuous; empty is all.
        roles: Vec<String> = Vec::new(), Kind::List(&Kind::Choice(&super::ROLES), 16), restart;
    }
}

section! {
    /// Agent specs.
    pub struct Agents {
        /// The folder of the agent specs.
        dir: PathBuf = PathBuf::from("config/agents"), Kind::Text(&SOME_TEXT), restart;
        /// Agent actors that one spec may ask for on a node.
        instances_max: u32 = 1000, count(1_000_000), live;
        /// Files that are read from the folder.
        files_max: usize = 10_000, count(1_000_000), live;
        /// Size of one spec.
        file_bytes_max: usize = MIB, SIZE, live;
        /// Lists and mappings inside one another in one spec.
        depth_max: usize = 32, count(64), live;
        /// Keys and values of one spec, aliases written out.
        nodes_max: usize = 20_000, count(1_000_000), live;
        /// Uses of anchors in one spec.
        aliases_max: usize = 100, count(10_000), live;
        /// Text of one spec, aliases written out.
        text_bytes_max: usize = 4 * MIB, SIZE, live;
        /// How often the folder is looked at for files that were added, changed or removed.
        look_every: Duration = Duration::from_millis(200), TIME, live;
        /// How long the folder must rest after a change before it is read.
        settle: Duration = Duration::from_millis(250), TIME, live;
        /// It is read after so much time although it does not rest.
        settle_max: Duration = SECOND, TIME, live;
        /// How often it is read although nothing seems to have changed; for mounts that hide a change.
        reread_every: Duration = Duration::from_mins(1), TIME, live;
    }
}

section! {
    /// The public listener: Slack and health.
    pub struct Http {
        /// Where it listens.
        addr: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080)), Kind::Text(&formats::SOCKET_ADDR), restart;
        /// Size of a request; larger ones are answered 413.
        body_bytes_max: usize = MIB, SIZE, restart;
        /// Time for the head of a request to arrive.
        head_timeout: Duration = Duration::from_secs(5), TIME, restart;
        /// Time for the body of a request to arrive.
        body_timeout: Duration = Duration::from_secs(5), TIME, restart;
        /// Bodies of all requests together; beyond it they are read later.
        bodies_bytes_max: usize = 128 * MIB, LARGE, restart;
        /// Time that the bus has to confirm an event before the request is answered another way.
        publish_timeout: Duration = SECOND, TIME, restart;
        /// Connections at once; more wait to be accepted.
        connections_max: usize = 1024, count(1_000_000), restart;
    }
}

section! {
    /// The administrators' listener: API, console, metrics.
    pub struct Admin {
        /// Where it listens; anything but loopback needs a token.
        addr: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8081)), Kind::Text(&formats::SOCKET_ADDR), restart;
        /// Bearer token that requests must carry.
        token: Option<SecretString> = None, Kind::Secret(&formats::TOKEN), live;
        /// What the command line talks to.
        url: String = "http://127.0.0.1:8081".to_owned(), Kind::Text(&formats::URL), restart;
        /// Readers of GET /v1/events at a time.
        tails_max: usize = 16, count(1_000), restart;
        /// Events that wait for one such reader; it is told how many more it has missed.
        tail_events_max: usize = 256, count(100_000), restart;
    }
}

section! {
    /// The Slack app.
    pub struct Slack {
        /// Signing secrets; several during a rotation. Without one the Slack routes answer 503.
        signing_secrets: Vec<SecretString> = Vec::new(), Kind::List(&Kind::Secret(&formats::TOKEN), 8), live;
        /// Bot token for the Web API (xoxb-…).
        bot_token: Option<SecretString> = None, Kind::Secret(&formats::TOKEN), live;
        /// App token for Socket Mode (xapp-…); read, not used yet.
        app_token: Option<SecretString> = None, Kind::Secret(&formats::TOKEN), restart;
        /// Where the Web API answers; another address for tests and gateways.
        api_base: String = "https://slack.com/api/".to_owned(), Kind::Text(&formats::URL), restart;
        /// Hosts that a `response_url` may have; *. stands for any words before.
        response_hosts: Vec<String> =
            ["hooks.slack.com", "hooks.slack-gov.com", "*.slack.com"].map(str::to_owned).to_vec(),
            Kind::List(&Kind::Text(&formats::RESPONSE_HOST), 32), restart;
        /// How far the time of a signed request may be from now, in both directions.
        skew_max: Duration = Duration::from_mins(5), TIME, restart;
    }
}

section! {
    /// Log lines.
    pub struct Log {
        /// What is logged, as in `RUST_LOG`: `info`, or `info,troupe_runtime::bus=debug`.
        filter: String = "info".to_owned(), Kind::Text(&SOME_TEXT), live;
        /// json, pretty, or auto: pretty on a terminal.
        format: String = "auto".to_owned(), Kind::Choice(&["auto", "json", "pretty"]), restart;
        /// Longest value of a field; the rest is cut.
        field_bytes_max: usize = 16 * 1024, SIZE, restart;
    }
}

section! {
    /// The link between nodes; read, not used yet.
    pub struct Cluster {
        /// Where other nodes reach this one.
        addr: Option<String> = None, Kind::Text(&SOME_TEXT), restart;
        /// Nodes to begin with; a name may have many addresses.
        seeds: Vec<String> = Vec::new(), Kind::List(&Kind::Text(&SOME_TEXT), 64), restart;
        /// Shared secret of the nodes.
        cookie: Option<SecretString> = None, Kind::Secret(&formats::TOKEN), restart;
        /// File with the authority that signed the nodes' certificates.
        tls_ca: Option<PathBuf> = None, Kind::Text(&SOME_TEXT), restart;
        /// File with this node's certificate.
        tls_cert: Option<PathBuf> = None, Kind::Text(&SOME_TEXT), restart;
        /// File with this node's key.
        tls_key: Option<PathBuf> = None, Kind::Text(&SOME_TEXT), restart;
    }
}

section! {
    /// How much work a node takes on.
    pub struct Steps {
        /// Steps that the node works on at a time; the backlog stays in the bus.
        per_node_max: usize = 4096, count(1_000_000), restart;
        /// Steps that one agent actor works on at a time.
        per_instance_max: usize = 256, count(100_000), restart;
        /// Steps of an agent that are accepted ahead, while all of its places are taken: one for four places, at most so many.
        ahead_max: usize = 256, Kind::Whole(0, 100_000), restart;
        /// Deliveries that an inbox accepts in one go.
        accept_max: usize = 256, count(10_000), restart;
        /// Deliveries that wait in memory beside those accepted.
        prefetch: usize = 512, count(65_535), restart;
        /// Claims of a step without any progress, node crashes counted, after which it fails.
        claims_max: u32 = 20, count(10_000), restart;
        /// How long a step tries to record what it has in hand while the store does not answer.
        record_for: Duration = Duration::from_mins(10), TIME, restart;
        /// Longest wait between two tries of whoever waits for the store: a step, the relay, a reply.
        store_wait_max: Duration = SECOND, TIME, restart;
        /// Wait before another attempt; doubles with each.
        attempt_backoff: Duration = Duration::from_millis(500), TIME, restart;
        /// How long a model or tool call may be without a sign of life: then its attempt has failed. A model's own timeout comes on top.
        stalled_after: Duration = Duration::from_mins(2), TIME, restart;
        /// Ends of steps that the relay reads from the outbox in one go.
        relay_batch: usize = 256, count(10_000), restart;
        /// Ends of steps that the relay tells at a time, and as many that are told and wait for the deletion of their rows.
        relay_window: usize = 512, count(10_000), restart;
        /// Ends of steps that wait for the relay in memory; those beyond it are read from the outbox.
        relay_queue: usize = 4096, count(100_000), restart;
        /// Memory for what ends that wait or are being told say; those beyond it are read from the outbox.
        relay_bytes_max: usize = 16 * MIB, LARGE, restart;
        /// How often the relay looks by itself, without a hint, and the recovery for steps that this node has lost.
        sweep_every: Duration = Duration::from_secs(5), TIME, restart;
        /// Orphaned steps that are claimed in one go.
        orphans_max: usize = 256, count(10_000), restart;
        /// How long an actor may take to answer a question.
        call_timeout: Duration = SECOND, TIME, restart;
    }
}

section! {
    /// The node's lease, by which the nodes of one database know who is gone.
    pub struct Lease {
        /// How long a node that says nothing counts as there; then others take its steps over.
        ttl: Duration = Duration::from_secs(10), TIME, restart;
        /// How often it is renewed; at most half of ttl.
        renew_every: Duration = Duration::from_secs(3), TIME, restart;
        /// How often a node looks for others that are gone, and for what they have left.
        look_every: Duration = SECOND, TIME, restart;
    }
}

/// How long something is kept: an event may be delivered again for [`KEEP_MIN`], and its task's row is what tells.
const KEEP: Kind = Kind::Duration(KEEP_MIN, CENTURY);

section! {
    /// How long what was done is kept; what is open stays whatever its age.
    pub struct Journal {
        /// How long the entries of a step are kept after its end.
        keep: Duration = DAY.saturating_mul(30), KEEP, restart;
        /// How long everything else of a task is kept: what was asked, how it ended, what it used. Not shorter than keep.
        keep_results: Duration = DAY.saturating_mul(90), KEEP, restart;
        /// How often what is older is deleted.
        clean_every: Duration = Duration::from_hours(1), Kind::Duration(SECOND, DAY), restart;
        /// Steps or tasks that are deleted in one transaction.
        clean_batch: usize = 250, count(10_000), restart;
        /// Wait between two such transactions, for everybody else's writes.
        clean_pause: Duration = Duration::from_millis(100), TIME, restart;
    }
}

section! {
    /// The event bus.
    pub struct Bus {
        /// Waits before each redelivery of an event that could not be accepted; after the last it is a dead letter.
        retry_ladder: Vec<Duration> = [1, 2, 4, 8, 16].map(Duration::from_secs).to_vec(), Kind::List(&TIME, 16), restart;
        /// Size of one event.
        event_bytes_max: usize = MIB, SIZE, restart;
        /// Events in one queue; more are refused, and who publishes hears it.
        queue_events_max: u64 = 10_000_000, count(1_000_000_000), restart;
        /// Memory for events that wait; beyond it they are read from disk when their turn comes.
        cache_bytes_max: usize = 32 * MIB, LARGE, restart;
        /// Events of one queue whose places are kept in memory; the others are read from disk.
        index_events_max: usize = 20_000, count(100_000_000), restart;
        /// What a priority is worth: an event goes before a more urgent one once it has waited for so much longer.
        aging: Duration = Duration::from_mins(1), TIME, restart;
    }
}

section! {
    /// The connections to RabbitMQ, where it is the bus.
    pub struct Rabbitmq {
        /// Time that the broker has to confirm an event; after it the event counts as not published.
        publish_timeout: Duration = Duration::from_secs(2), TIME, restart;
        /// Events that await their confirm at once.
        publish_window: usize = 1_000, count(100_000), restart;
        /// Events that are being published, those that wait for their turn included; more are refused.
        publishes_max: usize = 20_000, count(1_000_000), restart;
        /// Largest frame of the connection that publishes; 64 of them are buffers.
        publish_frame_bytes: u32 = 32 * 1024, Kind::Size(16 * 1024, 128 * 1024), restart;
        /// Largest frame of the connections that consume: as large as the broker's `frame_max`, for strangers' headers come in one.
        consume_frame_bytes: u32 = 128 * 1024, Kind::Size(128 * 1024, 4 * 1024 * 1024), restart;
        /// Events of one queue that the broker hands over ahead, for the most urgent to go first; the backlog stays in the broker.
        lookahead: u16 = 512, count(65_535), restart;
        /// Queues that one connection consumes; more begin another one. A broker allows some two thousand.
        queues_per_connection: usize = 1_000, count(2_000), restart;
        /// How long these may take to come in before the first is handed out.
        gather_timeout: Duration = SECOND, TIME, restart;
        /// How long they are kept after the last consumer of a queue has left.
        linger: Duration = SECOND, TIME, restart;
        /// Time that the broker has to answer a question.
        answer_timeout: Duration = Duration::from_secs(5), TIME, restart;
        /// Time to connect.
        connect_timeout: Duration = Duration::from_secs(5), TIME, restart;
        /// Wait before the broker is connected to again; doubles, with jitter.
        backoff_base: Duration = Duration::from_millis(200), TIME, restart;
        /// Longest wait between two tries.
        backoff_max: Duration = Duration::from_secs(5), TIME, restart;
        /// Distance of heartbeats; a connection that is silent for two of them is lost.
        heartbeat: Duration = Duration::from_secs(15), Kind::Duration(SECOND, Duration::from_mins(10)), restart;
        /// PEM file of an authority that an `amqps://` broker's certificate may come from, beside the system's.
        tls_ca: Option<PathBuf> = None, Kind::Text(&SOME_TEXT), restart;
    }
}

section! {
    /// What keeps events on the disk while the bus does not take them.
    pub struct Spool {
        /// Size of everything that it may hold, what was moved aside included; beyond it events are refused.
        bytes_max: u64 = 1024 * MIB as u64, LARGE, restart;
        /// Size at which one of its files is closed and the next begun.
        segment_bytes: u64 = 4 * MIB as u64, SIZE, restart;
        /// Time that the disk has to take an event before it is refused.
        append_timeout: Duration = SECOND, TIME, restart;
        /// Events that wait for the disk; the next ones wait for a place among them.
        appends_max: usize = 4096, count(1_000_000), restart;
        /// Events that share one sync of the disk, at most; none is waited for.
        batch_max: usize = 256, count(10_000), restart;
        /// Events that are published side by side when it drains; a restart repeats about as many.
        window: usize = 256, count(10_000), restart;
        /// When so few are left, newcomers wait until it is empty instead of joining it.
        handover_events: u64 = 16, count(10_000), restart;
        /// Time that the bus has to confirm an event that is drained.
        confirm_timeout: Duration = Duration::from_secs(5), TIME, restart;
        /// Longest wait between two tries of a bus that takes nothing.
        retry_max: Duration = SECOND, TIME, restart;
        /// How long a bus that is back must have answered before it is believed that no queue wants an event.
        settle: Duration = Duration::from_secs(5), TIME, restart;
    }
}

section! {
    /// The store and its one writer.
    pub struct Store {
        /// Connections for reading the SQLite file.
        readers: u32 = 4, count(256), restart;
        /// Writes that go into one transaction, at most; none is waited for.
        batch_max: usize = 1024, count(10_000), restart;
        /// Writes that wait for the writer; the next caller waits for a place.
        writer_queue_max: usize = 4096, count(1_000_000), restart;
        /// How long a reader or the writer waits for the SQLite file.
        busy_timeout: Duration = Duration::from_secs(5), TIME, restart;
        /// Size of the SQLite file's pages that the writer keeps in memory.
        page_cache_bytes: usize = 16 * MIB, LARGE, restart;
        /// Pages (of 4 KiB) in SQLite's log after which they are folded into the file; fewer mean a smaller log and slower
        /// writes.
        checkpoint_pages: u32 = 4000, count(1_000_000), restart;
        /// Rows that one question answers, at most.
        rows_max: usize = 1000, count(100_000), restart;
        /// Size above which a payload (an event, an entry, a memory) is packed, whatever that saves.
        compress_above: usize = MIB, SIZE, restart;
        /// Size up to which packing is not even tried; between the two it must save a tenth.
        compress_min: usize = 2 * 1024, SIZE, restart;
        /// Size of one payload, unpacked; a larger one is refused, when it is written and when it is read.
        payload_bytes_max: usize = 64 * MIB, Kind::Size(MIB as u64, 256 * MIB as u64), restart;
        /// Memories of agents that are kept ready.
        cache_bytes_max: u64 = 16 * MIB as u64, LARGE, restart;
        /// Agent specs that are kept ready.
        cache_specs_max: u64 = 1000, count(1_000_000), restart;
    }
}

section! {
    /// The connections to PostgreSQL, where it keeps the state.
    pub struct Postgres {
        /// Connections for reading; the writer has one of its own.
        connections: u32 = 8, count(1_000), restart;
        /// The server ends a statement that takes longer.
        statement_timeout: Duration = Duration::from_secs(10), TIME, restart;
        /// The server ends a statement that waits longer for a lock, and a transaction that is left open for so long.
        lock_timeout: Duration = Duration::from_secs(5), TIME, restart;
        /// How long a connection may take to come about, and how long a reader waits for a free one.
        connect_timeout: Duration = Duration::from_secs(5), TIME, restart;
        /// After this a silent server counts as gone; longer than the statement's own limit.
        answer_timeout: Duration = Duration::from_secs(15), TIME, restart;
        /// How long the writer asks what became of a transaction whose commit was not answered.
        doubt_timeout: Duration = Duration::from_secs(30), TIME, restart;
        /// How long migrations may take, the wait for another node's included.
        migrate_timeout: Duration = Duration::from_mins(5), TIME, restart;
        /// How long a start waits for a server that does not answer yet.
        start_timeout: Duration = Duration::from_secs(30), Kind::Duration(Duration::ZERO, DAY), restart;
    }
}

section! {
    /// The read cache in Redis, where there is one.
    pub struct Cache {
        /// Time that Redis has for one operation; after it the database alone answers.
        answer_timeout: Duration = Duration::from_millis(50), Kind::Duration(Duration::from_millis(1), SECOND), restart;
        /// Time that connecting to Redis may take; nobody waits for it longer than for an operation.
        connect_timeout: Duration = SECOND, TIME, restart;
        /// Failures in a row after which Redis is left alone.
        failures_max: u32 = 5, count(1_000), restart;
        /// How long Redis is left alone then, before one operation tries it again.
        rest: Duration = Duration::from_secs(5), TIME, restart;
        /// How long Redis keeps a memory that nobody saves.
        keep: Duration = DAY, Kind::Duration(SECOND, Duration::from_hours(24 * 365)), restart;
        /// Size of a memory that Redis keeps; a larger one is read from the database.
        memory_bytes_max: usize = MIB, SIZE, restart;
        /// What the keys begin with; give each database that shares a Redis its own.
        key_prefix: String = "troupe:".to_owned(), Kind::Text(&SOME_TEXT), restart;
        /// Time that `troupe state flush` may take in Redis.
        flush_timeout: Duration = Duration::from_secs(10), TIME, restart;
        /// PEM file of the authority that a `rediss://` server's certificate must come from; the system's when there is none.
        tls_ca: Option<PathBuf> = None, Kind::Text(&SOME_TEXT), restart;
    }
}

section! {
    /// Calls to models.
    pub struct Models {
        /// Tries of one call at one model before the next of the chain is asked.
        tries: u32 = 3, count(20), live;
        /// Wait before the second try; doubles, with jitter.
        backoff_base: Duration = Duration::from_millis(500), TIME, live;
        /// Longest wait between tries.
        backoff_max: Duration = Duration::from_secs(20), TIME, live;
        /// Longest wait that a provider may ask for; beyond it the next model is asked.
        retry_after_max: Duration = Duration::from_mins(1), TIME, live;
        /// Time to connect.
        connect_timeout: Duration = Duration::from_secs(10), TIME, restart;
        /// Longest silence between two pieces of a streamed answer.
        idle_timeout: Duration = Duration::from_secs(30), TIME, live;
        /// whole, or streamed: asked for piece by piece, so that each piece counts as progress of its step; for servers that can.
        answers: String = "whole".to_owned(), Kind::Choice(&["whole", "streamed"]), live;
        /// Size of one answer.
        answer_bytes_max: usize = 4 * MIB, SIZE, live;
        /// Tools that one answer may ask for.
        tool_calls_max: usize = 64, count(10_000), live;
        /// US dollars per million tokens; a model that is not here counts as free.
        prices: BTreeMap<String, Price> = prices::known(), Kind::Map(&Kind::Table(&prices::PRICE), 1_000), live;
    }
}

section! {
    /// The `http_get` tool.
    pub struct HttpGet {
        /// Time for the whole call, redirects included.
        timeout: Duration = Duration::from_secs(20), TIME, restart;
        /// Time to connect.
        connect_timeout: Duration = Duration::from_secs(5), TIME, restart;
        /// Size of an answer.
        body_bytes_max: usize = MIB, SIZE, restart;
        /// Redirects that are followed, each checked like the first address.
        redirects_max: u32 = 5, Kind::Whole(0, 20), restart;
    }
}

section! {
    /// Built-in tools.
    pub struct Tools {
        /// Longest time that the `wait` tool waits.
        wait_max: Duration = Duration::from_mins(5), TIME, restart;
        /// Limits of `http_get`.
        http_get: HttpGet = HttpGet::default(), Kind::Table(&HttpGet::TABLE), parts;
    }
}

section! {
    /// Restarts and liveness of actors; a spec's `restart` holds the budget of its own instances.
    pub struct Supervision {
        /// Wait before the first restart; doubles, with jitter.
        backoff_base: Duration = Duration::from_millis(500), TIME, restart;
        /// Longest wait between restarts.
        backoff_max: Duration = Duration::from_mins(1), TIME, restart;
        /// A life this long counts as healthy: the next wait is the first again.
        healthy_after: Duration = Duration::from_mins(1), TIME, restart;
        /// How often each agent actor is asked whether it is there.
        ping_every: Duration = Duration::from_secs(3), TIME, restart;
        /// How long it may take to answer.
        ping_timeout: Duration = SECOND, TIME, restart;
        /// Such questions in a row without an answer after which it is killed and restarted.
        ping_misses_max: u32 = 3, count(1_000), restart;
        /// Falls of one actor that `actors inspect` and `agents show` still tell of.
        falls_max: usize = 16, count(10_000), restart;
        /// Actors of which falls are kept; the one that has not fallen for longest goes first.
        fallen_max: usize = 4096, count(1_000_000), restart;
        /// Steps in hand that are named: in one fall, and for one instance in the registry.
        steps_shown_max: usize = 16, count(1_000), restart;
        /// Messages that may wait for an actor; the next one is refused.
        mailbox_max: usize = 1024, count(1_000_000), restart;
        /// Children of one pool, an agent's instances and its inbox each; where the agents of a mode have more, it has further pools.
        children_max: usize = 1_000, count(10_000_000), restart;
        /// How long a stop waits for a killed child that does not reach an await.
        kill_wait: Duration = Duration::from_secs(5), TIME, restart;
    }
}

section! {
    /// Answers on their way to Slack.
    pub struct Replies {
        /// Answers that are sent side by side.
        in_flight_max: usize = 64, count(1_000), restart;
        /// Answers that are held, sent or waiting for their channel's turn.
        prefetch: usize = 2048, count(65_535), restart;
        /// Tries before an answer goes back to the bus and its ladder.
        tries: u32 = 4, count(20), restart;
        /// Wait before the second try; doubles.
        backoff_base: Duration = Duration::from_millis(500), TIME, restart;
        /// Longest wait between tries.
        backoff_max: Duration = Duration::from_secs(8), TIME, restart;
        /// Time for one call to Slack.
        timeout: Duration = Duration::from_secs(10), TIME, restart;
        /// Time to connect.
        connect_timeout: Duration = Duration::from_secs(5), TIME, restart;
        /// Longest wait that Slack may ask for.
        retry_after_max: Duration = Duration::from_mins(5), TIME, restart;
        /// Size of one answer of Slack's.
        answer_bytes_max: usize = 8 * MIB, SIZE, restart;
        /// Pages of a thread that are looked through for an answer that may have arrived.
        pages_max: usize = 5, count(100), restart;
        /// Characters of a message; Slack cuts silently above 40,000.
        text_chars_max: usize = 39_000, count(40_000), restart;
    }
}
