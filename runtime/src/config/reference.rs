//! `${NAME}` and `${file:/path}` references to secrets: is each of them well formed, and which names are there.
//!
//! Configuration only collects names, to say at start which are missing; values are put in where they are used
//! ([`crate::secret`]), so that no spec, digest or store ever holds one. `$${` stands for a plain `${`.

/// The names that `text` refers to, in order; or what is wrong with a reference.
pub(crate) fn names(text: &str) -> Result<Vec<&str>, String> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if before.ends_with('$') {
            rest = after;
            continue;
        }
        let Some((name, tail)) = after.split_once('}') else {
            return Err("a `${` is not closed; write ${NAME}".to_owned());
        };
        let is_file = name.strip_prefix("file:").is_some_and(|path| !path.is_empty());
        if !is_file && !is_name(name) {
            return Err("a reference is ${NAME}, with letters, digits and _ in the name, or ${file:/path}".to_owned());
        }
        names.push(name);
        rest = tail;
    }
    Ok(names)
}

/// Whether a variable may have this name.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found() {
        assert_eq!(names("Bearer ${A}-${B_2}"), Ok(vec!["A", "B_2"]));
        assert_eq!(names("${file:/run/secrets/key}"), Ok(vec!["file:/run/secrets/key"]));
        assert_eq!(names("costs $5 {x} $${A}"), Ok(vec![]));
        for bad in ["${A", "${}", "${a b}", "${1}", "${A:-x}", "${file:}"] {
            assert!(names(bad).is_err(), "{bad} passed");
        }
    }
}
