//! How agents share the node: places, order, and what one of them may not do to the others.

use std::time::Duration;

use troupe_actors::stage::Options;
use troupe_runtime::domain::task::TaskStatus;

use crate::house::{House, Puppet, options, says, spec};

#[tokio::test(flavor = "multi_thread")]
async fn idle_agents_take_no_places_from_busy_ones() {
    let cast = (0..4).map(|n| (spec(&format!("agent-{n}")), Puppet::new(|_| says("here"))));
    let options = Options { steps_max: 2, ..options() };
    let house = House::open_with(tempfile::tempdir().unwrap(), cast.collect(), options).await;
    for n in [0, 1, 2, 3, 2, 1, 0] {
        let task = house.ask(&format!("agent-{n}"), "are you there?").await;
        assert_eq!(house.ended(task).await.status, TaskStatus::Succeeded, "agent-{n}");
    }
    house.troupe.drain(Duration::from_secs(5)).await;
}
