//! Declaring: what every node needs, queues, and bindings that are set to exactly what was asked for.
//!
//! What cannot be done because the broker is away is kept in mind and done after the next connection. Called by the bus, and by
//! [intakes](super::intake) whose queue was deleted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lapin::Channel;
use lapin::options::QueueBindOptions;
use lapin::types::FieldTable;
use tokio::time::timeout;

use super::bindings::{DONE, Declared, INTENT};
use super::link::State;
use super::{Inner, PAUSE_FIRST, PAUSE_MAX, topology, wire};
use crate::bus::{Error, QueueSpec};

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
            self.bindings.append(INTENT, &spec.name, body.clone()).await?;
            if !self.bindings.until(|bindings| bindings.knows_of(&declared)).await {
                return Err(Error::Unavailable(format!("{} does not come back", topology::BINDINGS)));
            }
        }
        self.bind(&channel, &declared).await?;
        self.bindings.append(DONE, &spec.name, body).await
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
            open.map(|wanted| wanted.spec.clone()).collect::<Vec<_>>()
        });
        for spec in open {
            let name = spec.name.clone();
            // Whoever declares it now does so without us.
            let lock = self.want(&spec);
            drop(lock.lock().await);
            if self.wanted(|wanted| wanted.get(&name).is_none_or(|wanted| wanted.done)) {
                continue;
            }
            match self.declare(spec).await {
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
