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
        let mut folder = Folder { dir: tempfile::tempdir().expect("a temporary folder"), mutant };
        if let Err(what) = case.run(&mut folder).await {
            return Some((case.name, what));
        }
    }
    None
}

/// Who caught a mutant, and what should have and did not.
struct Trial {
    mutant: Mutant,
    caught: Vec<String>,
    missed: Vec<String>,
}

async fn trial(world: &World, mutant: Mutant) -> Trial {
    let (mut caught, mut missed) = (Vec::new(), Vec::new());
    if let Some((case, _)) = condemned(Some(mutant)).await {
        caught.push(format!("conformance: {case}"));
    }
    if let Some(point) = mutant.shows() {
        match world.kill(&Storage::Sqlite, point, Some(mutant)).await {
            Ok(seen) => match seen.verdict(&Expected::at(point)).first() {
                Some(wrong) => caught.push(format!("killed {point}: {wrong}")),
                None => missed.push(format!("{mutant:?} is not seen when it is killed {point}")),
            },
            Err(error) => missed.push(format!("{mutant:?} was not tried: {error}")),
        }
    }
    if caught.is_empty() {
        missed.push(format!("{mutant:?} survives: {}", mutant.what()));
    }
    Trial { mutant, caught, missed }
}

/// Shows every mutant to the checkers; answers how many there were and what went wrong.
pub(crate) async fn check(world: &World, wanted: &str) -> (usize, Vec<String>) {
    let wanted = |mutant: &Mutant| format!("mutant {mutant:?}: {}", mutant.what()).contains(wanted);
    let mutants: Vec<Mutant> = Mutant::ALL.into_iter().filter(wanted).collect();
    let (cases, mut failed) = (mutants.len(), Vec::new());
    if cases > 0 {
        match condemned(None).await {
            None => println!("passed   the true store, behind a hand that changes nothing"),
            Some((case, what)) => failed.push(format!("the true store is not passed: {case}: {what}")),
        }
    }
    let mut trials = futures::stream::iter(mutants).map(|mutant| trial(world, mutant)).buffered(SIDE_BY_SIDE);
    while let Some(Trial { mutant, caught, missed }) = trials.next().await {
        let result = if missed.is_empty() { "caught" } else { "FAILED" };
        println!("{result:<8} {mutant:?}: {}", mutant.what());
        for line in caught.iter().chain(&missed) {
            println!("             {line}");
        }
        failed.extend(missed);
    }
    (cases, failed)
}
