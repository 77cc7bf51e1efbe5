//! Texts with references in them: `Bearer ${NAME}`, `${file:/run/secrets/key}`; `$${` stands for a plain `${`.
//!
//! Used by [`super::Secrets`] to put values in, and by whoever asks which names a text needs. Nothing here fails: an opening
//! without an end is a reference that nobody has a value for.

/// A piece of a template.
pub(super) enum Part<'text> {
    Text(&'text str),
    Reference(&'text str),
}

/// Splits a template. An opening without an end is a reference named `${`, so that it is reported and never sent.
pub(super) fn parts(template: &str) -> impl Iterator<Item = Part<'_>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_without_values() {
        assert_eq!(names("a ${B} $${C} ${file:/run/d} ${B}"), ["B", "file:/run/d", "B"]);
        assert!(names("none").is_empty());
    }
}
