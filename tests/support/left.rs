//! What a released node has left behind: its file, from the statements that it was written down as.
//!
//! Who calls: the tests that this version goes on from there. The statements are SQLite's own `.dump`, so that they can
//! be read and compared; what cannot be executed fails the test.

use std::fs;
use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use troupe_runtime::sqlite::FILE_NAME;

/// What the node was called.
pub const NODE: &str = "vm";

/// Makes the file in `folder` that `dump` was taken from.
///
/// # Panics
/// When it cannot be made.
pub async fn leave(folder: &Path, dump: &Path) {
    fs::create_dir_all(folder).expect("the data folder");
    let statements = fs::read_to_string(dump).expect("a dump");
    let options = SqliteConnectOptions::new().filename(folder.join(FILE_NAME)).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.expect("a new file");
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await.expect("the dump is SQL");
    connection.close().await.expect("a whole file");
}
