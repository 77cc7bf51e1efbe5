//! The fence in the write itself: a node whose lease has run out, or that was ended, writes nothing for its steps,
//! whatever it still believes.
//!
//! Each node is a store of its own on the one database. Leases of no time have run out at once; nothing waits for a
//! clock. Each case gets the server and an empty database, and answers what did not hold as text.

use std::time::{Duration, Instant};

use futures::future::join_all;
use sqlx::{Connection as _, PgConnection};
use troupe_runtime::domain::agent::AgentName;
use troupe_runtime::domain::step::Incarnation;
use troupe_runtime::fault::{Fault, Faulty as _};
use troupe_runtime::store::{Append, Claim, Error, Renewal, Stores};
use troupe_tests::postgres::Postgres;
use troupe_tests::proxy::{Flow, Proxy, Way};
use troupe_tests::wait::{PATIENCE, until};

use super::server::{Run, accept_for, acceptance, append, completion, ensure, open};

const LONG: Duration = Duration::from_mins(10);
const NONE: Duration = Duration::ZERO;

pub(crate) const CASES: [(&str, Run); 6] = [
    ("a node whose lease has run out writes nothing until it is renewed", |_, url| Box::pin(run_out(url))),
    ("a node that was ended writes nothing, and goes on as another", |_, url| Box::pin(ended(url))),
    ("a node that was superseded writes nothing", |_, url| Box::pin(superseded(url))),
    ("a renewal passes between the writes that are refused", |_, url| Box::pin(mixed(url))),
    ("a node whose lease has run out ends nobody", |_, url| Box::pin(ends_nobody(url))),
    ("a node that is frozen in a transaction holds up nobody for long", |server, url| Box::pin(frozen(server, url))),
];

/// A node: its store, its life, and a step of it.
struct Node {
    stores: Stores,
    life: Incarnation,
    claim: Claim,
}

async fn node(url: &str, name: &str) -> Node {
    let (_, stores) = open(url).await;
    let life = stores.nodes.start(name, LONG).await.unwrap();
    let claim = accept_for(&stores, life).await;
    Node { stores, life, claim }
}

/// Every write that speaks for a step or an agent, and how each was answered.
async fn writes(node: &Node, epoch_of: Claim) -> Vec<(&'static str, Result<(), Error>)> {
    let Node { stores, life, .. } = node;
    let agent: AgentName = "writer".parse().unwrap();
    vec![
        ("accept", stores.tasks.accept(acceptance(*life)).await.map(drop)),
        ("append", stores.journal.append(append(epoch_of, 0)).await),
        ("claim", stores.steps.claim(epoch_of.step, epoch_of.epoch, *life).await.map(drop)),
        ("complete", stores.steps.complete(completion(epoch_of, 5)).await.map(drop)),
        ("inherit", stores.outbox.inherit(*life).await.map(drop)),
        ("memory", stores.memory.save(&agent, "s", 0, "{}").await.map(drop)),
        ("reply", stores.replies.begin(epoch_of.task).await.map(drop)),
    ]
}

async fn all_are(node: &Node, expected: &Error) -> Result<(), String> {
    for (what, answer) in writes(node, node.claim).await {
        ensure(answer.as_ref() == Err(expected), format!("{what}: {answer:?}, expected {expected:?}"))?;
    }
    Ok(())
}

/// Rows of everything that a step leaves, and its epoch.
async fn traces(url: &str) -> (i64, i64) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let count = "select (select count(*) from tasks) + (select count(*) from journal) + \
                 (select count(*) from execution_results) + (select count(*) from agent_states) + \
                 (select count(*) from replies), (select sum(epoch)::bigint from steps)";
    sqlx::query_as(count).fetch_one(&mut connection).await.unwrap()
}

/// An end that a dead life has not told, so that there is something to inherit.
async fn untold(url: &str) {
    let (_, stores) = open(url).await;
    let claim = accept_for(&stores, Incarnation(0)).await;
    stores.steps.complete(completion(claim, 0)).await.unwrap();
}

async fn run_out(url: String) -> Result<(), String> {
    untold(&url).await;
    let node = node(&url, "one").await;
    let before = traces(&url).await;
    ensure(node.stores.nodes.renew(node.life, NONE).await == Ok(Renewal::Held), "not ended")?;
    all_are(&node, &Error::Lapsed).await?;
    ensure(Error::Lapsed.fault() == Fault::transient(), "who waits may write again")?;
    node.stores.nodes.ping().await.map_err(|error| format!("a ping needs no lease: {error}"))?;
    node.stores.outbox.told(vec![1]).await.map_err(|error| format!("what was told was told: {error}"))?;
    let after = traces(&url).await;
    ensure(before == after, format!("it has left traces: {before:?}, {after:?}"))?;
    ensure(node.stores.nodes.renew(node.life, LONG).await == Ok(Renewal::Held), "renewed late")?;
    for (what, answer) in writes(&node, node.claim).await {
        // The claim in the middle raises the epoch: the completion after it is fenced, by the epoch.
        let good = answer == Ok(()) || (what == "complete" && answer == Err(Error::Fenced(node.claim.step)));
        ensure(good, format!("{what} after the renewal: {answer:?}"))?;
    }
    Ok(())
}

