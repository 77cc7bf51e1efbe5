//! Publishing: which queues an event is for, whether they have room, and who must know that it comes.
//!
//! Called by the bus. Whether an event was routed is the broker's to say; the table of bindings only tells how many queues have
//! it, and which of them to ask for room.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use super::intake::Intake;
use super::publisher::{self, Fate, Outgoing};
use super::room::{Room, Verdict};
use super::wire::Past;
use super::{Inner, topology, wire};
use crate::bus::place::rank;
use crate::bus::{Error, Routing};
use crate::domain::event::Event;

impl Inner {
    pub(super) async fn confirmed_in_time<T>(
        &self,
        published: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let limit = self.options.publish_timeout;
        timeout(limit, published).await.unwrap_or_else(|_| Err(publisher::unconfirmed(limit)))
    }

    pub(super) async fn publish(self: &Arc<Self>, event: &Arc<Event>, routing: Routing) -> Result<usize, Error> {
        let body = self.options.bus.body(event)?;
        self.out.refuse_hopeless()?;
        self.refuse_deferred(|spec| spec.bindings.iter().any(|pattern| pattern.matches(&event.topic)))?;
        self.bindings.caught_up_once().await?;
        let queues = self.bindings.with(|bindings| bindings.of(&event.topic));
        let _places = self.enter(&queues).await?;
        let mandatory = routing == Routing::Mandatory;
        let confirm = self.announced(
            &queues,
            event,
            Outgoing {
                exchange: topology::EVENTS.to_owned(),
                routing_key: event.topic.as_str().to_owned(),
                mandatory,
                properties: wire::properties(event, &Past::begins()),
                body: body.into_bytes(),
            },
        );
        match confirm.await? {
            // The table may lag behind another node's declaration; the broker took it.
            Fate::Taken if mandatory => Ok(queues.len().max(1)),
            Fate::Taken => Ok(queues.len()),
            Fate::Returned => {
                self.unroutable.fetch_add(1, Ordering::Relaxed);
                Err(Error::Unroutable(event.topic.to_string()))
            }
        }
    }

    pub(super) async fn send(self: &Arc<Self>, queue: &str, event: &Arc<Event>) -> Result<(), Error> {
        let body = self.options.bus.body(event)?;
        self.out.refuse_hopeless()?;
        self.refuse_deferred(|spec| spec.name == queue)?;
        wire::name(queue)?;
        let known = self.bindings.with(|bindings| bindings.known(queue).is_some());
        let queues: Vec<Arc<str>> = known.then(|| queue.into()).into_iter().collect();
        let _places = self.enter(&queues).await?;
        let confirm = self.announced(
            &queues,
            event,
            Outgoing {
                exchange: String::new(),
                routing_key: queue.to_owned(),
                mandatory: true,
                properties: wire::properties(event, &Past::begins()),
                body: body.into_bytes(),
            },
        );
        match confirm.await? {
            Fate::Taken => Ok(()),
            Fate::Returned => Err(Error::NoQueue(queue.to_owned())),
        }
    }

    /// Publishes, and lets the queues that are consumed here know what is about to arrive. The message is handed over here and now.
    fn announced<'event>(
        &self,
        queues: &[Arc<str>],
        event: &'event Event,
        message: Outgoing,
    ) -> impl Future<Output = Result<Fate, Error>> + Send + use<'event> {
        let intakes = self.intakes(|intakes| {
            let here = queues.iter().filter_map(|queue| intakes.get(&**queue));
            here.cloned().collect::<Vec<_>>()
        });
        let announced = Announced { intakes, id: &event.id, confirmed: false };
        announced.begin(rank(event.priority));
        let confirm = self.publisher.publish(message);
        async move {
            let fate = confirm.await;
            announced.end(matches!(fate, Ok(Fate::Taken)));
            fate
        }
    }

    /// Takes a place in each of the queues, or in none.
    async fn enter(self: &Arc<Self>, queues: &[Arc<str>]) -> Result<Vec<OwnedMutexGuard<()>>, Error> {
        let limit = self.options.bus.queue_events_max;
        let mut places = Vec::new();
        // By name, so that two publishers never wait for each other.
        for queue in queues {
            let room = self.rooms.of(queue);
            match room.enter(limit) {
                Verdict::Plenty => {}
                Verdict::LookSometime => {
                    let (inner, queue) = (self.clone(), queue.clone());
                    tokio::spawn(async move {
                        if let Ok(depth) = inner.depth(&queue).await {
                            inner.rooms.of(&queue).looked(depth);
                        }
                    });
                }
                // Rare and large: not a part of every publisher.
                Verdict::Near => places.extend(Box::pin(self.squeeze_in(queue, &room, limit)).await?),
            }
        }
        Ok(places)
    }

    /// Takes a place in a queue that is almost full: one after the other, by the broker's own count.
    async fn squeeze_in(&self, queue: &str, room: &Room, limit: u64) -> Result<Option<OwnedMutexGuard<()>>, Error> {
        let place = room.one_by_one.clone().lock_owned().await;
        if room.enter(limit) != Verdict::Near {
            return Ok(None);
        }
        room.looked(self.depth(queue).await?);
        if room.counted() >= limit {
            return Err(Error::QueueFull { queue: queue.to_owned(), limit });
        }
        room.enter(u64::MAX);
        Ok(Some(place))
    }
}

/// An event that is being published, for the queues that are consumed here.
struct Announced<'a> {
    intakes: Vec<Arc<Intake>>,
    id: &'a str,
    confirmed: bool,
}

impl Announced<'_> {
    fn end(mut self, confirmed: bool) {
        self.confirmed = confirmed;
    }

    fn begin(&self, rank: u8) {
        for intake in &self.intakes {
            intake.at(|shelf| shelf.announce(self.id, rank));
        }
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        for intake in &self.intakes {
            intake.at(|shelf| if self.confirmed { shelf.confirm(self.id) } else { shelf.expect_no_more(self.id) });
        }
    }
}
