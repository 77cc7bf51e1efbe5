//! How it stands: the connections, the depths of the queues, the dead letters.
//!
//! Called by the bus for `/health`, `/metrics` and the limits of queues. What the broker cannot be asked for now is left out.

use std::sync::atomic::Ordering;

use futures::StreamExt as _;

use super::intake::Measured;
use super::link::State;
use super::{ASKED_AT_ONCE, Inner, topology};
use crate::bus::{Connection, Error, Health};

impl Inner {
    /// Events of a queue that nobody has settled, as far as this node sees.
    pub(super) async fn depth(&self, queue: &str) -> Result<u64, Error> {
        let measured = self.in_time(queue, self.measure(queue)).await?;
        Ok(measured.ready + measured.held + self.waits.of(queue))
    }

    async fn measure(&self, queue: &str) -> Result<Measured, Error> {
        if let Some(intake) = self.intakes(|intakes| intakes.get(queue).cloned())
            && let Some(measured) = intake.measure().await
        {
            return Ok(measured);
        }
        let channel = self.channel().await?;
        Ok(Measured { ready: topology::ready(&channel, queue).await?, held: 0 })
    }

    pub(super) async fn health(&self) -> Health {
        let connection = self.connection();
        let mut depths = Vec::new();
        if connection.state == "connected" && self.bindings.caught_up().await.is_ok() {
            let queues = self.bindings.with(|bindings| bindings.queues());
            let asked = queues.into_iter().map(|queue| async move {
                let depth = self.depth(&queue).await.ok()?;
                Some((queue.to_string(), depth))
            });
            let told: Vec<Option<(String, u64)>> =
                futures::stream::iter(asked).buffer_unordered(ASKED_AT_ONCE).collect().await;
            depths.extend(told.into_iter().flatten());
            depths.sort_unstable();
        }
        Health {
            adapter: "rabbitmq",
            depths,
            dead_letters: self.letters.count().await,
            unroutable: self.unroutable.load(Ordering::Relaxed),
            connection: Some(connection),
        }
    }

    fn connection(&self) -> Connection {
        let mut links = self.links.all();
        links.push(self.out.clone());
        let states: Vec<State> = links.iter().map(|link| link.watch().borrow().clone()).collect();
        let error = states.iter().find_map(|state| match state {
            State::Away(error) => Some(error.clone()),
            State::Up(_) | State::Connecting => None,
        });
        let up = states.iter().all(|state| matches!(state, State::Up(_)));
        let state = if error.is_some() {
            "away"
        } else if up {
            "connected"
        } else {
            "connecting"
        };
        Connection {
            place: self.place.clone(),
            state,
            blocked: self.out.blocked(),
            error,
            lost: links.iter().map(|link| link.lost()).sum(),
        }
    }
}