async fn ended(url: String) -> Result<(), String> {
    untold(&url).await;
    let (one, two) = (node(&url, "one").await, node(&url, "two").await);
    one.stores.nodes.renew(one.life, NONE).await.unwrap();
    let gone = two.stores.nodes.end_expired(two.life).await.unwrap();
    ensure(gone == [one.life], format!("ended {gone:?}"))?;
    let before = traces(&url).await;
    // Nobody has taken its step over yet: it is the node that is over, not only its claim.
    all_are(&one, &Error::Over).await?;
    ensure(Error::Over.fault() == Fault::Fenced, "whoever hears it stops")?;
    ensure(before == traces(&url).await, "it has left traces")?;
    let orphans = two.stores.steps.orphans(0, 10).await.unwrap();
    let steps: Vec<_> = orphans.iter().map(|orphan| orphan.step.id).collect();
    ensure(steps == [one.claim.step], format!("orphans {steps:?}"))?;
    let taken = two.stores.steps.claim(one.claim.step, one.claim.epoch, two.life).await.unwrap().unwrap();

    ensure(one.stores.nodes.renew(one.life, LONG).await == Ok(Renewal::TakenOver), "it hears of it")?;
    let next = one.stores.nodes.resume(one.life, LONG).await.unwrap().unwrap();
    ensure(next > two.life, "another incarnation")?;
    let late = one.stores.journal.append(append(one.claim, 0)).await;
    ensure(late == Err(Error::Fenced(one.claim.step)), format!("under the old epoch: {late:?}"))?;
    two.stores.journal.append(append(taken, 0)).await.map_err(|error| error.to_string())?;
    accept_for(&one.stores, next).await;
    Ok(())
}

async fn superseded(url: String) -> Result<(), String> {
    untold(&url).await;
    let first = node(&url, "one").await;
    let second = node(&url, "one").await;
    all_are(&first, &Error::Over).await?;
    ensure(first.stores.nodes.renew(first.life, LONG).await == Ok(Renewal::Superseded), "it hears of it")?;
    second.stores.journal.append(append(second.claim, 0)).await.map_err(|error| error.to_string())
}

/// All at once, so that they share transactions: what is under the lease is refused, what is not goes through.
async fn mixed(url: String) -> Result<(), String> {
    let node = node(&url, "one").await;
    let mut claims = Vec::new();
    for _ in 0..40 {
        claims.push(accept_for(&node.stores, node.life).await);
    }
    for _ in 0..10 {
        node.stores.nodes.renew(node.life, NONE).await.unwrap();
        let appends = join_all(claims.iter().map(|claim| node.stores.journal.append(append(*claim, 0))));
        let pings = join_all((0..10).map(|_| node.stores.nodes.ping()));
        let (appends, pings) = tokio::join!(appends, pings);
        let refused = appends.iter().all(|answer| *answer == Err(Error::Lapsed));
        ensure(refused && pings.iter().all(Result::is_ok), format!("{appends:?}, {pings:?}"))?;
    }
    node.stores.nodes.renew(node.life, LONG).await.unwrap();
    let appends = join_all(claims.iter().map(|claim| node.stores.journal.append(append(*claim, 0)))).await;
    ensure(appends.iter().all(Result::is_ok), format!("after the renewal: {appends:?}"))
}

async fn ends_nobody(url: String) -> Result<(), String> {
    let (one, two) = (node(&url, "one").await, node(&url, "two").await);
    for node in [&one, &two] {
        node.stores.nodes.renew(node.life, NONE).await.unwrap();
    }
    let ended = one.stores.nodes.end_expired(one.life).await;
    ensure(ended == Err(Error::Lapsed), format!("{ended:?}"))?;
    ensure(two.stores.nodes.renew(two.life, LONG).await == Ok(Renewal::Held), "two is ended")
}

/// Its line is held between an entry and the commit: the entry's step is locked by a transaction that nobody ends. The
/// server ends it, and the step is taken over without the entry.
async fn frozen(server: &Postgres, url: String) -> Result<(), String> {
    let proxy = Proxy::start(server.port()).await;
    let two = node(&url, "two").await;
    let one = node(&url.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port())), "one").await;
    // An entry that changes its step too is no single statement. Once, so that its statements are known to the server and
    // the next time each is executed in one go.
    let begins = |seq| Append { attempts: Some(2), ..append(one.claim, seq) };
    one.stores.journal.append(begins(0)).await.map_err(|error| error.to_string())?;
    let mut watcher = PgConnection::connect(&url).await.unwrap();
    proxy.flow(Way::ToServer, Flow::Delay(Duration::from_millis(300)));
    let (journal, entry) = (one.stores.journal.clone(), begins(1));
    let appending = tokio::spawn(async move { journal.append(entry).await });
    let waits =
        "select 1 from pg_stat_activity where state = 'idle in transaction' and query like '%insert into journal%'";
    until("an entry without its commit", PATIENCE, async || {
        sqlx::query(waits).fetch_optional(&mut watcher).await.unwrap()
    })
    .await;
    proxy.flows(Flow::Hold);
    let frozen = Instant::now();
    let lapse = "update nodes set lease_until = now() where name = 'one'";
    sqlx::query(lapse).execute(&mut watcher).await.unwrap();
    let ended = two.stores.nodes.end_expired(two.life).await;
    ensure(ended == Ok(vec![one.life]), format!("ended {ended:?}"))?;
    let taken = until("the step to be taken over", PATIENCE, async || {
        two.stores.steps.claim(one.claim.step, one.claim.epoch, two.life).await.ok().flatten()
    })
    .await;
    println!("        a step that a frozen transaction had locked was taken over after {:?}", frozen.elapsed());
    ensure(frozen.elapsed() < Duration::from_secs(12), "it took too long")?;
    two.stores.journal.append(append(taken, 1)).await.map_err(|error| error.to_string())?;
    proxy.flows(Flow::Pass);
    let late = appending.await.map_err(|error| error.to_string())?;
    ensure(late.is_err(), "the frozen entry was committed")?;
    let entries = two.stores.journal.entries(taken.step).await.unwrap().len();
    ensure(entries == 2, format!("{entries} entries"))
}
