//! `troupe actors`: the live tree, and the kill switch.
//!
//! Called by the command line; asks the admin API and prints. A path that is not there ends with exit code 3.

use chrono::Utc;
use clap::Subcommand;

use super::Error;
use super::exit::Exit;
use super::printer::{Format, Printer};
use super::table::{Column, Listing, Shown};
use super::tree;
use crate::client::{Client, items};

/// Verbs of `troupe actors`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Draw the live tree
    Tree,
    /// List every actor
    #[command(visible_alias = "list")]
    Ls,
    /// Cut an actor off, as a crash would; its supervisor starts it again
    Kill {
        /// The actor's path, as `actors ls` shows it
        path: String,
    },
}

const ACTORS: Listing = Listing {
    things: "actors",
    name: "path",
    columns: &[
        Column::new("PATH", "path", Shown::Plain),
        Column::new("KIND", "kind", Shown::Plain),
        Column::new("STATE", "state", Shown::Plain),
        Column::new("RESTARTS", "restarts", Shown::Plain),
        Column::new("SINCE", "since", Shown::Age),
        Column::new("STEP", "step", Shown::Plain),
        Column::wide("MAILBOX", "mailbox_depth", Shown::Plain),
        Column::wide("NODE", "node", Shown::Plain),
        Column::wide("LAST ERROR", "last_error", Shown::Plain),
    ],
};

/// Does what the verb says.
pub async fn run(verb: Verb, client: &Client, printer: &mut Printer) -> Result<Exit, Error> {
    match verb {
        Verb::Tree => {
            let body = client.actors().await?;
            match printer.format() {
                Format::Table | Format::Wide => {
                    let drawn = tree::draw(items(&body), printer.style(), Utc::now());
                    printer.line(&drawn)?;
                }
                Format::Json | Format::Yaml | Format::Name => printer.list(&ACTORS, &body, items(&body))?,
            }
        }
        Verb::Ls => {
            let body = client.actors().await?;
            printer.list(&ACTORS, &body, items(&body))?;
        }
        Verb::Kill { path } => {
            client.kill(&path).await?;
            printer.note(&format!("{path} is cut off; look at `troupe actors tree`"));
        }
    }
    Ok(Exit::Ok)
}
