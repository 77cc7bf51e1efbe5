//! What only a server can do to a store: crash, lose a line, be shared by two nodes, be newer than the binary.
//!
//! Each case gets the server and an empty database, and answers what did not hold as text.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{LocalBoxFuture, join_all};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use troupe_runtime::domain::agent::ExecutionMode;
use troupe_runtime::domain::chat::Usage;
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::journal::{Act, Entry};
use troupe_runtime::domain::outcome::Outcome;
use troupe_runtime::domain::step::Incarnation;
use troupe_runtime::postgres::{Database, Error, Options};
use troupe_runtime::store::{self, Acceptance, Accepted, Append, Claim, Completion, Stores, postgres};
use troupe_tests::postgres::{COMMIT, Postgres};
use troupe_tests::proxy::{Cut, Proxy, Way};
use troupe_tests::wait::{PATIENCE, until};

use super::plans::plans;

pub(crate) type Run = fn(&mut Postgres, String) -> LocalBoxFuture<'_, Result<(), String>>;

pub(crate) const CASES: [(&str, Run); 10] = [
    ("a page of results reads little, however many there are", |_, url| Box::pin(plans(url))),
    ("two nodes migrate at once", |_, url| Box::pin(two_migrate(url))),
    ("a database from the future is refused", |_, url| Box::pin(newer(url))),
    ("a task of one step and one turn costs six rows", |_, url| Box::pin(rows(url))),
    ("what waits shares a transaction, what comes alone has its own", |_, url| Box::pin(shares(url))),
    ("what the server refuses along with a commit is refused alone, at once", |_, url| Box::pin(refuses(url))),
    ("a claim by another node sees every entry before it", |_, url| Box::pin(claims(url))),
    ("a commit that the server did not hear leaves nothing", |server, url| Box::pin(cut(server, url, Cut::Unheard))),
    ("a commit whose answer is lost is found again", |server, url| Box::pin(cut(server, url, Cut::Unanswered))),
    ("a server that crashes under writers loses and doubles nothing", |server, url| Box::pin(crash(server, url))),
];

async fn two_migrate(url: String) -> Result<(), String> {
    let options = Options::default();
    let opened = join_all((0..4).map(|_| async { Database::open(&url.as_str().into(), &options).await })).await;
    for database in opened {
        database.map_err(|error| error.to_string())?.close().await;
    }
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let number: i64 =
        sqlx::query_scalar("select count(*) from _sqlx_migrations").fetch_one(&mut connection).await.unwrap();
    let files = std::fs::read_dir("../migrations/postgres").expect("the migrations").count();
    ensure(number == files as i64, format!("{number} migrations ran of {files}"))
}

async fn newer(url: String) -> Result<(), String> {
    open(&url).await.0.close().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::query("insert into _sqlx_migrations values (999, 'later', now(), true, '', 1)")
        .execute(&mut connection)
        .await
        .unwrap();
    let refused = Database::open(&url.as_str().into(), &Options::default()).await.err();
    let clear = matches!(&refused, Some(Error::Newer { number: 999, .. }));
    ensure(clear, format!("{:?}", refused.map(|error| error.to_string())))
}

async fn rows(url: String) -> Result<(), String> {
    let (database, stores) = open(&url).await;
    let mut counts = Vec::new();
    let mut before = 0;
    let mut count = || {
        let now = database.writer().written().rows;
        counts.push(now - std::mem::replace(&mut before, now));
    };
    let claim = accept(&stores).await;
    count();
    stores.steps.complete(completion(claim, 0)).await.unwrap();
    count();
    let told = stores.outbox.pending(Incarnation(1), i64::MIN, 10).await.unwrap();
    stores.outbox.told(told.iter().map(|told| told.seq).collect()).await.unwrap();
    count();
    ensure(counts == [2, 3, 1], format!("accept, complete, told: {counts:?}"))
}

/// Counted by us and by the server: a row knows the transaction that wrote it. The first append is held at a lock until
/// all the others wait, so that how many share a transaction is nobody's speed.
async fn shares(url: String) -> Result<(), String> {
    let (database, stores) = open_with(&url, &Options { batch_max: 256, ..Options::default() }).await;
    let claims = join_all((0..300).map(|_| accept(&stores))).await;
    let before = database.writer().written();
    let mut holder = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("begin; select 1 from steps for update").execute(&mut holder).await.unwrap();
    let add = |claim: &Claim| stores.journal.append(append(*claim, 0));
    let rest = async {
        held(&mut holder).await;
        let go = async {
            until("the others", PATIENCE, async || (database.writer().depth() == 299).then_some(())).await;
            sqlx::raw_sql("commit").execute(&mut holder).await.unwrap();
        };
        tokio::join!(join_all(claims[1..].iter().map(add)), go).0
    };
    let (first, rest) = tokio::join!(add(&claims[0]), rest);
    ensure(first.is_ok() && rest.iter().all(Result::is_ok), "an append was refused")?;
    let together = database.writer().written();
    for seq in 1..=5 {
        stores.journal.append(append(claims[0], seq)).await.map_err(|error| error.to_string())?;
    }
    let alone = database.writer().written();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let by_server: i64 =
        sqlx::query_scalar("select count(distinct xmin::text) from journal").fetch_one(&mut connection).await.unwrap();
    let by_us = together.transactions - before.transactions;
    // The first one alone, a full batch of 256, and the 43 that are left.
    ensure(by_us == 3, format!("300 appends took {by_us} transactions"))?;
    ensure(alone.transactions - together.transactions == 5, "five that came one after the other did not go so")?;
    ensure(by_server.unsigned_abs() == by_us + 5, format!("{by_us} and 5 by our count, {by_server} by the server's"))
}

