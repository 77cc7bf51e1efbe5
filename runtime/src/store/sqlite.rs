//! The store in the node's SQLite file: native statements, one file an aggregate.
//!
//! Reads take a connection of the small pool; every write is a [`crate::sqlite::writer::Write`] operation, executed
//! together with whatever waits beside it by statements that carry all their rows as one JSON text (`json_each`): a
//! statement costs a hand-over to another thread, a row in it next to nothing. [`crate::ports`] calls [`stores`] once.
//! When the file does not answer or the disk is full, a call ends with [`Error::Unavailable`] and nothing is written.

mod forks;
mod journal;
mod memory;
mod nodes;
mod outbox;
mod replies;
mod results;
mod retention;
mod rows;
mod specs;
mod steps;
mod tasks;

use std::sync::Arc;

use super::reported::Reported;
use super::{Damage, Error, Options, Stores};
use crate::sqlite::writer::Write;
use crate::sqlite::{self, Database};

/// Every aggregate of the store that lives in `database`.
#[must_use]
pub fn stores(database: Database, options: Options) -> Stores {
    let reported = Reported::new(options.unreadable_max);
    let store = Arc::new(Store { database, options, reported });
    Stores {
        tasks: store.clone(),
        steps: store.clone(),
        journal: store.clone(),
        outbox: store.clone(),
        replies: store.clone(),
        results: store.clone(),
        specs: store.clone(),
        nodes: store.clone(),
        memory: store.clone(),
        retention: store,
    }
}

/// The adapter behind every aggregate.
struct Store {
    database: Database,
    options: Options,
    reported: Reported,
}

impl Store {
    async fn write<W: Write>(&self, operation: W) -> Result<W::Reply, Error> {
        Ok(self.database.writer().submit(operation).await?)
    }

    /// What a `limit` of rows comes to.
    fn rows(&self, limit: usize) -> i64 {
        limit.min(self.options.rows_max) as i64
    }
}

