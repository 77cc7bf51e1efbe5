//! Our store in one of the two databases, and raw clients beside it: what the figures of the journal are made with.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use troupe_runtime::domain::agent::ExecutionMode;
use troupe_runtime::domain::chat::Usage;
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::journal::{Act, Entry};
use troupe_runtime::domain::outcome::Outcome;
use troupe_runtime::domain::step::Incarnation;
use troupe_runtime::group_commit::Written;
use troupe_runtime::store::{self, Acceptance, Accepted, Append, Claim, Completion, Stores};
use troupe_runtime::{postgres, sqlite};

use crate::commits::Commits;
use crate::load::Client;

/// Entries of a run.
pub(crate) const STEPS: u32 = 5;
/// Characters of the answer in an entry.
const ANSWER_CHARS: usize = 400;
const AGENT: &str = "bench";
/// Longer than any run of this bench.
const LEASE: Duration = Duration::from_secs(3_600);

/// One database.
pub(crate) struct State {
    /// Its name in figures.
    pub(crate) name: &'static str,
    /// Our store.
    pub(crate) stores: Stores,
    /// Raw clients of the same server or disk.
    pub(crate) raw: Commits,
    life: Incarnation,
    held: Held,
}

enum Held {
    Sqlite(sqlite::Database),
    Postgres(postgres::Database),
}

/// Somebody with a step of its own, who appends to its journal.
pub(crate) struct Appender {
    stores: Stores,
    claim: Claim,
    /// What it appends next: made once, for a model's answer is not made by who appends it.
    entry: Entry,
}

/// Somebody who has a task accepted and does its run, one entry after the other, to the end.
pub(crate) struct Runner(Stores, Incarnation);

impl State {
    /// The file in a new folder.
    pub(crate) async fn sqlite(dir: &Path, raw_clients: usize) -> Self {
        let database = sqlite::Database::open(&dir.join("state"), &sqlite::Options::default()).await;
        let database = database.expect("the file opens");
        let stores = store::sqlite::stores(database.clone(), store::Options::default());
        let raw = Commits::sqlite(dir, raw_clients, entry_bytes()).await;
        Self::of("sqlite", stores, raw, Held::Sqlite(database)).await
    }

    /// An empty database of a server.
    pub(crate) async fn postgres(url: &str, raw_clients: usize) -> Self {
        let database = postgres::Database::open(&url.into(), &postgres::Options::default()).await;
        let database = database.expect("the server answers");
        let stores = store::postgres::stores(database.clone(), store::Options::default());
        let raw = Commits::postgres(url, raw_clients, entry_bytes()).await;
        Self::of("postgres", stores, raw, Held::Postgres(database)).await
    }

    /// A node lives there, as it always does where somebody appends: its lease is looked at with every transaction.
    async fn of(name: &'static str, stores: Stores, raw: Commits, held: Held) -> Self {
        let life = stores.nodes.start(AGENT, LEASE).await.expect("a life");
        Self { name, stores, raw, life, held }
    }

    /// Steps with nothing in their journals yet.
    pub(crate) async fn appenders(&self, number: usize) -> Vec<Appender> {
        let accepted = (0..number).map(|_| accept(&self.stores, self.life));
        let claims = futures::future::join_all(accepted).await;
        claims.into_iter().map(|claim| Appender { stores: self.stores.clone(), claim, entry: entry(0) }).collect()
    }

    /// So many who run.
    pub(crate) fn runners(&self, number: usize) -> Vec<Runner> {
        (0..number).map(|_| Runner(self.stores.clone(), self.life)).collect()
    }

    /// What our writer has done so far.
    pub(crate) fn written(&self) -> Written {
        match &self.held {
            Held::Sqlite(database) => database.writer().written(),
            Held::Postgres(database) => database.writer().written(),
        }
    }

    pub(crate) async fn close(self) {
        match self.held {
            Held::Sqlite(database) => database.close().await,
            Held::Postgres(database) => database.close().await,
        }
    }
}

impl Client for Appender {
    async fn once(&mut self) {
        append(&self.stores, self.claim, self.entry.clone()).await;
        self.entry.seq += 1;
    }
}

impl Client for Runner {
    async fn once(&mut self) {
        let claim = accept(&self.0, self.1).await;
        for seq in 0..STEPS - 1 {
            append(&self.0, claim, entry(seq)).await;
        }
        let completion = Completion {
            claim,
            agent: AGENT.parse().expect("a name"),
            entry: entry(STEPS - 1),
            outcome: Outcome::Succeeded { output: answer() },
            usage: Usage::default(),
        };
        self.0.steps.complete(completion).await.expect("the end of a step");
    }
}

/// Bytes of an entry as it is stored.
pub(crate) fn entry_bytes() -> usize {
    serde_json::to_string(&entry(0)).expect("JSON").len()
}

async fn accept(stores: &Stores, owner: Incarnation) -> Claim {
    let topic = "bench.step".parse().expect("a topic");
    let acceptance = Acceptance {
        agent: AGENT.parse().expect("a name"),
        mode: ExecutionMode::Autonomous,
        spec_digest: "d".into(),
        event: Arc::new(Event::new(topic, "/bench", json!({"text": "What is to be done?"}))),
        owner,
    };
    match stores.tasks.accept(acceptance).await.expect("accepted") {
        Accepted::New(claim) => claim,
        Accepted::Duplicate(task) => unreachable!("task {task} is new"),
    }
}

async fn append(stores: &Stores, claim: Claim, entry: Entry) {
    let append = Append { claim, entry, attempts: None, status: None };
    stores.journal.append(append).await.expect("an entry");
}

/// A model's answer.
fn entry(seq: u32) -> Entry {
    let act = json!({"kind": "model_result", "completion": {
        "text": answer(), "finish": "stop", "provider": "bench", "model": "at-once",
        "usage": {"input_tokens": 900, "output_tokens": 100, "cost_microusd": 1200},
    }});
    let act: Act = serde_json::from_value(act).expect("an act");
    Entry { seq, attempt: 1, at: std::time::SystemTime::now().into(), act }
}

fn answer() -> String {
    "word ".repeat(ANSWER_CHARS / 5)
}
