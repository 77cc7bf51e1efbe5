//! Secrets: `${NAME}` references resolved late, values that do not print, and the redactor for what does print.
//!
//! ```text
//! environment, .env ─┐  variables                  ┌─► a model's call, when it is made
//! /run/secrets/…   ──┴─► Secrets ── resolve ───────┴─► the node's own settings, when they are read
//!        ▲                  └─ every value ──► Redactor ──► the log, the API, error texts
//!        └ renew: the watcher when something has changed, a model's call when it was refused
//! ```
//!
//! [`crate::config`] makes one [`Secrets`] at start; specs keep the references. A missing name is an error that lists every
//! missing one. A value that has changed is the value of the next call; one that has gone stays as it was, and whoever
//! renews is told. Files are read when a name is first resolved and at each renewal, so a call waits for no disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

pub use secrecy::{ExposeSecret, SecretString};

mod forms;
mod redactor;
mod template;

pub use redactor::Redactor;
pub use template::names;

use template::{Part, parts};

/// Longest content of a `${file:…}`.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// How a reference to a file begins.
const FILE: &str = "file:";

/// References without a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no value for {}; set it in the environment or in .env", .names.join(", "))]
pub struct MissingSecret {
    /// The names as they stand in the template (`NAME`, `file:/path`), each once, sorted.
    pub names: Vec<String>,
}

/// A secret that was there and is not any more; its last value is in use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secret file {} {why}; its last value stays in use", .path.display())]
pub struct Gone {
    /// The file.
    pub path: PathBuf,
    /// Why it gives no value: `cannot be read: …`.
    pub why: String,
}

/// Where variables come from when they are asked for again.
type Origin = dyn Fn(&Secrets) -> BTreeMap<String, String> + Send + Sync;

/// The values behind `${NAME}` and `${file:/path}`. Cheap to clone; all clones are one, and so are their redactors.
#[derive(Clone, Default)]
pub struct Secrets {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    values: RwLock<Values>,
    redactor: Redactor,
    origin: Option<Box<Origin>>,
    /// Another one as soon as a value is another one.
    generation: AtomicU64,
}

