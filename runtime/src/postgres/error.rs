//! What can go wrong with the database, and what the server's own words for it mean here.
//!
//! One table from SQLSTATE to a meaning, so that the writer, the readers and the store's adapter agree about what may be
//! tried again. Made wherever sqlx answers an error; whoever gets one asks its [`Fault`].

use crate::fault::{Fault, Faulty};

/// What can go wrong with the database.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The address is none.
    #[error("DATABASE_URL: {0}; expected postgres://user:password@host:port/database?sslmode=verify-full")]
    Address(String),
    /// Nobody answers there.
    #[error("database {place}: {cause}; check that it runs, and DATABASE_URL")]
    Connect {
        /// Which, without the password.
        place: String,
        /// What went wrong.
        cause: String,
    },
    /// Somebody answers, and will not have us: a wrong password, no such database, a certificate that is not trusted.
    #[error("database {place}: {cause}; check DATABASE_URL, its password and certificates, and the rights of its user")]
    Refused {
        /// Which, without the password.
        place: String,
        /// What went wrong.
        cause: String,
    },
    /// The server is too old.
    #[error("database {place}: the server is PostgreSQL {found}, troupe needs 15 or newer; upgrade the server")]
    TooOld {
        /// Which.
        place: String,
        /// Its major version.
        found: u32,
    },
    /// The database was migrated by a newer binary.
    #[error("database {place}: has migration {number}, which this version does not know; run the newer troupe")]
    Newer {
        /// Which.
        place: String,
        /// The first unknown migration.
        number: i64,
    },
    /// A migration does not run, or is not ours.
    #[error("database {place}: {cause}; give troupe a database of its own, whose owner it is")]
    Migration {
        /// Which.
        place: String,
        /// What does not fit.
        cause: String,
    },
    /// The server is away, stopping, out of room, or too busy.
    #[error("the database does not answer: {0}")]
    Unavailable(String),
    /// The transaction met another one and was rolled back; it can be repeated at once.
    #[error("the database prefers another transaction: {0}")]
    Collided(String),
    /// The lease of the node that writes has run out: its operations wait until it is renewed.
    #[error("the node's lease has run out")]
    Lapsed,
    /// The node that writes is over: another has ended it, or has started under its name.
    #[error("this life of the node is over")]
    Over,
    /// A stored page or row is damaged.
    #[error("the database is damaged: {0}")]
    Corrupt(String),
    /// The writer is gone: the node is stopping.
    #[error("the database is closed")]
    Closed,
    /// A statement of ours is wrong.
    #[error("database: {0}")]
    Statement(String),
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Unavailable(_) | Self::Collided(_) | Self::Lapsed | Self::Closed | Self::Connect { .. } => {
                Fault::transient()
            }
            Self::Over => Fault::Fenced,
            Self::Address(_)
            | Self::Refused { .. }
            | Self::TooOld { .. }
            | Self::Newer { .. }
            | Self::Migration { .. }
            | Self::Corrupt(_) => Fault::Permanent,
            Self::Statement(_) => Fault::Bug,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        if let Some(code) = code {
            return Self::of_state(&code, error.to_string());
        }
        match error {
            sqlx::Error::PoolClosed => Self::Closed,
            sqlx::Error::PoolTimedOut
            | sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error.to_string()),
            other => Self::Statement(other.to_string()),
        }
    }
}

impl Error {
    /// The one table from SQLSTATE (postgresql.org/docs/current/errcodes-appendix.html) to what it means here.
    fn of_state(code: &str, cause: String) -> Self {
        match (code, code.get(..2)) {
            // Serialization failure, deadlock: the other transaction won.
            ("40001" | "40P01", _) => Self::Collided(cause),
            // A limit of ours was reached (query cancelled, lock not available, idle in transaction), or the server wants
            // no writes now (read-only after a failover). Else connection, resources (disk full, too many connections),
            // operator intervention, I/O error.
            ("57014" | "55P03" | "25P03" | "25006", _) | (_, Some("08" | "53" | "57" | "58")) => {
                Self::Unavailable(cause)
            }
            ("XX001" | "XX002", _) => Self::Corrupt(cause),
            _ => Self::Statement(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_has_one_meaning() {
        let of = |code: &str| Error::of_state(code, String::new());
        for away in ["57P01", "57P02", "57P03", "57014", "08006", "08P01", "53100", "53300", "55P03", "25P03", "58030"]
        {
            assert!(matches!(of(away), Error::Unavailable(_)), "{away}");
            assert!(matches!(of(away).fault(), Fault::Transient { .. }), "{away}");
        }
        assert!(matches!(of("40001"), Error::Collided(_)));
        assert!(matches!(of("40P01"), Error::Collided(_)));
        assert!(matches!(of("XX001"), Error::Corrupt(_)));
        for ours in ["23505", "42601", "42P01", "22P02", "XX000", "2", ""] {
            assert!(matches!(of(ours), Error::Statement(_)), "{ours}");
        }
    }
}
