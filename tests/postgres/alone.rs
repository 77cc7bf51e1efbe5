//! Writes that are one statement and commit themselves: which they are, and what becomes of one that is not answered.
//!
//! A node lives in each case, for only under its lease a write goes that way. The line is cut at the bytes of what is
//! written, which is in the statement that carries it and in no other before.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use troupe_runtime::domain::step::{Incarnation, StepStatus};
use troupe_runtime::postgres::Database;
use troupe_runtime::store::{self, Accepted, Append, Stores};
use troupe_tests::postgres::Postgres;
use troupe_tests::proxy::{Cut, Proxy, Way};
use troupe_tests::wait::{PATIENCE, until};

use super::server::{Run, accept_for, acceptance, append, completion, ensure, open};

pub(crate) const CASES: [(&str, Run); 6] = [
    ("a lonely write is one statement, and one transaction by the server's count", |_, url| Box::pin(single(url))),
    ("a lonely write of a node without its lease is refused", |_, url| Box::pin(lapsed(url))),
    ("a lonely write that the server did not hear is made", |server, url| Box::pin(cut(server, url, Cut::Unheard))),
    ("a lonely write whose answer is lost is found", |server, url| Box::pin(cut(server, url, Cut::Unanswered))),
    ("a lonely append that waits for a claim is fenced by it", |_, url| Box::pin(overtaken(url))),
    ("what is found in a place is only taken for one's own after a doubt", |_, url| Box::pin(stranger(url))),
];

/// Longer than any case.
const TTL: Duration = Duration::from_secs(600);
/// In the event of every acceptance, and in every entry.
const EVENT: &[u8] = br#""text":"hi""#;
const ENTRY: &[u8] = br#""text":"done""#;

/// A node that lives in this database.
pub(crate) async fn node(url: &str) -> (Database, Stores, Incarnation) {
    let (database, stores) = open(url).await;
    let life = stores.nodes.start("node", TTL).await.expect("a life");
    (database, stores, life)
}

async fn single(url: String) -> Result<(), String> {
    let (database, stores, life) = node(&url).await;
    let mut server = PgConnection::connect(&url).await.unwrap();
    let before = database.writer().written();
    let asked = acceptance(life);
    let Ok(Accepted::New(claim)) = stores.tasks.accept(asked.clone()).await else { return Err("not accepted".into()) };
    stores.journal.append(append(claim, 0)).await.map_err(|error| error.to_string())?;
    stores.steps.complete(completion(claim, 1)).await.map_err(|error| error.to_string())?;
    let written = database.writer().written();
    let count = (written.transactions - before.transactions, written.rows - before.rows);
    ensure(count == (3, 6), format!("three writes of six rows were {count:?}"))?;
    // What is written together has one transaction's number, and what is not has another.
    let numbers = "select (select xmin::text from tasks) = (select xmin::text from execution_results), \
                          (select xmin::text from outbox) = (select xmin::text from execution_results), \
                          (select xmin::text from steps) = (select xmin::text from execution_results)";
    let together: (bool, bool, bool) = sqlx::query_as(numbers).fetch_one(&mut server).await.unwrap();
    ensure(together == (false, true, true), format!("the task, the outbox, the step with the result: {together:?}"))?;
    let task = stores.tasks.task(claim.task).await.unwrap().unwrap();
    ensure(task.steps[0].status == StepStatus::Succeeded, format!("{task:?}"))?;
    let told = stores.outbox.pending(life, i64::MIN, 10).await.unwrap();
    ensure(told.len() == 1 && told[0].task == claim.task, format!("{told:?}"))?;
    let entries = stores.journal.entries(claim.step).await.unwrap().len();
    let again = stores.tasks.accept(asked).await;
    ensure(entries == 2 && again == Ok(Accepted::Duplicate(claim.task)), format!("{entries} entries, {again:?}"))
}

async fn lapsed(url: String) -> Result<(), String> {
    let (_database, stores, life) = node(&url).await;
    let claim = accept_for(&stores, life).await;
    let mut server = PgConnection::connect(&url).await.unwrap();
    let lapse = "update nodes set lease_until = clock_timestamp() - interval '1 s'";
    sqlx::query(lapse).execute(&mut server).await.unwrap();
    let refused = [
        stores.tasks.accept(acceptance(life)).await.map(drop),
        stores.journal.append(append(claim, 0)).await,
        stores.steps.complete(completion(claim, 0)).await.map(drop),
    ];
    ensure(refused == [const { Err(store::Error::Lapsed) }; 3], format!("{refused:?}"))?;
    sqlx::query("update nodes set ended_at = clock_timestamp()").execute(&mut server).await.unwrap();
    let refused = stores.journal.append(append(claim, 0)).await;
    ensure(refused == Err(store::Error::Over), format!("{refused:?}"))?;
    let rows = "select (select count(*) from tasks), (select count(*) from journal), (select count(*) from outbox)";
    let rows: (i64, i64, i64) = sqlx::query_as(rows).fetch_one(&mut server).await.unwrap();
    ensure(rows == (1, 0, 0), format!("tasks, entries, outbox: {rows:?}"))
}

