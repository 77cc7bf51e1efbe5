//! The actors' own layer: our counted mailbox beside ractor's, and how soon a fallen child serves again.
//!
//! One process, no store, no bus. Both sides have somebody who does the same with messages of the same type: ours is a routine
//! with a [`Mailbox`], as agent actors are, the other one an actor of ractor's.

use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use ractor_cluster_derive::RactorMessage;
use tokio::sync::mpsc;
use troupe_runtime::supervision::{
    BackoffOptions, ChildContext, ChildEvent, ChildSpec, ChildTimer, Children, ChildrenOptions, Mailbox,
    MailboxOptions, Messages, RestartBudget, Tree,
};

use crate::figure::{Figure, median};

const NAMES: [&str; 3] = ["cast", "call", "restart"];
/// Messages of one round, each way.
const CASTS: usize = 300_000;
const CALLS: usize = 50_000;
/// Siblings of the one that falls, and its falls in one round.
const SIBLINGS: usize = 500;
const FALLS: usize = 100;
/// Nothing here takes so long.
const LIMIT: Duration = Duration::from_secs(60);

/// Somebody who takes notes and answers.
struct Clerk;

#[derive(RactorMessage)]
enum ClerkMessage {
    Note,
    Ask(RpcReplyPort<u64>),
}

impl Actor for Clerk {
    type Msg = ClerkMessage;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<ClerkMessage>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<ClerkMessage>,
        message: ClerkMessage,
        notes: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        Self::take(message, notes)
    }
}

impl Clerk {
    fn take(message: ClerkMessage, notes: &mut u64) -> Result<(), ActorProcessingErr> {
        match message {
            ClerkMessage::Note => *notes += 1,
            ClerkMessage::Ask(reply) => reply.send(*notes)?,
        }
        Ok(())
    }

    /// The same as a routine.
    async fn attend(mut messages: Messages<ClerkMessage>) -> Result<(), ActorProcessingErr> {
        let mut notes = 0;
        while let Some(message) = messages.next().await {
            Self::take(message, &mut notes)?;
        }
        Ok(())
    }
}

/// A supervisor that says what becomes of its children.
struct Boss(Tree);

#[derive(RactorMessage)]
enum BossMessage {
    Child(ChildTimer),
}

struct Office {
    children: Children,
    events: mpsc::UnboundedSender<ChildEvent>,
}

impl Actor for Boss {
    type Msg = BossMessage;
    type State = Office;
    type Arguments = mpsc::UnboundedSender<ChildEvent>;

    async fn pre_start(
        &self,
        myself: ActorRef<BossMessage>,
        events: mpsc::UnboundedSender<ChildEvent>,
    ) -> Result<Office, ActorProcessingErr> {
        let options = ChildrenOptions::default();
        let mut children = Children::new(&myself, "root", self.0.clone(), options, BossMessage::Child);
        for number in 0..=SIBLINGS {
            let start = |context: ChildContext| async move { Ok(context.attend(Clerk::attend)) };
            let backoff = BackoffOptions { first: Duration::ZERO, cap: Duration::ZERO, ..BackoffOptions::default() };
            let budget = RestartBudget { max: u32::MAX, window: LIMIT };
            let spec = ChildSpec::new(number.to_string(), "clerk", start).backoff(backoff).budget(budget);
            children.start(spec).await?;
        }
        Ok(Office { children, events })
    }

