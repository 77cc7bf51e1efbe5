//! What the texts of an agent spec must look like, one rule each.
//!
//! A rule answers with the reason and never with the text, which the caller quotes next to its place.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::RegexBuilder;
use url::Url;

use super::super::nearest::nearest;
use super::super::reference;
use super::super::table::Format;
use crate::domain::agent::AgentName;
use crate::domain::topic::TopicPattern;

/// Tools of ours that a spec may name.
pub(super) const BUILTINS: [&str; 3] = ["clock", "http_get", "wait"];

/// Tools of the contract that this version does not have.
const BUILTINS_LATER: [&str; 2] = ["ask_human", "remember"];

/// Bytes that a compiled expression of a script may have: rules are small, and a file may come from anywhere.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Expressions whose verdict is kept.
const REGEXES_KEPT_MAX: usize = 64;

thread_local! {
    /// To compile an expression is by far the dearest thing that a spec can ask for, and a long script says the same ones again and
    /// again.
    static VERDICTS: RefCell<HashMap<String, Result<(), String>>> = RefCell::default();
}

/// Characters of a label.
const LABEL_CHARS_MAX: usize = 63;

pub(super) const AGENT_NAME: Format = Format {
    expected: "an agent name such as researcher-2",
    pattern: Some("^[a-z][a-z0-9-]{0,62}$"),
    check: |text| match text.parse::<AgentName>() {
        Ok(_) => Ok(()),
        Err(_) => Err("a lower-case letter, then up to 62 of a-z, 0-9 and -".to_owned()),
    },
};

pub(super) const LABEL: Format = Format {
    expected: "a label such as assistant",
    pattern: Some(r"^\S.{0,62}$"),
    check: |text| {
        if text.trim().is_empty() {
            Err("it is empty".to_owned())
        } else if text.chars().count() > LABEL_CHARS_MAX || text.chars().any(char::is_control) {
            Err(format!("at most {LABEL_CHARS_MAX} characters on one line"))
        } else {
            Ok(())
        }
    },
};

pub(super) const TOPIC: Format = Format {
    expected: "a topic pattern such as slack.events.command.ask or slack.#",
    pattern: None,
    check: |text| text.parse::<TopicPattern>().map(drop).map_err(|error| error.to_string()),
};

pub(super) const REGEX: Format = Format {
    expected: "a regular expression",
    pattern: None,
    check: |text| {
        VERDICTS.with_borrow_mut(|verdicts| {
            if verdicts.len() >= REGEXES_KEPT_MAX && !verdicts.contains_key(text) {
                verdicts.clear();
            }
            verdicts.entry(text.to_owned()).or_insert_with(|| compiles(text)).clone()
        })
    },
};

pub(super) const BUILTIN: Format = Format {
    expected: "a built-in tool",
    pattern: Some("^(clock|http_get|wait)$"),
    check: |text| {
        if BUILTINS.contains(&text) {
            return Ok(());
        }
        if BUILTINS_LATER.contains(&text) {
            return Err("this version does not have it yet; remove the line".to_owned());
        }
        let known = BUILTINS.join(", ");
        Err(nearest(text, BUILTINS)
            .map_or_else(|| format!("known are {known}"), |name| format!("did you mean {name}? known are {known}")))
    },
};

pub(super) const HOST: Format = Format {
    expected: "a host such as example.org or *.example.org",
    pattern: Some(r"^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$"),
    check: |text| {
        let host = text.strip_prefix("*.").unwrap_or(text);
        let word = |word: &str| {
            !word.is_empty()
                && !word.starts_with('-')
                && !word.ends_with('-')
                && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        };
        if host.len() <= 253 && host.split('.').all(word) {
            Ok(())
        } else {
            Err("write the host alone, without scheme, port or path".to_owned())
        }
    },
};

pub(super) const TOOL_NAME: Format = Format {
    expected: "a short name such as git",
    pattern: Some("^[a-z][a-z0-9_-]{0,31}$"),
    check: |text| {
        let good = text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
            && text.len() <= 32;
        if good { Ok(()) } else { Err("a lower-case letter, then up to 31 of a-z, 0-9, _ and -".to_owned()) }
    },
};

