//! A mailbox on tokio's paused clock, read by somebody who answers, can be held up, and can forget to answer.

use futures::FutureExt as _;

use super::*;

enum Message {
    Echo(u32, RpcReplyPort<u32>),
    Hold(oneshot::Receiver<()>),
    Forget(#[expect(dead_code, reason = "held until it is dropped unanswered")] RpcReplyPort<u32>),
    Note,
    Leave,
}

async fn clerk(mut messages: Messages<Message>) {
    while let Some(message) = messages.next().await {
        match message {
            Message::Echo(number, reply) => drop(reply.send(number)),
            Message::Hold(until) => drop(until.await),
            Message::Forget(_) | Message::Note => {}
            Message::Leave => return,
        }
    }
}

fn with_clerk(limit: usize) -> Mailbox<Message> {
    let (mailbox, messages) = Mailbox::open(MailboxOptions { limit, ..MailboxOptions::default() });
    tokio::spawn(clerk(messages));
    mailbox
}

async fn until_read(mailbox: &Mailbox<Message>) {
    while mailbox.depth() > 0 {
        tokio::task::yield_now().await;
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_refuses_and_takes_again_once_it_is_read() {
    let mailbox = with_clerk(2);
    let (release, held) = oneshot::channel();
    mailbox.cast(Message::Hold(held)).expect("empty");
    until_read(&mailbox).await;
    mailbox.cast(Message::Note).expect("one waits");
    mailbox.cast(Message::Note).expect("two wait");

    let busy = Busy { depth: 2, retry_after: MailboxOptions::default().retry_after };
    assert_eq!(mailbox.cast(Message::Note), Err(CastError::Busy(busy)));
    let refused = mailbox.call(SECOND, |reply| Message::Echo(1, reply)).await;
    assert_eq!(refused, Err(CallError::Busy(busy)));
    assert_eq!(CastError::Busy(busy).fault(), Fault::Transient { retry_after: Some(busy.retry_after) });
    assert_eq!(mailbox.depth(), 2, "a refusal takes no place");

    release.send(()).expect("the clerk waits");
    until_read(&mailbox).await;
    assert_eq!(mailbox.call(SECOND, |reply| Message::Echo(7, reply)).await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_unknown_whether_late_forgotten_or_gone() {
    let mailbox = with_clerk(8);
    let unknown = Err(CallError::Unknown { waited: SECOND });
    assert_eq!(mailbox.call(SECOND, Message::Forget).await, unknown);

    let (release, held) = oneshot::channel();
    mailbox.cast(Message::Hold(held)).expect("empty");
    let before = tokio::time::Instant::now();
    assert_eq!(mailbox.call(SECOND, |reply| Message::Echo(1, reply)).await, unknown);
    assert_eq!(before.elapsed(), SECOND);

    mailbox.cast(Message::Leave).expect("it takes messages");
    let waits = mailbox.call(SECOND, |reply| Message::Echo(1, reply));
    tokio::pin!(waits);
    assert!(waits.as_mut().now_or_never().is_none(), "it is queued");
    release.send(()).expect("the clerk waits");
    assert_eq!(waits.await, unknown, "it ended with the queue");
    assert_eq!(before.elapsed(), SECOND, "which is known at once");
    assert_eq!(mailbox.call(SECOND, |reply| Message::Echo(1, reply)).await, unknown);
    assert_eq!(mailbox.cast(Message::Note), Err(CastError::Closed));
    assert_eq!(mailbox.depth(), 1, "only the echo that ended in the queue is left, what was refused is not counted");
}

#[tokio::test(start_paused = true)]
async fn a_closed_mailbox_takes_nothing_more_and_is_read_to_its_end() {
    let (mailbox, mut messages) = Mailbox::open(MailboxOptions::default());
    mailbox.cast(1).expect("open");
    messages.to_self().send(2);
    messages.mailbox().close();
    assert_eq!(mailbox.cast(3), Err(CastError::Closed));
    messages.to_self().send(4);
    assert!(messages.mailbox().ping().is_none(), "nobody will come for it");
    assert_eq!((messages.next().await, messages.next().await, messages.next().await), (Some(1), Some(2), None));
    assert_eq!(mailbox.depth(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_answered_by_who_comes_for_the_next_message_and_counts_to_no_limit() {
    let (mailbox, mut messages) = Mailbox::open(MailboxOptions { limit: 1, ..MailboxOptions::default() });
    mailbox.cast("first").expect("empty");
    let (one, other) = (messages.mailbox().ping().expect("open"), messages.mailbox().ping().expect("open"));
    messages.to_self().send("own");
    assert_eq!(mailbox.depth(), 1);
    tokio::pin!(one, other);
    assert_eq!(messages.next().await, Some("first"));
    assert!(one.as_mut().now_or_never().is_none(), "it holds a message and has not come back");
    assert_eq!(messages.next().await, Some("own"));
    assert_eq!((one.now_or_never(), other.now_or_never()), (Some(Ok(())), Some(Ok(()))));
}

#[tokio::test]
async fn who_always_has_a_message_leaves_a_turn_to_others() {
    const MANY: usize = 100_000;
    let (mailbox, mut messages) = Mailbox::open(MailboxOptions { limit: MANY, ..MailboxOptions::default() });
    (0..MANY).for_each(|_| mailbox.cast(()).expect("below the limit"));
    let reader = tokio::spawn(async move { while messages.next().await.is_some() {} });
    let mut turns = 0;
    while mailbox.depth() > 0 {
        tokio::task::yield_now().await;
        turns += 1;
    }
    assert!(turns > 10, "{turns} turns beside {MANY} messages");
    reader.abort();
}

#[test]
fn it_opens_only_for_what_it_takes() {
    let messages = Messages::<u32>::of_life(7);
    assert!(Mailbox::<u64>::of(&messages.mailbox(), MailboxOptions::default()).is_none());
    let mailbox = Mailbox::<u32>::of(&messages.mailbox(), MailboxOptions::default()).expect("the same type");
    assert_eq!((mailbox.cast(1), messages.mailbox().depth(), messages.mailbox().life()), (Ok(()), 1, 7));
}
