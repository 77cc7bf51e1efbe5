//! What the files of a folder gave when they were read last, so that one change among ten thousand files reads one file.
//!
//! A file that looks from outside as it did then gives the same again. That is believed only of a file to which nothing had been
//! done for a while before it was read: two writes within one tick of the file system's clock look alike. Everything is forgotten
//! now and then by whoever holds this ([`Kept::age`]), for a mount that hides a change.
//!
//! Held by whoever watches the folder, filled by [`load_agents_again`](super::load_agents_again). Nothing here reads or fails.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::super::node::Agents;
use super::stamp::Outside;
use crate::domain::agent::AgentSpec;

/// How long a file must have rested before it was read; the coarsest clocks of file systems count in two seconds.
const RESTED_SECONDS: i64 = 3;

/// The files that need not be read again.
#[derive(Debug)]
pub struct Kept {
    /// Under which limits they were read, as text.
    limits: String,
    /// By path, as a text: a path is compared and hashed part by part.
    files: HashMap<OsString, (Outside, Arc<AgentSpec>)>,
    since: Instant,
}

impl Default for Kept {
    fn default() -> Self {
        Self { limits: String::new(), files: HashMap::new(), since: Instant::now() }
    }
}

impl Kept {
    /// For how long files have been believed to be what they were.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Has every file read again the next time.
    pub fn forget(&mut self) {
        self.files.clear();
        self.since = Instant::now();
    }

    /// A reading begins under these limits; what was read under others counts for nothing.
    pub(super) fn begin(&mut self, limits: &Agents) {
        let limits = format!("{limits:?}");
        if self.limits != limits {
            self.forget();
            self.limits = limits;
        }
    }

    /// What a file that looks like this gave, and gives.
    pub(super) fn get(&self, path: &Path, outside: &Outside) -> Option<Arc<AgentSpec>> {
        self.files.get(path.as_os_str()).filter(|(then, _)| then == outside).map(|(_, spec)| spec.clone())
    }

    /// These are the files that gave an agent now, each with how it looked before it was read.
    pub(super) fn keep(&mut self, read: impl Iterator<Item = (PathBuf, Outside, Arc<AgentSpec>)>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
        let rested = read.filter(|(_, outside, _)| outside.has_rested(RESTED_SECONDS, now));
        self.files = rested.map(|(path, outside, spec)| (path.into_os_string(), (outside, spec))).collect();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;
    use crate::config::{Loaded, load_agents, load_agents_again};

    /// A folder with files to which nothing has been done for long.
    fn folder(files: &[(&str, &str)]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn text(name: &str, instructions: &str) -> String {
        format!(
            "name: {name}\ntype: t\nexecution_mode: autonomous\nllm_config: {{provider: scripted, script: [{{reply: r}}]}}\ninstructions: {instructions}\n"
        )
    }

    /// Reads the folder as if its files had been there for an hour, which their owner can only say of the time of writing.
    fn read(dir: &TempDir, kept: &mut Kept) -> Loaded {
        let loaded = load_agents_again(dir.path(), &Agents::default(), kept);
        let aged = loaded.agents.iter().map(|(spec, path)| {
            let outside = Outside::of(&fs::metadata(path).unwrap());
            (path.clone().into_os_string(), (outside, spec.clone()))
        });
        kept.files = aged.collect();
        loaded
    }

    fn same(before: &Loaded, after: &Loaded) -> Vec<bool> {
        let pairs = before.agents.iter().zip(&after.agents);
        pairs.map(|((before, _), (after, _))| Arc::ptr_eq(before, after)).collect()
    }

    #[test]
    fn one_change_reads_one_file() {
        let dir = folder(&[("a.yaml", &text("a", "one")), ("b.yaml", &text("b", "one")), ("c.yaml", "name: [")]);
        let mut kept = Kept::default();
        let first = read(&dir, &mut kept);
        fs::write(dir.path().join("b.yaml"), text("b", "two")).unwrap();
        let second = read(&dir, &mut kept);
        assert_eq!(same(&first, &second), [true, false]);
        assert_eq!(second.agents[1].0.instructions, "two");
        assert_eq!((second.errors.len(), &second.errors), (1, &first.errors), "a broken file is read each time");
        kept.forget();
        assert_eq!(same(&second, &read(&dir, &mut kept)), [false, false]);
    }

    #[test]
    fn what_was_just_written_is_not_believed() {
        let dir = folder(&[("a.yaml", &text("a", "one"))]);
        let mut kept = Kept::default();
        let first = load_agents_again(dir.path(), &Agents::default(), &mut kept);
        // The same outside as before, for all that a coarse clock tells.
        let second = load_agents_again(dir.path(), &Agents::default(), &mut kept);
        assert_eq!(same(&first, &second), [false]);
        let outside = Outside::of(&fs::metadata(dir.path().join("a.yaml")).unwrap());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
        assert!(!outside.has_rested(RESTED_SECONDS, now) && outside.has_rested(RESTED_SECONDS, now + 10));
    }

    #[test]
    fn other_limits_read_everything_again() {
        let dir = folder(&[("a.yaml", &text("a", "one"))]);
        let mut kept = Kept::default();
        read(&dir, &mut kept);
        let narrow = Agents { file_bytes_max: 10, ..Agents::default() };
        let refused = load_agents_again(dir.path(), &narrow, &mut kept);
        assert!(refused.agents.is_empty() && refused.errors[0].message.contains("at most 10"), "{:?}", refused.errors);
    }

    #[test]
    fn what_is_wrong_between_files_is_told_as_if_all_were_read() {
        let lead = |team: &str| text("lead", "one").replace("autonomous", "collaborative") + team;
        let dir = folder(&[
            ("a.yaml", &text("a", "one")),
            ("lead.yaml", &lead("team: [a]\n")),
            ("z.yaml", &text("z", "one")),
        ]);
        let mut kept = Kept::default();
        assert_eq!(read(&dir, &mut kept).errors, []);
        let change = |name: &str, text: String| fs::write(dir.path().join(name), text).unwrap();
        let told = |loaded: &Loaded| loaded.errors.clone();
        // A member of a team that was read long ago goes; a name is taken by another file that was.
        fs::remove_file(dir.path().join("a.yaml")).unwrap();
        change("z.yaml", text("lead", "two"));
        let seen = read(&dir, &mut kept);
        assert_eq!(told(&seen), load_agents(dir.path(), &Agents::default()).errors);
        assert_eq!(seen.errors.len(), 2, "{:?}", seen.errors);
        assert!(seen.errors.iter().any(|problem| problem.to_string().contains("taken by") && problem.place.is_some()));
    }

    #[test]
    fn a_file_by_the_same_name_that_is_another_is_read() {
        let dir = folder(&[("a.yaml", &text("a", "one"))]);
        let path: PathBuf = dir.path().join("a.yaml");
        let mut kept = Kept::default();
        let first = read(&dir, &mut kept);
        let times = fs::metadata(&path).unwrap();
        let new = dir.path().join(".new");
        fs::write(&new, text("a", "two")).unwrap();
        File::options().append(true).open(&new).unwrap().set_modified(times.modified().unwrap()).unwrap();
        fs::rename(&new, &path).unwrap();
        let second = read(&dir, &mut kept);
        assert_eq!((same(&first, &second), second.agents[0].0.instructions.as_str()), (vec![false], "two"));
    }
}
