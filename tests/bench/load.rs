//! A closed loop: so many clients, each of which asks again as soon as it was answered, for a while.
//!
//! Everything that is measured in operations a second is measured by this one loop, ours and what it is held against.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

/// Somebody who does the same thing again and again.
pub(crate) trait Client: Send + 'static {
    /// Once; returns when it is done and durable.
    fn once(&mut self) -> impl Future<Output = ()> + Send;
}

/// What a while of it came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Load {
    /// What was done within the time, a second.
    pub(crate) rate: f64,
    /// How long each took, in milliseconds.
    pub(crate) latencies_ms: Vec<f64>,
}

/// Has all clients at it for a while, and gives them back.
pub(crate) async fn closed_loop<C: Client>(clients: Vec<C>, duration: Duration) -> (Vec<C>, Load) {
    let end = Instant::now() + duration;
    let mut at_it = JoinSet::new();
    for mut client in clients {
        at_it.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let begun = Instant::now();
                client.once().await;
                let now = Instant::now();
                if now > end {
                    return (client, latencies);
                }
                latencies.push((now - begun).as_secs_f64() * 1000.0);
            }
        });
    }
    let (clients, latencies): (Vec<C>, Vec<Vec<f64>>) = at_it.join_all().await.into_iter().unzip();
    let latencies_ms = latencies.concat();
    (clients, Load { rate: latencies_ms.len() as f64 / duration.as_secs_f64(), latencies_ms })
}
