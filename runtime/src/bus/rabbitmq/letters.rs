//! The dead letters, as every node knows them: where each stands in the stream `troupe.dlq`, by id.
//!
//! A letter is one entry, and so is its end (purged, or replayed); memory holds ids and places, the texts stay in the broker and
//! are read by place. The second letter of an id that is there counts for nothing. What the broker buries by itself, after more
//! deliveries than any queue of ours should see, arrives in the same stream and is read as a letter too.
//!
//! Called by the bus. A stream cannot lose an entry from its middle: what is gone keeps its bytes (docs/RUNBOOK.md).

use std::collections::{BTreeMap, HashMap};

use chrono::Utc;

use super::log::{Entry, Fold, Log};
use super::{topology, wire};
use crate::bus::{DeadLetter, Error};

/// An entry: a letter. Its subject is the letter's id.
const LETTER: &str = "letter";
/// An entry: a letter that is gone. Its subject is the letter's id.
const GONE: &str = "gone";
/// Headers of a message that the broker has buried.
const DEATH_QUEUE: &str = "x-first-death-queue";
const DEATH_REASON: &str = "x-first-death-reason";

/// Where the letters are.
#[derive(Default)]
pub(super) struct Letters {
    by_place: BTreeMap<u64, String>,
    by_id: HashMap<String, u64>,
}

impl Letters {
    /// Whether there is one of this id.
    pub(super) fn has(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    fn put(&mut self, id: String, offset: u64) {
        if !self.has(&id) {
            self.by_place.insert(offset, id.clone());
            self.by_id.insert(id, offset);
        }
    }

    fn remove(&mut self, id: &str) {
        if let Some(offset) = self.by_id.remove(id) {
            self.by_place.remove(&offset);
        }
    }

    /// Places of letters, the last one in first. When the letter `before` has gone meanwhile, those with lesser ids: ids of
    /// the bus are ordered by time, so that a page after a purge goes on where it was.
    fn page(&self, limit: usize, before: Option<&str>) -> Vec<u64> {
        let end = match before {
            None => u64::MAX,
            Some(id) => self.by_id.get(id).copied().unwrap_or_else(|| {
                let lesser = self.by_place.iter().filter(|(_, other)| other.as_str() < id);
                lesser.map(|(offset, _)| offset + 1).max().unwrap_or_default()
            }),
        };
        self.by_place.range(..end).rev().take(limit).map(|(offset, _)| *offset).collect()
    }
}

impl Fold for Letters {
    fn apply(&mut self, entry: &Entry) {
        match entry.kind.as_str() {
            LETTER => self.put(entry.subject.clone(), entry.offset),
            GONE => self.remove(&entry.subject),
            "" => self.put(foreign_id(entry), entry.offset),
            _ => {}
        }
    }
}

/// The id of a letter that the broker wrote: the same however often it writes it.
fn foreign_id(entry: &Entry) -> String {
    let properties = &entry.message.properties;
    let queue = wire::header_text(properties, DEATH_QUEUE).unwrap_or_default();
    match properties.message_id() {
        Some(id) => format!("{queue}-{id}"),
        None => format!("{queue}-{}", entry.offset),
    }
}

/// The letter of an entry.
fn letter(entry: &Entry) -> Result<DeadLetter, Error> {
    if entry.kind == LETTER {
        return serde_json::from_slice(&entry.message.data)
            .map_err(|error| Error::Internal(format!("dead letter {} cannot be read: {error}", entry.subject)));
    }
    let properties = &entry.message.properties;
    let past = wire::past(properties);
    let reason = wire::header_text(properties, DEATH_REASON).unwrap_or_else(|| "unknown".to_owned());
    let key = entry.message.routing_key.as_str();
    let event = match wire::event(properties, key, &entry.message.data) {
        Ok(event) => (*event).clone(),
        Err(unreadable) => unreadable.event,
    };
    let last_error = format!("buried by the broker: {reason}");
    Ok(DeadLetter {
        id: foreign_id(entry),
        queue: wire::header_text(properties, DEATH_QUEUE).unwrap_or_default(),
        event,
        cause: reason,
        attempts: past.retrycount.saturating_add(1),
        first_error: past.first_error.unwrap_or_else(|| last_error.clone()),
        last_error,
        at: properties
            .timestamp()
            .and_then(|seconds| chrono::DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0))
            .unwrap_or_else(Utc::now),
    })
}

impl Log<Letters> {
    /// How many there are, as far as this node knows.
    pub(super) async fn count(&self) -> u64 {
        // While the broker is away, what was known last.
        self.caught_up().await.ok();
        self.with(|letters| letters.by_place.len() as u64)
    }

    /// Adds a letter, once an id; durable and known here on return.
    pub(super) async fn bury(&self, mut letter: DeadLetter) -> Result<(), Error> {
        self.caught_up().await?;
        letter.clip();
        let id = letter.id.clone();
        if self.with(|letters| letters.has(&id)) {
            return Ok(());
        }
        let body = serde_json::to_vec(&letter).map_err(|error| Error::Internal(format!("dead letter: {error}")))?;
        self.append(LETTER, &id, body).await?;
        self.until(|letters| letters.has(&id)).await;
        Ok(())
    }

    /// Ends a letter; whether there was one.
    pub(super) async fn purge(&self, id: &str) -> Result<bool, Error> {
        self.caught_up().await?;
        if !self.with(|letters| letters.has(id)) {
            return Ok(false);
        }
        self.append(GONE, id, Vec::new()).await?;
        self.until(|letters| !letters.has(id)).await;
        Ok(true)
    }

    /// Letters, newest first.
    pub(super) async fn list(&self, limit: usize, before: Option<&str>) -> Result<Vec<DeadLetter>, Error> {
        self.caught_up().await?;
        let places = self.with(|letters| letters.page(limit, before));
        let found = self.fetch(&places).await?;
        places.iter().filter_map(|place| found.get(place)).map(letter).collect()
    }

    /// One letter.
    pub(super) async fn one(&self, id: &str) -> Result<Option<DeadLetter>, Error> {
        self.caught_up().await?;
        let Some(place) = self.with(|letters| letters.by_id.get(id).copied()) else { return Ok(None) };
        self.fetch(&[place]).await?.get(&place).map(letter).transpose()
    }
}

/// The name of the stream.
pub(super) const STREAM: &str = topology::DEAD_LETTERS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_where_the_last_one_ended_whatever_has_gone() {
        let mut letters = Letters::default();
        for (offset, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
            letters.put(id.to_owned(), 10 * offset as u64);
        }
        letters.put("a".to_owned(), 99);
        assert_eq!(letters.by_place.len(), 4, "one letter an id");
        assert_eq!(letters.page(2, None), [30, 20]);
        assert_eq!(letters.page(2, Some("c")), [10, 0]);
        letters.remove("c");
        assert_eq!(letters.page(9, Some("c")), [10, 0]);
        assert_eq!(letters.page(9, Some("0")), Vec::<u64>::new());
    }
}
