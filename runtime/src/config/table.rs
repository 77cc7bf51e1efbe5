//! The language in which the keys of a configuration are written down once.
//!
//! One table of keys drives three readers: [`super::check`] (unknown keys, wrong types, ranges), [`super::schema`]
//! (what editors complete and `troupe schema` prints) and the commented example file. So they cannot disagree.

use std::time::Duration;

/// The keys of one mapping.
pub(crate) struct Table {
    /// Its keys, in the order in which people should read them.
    pub(crate) keys: &'static [Key],
    /// Keys of which exactly one must be there; empty when there is no such choice.
    pub(crate) one_of: &'static [&'static str],
}

/// One key.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// One or two sentences for people, shown in editors, examples and messages.
    pub(crate) doc: &'static str,
    pub(crate) kind: Kind,
    pub(crate) need: Need,
    pub(crate) change: Change,
}

/// When a changed value has its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// While the node runs, within a second.
    Live,
    /// When the node starts the next time.
    Restart,
    /// It is a section, and each of its keys says it.
    Parts,
}

/// Whether a key must be there.
#[derive(Clone, Copy)]
pub(crate) enum Need {
    Required,
    Optional,
    /// What holds when the key is absent, as YAML; `None` when nothing does.
    Default(fn() -> Option<String>),
}

/// What a value may be.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A whole number within bounds, both included.
    Whole(u64, u64),
    /// US dollars up to a maximum, in millionths.
    Usd(u64),
    /// A time within bounds, both included.
    Duration(Duration, Duration),
    /// Bytes within bounds, both included.
    Size(u64, u64),
    Text(&'static Format),
    /// A text that no message may quote.
    Secret(&'static Format),
    Choice(&'static [&'static str]),
    /// Items of one kind, at most so many.
    List(&'static Kind, usize),
    /// Any keys, values of one kind, at most so many.
    Map(&'static Kind, usize),
    Table(&'static Table),
    /// Anything that JSON can say.
    Any,
}

/// A rule for texts.
pub(crate) struct Format {
    /// What a good text is, after "expected": `an agent name such as researcher-2`.
    pub(crate) expected: &'static str,
    /// The rule as a JSON Schema pattern where one says it all.
    pub(crate) pattern: Option<&'static str>,
    /// Why a text is not good.
    pub(crate) check: fn(&str) -> Result<(), String>,
}

/// Any text.
pub(crate) const ANY_TEXT: Format = Format { expected: "a text", pattern: None, check: |_| Ok(()) };

/// Any text with something in it.
pub(crate) const SOME_TEXT: Format = Format {
    expected: "a text",
    pattern: Some(r"\S"),
    check: |text| if text.trim().is_empty() { Err("it is empty".to_owned()) } else { Ok(()) },
};

impl Table {
    /// The key of that name.
    pub(crate) fn key(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The names of all keys.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }
}

impl Kind {
    /// What is expected, for a message: `a duration such as 60s`.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Whole(..) => "a whole number".to_owned(),
            Self::Usd(_) => "an amount in US dollars such as 0.50".to_owned(),
            Self::Duration(..) => "a duration such as 500ms, 60s or 5m".to_owned(),
            Self::Size(..) => "a size such as 64 KiB".to_owned(),
            Self::Text(format) | Self::Secret(format) => format.expected.to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::List(..) => "a list".to_owned(),
            Self::Map(..) | Self::Table(_) => "a mapping (`key: value`)".to_owned(),
            Self::Any => "a value".to_owned(),
        }
    }
}
