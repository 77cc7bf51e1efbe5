//! Many children falling at once on several threads and the real clock: nothing is lost, nothing is started twice.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const CHILDREN: usize = 300;
const FALLS: usize = 900;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_storm_everybody_stands_exactly_once() {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let office = Office::open_for(Strategy::OneForOne, CHILDREN).await;
    let worker = office.worker("w");
    let (first, cap) = (Duration::from_millis(1), Duration::from_millis(2));
    for number in 0..CHILDREN {
        let mut spec = worker.spec().backoff(BackoffOptions { first, cap, ..BackoffOptions::default() });
        spec.id = number.to_string();
        spec.budget.max = u32::MAX;
        office.start(spec).await.expect("taken in");
        office.next().await;
    }
    for _ in 0..FALLS {
        let id = rng.random_range(0..CHILDREN).to_string();
        // Who is down already cannot fall; nothing waits for anybody here.
        if let Some(cell) = office.get(&id).await {
            match rng.random_range(0..3) {
                0 => cell.kill(),
                1 => drop(cell.send_message(WorkerMessage::Panic("storm".into()))),
                _ => cell.stop(None),
            }
        }
    }
    let mut balance: HashMap<String, i32> = HashMap::new();
    // A life that answers has nothing left of the storm before it: kill and stop come first, a panic came earlier.
    let mut all_stand = false;
    while !all_stand {
        all_stand = true;
        for number in 0..CHILDREN {
            all_stand &= office.answers(&number.to_string()).await;
        }
    }
    let mut events = office.events.lock().await;
    while let Ok(event) = events.try_recv() {
        match event {
            ChildEvent::Restarting { id, .. } => *balance.entry(id).or_default() += 1,
            ChildEvent::Restarted { id, .. } => *balance.entry(id).or_default() -= 1,
            other => panic!("{other:?} in the storm"),
        }
    }
    assert!(balance.values().all(|open| *open == 0), "each fall has its one restart: {balance:?}");
    let views = office.tree.list();
    assert_eq!(views.len(), CHILDREN);
    assert!(views.iter().all(|view| view.state == ActorState::Running));
    assert_eq!(office.boss.get_children().len(), CHILDREN, "no life beside the known ones");
    let restarts: u32 = views.iter().map(|view| view.restarts).sum();
    assert_eq!(worker.starts.load(Ordering::SeqCst) as usize, CHILDREN + restarts as usize);
    assert!(restarts as usize > FALLS / 4, "there was a storm: {restarts} restarts");
}
