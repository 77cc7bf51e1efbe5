//! Migrations: numbered without gaps, named alike in every dialect, and all of them carried by the binary.

use super::finding::Finding;
use super::tree::Text;

/// The file that embeds them.
const CARRIER: &str = "runtime/src/sqlite.rs";

/// Gaps, odd names, and files that nobody runs.
pub(crate) fn numbering(texts: &[Text]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut folders: Vec<(&str, Vec<&str>)> = Vec::new();
    for text in texts {
        let Some((folder, name)) = text.path.strip_prefix("migrations/").and_then(|path| path.split_once('/')) else {
            continue;
        };
        match folders.iter_mut().find(|(known, _)| *known == folder) {
            Some((_, names)) => names.push(name),
            None => folders.push((folder, vec![name])),
        }
    }
    for (folder, names) in &mut folders {
        names.sort_unstable();
        for (number, name) in (1..).zip(names.iter()) {
            let is_sql = name.rsplit_once('.').is_some_and(|(_, extension)| extension == "sql");
            if !name.starts_with(&format!("{number:04}_")) || !is_sql {
                let why = format!("expected {number:04}_<name>.sql: numbers without gaps, in the order they run");
                found.push(Finding::new(format!("migrations/{folder}/{name}"), why));
            }
        }
    }
    let sqlite = folders.iter().find(|(folder, _)| *folder == "sqlite");
    let carrier = texts.iter().find(|text| text.path == CARRIER);
    if let (Some((_, names)), Some(carrier)) = (sqlite, carrier) {
        for name in names.iter().filter(|name| !carrier.text.contains(&format!("migrations/sqlite/{name}"))) {
            found.push(Finding::new(format!("migrations/sqlite/{name}"), format!("{CARRIER} does not run it")));
        }
    }
    for (other, names) in folders.iter().filter(|(folder, _)| *folder != "sqlite") {
        if let Some((_, expected)) = sqlite
            && names != expected
        {
            let why = format!("numbers and names differ from migrations/sqlite: {names:?} and {expected:?}");
            found.push(Finding::new(format!("migrations/{other}"), why));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::finding::places;
    use super::*;

    fn texts(paths: &[&str]) -> Vec<Text> {
        let text = paths.join("\n../../");
        let mut texts: Vec<_> = paths.iter().map(|path| Text { path: (*path).into(), text: String::new() }).collect();
        texts.push(Text { path: CARRIER.into(), text });
        texts
    }

    #[test]
    fn gaps_and_odd_names_are_found() {
        let good = texts(&["migrations/sqlite/0001_a.sql", "migrations/sqlite/0002_b.sql"]);
        assert_eq!(numbering(&good), []);
        let gap = texts(&["migrations/sqlite/0001_a.sql", "migrations/sqlite/0003_b.sql"]);
        assert_eq!(places(&numbering(&gap)), ["migrations/sqlite/0003_b.sql"]);
        let twice = texts(&["migrations/sqlite/0001_a.sql", "migrations/sqlite/0001_b.sql"]);
        assert_eq!(places(&numbering(&twice)), ["migrations/sqlite/0001_b.sql"]);
    }

    #[test]
    fn a_migration_that_nobody_runs_and_a_dialect_apart_are_found() {
        let mut lost = texts(&["migrations/sqlite/0001_a.sql"]);
        lost.push(Text { path: "migrations/sqlite/0002_b.sql".into(), text: String::new() });
        assert_eq!(places(&numbering(&lost)), ["migrations/sqlite/0002_b.sql"]);
        let apart = texts(&["migrations/sqlite/0001_a.sql", "migrations/postgres/0001_b.sql"]);
        assert_eq!(places(&numbering(&apart)), ["migrations/postgres"]);
    }
}
