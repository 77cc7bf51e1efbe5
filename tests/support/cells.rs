//! Cells of a database, read and changed behind the store's back: how the conformance suite damages rows.
//!
//! One connection of its own beside the store's. Who calls: the harnesses of the suite outside the runtime. A database
//! that does not take a value back could never come to hold it; that is an answer, not an error.

use std::path::Path;

use sqlx::error::DatabaseError;
use sqlx::postgres::PgRow;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, SqliteConnection, TypeInfo as _, ValueRef as _};
use troupe_runtime::sqlite::FILE_NAME;
use troupe_runtime::store::conformance::{Cell, Dialect, Raw};

/// Cells of a node's file.
pub struct InFile(SqliteConnection);

/// Cells of a database on a server.
pub struct OnServer(PgConnection);

impl InFile {
    /// Opens the file in this folder.
    ///
    /// # Panics
    /// When there is none.
    pub async fn open(folder: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(folder.join(FILE_NAME));
        Self(SqliteConnection::connect_with(&options).await.expect("the node's file"))
    }

    /// Reads a cell.
    ///
    /// # Errors
    /// When there is no such cell.
    pub async fn peek(&mut self, cell: &Cell) -> Result<Raw, String> {
        let select = cell.select(Dialect::Sqlite);
        let row = sqlx::query(AssertSqlSafe(select)).fetch_one(&mut self.0).await.map_err(|e| e.to_string())?;
        raw_of_file(&row).map_err(|error| error.to_string())
    }

    /// Writes a cell.
    ///
    /// # Errors
    /// When there is no such cell.
    pub async fn poke(&mut self, cell: &Cell, raw: &Raw) -> Result<bool, String> {
        let value = match raw {
            Raw::Null => "null".to_owned(),
            Raw::Number(number) => number.to_string(),
            Raw::Text(bytes) => format!("cast(x'{}' as text)", hex::encode(bytes)),
            Raw::Bytes(bytes) => format!("x'{}'", hex::encode(bytes)),
        };
        let update = cell.update(Dialect::Sqlite, &value);
        let done = sqlx::query(AssertSqlSafe(update)).execute(&mut self.0).await.map_err(|e| e.to_string())?;
        one(done.rows_affected(), cell)
    }
}

impl OnServer {
    /// Connects to a database.
    ///
    /// # Panics
    /// When nobody answers there.
    pub async fn connect(url: &str) -> Self {
        Self(PgConnection::connect(url).await.expect("the server answers"))
    }

    /// Reads a cell.
    ///
    /// # Errors
    /// When there is no such cell.
    pub async fn peek(&mut self, cell: &Cell) -> Result<Raw, String> {
        let select = cell.select(Dialect::Postgres);
        let row = sqlx::query(AssertSqlSafe(select)).fetch_one(&mut self.0).await.map_err(|e| e.to_string())?;
        raw_of_server(&row).map_err(|error| error.to_string())
    }

    /// Writes a cell.
    ///
    /// # Errors
    /// When there is no such cell.
    pub async fn poke(&mut self, cell: &Cell, raw: &Raw) -> Result<bool, String> {
        let value = match raw {
            Raw::Null => "null".to_owned(),
            Raw::Number(number) => number.to_string(),
            Raw::Text(bytes) => format!("convert_from('\\x{}', 'UTF8')", hex::encode(bytes)),
            Raw::Bytes(bytes) => format!("'\\x{}'::bytea", hex::encode(bytes)),
        };
        let update = cell.update(Dialect::Postgres, &value);
        match sqlx::query(AssertSqlSafe(update)).execute(&mut self.0).await {
            Ok(done) => one(done.rows_affected(), cell),
            // 22021: no UTF-8, or a NUL; the server itself keeps such a text out.
            Err(error) => match error.as_database_error().and_then(DatabaseError::code).as_deref() {
                Some("22021") => Ok(false),
                _ => Err(error.to_string()),
            },
        }
    }
}

fn raw_of_file(row: &SqliteRow) -> Result<Raw, sqlx::Error> {
    let value = row.try_get_raw(0)?;
    Ok(match value.type_info().name() {
        _ if value.is_null() => Raw::Null,
        "INTEGER" => Raw::Number(row.try_get(0)?),
        "TEXT" => Raw::Text(row.try_get_unchecked(0)?),
        _ => Raw::Bytes(row.try_get(0)?),
    })
}

fn raw_of_server(row: &PgRow) -> Result<Raw, sqlx::Error> {
    let value = row.try_get_raw(0)?;
    Ok(match value.type_info().name() {
        _ if value.is_null() => Raw::Null,
        "INT8" => Raw::Number(row.try_get(0)?),
        "INT2" => Raw::Number(row.try_get::<i16, _>(0)?.into()),
        "TEXT" => Raw::Text(row.try_get::<String, _>(0)?.into_bytes()),
        _ => Raw::Bytes(row.try_get(0)?),
    })
}

fn one(rows: u64, cell: &Cell) -> Result<bool, String> {
    if rows == 1 { Ok(true) } else { Err(format!("{rows} rows are {cell:?}")) }
}
