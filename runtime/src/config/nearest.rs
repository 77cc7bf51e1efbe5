//! The nearest known name to a misspelt one, for "did you mean".
//!
//! Used for keys of configuration files and by the doors for names of agents. Says nothing rather than something far.

/// The name of `known` that `typed` was probably meant to be: at most a third of its letters differ.
#[must_use]
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters = |text: &str| -> Vec<char> { text.chars().take(64).map(|c| c.to_ascii_lowercase()).collect() };
    let typed = letters(typed);
    let limit = (typed.len() / 3).max(1);
    known
        .into_iter()
        .map(|name| (distance(&typed, &letters(name)), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Letters to insert, remove, replace or swap with their neighbour.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut two_back: Vec<usize> = vec![0; b.len() + 1];
    let mut back: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = back[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(back[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(two_back[j - 2] + 1);
            }
        }
        two_back = std::mem::replace(&mut back, row);
    }
    back[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let keys = ["name", "type", "instructions", "execution_mode", "llm_config", "limits"];
        let near = |typed| nearest(typed, keys);
        assert_eq!(near("instrutions"), Some("instructions"));
        assert_eq!(near("tpye"), Some("type"));
        assert_eq!(near("Name"), Some("name"));
        assert_eq!(nearest("TROUPE_HTTP_ADR", ["TROUPE_HTTP_ADDR"]), Some("TROUPE_HTTP_ADDR"));
        assert_eq!(near("execution-mode"), Some("execution_mode"));
        assert_eq!(near("colour"), None);
        assert_eq!(near(""), None);
    }
}