/// The one table from what the file says to what the port says.
impl From<sqlite::Error> for Error {
    fn from(error: sqlite::Error) -> Self {
        use sqlite::Error as E;
        match error {
            E::Full(_) | E::Unavailable(_) | E::Closed => Self::Unavailable(error.to_string()),
            E::Corrupt(_) | E::Open { .. } | E::Migration { .. } => {
                Self::Corrupt(Damage::of_database(error.to_string()))
            }
            E::Statement(_) | E::Directory { .. } | E::InUse(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::from(sqlite::Error::from(error))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use async_trait::async_trait;
    use serde_json::json;
    use sqlx::{Connection as _, Row as _, TypeInfo as _, ValueRef as _};

    use super::*;
    use crate::domain::agent::ExecutionMode;
    use crate::domain::event::Event;
    use crate::domain::journal::{Act, Entry};
    use crate::domain::outcome::Outcome;
    use crate::domain::step::Incarnation;
    use crate::store::conformance::{Cell, Dialect, Harness, Raw, cases};
    use crate::store::{Acceptance, Accepted, Append, Claim, Completion, ResultFilter, TaskFilter, cache};

    /// A folder of its own; opening it again finds what was written.
    struct Folder {
        dir: tempfile::TempDir,
        cached: bool,
    }

    #[async_trait]
    impl Harness for Folder {
        async fn open(&mut self) -> Result<Stores, String> {
            let database = Database::open(self.dir.path(), &sqlite::Options::default()).await;
            let stores = stores(database.map_err(|error| error.to_string())?, Options::default());
            Ok(if self.cached { cache::cached(stores, &cache::Options::default()) } else { stores })
        }

        async fn peek(&mut self, cell: &Cell) -> Result<Raw, String> {
            let select = sqlx::AssertSqlSafe(cell.select(Dialect::Sqlite));
            let row = sqlx::query(select).fetch_one(&mut behind(&self.dir).await).await.map_err(|e| e.to_string())?;
            let value = row.try_get_raw(0).unwrap();
            Ok(match value.type_info().name() {
                _ if value.is_null() => Raw::Null,
                "INTEGER" => Raw::Number(row.get(0)),
                "TEXT" => Raw::Text(row.get_unchecked(0)),
                _ => Raw::Bytes(row.get(0)),
            })
        }

        async fn poke(&mut self, cell: &Cell, raw: &Raw) -> Result<bool, String> {
            let value = match raw {
                Raw::Null => "null".to_owned(),
                Raw::Number(number) => number.to_string(),
                Raw::Text(bytes) => format!("cast(x'{}' as text)", hex::encode(bytes)),
                Raw::Bytes(bytes) => format!("x'{}'", hex::encode(bytes)),
            };
            let update = sqlx::AssertSqlSafe(cell.update(Dialect::Sqlite, &value));
            let done = sqlx::query(update).execute(&mut behind(&self.dir).await).await.map_err(|e| e.to_string())?;
            if done.rows_affected() == 1 { Ok(true) } else { Err(format!("no row is {cell:?}")) }
        }
    }

    /// A connection that the stores know nothing of.
    async fn behind(dir: &tempfile::TempDir) -> sqlx::SqliteConnection {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.path().join(sqlite::FILE_NAME));
        sqlx::SqliteConnection::connect_with(&options).await.unwrap()
    }

    async fn conformance(cached: bool) {
        let mut failed = Vec::new();
        for case in cases() {
            let mut folder = Folder { dir: tempfile::tempdir().unwrap(), cached };
            match case.run(&mut folder).await {
                Ok(()) => println!("ok      {}", case.name),
                Err(what) => failed.push(format!("FAILED  {}: {what}", case.name)),
            }
        }
        assert!(failed.is_empty(), "\n{}", failed.join("\n"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_does_what_every_store_does() {
        conformance(false).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn so_it_does_behind_the_cache() {
        conformance(true).await;
    }

    async fn opened(dir: &tempfile::TempDir) -> (Database, Stores) {
        let database = Database::open(dir.path(), &sqlite::Options::default()).await.unwrap();
        (database.clone(), stores(database, Options::default()))
    }

    fn acceptance() -> Acceptance {
        Acceptance {
            agent: "writer".parse().unwrap(),
            mode: ExecutionMode::Autonomous,
            spec_digest: "d".into(),
            event: Arc::new(Event::new("agent.task.writer".parse().unwrap(), "/test", json!({"text": "hi"}))),
            owner: Incarnation(1),
        }
    }

    fn entry(seq: u32) -> Entry {
        let act = json!({"kind": "model_result", "completion": {
            "text": "a-rare-answer", "finish": "stop", "provider": "p", "model": "m",
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }});
        let act: Act = serde_json::from_value(act).unwrap();
        Entry { seq, attempt: 1, at: chrono::Utc::now(), act }
    }

    async fn accept(stores: &Stores) -> Claim {
        let Accepted::New(claim) = stores.tasks.accept(acceptance()).await.unwrap() else { panic!("not new") };
        claim
    }

    async fn complete(stores: &Stores, claim: Claim) {
        let completion = Completion {
            claim,
            agent: "writer".parse().unwrap(),
            entry: entry(0),
            outcome: Outcome::Succeeded { output: "a-rare-answer".into() },
            usage: crate::domain::chat::Usage { input_tokens: 1, output_tokens: u64::MAX, cost_microusd: 0 },
        };
        stores.steps.complete(completion).await.unwrap();
    }

    /// Changes the file behind the store's back.
    async fn sql(dir: &tempfile::TempDir, statement: &'static str) {
        let mut connection = behind(dir).await;
        assert!(sqlx::query(statement).execute(&mut connection).await.unwrap().rows_affected() > 0);
        connection.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_task_of_one_step_and_one_turn_costs_six_rows() {
        let dir = tempfile::tempdir().unwrap();
        let (database, stores) = opened(&dir).await;
        let mut rows = BTreeMap::new();
        let mut before = 0;
        let mut count = |what: &'static str| {
            let now = database.writer().written().rows;
            rows.insert(what, now - std::mem::replace(&mut before, now));
        };
        let claim = accept(&stores).await;
        count("accept");
        stores.tasks.accept(acceptance()).await.unwrap();
        count("accept another");
        complete(&stores, claim).await;
        count("complete");
        let told = stores.outbox.pending(Incarnation(1), i64::MIN, 10).await.unwrap();
        stores.outbox.told(told.iter().map(|told| told.seq).collect()).await.unwrap();
        count("told");
        assert_eq!(rows, BTreeMap::from([("accept", 2), ("accept another", 2), ("complete", 3), ("told", 1)]));
        let task = stores.tasks.task(claim.task).await.unwrap().unwrap();
        assert_eq!(task.usage.output_tokens, i64::MAX as u64);
    }

    #[tokio::test]
    async fn an_entry_costs_one_row_and_two_when_it_changes_the_step() {
        let dir = tempfile::tempdir().unwrap();
        let (database, stores) = opened(&dir).await;
        let claim = accept(&stores).await;
        let before = database.writer().written().rows;
        stores.journal.append(Append { claim, entry: entry(0), attempts: None, status: None }).await.unwrap();
        stores.journal.append(Append { claim, entry: entry(1), attempts: Some(2), status: None }).await.unwrap();
        assert_eq!(database.writer().written().rows - before, 3);
    }

    #[tokio::test]
    async fn an_answer_is_stored_once() {
        let dir = tempfile::tempdir().unwrap();
        let (database, stores) = opened(&dir).await;
        let claim = accept(&stores).await;
        complete(&stores, claim).await;
        database.close().await;
        let file = std::fs::read(dir.path().join(sqlite::FILE_NAME)).unwrap();
        let found = file.windows(13).filter(|window| window == b"a-rare-answer").count();
        assert_eq!(found, 1, "the entry is the result, not a copy of it");
    }

    #[tokio::test]
    async fn an_unknown_format_is_named_and_not_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let (_database, stores) = opened(&dir).await;
        let claim = accept(&stores).await;
        for seq in 0..3 {
            stores.journal.append(Append { claim, entry: entry(seq), attempts: None, status: None }).await.unwrap();
        }
        sql(&dir, "update journal_entries set version = 99 where seq = 1").await;
        let error = stores.journal.entries(claim.step).await.unwrap_err();
        let Error::Corrupt(damage) = &error else { panic!("{error}") };
        assert_eq!((damage.entry, damage.row.as_str()), (Some(1), format!("step {}", claim.step).as_str()));
        assert!(error.to_string().contains("format 99") && error.to_string().contains("run the newer"), "{error}");
        assert!(matches!(stores.tasks.task(claim.task).await, Err(Error::Corrupt(_))));

        sql(&dir, "update journal_entries set version = 1, body = '{}' where seq = 1").await;
        let error = stores.journal.entries(claim.step).await.unwrap_err();
        assert!(error.to_string().contains("entry 1"), "{error}");
    }

    #[tokio::test]
    async fn an_unreadable_row_does_not_stand_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let (_database, stores) = opened(&dir).await;
        let mut claims = Vec::new();
        for _ in 0..6 {
            let claim = accept(&stores).await;
            complete(&stores, claim).await;
            claims.push(claim.task);
        }
        sql(&dir, "update tasks set event = '{' where seq in (1, 2)").await;
        sql(&dir, "update execution_results set body = 'x' where id = 4").await;
        sql(&dir, "delete from execution_results where id = 6").await;
        for limit in [2, 3] {
            let pending = stores.outbox.pending(Incarnation(1), i64::MIN, limit).await.unwrap();
            let pending: Vec<_> = pending.into_iter().map(|told| told.task).collect();
            assert_eq!(pending, [claims[2], claims[4]]);
        }
        let listed = stores.tasks.tasks(&TaskFilter::default()).await.unwrap();
        let listed: Vec<_> = listed.into_iter().map(|task| task.id).collect();
        assert_eq!(listed, [claims[5], claims[4], claims[2]]);
        // A page is filled with what can be read behind what cannot.
        let page = ResultFilter { limit: 4, ..ResultFilter::default() };
        let listed: Vec<_> = stores.results.results(&page).await.unwrap().iter().map(|result| result.task_id).collect();
        assert_eq!(listed, [claims[4], claims[2], claims[1], claims[0]]);
        let step = claims[3].run(0).step(0);
        let Err(Error::Corrupt(damage)) = stores.results.result(step).await else { panic!("it was read") };
        assert_eq!(damage.row, format!("step {step}"));
        let error = stores.tasks.event(claims[0]).await.unwrap_err();
        assert!(error.to_string().contains(&claims[0].to_string()), "{error}");
    }

    #[tokio::test]
    async fn a_closed_file_is_unavailable() {
        let dir = tempfile::tempdir().unwrap();
        let (database, stores) = opened(&dir).await;
        database.close().await;
        assert!(matches!(stores.tasks.accept(acceptance()).await, Err(Error::Unavailable(_))));
        assert!(matches!(stores.tasks.tasks(&TaskFilter::default()).await, Err(Error::Unavailable(_))));
        assert!(matches!(stores.nodes.ping().await, Err(Error::Unavailable(_))));
    }

    #[test]
    fn what_the_file_says_becomes_what_the_port_says() {
        let full = Error::from(sqlite::Error::Full("13".into()));
        assert!(matches!(&full, Error::Unavailable(what) if what.contains("disk")), "{full}");
        assert!(matches!(Error::from(sqlite::Error::Closed), Error::Unavailable(_)));
        assert!(matches!(Error::from(sqlite::Error::Corrupt("11".into())), Error::Corrupt(_)));
        assert!(matches!(Error::from(sqlite::Error::Statement("x".into())), Error::Internal(_)));
    }

    /// A statement that reads a whole table is fine on the first day only.
    #[tokio::test]
    async fn no_statement_walks_a_table() {
        let dir = tempfile::tempdir().unwrap();
        let (database, _stores) = opened(&dir).await;
        // Whatever is walked besides the rows that came as JSON, what a list walks until it is full, and the owners that
        // were found one by one. What is not told yet, and what is open, is never much.
        let few = ["SCAN c", "SCAN o", "SCAN outbox"];
        let walks = |plan: &str| plan.starts_with("SCAN") && !plan.contains("VIRTUAL TABLE") && !few.contains(&plan);
        let statements =
            [steps::STATEMENTS, journal::STATEMENTS, tasks::STATEMENTS, memory::STATEMENTS, replies::STATEMENTS];
        for statement in [&statements.concat(), results::STATEMENTS, retention::STATEMENTS, forks::STATEMENTS].concat()
        {
            let explain = sqlx::AssertSqlSafe(format!("explain query plan {statement}"));
            let plan = sqlx::query(explain).fetch_all(database.readers()).await.unwrap();
            for line in plan {
                let line: String = line.get("detail");
                assert!(!walks(&line), "{line}\n{statement}");
            }
        }
    }

    /// An order that the index does not have would sort an agent's whole share of the table for one page.
    #[tokio::test]
    async fn a_page_of_results_is_read_in_the_order_of_its_index() {
        let dir = tempfile::tempdir().unwrap();
        let (database, _stores) = opened(&dir).await;
        for statement in &results::STATEMENTS[1..] {
            let explain = sqlx::AssertSqlSafe(format!("explain query plan {statement}"));
            let plan = sqlx::query(explain).fetch_all(database.readers()).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|line| line.get("detail")).collect();
            let by =
                "INDEX execution_results_by_agent (agent_id=? AND execution_timestamp>? AND execution_timestamp<?)";
            let searched =
                plan.iter().position(|line| line.ends_with(by)).unwrap_or_else(|| panic!("{}", plan.join("\n")));
            let sorted = plan[searched..].iter().find(|line| line.starts_with("USE TEMP B-TREE")).map(String::as_str);
            assert_eq!(sorted, Some("USE TEMP B-TREE FOR LAST TERM OF ORDER BY"), "{}", plan.join("\n"));
        }
    }
}
