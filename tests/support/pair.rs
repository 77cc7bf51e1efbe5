//! Two nodes on one PostgreSQL, each with a folder and doors of its own, and a witness inside the database.
//!
//! The nodes are two users of the server, so the witness (triggers that write down every claim, entry and end) knows which
//! process has written what, and when by the server's clock: what a node says of itself is not asked. Who calls:
//! `tests/system/failover.rs`. [`Pair::report`] is what a failure shows.

use std::fs;
use std::time::{Duration, SystemTime};

use sqlx::{Connection as _, PgConnection};

use crate::Stage;
use crate::postgres::Postgres;
use crate::proxy::Proxy;

/// The two, as nodes and as users of the server.
pub const ONE: &str = "one";
/// The other one.
pub const TWO: &str = "two";
/// Lines of each node's log that a report has.
const LOG_LINES: usize = 60;

const USERS: &str = "create role one superuser login; create role two superuser login";

const WITNESS: &str = "\
    create table witness (place bigserial primary key, at timestamptz not null default clock_timestamp(), \
                          who text not null default session_user, what text not null, step uuid not null, \
                          epoch bigint, owner bigint, seq bigint, status text); \
    create function saw_step() returns trigger language plpgsql as $$ begin \
        insert into witness (what, step, epoch, owner, status) values ('step', new.id, new.epoch, new.owner, new.status); \
        return null; end $$; \
    create function saw_entry() returns trigger language plpgsql as $$ begin \
        insert into witness (what, step, seq) values (tg_argv[0], new.step_id, new.seq); return null; end $$; \
    create trigger saw after insert or update on steps for each row execute function saw_step(); \
    create trigger saw after insert on journal for each row execute function saw_entry('entry'); \
    create trigger saw after insert on execution_results for each row execute function saw_entry('result');";

const SEEN: &str = "\
    select (extract(epoch from at) * 1000000)::bigint, who, what, step::text, epoch, owner, seq from witness order by place";

const LIFE: &str = "\
    select incarnation, (extract(epoch from started_at) * 1000000)::bigint, \
           (extract(epoch from lease_until) * 1000000)::bigint, (extract(epoch from ended_at) * 1000000)::bigint \
    from nodes where name = $1";

const OPEN: &str = "select id::text from steps where owner = $1 and status = 'running' order by id";

/// Rows as text, for people.
const REPORTS: [(&str, &str); 3] = [
    ("nodes", "select n::text from nodes n order by name"),
    ("steps", "select s::text from steps s order by task_id limit 40"),
    (
        "witness, the last of it",
        "select w::text from (select * from witness order by place desc limit 80) w order by place",
    ),
];

/// The two and what they stand on. Their processes are the test's.
pub struct Pair {
    /// The server.
    pub server: Postgres,
    /// The line of the first one to it; the second one has a line of its own that nobody touches.
    pub proxy: Proxy,
    /// The first one's folder and doors.
    pub one: Stage,
    /// The second one's.
    pub two: Stage,
    url: String,
}

/// A row that somebody has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When, by the server's clock.
    pub at: SystemTime,
    /// [`ONE`] or [`TWO`].
    pub who: String,
    /// `step`, `entry` or `result`.
    pub what: String,
    /// Of which step.
    pub step: String,
    /// Under which epoch it stands now.
    pub epoch: Option<i64>,
    /// Who owns it now.
    pub owner: Option<i64>,
    /// Which entry.
    pub seq: Option<i64>,
}

/// A node's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Its number.
    pub incarnation: i64,
    /// When it began.
    pub started: SystemTime,
    /// Until when its lease was renewed last.
    pub lease: SystemTime,
    /// When it was ended, by itself or by another.
    pub ended: Option<SystemTime>,
}

impl Pair {
    /// The two on this server; `one` is the first one's stage, `url` its database.
    ///
    /// # Panics
    /// When the server does not do what it is told.
    pub async fn of(server: Postgres, mut one: Stage, url: &str) -> Self {
        let proxy = Proxy::start(server.port()).await;
        let mut two = Stage::new();
        let through = server.through(&proxy, url);
        for (stage, name, url) in [(&mut one, ONE, through.as_str()), (&mut two, TWO, url)] {
            stage.set("TROUPE_NODE_NAME", name).set("DATABASE_URL", &url.replace("troupe@", &format!("{name}@")));
        }
        let pair = Self { server, proxy, one, two, url: url.to_owned() };
        sqlx::raw_sql(USERS).execute(&mut pair.line().await).await.expect("two users");
        pair
    }

    /// Has everything written down from now on; the tables are there by then.
    ///
    /// # Panics
    /// When they are not.
    pub async fn witness(&self) {
        sqlx::raw_sql(WITNESS).execute(&mut self.line().await).await.expect("a witness");
    }

    /// Everything that was written, in order.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn seen(&self) -> Vec<Seen> {
        type Row = (i64, String, String, String, Option<i64>, Option<i64>, Option<i64>);
        let rows: Vec<Row> = sqlx::query_as(SEEN).fetch_all(&mut self.line().await).await.expect("what was seen");
        let seen =
            |(at, who, what, step, epoch, owner, seq): Row| Seen { at: time(at), who, what, step, epoch, owner, seq };
        rows.into_iter().map(seen).collect()
    }

    /// How a node stands.
    ///
    /// # Panics
    /// When there is none of this name.
    pub async fn life(&self, name: &str) -> Life {
        let row: (i64, i64, i64, Option<i64>) =
            sqlx::query_as(LIFE).bind(name).fetch_one(&mut self.line().await).await.expect("a node of this name");
        Life { incarnation: row.0, started: time(row.1), lease: time(row.2), ended: row.3.map(time) }
    }

    /// Running steps of an incarnation.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn open(&self, incarnation: i64) -> Vec<String> {
        sqlx::query_scalar(OPEN).bind(incarnation).fetch_all(&mut self.line().await).await.expect("steps")
    }

    /// Both logs' last lines, and the rows that decide who owns what.
    pub async fn report(&self) -> String {
        let mut parts = Vec::new();
        for (name, stage) in [(ONE, &self.one), (TWO, &self.two)] {
            let log = fs::read_to_string(stage.path("node.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            parts.push(format!("--- the log of {name} ends:\n{tail}\n"));
        }
        for (what, rows) in REPORTS {
            let mut line = self.line().await;
            let rows: Result<Vec<String>, _> = sqlx::query_scalar(rows).fetch_all(&mut line).await;
            let rows = rows.map_or_else(|error| error.to_string(), |rows| rows.join("\n"));
            parts.push(format!("--- {what}:\n{rows}\n"));
        }
        parts.concat()
    }

    async fn line(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.expect("the server answers")
    }
}

fn time(micros: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros.unsigned_abs())
}
