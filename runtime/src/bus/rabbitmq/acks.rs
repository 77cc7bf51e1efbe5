//! Delivery tags of one channel that the broker has no acknowledgement for, and how to acknowledge many in few frames.
//!
//! A multiple acknowledgement covers everything up to its tag. So it may only go up to the last tag before the first one that
//! is still out; stragglers behind that are acknowledged one by one. One place a channel does this: two would send multiple
//! acknowledgements out of order, and the broker closes a channel for that. Pure; called by the intake.

use std::collections::BTreeSet;

/// Tags without an acknowledgement.
#[derive(Debug, Default)]
pub(super) struct Tags {
    out: BTreeSet<u64>,
}

/// What is to be sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Acks {
    /// Everything up to here.
    pub(super) up_to: Option<u64>,
    /// And these.
    pub(super) single: Vec<u64>,
}

impl Tags {
    /// A delivery has come in.
    pub(super) fn came(&mut self, tag: u64) {
        self.out.insert(tag);
    }

    /// These are done; tags that are not out are left alone.
    pub(super) fn done(&mut self, tags: impl IntoIterator<Item = u64>) -> Acks {
        let mut done: BTreeSet<u64> = tags.into_iter().filter(|tag| self.out.contains(tag)).collect();
        let mut acks = Acks::default();
        while let Some(first) = self.out.first().copied()
            && done.remove(&first)
        {
            self.out.remove(&first);
            acks.up_to = Some(first);
        }
        for tag in done {
            self.out.remove(&tag);
            acks.single.push(tag);
        }
        acks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_prefix_goes_at_once_and_stragglers_one_by_one() {
        let mut tags = Tags::default();
        (1..=6).for_each(|tag| tags.came(tag));
        assert_eq!(tags.done([2, 3, 5]), Acks { up_to: None, single: vec![2, 3, 5] });
        assert_eq!(tags.done([1, 4]), Acks { up_to: Some(4), single: vec![] });
        assert_eq!(tags.done([4, 5, 99]), Acks::default(), "what is acknowledged stays so");
        assert_eq!(tags.done([6]), Acks { up_to: Some(6), single: vec![] });
    }

    proptest! {
        /// A broker that believes every frame ends with exactly those that are not done, and never hears a tag twice.
        #[test]
        fn the_broker_comes_to_hold_what_is_not_done(
            total in 1_u64..60,
            batches in prop::collection::vec(prop::collection::vec(1_u64..60, 0..20), 0..20),
        ) {
            let (mut tags, mut broker) = (Tags::default(), BTreeSet::new());
            let mut open: BTreeSet<u64> = (1..=total).collect();
            for tag in 1..=total {
                tags.came(tag);
                broker.insert(tag);
            }
            for batch in batches {
                let acks = tags.done(batch.iter().copied());
                if let Some(up_to) = acks.up_to {
                    prop_assert!(broker.contains(&up_to));
                    broker.retain(|tag| *tag > up_to);
                }
                for tag in acks.single {
                    prop_assert!(broker.remove(&tag));
                }
                open.retain(|tag| !batch.contains(tag));
                prop_assert_eq!(&broker, &open);
            }
        }
    }
}
