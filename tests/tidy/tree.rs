//! The tree as it stands on disk: every source file, and every text that people read.
//!
//! Read once for all rules; a file that is no text is passed over. What is not ours (build output, data of a
//! node) is not looked at.

use std::fs;
use std::path::{Path, PathBuf};

use super::source::Source;

/// Folders that are not part of the tree.
const PASSED_OVER: [&str; 5] = ["target", ".git", "data", "node_modules", "proptest-regressions"];

/// A text of any kind.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// Its path from the top of the tree, with `/`.
    pub(crate) path: String,
    /// As it stands.
    pub(crate) text: String,
}

/// The top of the tree.
pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the tree").to_owned()
}

/// Every text of the tree, in the order of paths.
pub(crate) fn texts() -> Vec<Text> {
    let top = top();
    let mut found = Vec::new();
    walk(&top, &top, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.iter().any(|text| text.path == "Cargo.toml"), "the tree is not at {}", top.display());
    found
}

/// Every Rust file, with what is compiled for tests only marked as such.
pub(crate) fn sources(texts: &[Text]) -> Vec<Source> {
    let rust = |text: &&Text| Path::new(&text.path).extension().is_some_and(|extension| extension == "rs");
    let mut sources: Vec<_> = texts.iter().filter(rust).map(|text| Source::new(&text.path, &text.text)).collect();
    mark_test_modules(&mut sources);
    assert!(sources.len() > 50, "only {} sources found", sources.len());
    sources
}

/// A module that its parent declares for tests only is a test with all below it.
pub(crate) fn mark_test_modules(sources: &mut [Source]) {
    let mut prefixes = Vec::new();
    for source in sources.iter() {
        let folder = match source.path.rsplit_once('/') {
            Some((folder, "lib.rs" | "main.rs")) => folder.to_owned(),
            _ => source.path.trim_end_matches(".rs").to_owned(),
        };
        prefixes.extend(source.test_modules().iter().map(|module| format!("{folder}/{module}")));
    }
    for source in sources {
        let of = |prefix: &String| {
            source.path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        source.all_tests |= prefixes.iter().any(of);
    }
}

fn walk(top: &Path, folder: &Path, found: &mut Vec<Text>) {
    for entry in fs::read_dir(folder).expect("a folder of the tree can be read").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if PASSED_OVER.iter().any(|passed| name == *passed) {
            continue;
        }
        // Links may lead out of the tree, or in circles.
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            walk(top, &path, found);
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(&path)
        {
            let path = path.strip_prefix(top).expect("inside the tree").to_string_lossy().replace('\\', "/");
            found.push(Text { path, text });
        }
    }
}

#[test]
fn a_module_for_tests_takes_its_folder_along() {
    let mut sources = [
        Source::new("runtime/src/model.rs", "#[cfg(test)]\nmod fault_server;"),
        Source::new("runtime/src/model/fault_server.rs", ""),
        Source::new("runtime/src/model/fault_server/more.rs", ""),
        Source::new("runtime/src/model/fault_servers.rs", ""),
        Source::new("actors/src/lib.rs", "#[cfg(test)]\nmod probe;"),
        Source::new("actors/src/probe.rs", ""),
    ];
    mark_test_modules(&mut sources);
    assert_eq!(sources.map(|source| source.all_tests), [false, true, true, false, false, true]);
}
