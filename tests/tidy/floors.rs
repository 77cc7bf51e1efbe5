//! The floors: crates import downward only, and inside the runtime so do its modules.
//!
//! The tables here are the ones of `docs/ARCHITECTURE.md` and of the head of `runtime/src/lib.rs`. A new module needs a
//! line here before anything may import it. Tests may look anywhere.

use super::finding::Finding;
use super::source::Source;
use super::tree::Text;

/// Which of our crates each may use, in code and in its manifest.
const CRATES: [(&str, &[&str]); 4] = [
    ("runtime", &[]),
    ("actors", &["runtime"]),
    ("gateway", &["actors", "runtime"]),
    ("tests", &["gateway", "actors", "runtime"]),
];

/// Floor 0 of the runtime: beside itself, a module uses what is named here.
const GROUND: [(&str, &[&str]); 9] = [
    ("domain", &["fault"]),
    ("fault", &[]),
    ("group_commit", &[]),
    ("live", &[]),
    ("postgres", &["fault", "group_commit"]),
    ("progress", &[]),
    ("retry", &["fault"]),
    ("secret", &["fault"]),
    ("sqlite", &["fault", "group_commit"]),
];
/// Floor 1: the ports use floor 0, never one another.
const PORTS: [&str; 5] = ["bus", "clock", "model", "store", "tool"];
/// Floor 2: uses floors 0 and 1.
const UPPER: [&str; 3] = ["config", "supervision", "telemetry"];
/// The top: opens the ports of a node, and may use everything.
const TOP: &str = "ports";

/// What the pure domain must not know.
const IMPURE: [&str; 10] =
    ["tokio", "tokio_util", "futures", "sqlx", "reqwest", "axum", "ractor", "tracing", "async_trait", "prometheus"];

/// A crate that names another above it, in its code.
pub(crate) fn crates(sources: &[Source]) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in sources {
        let Some((own, allowed)) = crate_of(&source.path) else { continue };
        for (line, code) in (1..).zip(&source.code) {
            for (other, _) in CRATES.iter().filter(|(other, _)| *other != own && !allowed.contains(other)) {
                if has_word(code, &format!("troupe_{other}")) {
                    found.push(Finding::new(source.at(line), format!("{own} must not know {other}; calls go down")));
                }
            }
        }
    }
    found
}

/// A crate that names another above it, in its manifest.
pub(crate) fn manifests(texts: &[Text]) -> Vec<Finding> {
    let mut found = Vec::new();
    for text in texts.iter().filter(|text| text.path.ends_with("/Cargo.toml")) {
        let Some((own, allowed)) = crate_of(&text.path) else { continue };
        for (line, row) in (1..).zip(text.text.lines()) {
            for (other, _) in CRATES.iter().filter(|(other, _)| *other != own && !allowed.contains(other)) {
                let named = format!("troupe-{other}");
                if row.trim_start().strip_prefix(&named).is_some_and(|rest| rest.starts_with([' ', '.', '='])) {
                    let place = format!("{}:{line}", text.path);
                    found.push(Finding::new(place, format!("{own} must not depend on {other}")));
                }
            }
        }
    }
    found
}

/// A module of the runtime that imports from its own floor or from above.
pub(crate) fn modules(sources: &[Source]) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in sources {
        let Some(path) = module_path(&source.path) else { continue };
        let own = path[0].as_str();
        for (line, code) in source.product_code() {
            for other in imports(code, &path) {
                if other == own {
                    continue;
                }
                match may_import(own, &other) {
                    None => found.push(Finding::new(source.at(line), format!("{other} has no floor in tests/tidy"))),
                    Some(false) => found.push(Finding::new(
                        source.at(line),
                        format!("{own} must not import {other}; a module imports from floors below its own"),
                    )),
                    Some(true) => {}
                }
            }
        }
    }
    found
}

/// A word of the domain that does I/O.
pub(crate) fn purity(sources: &[Source]) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in sources
        .iter()
        .filter(|source| module_path(&source.path).is_some_and(|path| path[0] == "domain") && !source.all_tests)
    {
        for (line, code) in source.product_code() {
            for library in IMPURE.iter().filter(|library| has_path(code, library)) {
                found.push(Finding::new(source.at(line), format!("the domain is pure: {library} belongs to a port")));
            }
        }
    }
    found
}

/// Whether `own` may import `other`; `None` when one of them has no floor.
fn may_import(own: &str, other: &str) -> Option<bool> {
    let floor = |module: &str| match module {
        TOP => Some(3),
        _ if UPPER.contains(&module) => Some(2),
        _ if PORTS.contains(&module) => Some(1),
        _ => GROUND.iter().any(|(name, _)| *name == module).then_some(0),
    };
    let (from, to) = (floor(own)?, floor(other)?);
    if from == 0 && to == 0 {
        return GROUND.iter().find(|(name, _)| *name == own).map(|(_, allowed)| allowed.contains(&other));
    }
    Some(from > to)
}

