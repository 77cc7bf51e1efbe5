//! What every store does: cases that an adapter runs unchanged, against storage of its own.
//!
//! An adapter gives a [`Harness`] and runs each of [`cases`] on a fresh one. A case returns what did not hold as text; it
//! never panics, for the tests crate runs the same cases against real servers and reports them all. Nothing here names
//! an adapter.

mod cell;
mod damage;
mod forks;
mod inbox;
mod journal;
mod leases;
mod outbox;
mod records;
mod replies;
mod results;
mod retention;
mod sample;
mod steps;

use std::fmt::Debug;

use async_trait::async_trait;
use futures::future::BoxFuture;

pub use self::cell::{Cell, Dialect, Raw};
use super::{Error, Stores};

/// Storage of one case.
#[async_trait]
pub trait Harness: Send {
    /// Opens the storage, empty the first time. A case that calls this again has dropped what it had, without a
    /// goodbye: what was answered must be there, as after a crash.
    ///
    /// # Errors
    /// Why it could not be opened, as text.
    async fn open(&mut self) -> Result<Stores, String>;

    /// Reads a cell behind the stores' back.
    ///
    /// # Errors
    /// When there is no such cell, as text.
    async fn peek(&mut self, cell: &Cell) -> Result<Raw, String>;

    /// Writes a cell behind the stores' back, as a fault of the disk or a stranger would; `false` when the database
    /// could never come to hold this.
    ///
    /// # Errors
    /// When there is no such cell, as text.
    async fn poke(&mut self, cell: &Cell, raw: &Raw) -> Result<bool, String>;
}

/// One behaviour.
pub struct Case {
    /// What holds, as a sentence.
    pub name: &'static str,
    run: fn(&mut dyn Harness) -> BoxFuture<'_, Verdict>,
}

impl Case {
    /// Runs the case on a fresh harness.
    ///
    /// # Errors
    /// What did not hold.
    pub async fn run(&self, harness: &mut dyn Harness) -> Result<(), String> {
        (self.run)(harness).await.map_err(|failed| failed.0)
    }
}

/// Every case.
#[must_use]
pub fn cases() -> Vec<Case> {
    let cases = [inbox::cases(), steps::cases(), leases::cases(), journal::cases(), results::cases()];
    cases
        .into_iter()
        .chain([outbox::cases(), replies::cases(), records::cases(), damage::cases(), retention::cases()])
        .chain([forks::cases()])
        .flatten()
        .collect()
}

/// A case, from its sentence and its function.
macro_rules! case {
    ($name:literal, $run:path) => {
        crate::store::conformance::Case { name: $name, run: |harness| Box::pin($run(harness)) }
    };
}
use case;

/// Why a case did not hold.
struct Failed(String);

type Verdict = Result<(), Failed>;

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(format!("unexpected error: {error}"))
    }
}

async fn open(harness: &mut dyn Harness) -> Result<Stores, Failed> {
    harness.open().await.map_err(|error| Failed(format!("the store does not open: {error}")))
}

/// Drops the stores and opens them again.
async fn reopen(harness: &mut dyn Harness, stores: Stores) -> Result<Stores, Failed> {
    drop(stores);
    open(harness).await
}

fn ensure(holds: bool, what: impl Into<String>) -> Verdict {
    if holds { Ok(()) } else { Err(Failed(what.into())) }
}

fn equal<T: Debug + PartialEq>(what: &str, found: &T, expected: &T) -> Verdict {
    ensure(found == expected, format!("{what}: found {found:?}, expected {expected:?}"))
}

fn some<T>(what: &str, found: Option<T>) -> Result<T, Failed> {
    found.ok_or_else(|| Failed(format!("{what}: nothing is there")))
}

fn fenced<T: Debug>(what: &str, result: &Result<T, Error>) -> Verdict {
    ensure(matches!(result, Err(Error::Fenced(_))), format!("{what}: {result:?} is not fenced"))
}

fn conflict<T: Debug>(what: &str, result: &Result<T, Error>) -> Verdict {
    ensure(matches!(result, Err(Error::Conflict(_))), format!("{what}: {result:?} is no conflict"))
}
