//! `config/node.example.yaml`: every key with its meaning and default, all commented out.
//!
//! Made from the table of keys, so that it cannot miss one or show an old default; the file in the repository is held
//! against it by a test.

use super::variables::variable_of;
use super::{NODE, Table};
use crate::config::table::{Change, Key, Kind, Need};

const HEAD: &str = "\
## Configuration of a Troupe node. Copy it to config/node.yaml, or name a copy in TROUPE_CONFIG.
##
## Every line shows the default. To change a setting, remove one # from its line and from the line of its section.
## A variable in brackets sets the same and wins over this file; a flag wins over both.
## What is marked (live) has its effect within a second while the node runs; any other change waits for a restart.
## Secrets may be written as ${NAME}: the value is taken from the environment or from .env.
## Times: 500ms, 60s, 5m, 1h, 3d. Sizes: 64 KiB, 1 MiB. Editors complete the keys with `troupe schema node`.
";

/// The text of the example file.
#[must_use]
pub fn node_example() -> String {
    let mut text = HEAD.to_owned();
    for key in NODE.keys {
        text.push('\n');
        write_key(&mut text, &[key.name], key);
    }
    text
}

fn write_key(text: &mut String, path: &[&str], key: &Key) {
    let indent = "  ".repeat(path.len() - 1);
    let mut line = |content: &str| {
        text.push('#');
        text.push_str(&indent);
        text.push_str(content);
        text.push('\n');
    };
    let variable = variable_of(path).map(|variable| format!(" [{}]", variable.name)).unwrap_or_default();
    let mark = if key.change == Change::Live { " (live)" } else { "" };
    line(&format!("# {}{variable}{mark}", key.doc));
    if let Kind::Table(table) = key.kind {
        line(&format!("{}:", key.name));
        write_table(text, path, table);
        return;
    }
    let default = if let Need::Default(default) = key.need { default() } else { None };
    match default {
        None => line(&format!("{}:", key.name)),
        // A mapping begins on the next line.
        Some(default) if default.starts_with('\n') => {
            line(&format!("{}:", key.name));
            default.lines().skip(1).for_each(line);
        }
        Some(default) => line(&format!("{}: {default}", key.name)),
    }
}

fn write_table(text: &mut String, path: &[&str], table: &Table) {
    for key in table.keys {
        let path: Vec<&str> = path.iter().copied().chain([key.name]).collect();
        write_key(text, &path, key);
    }
}
