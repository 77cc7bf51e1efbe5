//! The journal once more, on the disk that its targets are of: no sync takes less than [`USUAL`].
//!
//! What is held against a raw commit says as much of the disk as of us: where a sync costs next to nothing a raw row is little
//! but processor time, of which an entry with its key and its fences takes more. So that a ratio can be compared with the one of
//! another machine, the brake holds a quick disk to the usual one, for the raw clients and for us alike. A slower one stays as it is.
//!
//! `SQLite` syncs in the process that uses it: so the journal's figures are made by a child that is this bench once more, with the
//! brake on itself and on its private PostgreSQL, and come back as a line of JSON. A child that ends without one ends the bench.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use troupe_tests::postgres::Postgres;

use crate::brake::{Brake, PRELOAD, SLOWNESS, USUAL};
use crate::figure::Figure;
use crate::journal;

/// The child's first argument.
pub(crate) const CHILD: &str = "--on-the-usual-disk";
/// How its figures are told from those of the disk as it is.
const PREFIX: &str = "usual_";

/// A figure on its way to the parent.
#[derive(Serialize, Deserialize)]
struct Told {
    name: String,
    unit: String,
    rounds: Vec<f64>,
    baseline: Option<(String, Vec<f64>)>,
    conditions: String,
}

/// What can be asked for.
pub(crate) fn names() -> Vec<String> {
    journal::names().into_iter().map(|name| format!("{PREFIX}{name}")).collect()
}

/// All figures of this file.
pub(crate) fn measure(dir: &Path) -> Vec<Figure> {
    let Some(brake) = Brake::build() else {
        println!("skipped on the usual disk: cc could not build the shim that makes one");
        return Vec::new();
    };
    brake.set(USUAL);
    let own = std::env::current_exe().expect("the bench's own path");
    let mut command = Command::new(own);
    command.arg(CHILD).arg(dir).envs(brake.environment()).stdin(Stdio::null()).stderr(Stdio::inherit());
    let ended = command.output().expect("the bench once more");
    assert!(ended.status.success(), "the bench on the usual disk has ended: {}", ended.status);
    let syncs = brake.syncs();
    let (took, least) = (syncs.spent_ms / syncs.calls as f64, USUAL.as_secs_f64() * 1000.0);
    assert!(took >= least, "the shim is not listened to: {} syncs took {took} ms", syncs.calls);
    let told: Vec<Told> = serde_json::from_slice(&ended.stdout).expect("the child says what it measured");
    told.into_iter().map(|told| told.figure(took)).collect()
}

/// The child's life.
pub(crate) async fn child(dir: &Path, rounds: usize) {
    let inherited = [PRELOAD, SLOWNESS].map(|name| std::env::var_os(name).map(|value| (name, PathBuf::from(value))));
    let postgres = Postgres::start_with(inherited.into_iter().flatten().collect()).await;
    let figures = journal::measure(dir, postgres.as_ref(), rounds).await;
    let told: Vec<Told> = figures.into_iter().map(Told::of).collect();
    println!("{}", serde_json::to_string(&told).expect("JSON"));
}

impl Told {
    fn of(figure: Figure) -> Self {
        let Figure { name, unit, rounds, baseline, conditions } = figure;
        let baseline = baseline.map(|(name, rounds)| (name.to_owned(), rounds));
        Self { name, unit: unit.to_owned(), rounds, baseline, conditions }
    }

    /// Units and baselines are named for as long as the bench runs, as all others are.
    fn figure(self, sync_ms: f64) -> Figure {
        let Self { name, unit, rounds, baseline, conditions } = self;
        let baseline = baseline.map(|(name, rounds)| (&*name.leak(), rounds));
        let conditions = format!("{conditions}; a sync takes {sync_ms:.2} ms");
        Figure { name: format!("{PREFIX}{name}"), unit: unit.leak(), rounds, baseline, conditions }
    }
}
