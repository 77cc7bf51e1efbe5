//! After a kill: whatever had been taken arrives, little of it twice, and damage costs what it hit.

use std::os::unix::fs::FileExt as _;

use super::super::folder::SEGMENT_HEAD_BYTES;
use super::*;

/// A spool with events that the bus has not taken, and a copy of it as a kill would leave it.
async fn killed(events: u64) -> (House, PathBuf) {
    let house = House::open(options()).await;
    house.bus.is(Mood::Away);
    house.publish_all(0..events).await;
    house.until("a failed try", |report| report.bus_error.is_some()).await;
    let left = house.dir.path().join("left");
    copy(&house.path(), &left);
    (house, left)
}

/// The next life of a spool, on a well bus; answers what it drained, in order.
async fn next_life(house: &House, left: &Path, events: u64) -> (House, Vec<u64>) {
    let dir = tempfile::tempdir_in(house.dir.path()).unwrap();
    let bus = SickBus::open(&dir.path().join("bus")).await;
    let mut consumer = bus.consumer().await;
    let spool = Spool::open(left, bus.clone(), options()).await.unwrap();
    let next = House { dir, bus, spool };
    next.spool.begin();
    let order = delivered(&mut consumer, events).await;
    next.empty().await;
    (next, order)
}

/// The segments in a folder, the oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|ext| ext == "segment")).collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_before_a_kill_arrives_after_it_in_order() {
    let (house, left) = killed(30).await;
    assert_eq!(look(&left).unwrap(), (30, 0));
    let (next, order) = next_life(&house, &left, 30).await;
    assert_eq!(order, (0..30).collect::<Vec<_>>());
    next.publish(30).await.unwrap();
    next.spool.stop(PATIENCE).await;
    assert_eq!((segments(&left).len(), look(&left).unwrap()), (0, (0, 0)), "nothing is left on the disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_point_of_the_drain_repeats_a_window_at_most_and_loses_nothing() {
    const EVENTS: u64 = 40;
    let window = options().window as u64;
    for confirmed in [0, 1, window - 1, window, window + 1, 3 * window, EVENTS - 1] {
        let (house, left) = killed(EVENTS).await;
        let bus = SickBus::open(&house.dir.path().join("second")).await;
        let mut consumer = bus.consumer().await;
        bus.is(Mood::WellFor(confirmed));
        let patient = Options { confirm_timeout: PATIENCE, ..options() };
        let spool = Spool::open(&left, bus.clone(), patient).await.unwrap();
        spool.begin();
        // The next one hangs: killed between its publish and its confirmation, and before the position is saved.
        bus.hangs().await;
        let before = delivered(&mut consumer, confirmed).await;
        let counted = async {
            let mut standing = spool.shared.gate.watch();
            standing.wait_for(|now| now.events == EVENTS - confirmed).await.unwrap();
        };
        timeout(PATIENCE, counted).await.unwrap();
        let again = house.dir.path().join("again");
        copy(&left, &again);
        let waits = look(&again).unwrap().0;
        let (_next, after) = next_life(&house, &again, waits).await;
        let all: BTreeSet<u64> = before.iter().chain(&after).copied().collect();
        assert_eq!(all.len() as u64, EVENTS, "killed after {confirmed}");
        let repeated = (before.len() + after.len()) as u64 - EVENTS;
        assert!(repeated <= 2 * window, "killed after {confirmed}: {repeated} repeated");
        assert_eq!(after, (EVENTS - after.len() as u64..EVENTS).collect::<Vec<_>>(), "in order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_cut_off_and_everything_before_it_arrives() {
    let (house, left) = killed(10).await;
    let last = segments(&left).pop().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    std::fs::write(&last, &bytes[..bytes.len() - 5]).unwrap();
    let (next, order) = next_life(&house, &left, 9).await;
    assert_eq!((order, next.spool.report().isolated), ((0..9).collect::<Vec<_>>(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_moved_aside_counted_and_no_crash_loop() {
    let (house, left) = killed(10).await;
    let last = segments(&left).pop().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    let hit = bytes.windows(9).position(|window| window == b"\"event-5\"").unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&last).unwrap();
    file.write_all_at(&[bytes[hit] ^ 1], hit as u64).unwrap();
    let (next, order) = next_life(&house, &left, 9).await;
    assert_eq!(first_seen(&order), [0, 1, 2, 3, 4, 6, 7, 8, 9]);
    assert_eq!((next.spool.report().isolated, next.spool.counts().isolated.load(Ordering::Relaxed)), (1, 1));
    // The file goes after the last event.
    next.spool.stop(PATIENCE).await;
    let aside: Vec<_> = std::fs::read_dir(left.join("isolated")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let kept = std::fs::read(&aside[0]).unwrap();
    assert_eq!((aside.len(), kept.starts_with(b"TSPR")), (1, true), "its bytes are kept for a person");
    assert_eq!((look(&left).unwrap(), next.spool.examined().await.isolated), ((0, 1), 1));
    std::fs::remove_file(&aside[0]).unwrap();
    assert_eq!(next.spool.examined().await.isolated, 0, "taken away without a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_head_of_a_segment_costs_no_event() {
    let (house, left) = killed(10).await;
    for path in segments(&left) {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&[0xff; SEGMENT_HEAD_BYTES], 0).unwrap();
    }
    let (_next, order) = next_life(&house, &left, 10).await;
    assert_eq!(order, (0..10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_the_rest_to_the_next_life_and_a_second_node_is_refused() {
    let house = House::open(options()).await;
    house.bus.is(Mood::Away);
    house.publish_all(0..5).await;
    let second = Spool::open(&house.path(), house.bus.clone(), options()).await;
    assert!(matches!(second.map(|_| ()), Err(OpenError::InUse(_))));
    let begun = Instant::now();
    house.spool.stop(PATIENCE).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "a stop waits for no bus");
    house.bus.is(Mood::Well);
    assert_eq!(look(&house.path()).unwrap(), (5, 0), "nothing is drained after the stop");
}
