//! What a list, or a batch of a clean-up, costs the server: counted by the server itself, with many rows behind the page that is asked for.
//!
//! A plan that walks the table, or one agent's whole share of it, answers the same and reads a thousand times as much.

use std::time::{Duration, UNIX_EPOCH};

use sqlx::{Connection as _, PgConnection};
use troupe_runtime::domain::agent::AgentName;
use troupe_runtime::postgres::{Database, Options};
use troupe_runtime::store::retention::KEEP_MIN;
use troupe_runtime::store::{self, ResultFilter, ResultRow, postgres};
use troupe_tests::wait::{PATIENCE, until};

/// Results that are there.
const RESULTS: i64 = 30_000;
/// Results of a page.
const PAGE: usize = 10;
/// Entries of all indexes of the table that a page may read: of each of three agents a page, each looked up twice.
const READ_MAX: i64 = 200;

/// Thirty thousand results of three agents, a millisecond apart, of which pages are read from the middle.
pub(crate) async fn plans(url: String) -> Result<(), String> {
    let options = Options::default();
    Database::open(&url.as_str().into(), &options).await.expect("the database opens").close().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let insert = "insert into execution_results (step_id, task_id, execution_timestamp, input_tokens, output_tokens, \
            cost_microusd, seq, version, agent_id, status, kind, outcome, body) \
        select gen_random_uuid(), gen_random_uuid(), to_timestamp(1760000000 + n / 1000.0), 1, 1, 0, 0, 1, \
            'agent-' || n % 3, 'succeeded', 'model_result', null, \
            '{\"seq\":0,\"attempt\":1,\"at\":\"2026-01-01T00:00:00Z\",\"kind\":\"model_result\",\"completion\":{\"text\":\"done\",\
              \"finish\":\"stop\",\"provider\":\"p\",\"model\":\"m\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}' \
        from generate_series(1, $1) n";
    sqlx::query(insert).bind(RESULTS).execute(&mut connection).await.unwrap();
    let middle = (UNIX_EPOCH + Duration::from_secs(1_760_000_000 + RESULTS as u64 / 2_000)).into();
    let agent: AgentName = "agent-1".parse().unwrap();
    for agent in [Some(agent), None] {
        let before = read(&mut connection).await;
        let database = Database::open(&url.as_str().into(), &options).await.expect("the database opens");
        let stores = postgres::stores(database.clone(), store::Options::default());
        let filter = ResultFilter { agent, until: Some(middle), limit: PAGE, ..ResultFilter::default() };
        let mut page = stores.results.results(&filter).await.unwrap();
        for _ in 0..2 {
            let after = page.last().map(ResultRow::place);
            page = stores.results.results(&ResultFilter { after, ..filter.clone() }).await.unwrap();
        }
        let found = page.len();
        // A connection counts what it has read when it goes.
        database.close().await;
        let counted = async || Some(read(&mut connection).await - before).filter(|entries| *entries > 0);
        let entries = until("the server's count", PATIENCE, counted).await;
        let whose = filter.agent.map_or("of all agents".to_owned(), |agent| format!("of {agent}"));
        println!("        three pages of {PAGE} {whose} of {RESULTS}: {entries} index entries read");
        if found != PAGE || entries > 3 * READ_MAX {
            return Err(format!("{whose}: {found} results, {entries} index entries read for three pages"));
        }
    }
    for _ in 0..3 {
        let before = read(&mut connection).await;
        let database = Database::open(&url.as_str().into(), &options).await.expect("the database opens");
        let stores = postgres::stores(database.clone(), store::Options::default());
        let cleaned = stores.retention.clean_journals(KEEP_MIN, PAGE).await.unwrap();
        database.close().await;
        let counted = async || Some(read(&mut connection).await - before).filter(|entries| *entries > 0);
        let entries = until("the server's count", PATIENCE, counted).await;
        println!("        cleaning {PAGE} of {RESULTS}: {entries} index entries read");
        if !cleaned.more || entries > READ_MAX {
            return Err(format!("cleaning: {cleaned:?}, {entries} index entries read for a batch of {PAGE}"));
        }
    }
    Ok(())
}

/// Index entries of the table that were ever read, and rows that were ever walked.
async fn read(connection: &mut PgConnection) -> i64 {
    let counts = "select (coalesce((select sum(idx_tup_read) from pg_stat_user_indexes where relname = 'execution_results'), 0) \
                   + coalesce((select sum(seq_tup_read) from pg_stat_user_tables where relname = 'execution_results'), 0))::bigint";
    sqlx::query_scalar(counts).fetch_one(connection).await.unwrap()
}
