//! The sources of a node that runs: read again when they change, each falling back on what was good last.
//!
//! Asked by whoever watches the configuration, and by a model's call that was refused. A file that is broken or gone changes
//! nothing; neither does a line of `.env` that is gone and held a secret in use, for work that runs would fail without it. All
//! of that is told at each reading until it is mended, or until the node starts anew.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::sources::{DEFAULT_FILE, DOTENV_FILE, Sources};
use super::variables::CONFIG_VARIABLE;
use crate::config::problem::{Problem, Problems};
use crate::secret::Secrets;

/// Sources that are read again and again. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct LivingSources {
    dir: PathBuf,
    /// What was good last.
    last: Arc<Mutex<Sources>>,
}

impl LivingSources {
    /// These sources, which were gathered in `dir`.
    #[must_use]
    pub fn new(sources: Sources, dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), last: Arc::new(Mutex::new(sources)) }
    }

    /// The secrets of these sources; they are renewed from them.
    #[must_use]
    pub fn secrets(&self) -> Secrets {
        let (now, living) = (self.last().variables(), self.clone());
        Secrets::living(now, move |secrets| living.again(secrets).0.variables())
    }

    /// The files among them, there or not.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let node_file = self.last().origins(CONFIG_VARIABLE).next_back().map(|(_, path)| path);
        let node_file = node_file.unwrap_or_else(|| DEFAULT_FILE.to_owned());
        [DOTENV_FILE, node_file.as_str()].map(|path| self.dir.join(path)).to_vec()
    }

    /// Reads them again: what is good of them, and everything that is wrong. Blocks while it reads.
    #[must_use]
    pub fn again(&self, secrets: &Secrets) -> (Sources, Vec<Problem>) {
        let before = self.last();
        let gathered = Sources::gather(before.flags.clone(), before.env.clone(), &self.dir);
        let mut now = match gathered {
            Ok(sources) => Sources { host_name: before.host_name.clone(), ..sources },
            Err(Problems(problems)) => return (before, problems),
        };
        let mut problems = Vec::new();
        for (name, value) in &before.dotenv {
            let gone = now.dotenv.get(name).is_none_or(|value| value.trim().is_empty());
            if gone && !value.trim().is_empty() && secrets.knows(name, value) {
                let message = "the line is gone; its last value stays in use until the node starts again";
                problems.push(Problem::of(format!("{DOTENV_FILE}: {name}"), message));
                now.dotenv.insert(name.clone(), value.clone());
            }
        }
        if let (Some((path, _)), None) = (&before.file, &now.file) {
            problems
                .push(Problem::of(path, "the file is gone; its last version stays in use until the node starts again"));
            now.file.clone_from(&before.file);
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = now.clone();
        (now, problems)
    }

    fn last(&self) -> Sources {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::secret::ExposeSecret as _;

    #[test]
    fn what_breaks_or_goes_leaves_what_was_good_last() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        fs::create_dir(dir.path().join("config")).unwrap();
        write(".env", "KEY=the-first-key\nTROUPE_LOG=debug\n");
        write("config/node.yaml", "admin: {}\n");
        let sources = Sources::gather([].into(), [].into(), dir.path()).unwrap();
        let living = LivingSources::new(sources, dir.path());
        let secrets = living.secrets();
        let key = || secrets.resolve("${KEY}").unwrap().expose_secret().to_owned();
        let told = || {
            let (sources, problems) = living.again(&secrets);
            assert_eq!(secrets.renew(), []);
            (sources, problems.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!((key().as_str(), told().1), ("the-first-key", vec![]));
        assert_eq!(living.files(), [dir.path().join(".env"), dir.path().join("config/node.yaml")]);

        write(".env", "KEY=the-second-key\n");
        let (sources, problems) = told();
        assert_eq!((key().as_str(), problems), ("the-second-key", vec![]));
        assert!(!sources.dotenv.contains_key("TROUPE_LOG"), "what is no secret goes with its line");

        write(".env", "KEY=the-third-key\nno line at all\n");
        let (_, problems) = told();
        assert_eq!((key().as_str(), problems.len()), ("the-second-key", 1));
        assert!(problems[0].starts_with(".env:2:1: "), "{problems:?}");

        fs::remove_file(dir.path().join(".env")).unwrap();
        fs::remove_file(dir.path().join("config/node.yaml")).unwrap();
        for _ in 0..2 {
            let (sources, problems) = told();
            assert_eq!((key().as_str(), problems.len()), ("the-second-key", 2), "{problems:?}");
            assert!(problems[0].starts_with(".env: KEY: the line is gone"), "{problems:?}");
            assert_eq!(sources.file.unwrap().1, "admin: {}\n");
        }
        write(".env", "KEY=the-fourth-key\n");
        write("config/node.yaml", "");
        assert_eq!((told().1, key().as_str()), (vec![], "the-fourth-key"));
    }
}