async fn cut(server: &Postgres, url: String, cut: fn(Way, Vec<u8>) -> Cut) -> Result<(), String> {
    let proxy = Proxy::start(server.port()).await;
    let (_database, stores, life) = node(&server.through(&proxy, &url)).await;
    let (_direct, direct) = open(&url).await;
    let at = |what: &[u8]| proxy.arm(cut(Way::ToServer, what.to_vec()));
    let is_cut = |what: &str| ensure(!proxy.armed(), format!("the line was not cut at {what}"));
    let heard = matches!(cut(Way::ToServer, Vec::new()), Cut::Unanswered(..));
    let cuts = if std::env::var("TROUPE_CHAOS").is_ok_and(|how| how == "long") { 500 } else { 10 };
    for _ in 0..cuts {
        let acceptance = acceptance(life);
        let event = acceptance.event.id.clone();
        at(EVENT);
        let accepted = stores.tasks.accept(acceptance).await;
        is_cut("an event")?;
        // A duplicate where it was heard: the recovery finds it, as it does what a falling actor had in hand.
        let claim = match accepted {
            Ok(Accepted::New(claim)) if !heard => claim,
            Ok(Accepted::Duplicate(task)) if heard => {
                let lost = stores.steps.owned(life, i64::MIN, 10).await.unwrap();
                ensure(lost.len() == 1 && lost[0].task == task, format!("{lost:?} of {event}"))?;
                let (step, epoch) = (lost[0].step.id, lost[0].step.epoch);
                stores.steps.claim(step, epoch, life).await.unwrap().ok_or("it cannot be claimed")?
            }
            other => return Err(format!("accepted, heard {heard}: {other:?}")),
        };
        at(ENTRY);
        let appended = stores.journal.append(append(claim, 0)).await;
        is_cut("an entry")?;
        let there = direct.journal.entries(claim.step).await.unwrap().len();
        ensure(appended.is_ok() && there == 1, format!("{appended:?}, {there} there"))?;
        at(ENTRY);
        let ended = stores.steps.complete(completion(claim, 1)).await;
        is_cut("a result")?;
        let told = direct.outbox.pending(life, i64::MIN, 10).await.unwrap();
        ensure(ended.is_ok() && told.len() == 1, format!("{ended:?}, {told:?}"))?;
        direct.outbox.told(vec![told[0].seq]).await.unwrap();
        let entries = direct.journal.entries(claim.step).await.unwrap().len();
        ensure(entries == 2, format!("{entries} entries"))?;
    }
    Ok(())
}

/// The same entry twice, by two who believe that the step is theirs: the second one must not go on.
async fn stranger(url: String) -> Result<(), String> {
    let (_database, stores, life) = node(&url).await;
    let claim = accept_for(&stores, life).await;
    let Append { entry, .. } = append(claim, 0);
    let same = || Append { claim, entry: entry.clone(), attempts: None, status: None };
    stores.journal.append(same()).await.map_err(|error| error.to_string())?;
    let second = stores.journal.append(same()).await;
    ensure(matches!(second, Err(store::Error::Conflict(_))), format!("{second:?}"))?;
    let end = completion(claim, 1);
    stores.steps.complete(end.clone()).await.map_err(|error| error.to_string())?;
    let second = stores.steps.complete(end).await;
    ensure(matches!(second, Err(store::Error::Fenced(_))), format!("{second:?}"))
}

/// Another one's claim is made and not committed yet when the entry is sent: its statement began before the claim was to be
/// seen, and must look again once it has waited.
async fn overtaken(url: String) -> Result<(), String> {
    let (_database, stores, life) = node(&url).await;
    let claim = accept_for(&stores, life).await;
    let mut heir = PgConnection::connect(&url).await.unwrap();
    let mut taking = heir.begin().await.unwrap();
    let take = sqlx::query("update steps set epoch = epoch + 1 where id = $1").bind(claim.step.0);
    take.execute(&mut *taking).await.unwrap();
    let journal = stores.journal.clone();
    let appending = tokio::spawn(async move { journal.append(append(claim, 0)).await });
    let mut watcher = PgConnection::connect(&url).await.unwrap();
    // The one statement, not the ordinary way, which begins otherwise.
    let waits = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like 'insert into journal%'";
    until("the entry to wait for the claim", PATIENCE, async || {
        sqlx::query(waits).fetch_optional(&mut watcher).await.unwrap()
    })
    .await;
    taking.commit().await.unwrap();
    let late = appending.await.map_err(|error| error.to_string())?;
    ensure(late == Err(store::Error::Fenced(claim.step)), format!("under the old epoch: {late:?}"))?;
    let entries = stores.journal.entries(claim.step).await.unwrap().len();
    ensure(entries == 0, format!("{entries} entries"))
}