pub(super) const TOOL_PATTERN: Format = Format {
    expected: "a tool's name, `*` for any run of characters",
    pattern: Some(r"^[A-Za-z0-9_.*-]{1,128}$"),
    check: |text| {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '*' | '-');
        if !text.is_empty() && text.len() <= 128 && text.chars().all(good) {
            Ok(())
        } else {
            Err("letters, digits, _, ., - and *".to_owned())
        }
    },
};

pub(super) const SERVER_URL: Format = Format {
    expected: "a URL such as https://models.example/v1",
    pattern: Some(r"^(https?://|.*\$\{)"),
    check: |text| {
        if !reference::names(text)?.is_empty() {
            return Ok(());
        }
        match Url::parse(text) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                Err("it begins with http:// or https://".to_owned())
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                Err("name and password do not belong here; use api_key or headers".to_owned())
            }
            Ok(_) => Ok(()),
            Err(_) if !text.contains("://") => Err("it begins with http:// or https://".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    },
};

pub(super) const CRON: Format = Format {
    expected: "a cron expression such as \"0 9 * * 1-5\"",
    pattern: None,
    check: |text| {
        let fields = text.split_whitespace().count();
        if (fields == 1 && text.starts_with('@')) || fields == 5 || fields == 6 {
            Ok(())
        } else {
            Err(format!("it has 5 fields (minute hour day month weekday), this one has {fields}"))
        }
    },
};

fn compiles(text: &str) -> Result<(), String> {
    RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build().map(drop).map_err(|error| {
        // The parser draws the expression with a marker over several lines; its last line says why.
        let drawn = error.to_string();
        drawn.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(format: &Format, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!((format.check)(text), Ok(()), "{text:?} against {}", format.expected);
        }
        for text in bad {
            assert!((format.check)(text).is_err(), "{text:?} passed as {}", format.expected);
        }
        // What editors are told is what the decoder does.
        if let Some(pattern) = format.pattern {
            let pattern = regex::Regex::new(pattern).unwrap();
            assert!(good.iter().all(|text| pattern.is_match(text)), "{pattern} refuses a good one");
        }
    }

    #[test]
    fn names_and_labels() {
        passes(&AGENT_NAME, &["a", "researcher-2"], &["", "2nd", "Big", "a_b", &"x".repeat(64)]);
        passes(&LABEL, &["assistant", "On call"], &["", "  ", "a\nb", &"x".repeat(64)]);
        passes(&TOOL_NAME, &["git", "my_crm"], &["", "Git", "a.b", &"x".repeat(33)]);
        passes(&TOOL_PATTERN, &["git.*", "*", "http_get"], &["", "a b", "git/x"]);
    }

    #[test]
    fn topics_and_hosts() {
        passes(&TOPIC, &["slack.#", "a.*.b"], &["", "a..b", "a.b*"]);
        passes(&HOST, &["example.org", "*.example.org", "127.0.0.1"], &["https://x.y", "x.y:80", "*", "a..b", "-a.b"]);
        passes(
            &SERVER_URL,
            &["http://127.0.0.1:1234/v1", "${BASE}/v1", "https://x.example"],
            &["ftp://x", "models.example", "https://u:p@x.example", "${BASE"],
        );
    }

    #[test]
    fn tools_say_what_is_known() {
        passes(&BUILTIN, &BUILTINS, &["remember", "clocks", "shell"]);
        assert!((BUILTIN.check)("remember").unwrap_err().contains("this version"));
        assert!((BUILTIN.check)("clcok").unwrap_err().contains("did you mean clock?"));
    }

    #[test]
    fn expressions() {
        passes(&REGEX, &["(?i)hello", "^weather in (.+)$"], &["(", "[z-a]", "a{1000}{1000}{1000}"]);
        assert_eq!((REGEX.check)("(").unwrap_err(), "unclosed group");
        passes(&CRON, &["0 9 * * 1-5", "@daily", "0 0 9 * * *"], &["", "daily", "* * *"]);
    }
}
