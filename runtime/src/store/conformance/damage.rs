//! Rows that somebody has damaged: each is noticed, named, and in nobody's way.
//!
//! A case changes cells behind the store's back through its harness: one byte by chance (the seed stands in what a
//! failed case says, `TROUPE_SEED` runs it again), or a whole cell on purpose. The same for texts that lie there as they
//! are and for those that are packed.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::cell::{Cell, Raw, Row};
use super::sample::{LIFE, acceptance, accepted, append, completion, entry, failure, spec, task, tool_result, turn};
use super::{Case, Failed, Harness, Verdict, case, ensure, equal, open, reopen, some};
use crate::domain::agent::AgentName;
use crate::domain::event::Event;
use crate::domain::ids::{StepId, TaskId};
use crate::domain::journal::Act;
use crate::domain::outcome::Outcome;
use crate::store::{Acceptance, Claim, Completion, Damage, Error, Remembered, TaskFilter, payload};

/// Flips of one text.
const FLIPS: usize = 48;

pub(super) fn cases() -> Vec<Case> {
    vec![
        case!("payloads of every size come back, packed or not", sizes),
        case!("no flipped byte of an event goes unnoticed", event_flips),
        case!("no flipped byte of an entry goes unnoticed", entry_flips),
        case!("no flipped byte of a result goes unnoticed", result_flips),
        case!("no flipped byte of a memory goes unnoticed", memory_flips),
        case!("a memory that is known is not read again, however damaged", memory_known),
        case!("no flipped byte of a spec goes unnoticed", spec_flips),
        case!("a damaged row stands in nobody's way", isolated),
        case!("rows from before the checksums are read as they are", before),
        case!("an unknown version or codec says what to do", unknown),
        case!("a row that would unfold to more than it says is refused", bomb),
    ]
}

/// A text of a form: short enough to lie there as it is, or long enough to be packed.
fn words(packed: bool) -> String {
    "What is the time? ".repeat(if packed { 600 } else { 3 })
}

fn asked(packed: bool) -> Result<Acceptance, Failed> {
    let asked = acceptance("writer")?;
    let event = Event { data: json!({"text": words(packed)}).into(), ..(*asked.event).clone() };
    Ok(Acceptance { event: event.into(), ..asked })
}

fn answered(claim: Claim, seq: u32, packed: bool) -> Result<Completion, Failed> {
    let text = words(packed);
    let end = completion(claim, "writer", seq)?;
    Ok(Completion { entry: entry(seq, turn(&text)), outcome: Outcome::Succeeded { output: text }, ..end })
}

/// The damage that a call has met.
fn damage<T>(what: &str, result: Result<T, Error>) -> Result<Damage, Failed> {
    match result {
        Err(Error::Corrupt(damage)) => Ok(damage),
        Err(other) => Err(Failed(format!("{what}: {other}"))),
        Ok(_) => Err(Failed(format!("{what}: it was read as if nothing had happened"))),
    }
}

fn entries_damage<T>(what: &str, result: Result<T, Error>, table: &str, step: StepId, seq: u32) -> Verdict {
    let found = damage(what, result)?;
    let expected = (table, format!("step {step}"), Some(seq));
    equal(what, &(found.table, found.row.clone(), found.entry), &expected)
}

/// Chance that can be had again.
struct Chance {
    seed: u64,
    rng: StdRng,
}

