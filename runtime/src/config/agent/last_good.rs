//! The last good version of every file in the folder of agents.
//!
//! A file that breaks while the node runs must not take its agent away: whoever edits it is in the middle of a change. So a
//! file that is there and gives no agent stands for the agent that it gave last; only a file that is gone stands for
//! nobody. Kept by whoever watches the folder; nothing here reads or fails.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::problem::Problem;
use super::folder::Loaded;
use crate::domain::agent::AgentSpec;

/// An agent that is to be there.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// Its spec.
    pub spec: Arc<AgentSpec>,
    /// The spec's digest.
    pub digest: Arc<str>,
    /// What is wrong with its file as it is now; then this is an earlier version.
    pub problems: Vec<Problem>,
}

/// What the folder asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// The agents, by name.
    pub agents: BTreeMap<String, Wish>,
    /// Everything that is wrong with the folder.
    pub problems: Vec<Problem>,
}

/// The last good version of every file.
#[derive(Debug, Clone, Default)]
pub struct LastGood {
    /// By path, as a text: a path is compared part by part.
    files: BTreeMap<OsString, Wish>,
}

impl LastGood {
    /// Takes in what was read now; answers what is to be.
    pub fn take_in(&mut self, loaded: Loaded) -> Wanted {
        let Loaded { agents, errors, refused, unread } = loaded;
        if unread {
            // Nothing is known of the files, so nothing is taken from them.
            let agents = self.files.values().map(|wish| (wish.spec.name.to_string(), wish.clone())).collect();
            return Wanted { agents, problems: errors };
        }
        let refused: BTreeSet<OsString> = refused.into_iter().map(PathBuf::into_os_string).collect();
        let mut before = std::mem::take(&mut self.files);
        let mut wanted = Wanted { agents: BTreeMap::new(), problems: errors };
        for (spec, path) in agents {
            let path = path.into_os_string();
            let wish = match before.remove(&path) {
                Some(same) if Arc::ptr_eq(&same.spec, &spec) || same.spec == spec => {
                    Wish { problems: Vec::new(), ..same }
                }
                _ => Wish { digest: spec.digest().into(), spec, problems: Vec::new() },
            };
            wanted.agents.insert(wish.spec.name.to_string(), wish.clone());
            self.files.insert(path, wish);
        }
        for (path, mut wish) in before {
            // Whoever has the name now is newer than a version that is broken since.
            if !refused.contains(&path) || wanted.agents.contains_key(wish.spec.name.as_str()) {
                continue;
            }
            let origin = Path::new(&path).display().to_string();
            wish.problems = wanted.problems.iter().filter(|problem| problem.origin == origin).cloned().collect();
            wanted.agents.insert(wish.spec.name.to_string(), wish.clone());
            self.files.insert(path, wish);
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Agents, load_agents};
    use super::*;

    fn text(name: &str, text: &str) -> String {
        format!(
            "name: {name}\ntype: t\nexecution_mode: autonomous\nllm_config: {{provider: scripted, script: [{{reply: r}}]}}\ninstructions: {text}\n"
        )
    }

    /// Who is wanted, with its instructions, and an exclamation mark when its file is broken.
    fn look(dir: &Path, good: &mut LastGood) -> Vec<String> {
        let wanted = good.take_in(load_agents(dir, &Agents::default()));
        let shown = |wish: &Wish| {
            format!("{} {}{}", wish.spec.name, wish.spec.instructions, if wish.problems.is_empty() { "" } else { "!" })
        };
        wanted.agents.values().map(shown).collect()
    }

    #[test]
    fn a_broken_file_stands_for_what_it_gave_last_and_a_gone_one_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut good = LastGood::default();
        fs::write(path("a.yaml"), text("a", "one")).unwrap();
        fs::write(path("new.yaml"), "name: [").unwrap();
        assert_eq!(look(dir.path(), &mut good), ["a one"], "a file that was never good gives nobody");
        for broken in ["", "name: a\n", "name: [", "\u{0}"] {
            fs::write(path("a.yaml"), broken).unwrap();
            assert_eq!(look(dir.path(), &mut good), ["a one!"], "{broken:?}");
        }
        fs::write(path("a.yaml"), text("a", "two")).unwrap();
        assert_eq!(look(dir.path(), &mut good), ["a two"]);
        fs::rename(path("a.yaml"), path("b.yaml")).unwrap();
        assert_eq!(look(dir.path(), &mut good), ["a two"]);
        fs::write(path("b.yaml"), "").unwrap();
        assert_eq!(look(dir.path(), &mut good), ["a two!"]);
        fs::write(path("c.yaml"), text("a", "three")).unwrap();
        assert_eq!(look(dir.path(), &mut good), ["a three"], "another file has the name now");
        fs::remove_file(path("c.yaml")).unwrap();
        assert_eq!(look(dir.path(), &mut good), Vec::<String>::new(), "an old version does not rise again");
    }

    #[test]
    fn a_folder_that_cannot_be_read_takes_nobody_away() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("agents");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.yaml"), text("a", "one")).unwrap();
        let mut good = LastGood::default();
        assert_eq!(look(&folder, &mut good), ["a one"]);
        fs::rename(&folder, dir.path().join("away")).unwrap();
        assert_eq!(look(&folder, &mut good), ["a one"]);
        let wanted = good.take_in(load_agents(&folder, &Agents::default()));
        assert!(wanted.problems[0].message.contains("cannot read the folder"), "{:?}", wanted.problems);
        fs::rename(dir.path().join("away"), &folder).unwrap();
        fs::remove_file(folder.join("a.yaml")).unwrap();
        assert_eq!(look(&folder, &mut good), Vec::<String>::new(), "an empty folder wants nobody");
    }

    #[test]
    fn an_agent_that_is_refused_afterwards_is_kept_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        let mut good = LastGood::default();
        fs::write(&path, text("a", "one")).unwrap();
        look(dir.path(), &mut good);
        fs::write(&path, text("a", "two")).unwrap();
        let mut loaded = load_agents(dir.path(), &Agents::default());
        let origin = path.display().to_string();
        loaded.refuse(&path, vec![Problem::of(origin, "KEY is not set")]);
        let wanted = good.take_in(loaded);
        assert_eq!(wanted.agents["a"].problems, wanted.problems);
        assert_eq!(wanted.problems.len(), 1);
        assert_eq!(wanted.agents["a"].spec.instructions, "one");
    }
}
