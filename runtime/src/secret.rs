//! Secrets: `${NAME}` references resolved late, values that do not print, and the redactor for what does print.
//!
//! [`crate::config`] makes one [`Secrets`] at start from the environment and `.env`; specs keep the references, and the
//! adapters resolve them when they build a client. A missing name is an error that lists every missing one. Whatever was
//! resolved is known to the [`Redactor`]s made from the same `Secrets`, which the log output runs through: the last line
//! of defence, for the day when an error text of somebody else's library holds a key.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::sync::{Arc, PoisonError, RwLock};

pub use secrecy::{ExposeSecret, SecretString};

/// Longest content of a `${file:…}`.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Shorter values are not masked: a key of "1" would black out every number in the log.
const MASKED_BYTES_MIN: usize = 8;
/// What stands in the place of a secret.
const MASK: &str = "***";
/// How well-known tokens begin; a word that begins so and is long enough is masked even if nobody resolved it.
const TOKEN_PREFIXES: [&str; 6] = ["sk-", "xoxb-", "xoxp-", "xoxa-", "xoxe-", "xapp-"];
/// What must follow a prefix to make a token.
const TOKEN_REST_MIN: usize = 8;

/// References without a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no value for {}; set it in the environment or in .env", .names.join(", "))]
pub struct MissingSecret {
    /// The names as they stand in the template (`NAME`, `file:/path`), each once, sorted.
    pub names: Vec<String>,
}

/// The values of the environment and `.env`, as they were at start. Cheap to clone; clones share what the redactors know.
#[derive(Clone, Default)]
pub struct Secrets {
    values: Arc<BTreeMap<String, SecretString>>,
    resolved: Arc<RwLock<BTreeSet<String>>>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    /// A snapshot. An empty value counts as unset, as compose files write `NAME=` for "none".
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = (String, String)>) -> Self {
        let values = values
            .into_iter()
            .filter(|(_, value)| !value.trim().is_empty())
            .map(|(name, value)| (name, SecretString::from(value)))
            .collect();
        Self { values: Arc::new(values), resolved: Arc::default() }
    }

    /// The value of `name`, if it is set; from now on it is masked in logs.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<SecretString> {
        let value = self.values.get(name)?.clone();
        self.remember(value.expose_secret());
        Some(value)
    }

    /// The value of a variable that is no secret (an address, a switch): not masked in logs.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(ExposeSecret::expose_secret)
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
                        self.remember(value.expose_secret());
                        text.push_str(value.expose_secret());
                    }
                    None => drop(missing.insert(name.to_owned())),
                },
            }
        }
        if !missing.is_empty() {
            return Err(MissingSecret { names: missing.into_iter().collect() });
        }
        self.remember(&text);
        Ok(SecretString::from(text))
    }

    /// A redactor that knows what was resolved here so far and what will be.
    #[must_use]
    pub fn redactor(&self) -> Redactor {
        Redactor { resolved: Arc::clone(&self.resolved) }
    }

    fn lookup(&self, name: &str) -> Option<SecretString> {
        match name.strip_prefix("file:") {
            Some(path) => read_file(path).map(SecretString::from),
            None => self.values.get(name).cloned(),
        }
    }

    fn remember(&self, value: &str) {
        if value.len() < MASKED_BYTES_MIN {
            return;
        }
        let known = self.resolved.read().unwrap_or_else(PoisonError::into_inner).contains(value);
        if !known {
            self.resolved.write().unwrap_or_else(PoisonError::into_inner).insert(value.to_owned());
        }
    }
}

/// The names that `template` refers to, in order, as they stand there (`NAME`, `file:/path`).
#[must_use]
pub fn names(template: &str) -> Vec<String> {
    parts(template)
        .filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Reference(name) => Some(name.to_owned()),
        })
        .collect()
}

/// Masks the values that were resolved, and words that look like a token.
#[derive(Clone, Default)]
pub struct Redactor {
    resolved: Arc<RwLock<BTreeSet<String>>>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// `text` with each secret replaced by `***`.
    #[must_use]
    pub fn mask<'text>(&self, text: &'text str) -> Cow<'text, str> {
        let mut masked = Cow::Borrowed(text);
        let resolved = self.resolved.read().unwrap_or_else(PoisonError::into_inner);
        // Longest first: of a value and a longer one around it, the longer must go as a whole.
        let mut hits: Vec<_> = resolved.iter().filter(|value| text.contains(value.as_str())).collect();
        hits.sort_by_key(|value| std::cmp::Reverse(value.len()));
        for value in hits {
            masked = Cow::Owned(masked.replace(value.as_str(), MASK));
        }
        if TOKEN_PREFIXES.iter().any(|prefix| masked.contains(prefix)) {
            masked = Cow::Owned(mask_tokens(&masked));
        }
        masked
    }
}

