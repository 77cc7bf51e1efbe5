//! Declaring: what every node needs, queues, and bindings that are set to exactly what was asked for.
//!
//! What cannot be done because the broker is away is kept in mind and done after the next connection. Called by the bus, and by
//! [intakes](super::intake) whose queue was deleted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lapin::Channel;
use lapin::options::QueueBindOptions;
use lapin::types::FieldTable;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::bindings::{DONE, Declared, GONE, INTENT};
use super::link::State;
use super::{Inner, PAUSE_FIRST, PAUSE_MAX, topology, wire};
use crate::bus::{Error, QueueSpec};

/// How often a queue is looked at until nobody consumes it.
const LOOKS_MAX: usize = 5;

/// A declaration, the last word on its queue.
pub(super) struct Wanted {
    pub(super) spec: QueueSpec,
    /// The broker was told.
    done: bool,
    /// The broker was away; it is told when it is there.
    deferred: bool,
    one_by_one: Arc<tokio::sync::Mutex<()>>,
}

impl Inner {
    pub(super) async fn declare(self: &Arc<Self>, spec: QueueSpec) -> Result<(), Error> {
        let lock = self.want(&spec);
        let _one_by_one = lock.lock().await;
        self.declare_in_turn(spec).await
    }

    /// Declares what is wanted; its lock is held.
    async fn declare_in_turn(self: &Arc<Self>, spec: QueueSpec) -> Result<(), Error> {
        let _turn = self.declaring.acquire().await.map_err(|_| Error::Unavailable("the bus is closed".to_owned()))?;
        let made = self.in_time(&spec.name, self.make(&spec)).await.map_err(|error| match error {
            Error::Unavailable(why) => Error::Deferred(why),
            other => other,
        });
        self.wanted(|wanted| {
            if let Some(wanted) = wanted.get_mut(&spec.name).filter(|wanted| wanted.spec == spec) {
                wanted.done = made.is_ok();
                self.defer(wanted, matches!(made, Err(Error::Deferred(_))));
            }
        });
        made
    }

    /// What is published now could miss a queue that the broker has not been told of: it is refused, and comes again.
    pub(super) fn refuse_deferred(&self, concerns: impl Fn(&QueueSpec) -> bool) -> Result<(), Error> {
        if self.deferred.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let missed = self.wanted(|wanted| {
            let mut deferred = wanted.values().filter(|wanted| wanted.deferred);
            deferred.find(|wanted| concerns(&wanted.spec)).map(|wanted| wanted.spec.name.clone())
        });
        match missed {
            Some(queue) => Err(Error::Unavailable(format!("{}: queue {queue} is not declared yet", self.place))),
            None => Ok(()),
        }
    }

    fn defer(&self, wanted: &mut Wanted, deferred: bool) {
        match (std::mem::replace(&mut wanted.deferred, deferred), deferred) {
            (false, true) => self.deferred.fetch_add(1, Ordering::AcqRel),
            (true, false) => self.deferred.fetch_sub(1, Ordering::AcqRel),
            _ => return,
        };
    }

    /// Keeps a declaration in mind.
    fn want(&self, spec: &QueueSpec) -> Arc<tokio::sync::Mutex<()>> {
        self.wanted(|wanted| {
            let entry = wanted.entry(spec.name.clone()).or_insert_with(|| Wanted {
                spec: spec.clone(),
                done: false,
                deferred: false,
                one_by_one: Arc::default(),
            });
            if entry.spec != *spec {
                (entry.spec, entry.done) = (spec.clone(), false);
            }
            entry.one_by_one.clone()
        })
    }

    /// Makes a queue and its bindings what they are declared to be.
    async fn make(&self, spec: &QueueSpec) -> Result<(), Error> {
        let channel = self.channel().await?;
        self.bindings.caught_up().await?;
        let declared = Declared::from(spec);
        let before = self.bindings.with(|bindings| bindings.known(&spec.name).cloned());
        // Each start declares everything again; what is so already is only looked at.
        if before.as_ref().is_some_and(|known| known.done && known.declared == declared)
            && topology::ready(&channel, &spec.name).await.is_ok()
        {
            return Ok(());
        }
        let channel = self.channel().await?;
        topology::make_work_queue(&channel, &spec.name, spec.single_active_consumer).await?;
        let body = serde_json::to_vec(&declared).map_err(|error| Error::Internal(format!("declaration: {error}")))?;
        if before.is_none_or(|known| known.declared != declared) {
            self.intend(&declared).await?;
        }
        self.bind(&channel, &declared).await?;
        self.bindings.append(DONE, &spec.name, body).await
    }

