//! The text of a cause: why an actor fell, short enough to be kept for each and shown in a line.
//!
//! Called by whoever keeps such a text; it cannot fail.

/// Longest text of a cause that is kept or shown, in characters.
pub const CAUSE_CHARS_MAX: usize = 500;

/// The first `max` characters of a text; a cut one ends in `…`.
pub(super) fn clip(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max.saturating_sub(1)).chain(['…']).collect(),
    }
}
