//! Whose message came back: what the broker returned is given to whoever sent it.
//!
//! The broker returns a mandatory message that no queue wants, and acknowledges it some time later; in between it may
//! acknowledge others. AMQP's `basic.return` has no delivery tag, and lapin (4.12) hands a returned message to whichever message is
//! acknowledged next, which may be another's. So each is known by what it says itself: where it went and its id.
//!
//! Called by the [publisher](super::publisher) with all confirms that have come, before it tells anybody what became of his.
//! A message is returned no later than its acknowledgement, so nothing needs to be waited for here.

use std::collections::HashMap;

use lapin::message::BasicReturnMessage;
use lapin::types::ShortString;

/// What a message can be known by when it comes back. Two of one identity that are under way at once are the same event for the
/// same place, sent twice; which of the two was returned makes no difference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    id: Option<ShortString>,
}

impl Identity {
    /// Of a message that is about to be sent.
    pub(super) fn new(exchange: ShortString, routing_key: ShortString, id: Option<ShortString>) -> Self {
        Self { exchange, routing_key, id }
    }

    /// Of a message that came back.
    pub(super) fn of(returned: &BasicReturnMessage) -> Self {
        let id = returned.properties.message_id().clone();
        Self::new(returned.exchange.clone(), returned.routing_key.clone(), id)
    }
}

/// What came back on one channel and was not claimed yet.
#[derive(Debug, Default)]
pub(super) struct Returned(HashMap<Identity, usize>);

impl Returned {
    /// A message came back.
    pub(super) fn note(&mut self, identity: Identity) {
        *self.0.entry(identity).or_default() += 1;
    }

    /// Whether a message of this identity came back; it is claimed by that.
    pub(super) fn claim(&mut self, identity: &Identity) -> bool {
        let Some(times) = self.0.get_mut(identity) else { return false };
        *times -= 1;
        if *times == 0 {
            self.0.remove(identity);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(exchange: &str, routing_key: &str, id: &str) -> Identity {
        Identity::new(exchange.into(), routing_key.into(), Some(id.into()))
    }

    #[test]
    fn a_message_is_claimed_by_its_own_sender_and_once() {
        let mut returned = Returned::default();
        returned.note(identity("troupe.events", "nowhere", "1"));
        returned.note(identity("", "nowhere", "1"));
        assert!(!returned.claim(&identity("troupe.events", "t", "1")), "another place");
        assert!(!returned.claim(&identity("troupe.events", "nowhere", "2")), "another event");
        assert!(returned.claim(&identity("troupe.events", "nowhere", "1")));
        assert!(!returned.claim(&identity("troupe.events", "nowhere", "1")), "claimed already");
        assert!(returned.claim(&identity("", "nowhere", "1")));
        assert!(returned.0.is_empty());
    }

    #[test]
    fn the_same_event_sent_twice_comes_back_twice() {
        let mut returned = Returned::default();
        let twice = identity("", "gone", "1");
        returned.note(twice.clone());
        returned.note(twice.clone());
        assert_eq!([returned.claim(&twice), returned.claim(&twice), returned.claim(&twice)], [true, true, false]);
    }
}