    /// Writes down what is to be, and waits until it comes back: what is left over is known then.
    async fn intend(&self, declared: &Declared) -> Result<(), Error> {
        let mark = Uuid::new_v4().to_string();
        let marked = Declared { mark: Some(mark.clone()), ..declared.clone() };
        let body = serde_json::to_vec(&marked).map_err(|error| Error::Internal(format!("declaration: {error}")))?;
        self.bindings.with(|bindings| bindings.wait_for(&mark));
        let written = async {
            self.bindings.append(INTENT, &declared.queue, body).await?;
            if self.bindings.until(|bindings| !bindings.awaits(&mark)).await {
                return Ok(());
            }
            Err(Error::Unavailable(format!("{} does not come back", topology::BINDINGS)))
        };
        let written = written.await;
        self.bindings.with(|bindings| bindings.wait_no_more(&mark));
        written
    }

    /// Binds what is meant and unbinds what is left over. When somebody else has declared the queue otherwise meanwhile, that is
    /// meant, and what is ours alone is left over.
    async fn bind(&self, channel: &Channel, ours: &Declared) -> Result<(), Error> {
        let queue = wire::name(&ours.queue)?;
        let exchange = wire::name(topology::EVENTS)?;
        let refused = |error: lapin::Error| wire::refused(&error, &ours.queue);
        for pattern in &ours.patterns {
            let key = wire::name(pattern.as_str())?;
            let options = QueueBindOptions::default();
            let bound = channel.queue_bind(queue.clone(), exchange.clone(), key, options, FieldTable::default());
            bound.await.map_err(refused)?;
        }
        let Some(known) = self.bindings.with(|bindings| bindings.known(&ours.queue).cloned()) else { return Ok(()) };
        let surplus = ours.patterns.difference(&known.declared.patterns);
        for pattern in known.leftover.iter().chain(surplus) {
            let key = wire::name(pattern.as_str())?;
            let unbound = channel.queue_unbind(queue.clone(), exchange.clone(), key, FieldTable::default());
            unbound.await.map_err(refused)?;
        }
        Ok(())
    }

    /// Removes a queue, if nothing is in it and nobody consumes it. A quorum queue cannot be told to be deleted only when it is
    /// empty; so its bindings go first, and then it is looked at once more.
    pub(super) async fn remove(self: &Arc<Self>, queue: &str) -> Result<(), Error> {
        let known = async {
            self.bindings.caught_up().await?;
            Ok(self.bindings.with(|bindings| bindings.known(queue).cloned()))
        };
        let known = self.in_time(queue, known).await?.ok_or_else(|| Error::NoQueue(queue.to_owned()))?;
        let lock = self.wanted(|wanted| wanted.get(queue).map(|wanted| wanted.one_by_one.clone())).unwrap_or_default();
        let _one_by_one = lock.lock().await;
        let Declared { single_active, patterns, .. } = known.declared;
        let bound_to = |bindings| QueueSpec { name: queue.to_owned(), bindings, single_active_consumer: single_active };
        if let Some(intake) = self.intakes(|intakes| intakes.get(queue).cloned()) {
            let ended = async {
                intake.linger_no_more().await;
                Ok(())
            };
            self.in_time(queue, ended).await?;
        }
        let there = match self.is_free(queue).await {
            // Deleted by hand.
            Err(Error::NoQueue(_)) => false,
            free => free.map(|()| true)?,
        };
        if there {
            self.in_time(queue, self.make(&bound_to(Vec::new()))).await?;
            if let Err(kept) = self.is_free(queue).await {
                self.in_time(queue, self.make(&bound_to(patterns.into_iter().collect()))).await?;
                return Err(kept);
            }
        }
        // Unknown first, then deleted: or whoever lingers there would make it again.
        let nothing = Declared::from(&bound_to(Vec::new()));
        let body = serde_json::to_vec(&nothing).map_err(|error| Error::Internal(format!("declaration: {error}")))?;
        self.bindings.append(GONE, queue, body).await?;
        if !self.bindings.until(|bindings| bindings.known(queue).is_none()).await {
            return Err(Error::Unavailable(format!("{} does not come back", topology::BINDINGS)));
        }
        self.wanted(|wanted| {
            if let Some(mut wanted) = wanted.remove(queue) {
                self.defer(&mut wanted, false);
            }
        });
        if there {
            let channel = self.channel().await?;
            let lost = self.in_time(queue, topology::delete(&channel, queue)).await?;
            if lost > 0 {
                tracing::error!(
                    queue,
                    events = lost,
                    "events were sent to a queue while it was removed; they are lost"
                );
            }
        }
        Ok(())
    }

