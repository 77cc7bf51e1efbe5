//! A slow disk: how much of the journal's rate is left when a sync takes 4 ms where it took 0.14, and what is left of raw commits.
//!
//! Group commit is proven by it: who commits for many at once waits for few syncs. The brake lies on a private
//! PostgreSQL, and for `SQLite` on a child that is this bench once more and does as it is told, a line at a time; both
//! are quick and slow by turns, in the same rounds, on the same data.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use troupe_tests::postgres::Postgres;

use crate::brake::{Brake, USUAL};
use crate::figure::{Figure, median};
use crate::load::closed_loop;
use crate::state::{Appender, State};

/// What is measured on each database.
const NAMES: [&str; 3] = ["slow_appends_256", "slow_appends_1024", "slow_commits_1"];
/// The child's first argument.
pub(crate) const CHILD: &str = "--as-told";

/// What a sync takes on the slow disk.
const SLOW: Duration = Duration::from_millis(4);
const LOAD: Duration = Duration::from_millis(600);
const BASELINE: Duration = Duration::from_millis(300);
/// Steps at once: a full transaction of them, and four.
const APPENDERS: [usize; 2] = [256, 1024];

/// One database under the brake, and what it did.
struct Subject {
    name: &'static str,
    brake: Brake,
    hands: Hands,
    quick: Vec<Did>,
    slow: Vec<Did>,
}

/// Who does the work.
enum Hands {
    Own { workshop: Box<Workshop>, _server: Postgres },
    Child { child: Child, orders: ChildStdin, answers: BufReader<ChildStdout> },
}

/// A database and who appends to it.
struct Workshop {
    state: State,
    appenders: Vec<Vec<Appender>>,
}

/// One half of a round.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Did {
    commits: f64,
    /// By the number of steps at once.
    appends: [f64; APPENDERS.len()],
    /// Writes a transaction, while appending.
    batch: [f64; APPENDERS.len()],
    /// Milliseconds that a sync took.
    #[serde(default)]
    sync_ms: f64,
}

/// What can be asked for.
pub(crate) fn names() -> Vec<String> {
    NAMES.iter().flat_map(|name| ["sqlite", "postgres"].map(|on| format!("{name}_{on}"))).collect()
}

/// All figures of this file.
pub(crate) async fn measure(dir: &Path, rounds: usize) -> Vec<Figure> {
    let Some(mut subjects) = subjects(dir).await else {
        return Vec::new();
    };
    for round in 0..=rounds {
        for subject in &mut subjects {
            let (quick, slow) = (subject.half(USUAL).await, subject.half(SLOW).await);
            assert!(
                slow.sync_ms >= SLOW.as_secs_f64() * 1000.0,
                "{}: the shim is not listened to: syncs took {} ms",
                subject.name,
                slow.sync_ms
            );
            // The first round warms caches and statements.
            if round > 0 {
                subject.quick.push(quick);
                subject.slow.push(slow);
            }
        }
    }
    subjects.into_iter().flat_map(Subject::figures).collect()
}

/// The child's life: a line in, a line out.
pub(crate) async fn as_told(dir: &Path) {
    let mut workshop = Workshop::new(State::sqlite(dir, 1).await).await;
    for line in std::io::stdin().lines() {
        if line.is_err() {
            break;
        }
        let did = workshop.half().await;
        println!("{}", serde_json::to_string(&did).expect("JSON"));
    }
    workshop.state.close().await;
}

async fn subjects(dir: &Path) -> Option<Vec<Subject>> {
    let (Some(for_child), Some(for_server)) = (Brake::build(), Brake::build()) else {
        println!("skipped on a slow disk: cc could not build the shim that makes one");
        return None;
    };
    let mut subjects = vec![Subject::new("sqlite", Hands::child(dir, &for_child), for_child)];
    if let Some(server) = Postgres::start_with(for_server.environment().into()).await {
        let state = State::postgres(&server.create("slow").await, 1).await;
        let hands = Hands::Own { workshop: Box::new(Workshop::new(state).await), _server: server };
        subjects.push(Subject::new("postgres", hands, for_server));
    }
    Some(subjects)
}