    async fn handle(
        &self,
        _: ActorRef<BossMessage>,
        BossMessage::Child(timer): BossMessage,
        office: &mut Office,
    ) -> Result<(), ActorProcessingErr> {
        for event in office.children.timer(timer).await {
            office.events.send(event)?;
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<BossMessage>,
        event: SupervisionEvent,
        office: &mut Office,
    ) -> Result<(), ActorProcessingErr> {
        for event in office.children.handle(event).await {
            office.events.send(event)?;
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<BossMessage>, office: &mut Office) -> Result<(), ActorProcessingErr> {
        office.children.stop_all().await;
        Ok(())
    }
}

/// What can be asked for.
pub(crate) fn names() -> Vec<String> {
    NAMES.map(str::to_owned).into()
}

/// All figures of this file.
pub(crate) async fn measure(rounds: usize) -> Vec<Figure> {
    let (mut casts, mut bare_casts, mut calls, mut bare_calls) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut restarts = Vec::new();
    for round in 0..=rounds {
        let (bare, _) = Actor::spawn(None, Clerk, ()).await.expect("a clerk");
        // As pools have it: work is bounded by places, not by the mailbox.
        let (ours, messages) = Mailbox::open(MailboxOptions { limit: usize::MAX, ..MailboxOptions::default() });
        let clerk = tokio::spawn(Clerk::attend(messages));
        let ask = async || ours.call(LIMIT, ClerkMessage::Ask).await.expect("an answer");
        let ask_bare = async || bare.call(ClerkMessage::Ask, Some(LIMIT)).await.expect("sent").expect("an answer");
        let measured = [
            cast(|| ours.cast(ClerkMessage::Note).expect("queued"), ask).await,
            cast(|| bare.cast(ClerkMessage::Note).expect("queued"), ask_bare).await,
            call(ask).await,
            call(ask_bare).await,
            restart().await,
        ];
        clerk.abort();
        bare.stop(None);
        // The first round warms.
        if round > 0 {
            let rows = [&mut casts, &mut bare_casts, &mut calls, &mut bare_calls, &mut restarts];
            rows.into_iter().zip(measured).for_each(|(row, value)| row.push(value));
        }
    }
    vec![
        Figure {
            name: NAMES[0].to_owned(),
            unit: "casts/s",
            rounds: casts,
            baseline: Some(("casts/s of ractor alone", bare_casts)),
            conditions: format!("one sender, one actor, {CASTS} casts until the last is handled; aim: 0.7"),
        },
        Figure {
            name: NAMES[1].to_owned(),
            unit: "calls/s",
            rounds: calls,
            baseline: Some(("calls/s of ractor alone", bare_calls)),
            conditions: format!("one caller, one after the other, {CALLS}, each with a limit; aim: 0.7"),
        },
        Figure {
            name: NAMES[2].to_owned(),
            unit: "us",
            rounds: restarts,
            baseline: None,
            conditions: format!(
                "median of {FALLS} kills: from the kill to the next life's first answer, with a backoff of zero; budget, \
                 ledger and live tree on, {SIBLINGS} siblings; aim: 1000"
            ),
        },
    ]
}

/// Casts a second, until the last one is handled.
async fn cast(send: impl Fn(), ask: impl AsyncFn() -> u64) -> f64 {
    let begun = Instant::now();
    for _ in 0..CASTS {
        send();
    }
    assert_eq!(ask().await, CASTS as u64);
    CASTS as f64 / begun.elapsed().as_secs_f64()
}

/// Calls a second, one after the other.
async fn call(ask: impl AsyncFn() -> u64) -> f64 {
    let begun = Instant::now();
    for _ in 0..CALLS {
        ask().await;
    }
    CALLS as f64 / begun.elapsed().as_secs_f64()
}

/// Microseconds from the kill of a child to the first answer of its next life, with no wait between them.
async fn restart() -> f64 {
    let tree = Tree::default();
    let (tell, mut events) = mpsc::unbounded_channel();
    let (boss, over) = Actor::spawn(None, Boss(tree.clone()), tell).await.expect("a boss");
    let mut took = Vec::with_capacity(FALLS);
    for _ in 0..FALLS {
        let begun = Instant::now();
        tree.kill("root/0").expect("it runs");
        loop {
            match events.recv().await.expect("the boss lives") {
                ChildEvent::Restarting { after, .. } => assert!(after.is_zero(), "a wait of {after:?}"),
                ChildEvent::Restarted { .. } => break,
                other => unreachable!("{other:?}"),
            }
        }
        let next = tree.lives("clerk").into_iter().find(|life| life.path == "root/0").expect("its next life");
        next.ping().expect("it lives").await.expect("an answer");
        took.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    boss.stop(None);
    over.await.expect("the boss ends");
    median(&took)
}