/// A piece of a template.
enum Part<'text> {
    Text(&'text str),
    Reference(&'text str),
}

/// Splits a template. An opening without an end is a reference named `${`, so that it is reported and never sent.
fn parts(template: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some(after) = rest.strip_prefix("$${") {
            let literal = &rest[1..3];
            rest = after;
            return Some(Part::Text(literal));
        }
        let Some(inner) = rest.strip_prefix("${") else {
            let start = [rest.find("$${"), rest.find("${")].into_iter().flatten().min().unwrap_or(rest.len());
            let (text, after) = rest.split_at(start);
            rest = after;
            return Some(Part::Text(text));
        };
        let Some((name, after)) = inner.split_once('}') else {
            rest = "";
            return Some(Part::Reference("${"));
        };
        rest = after;
        Some(Part::Reference(name))
    })
}

fn read_file(path: &str) -> Option<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path).ok()?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).ok()?;
    if read as u64 > FILE_BYTES_MAX {
        return None;
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    (!line.trim().is_empty()).then(|| line.to_owned())
}

fn mask_tokens(text: &str) -> String {
    let is_token_char = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_token_char) {
        let (between, tail) = rest.split_at(start);
        let (word, after) = tail.split_at(tail.find(|c| !is_token_char(c)).unwrap_or(tail.len()));
        let is_token = TOKEN_PREFIXES
            .iter()
            .filter_map(|prefix| word.strip_prefix(prefix))
            .any(|token| token.len() >= TOKEN_REST_MIN);
        masked.push_str(between);
        masked.push_str(if is_token { MASK } else { word });
        rest = after;
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn secrets() -> Secrets {
        let pairs = [("A_KEY", "key-of-a-0001"), ("B_KEY", "key-of-b-0002"), ("EMPTY", " "), ("SHORT", "1")];
        Secrets::new(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())))
    }

    fn resolved(template: &str) -> String {
        secrets().resolve(template).unwrap().expose_secret().to_owned()
    }

    #[test]
    fn references_are_replaced_wherever_they_stand() {
        assert_eq!(resolved("${A_KEY}"), "key-of-a-0001");
        assert_eq!(resolved("Bearer ${A_KEY}:${B_KEY}!"), "Bearer key-of-a-0001:key-of-b-0002!");
        assert_eq!(resolved("plain, 5 $ and {x}"), "plain, 5 $ and {x}");
        assert_eq!(resolved("$${A_KEY} ${A_KEY}"), "${A_KEY} key-of-a-0001");
    }

    #[test]
    fn every_missing_name_is_named_once_and_no_value_with_it() {
        let error = secrets().resolve("${Z} ${A_KEY} ${EMPTY} ${Z} ${file:/nowhere/at-all}").unwrap_err();
        assert_eq!(error.names, ["EMPTY", "Z", "file:/nowhere/at-all"]);
        assert!(!error.to_string().contains("key-of-a"));
    }

    #[test]
    fn an_opening_without_an_end_is_reported() {
        assert_eq!(secrets().resolve("sk-${A_KEY").unwrap_err().names, ["${"]);
    }

    #[test]
    fn names_are_listed_without_values() {
        assert_eq!(names("a ${B} $${C} ${file:/run/d} ${B}"), ["B", "file:/run/d", "B"]);
        assert!(names("none").is_empty());
    }

    #[test]
    fn a_file_is_read_without_its_last_line_break() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"from-a-file\r\n").unwrap();
        assert_eq!(resolved(&format!("<${{file:{}}}>", file.path().display())), "<from-a-file>");
    }

    #[test]
    fn a_file_beyond_the_limit_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(secrets().resolve(&format!("${{file:{}}}", file.path().display())).is_err());
    }

    #[test]
    fn debug_tells_nothing() {
        let secrets = secrets();
        let value = secrets.resolve("${A_KEY}").unwrap();
        for text in [format!("{secrets:?}"), format!("{:?}", secrets.redactor()), format!("{value:?}")] {
            assert!(!text.contains("key-of-a") && !text.contains("A_KEY"), "{text}");
        }
    }

    #[test]
    fn what_was_resolved_is_masked_even_by_an_older_redactor() {
        let secrets = secrets();
        let redactor = secrets.redactor();
        assert_eq!(redactor.mask("key-of-a-0001"), "key-of-a-0001");
        let _ = secrets.clone().resolve("Bearer ${A_KEY}").unwrap();
        let _ = secrets.get("SHORT");
        assert_eq!(redactor.mask("got Bearer key-of-a-0001, key-of-a-0001."), "got ***, ***.");
        assert_eq!(redactor.mask("1 of 11"), "1 of 11");
    }

    #[test]
    fn words_that_look_like_tokens_are_masked_unresolved() {
        let redactor = Secrets::default().redactor();
        assert_eq!(redactor.mask("token=xoxb-123-456-abcdef&x"), "token=***&x");
        assert_eq!(redactor.mask("Bearer sk-proj-ABCdef123456 (401)"), "Bearer *** (401)");
        assert_eq!(redactor.mask("task-list desk-lamp-number-one sk-1"), "task-list desk-lamp-number-one sk-1");
    }
}
