//! What a write costs the server that has many other rows: it looks up its own, whatever the planner believes of the tables (docs/adr/0038).
//!
//! A plan is made once and kept, by what was known of the tables then. Where they were small, or few of their steps were open, it may
//! be cheaper to read all of them, or all that are open, than to look some up: right then, and a walk through thousands for each write
//! once there are thousands. Counted by the server itself.

use futures::future::join_all;
use sqlx::{Connection as _, PgConnection};
use troupe_runtime::domain::step::Incarnation;
use troupe_runtime::store::{Accepted, Stores};
use troupe_tests::wait::{PATIENCE, until};

use super::alone::node;
use super::server::{Run, accept_for, acceptance, append, completion, ensure};

pub(crate) const CASES: [(&str, Run); 3] = [
    ("writes look up their own rows, planned when the tables were empty", |_, url| Box::pin(of_their_own(url, 0))),
    ("writes look up their own rows, planned when all steps had ended", |_, url| Box::pin(of_their_own(url, 20_000))),
    ("a memory is saved over its own row, planned when there were few", |_, url| Box::pin(saved(url))),
];

/// A plan is kept from the sixth time on.
const TIMES: usize = 6;
/// Steps and tasks of others.
const OTHERS: i64 = 5_000;
/// Operations of a kind in one transaction.
const BATCH: usize = 40;
/// Index entries and rows that the server may read for one operation.
const READ_MAX: i64 = 8;

const STEPS: &str = "\
    insert into steps (id, task_id, run_no, step_no, status, owner, epoch, attempts, claims, claimed_seq) \
    select gen_random_uuid(), gen_random_uuid(), 0, 0, $2, 0, 1, 1, 1, 0 from generate_series(1, $1)";

const TASKS: &str = "\
    insert into tasks (id, step_id, created_at, priority, agent_id, execution_mode, spec_digest, event_id, topic, traceparent, event) \
    select gen_random_uuid(), gen_random_uuid(), now(), 5, 'other', 'autonomous', 'd', n, 't', 't', '{}' from generate_series(1, $1) n";

const MEMORIES: &str = "\
    insert into agent_states (agent_id, session, version, updated_at, body) \
    select 'other', n, 1, now(), '{}' from generate_series(1, $1) n";

const READ: &str = "\
    select ((select sum(idx_tup_read) from pg_stat_user_indexes) + (select sum(seq_tup_read) from pg_stat_user_tables))::bigint";

const CONNECTED: &str = "\
    select count(*) from pg_stat_activity \
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'";

/// The server knows the tables with so many steps that have ended, and none that is open; then there are many.
async fn of_their_own(url: String, ended: i64) -> Result<(), String> {
    // The tables.
    node(&url).await.0.close().await;
    let mut server = PgConnection::connect(&url).await.unwrap();
    sqlx::query(STEPS).bind(ended).bind("succeeded").execute(&mut server).await.unwrap();
    sqlx::query("vacuum analyze").execute(&mut server).await.unwrap();
    let before = counted(&mut server, READ).await;

    let (database, stores, life) = node(&url).await;
    let mut operations = one_by_one(&stores, life).await?;
    sqlx::query(STEPS).bind(OTHERS).bind("running").execute(&mut server).await.unwrap();
    sqlx::query(TASKS).bind(OTHERS).execute(&mut server).await.unwrap();
    for _ in 0..TIMES {
        operations += together(&stores, life).await?;
    }
    operations += one_by_one(&stores, life).await?;
    database.close().await;
    let read = counted(&mut server, READ).await - before;
    println!("        {operations} operations beside {OTHERS} open steps: {read} index entries and rows read");
    ensure(
        read <= READ_MAX * operations,
        format!("{operations} operations had the server read {read} entries and rows"),
    )
}

/// Tasks from their acceptance to their ends, which are read and told, each operation alone; answers how many there were.
async fn one_by_one(stores: &Stores, life: Incarnation) -> Result<i64, String> {
    for _ in 0..TIMES {
        let claim = accept_for(stores, life).await;
        stores.journal.append(append(claim, 0)).await.map_err(|error| error.to_string())?;
        stores.steps.complete(completion(claim, 1)).await.map_err(|error| error.to_string())?;
        let shown = stores.tasks.task(claim.task).await.map_err(|error| error.to_string())?;
        ensure(shown.is_some(), "a task is not shown")?;
        let ends = stores.outbox.pending(life, i64::MIN, BATCH).await.map_err(|error| error.to_string())?;
        ensure(ends.last().is_some_and(|end| end.task == claim.task), format!("{ends:?}"))?;
        let seqs = ends.iter().map(|end| end.seq).collect();
        stores.outbox.told(seqs).await.map_err(|error| error.to_string())?;
    }
    Ok(6 * TIMES as i64)
}

/// Many tasks at once, taken over in between.
async fn together(stores: &Stores, life: Incarnation) -> Result<i64, String> {
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
    let told = ends.into_iter().map(|end| end.map_err(|error| error.to_string())?.ok_or("no end to tell".to_owned()));
    stores.outbox.told(told.collect::<Result<_, String>>()?).await.map_err(|error| error.to_string())?;
    Ok(5 * BATCH as i64)
}

/// What an agent remembers of one conversation, beside those of many.
async fn saved(url: String) -> Result<(), String> {
    let (database, stores, _life) = node(&url).await;
    let agent = "writer".parse().unwrap();
    let mut version = stores.memory.save(&agent, "s", 0, "{}").await.map_err(|error| error.to_string())?;
    let mut server = PgConnection::connect(&url).await.unwrap();
    sqlx::query("vacuum analyze").execute(&mut server).await.unwrap();
    let mut save = async || {
        for _ in 0..TIMES {
            version = stores.memory.save(&agent, "s", version, "{}").await.map_err(|error| error.to_string())?;
        }
        Ok::<_, String>(())
    };
    save().await?;
    sqlx::query(MEMORIES).bind(OTHERS).execute(&mut server).await.unwrap();
    save().await?;
    database.close().await;
    let (saves, read) = (2 * TIMES as i64, counted(&mut server, READ).await);
    println!("        {saves} saves beside {OTHERS} memories of others: {read} index entries and rows read");
    ensure(read <= READ_MAX * saves, format!("{saves} saves had the server read {read} entries and rows"))
}

/// What the server has counted: of a connection all that it read, once it has gone.
async fn counted(server: &mut PgConnection, question: &'static str) -> i64 {
    until("the others' end", PATIENCE, async || {
        let connected = sqlx::query_scalar::<_, i64>(CONNECTED).fetch_one(&mut *server).await.unwrap();
        (connected == 0).then_some(())
    })
    .await;
    sqlx::query_scalar(question).fetch_one(server).await.unwrap()
}
