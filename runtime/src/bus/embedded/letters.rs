//! The dead letters of the embedded bus: how they come in, are read, and go.
//!
//! A letter that comes from a queue is made by the same transaction that removes the event; a replay puts the new event
//! into the queue in the transaction that removes the letter. Called by the bus; what fails is a [`sqlite::Error`].

use async_trait::async_trait;
use chrono::DateTime;
use sqlx::{Row as _, SqliteConnection};

use super::statements::{Put, json, remove};
use crate::bus::DeadLetter;
use crate::sqlite::writer::Write;
use crate::sqlite::{self, Database};

/// Takes an event out of its queue for good.
pub(super) struct GiveUp {
    pub(super) seq: i64,
    pub(super) id: String,
    pub(super) cause: &'static str,
    pub(super) attempts: u32,
    pub(super) error: String,
    pub(super) at: i64,
}

#[async_trait]
impl Write for GiveUp {
    type Reply = ();

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<()>, sqlite::Error> {
        let rows: Vec<_> =
            batch.iter().map(|up| (up.seq, &up.id, up.cause, up.attempts, up.error.as_str(), up.at)).collect();
        sqlx::query(
            "insert into bus_dead_letters (id, queue, cause, attempts, first_error, last_error, at, event)
             select l.value ->> 1, q.name, l.value ->> 2, l.value ->> 3,
               coalesce(r.first_error, l.value ->> 4), l.value ->> 4, l.value ->> 5, m.body
             from json_each(?1) l join bus_messages m on m.seq = l.value ->> 0 join bus_queues q on q.id = m.queue
               left join bus_retries r on r.seq = m.seq
             order by l.key",
        )
        .bind(json(&rows)?)
        .execute(&mut *connection)
        .await?;
        let seqs: Vec<i64> = batch.iter().map(|up| up.seq).collect();
        remove(&json(&seqs)?, true, connection).await?;
        Ok(vec![(); batch.len()])
    }
}

/// Puts a letter in, once an id.
pub(super) struct Bury(pub(super) DeadLetter);

#[async_trait]
impl Write for Bury {
    type Reply = ();

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<()>, sqlite::Error> {
        for Self(letter) in batch {
            sqlx::query(
                "insert into bus_dead_letters (id, queue, cause, attempts, first_error, last_error, at, event)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) on conflict (id) do nothing",
            )
            .bind(&letter.id)
            .bind(&letter.queue)
            .bind(&letter.cause)
            .bind(letter.attempts)
            .bind(&letter.first_error)
            .bind(&letter.last_error)
            .bind(letter.at.timestamp_millis())
            .bind(json(&letter.event)?)
            .execute(&mut *connection)
            .await?;
        }
        Ok(vec![(); batch.len()])
    }
}

/// Removes a letter; answers whether it was there.
pub(super) struct Purge(pub(super) String);

#[async_trait]
impl Write for Purge {
    type Reply = bool;

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<bool>, sqlite::Error> {
        let mut replies = Vec::with_capacity(batch.len());
        for Self(id) in batch {
            replies.push(unbury(id, connection).await?);
        }
        Ok(replies)
    }
}

/// Puts an event into a queue and removes the letter that it was made from; answers whether that was there.
pub(super) struct Replay {
    pub(super) id: String,
    pub(super) put: Put,
}

#[async_trait]
impl Write for Replay {
    type Reply = bool;

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<bool>, sqlite::Error> {
        let mut replies = Vec::with_capacity(batch.len());
        for replay in batch {
            let there = unbury(&replay.id, connection).await?;
            if there {
                Put::execute(&[&replay.put], connection).await?;
            }
            replies.push(there);
        }
        Ok(replies)
    }
}

async fn unbury(id: &str, connection: &mut SqliteConnection) -> Result<bool, sqlite::Error> {
    let done = sqlx::query("delete from bus_dead_letters where id = ?1").bind(id).execute(connection).await?;
    Ok(done.rows_affected() > 0)
}

/// Letters, the last one in first. When the letter `before` has gone meanwhile, those with lesser ids: ids of the bus
/// are ordered by time, so that a page after a purge goes on where it was.
pub(super) async fn list(
    database: &Database,
    limit: usize,
    before: Option<&str>,
) -> Result<Vec<DeadLetter>, sqlite::Error> {
    let rows = sqlx::query(
        "select id, queue, cause, attempts, first_error, last_error, at, event from bus_dead_letters
         where ?1 is null or no < coalesce((select no from bus_dead_letters where id = ?1),
                                           (select max(no) + 1 from bus_dead_letters where id < ?1), 0)
         order by no desc limit ?2",
    )
    .bind(before)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(database.readers())
    .await?;
    rows.iter().map(letter).collect()
}

/// One letter.
pub(super) async fn one(database: &Database, id: &str) -> Result<Option<DeadLetter>, sqlite::Error> {
    let row = sqlx::query(
        "select id, queue, cause, attempts, first_error, last_error, at, event from bus_dead_letters where id = ?1",
    )
    .bind(id)
    .fetch_optional(database.readers())
    .await?;
    row.as_ref().map(letter).transpose()
}

/// How many there are.
pub(super) async fn count(database: &Database) -> Result<u64, sqlite::Error> {
    let letters: i64 =
        sqlx::query_scalar("select count(*) from bus_dead_letters").fetch_one(database.readers()).await?;
    Ok(letters.unsigned_abs())
}

fn letter(row: &sqlx::sqlite::SqliteRow) -> Result<DeadLetter, sqlite::Error> {
    let id: String = row.try_get(0)?;
    let broken = |what: String| sqlite::Error::Statement(format!("dead letter {id} cannot be read: {what}"));
    let at: i64 = row.try_get(6)?;
    let event: &str = row.try_get(7)?;
    Ok(DeadLetter {
        queue: row.try_get(1)?,
        cause: row.try_get(2)?,
        attempts: row.try_get(3)?,
        first_error: row.try_get(4)?,
        last_error: row.try_get(5)?,
        at: DateTime::from_timestamp_millis(at).ok_or_else(|| broken(format!("its time is {at}")))?,
        event: serde_json::from_str(event).map_err(|error| broken(error.to_string()))?,
        id,
    })
}
