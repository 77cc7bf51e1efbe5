//! How a file is written: its head, its length, its functions, its name, and what product code does not do.

use std::path::Path;

use super::finding::Finding;
use super::floors::has_word;
use super::source::{Source, item_length};
use super::tree::Text;

/// Lines of a file, at most.
const FILE_LINES_MAX: usize = 500;
/// Lines of a function outside tests, at most, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Lines of the head of a file of the product, at least.
const HEAD_LINES_MIN: usize = 2;
/// What ends a process or an actor by accident.
const FORBIDDEN: [(&str, &str); 8] = [
    (".unwrap()", "name the failure, or let the type rule it out"),
    (".unwrap_err()", "match on the result"),
    (".expect(", "name the failure, or let the type rule it out"),
    ("panic!", "a panic is a bug's way out, not a programmer's"),
    ("todo!", "stubs do not land"),
    ("unimplemented!", "stubs do not land"),
    ("unreachable!", "let the type rule it out"),
    ("dbg!", "use tracing"),
];
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 9] = ["util", "utils", "common", "misc", "helper", "helpers", "manager", "stuff", "lib2"];
/// Marks of unfinished work, spelled so that this file does not hold them.
const UNFINISHED: [&str; 4] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];

/// Every file says first what it is.
pub(crate) fn heads(sources: &[Source]) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in sources {
        let head = source.text.lines().take_while(|line| line.starts_with("//!"));
        let said = head.filter(|line| line.trim_start_matches("//!").trim().len() > 2).count();
        let least = if source.path.contains("/src/") && !source.all_tests { HEAD_LINES_MIN } else { 1 };
        if said < least {
            let why =
                format!("begin with at least {least} line(s) of //!: what this is, who calls it, what if it fails");
            found.push(Finding::new(source.at(1), why));
        }
    }
    found
}

/// No file is longer than one sitting.
pub(crate) fn lengths(sources: &[Source]) -> Vec<Finding> {
    let long = |source: &&Source| source.text.lines().count() > FILE_LINES_MAX;
    let finding = |source: &Source| {
        let lines = source.text.lines().count();
        Finding::new(source.at(lines), format!("{lines} lines; at most {FILE_LINES_MAX}: split it by concept"))
    };
    sources.iter().filter(long).map(finding).collect()
}

/// No function of the product is longer than a screen.
pub(crate) fn functions(sources: &[Source]) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in sources {
        for (line, code) in source.product_code() {
            if !begins_function(code) {
                continue;
            }
            let rest = source.code[line - 1..].join("\n");
            let lines = rest[..item_length(&rest).min(rest.len())].matches('\n').count() + 1;
            if lines > FUNCTION_LINES_MAX {
                let why = format!("a function of {lines} lines; at most {FUNCTION_LINES_MAX}");
                found.push(Finding::new(source.at(line), why));
            }
        }
    }
    found
}

fn begins_function(code: &str) -> bool {
    let words = ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe"];
    let mut rest = code.trim_start();
    while let Some(after) = words.iter().find_map(|word| rest.strip_prefix(word)?.strip_prefix(' ')) {
        rest = after;
    }
    rest.starts_with("fn ")
}

/// Product code has no way out that supervision does not know.
pub(crate) fn ways_out(sources: &[Source]) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in sources {
        for (line, code) in source.product_code() {
            for (word, instead) in FORBIDDEN.iter().filter(|(word, _)| holds(code, word)) {
                found.push(Finding::new(source.at(line), format!("{word} outside tests: {instead}")));
            }
        }
    }
    found
}

/// Whether the code holds the call; `debug_todo!` is not `todo!`.
fn holds(code: &str, word: &str) -> bool {
    match word.strip_suffix('!') {
        Some(name) => code.contains(word) && has_word(code, name),
        None => code.contains(word),
    }
}

/// Lints are excepted with `expect` and a reason, or not at all.
pub(crate) fn exceptions(sources: &[Source]) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in sources {
        for (line, code) in (1..).zip(&source.code) {
            let code: String = code.split_whitespace().collect();
            if ["#[allow(", "#![allow("].iter().any(|word| code.contains(word)) {
                found.push(Finding::new(
                    source.at(line),
                    "use #[expect(…, reason = \"…\")], which fails when it is idle",
                ));
            }
        }
    }
    found
}

/// Files are named by their noun, and a module lies in `x.rs` beside `x/`.
pub(crate) fn names(sources: &[Source]) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in sources {
        let name = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        if name == "mod" {
            found.push(Finding::new(&source.path, "name it x.rs beside x/: a tab says what it holds"));
        }
        if source.path.split(['/', '.']).any(|part| EMPTY_NAMES.contains(&part)) {
            found.push(Finding::new(&source.path, "name it by what it holds"));
        }
    }
    found
}

/// Unfinished work is an issue, not a comment.
pub(crate) fn unfinished(texts: &[Text]) -> Vec<Finding> {
    lines_with(texts, &UNFINISHED, "finish it or open an issue", has_word)
}

/// Nothing in the tree knows the machine it was written on.
pub(crate) fn machine_paths(texts: &[Text]) -> Vec<Finding> {
    let paths = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/Use", "rs/"), concat!("/tmp/br", "ief")];
    lines_with(texts, &paths, "a path of one machine; say it relative to the tree", |line, path| {
        // `http://host/work/` and `a/work/` are no absolute paths.
        line.match_indices(path)
            .any(|(at, _)| !line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || "._-~}".contains(c)))
    })
}

