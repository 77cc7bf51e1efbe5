//! Bringing down one child, all children, and the supervisor itself.

use super::*;

async fn busy_office(strategy: Strategy) -> Office {
    let office = Office::open(strategy).await;
    let patience = Duration::from_secs(10);
    for (id, work) in [("a", 4), ("b", 7), ("c", 60)] {
        let spec = office.worker(id).spec().shutdown(Shutdown::Drain(patience));
        office.start(spec).await.expect("taken in");
        office.next().await;
        office.tell(id, WorkerMessage::Work(Duration::from_secs(work))).await;
    }
    office
}

fn ended(id: &str, reason: &str) -> ChildEvent {
    ChildEvent::Ended { id: id.into(), reason: reason.into() }
}

#[tokio::test(start_paused = true)]
async fn rest_for_one_stops_in_reverse_one_after_the_other() {
    let office = busy_office(Strategy::RestForOne).await;
    let begun = tokio::time::Instant::now();
    let events = office.ask(BossMessage::StopAll).await;
    let killed = "killed, not drained within 10000 ms";
    assert_eq!(events, [ended("c", killed), ended("b", "drained"), ended("a", "drained")]);
    assert_eq!(begun.elapsed().as_secs(), 10, "a and b were done while c had its ten seconds");
    assert_eq!(office.diary().split_off(3), ["a did", "b did", "b down", "a down"]);
    assert_eq!(office.tree.list(), []);
    assert!(matches!(office.start(office.worker("e").spec()).await, Err(ChildrenError::Closing(_))));
}

#[tokio::test(start_paused = true)]
async fn one_for_one_drains_all_in_the_time_of_the_slowest() {
    let office = busy_office(Strategy::OneForOne).await;
    let begun = tokio::time::Instant::now();
    let events = office.ask(BossMessage::StopAll).await;
    let killed = "killed, not drained within 10000 ms";
    assert_eq!(events, [ended("c", killed), ended("b", "drained"), ended("a", "drained")]);
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert_eq!(office.diary().split_off(3), ["a did", "a down", "b did", "b down"]);
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_stops_or_drains_never_stops_before_its_children() {
    for drain in [false, true] {
        let office = Office::with(Strategy::RestForOne, &["a", "b"]).await;
        let cells = [office.get("a").await.expect("a"), office.get("b").await.expect("b")];
        office.tell("b", WorkerMessage::Work(Duration::from_secs(2))).await;
        if drain {
            office.boss.drain().expect("the boss lives");
        } else {
            office.boss.stop(None);
        }
        office.boss.wait(Some(PATIENCE)).await.expect("stopped");
        assert_eq!(office.diary().split_off(2), ["b did", "b down", "a down"], "drain: {drain}");
        for cell in cells {
            assert_eq!(cell.get_status(), ractor::ActorStatus::Stopped);
        }
        assert_eq!(office.tree.list(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_is_killed_leaves_no_child_and_no_entry() {
    let office = Office::with(Strategy::OneForOne, &["a", "b"]).await;
    let cell = office.get("a").await.expect("a");
    office.boss.kill();
    office.boss.wait(Some(PATIENCE)).await.expect("dead");
    cell.wait(Some(PATIENCE)).await.expect("dead too");
    while !office.tree.list().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(office.diary(), ["a up", "b up"], "cut off without a word");
}

#[tokio::test(start_paused = true)]
async fn removing_drains_without_holding_up_the_supervisor() {
    let office = Office::open(Strategy::OneForOne).await;
    let long = Duration::from_secs(20);
    office.start(office.worker("a").spec().shutdown(Shutdown::Drain(long * 2))).await.expect("taken in");
    office.next().await;
    office.tell("a", WorkerMessage::Work(long)).await;

    let asked = tokio::time::Instant::now();
    office.remove("a").await.expect("known");
    office.remove("a").await.expect("asking twice is no error");
    assert_eq!(asked.elapsed(), Duration::ZERO);
    assert_eq!(office.states().await, "a stopping");
    assert_eq!(office.tree.get("root/a").map(|view| view.state), Some(ActorState::Stopping));
    assert!(office.get("a").await.is_none(), "nobody is given new work for it");
    assert!(matches!(office.start(office.worker("a").spec()).await, Err(ChildrenError::Duplicate { .. })));

    assert_eq!(office.next().await, ended("a", "ended: Drained"));
    assert_eq!(asked.elapsed().as_secs(), long.as_secs());
    assert_eq!(
        (office.states().await, office.diary()),
        (String::new(), vec!["a up".into(), "a did".into(), "a down".into()])
    );
    office.start(office.worker("a").spec()).await.expect("the name is free again");
    assert_eq!(office.next().await, ChildEvent::Started { id: "a".into() }, "and nothing of the former one is left");
    assert!(office.is_quiet().await, "neither is its timer");
}

#[tokio::test(start_paused = true)]
async fn removing_kills_what_does_not_drain_or_shall_not() {
    for (shutdown, seconds) in [(Shutdown::Drain(Duration::from_secs(3)), 3), (Shutdown::Kill, 0)] {
        let office = Office::open(Strategy::OneForOne).await;
        office.start(office.worker("a").spec().shutdown(shutdown)).await.expect("taken in");
        office.next().await;
        office.tell("a", WorkerMessage::Work(PATIENCE)).await;
        let asked = tokio::time::Instant::now();
        office.remove("a").await.expect("known");
        assert_eq!(office.next().await, ended("a", "killed"));
        assert_eq!(asked.elapsed().as_secs(), seconds, "{shutdown:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_falls_while_it_is_being_removed_is_not_brought_back() {
    let office = Office::with(Strategy::OneForOne, &["a"]).await;
    office.tell("a", WorkerMessage::Work(Duration::from_secs(1))).await;
    office.tell("a", WorkerMessage::Panic("at the door".into())).await;
    office.remove("a").await.expect("known");
    assert_eq!(office.next().await, ended("a", "at the door"));
    assert!(office.is_quiet().await);
}