    /// Whether nothing is in a queue and nobody consumes it, here or elsewhere.
    async fn is_free(self: &Arc<Self>, queue: &str) -> Result<(), Error> {
        if self.intakes(|intakes| intakes.contains_key(queue)) {
            return Err(Error::consumed(queue));
        }
        let depth = self.depth(queue).await?;
        if depth > 0 {
            return Err(Error::holds(queue, depth));
        }
        let channel = self.channel().await?;
        for _ in 0..LOOKS_MAX {
            let (_, consumers) = self.in_time(queue, topology::look(&channel, queue)).await?;
            if consumers == 0 {
                return Ok(());
            }
            // A channel that was just closed is counted for a moment more.
            sleep(PAUSE_FIRST).await;
        }
        Err(Error::consumed(queue))
    }

    /// Makes a queue again that is gone from the broker, as it was declared here or elsewhere.
    pub(super) async fn make_again(self: &Arc<Self>, queue: &str) -> Result<(), Error> {
        let here = self.wanted(|wanted| wanted.get(queue).map(|wanted| wanted.spec.clone()));
        let elsewhere = || {
            self.bindings.with(|bindings| {
                bindings.known(queue).map(|known| QueueSpec {
                    name: queue.to_owned(),
                    bindings: known.declared.patterns.iter().cloned().collect(),
                    single_active_consumer: known.declared.single_active,
                })
            })
        };
        let spec = here.or_else(elsewhere).ok_or_else(|| Error::NoQueue(queue.to_owned()))?;
        let channel = self.channel().await?;
        topology::make_work_queue(&channel, queue, spec.single_active_consumer).await?;
        self.in_time(queue, self.bind(&channel, &Declared::from(&spec))).await
    }

    /// Declares what could not be declared while the broker was away.
    async fn catch_up(self: &Arc<Self>) {
        let open = self.wanted(|wanted| {
            let open = wanted.values().filter(|wanted| !wanted.done);
            open.map(|wanted| (wanted.spec.name.clone(), wanted.one_by_one.clone())).collect::<Vec<_>>()
        });
        for (name, lock) in open {
            // Whoever declares or removes it now does so without us.
            let _one_by_one = lock.lock().await;
            let still = self.wanted(|wanted| {
                let same = wanted.get(&name).filter(|wanted| !wanted.done && Arc::ptr_eq(&wanted.one_by_one, &lock));
                same.map(|wanted| wanted.spec.clone())
            });
            // Declared, or removed: to declare it again would bring it back.
            let Some(spec) = still else { continue };
            match self.declare_in_turn(spec).await {
                Ok(()) => tracing::info!(queue = name, "a queue was declared after the broker came back"),
                Err(error) => tracing::warn!(queue = name, %error, "a queue cannot be declared yet"),
            }
        }
    }

    /// Makes what every node needs after each connection, then what was declared meanwhile, until the bus closes. Then it
    /// waits for the consuming ends and hangs up.
    pub(super) async fn prepare(self: Arc<Self>) {
        self.prepare_again_and_again().await;
        self.closed.cancelled().await;
        self.consuming.close();
        timeout(PAUSE_MAX, self.consuming.wait()).await.ok();
        self.hung_up.cancel();
    }

    async fn prepare_again_and_again(self: &Arc<Self>) {
        let (mut states, mut pause) = (self.work.watch(), PAUSE_FIRST);
        loop {
            let up = matches!(&*states.borrow_and_update(), State::Up(_));
            let done = if up {
                let made = self.closed.run_until_cancelled(self.make_common()).await;
                let Some(made) = made else { return };
                if let Err(error) = &made {
                    // A broker that has just started does not have its streams at once; a name that is taken is for a person.
                    tracing::warn!(place = self.place, %error, "the broker cannot be used yet");
                } else {
                    self.made.send_replace(true);
                    if self.closed.run_until_cancelled(self.catch_up()).await.is_none() {
                        return;
                    }
                }
                made.is_ok() && self.wanted(|wanted| wanted.values().all(|wanted| wanted.done))
            } else {
                true
            };
            pause = if done { PAUSE_FIRST } else { (pause * 2).min(PAUSE_MAX) };
            let changed = async {
                tokio::select! {
                    changed = states.changed() => changed.is_ok(),
                    () = tokio::time::sleep(pause), if !done => true,
                }
            };
            if self.closed.run_until_cancelled(changed).await != Some(true) {
                return;
            }
        }
    }

    async fn make_common(&self) -> Result<(), Error> {
        let making = async {
            let channel = self.work.channel().await?;
            topology::make(&channel, &self.options.bus.retry_ladder).await
        };
        self.in_time("what every node needs", making).await
    }
}
