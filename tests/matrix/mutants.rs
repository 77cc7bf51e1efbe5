//! The check of the checks: every store with a promise taken out must be caught, and a true one must pass.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use tempfile::TempDir;
use troupe_runtime::sqlite::{self, Database};
use troupe_runtime::store::conformance::{Cell, Harness, Raw, cases};
use troupe_runtime::store::{self, Stores};
use troupe_tests::cells::InFile;
use troupe_tests::judge::Expected;
use troupe_tests::mutant::Mutant;
use troupe_tests::tampered::{Hand, Honest, tampered};

use crate::SIDE_BY_SIDE;
use crate::life::{Storage, World};

/// Storage of one case, with a hand in it.
struct Folder {
    dir: TempDir,
    mutant: Option<Mutant>,
}

#[async_trait]
impl Harness for Folder {
    async fn open(&mut self) -> Result<Stores, String> {
        let database = Database::open(self.dir.path(), &sqlite::Options::default()).await;
        let database = database.map_err(|error| error.to_string())?;
        let stores = store::sqlite::stores(database, store::Options::default());
        let hand: Arc<dyn Hand> =
            self.mutant.map_or_else(|| Arc::new(Honest) as _, |mutant| mutant.hand(self.dir.path(), None));
        Ok(tampered(stores, hand))
    }

    async fn peek(&mut self, cell: &Cell) -> Result<Raw, String> {
        InFile::open(self.dir.path()).await.peek(cell).await
    }

    async fn poke(&mut self, cell: &Cell, raw: &Raw) -> Result<bool, String> {
        InFile::open(self.dir.path()).await.poke(cell, raw).await
    }
}

/// The first case of the conformance suite that condemns it.
async fn condemned(mutant: Option<Mutant>) -> Option<(&'static str, String)> {
    for case in cases() {
        let mut folder = Folder { dir: quick_folder().expect("a temporary folder"), mutant };
        if let Err(what) = case.run(&mut folder).await {
            return Some((case.name, what));
        }
    }
    None
}

/// In memory where there is such a folder: no process dies here, so nothing hangs on the disk.
fn quick_folder() -> std::io::Result<TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

/// Who caught a store, and what is wrong with that.
struct Trial {
    store: String,
    caught: Vec<String>,
    wrong: Vec<String>,
}

impl Trial {
    /// Nothing to catch: a checker that condemns everything would catch every mutant.
    async fn of_the_true_store() -> Self {
        let condemned = condemned(None).await.map(|(case, what)| format!("it is not passed: {case}: {what}"));
        let store = "the true store, behind a hand that changes nothing".to_owned();
        Self { store, caught: Vec::new(), wrong: condemned.into_iter().collect() }
    }

    async fn of(world: &World, mutant: Mutant) -> Self {
        let (mut caught, mut wrong) = (Vec::new(), Vec::new());
        if let Some((case, _)) = condemned(Some(mutant)).await {
            caught.push(format!("conformance: {case}"));
        }
        if let Some(point) = mutant.shows() {
            match world.kill(&Storage::Sqlite, point, Some(mutant)).await {
                Ok(seen) => match seen.verdict(&Expected::at(point)).first() {
                    Some(what) => caught.push(format!("killed {point}: {what}")),
                    None => wrong.push(format!("it is not seen when it is killed {point}")),
                },
                Err(error) => wrong.push(format!("it was not tried: {error}")),
            }
        }
        if caught.is_empty() {
            wrong.push("it survives".to_owned());
        }
        Self { store: format!("{mutant:?}: {}", mutant.what()), caught, wrong }
    }
}

/// Shows every mutant, and a true store, to the checkers; answers how many there were and what went wrong.
pub(crate) async fn check(world: &World, wanted: &str) -> (usize, Vec<String>) {
    let wanted = |mutant: &Mutant| format!("mutant {mutant:?}: {}", mutant.what()).contains(wanted);
    let mut stores: Vec<Option<Mutant>> = Mutant::ALL.into_iter().filter(wanted).map(Some).collect();
    if !stores.is_empty() {
        stores.insert(0, None);
    }
    let (cases, mut failed) = (stores.len(), Vec::new());
    let trial = async |mutant: Option<Mutant>| match mutant {
        Some(mutant) => Trial::of(world, mutant).await,
        None => Trial::of_the_true_store().await,
    };
    let mut trials = futures::stream::iter(stores).map(trial).buffered(SIDE_BY_SIDE);
    while let Some(Trial { store, caught, wrong }) = trials.next().await {
        let result = match (wrong.is_empty(), caught.is_empty()) {
            (false, _) => "FAILED",
            (true, true) => "passed",
            (true, false) => "caught",
        };
        println!("{result:<8} {store}");
        for line in caught.iter().chain(&wrong) {
            println!("             {line}");
        }
        failed.extend(wrong.into_iter().map(|what| format!("{store}: {what}")));
    }
    (cases, failed)
}
