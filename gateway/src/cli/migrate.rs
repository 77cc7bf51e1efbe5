//! `troupe migrate`: brings the tables of the state up to date, so that a deployment may do it before its nodes start.
//!
//! Works on what the configuration names, the server or the file of the data folder, and needs no node. It may be run
//! twice, and by two machines at once: the second finds nothing to do. A database that a newer troupe has migrated is
//! refused and left as it is (exit 78); one that does not answer ends with 1.

use serde_json::json;
use troupe_runtime::config::NodeConfig;
use troupe_runtime::ports::{self, Migrated};

use super::exit::Exit;
use super::printer::{Format, Printer};
use super::{Error, Global, counted, reach};
use crate::node::options;

/// Migrates, and says from where to where.
pub async fn run(global: &Global, printer: &mut Printer) -> Result<Exit, Error> {
    let sources = reach::sources(global)?;
    let config = NodeConfig::load(&sources, &sources.secrets())?;
    let migrated = ports::migrate(&config.data_dir, &options::ports(&config)).await?;
    match printer.format() {
        Format::Json | Format::Yaml => printer.document(&json!(migrated))?,
        Format::Name => printer.line(&migrated.to.to_string())?,
        Format::Table | Format::Wide => printer.line(&told(&migrated))?,
    }
    Ok(Exit::Ok)
}

fn told(migrated: &Migrated) -> String {
    let Migrated { place, from, to } = migrated;
    let ran = usize::try_from(to - from).unwrap_or(0);
    if ran == 0 {
        return format!("{place}: up to date at migration {to}");
    }
    format!("{place}: {} run, now at migration {to}", counted(ran, "migration", "migrations"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_was_done() {
        let of = |from, to| told(&Migrated { place: "db".into(), from, to });
        assert_eq!(of(0, 1), "db: 1 migration run, now at migration 1");
        assert_eq!(of(1, 4), "db: 3 migrations run, now at migration 4");
        assert_eq!(of(4, 4), "db: up to date at migration 4");
    }
}
