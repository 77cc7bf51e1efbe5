//! The difference between the agents that are there and those that are wanted.
//!
//! Decided here, performed by [`reload`](crate::reload): so that what a change of the folder means can be tested without one.
//! By digest: a file that was only touched, moved or commented changes nobody. Pure.

use std::collections::BTreeMap;

/// Who comes, who changes, who goes; each by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// Not there yet.
    pub added: Vec<String>,
    /// There, with another spec.
    pub changed: Vec<String>,
    /// There, and wanted no more.
    pub removed: Vec<String>,
}

impl Difference {
    /// From these to those, names with the digests of their specs.
    #[must_use]
    pub fn between(there: &BTreeMap<&str, &str>, wanted: &BTreeMap<&str, &str>) -> Self {
        let mut difference = Self::default();
        for (name, digest) in wanted {
            match there.get(name) {
                None => difference.added.push((*name).to_owned()),
                Some(before) if before != digest => difference.changed.push((*name).to_owned()),
                Some(_) => {}
            }
        }
        let gone = there.keys().filter(|name| !wanted.contains_key(*name));
        difference.removed = gone.map(|name| (*name).to_owned()).collect();
        difference
    }

    /// Whether everything is as it is wanted.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(there: &[(&str, &str)], wanted: &[(&str, &str)]) -> [Vec<String>; 3] {
        let (there, wanted) = (there.iter().copied().collect(), wanted.iter().copied().collect());
        let Difference { added, changed, removed } = Difference::between(&there, &wanted);
        [added, changed, removed]
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn who_comes_who_changes_who_goes() {
        let [added, changed, removed] =
            between(&[("a", "1"), ("b", "1"), ("c", "1")], &[("b", "1"), ("c", "2"), ("d", "1")]);
        assert_eq!((added, changed, removed), (names(&["d"]), names(&["c"]), names(&["a"])));
    }

    #[test]
    fn the_same_is_no_difference_and_nothing_is_everybody_gone() {
        assert_eq!(between(&[("a", "1")], &[("a", "1")]), [names(&[]), names(&[]), names(&[])]);
        assert_eq!(between(&[("a", "1"), ("b", "2")], &[]), [names(&[]), names(&[]), names(&["a", "b"])]);
        assert!(Difference::between(&BTreeMap::new(), &BTreeMap::new()).is_none());
    }
}