/// Waits until somebody waits for a lock.
pub(crate) async fn held(server: &mut PgConnection) {
    until("the first append at the lock", PATIENCE, async || {
        let waits = "select exists (select 1 from pg_locks where not granted)";
        sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut *server).await.unwrap().then_some(())
    })
    .await;
}

/// What was told goes with the commit. A refusal there is an answer, and no reason to doubt the commit, nor to refuse what shares the
/// transaction.
async fn refuses(url: String) -> Result<(), String> {
    let (database, stores) = open(&url).await;
    let mut server = PgConnection::connect(&url).await.unwrap();
    let place = stores.steps.complete(completion(accept(&stores).await, 0)).await.unwrap().unwrap();
    let refusal = "create function refuse() returns trigger language plpgsql as $$ begin raise 'not today'; end $$; \
                   create trigger refuse before delete on outbox for each row execute function refuse()";
    sqlx::raw_sql(refusal).execute(&mut server).await.unwrap();
    let claim = accept(&stores).await;
    let mut holder = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("begin; select 1 from steps for update").execute(&mut holder).await.unwrap();
    let asked = acceptance(Incarnation(1));
    let both = async {
        held(&mut server).await;
        tokio::join!(stores.outbox.told(vec![place]), stores.tasks.accept(asked), async {
            until("both", PATIENCE, async || (database.writer().depth() == 2).then_some(())).await;
            sqlx::raw_sql("commit").execute(&mut holder).await.unwrap();
        })
    };
    let (_, (told, accepted, ())) = tokio::join!(stores.journal.append(append(claim, 0)), both);
    let said = told.map_err(|error| error.to_string());
    let clear = said.as_ref().is_err_and(|said| said.contains("not today") && !said.contains("rolled back"));
    ensure(clear, format!("{said:?}"))?;
    ensure(matches!(accepted, Ok(Accepted::New(_))), format!("{accepted:?}"))?;
    sqlx::raw_sql("drop trigger refuse on outbox").execute(&mut server).await.unwrap();
    let before = database.writer().written().rows;
    stores.outbox.told(vec![place]).await.map_err(|error| error.to_string())?;
    let left: i64 = sqlx::query_scalar("select count(*) from outbox").fetch_one(&mut server).await.unwrap();
    let written = database.writer().written().rows - before;
    ensure((left, written) == (0, 1), format!("{left} left, {written} written"))
}

/// One node appends as fast as it can while another one claims: what the claimer reads is all that there will be.
async fn claims(url: String) -> Result<(), String> {
    let ((_, one), (_, two)) = (open(&url).await, open(&url).await);
    for _ in 0..20 {
        let claim = accept(&one).await;
        let appended = AtomicUsize::new(0);
        let appends = async {
            for seq in 0.. {
                match one.journal.append(append(claim, seq)).await {
                    Ok(()) => appended.fetch_add(1, Ordering::SeqCst),
                    Err(store::Error::Fenced(_)) => return,
                    Err(error) => panic!("{error}"),
                };
            }
        };
        let claims = async {
            until("entries", PATIENCE, async || (appended.load(Ordering::SeqCst) > 3).then_some(())).await;
            two.steps.claim(claim.step, claim.epoch, Incarnation(2)).await.unwrap().unwrap();
            two.journal.entries(claim.step).await.unwrap().len()
        };
        let ((), seen) = tokio::join!(appends, claims);
        let (answered, there) = (appended.load(Ordering::SeqCst), two.journal.entries(claim.step).await.unwrap().len());
        ensure(seen == there && answered == there, format!("seen {seen}, there {there}, answered {answered}"))?;
    }
    Ok(())
}

