//! The shape of the tree, held by tests: floors, heads, lengths, ways out, single spellings, migrations.
//!
//! It reads files and nothing else, so it runs without a build of the product. Every rule is a pure function from texts
//! to findings, and has a test of its own on a small bad text: a rule that cannot fail holds nothing. A failure names
//! the file, the line and what to do.

#![expect(clippy::expect_used, reason = "a tree that cannot be read fails the test")]

#[path = "tidy/finding.rs"]
mod finding;
#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/migrations.rs"]
mod migrations;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/spelling.rs"]
mod spelling;
#[path = "tidy/text.rs"]
mod text;
#[path = "tidy/tree.rs"]
mod tree;

use std::sync::LazyLock;

use finding::none;
use source::Source;
use tree::Text;

/// Read once for all rules.
static TEXTS: LazyLock<Vec<Text>> = LazyLock::new(tree::texts);
static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| tree::sources(&TEXTS));

#[test]
fn crates_import_downward() {
    none("a crate that looks up", &floors::crates(&SOURCES));
    none("a manifest that looks up", &floors::manifests(&TEXTS));
}

#[test]
fn modules_of_the_runtime_import_downward() {
    none("a module that looks up or sideways", &floors::modules(&SOURCES));
}

#[test]
fn the_domain_is_pure() {
    none("I/O in the domain", &floors::purity(&SOURCES));
}

#[test]
fn every_file_says_what_it_is() {
    none("a file without a head", &text::heads(&SOURCES));
}

#[test]
fn files_and_functions_are_short() {
    none("a long file", &text::lengths(&SOURCES));
    none("a long function", &text::functions(&SOURCES));
}

#[test]
fn files_are_named_by_their_noun() {
    none("a name that says nothing", &text::names(&SOURCES));
}

#[test]
fn product_code_has_no_hidden_way_out() {
    none("a hidden way out", &text::ways_out(&SOURCES));
}

#[test]
fn lints_are_excepted_with_a_reason() {
    none("a silent exception", &text::exceptions(&SOURCES));
}

#[test]
fn topics_are_spelled_once() {
    none("a second spelling", &spelling::topics(&SOURCES));
}

#[test]
fn metrics_are_spelled_once() {
    none("a second spelling", &spelling::metrics(&SOURCES));
}

#[test]
fn libraries_are_named_in_one_place() {
    none("a library out of its place", &spelling::libraries(&SOURCES));
}

#[test]
fn nothing_is_left_unfinished() {
    none("unfinished work", &text::unfinished(&TEXTS));
}

#[test]
fn no_machine_is_named() {
    none("a path of one machine", &text::machine_paths(&TEXTS));
}

#[test]
fn panics_unwind() {
    none("another panic strategy", &text::strategies(&TEXTS));
}

#[test]
fn migrations_are_numbered_and_run() {
    none("a migration out of line", &migrations::numbering(&TEXTS));
}