impl Subject {
    const fn new(name: &'static str, hands: Hands, brake: Brake) -> Self {
        Self { name, brake, hands, quick: Vec::new(), slow: Vec::new() }
    }

    /// Commits and appends, at this speed.
    async fn half(&mut self, at_least: Duration) -> Did {
        self.brake.set(at_least);
        let before = self.brake.syncs();
        let did = match &mut self.hands {
            Hands::Own { workshop, .. } => workshop.half().await,
            Hands::Child { orders, answers, .. } => {
                writeln!(orders, "half").expect("the child listens");
                let mut line = String::new();
                answers.read_line(&mut line).expect("the child answers");
                serde_json::from_str(&line).expect("the child says what it did")
            }
        };
        let now = self.brake.syncs();
        let calls = now.calls - before.calls;
        assert!(calls > 0, "{}: the shim is not listened to: it saw no sync", self.name);
        Did { sync_ms: (now.spent_ms - before.spent_ms) / calls as f64, ..did }
    }

    fn figures(self) -> Vec<Figure> {
        let of = |halves: &[Did], what: fn(&Did) -> f64| halves.iter().map(what).collect::<Vec<_>>();
        let middle = |halves: &[Did], what: fn(&Did) -> f64| median(&of(halves, what));
        let syncs = format!(
            "a sync takes {:.2} ms instead of {:.2}",
            middle(&self.slow, |did| did.sync_ms),
            middle(&self.quick, |did| did.sync_ms)
        );
        let batches = |of_half: fn(&Did) -> f64| {
            let (slow, quick) = (middle(&self.slow, of_half), middle(&self.quick, of_half));
            format!("{slow:.0} writes a transaction instead of {quick:.0}")
        };
        let figure = |what: &str, unit, of_half: fn(&Did) -> f64, conditions| Figure {
            name: format!("{what}_{}", self.name),
            unit,
            rounds: of(&self.slow, of_half),
            baseline: Some(("on the usual disk", of(&self.quick, of_half))),
            conditions,
        };
        let conditions =
            |number: usize, of_half: fn(&Did) -> f64| format!("{number} steps at once; {syncs}; {}", batches(of_half));
        vec![
            figure(NAMES[0], "appends/s", |did| did.appends[0], conditions(APPENDERS[0], |did| did.batch[0])),
            figure(NAMES[1], "appends/s", |did| did.appends[1], conditions(APPENDERS[1], |did| did.batch[1])),
            figure(NAMES[2], "commits/s", |did| did.commits, format!("one raw client; {syncs}")),
        ]
    }
}

impl Workshop {
    async fn new(state: State) -> Self {
        let mut appenders = Vec::new();
        for number in APPENDERS {
            appenders.push(state.appenders(number).await);
        }
        Self { state, appenders }
    }

    async fn half(&mut self) -> Did {
        let commits = self.state.raw.rate(BASELINE).await;
        let mut did = Did { commits, appends: [0.0; APPENDERS.len()], batch: [0.0; APPENDERS.len()], sync_ms: 0.0 };
        for (number, appenders) in self.appenders.iter_mut().enumerate() {
            let before = self.state.written();
            let (back, load) = closed_loop(std::mem::take(appenders), LOAD).await;
            *appenders = back;
            let now = self.state.written();
            let transactions = (now.transactions - before.transactions) as f64;
            did.appends[number] = load.rate;
            did.batch[number] = (now.operations - before.operations) as f64 / transactions;
        }
        did
    }
}

impl Hands {
    fn child(dir: &Path, brake: &Brake) -> Self {
        let own = std::env::current_exe().expect("the bench's own path");
        let mut command = Command::new(own);
        command.arg(CHILD).arg(dir).envs(brake.environment()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the bench once more");
        let orders = child.stdin.take().expect("a pipe");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        Self::Child { child, orders, answers }
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        if let Self::Child { child, .. } = self {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
