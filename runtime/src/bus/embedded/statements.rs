//! What the embedded bus asks of the file, but for the dead letters (see [`super::letters`]).
//!
//! Every write is one operation of the group-commit writer and becomes one statement for all operations of its kind in
//! the batch. Who calls: the bus and its two tasks. What fails is a [`sqlite::Error`], mapped by the bus.

use std::collections::HashMap;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use sqlx::{Row as _, SqliteConnection};

use crate::bus::place::{Aging, Place, RANKS};
use crate::domain::event::Event;
use crate::domain::topic::TopicPattern;
use crate::sqlite::writer::Write;
use crate::sqlite::{self, Database};

/// Bytes of JSON that one statement carries, but for a single larger event.
const STATEMENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of bodies that are read at once, but for a single larger event.
const READ_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Makes a queue or changes it; answers its number.
pub(super) struct Declare {
    pub(super) name: String,
    pub(super) single_active: bool,
    pub(super) patterns: Vec<TopicPattern>,
}

#[async_trait]
impl Write for Declare {
    type Reply = i64;

    /// Three statements for all of them: a node with thousands of agents declares as many queues at its first start.
    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<i64>, sqlite::Error> {
        // Of one that is declared twice the last word holds.
        let last: HashMap<&str, &Self> = batch.iter().map(|queue| (queue.name.as_str(), *queue)).collect();
        let queues: Vec<(&str, bool)> = last.values().map(|queue| (queue.name.as_str(), queue.single_active)).collect();
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "insert into bus_queues (name, single_active) select value ->> 0, value ->> 1 from json_each(?1) where true
             on conflict (name) do update set single_active = excluded.single_active returning name, id",
        )
        .bind(json(&queues)?)
        .fetch_all(&mut *connection)
        .await?;
        let ids: HashMap<String, i64> = rows.into_iter().collect();
        let id = |name: &str| {
            ids.get(name).copied().ok_or_else(|| sqlite::Error::Statement(format!("queue {name} was not written")))
        };
        sqlx::query("delete from bus_bindings where queue in (select value from json_each(?1))")
            .bind(json(&ids.values().collect::<Vec<_>>())?)
            .execute(&mut *connection)
            .await?;
        let mut bindings = Vec::new();
        for (name, queue) in &last {
            let id = id(name)?;
            bindings.extend(queue.patterns.iter().map(|pattern| (id, pattern.as_str())));
        }
        sqlx::query(
            "insert or ignore into bus_bindings (queue, pattern) select value ->> 0, value ->> 1 from json_each(?1)",
        )
        .bind(json(&bindings)?)
        .execute(&mut *connection)
        .await?;
        batch.iter().map(|queue| id(&queue.name)).collect()
    }
}

/// Removes a queue and its bindings; `false`, and nothing is removed, when an event of it is on the disk.
pub(super) struct Forget {
    pub(super) queue: i64,
}

#[async_trait]
impl Write for Forget {
    type Reply = bool;

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<bool>, sqlite::Error> {
        let mut removed = Vec::with_capacity(batch.len());
        for Self { queue } in batch {
            let done = sqlx::query(
                "delete from bus_queues
                 where id = ?1 and not exists (select 1 from bus_messages where queue = ?1)",
            )
            .bind(queue)
            .execute(&mut *connection)
            .await?;
            if done.rows_affected() > 0 {
                sqlx::query("delete from bus_bindings where queue = ?1").bind(queue).execute(&mut *connection).await?;
            }
            removed.push(done.rows_affected() > 0);
        }
        Ok(removed)
    }
}

/// Puts one event into its queues.
pub(super) struct Put {
    /// Number, queue and rank, one a queue.
    pub(super) rows: Vec<(i64, i64, u8)>,
    pub(super) body: String,
}

#[async_trait]
impl Write for Put {
    type Reply = ();

    fn rows_alone(&self) -> Option<u64> {
        (self.rows.len() * self.body.len() <= STATEMENT_BYTES_MAX).then_some(self.rows.len() as u64)
    }

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<()>, sqlite::Error> {
        let mut rows: Vec<(i64, i64, u8, &str)> = Vec::with_capacity(batch.len());
        let mut bytes = 0;
        for put in batch {
            for (seq, queue, rank) in &put.rows {
                if bytes + put.body.len() > STATEMENT_BYTES_MAX && !rows.is_empty() {
                    insert(&rows, connection).await?;
                    rows.clear();
                    bytes = 0;
                }
                rows.push((*seq, *queue, *rank, &put.body));
                bytes += put.body.len();
            }
        }
        insert(&rows, connection).await?;
        Ok(vec![(); batch.len()])
    }
}

