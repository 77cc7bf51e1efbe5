//! Canaries: values that stand in every secret, and a search for them in whatever a node leaves behind.
//!
//! A value is looked for in every writing that might carry it: as it is, escaped, percent-encoded, in base64 at any offset, in hex.
//! The forms are made here and not by the product, so that both would have to be wrong alike. One more value, the control, is no
//! secret and is meant to be in those places: where it is not found, the search has not seen what it should.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use aho_corasick::AhoCorasick;
use data_encoding::{BASE64, BASE64URL};

/// Bytes around a find that a failure shows.
const AROUND: usize = 60;

/// A search for some values.
#[derive(Debug)]
pub struct Search {
    /// Whose value and which writing each pattern is.
    patterns: Vec<(String, &'static str)>,
    finder: AhoCorasick,
    control: String,
    leaks: BTreeSet<String>,
    control_seen_in: BTreeSet<String>,
}

impl Search {
    /// For these named values, and for a control.
    ///
    /// # Panics
    /// When they are too many or too large.
    #[must_use]
    pub fn new(canaries: &[(String, String)], control: &str) -> Self {
        let named = canaries.iter().flat_map(|(name, value)| {
            writings(value).into_iter().map(move |(writing, form)| ((name.clone(), writing), form))
        });
        let (patterns, forms): (Vec<_>, Vec<_>) = named.unzip();
        let finder = AhoCorasick::new(forms).expect("patterns");
        Self { patterns, finder, control: control.to_owned(), leaks: BTreeSet::new(), control_seen_in: BTreeSet::new() }
    }

    /// Looks through something that was left behind; `place` is its name for people.
    pub fn look(&mut self, place: &str, bytes: &[u8]) {
        for found in self.finder.find_overlapping_iter(bytes) {
            let (name, writing) = &self.patterns[found.pattern()];
            let (from, to) = (found.start().saturating_sub(AROUND), (found.end() + AROUND).min(bytes.len()));
            let around = String::from_utf8_lossy(&bytes[from..to]);
            self.leaks.insert(format!("{name} ({writing}) in {place}: …{around}…"));
        }
        if !self.control.is_empty() && bytes.windows(self.control.len()).any(|part| part == self.control.as_bytes()) {
            self.control_seen_in.insert(place.to_owned());
        }
    }

    /// Looks through every file below a folder, its name included; all of them are one place.
    ///
    /// # Panics
    /// When the folder cannot be read. A file that goes meanwhile is passed over.
    pub fn look_through(&mut self, place: &str, folder: &Path) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            self.look(place, path.to_string_lossy().as_bytes());
            if path.is_dir() {
                self.look_through(place, &path);
            } else if let Ok(bytes) = fs::read(&path) {
                self.look(place, &bytes);
            }
        }
    }

    /// What was found that should not be anywhere.
    #[must_use]
    pub const fn leaks(&self) -> &BTreeSet<String> {
        &self.leaks
    }

    /// Holds that nothing was found, and that the control was found in all these places.
    ///
    /// # Panics
    /// With everything that was found, or with the places that the search has not really seen.
    pub fn holds(&self, control_in: &[&str]) {
        let leaks: Vec<_> = self.leaks.iter().map(String::as_str).collect();
        assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
        let blind: Vec<_> = control_in.iter().filter(|place| !self.control_seen_in.contains(**place)).collect();
        assert!(blind.is_empty(), "the search has not seen {blind:?}; the control was in {:?}", self.control_seen_in);
    }
}

/// A value as part of an address.
#[must_use]
pub fn in_address(value: &str) -> String {
    percent(value, true, b"-._~")
}