#[derive(Default)]
struct Values {
    variables: BTreeMap<String, SecretString>,
    /// The files that were asked for, by path; `None` for one that gave no value yet.
    files: BTreeMap<String, Option<SecretString>>,
    /// The variables that were resolved.
    used: BTreeSet<String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    /// Values that stay as they are, but for files. An empty value counts as unset, as compose files write `NAME=` for "none".
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = (String, String)>) -> Self {
        Self::with(values, None)
    }

    /// Values that [`renew`](Self::renew) asks this origin for again. The origin says which variables there are now, those
    /// included that are gone and have to stay; it may read files, and is asked on a thread that may wait.
    #[must_use]
    pub fn living(
        values: impl IntoIterator<Item = (String, String)>,
        origin: impl Fn(&Self) -> BTreeMap<String, String> + Send + Sync + 'static,
    ) -> Self {
        Self::with(values, Some(Box::new(origin)))
    }

    fn with(values: impl IntoIterator<Item = (String, String)>, origin: Option<Box<Origin>>) -> Self {
        let values = Values { variables: variables(values), ..Values::default() };
        Self { shared: Arc::new(Shared { values: RwLock::new(values), origin, ..Shared::default() }) }
    }

    /// The value of `name`, if it is set; from now on it is masked in logs.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<SecretString> {
        let value = self.read(|values| values.variables.get(name).cloned())?;
        self.note(name, value.expose_secret());
        Some(value)
    }

    /// The value of a variable that is no secret (an address, a switch): not masked in logs.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<String> {
        self.read(|values| values.variables.get(name).map(|value| value.expose_secret().to_owned()))
    }

    /// Whether a reference to `name` (`NAME`, `file:/path`) has a value. A file that nobody has asked for before is read.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.lookup(name).is_some()
    }

    /// Whether this variable or value has been used as a secret.
    #[must_use]
    pub fn knows(&self, name: &str, value: &str) -> bool {
        self.read(|values| values.used.contains(name)) || self.shared.redactor.knows(value)
    }

    /// `template` with each `${NAME}` and `${file:/path}` replaced; `$${` stands for a plain `${`.
    ///
    /// A file's last line break is cut, as editors add one.
    ///
    /// # Errors
    /// [`MissingSecret`] with every name that is unset, unreadable or no name at all.
    pub fn resolve(&self, template: &str) -> Result<SecretString, MissingSecret> {
        let mut text = String::with_capacity(template.len());
        let mut missing = BTreeSet::new();
        for part in parts(template) {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Reference(name) => match self.lookup(name) {
                    Some(value) => {
                        self.note(name, value.expose_secret());
                        text.push_str(value.expose_secret());
                    }
                    None => drop(missing.insert(name.to_owned())),
                },
            }
        }
        if !missing.is_empty() {
            return Err(MissingSecret { names: missing.into_iter().collect() });
        }
        self.learn(&text);
        Ok(SecretString::from(text))
    }

    /// A redactor that knows what was resolved here so far and what will be.
    #[must_use]
    pub fn redactor(&self) -> Redactor {
        self.shared.redactor.clone()
    }

    /// The files that were asked for so far, there or not.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.read(|values| values.files.keys().map(PathBuf::from).collect())
    }

    /// A number that is another one as soon as any value is another one.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// Reads everything again: variables from their origin, files from the disk. Blocks while it reads.
    ///
    /// # Errors
    /// None: a file that gives no value now is in the answer and keeps its last value.
    #[must_use]
    pub fn renew(&self) -> Vec<Gone> {
        let fresh = self.shared.origin.as_ref().map(|origin| variables(origin(self)));
        let (mut gone, mut files) = (Vec::new(), BTreeMap::new());
        for (path, last) in self.read(|values| values.files.clone()) {
            let value = match (read_file(&path), last) {
                (Ok(value), _) => Some(value),
                (Err(why), Some(last)) => {
                    gone.push(Gone { path: PathBuf::from(&path), why });
                    Some(last)
                }
                // Whoever needs it says that it lacks it.
                (Err(_), None) => None,
            };
            files.insert(path, value);
        }
        let mut values = self.shared.values.write().unwrap_or_else(PoisonError::into_inner);
        let mut is_other = false;
        if let Some(fresh) = fresh {
            is_other |= !is_same(&values.variables, &fresh);
            values.variables = fresh;
        }
        for (path, value) in files {
            let text = |value: Option<&SecretString>| value.map(|value| value.expose_secret().to_owned());
            let before = values.files.insert(path, value.clone()).flatten();
            is_other |= text(before.as_ref()) != text(value.as_ref());
        }
        drop(values);
        if is_other {
            self.shared.generation.fetch_add(1, Ordering::Release);
        }
        gone
    }

    fn lookup(&self, name: &str) -> Option<SecretString> {
        let Some(path) = name.strip_prefix(FILE) else {
            return self.read(|values| values.variables.get(name).cloned());
        };
        if let Some(known) = self.read(|values| values.files.get(path).cloned()) {
            return known;
        }
        let value = read_file(path).ok();
        let mut values = self.shared.values.write().unwrap_or_else(PoisonError::into_inner);
        values.files.entry(path.to_owned()).or_insert(value).clone()
    }

    fn note(&self, name: &str, value: &str) {
        self.learn(value);
        let (variable, known) = (!name.starts_with(FILE), self.read(|values| values.used.contains(name)));
        if variable && !known {
            self.shared.values.write().unwrap_or_else(PoisonError::into_inner).used.insert(name.to_owned());
        }
    }

    fn learn(&self, value: &str) {
        if !self.shared.redactor.knows(value) {
            self.read(|values| {
                let all = || values.variables.values().chain(values.files.values().flatten());
                self.shared.redactor.learn(value, |other| all().any(|value| value.expose_secret() == other));
            });
        }
    }

    fn read<T>(&self, look: impl FnOnce(&Values) -> T) -> T {
        look(&self.shared.values.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn variables(values: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, SecretString> {
    let set = values.into_iter().filter(|(_, value)| !value.trim().is_empty());
    set.map(|(name, value)| (name, SecretString::from(value))).collect()
}

fn is_same(one: &BTreeMap<String, SecretString>, other: &BTreeMap<String, SecretString>) -> bool {
    let pairs = |values: &BTreeMap<String, SecretString>| {
        values.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned())).collect::<Vec<_>>()
    };
    pairs(one) == pairs(other)
}

/// What a file holds, or why it gives no value.
fn read_file(path: &str) -> Result<SecretString, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    if read.map_err(|error| format!("cannot be read: {error}"))? as u64 > FILE_BYTES_MAX {
        return Err(format!("has more than {FILE_BYTES_MAX} bytes"));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    Ok(SecretString::from(line))
}

#[cfg(test)]
mod tests;