async fn insert(rows: &[(i64, i64, u8, &str)], connection: &mut SqliteConnection) -> Result<(), sqlite::Error> {
    sqlx::query(
        "insert into bus_messages (seq, queue, rank, body)
         select value ->> 0, value ->> 1, value ->> 2, value ->> 3 from json_each(?1)",
    )
    .bind(json(&rows)?)
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes events that were acknowledged.
pub(super) struct Remove {
    pub(super) seqs: Vec<i64>,
    /// Whether some of them failed before.
    pub(super) retried: bool,
}

#[async_trait]
impl Write for Remove {
    type Reply = ();

    fn rows_alone(&self) -> Option<u64> {
        (!self.retried).then_some(self.seqs.len() as u64)
    }

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<()>, sqlite::Error> {
        let seqs: Vec<i64> = batch.iter().flat_map(|remove| remove.seqs.iter().copied()).collect();
        remove(&json(&seqs)?, batch.iter().any(|remove| remove.retried), connection).await?;
        Ok(vec![(); batch.len()])
    }
}

/// Removes the events whose numbers are in the JSON array.
pub(super) async fn remove(seqs: &str, retried: bool, connection: &mut SqliteConnection) -> Result<(), sqlite::Error> {
    sqlx::query("delete from bus_messages where seq in (select value from json_each(?1))")
        .bind(seqs)
        .execute(&mut *connection)
        .await?;
    if retried {
        sqlx::query("delete from bus_retries where seq in (select value from json_each(?1))")
            .bind(seqs)
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Lets an event wait for its next delivery.
pub(super) struct Delay {
    pub(super) place: Place,
    pub(super) queue: i64,
    pub(super) retrycount: u32,
    pub(super) due_at: i64,
    pub(super) cause: String,
}

#[async_trait]
impl Write for Delay {
    type Reply = ();

    fn rows_alone(&self) -> Option<u64> {
        Some(1)
    }

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<()>, sqlite::Error> {
        let rows: Vec<_> = batch
            .iter()
            .map(|delay| {
                (delay.place.seq, delay.queue, delay.place.rank, delay.retrycount, delay.due_at, delay.cause.as_str())
            })
            .collect();
        sqlx::query(
            "insert into bus_retries (seq, queue, rank, retrycount, due_at, first_error, last_error)
             select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 5
             from json_each(?1) where true
             on conflict (seq) do update set
               retrycount = excluded.retrycount, due_at = excluded.due_at, last_error = excluded.last_error",
        )
        .bind(json(&rows)?)
        .execute(connection)
        .await?;
        Ok(vec![(); batch.len()])
    }
}

/// Makes events whose wait is over ready again.
pub(super) struct Promote {
    pub(super) aging: Aging,
    pub(super) now: i64,
    pub(super) max: u32,
}

/// An event that is ready again.
pub(super) struct Promoted {
    pub(super) queue: i64,
    pub(super) place: Place,
    pub(super) retrycount: u32,
}

#[async_trait]
impl Write for Promote {
    /// The events, and when the next is due.
    type Reply = (Vec<Promoted>, Option<i64>);

    async fn execute(batch: &[&Self], connection: &mut SqliteConnection) -> Result<Vec<Self::Reply>, sqlite::Error> {
        let mut replies = Vec::with_capacity(batch.len());
        for promote in batch {
            let rows = sqlx::query(
                "update bus_retries set due_at = 0
                 where seq in (select seq from bus_retries where due_at > 0 and due_at <= ?1 order by due_at limit ?2)
                 returning seq, queue, rank, retrycount",
            )
            .bind(promote.now)
            .bind(promote.max)
            .fetch_all(&mut *connection)
            .await?;
            let mut events = Vec::with_capacity(rows.len());
            for row in rows {
                let place = promote.aging.numbered(row.try_get(2)?, row.try_get(0)?);
                events.push(Promoted { queue: row.try_get(1)?, place, retrycount: row.try_get(3)? });
            }
            let next = sqlx::query_scalar("select min(due_at) from bus_retries where due_at > 0")
                .fetch_one(&mut *connection)
                .await?;
            replies.push((events, next));
        }
        Ok(replies)
    }
}

/// A queue as it is stored.
pub(super) struct StoredQueue {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) single_active: bool,
    pub(super) patterns: Vec<TopicPattern>,
    pub(super) depth: u64,
}

/// All that the bus must know to begin.
pub(super) struct Stored {
    pub(super) queues: Vec<StoredQueue>,
    pub(super) last_seq: i64,
    pub(super) next_due: Option<i64>,
}

/// Reads what a former process has left.
pub(super) async fn stored(database: &Database) -> Result<Stored, sqlite::Error> {
    let readers = database.readers();
    let rows = sqlx::query(
        "select id, name, single_active, (select count(*) from bus_messages where queue = bus_queues.id),
           (select json_group_array(pattern) from bus_bindings where queue = bus_queues.id)
         from bus_queues order by id",
    )
    .fetch_all(readers)
    .await?;
    let mut queues = Vec::with_capacity(rows.len());
    for row in rows {
        let patterns: String = row.try_get(4)?;
        queues.push(StoredQueue {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            single_active: row.try_get(2)?,
            patterns: serde_json::from_str(&patterns)
                .map_err(|error| sqlite::Error::Statement(format!("a stored binding cannot be read: {error}")))?,
            depth: row.try_get::<i64, _>(3)?.unsigned_abs(),
        });
    }
    let last_seq = sqlx::query_scalar("select coalesce(max(seq), 0) from bus_messages").fetch_one(readers).await?;
    let next_due =
        sqlx::query_scalar("select min(due_at) from bus_retries where due_at > 0").fetch_one(readers).await?;
    Ok(Stored { queues, last_seq, next_due })
}

/// Ready events of a queue from a place on, in order, with their retry counts; and whether these are all. Each rank is read by
/// the index, which knows nothing of aging.
pub(super) async fn places(
    database: &Database,
    queue: i64,
    aging: Aging,
    from: Place,
    limit: usize,
) -> Result<(Vec<(Place, u32)>, bool), sqlite::Error> {
    let mut found = Vec::new();
    for rank in 0..RANKS {
        let rows = sqlx::query(
            "select m.seq, coalesce(r.retrycount, 0)
             from bus_messages m left join bus_retries r on r.seq = m.seq
             where m.queue = ?1 and m.rank = ?2 and m.seq >= ?3 and coalesce(r.due_at, 0) = 0
             order by m.seq limit ?4",
        )
        .bind(queue)
        .bind(rank)
        .bind(aging.first_seq(from, rank))
        .bind(limit as i64)
        .fetch_all(database.readers())
        .await?;
        for row in rows {
            found.push((aging.numbered(rank, row.try_get(0)?), row.try_get::<u32, _>(1)?));
        }
    }
    found.sort_unstable();
    let complete = found.len() < limit;
    found.truncate(limit);
    Ok((found, complete))
}

/// A body that was read.
pub(super) struct Read {
    pub(super) seq: i64,
    /// Its size, and itself when it is an event.
    pub(super) bytes: usize,
    pub(super) event: Result<Event, String>,
}

/// Bodies of events, in the order of `seqs`; `true` when those are all, `false` when memory set an end before.
pub(super) async fn bodies(database: &Database, seqs: &[i64]) -> Result<(Vec<Read>, bool), sqlite::Error> {
    let mut rows =
        sqlx::query("select m.seq, m.body from json_each(?1) s join bus_messages m on m.seq = s.value order by s.key")
            .bind(json(&seqs)?)
            .fetch(database.readers());
    let mut read = Vec::with_capacity(seqs.len());
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        let body: &str = row.try_get(1)?;
        bytes += body.len();
        let event = serde_json::from_str(body).map_err(|error| error.to_string());
        read.push(Read { seq: row.try_get(0)?, bytes: body.len(), event });
        if bytes > READ_BYTES_MAX {
            return Ok((read, false));
        }
    }
    Ok((read, true))
}

/// What a statement carries.
pub(super) fn json<T: serde::Serialize + ?Sized>(rows: &T) -> Result<String, sqlite::Error> {
    serde_json::to_string(rows).map_err(|error| sqlite::Error::Statement(format!("parameters: {error}")))
}