/// Supervision is built on panics that unwind: no manifest may choose another strategy.
pub(crate) fn strategies(texts: &[Text]) -> Vec<Finding> {
    let setting =
        |line: &str, word: &str| line.split('#').next().is_some_and(|line| line.replace(' ', "").contains(word));
    let mut found = Vec::new();
    for text in texts.iter().filter(|text| Path::new(&text.path).extension().is_some_and(|end| end == "toml")) {
        let one = std::slice::from_ref(text);
        found.extend(lines_with(
            one,
            &["panic=\"abort\"", "panic='abort'"],
            "a fallen actor would end the node",
            setting,
        ));
    }
    found
}

fn lines_with(texts: &[Text], words: &[&str], why: &str, has: impl Fn(&str, &str) -> bool) -> Vec<Finding> {
    let mut found = Vec::new();
    // The lock file and the licence are not written by us.
    for text in texts.iter().filter(|text| !matches!(text.path.as_str(), "Cargo.lock" | "LICENSE")) {
        for (line, row) in (1..).zip(text.text.lines()) {
            for word in words.iter().filter(|word| has(row, word)) {
                found.push(Finding::new(format!("{}:{line}", text.path), format!("{word}: {why}")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::finding::places;
    use super::*;

    #[test]
    fn a_file_without_a_head_is_found() {
        let bad = [
            Source::new("runtime/src/a.rs", "//! What.\n//! Why and who.\nfn f() {}"),
            Source::new("runtime/src/b.rs", "//! x\nfn f() {}"),
            Source::new("runtime/src/c.rs", "//! What it is.\n//!\nfn f() {}"),
            Source::new("runtime/src/d/tests.rs", "//! One line.\n"),
            Source::new("tests/e.rs", "fn f() {}\n//! late"),
        ];
        assert_eq!(places(&heads(&bad)), ["runtime/src/b.rs:1", "runtime/src/c.rs:1", "tests/e.rs:1"]);
    }

    #[test]
    fn long_files_and_functions_are_found() {
        let bad = [Source::new("tests/a.rs", "\n".repeat(501)), Source::new("tests/b.rs", "\n".repeat(500))];
        assert_eq!(places(&lengths(&bad)), ["tests/a.rs:501"]);

        let function =
            |lines: usize| format!("impl A {{\n    pub async fn f() {{\n{}    }}\n}}", "x();\n".repeat(lines - 2));
        let bad = [
            Source::new("actors/src/a.rs", function(71)),
            Source::new("actors/src/b.rs", function(70)),
            Source::new("tests/c.rs", function(200)),
            Source::new(
                "actors/src/d.rs",
                format!("fn f(a: [u8; 2]) -> X<\nY> where Z: W {{\n{}}}", "x();\n".repeat(80)),
            ),
        ];
        assert_eq!(places(&functions(&bad)), ["actors/src/a.rs:2", "actors/src/d.rs:1"]);
    }

    #[test]
    fn ways_out_are_found_outside_tests_only() {
        let text = "fn a() { b.unwrap(); }\nfn b() { c.unwrap_or(1); d.expect(\"e\") }\n// panic!\nfn c() { panic!(\"x.unwrap()\") }\n#[cfg(test)]\nmod tests {\n fn d() { e.unwrap() }\n}";
        assert_eq!(
            places(&ways_out(&[Source::new("runtime/src/a.rs", text)])),
            ["runtime/src/a.rs:1", "runtime/src/a.rs:2", "runtime/src/a.rs:4"]
        );
        assert_eq!(ways_out(&[Source::new("runtime/src/a/tests.rs", text)]), []);
    }

    #[test]
    fn silent_exceptions_are_found() {
        let text = "#[allow(dead_code)]\n#![allow(clippy::x)]\n#[expect(dead_code, reason = \"r\")]\n// #[allow(x)]";
        assert_eq!(places(&exceptions(&[Source::new("tests/a.rs", text)])), ["tests/a.rs:1", "tests/a.rs:2"]);
    }

    #[test]
    fn empty_names_are_found() {
        let bad =
            ["runtime/src/bus/mod.rs", "runtime/src/utils.rs", "actors/src/helpers/x.rs", "gateway/src/command.rs"]
                .map(|path| Source::new(path, ""));
        assert_eq!(places(&names(&bad)), ["runtime/src/bus/mod.rs", "runtime/src/utils.rs", "actors/src/helpers/x.rs"]);
    }

    #[test]
    fn unfinished_work_and_machine_paths_are_found() {
        let text = |path: &str, text: String| Text { path: path.into(), text };
        let mark = UNFINISHED[0];
        let bad = [
            text("docs/a.md", format!("fine\n# {mark}: later\n{mark}S are words")),
            text("Cargo.lock", mark.to_owned()),
            text("b.toml", format!("path = \"{}me/x\"\nurl = \"http://h{0}y\"", concat!("/ro", "ot/"))),
        ];
        assert_eq!(places(&unfinished(&bad)), ["docs/a.md:2"]);
        assert_eq!(places(&machine_paths(&bad)), ["b.toml:1"]);
    }

    #[test]
    fn an_abort_is_found_in_manifests_only() {
        let text = |path: &str, text: &str| Text { path: path.into(), text: text.to_owned() };
        let abort = "[profile.release]\npanic = \"abort\"\n# panic = \"abort\"\npanic = \"unwind\"";
        let bad = [text("Cargo.toml", abort), text("docs/a.md", abort), text(".cargo/config.toml", "panic='abort'")];
        assert_eq!(places(&strategies(&bad)), ["Cargo.toml:2", ".cargo/config.toml:1"]);
    }
}
