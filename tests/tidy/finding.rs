//! What a rule found: the place and the reason, and the sentence that a failing test prints.

use std::fmt;

/// Something that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// `path:line`.
    pub(crate) place: String,
    /// What is wrong and what to do.
    pub(crate) why: String,
}

impl Finding {
    /// At a place, for a reason.
    pub(crate) fn new(place: impl Into<String>, why: impl Into<String>) -> Self {
        Self { place: place.into(), why: why.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

/// Fails with every finding, one a line.
pub(crate) fn none(rule: &str, findings: &[Finding]) {
    let lines: Vec<_> = findings.iter().map(|finding| format!("  {finding}")).collect();
    assert!(findings.is_empty(), "{} × {rule}:\n{}", findings.len(), lines.join("\n"));
}

/// The places of findings, for the tests of the rules.
#[cfg(test)]
pub(crate) fn places(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.place.as_str()).collect()
}

#[test]
fn a_finding_reads_as_a_place_and_a_reason() {
    let finding = Finding::new("a.rs:3", "too long");
    assert_eq!(finding.to_string(), "a.rs:3: too long");
    none("nothing", &[]);
    assert!(std::panic::catch_unwind(|| none("length", &[finding])).is_err());
}
