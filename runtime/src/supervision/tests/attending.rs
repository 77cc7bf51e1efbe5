//! Children that attend to a mailbox: drained like actors, reached by their mailbox, asked by a ping whether they get on.

use tokio::sync::oneshot;

use super::*;

/// What the keeper of a mailbox is told.
pub(super) enum Order {
    Note(&'static str),
    Fail,
    /// Takes until this comes.
    Take(oneshot::Receiver<()>),
}

/// Reads a mailbox and writes what it is told into the diary.
#[derive(Clone)]
struct Keeper(&'static str, Diary);

impl Keeper {
    fn write(&self, what: &str) {
        self.1.lock().expect("the diary").push(format!("{} {what}", self.0));
    }

    fn spec(&self) -> ChildSpec {
        let keeper = self.clone();
        ChildSpec::new(self.0, "keeper", move |context| {
            let keeper = keeper.clone();
            async move { Ok(context.attend(|messages| keeper.keep(messages))) }
        })
        .backoff(BackoffOptions { jitter: 0.0, ..BackoffOptions::default() })
        .revive_after(None)
    }

    async fn keep(self, mut messages: Messages<Order>) -> Result<(), ActorProcessingErr> {
        while let Some(order) = messages.next().await {
            match order {
                Order::Note(what) => self.write(what),
                Order::Fail => return Err("on purpose".into()),
                Order::Take(until) => drop(until.await),
            }
        }
        self.write("read to the end");
        Ok(())
    }
}

/// A child that keeps a mailbox.
pub(super) fn keeper(id: &'static str, office: &Office) -> ChildSpec {
    Keeper(id, office.diary.clone()).spec()
}

async fn with_keeper(office: &Office) -> Mailbox<Order> {
    office.start(keeper("a", office)).await.expect("taken in");
    assert_eq!(office.next().await, ChildEvent::Started { id: "a".into() });
    mailbox(office).await.expect("it runs")
}

async fn mailbox(office: &Office) -> Option<Mailbox<Order>> {
    office.ask(|reply| BossMessage::Mailbox("a".to_owned(), reply)).await
}

/// Until everything sent is taken.
async fn taken(mailbox: &Mailbox<Order>) {
    while mailbox.depth() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_life_has_a_mailbox_of_its_own() {
    let office = Office::open(Strategy::OneForOne).await;
    let first = with_keeper(&office).await;
    let wrong = office.ask(|reply| BossMessage::WrongMailbox("a".to_owned(), reply)).await;
    assert!(!wrong, "only for what it takes");
    let (_held, until) = oneshot::channel();
    first.cast(Order::Fail).expect("empty");
    first.cast(Order::Take(until)).expect("room");
    let depths = (office.tree.get("root/a").expect("visible").mailbox_depth, office.view("a").await.mailbox_depth);
    assert!(depths.0 == 2 && depths.1 <= 2, "counted in the tree and by the supervisor: {depths:?}");
    office.next().await;
    assert!(mailbox(&office).await.is_none(), "nobody reads");
    assert_eq!(office.tree.get("root/a").expect("visible").mailbox_depth, 0);
    office.next().await;
    assert_eq!(first.cast(Order::Note("to nobody")), Err(CastError::Closed), "the old one leads nowhere");
    let second = mailbox(&office).await.expect("it runs");
    assert_eq!(second.cast(Order::Note("hello")), Ok(()));
    assert_eq!((second.depth(), first.depth()), (1, 1), "the lives do not mix");
    taken(&second).await;
    assert_eq!(office.diary(), ["a hello"]);
}

#[tokio::test(start_paused = true)]
async fn who_is_removed_handles_what_waits_and_nothing_more() {
    let office = Office::open(Strategy::OneForOne).await;
    let mailbox = with_keeper(&office).await;
    let (release, until) = oneshot::channel();
    mailbox.cast(Order::Take(until)).expect("empty");
    taken(&mailbox).await;
    mailbox.cast(Order::Note("this")).expect("room");
    office.remove("a").await.expect("known");
    assert_eq!(mailbox.cast(Order::Note("that")), Err(CastError::Closed));
    release.send(()).expect("it waits");
    assert_eq!(office.next().await, ChildEvent::Ended { id: "a".into(), reason: "ended".into() });
    assert_eq!(office.diary(), ["a this", "a read to the end"]);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_done_in_time_is_cut_off_one_by_one_or_with_all() {
    for all in [false, true] {
        let office = Office::open(Strategy::OneForOne).await;
        let mailbox = with_keeper(&office).await;
        let (_never, until) = oneshot::channel();
        mailbox.cast(Order::Take(until)).expect("empty");
        mailbox.cast(Order::Note("this")).expect("room");
        let begun = tokio::time::Instant::now();
        let ended = if all {
            office.ask(BossMessage::StopAll).await.remove(0)
        } else {
            office.remove("a").await.expect("known");
            office.next().await
        };
        let reason = if all { "killed, not drained within 5000 ms" } else { "killed" };
        assert_eq!(ended, ChildEvent::Ended { id: "a".into(), reason: reason.into() });
        assert_eq!(begun.elapsed(), Duration::from_secs(5), "its patience");
        assert!(office.diary().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_answered_while_messages_are_taken_and_not_while_one_holds_up() {
    let office = Office::open(Strategy::OneForOne).await;
    let mailbox = with_keeper(&office).await;
    let life = office.tree.lives("keeper").remove(0);
    assert_eq!(life.path, "root/a");
    assert_eq!(life.ping().expect("it reads").await, Ok(()));
    let (release, until) = oneshot::channel();
    mailbox.cast(Order::Take(until)).expect("empty");
    taken(&mailbox).await;
    let mut answer = life.ping().expect("it reads");
    assert!(tokio::time::timeout(PATIENCE, &mut answer).await.is_err(), "it is held up");
    release.send(()).expect("it waits");
    assert_eq!(answer.await, Ok(()));
    office.tree.kill("root/a").expect("it runs");
    office.next().await;
    assert!(life.ping().is_none(), "that life is over");
}

#[tokio::test(start_paused = true)]
async fn a_life_is_given_up_on_once_and_its_successor_is_not() {
    let office = Office::with(Strategy::OneForOne, &["b"]).await;
    let mailbox = with_keeper(&office).await;
    let life = office.tree.lives("keeper").remove(0);
    let (_never, until) = oneshot::channel();
    mailbox.cast(Order::Take(until)).expect("empty");
    office.tree.give_up_on(&life, "silent");
    office.tree.give_up_on(&life, "silent");
    assert!(matches!(office.next().await, ChildEvent::Restarting { cause, .. } if cause == "silent"));
    // The end of the one that was given up on is told, and is nobody's fall.
    assert_eq!(office.next().await, ChildEvent::Restarted { id: "a".into(), restarts: 1 });
    office.tree.give_up_on(&life, "silent");
    assert!(office.is_quiet().await);
    let second = office.tree.lives("keeper").remove(0);
    assert_ne!(second.number(), life.number());
    assert_eq!(second.ping().expect("it reads").await, Ok(()));
    assert_eq!(office.tree.ledger().of("root/a").len(), 1);
    assert!(office.answers("b").await && office.tree.lives("worker").is_empty(), "ractor's actors are not asked");
}
