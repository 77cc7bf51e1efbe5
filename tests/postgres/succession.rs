//! A transaction that is begun along with the commit of the one before, because somebody waits for it: what becomes of both when
//! the line is cut there, at every byte.
//!
//! The first append of each round is held at a lock until the others wait behind it, so its commit has the next transaction's BEGIN with it.

use std::time::Duration;

use futures::future::join_all;
use sqlx::{Connection as _, PgConnection};
use troupe_runtime::domain::step::Incarnation;
use troupe_runtime::postgres::Database;
use troupe_runtime::store::{self, Claim, Stores};
use troupe_tests::postgres::Postgres;
use troupe_tests::proxy::{Cut, Proxy, Way};
use troupe_tests::wait::{PATIENCE, until};

use super::server::{Run, accept_for, acceptance, append, ensure, held, open};

pub(crate) const CASES: [(&str, Run); 3] = [
    ("a commit with the next transaction's beginning, unheard", |server, url| Box::pin(cut(server, url, Cut::Unheard))),
    ("one whose answer is lost", |server, url| Box::pin(cut(server, url, Cut::Unanswered))),
    ("one whose answer comes in part", |server, url| Box::pin(in_part(server, url))),
];

/// Steps of a round; all but the first are in the transaction that is begun along with a commit.
const STEPS: usize = 4;
/// As such a commit goes to the server.
const BOTH: &[u8] = b"commit;begin";
/// The answers to the append and to both are shorter.
const ANSWER_BYTES_MAX: usize = 400;

/// A node behind a line that can be cut, and somebody beside it.
struct Scene {
    proxy: Proxy,
    database: Database,
    stores: Stores,
    direct: Stores,
    server: PgConnection,
    holder: PgConnection,
}

impl Scene {
    async fn new(server: &Postgres, url: &str) -> Self {
        let proxy = Proxy::start(server.port()).await;
        let (database, stores) = open(&server.through(&proxy, url)).await;
        let connected = async || PgConnection::connect(url).await.unwrap();
        Self {
            proxy,
            database,
            stores,
            direct: open(url).await.1,
            server: connected().await,
            holder: connected().await,
        }
    }

    /// Appends to so many steps, the first before the others, and has the line cut there; answers who was told what.
    async fn round(&mut self, cut: Cut) -> Vec<(Claim, Result<(), store::Error>)> {
        let mut claims = Vec::new();
        for _ in 0..STEPS {
            claims.push(accept_for(&self.direct, Incarnation(1)).await);
        }
        sqlx::raw_sql("begin; select 1 from steps for update").execute(&mut self.holder).await.unwrap();
        let add = |claim: &Claim| self.stores.journal.append(append(*claim, 0));
        let rest = async {
            held(&mut self.server).await;
            let go = async {
                let all = STEPS - 1;
                until("the others", PATIENCE, async || (self.database.writer().depth() == all).then_some(())).await;
                self.proxy.arm(cut);
                sqlx::raw_sql("commit").execute(&mut self.holder).await.unwrap();
            };
            tokio::join!(join_all(claims[1..].iter().map(add)), go).0
        };
        let (first, rest) = tokio::join!(add(&claims[0]), rest);
        claims.into_iter().zip(std::iter::once(first).chain(rest)).collect()
    }

    /// Whoever was told that it is there finds it there, whoever was refused does not, and may ask again.
    async fn holds(&mut self, told: &[(Claim, Result<(), store::Error>)]) -> Result<(), String> {
        for (claim, told) in told {
            let there = self.direct.journal.entries(claim.step).await.unwrap().len();
            match told {
                Ok(()) => ensure(there == 1, format!("it was answered, and {there} are there"))?,
                Err(store::Error::Unavailable(_)) => {
                    ensure(there == 0, format!("{told:?}, and {there} are there"))?;
                    let asked = async || self.stores.journal.append(append(*claim, 0)).await.is_ok().then_some(());
                    until("the server again", PATIENCE, asked).await;
                }
                Err(error) => return Err(format!("refused for another reason: {error}")),
            }
        }
        // The line may be gone since without anybody having noticed.
        let accepted = async || self.stores.tasks.accept(acceptance(Incarnation(1))).await.is_ok().then_some(());
        until("the server again", PATIENCE, accepted).await;
        // What is open and unused would hold up whoever cleans the tables.
        let open = "select exists (select 1 from pg_stat_activity where state like 'idle in transaction%' and pid <> pg_backend_pid())";
        let server = &mut self.server;
        until("nothing to be left open", PATIENCE, async || {
            (!sqlx::query_scalar::<_, bool>(open).fetch_one(&mut *server).await.unwrap()).then_some(())
        })
        .await;
        Ok(())
    }
}

async fn cut(server: &Postgres, url: String, cut: fn(Way, Vec<u8>) -> Cut) -> Result<(), String> {
    let mut scene = Scene::new(server, &url).await;
    for _ in 0..5 {
        let told = scene.round(cut(Way::ToServer, BOTH.to_vec())).await;
        ensure(!scene.proxy.armed(), "no commit had the next one's beginning with it")?;
        let is_heard = matches!(cut(Way::ToServer, Vec::new()), Cut::Unanswered(..));
        ensure(told[0].1.is_ok() == is_heard, format!("heard {is_heard}: {told:?}"))?;
        scene.holds(&told).await?;
    }
    Ok(())
}

/// Every byte of the answers, a few at a time; long, each of them.
async fn in_part(server: &Postgres, url: String) -> Result<(), String> {
    let mut scene = Scene::new(server, &url).await;
    let step = if std::env::var("TROUPE_CHAOS").is_ok_and(|how| how == "long") { 1 } else { 9 };
    let (mut first_only, mut neither) = (0, 0);
    for bytes in (1..ANSWER_BYTES_MAX).step_by(step) {
        let told = scene.round(Cut::After(Way::ToClient, bytes)).await;
        // There may have been fewer.
        scene.proxy.disarm();
        match (&told[0].1, &told[1].1) {
            (Ok(()), Err(_)) => first_only += 1,
            (Err(_), _) => neither += 1,
            (Ok(()), Ok(())) => {}
        }
        scene.holds(&told).await.map_err(|error| format!("cut after {bytes} bytes: {error}"))?;
    }
    // The answer to the append before its commit; and what follows the commit's.
    ensure(neither > 0 && first_only > 0, format!("{neither} rounds without any, {first_only} with the first alone"))?;
    tokio::time::timeout(Duration::from_secs(5), scene.database.close())
        .await
        .map_err(|_| "it does not close".to_owned())
}