/// Our crate that a path belongs to, with what it may use.
fn crate_of(path: &str) -> Option<(&'static str, &'static [&'static str])> {
    let folder = path.split('/').next()?;
    CRATES.iter().copied().find(|(name, _)| *name == folder)
}

/// The modules that lead to a file of the runtime; none for its root.
fn module_path(path: &str) -> Option<Vec<String>> {
    let inside = path.strip_prefix("runtime/src/")?.strip_suffix(".rs")?;
    (inside != "lib").then(|| inside.split('/').map(str::to_owned).collect())
}

/// The top modules that a line of code names, by `crate::` or by climbing with `super::`.
fn imports(code: &str, path: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, start) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':') {
            found.extend(heads(&code[at + start.len()..]));
        }
    }
    let climb = "super::".repeat(path.len());
    if let Some(at) = code.find(&climb) {
        found.extend(heads(&code[at + climb.len()..]));
    }
    found
}

/// `a::b` begins with `a`; `{a::b, c}` with `a` and `c`.
fn heads(rest: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = rest.strip_prefix('{') else {
        return Some(word(rest)).filter(|name| is_module(name)).into_iter().collect();
    };
    let (mut depth, mut heads, mut begins) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if begins && depth == 0 && !c.is_whitespace() => {
                heads.push(word(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    heads.into_iter().filter(|name| is_module(name)).collect()
}

/// Items at the root of a crate are re-exports or macros; only modules have a floor.
fn is_module(name: &str) -> bool {
    name.chars().next().is_some_and(char::is_lowercase)
}

/// Whether `word` stands in the code as a word of its own.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].chars().next_back().is_some_and(is_part)
            && !code[at + word.len()..].chars().next().is_some_and(is_part)
    })
}

/// Whether a library is named as the root of a path, an import or an attribute.
pub(crate) fn has_path(code: &str, library: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '.';
    code.match_indices(library).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + library.len()..]);
        let root = !before.chars().next_back().is_some_and(is_part) || before.ends_with("use ::");
        root && (after.starts_with("::") || (before.trim_end().ends_with("use") && after.starts_with([';', ' '])))
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::places;
    use super::*;

    #[test]
    fn crates_look_down_only() {
        let bad = [
            Source::new("runtime/src/a.rs", "use troupe_actors::pool;\nuse troupe_runtime::x;"),
            Source::new("actors/src/b.rs", "fn f() { troupe_gateway::main() }\n// troupe_gateway is above"),
            Source::new("gateway/src/c.rs", "use troupe_actors::a;\nuse troupe_runtime::b;\nuse troupe_tests::c;"),
            Source::new("tests/d.rs", "use troupe_gateway::a;"),
        ];
        assert_eq!(places(&crates(&bad)), ["runtime/src/a.rs:1", "actors/src/b.rs:1", "gateway/src/c.rs:3"]);
    }

    #[test]
    fn manifests_look_down_only() {
        let text = |path: &str, text: &str| Text { path: path.into(), text: text.into() };
        let bad = [
            text("actors/Cargo.toml", "[dependencies]\ntroupe-runtime.workspace = true\ntroupe-gateway = \"1\""),
            text("runtime/Cargo.toml", "name = \"troupe-runtime\"\ntroupe-actors.workspace = true"),
        ];
        assert_eq!(places(&manifests(&bad)), ["actors/Cargo.toml:3", "runtime/Cargo.toml:2"]);
    }

    #[test]
    fn modules_look_down_only() {
        let bad = [
            Source::new("runtime/src/domain/a.rs", "use crate::fault::F;\nuse crate::bus::B;"),
            Source::new(
                "runtime/src/bus/embedded.rs",
                "use crate::{domain::X, store::{Y, Z}};\nuse super::super::store;",
            ),
            Source::new(
                "runtime/src/store.rs",
                "use crate::sqlite::S;\nuse crate::supervision::T;\nuse super::model::M;",
            ),
            Source::new("runtime/src/config.rs", "use crate::telemetry::T;\nuse crate::tool::T;\nuse crate::news::N;"),
            Source::new("runtime/src/ports.rs", "use crate::telemetry::T;\nuse crate::bus::B;"),
            Source::new("runtime/src/tool/x.rs", "#[cfg(test)]\nmod tests { use crate::ports::P; }\nuse super::y::Y;"),
        ];
        let expected = [
            "runtime/src/domain/a.rs:2",
            "runtime/src/bus/embedded.rs:1",
            "runtime/src/bus/embedded.rs:2",
            "runtime/src/store.rs:2",
            "runtime/src/store.rs:3",
            "runtime/src/config.rs:1",
            "runtime/src/config.rs:3",
        ];
        assert_eq!(places(&modules(&bad)), expected);
    }

    #[test]
    fn the_domain_does_no_io() {
        let bad = [
            Source::new("runtime/src/domain/a.rs", "use serde::S;\nuse tokio::time::Instant;\nlet futures = 1;"),
            Source::new("runtime/src/retry.rs", "use tokio::time::Instant;"),
        ];
        assert_eq!(places(&purity(&bad)), ["runtime/src/domain/a.rs:2"]);
    }
}