async fn cut(server: &Postgres, url: String, cut: fn(Way, Vec<u8>) -> Cut) -> Result<(), String> {
    let proxy = Proxy::start(server.port()).await;
    let (_, direct) = open(&url).await;
    let (_, stores) = open(&server.through(&proxy, &url)).await;
    let commit = cut(Way::ToServer, COMMIT.to_vec());
    let cuts = if std::env::var("TROUPE_CHAOS").is_ok_and(|how| how == "long") { 2_000 } else { 10 };
    for _ in 0..cuts {
        let claim = accept(&direct).await;
        proxy.arm(commit.clone());
        let result = stores.journal.append(append(claim, 0)).await;
        ensure(!proxy.armed(), "the line was not cut")?;
        let there = direct.journal.entries(claim.step).await.unwrap().len();
        if matches!(commit, Cut::Unanswered(..)) {
            ensure(result.is_ok() && there == 1, format!("{result:?}, {there} there"))?;
        } else {
            let refused = matches!(result, Err(store::Error::Unavailable(_))) && there == 0;
            ensure(refused, format!("{result:?}, {there} there"))?;
            // It said that nothing is there, so the same may be asked again.
            stores.journal.append(append(claim, 0)).await.map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

async fn crash(server: &mut Postgres, url: String) -> Result<(), String> {
    let (_, stores) = open(&url).await;
    let mut claims = Vec::new();
    for _ in 0..32 {
        claims.push(accept(&stores).await);
    }
    let writing = Arc::new(Writing::default());
    let writers: Vec<_> =
        claims.iter().map(|claim| tokio::spawn(write(stores.clone(), *claim, writing.clone()))).collect();
    for _ in 0..3 {
        let share = writing.answered.load(Ordering::SeqCst) + SHARE;
        until("appends", PATIENCE, async || (writing.answered.load(Ordering::SeqCst) > share).then_some(())).await;
        server.crash();
        server.resume().await;
    }
    writing.enough.store(true, Ordering::SeqCst);
    let written = join_all(writers).await;
    let mut entries = 0;
    for (claim, written) in claims.iter().zip(written) {
        let (written, there) =
            (written.map_err(|error| error.to_string())?, stores.journal.entries(claim.step).await.unwrap().len());
        ensure(there == written as usize, format!("step {}: {there} entries of {written}", claim.step))?;
        entries += there;
    }
    let refused = writing.refused.load(Ordering::SeqCst);
    println!("        {entries} entries through three crashes, {refused} tries refused");
    ensure(refused > 0, "no crash was noticed")
}

/// Appends between two crashes.
const SHARE: usize = 200;

/// Writers and what they have met so far.
#[derive(Default)]
struct Writing {
    answered: AtomicUsize,
    refused: AtomicUsize,
    /// Nobody begins another entry. Not a number of them: a crash that comes late would find nobody at work.
    enough: AtomicBool,
}

/// Entries one after the other, each asked for until it is taken; answers how many. What is refused is certainly not
/// there: asked again, it is new, and no conflict.
async fn write(stores: Stores, claim: Claim, writing: Arc<Writing>) -> u32 {
    let mut seq = 0;
    while !writing.enough.load(Ordering::SeqCst) {
        while let Err(error) = stores.journal.append(append(claim, seq)).await {
            assert!(matches!(error, store::Error::Unavailable(_)), "step {}, entry {seq}: {error}", claim.step);
            writing.refused.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        writing.answered.fetch_add(1, Ordering::SeqCst);
        seq += 1;
    }
    seq
}

pub(crate) async fn open(url: &str) -> (Database, Stores) {
    open_with(url, &Options::default()).await
}

async fn open_with(url: &str, options: &Options) -> (Database, Stores) {
    let database = Database::open(&url.into(), options).await.expect("the database opens");
    (database.clone(), postgres::stores(database, store::Options::default()))
}

async fn accept(stores: &Stores) -> Claim {
    accept_for(stores, Incarnation(1)).await
}

pub(crate) async fn accept_for(stores: &Stores, owner: Incarnation) -> Claim {
    match stores.tasks.accept(acceptance(owner)).await {
        Ok(Accepted::New(claim)) => claim,
        other => panic!("not accepted: {other:?}"),
    }
}

/// Something to do, never the same twice.
pub(crate) fn acceptance(owner: Incarnation) -> Acceptance {
    Acceptance {
        agent: "writer".parse().unwrap(),
        mode: ExecutionMode::Autonomous,
        spec_digest: "d".into(),
        event: Arc::new(Event::new("agent.task.writer".parse().unwrap(), "/test", json!({"text": "hi"}))),
        owner,
    }
}

/// The good end of a step, its last entry at `seq`.
pub(crate) fn completion(claim: Claim, seq: u32) -> Completion {
    Completion {
        claim,
        agent: "writer".parse().unwrap(),
        entry: entry(seq),
        outcome: Outcome::Succeeded { output: "done".into() },
        usage: Usage::default(),
    }
}

fn entry(seq: u32) -> Entry {
    let act = json!({"kind": "model_result", "completion": {
        "text": "done", "finish": "stop", "provider": "p", "model": "m",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }});
    let act: Act = serde_json::from_value(act).unwrap();
    let at = std::time::SystemTime::now().into();
    Entry { seq, attempt: 1, at, act }
}

pub(crate) fn append(claim: Claim, seq: u32) -> Append {
    Append { claim, entry: entry(seq), attempts: None, status: None }
}

pub(crate) fn ensure(holds: bool, what: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.into()) }
}
