//! What the rows of every database have in common: JSON texts, numbers that fit, and how an end is kept.
//!
//! Pure; called by the adapters [`super::sqlite`] and [`super::postgres`], each of which reads columns by its own driver.
//! What cannot be kept is [`Error::Internal`].

use std::collections::HashSet;
use std::fmt::Display;
use std::hash::Hash;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Error, ResultFilter, ResultPlace};
use crate::domain::agent::AgentSpec;
use crate::domain::chat::Usage;
use crate::domain::event::Event;
use crate::domain::ids::{StepId, TaskId};
use crate::domain::journal::{Act, Entry};
use crate::domain::outcome::Outcome;
use crate::domain::step::StepStatus;

/// The latest time that is looked for, since 1970: about the year 9999.
const LATEST: TimeDelta = TimeDelta::days(8029 * 365);

/// A value as JSON text: a row for a statement, or a document to store.
pub(super) fn json<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Internal(format!("a value has no JSON form: {error}")))
}

/// An event as it is kept.
pub(super) fn event_json(event: &Event) -> Result<String, Error> {
    event.json().map_err(|error| Error::Internal(format!("an event has no JSON form: {error}")))
}

/// The places of a batch in rounds in which no key occurs twice, so that one statement may serve a round and the
/// result is that of the operations one after the other. Almost always there is one round.
pub(super) fn rounds<T, K: Hash + Eq>(batch: &[&T], key: impl Fn(&T) -> K) -> Vec<Vec<usize>> {
    let mut rounds: Vec<(HashSet<K>, Vec<usize>)> = Vec::new();
    for (place, operation) in batch.iter().enumerate() {
        let key = key(operation);
        match rounds.iter_mut().find(|(keys, _)| !keys.contains(&key)) {
            Some((keys, places)) => {
                keys.insert(key);
                places.push(place);
            }
            None => rounds.push((HashSet::from([key]), vec![place])),
        }
    }
    rounds.into_iter().map(|(_, places)| places).collect()
}

/// A number that a column can hold; what is larger is as good as endless.
pub(super) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The first and the last id that begin with these hex digits; `None` when they are none, or too many.
pub(super) fn range(prefix: &str) -> Option<(Uuid, Uuid)> {
    let digits: String = prefix.chars().filter(|c| *c != '-').collect();
    if digits.len() > 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let filled = |with: &str| Uuid::parse_str(&format!("{digits}{}", with.repeat(32 - digits.len()))).ok();
    Some((filled("0")?, filled("f")?))
}

/// From when and until before when results are looked for: to the millisecond, as they are kept, and within the times
/// that every database can hold.
pub(super) fn window(filter: &ResultFilter, after: Option<ResultPlace>) -> (DateTime<Utc>, DateTime<Utc>) {
    let (first, last) = (DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH + LATEST);
    let within = |time: Option<DateTime<Utc>>, default| time.unwrap_or(default).clamp(first, last).trunc_subsecs(3);
    let (since, until) = (within(filter.since, first), within(filter.until, last));
    (since, after.map_or(until, |place| until.min(place.at + TimeDelta::milliseconds(1))))
}

/// The spec that was kept under this digest: what is stored is what was pinned, to the byte.
pub(super) fn pinned(text: &str, digest: &str) -> Result<AgentSpec, String> {
    let found = hex::encode(Sha256::digest(text));
    if found != digest {
        return Err(format!("its digest is {found}"));
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// How a step ended, as its row in `execution_results` tells.
pub(super) struct Ending {
    pub(super) at: DateTime<Utc>,
    pub(super) attempt: u32,
    pub(super) outcome: Outcome,
    pub(super) usage: Usage,
}

/// Says in which row it is that something is wrong.
pub(super) fn at(error: Error, row: &impl Display) -> Error {
    match error {
        Error::Corrupt(damage) => Error::Corrupt(damage.at(row)),
        other => other,
    }
}

/// Says in which entry it is.
pub(super) fn in_entry(error: Error, step: StepId, seq: u32) -> Error {
    match error {
        Error::Corrupt(damage) => Error::Corrupt(damage.in_entry(step, seq)),
        other => other,
    }
}

/// The place of a task's row.
pub(super) fn task_place(id: TaskId) -> String {
    format!("task {id}")
}

/// The status of a step that ended so.
pub(super) const fn status_of(outcome: &Outcome) -> StepStatus {
    match outcome {
        Outcome::Succeeded { .. } => StepStatus::Succeeded,
        Outcome::Failed { .. } => StepStatus::Failed,
        Outcome::Cancelled { .. } => StepStatus::Cancelled,
    }
}

/// What `execution_results.outcome` holds: nothing when the entry beside it says the same.
pub(super) fn stored_outcome(outcome: &Outcome, entry: &Entry) -> Result<Option<String>, Error> {
    if answer_of(entry).as_ref() == Some(outcome) { Ok(None) } else { json(outcome).map(Some) }
}

/// The outcome that an entry is by itself.
pub(super) fn answer_of(entry: &Entry) -> Option<Outcome> {
    match &entry.act {
        Act::ModelResult { completion, .. } => Some(Outcome::Succeeded { output: completion.text.clone() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_occurs_once_a_round_and_in_order() {
        let batch = [&"a", &"b", &"a", &"c", &"a"];
        assert_eq!(rounds(&batch, |key| *key), [vec![0, 1, 3], vec![2], vec![4]]);
        assert!(rounds(&[] as &[&&str], |key| *key).is_empty());
    }

    #[test]
    fn counts_do_not_turn_negative() {
        assert_eq!(count(u64::MAX), i64::MAX);
        assert_eq!(count(7), 7);
    }

    #[test]
    fn a_window_is_whole_milliseconds_that_databases_can_hold() {
        let any = ResultFilter::default();
        let (first, last) = window(&any, None);
        assert_eq!((first, last.timestamp()), (DateTime::UNIX_EPOCH, LATEST.num_seconds()));
        let odd = DateTime::from_timestamp(5, 1_500_000).unwrap();
        let wide = ResultFilter { since: Some(DateTime::<Utc>::MIN_UTC), until: Some(DateTime::<Utc>::MAX_UTC), ..any };
        assert_eq!(window(&wide, None), (first, last));
        let narrow = ResultFilter { since: Some(odd), until: Some(odd), ..wide };
        assert_eq!(window(&narrow, None), (odd.trunc_subsecs(3), odd.trunc_subsecs(3)));
        let after = ResultPlace { at: odd.trunc_subsecs(3), step: TaskId::derive("e", "a").run(0).step(0) };
        let (_, until) = window(&ResultFilter { until: None, ..narrow }, Some(after));
        assert_eq!(until, after.at + TimeDelta::milliseconds(1), "those of the same time are looked at again");
    }

    #[test]
    fn a_prefix_is_a_range_of_ids() {
        let (from, to) = range("0190-A").unwrap();
        assert_eq!(from.to_string(), "0190a000-0000-0000-0000-000000000000");
        assert_eq!(to.to_string(), "0190afff-ffff-ffff-ffff-ffffffffffff");
        let whole = "0190a000-0000-7000-8000-00000000000f";
        assert_eq!(range(whole).map(|(from, to)| from == to), Some(true));
        for bad in ["x", "01_9", "é", &format!("{whole}0")] {
            assert!(range(bad).is_none(), "{bad}");
        }
    }
}
