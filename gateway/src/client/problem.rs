//! A refusal of the admin API: `application/problem+json` (RFC 9457), or whatever a proxy in between said instead.
//!
//! Made by the client of every answer that is no success; the exit code and the line on stderr follow from it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Characters of a body that is no problem document.
const BODY_CHARS_SHOWN: usize = 200;

/// Why the node will not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// The class of the problem in a few words.
    #[serde(default)]
    pub title: String,
    /// What happened here, and what to do.
    #[serde(default)]
    pub detail: String,
    /// A name of the class for programs.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Whatever else the node told.
    #[serde(flatten)]
    pub more: serde_json::Map<String, Value>,
}

impl Problem {
    /// Reads the body of a refusal; the status line decides over the body's own status.
    #[must_use]
    pub fn read(status: u16, body: &[u8]) -> Self {
        let mut problem = serde_json::from_slice::<Self>(body).unwrap_or_else(|_| Self::unknown(body));
        problem.status = status;
        problem
    }

    fn unknown(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        Self {
            status: 0,
            title: String::new(),
            detail: text.chars().filter(|c| !c.is_control()).take(BODY_CHARS_SHOWN).collect(),
            kind: String::new(),
            more: serde_json::Map::new(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = if self.detail.is_empty() { &self.title } else { &self.detail };
        match (self.status, said.as_str()) {
            (401, _) => f.write_str("the node wants a token; set TROUPE_ADMIN_TOKEN or write --token"),
            (status, "") => write!(f, "the node answered with status {status}"),
            (_, said) => f.write_str(said),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detail_is_what_a_person_reads() {
        let body = br#"{"type":"about:blank","title":"Not Found","status":404,"detail":"there is no agent reseacher; did you mean researcher?","near":"researcher"}"#;
        let problem = Problem::read(404, body);
        assert_eq!(problem.to_string(), "there is no agent reseacher; did you mean researcher?");
        assert_eq!(problem.more["near"], "researcher");
    }

    #[test]
    fn a_proxy_s_page_is_shown_in_one_line() {
        let problem = Problem::read(502, b"<html>\n  Bad\tGateway\x1b[31m</html>");
        assert_eq!(problem.status, 502);
        assert_eq!(problem.to_string(), "<html> Bad Gateway[31m</html>");
        assert_eq!(Problem::read(500, b"").to_string(), "the node answered with status 500");
    }

    #[test]
    fn a_missing_token_says_where_it_goes() {
        assert!(Problem::read(401, b"{}").to_string().contains("TROUPE_ADMIN_TOKEN"));
    }
}
