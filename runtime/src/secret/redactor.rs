//! The redactor: what was a secret when it was resolved is masked in every text, and so are words that look like a token.
//!
//! The last line of defence, for the day when an error text of somebody else's library holds a key. It knows each value in
//! all its [forms](super::forms), and forgets none because another one takes its place: a call that began with the old key may
//! still fail with it. Only beyond [`KNOWN_MAX`] values the oldest go.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};

use super::forms::{BYTES_MIN, forms};

/// Values that are masked at most, the former ones of every rotation included.
const KNOWN_MAX: usize = 4096;
/// What stands in the place of a secret.
const MASK: &str = "***";
/// How well-known tokens begin; a word that begins so and is long enough is masked even if nobody resolved it.
const TOKEN_PREFIXES: [&str; 6] = ["sk-", "xoxb-", "xoxp-", "xoxa-", "xoxe-", "xapp-"];
/// What must follow a prefix to make a token.
const TOKEN_REST_MIN: usize = 8;

/// Masks the values that were resolved, and words that look like a token. Cheap to clone; clones know the same.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Arc<RwLock<Known>>,
}

#[derive(Default)]
struct Known {
    values: HashSet<Arc<str>>,
    /// The same, the one that was last met with longest ago first.
    order: VecDeque<Arc<str>>,
    /// Finds any of their forms; made when it is first needed after a change.
    finder: OnceLock<Option<AhoCorasick>>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// `text` with each secret replaced by `***`, and so is each word that looks like a token.
    #[must_use]
    pub fn mask<'text>(&self, text: &'text str) -> Cow<'text, str> {
        let masked = self.hide(text);
        if TOKEN_PREFIXES.iter().any(|prefix| masked.contains(prefix)) {
            Cow::Owned(mask_tokens(&masked))
        } else {
            masked
        }
    }

    /// `text` with each secret that is known replaced by `***`, and nothing else: for texts that people wait for.
    #[must_use]
    pub fn hide<'text>(&self, text: &'text str) -> Cow<'text, str> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Some(finder) = known.finder().filter(|finder| finder.is_match(text)) else { return Cow::Borrowed(text) };
        let mut without = String::with_capacity(text.len());
        finder.replace_all_with(text, &mut without, |_, _, out| {
            out.push_str(MASK);
            true
        });
        Cow::Owned(without)
    }

    /// Whether this value is masked.
    pub(super) fn knows(&self, value: &str) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).values.contains(value)
    }

    /// Masks this value from now on. `is_current` says of another one whether it may not be forgotten.
    pub(super) fn learn(&self, value: &str, is_current: impl Fn(&str) -> bool) {
        if value.len() < BYTES_MIN || self.knows(value) {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let value: Arc<str> = value.into();
        if known.values.insert(value.clone()) {
            known.order.push_back(value);
            known.forget_one(is_current);
            known.finder = OnceLock::new();
        }
    }
}

impl Known {
    /// Makes room for the newest; what is in use now stays, however many that are.
    fn forget_one(&mut self, is_current: impl Fn(&str) -> bool) {
        if self.order.len() <= KNOWN_MAX {
            return;
        }
        let former = self.order.iter().take(KNOWN_MAX).position(|value| !is_current(value));
        if let Some(oldest) = former.and_then(|place| self.order.remove(place)) {
            self.values.remove(&oldest);
        }
    }

    fn finder(&self) -> Option<&AhoCorasick> {
        let make = || {
            let forms: HashSet<String> = self.values.iter().flat_map(|value| forms(value)).collect();
            // Of a value and a longer one that begins with it, the longer must go as a whole.
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(forms).ok()
        };
        self.finder.get_or_init(make).as_ref()
    }
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
    use super::*;

    fn redactor(values: &[&str]) -> Redactor {
        let redactor = Redactor::default();
        for value in values {
            redactor.learn(value, |_| true);
        }
        redactor
    }

    #[test]
    fn a_longer_value_goes_as_a_whole() {
        let redactor = redactor(&["key-of-a-0001", "Bearer key-of-a-0001"]);
        assert_eq!(redactor.mask("got Bearer key-of-a-0001, key-of-a-0001."), "got ***, ***.");
        assert_eq!(redactor.mask("ZzprZXktb2YtYS0wMDAxOg=="), "Zzp***Og==", "in base64, behind two other bytes");
        assert!(matches!(redactor.mask("nothing"), Cow::Borrowed(_)));
    }

    #[test]
    fn former_values_are_forgotten_when_there_are_too_many_and_current_ones_never() {
        let redactor = redactor(&["current-value"]);
        let known = redactor.known.clone();
        for n in 0..KNOWN_MAX {
            let mut known = known.write().unwrap();
            let value: Arc<str> = format!("former-{n:08}").into();
            known.values.insert(value.clone());
            known.order.push_back(value);
            known.forget_one(|value| value == "current-value");
        }
        let known = known.read().unwrap();
        assert_eq!(known.order.len(), KNOWN_MAX);
        assert!(known.values.contains("current-value") && !known.values.contains("former-00000000"));
    }

    #[test]
    fn words_that_look_like_tokens_are_masked_unresolved() {
        let redactor = Redactor::default();
        assert_eq!(redactor.mask("token=xoxb-123-456-abcdef&x"), "token=***&x");
        assert_eq!(redactor.hide("a sk-loading-spinner"), "a sk-loading-spinner");
        assert_eq!(redactor.mask("Bearer sk-proj-ABCdef123456 (401)"), "Bearer *** (401)");
        assert_eq!(redactor.mask("task-list desk-lamp-number-one sk-1"), "task-list desk-lamp-number-one sk-1");
    }
}