/// Every writing of a value, each with its name.
fn writings(value: &str) -> Vec<(&'static str, Vec<u8>)> {
    let json = serde_json::Value::from(value).to_string();
    let mut writings: Vec<(&'static str, Vec<u8>)> = vec![
        ("raw", value.into()),
        ("JSON-escaped", json[1..json.len() - 1].into()),
        (
            "JSON-escaped twice",
            serde_json::Value::from(&json[1..json.len() - 1]).to_string()[1..].trim_end_matches('"').into(),
        ),
        ("URL-encoded", percent(value, true, b"-._~").into()),
        ("URL-encoded", percent(value, false, b"-._~").into()),
        ("form-encoded", percent(value, true, b"*-._ ").replace(' ', "+").into()),
        ("hex", value.bytes().fold(String::new(), |text, byte| text + &format!("{byte:02x}")).into()),
    ];
    for (name, alphabet) in [("base64", &BASE64), ("base64url", &BASE64URL)] {
        for offset in 0..3 {
            let mut bytes = vec![0; offset];
            bytes.extend(value.as_bytes());
            let digits = alphabet.encode(&bytes);
            // The digits that hold nothing but bits of the value.
            writings.push((name, digits.as_bytes()[(offset * 8).div_ceil(6)..bytes.len() * 8 / 6].to_vec()));
        }
    }
    writings
}

fn percent(value: &str, upper: bool, plain: &[u8]) -> String {
    value.bytes().fold(String::new(), |mut text, byte| {
        let written = match byte {
            _ if byte.is_ascii_alphanumeric() || plain.contains(&byte) => write!(text, "{}", char::from(byte)),
            _ if upper => write!(text, "%{byte:02X}"),
            _ => write!(text, "%{byte:02x}"),
        };
        written.expect("a text takes everything");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = "canary-Q\"q/s+p b\\k%c";

    fn found(bytes: &[u8]) -> usize {
        let mut search = Search::new(&[("KEY".to_owned(), VALUE.to_owned())], "the-control");
        search.look("a text", bytes);
        search.leaks().len()
    }

    /// The control of the control: a planted leak is found, whatever it is wrapped in and wherever it stands.
    #[test]
    fn a_planted_leak_is_found_in_every_writing() {
        assert_eq!(found(b"canary-Q and nothing more"), 0);
        for (writing, form) in writings(VALUE) {
            let planted = [b"\x00\xff before ", form.as_slice(), b" after \xfe"].concat();
            assert!(found(&planted) > 0, "{writing} is not found");
        }
        for before in ["", "a", "ab", "abc"] {
            let text = format!("{before}{VALUE}, and more");
            assert!(found(BASE64.encode(text.as_bytes()).as_bytes()) > 0, "behind {} bytes", before.len());
            assert!(found(BASE64URL.encode(text.as_bytes()).as_bytes()) > 0, "behind {} bytes", before.len());
        }
        let line = serde_json::json!({"message": format!("{{\"key\":{}}}", serde_json::Value::from(VALUE))});
        assert!(found(line.to_string().as_bytes()) > 0, "JSON in JSON");
    }

    #[test]
    fn a_planted_leak_is_found_in_a_folder_and_in_the_name_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("deep")).unwrap();
        fs::write(dir.path().join("deep/wal"), [b"\x00\x01", VALUE.as_bytes(), b"the-control"].concat()).unwrap();
        let mut search = Search::new(&[("KEY".to_owned(), VALUE.to_owned())], "the-control");
        search.look_through("the data folder", dir.path());
        assert_eq!(search.leaks().len(), 1, "{:?}", search.leaks());
        assert_eq!(search.control_seen_in, BTreeSet::from(["the data folder".to_owned()]));
        let mut search = Search::new(&[("NAME".to_owned(), "wal".to_owned())], "");
        search.look_through("the data folder", dir.path());
        assert!(!search.leaks().is_empty());
    }

    #[test]
    #[should_panic(expected = "the search has not seen [\"the log\"]")]
    fn a_search_that_saw_nothing_proves_nothing() {
        Search::new(&[("KEY".to_owned(), VALUE.to_owned())], "the-control").holds(&["the log"]);
    }
}
