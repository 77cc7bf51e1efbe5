//! The text of a cause: why an actor fell, without a secret, short enough to be kept for each and shown in a line.
//!
//! A panic quotes what it likes, and its text goes further than the log: into journals, onto the bus. So it is masked where it
//! becomes a cause. Called by whoever keeps such a text; it cannot fail.

use std::any::Any;

use crate::secret::Redactor;

/// Longest text of a cause that is kept or shown, in characters.
pub const CAUSE_CHARS_MAX: usize = 500;

/// A text as a cause. Masked before it is cut: of a secret at the edge the redactor would not know the half that is left.
pub(super) fn cause(text: &str, redactor: &Redactor) -> String {
    clip(&redactor.mask(text), CAUSE_CHARS_MAX)
}

/// What a panic says.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text")
}

/// The first `max` characters of a text; a cut one ends in `…`.
pub(super) fn clip(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_cut_at_a_character() {
        let long = "ß".repeat(CAUSE_CHARS_MAX + 1);
        let cut = clip(&long, CAUSE_CHARS_MAX);
        assert_eq!(cut.chars().count(), CAUSE_CHARS_MAX);
        assert!(cut.ends_with("ß…"));
        assert_eq!(clip(&long[2..], CAUSE_CHARS_MAX), &long[2..], "exactly as long as allowed");
    }
}
