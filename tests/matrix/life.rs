//! The lives of a victim, one after the other on the same data, and what all sides have seen in the end.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use sqlx::Connection as _;
use tempfile::TempDir;
use troupe_runtime::domain::journal::Act;
use troupe_runtime::domain::outcome::Outcome;
use troupe_runtime::store::{self, Stores, TaskFilter};
use troupe_runtime::{postgres, sqlite};
use troupe_tests::effects::EffectsStandIn;
use troupe_tests::judge::Seen;
use troupe_tests::killer::{Commit, Moment, Point};
use troupe_tests::model::ModelStandIn;
use troupe_tests::mutant::Mutant;
use troupe_tests::postgres::Postgres;
use troupe_tests::victim::{DONE, Orders, STUCK, lines};

/// Built by `cargo test` together with this test.
const VICTIM: &str = env!("CARGO_BIN_EXE_victim");
/// How long a task may take to come to rest. One on a mutant may never: that is found out sooner.
const LIMIT_MS: u64 = 30_000;
const MUTANT_LIMIT_MS: u64 = 3_000;
/// SIGKILL.
const KILLED: i32 = 9;

/// Where a victim keeps its state.
pub(crate) enum Storage<'a> {
    /// In its folder.
    Sqlite,
    /// In a database of its own on this server.
    Postgres(&'a Postgres),
}

/// What survives the victims.
pub(crate) struct World {
    model: ModelStandIn,
    effects: EffectsStandIn,
}

impl Storage<'_> {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }
}

impl World {
    pub(crate) async fn open() -> Self {
        troupe_tests::tls();
        Self { model: ModelStandIn::start(lines).await, effects: EffectsStandIn::start().await }
    }

    /// Kills a victim at this point, lets it live again to its end, and answers what was seen; text when it was not
    /// killed there, or could not live at all.
    pub(crate) async fn kill(
        &self,
        storage: &Storage<'_>,
        point: Point,
        mutant: Option<Mutant>,
    ) -> Result<Seen, String> {
        let folder = tempfile::Builder::new().prefix("troupe-victim-").tempdir().expect("a temporary folder");
        let name: String = format!("{} {point} {mutant:?}", storage.name()).to_lowercase();
        let task: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let database = match storage {
            Storage::Sqlite => None,
            Storage::Postgres(server) => Some((server, server.create(&task).await)),
        };
        let url = database.as_ref().map(|(_, url)| url.clone());
        let orders = self.orders(format!("task-{task}"), &folder, url, mutant);
        let lived = self.live(&orders, point, &folder).await;
        let seen = match lived {
            Ok(()) => self.seen(&orders).await,
            Err(error) => Err(error),
        };
        if let Some((server, _)) = database {
            server.remove(&task).await;
        }
        seen.map_err(|error| format!("{error}\n{}", log(&folder)))
    }

    fn orders(&self, task: String, folder: &TempDir, database: Option<String>, mutant: Option<Mutant>) -> Orders {
        Orders {
            task,
            folder: folder.path().join("data"),
            database,
            model: self.model.base_url().to_owned(),
            effects: self.effects.url().to_owned(),
            asks: false,
            dies: None,
            mutant,
            limit_ms: if mutant.is_some() { MUTANT_LIMIT_MS } else { LIMIT_MS },
        }
    }

    /// Life after life: all but the last die.
    async fn live(&self, orders: &Orders, point: Point, folder: &TempDir) -> Result<(), String> {
        let log = folder.path().join("log");
        let first = |seq| Point { commit: Commit::Entry(seq), moment: Moment::After };
        let deaths = match point.commit {
            // There is nothing to claim before somebody has died in the middle, and nothing to ask before it was there.
            Commit::Claim => vec![first(3), point],
            Commit::Question => vec![first(4), point],
            _ => vec![point],
        };
        for (life, dies) in deaths.into_iter().enumerate() {
            let orders = Orders { asks: life == 0, dies: Some(dies), ..orders.clone() };
            let ended = orders.live(Path::new(VICTIM), &log).await;
            if ended.signal() != Some(KILLED) {
                return Err(format!("it was not killed {dies}: {ended}"));
            }
        }
        match orders.live(Path::new(VICTIM), &log).await.code() {
            Some(DONE | STUCK) => Ok(()),
            code => Err(format!("its last life ended with {code:?}")),
        }
    }

    async fn seen(&self, orders: &Orders) -> Result<Seen, String> {
        let text = |error: store::Error| error.to_string();
        let opened = Opened::open(orders).await?;
        let stores = &opened.stores;
        let statuses = stores.tasks.tasks(&TaskFilter::default()).await.map_err(text)?;
        let task = stores.tasks.task(orders.task_id()).await.map_err(text)?;
        let journal = stores.journal.entries(orders.task_id().run(0).step(0)).await.map_err(text)?;
        let calls = self.model.calls().into_iter().filter(|call| call.task == orders.task);
        let mut seen = Seen {
            task: orders.task.clone(),
            statuses: statuses.into_iter().map(|task| task.status).collect(),
            output: None,
            attempts: 0,
            journal,
            calls: calls.map(|call| (call.turn, call.number)).collect(),
            effects: self.effects.effects(&orders.task),
            ends: self.effects.ends(&orders.task),
            results: count(orders, "select count(*) from execution_results").await,
            outbox: count(orders, "select count(*) from outbox").await,
        };
        if let Some(task) = task {
            seen.attempts = task.steps.first().map_or(0, |step| step.attempts);
            if let Some(Outcome::Succeeded { output }) = task.outcome {
                seen.output = Some(output);
            }
        }
        opened.close().await;
        Ok(seen)
    }
}

/// A store that a victim has left.
struct Opened {
    stores: Stores,
    database: Database,
}

enum Database {
    Sqlite(sqlite::Database),
    Postgres(postgres::Database),
}

impl Opened {
    async fn open(orders: &Orders) -> Result<Self, String> {
        let Some(url) = &orders.database else {
            let opened = sqlite::Database::open(&orders.folder, &sqlite::Options::default()).await;
            let database = opened.map_err(|error| error.to_string())?;
            let stores = store::sqlite::stores(database.clone(), store::Options::default());
            return Ok(Self { stores, database: Database::Sqlite(database) });
        };
        let opened = postgres::Database::open(&url.as_str().into(), &postgres::Options::default()).await;
        let database = opened.map_err(|error| error.to_string())?;
        let stores = store::postgres::stores(database.clone(), store::Options::default());
        Ok(Self { stores, database: Database::Postgres(database) })
    }

    async fn close(self) {
        match self.database {
            Database::Sqlite(database) => database.close().await,
            Database::Postgres(database) => database.close().await,
        }
    }
}

/// Rows, as they lie there.
async fn count(orders: &Orders, statement: &'static str) -> i64 {
    let counted = if let Some(url) = &orders.database {
        let mut server = sqlx::PgConnection::connect(url).await.expect("the server");
        sqlx::query_scalar(statement).fetch_one(&mut server).await
    } else {
        let file = orders.folder.join(sqlite::FILE_NAME);
        let mut file =
            sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.expect("the file");
        sqlx::query_scalar(statement).fetch_one(&mut file).await
    };
    counted.expect("a count")
}

/// One line of what was seen.
pub(crate) fn sight(seen: &Seen) -> String {
    let asks = seen.journal.iter().any(|entry| matches!(entry.act, Act::ClarificationRaised { .. }));
    let rests = if asks { "asks" } else { "answers" };
    format!("{:?} {:?} {rests}", seen.calls_by_turn(), seen.effects_by_tool())
}

fn log(folder: &TempDir) -> String {
    std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()
}