impl Chance {
    fn new() -> Self {
        let given = std::env::var("TROUPE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(rand::random);
        Self { seed, rng: StdRng::seed_from_u64(seed) }
    }

    fn says(&self, result: Verdict) -> Verdict {
        result.map_err(|Failed(what)| Failed(format!("TROUPE_SEED={}: {what}", self.seed)))
    }

    /// Flips bits of one byte of the row's text, wherever it lies; answers the cell as it was.
    async fn flip(&mut self, harness: &mut dyn Harness, row: &Row) -> Result<(Cell, Raw, String), Failed> {
        let packed = if matches!(row, Row::Spec(_)) { Raw::Null } else { peek(harness, row, "packed").await? };
        let column = if packed == Raw::Null { row.text() } else { "packed" };
        let cell = row.clone().cell(column);
        let whole = harness.peek(&cell).await.map_err(Failed)?;
        loop {
            let mut broken = whole.clone();
            let (Raw::Text(bytes) | Raw::Bytes(bytes)) = &mut broken else {
                return Err(Failed(format!("{cell:?} holds {whole:?}")));
            };
            let (at, mask) = (self.rng.random_range(0..bytes.len()), self.rng.random_range(1..=255_u8));
            bytes[at] ^= mask;
            // What a database does not even take back is no damage that it could come to hold.
            if harness.poke(&cell, &broken).await.map_err(Failed)? {
                return Ok((cell, whole, format!("{column}, byte {at} ^ {mask:#04x}")));
            }
        }
    }
}

async fn peek(harness: &mut dyn Harness, row: &Row, column: &'static str) -> Result<Raw, Failed> {
    harness.peek(&row.clone().cell(column)).await.map_err(Failed)
}

async fn poke(harness: &mut dyn Harness, row: &Row, column: &'static str, raw: Raw) -> Verdict {
    let taken = harness.poke(&row.clone().cell(column), &raw).await.map_err(Failed)?;
    ensure(taken, format!("{row:?}.{column} does not take {raw:?}"))
}

async fn restore(harness: &mut dyn Harness, cell: &Cell, raw: &Raw) -> Verdict {
    let taken = harness.poke(cell, raw).await.map_err(Failed)?;
    ensure(taken, format!("{cell:?} does not take back {raw:?}"))
}

async fn sizes(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let limits = payload::Options::default();
    for bytes in [0, limits.compress_min + 1, limits.compress_above + 1] {
        let text = "It is noon, \u{1F3AD}. ".repeat(bytes / 17 + 1);
        let asked = acceptance("writer")?;
        let event = Event { data: json!({"text": text}).into(), ..(*asked.event).clone() };
        let claim = accepted(&stores, Acceptance { event: event.clone().into(), ..asked }).await?;
        stores.journal.append(append(claim, 0, turn(&text))).await?;
        let end = completion(claim, "writer", 1)?;
        let outcome = Outcome::Succeeded { output: text.clone() };
        stores.steps.complete(Completion { entry: entry(1, turn(&text)), outcome: outcome.clone(), ..end }).await?;

        let rows = [Row::Task(claim.task), Row::Entry(claim.step, 0), Row::Result(claim.step)];
        for row in rows {
            let found = (peek(harness, &row, "codec").await?, peek(harness, &row, "packed").await? == Raw::Null);
            let expected = if bytes == 0 { (Raw::Number(0), true) } else { (Raw::Number(1), false) };
            equal(&format!("how {bytes} bytes lie in {row:?}"), &found, &expected)?;
        }
        ensure(stores.tasks.event(claim.task).await? == Some(event), format!("{bytes} bytes: the event"))?;
        let expected = vec![entry(0, turn(&text)), entry(1, turn(&text))];
        ensure(stores.journal.entries(claim.step).await? == expected, format!("{bytes} bytes: the entries"))?;
        let task = some("the task", stores.tasks.task(claim.task).await?)?;
        ensure(task.outcome == Some(outcome), format!("{bytes} bytes: the outcome"))?;
    }
    Ok(())
}

async fn event_flips(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let mut chance = Chance::new();
    for packed in [false, true] {
        let claim = accepted(&stores, asked(packed)?).await?;
        for _ in 0..FLIPS {
            let (cell, whole, flip) = chance.flip(harness, &Row::Task(claim.task)).await?;
            let event = damage(&flip, stores.tasks.event(claim.task).await);
            chance.says(event.and_then(|found| {
                equal(&flip, &(found.table, found.row.as_str()), &("tasks", format!("task {}", claim.task).as_str()))
            }))?;
            chance.says(damage(&flip, stores.tasks.task(claim.task).await).map(drop))?;
            restore(harness, &cell, &whole).await?;
        }
        ensure(stores.tasks.event(claim.task).await?.is_some(), "the restored event is gone")?;
    }
    Ok(())
}

async fn entry_flips(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let mut chance = Chance::new();
    for packed in [false, true] {
        let claim = task(&stores, "writer").await?;
        let acts = [turn("short"), turn(&words(packed)), tool_result()];
        for (seq, act) in (0..).zip(acts) {
            stores.journal.append(append(claim, seq, act)).await?;
        }
        for _ in 0..FLIPS {
            let (cell, whole, flip) = chance.flip(harness, &Row::Entry(claim.step, 1)).await?;
            let entries = stores.journal.entries(claim.step).await;
            chance.says(entries_damage(&flip, entries, "journal", claim.step, 1))?;
            restore(harness, &cell, &whole).await?;
        }
        equal("the restored journal", &stores.journal.entries(claim.step).await?.len(), &3)?;
    }
    Ok(())
}

async fn result_flips(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let mut chance = Chance::new();
    for packed in [false, true] {
        let claim = task(&stores, "writer").await?;
        stores.journal.append(append(claim, 0, tool_result())).await?;
        // An outcome that its entry does not tell: it lies in a column of its own, under the same checksum.
        let end = Completion { outcome: Outcome::Failed { failure: failure() }, ..answered(claim, 1, packed)? };
        stores.steps.complete(end).await?;
        for number in 0..FLIPS {
            let row = Row::Result(claim.step);
            let (cell, whole, flip) = if number % 3 == 0 {
                let (cell, whole) = (row.clone().cell("outcome"), peek(harness, &row, "outcome").await?);
                let Raw::Text(bytes) = &whole else { return Err(Failed(format!("an outcome is {whole:?}"))) };
                let mut broken = bytes.clone();
                let at = chance.rng.random_range(0..broken.len());
                broken[at] = if broken[at] == b'x' { b'y' } else { b'x' };
                if !broken.is_ascii() {
                    continue;
                }
                poke(harness, &row, "outcome", Raw::Text(broken)).await?;
                (cell, whole, format!("outcome, byte {at}"))
            } else {
                chance.flip(harness, &row).await?
            };
            let entries = stores.journal.entries(claim.step).await;
            chance.says(entries_damage(&flip, entries, "execution_results", claim.step, 1))?;
            chance.says(damage(&flip, stores.tasks.task(claim.task).await).map(drop))?;
            restore(harness, &cell, &whole).await?;
        }
        ensure(stores.tasks.task(claim.task).await?.is_some(), "the restored task is gone")?;
    }
    Ok(())
}

async fn memory_flips(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let (agent, mut chance) = ("support".parse::<AgentName>()?, Chance::new());
    let sessions: Vec<String> = (0..FLIPS).map(|number| number.to_string()).collect();
    for (number, session) in sessions.iter().enumerate() {
        stores.memory.save(&agent, session, 0, &words(number % 2 == 0)).await?;
    }
    stores.memory.save(&agent, "whole", 0, "\"whole\"").await?;
    let mut flips = Vec::new();
    for session in &sessions {
        let row = Row::Memory(agent.to_string(), session.clone());
        flips.push(chance.flip(harness, &row).await?.2);
    }
    // A memory that is kept ready is the one that was saved.
    let stores = reopen(harness, stores).await?;
    for (session, flip) in sessions.iter().zip(&flips) {
        let found = chance.says(damage(flip, stores.memory.load(&agent, session).await).and_then(|found| {
            equal(flip, &(found.table, found.row), &("agent_states", format!("agent support, session {session}")))
        }));
        found?;
    }
    ensure(stores.memory.load(&agent, "whole").await?.is_some(), "the memory beside them is gone")
}

async fn memory_known(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let agent: AgentName = "support".parse()?;
    for packed in [false, true] {
        let (session, body) = (if packed { "packed" } else { "plain" }, words(packed));
        let version = stores.memory.save(&agent, session, 0, &body).await?;
        let row = Row::Memory(agent.to_string(), session.to_owned());
        let (column, raw) =
            if packed { ("packed", Raw::Bytes(vec![0; 20])) } else { ("body", Raw::Text(b"x".to_vec())) };
        poke(harness, &row, column, raw).await?;
        let known = Remembered::new(version, body.as_str());
        let found = stores.memory.refresh(&agent, session, known.clone()).await?;
        equal("the known one", &found, &Some(known))?;
        damage(session, stores.memory.refresh(&agent, session, Remembered::new(version, "other")).await)?;
    }
    Ok(())
}

async fn spec_flips(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let mut chance = Chance::new();
    let mut digests = Vec::new();
    for number in 0..FLIPS {
        digests.push(stores.specs.keep(&spec(&format!("writer-{number}"))?).await?);
    }
    let whole = stores.specs.keep(&spec("whole")?).await?;
    let mut flips = Vec::new();
    for digest in &digests {
        flips.push(chance.flip(harness, &Row::Spec(digest.clone())).await?.2);
    }
    let stores = reopen(harness, stores).await?;
    for (digest, flip) in digests.iter().zip(&flips) {
        let found = damage(flip, stores.specs.spec(digest).await);
        chance.says(found.and_then(|found| equal(flip, &found.table, &"agent_specs")))?;
    }
    ensure(stores.specs.spec(&whole).await?.is_some(), "the spec beside them is gone")
}

async fn isolated(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let mut claims = Vec::new();
    for number in 0..8 {
        let claim = accepted(&stores, asked(number % 2 == 0)?).await?;
        stores.journal.append(append(claim, 0, turn(&words(number % 2 == 1)))).await?;
        claims.push(claim);
    }
    // Four have ended; of those and of the open ones, some rows are damaged.
    for claim in &claims[..4] {
        stores.steps.complete(answered(*claim, 1, false)?).await?;
    }
    let mut chance = Chance::new();
    let bad = [Row::Task(claims[0].task), Row::Result(claims[1].step), Row::Task(claims[4].task)];
    for row in bad.iter().chain([&Row::Entry(claims[5].step, 0)]) {
        chance.flip(harness, row).await?;
    }
    let listed = stores.tasks.tasks(&TaskFilter::default()).await?;
    let listed: Vec<TaskId> = listed.into_iter().map(|task| task.id).collect();
    // The list does not read journals.
    let whole = [7, 6, 5, 3, 2].map(|number: usize| claims[number].task).to_vec();
    chance.says(equal("the list", &listed, &whole))?;
    let pending = stores.outbox.pending(LIFE, i64::MIN, 10).await?;
    let pending: Vec<TaskId> = pending.into_iter().map(|told| told.task).collect();
    chance.says(equal("to be told", &pending, &vec![claims[2].task, claims[3].task]))?;
    for number in [2, 3, 6, 7] {
        ensure(stores.tasks.task(claims[number].task).await?.is_some(), "a task beside them is gone")?;
        ensure(!stores.journal.entries(claims[number].step).await?.is_empty(), "a journal beside them is gone")?;
    }
    // What stands on a damaged row can still be ended: behind all entries, wherever they end.
    let blocked = Act::AttemptFailed { failure: failure() };
    let end = Completion {
        entry: entry(u32::MAX, blocked),
        outcome: Outcome::Failed { failure: failure() },
        ..completion(claims[5], "writer", 0)?
    };
    stores.steps.complete(end).await?;
    Ok(())
}

async fn before(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let claim = accepted(&stores, asked(false)?).await?;
    stores.journal.append(append(claim, 0, tool_result())).await?;
    stores.steps.complete(answered(claim, 1, false)?).await?;
    let agent: AgentName = "support".parse()?;
    stores.memory.save(&agent, "s", 0, "\"old\"").await?;
    let (event, entries) = (stores.tasks.event(claim.task).await?, stores.journal.entries(claim.step).await?);
    let rows = [
        Row::Task(claim.task),
        Row::Entry(claim.step, 0),
        Row::Result(claim.step),
        Row::Memory(agent.to_string(), "s".to_owned()),
    ];
    for row in rows {
        for column in ["codec", "size", "checksum"] {
            poke(harness, &row, column, Raw::Null).await?;
        }
    }
    let stores = reopen(harness, stores).await?;
    equal("the event", &stores.tasks.event(claim.task).await?, &event)?;
    equal("the entries", &stores.journal.entries(claim.step).await?, &entries)?;
    let memory = some("the memory", stores.memory.load(&agent, "s").await?)?;
    equal("the memory", &&*memory.body, &"\"old\"")?;
    let other = Remembered::new(memory.version, "\"odd\"");
    equal("for another", &stores.memory.refresh(&agent, "s", other).await?, &Some(memory.clone()))?;
    // What is saved over it has them.
    stores.memory.save(&agent, "s", memory.version, "\"new\"").await?;
    let row = Row::Memory(agent.to_string(), "s".to_owned());
    equal("its checksum", &peek(harness, &row, "checksum").await?, &Raw::Number(payload::checksum("\"new\"")))
}

async fn unknown(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let claim = task(&stores, "writer").await?;
    for seq in 0..3 {
        stores.journal.append(append(claim, seq, tool_result())).await?;
    }
    let row = Row::Entry(claim.step, 1);
    for (column, number, was, said) in
        [("version", 99, 1, "run the newer troupe"), ("codec", 7, 0, "run the troupe that wrote it")]
    {
        poke(harness, &row, column, Raw::Number(number)).await?;
        let entries = stores.journal.entries(claim.step).await;
        entries_damage(column, entries.clone(), "journal", claim.step, 1)?;
        let cause = damage(column, entries)?.cause;
        ensure(cause.contains(said) && cause.contains(&number.to_string()), format!("{column}: {cause}"))?;
        poke(harness, &row, column, Raw::Number(was)).await?;
    }
    equal("the entries", &stores.journal.entries(claim.step).await?.len(), &3)
}

async fn bomb(harness: &mut dyn Harness) -> Verdict {
    let stores = open(harness).await?;
    let claim = accepted(&stores, asked(true)?).await?;
    let row = Row::Task(claim.task);
    let Raw::Number(size) = peek(harness, &row, "size").await? else { return Err(Failed("no size".to_owned())) };
    let limit = payload::Options::default().bytes_max as i64;
    for lie in [0, 1, size - 1, size + 1, limit, limit + 1, i64::MAX, -1] {
        poke(harness, &row, "size", Raw::Number(lie)).await?;
        damage(&format!("a size of {lie}"), stores.tasks.event(claim.task).await)?;
    }
    poke(harness, &row, "size", Raw::Number(size)).await?;
    ensure(stores.tasks.event(claim.task).await?.is_some(), "the restored event is gone")
}
