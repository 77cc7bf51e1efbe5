//! Two processes race for one step, a thousand times: every epoch has one winner, and epochs rise by one.
//!
//! The racers are this very program, started again with [`ADDRESS`] set: each opens the database for itself, lives as a
//! node of its own and claims whatever epoch it sees. What they say they have won is held against what the database
//! has seen: a trigger writes down every change of an epoch, in the order in which they became true.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use troupe_runtime::domain::ids::TaskId;
use troupe_runtime::domain::step::Epoch;

use super::server::{Run, accept_for, ensure, open};

pub(crate) const CASES: [(&str, Run); 1] =
    [("two processes race 1,000 claims: one winner per epoch, epochs strictly rise", |_, url| Box::pin(race(url)))];

/// Where a racer finds the database; set for racers only.
const ADDRESS: &str = "TROUPE_TEST_RACER";
const TASK: &str = "TROUPE_TEST_RACER_TASK";
/// Claims in all, and the epoch after the last one: a step begins with the first.
const CLAIMS: i64 = 1_000;
const LAST: Epoch = Epoch(CLAIMS + 1);
/// Claimers of one process.
const CLAIMERS: usize = 2;
const TTL: Duration = Duration::from_mins(10);

/// Writes down who has raised which epoch.
const WITNESS: &str = "\
    create table witness (place bigserial primary key, epoch bigint not null, owner bigint not null); \
    create function witness() returns trigger language plpgsql as $$ begin \
        insert into witness (epoch, owner) values (new.epoch, new.owner); return null; end $$; \
    create trigger witness after update on steps for each row when (old.epoch <> new.epoch) \
        execute function witness();";

/// The racer that this process is, when it is one.
pub(crate) fn racer() -> Option<(String, TaskId)> {
    let task = std::env::var(TASK).ok()?;
    let task = serde_json::from_value(task.into()).expect("the id of a task");
    Some((std::env::var(ADDRESS).ok()?, task))
}

/// One racer: says that it is there, waits for a line, and prints the epochs it has won and how often it was too late.
pub(crate) async fn run((url, task): (String, TaskId)) {
    let (_, stores) = open(&url).await;
    let own = stores.nodes.start(&format!("racer-{}", std::process::id()), TTL).await.unwrap();
    println!("{}", own.0);
    let mut go = String::new();
    std::io::stdin().read_line(&mut go).unwrap();
    let claimers = (0..CLAIMERS).map(|_| {
        let stores = stores.clone();
        tokio::spawn(async move {
            let (mut won, mut late) = (Vec::new(), 0_u32);
            loop {
                let step = stores.tasks.task(task).await.unwrap().unwrap().steps.remove(0);
                if step.epoch >= LAST {
                    return (won, late);
                }
                match stores.steps.claim(step.id, step.epoch, own).await.unwrap() {
                    Some(claim) => won.push(claim.epoch.0),
                    None => late += 1,
                }
            }
        })
    });
    let (mut won, mut late) = (Vec::new(), 0);
    for claimer in claimers.collect::<Vec<_>>() {
        let (of_one, of_one_late) = claimer.await.unwrap();
        won.extend(of_one);
        late += of_one_late;
    }
    println!("{}", serde_json::json!({"won": won, "late": late}));
}

/// A racer as its starter sees it. One whose starter is gone reads the end of its input, and ends with the race.
struct Racer {
    process: Child,
    says: BufReader<ChildStdout>,
    life: i64,
}

impl Racer {
    fn start(url: &str, task: TaskId) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env(ADDRESS, url).env(TASK, task.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("this program starts again");
        let mut racer = Self { says: BufReader::new(process.stdout.take().expect("its output")), process, life: 0 };
        racer.life = racer.line().trim().parse().expect("its life");
        racer
    }

    fn go(&mut self) {
        self.process.stdin.take().expect("its input").write_all(b"go\n").expect("it listens");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("a line");
        line
    }

    /// The epochs that it has won, and how often it came too late.
    fn ended(mut self) -> (Vec<i64>, u64) {
        let said: serde_json::Value = serde_json::from_str(&self.line()).expect("what it has won");
        assert!(self.process.wait().expect("its end").success(), "a racer failed");
        let won = said["won"].as_array().expect("a list").iter().filter_map(serde_json::Value::as_i64).collect();
        (won, said["late"].as_u64().expect("a count"))
    }
}

async fn race(url: String) -> Result<(), String> {
    let (_, stores) = open(&url).await;
    let own = stores.nodes.start("starter", TTL).await.unwrap();
    let claim = accept_for(&stores, own).await;
    let mut witness = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(WITNESS)).execute(&mut witness).await.unwrap();

    let (mut one, mut two) = (Racer::start(&url, claim.task), Racer::start(&url, claim.task));
    let lives = [one.life, two.life];
    let begun = Instant::now();
    one.go();
    two.go();
    let ((of_one, late_one), (of_two, late_two)) = (one.ended(), two.ended());
    println!(
        "        {CLAIMS} claims in {:.1} s: {} and {} won, {late_one} and {late_two} came too late",
        begun.elapsed().as_secs_f64(),
        of_one.len(),
        of_two.len()
    );

    let seen: Vec<(i64, i64)> =
        sqlx::query_as("select epoch, owner from witness order by place").fetch_all(&mut witness).await.unwrap();
    let expected: Vec<i64> = (2..=LAST.0).collect();
    let epochs: Vec<i64> = seen.iter().map(|(epoch, _)| *epoch).collect();
    ensure(epochs == expected, format!("epochs as the database saw them: {epochs:?}"))?;
    for (life, won) in lives.into_iter().zip([&of_one, &of_two]) {
        ensure(!won.is_empty() && won.len() < expected.len(), format!("{life} won {}: no race", won.len()))?;
        let as_seen: BTreeSet<i64> = seen.iter().filter(|(_, owner)| *owner == life).map(|(epoch, _)| *epoch).collect();
        let said: BTreeSet<i64> = won.iter().copied().collect();
        ensure(said.len() == won.len(), format!("{life} won an epoch twice"))?;
        ensure(said == as_seen, format!("{life} says {said:?}, the database {as_seen:?}"))?;
    }
    ensure(of_one.len() + of_two.len() == expected.len(), "an epoch has two winners, or none")?;
    ensure(late_one + late_two > 0, "nobody came too late: no race")
}
