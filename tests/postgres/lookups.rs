//! What a write costs the server that has many other steps: it looks up its own rows, whatever the planner believes of the tables.
//!
//! A plan is made once and kept, by what was known of the tables then. Where they were small, or few of their steps were open, it may
//! be cheaper to read all steps, or all that are open, than to look some up: right then, and a walk through thousands for each write
//! once there are thousands. Counted by the server itself.

use futures::future::join_all;
use sqlx::{Connection as _, PgConnection};
use troupe_runtime::store::Accepted;
use troupe_tests::wait::{PATIENCE, until};

use super::alone::node;
use super::server::{Run, accept_for, acceptance, append, completion, ensure};

pub(crate) const CASES: [(&str, Run); 2] = [
    ("writes look up their own rows, planned when the tables were empty", |_, url| Box::pin(of_their_own(url, 0))),
    ("writes look up their own rows, planned when all steps had ended", |_, url| Box::pin(of_their_own(url, 20_000))),
];

/// Steps of others that are open meanwhile.
const OPEN: i64 = 5_000;
/// Writes of a kind in one transaction.
const BATCH: usize = 40;
/// Index entries and rows that one write may have the server read.
const READ_MAX: i64 = 8;

const STEPS: &str = "\
    insert into steps (id, task_id, run_no, step_no, status, owner, epoch, attempts, claims, claimed_seq) \
    select gen_random_uuid(), gen_random_uuid(), 0, 0, $2, 0, 1, 1, 1, 0 from generate_series(1, $1)";

const READ: &str = "\
    select (coalesce((select sum(idx_tup_read) from pg_stat_user_indexes where relname in ('steps', 'journal')), 0) \
          + coalesce((select sum(seq_tup_read) from pg_stat_user_tables where relname in ('steps', 'journal')), 0))::bigint";

const OTHERS: &str = "\
    select count(*) from pg_stat_activity \
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'";

/// The server knows the tables with so many steps that have ended, and none that is open; then there are many.
async fn of_their_own(url: String, ended: i64) -> Result<(), String> {
    // The tables.
    node(&url).await.0.close().await;
    let mut server = PgConnection::connect(&url).await.unwrap();
    sqlx::query(STEPS).bind(ended).bind("succeeded").execute(&mut server).await.unwrap();
    sqlx::query("vacuum analyze").execute(&mut server).await.unwrap();

    let before = read(&mut server).await;

    let (database, stores, life) = node(&url).await;
    // Plans are kept from the sixth time on.
    let mut writes = 0;
    for _ in 0..6 {
        let claim = accept_for(&stores, life).await;
        stores.journal.append(append(claim, 0)).await.map_err(|error| error.to_string())?;
        stores.steps.complete(completion(claim, 1)).await.map_err(|error| error.to_string())?;
        writes += 3;
    }
    sqlx::query(STEPS).bind(OPEN).bind("running").execute(&mut server).await.unwrap();
    for _ in 0..6 {
        let accepted = join_all((0..BATCH).map(|_| stores.tasks.accept(acceptance(life)))).await;
        let claims = accepted.into_iter().map(|accepted| match accepted {
            Ok(Accepted::New(claim)) => Ok(claim),
            other => Err(format!("not accepted: {other:?}")),
        });
        let claims = claims.collect::<Result<Vec<_>, _>>()?;
        let appended = join_all(claims.iter().map(|claim| stores.journal.append(append(*claim, 0)))).await;
        ensure(appended.iter().all(Result::is_ok), format!("{appended:?}"))?;
        let taken = join_all(claims.iter().map(|claim| stores.steps.claim(claim.step, claim.epoch, life))).await;
        let taken = taken.into_iter().map(|taken| taken.ok().flatten()).collect::<Option<Vec<_>>>();
        let taken = taken.ok_or("a claim did not come through")?;
        let ends = join_all(taken.iter().map(|claim| stores.steps.complete(completion(*claim, 1)))).await;
        ensure(ends.iter().all(Result::is_ok), format!("{ends:?}"))?;
        writes += 4 * BATCH as i64;
    }
    for _ in 0..6 {
        let claim = accept_for(&stores, life).await;
        stores.journal.append(append(claim, 0)).await.map_err(|error| error.to_string())?;
        stores.steps.complete(completion(claim, 1)).await.map_err(|error| error.to_string())?;
        writes += 3;
    }
    // A connection has counted all that it read when it has gone.
    database.close().await;
    until("the others' end", PATIENCE, async || {
        let connected = sqlx::query_scalar::<_, i64>(OTHERS).fetch_one(&mut server).await.unwrap();
        (connected == 0).then_some(())
    })
    .await;
    let entries = read(&mut server).await - before;
    println!("        {writes} writes beside {OPEN} open steps: {entries} index entries and rows read");
    ensure(entries <= READ_MAX * writes, format!("{writes} writes had the server read {entries} entries and rows"))
}

async fn read(server: &mut PgConnection) -> i64 {
    sqlx::query_scalar(READ).fetch_one(server).await.unwrap()
}
