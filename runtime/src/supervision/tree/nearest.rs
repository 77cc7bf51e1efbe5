//! The path a person probably meant.
//!
//! Who types `researcher/0` means `root/orchestrator/autonomous/researcher/0`; who types `root/relai` means
//! `root/relay`. First the paths that end in what was typed, then those that differ in few letters. Only ever a hint in
//! an error message: nothing is done to an actor on a guess.

/// Longer inputs are not compared: the work is (length × length) for each path.
const COMPARED_CHARS_MAX: usize = 200;

/// The one path that looks most like `typed`, if any does.
pub(super) fn nearest<'a>(typed: &str, paths: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let letters = typed.chars().count();
    if letters == 0 || letters > COMPARED_CHARS_MAX {
        return None;
    }
    let ending = |path: &&str| path.strip_suffix(typed).is_some_and(|front| front.ends_with('/'));
    let far = (letters / 3).max(2);
    paths.clone().find(ending).or_else(|| {
        paths
            .filter(|path| path.chars().count().abs_diff(letters) <= far)
            .map(|path| (distance(typed, path), path))
            .filter(|(distance, _)| *distance <= far)
            .min()
            .map(|(_, path)| path)
    })
}

/// Levenshtein's distance: insertions, deletions and replacements between two texts.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (above, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: [&str; 4] = ["root", "root/relay", "root/orchestrator/echo/0", "root/orchestrator/echo/1"];

    #[test]
    fn the_end_of_a_path_is_enough() {
        assert_eq!(nearest("echo/1", PATHS.into_iter()), Some("root/orchestrator/echo/1"));
    }

    #[test]
    fn a_slip_of_the_finger_is_forgiven_and_a_stranger_is_not() {
        assert_eq!(nearest("root/relai", PATHS.into_iter()), Some("root/relay"));
        assert_eq!(nearest("somewhere/else", PATHS.into_iter()), None);
        assert_eq!(nearest("", PATHS.into_iter()), None);
        assert_eq!(nearest(&"root".repeat(1_000), PATHS.into_iter()), None);
    }

    #[test]
    fn distances() {
        for (a, b, expected) in [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 2), ("ä", "a", 1)]
        {
            assert_eq!(distance(a, b), expected, "{a:?} to {b:?}");
            assert_eq!(distance(b, a), expected, "{b:?} to {a:?}");
        }
    }
}
