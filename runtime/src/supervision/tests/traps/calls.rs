//! Questions to actors: when there is an answer, and when there is none.

use ractor::rpc::{CallResult, multi_call};

use super::*;

/// Answers, answers late, or never does.
struct Oracle;

#[derive(RactorMessage)]
enum OracleMessage {
    /// Answers with the number after so long.
    After(Duration, u32, RpcReplyPort<u32>),
    /// Keeps the way back and says nothing.
    Keep(RpcReplyPort<u32>),
    /// Drops the way back.
    Drop(#[expect(dead_code, reason = "dropped unanswered")] RpcReplyPort<u32>),
}

impl Actor for Oracle {
    type Msg = OracleMessage;
    type State = Vec<RpcReplyPort<u32>>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<OracleMessage>,
        (): (),
    ) -> Result<Vec<RpcReplyPort<u32>>, ActorProcessingErr> {
        Ok(Vec::new())
    }

    async fn handle(
        &self,
        _: ActorRef<OracleMessage>,
        message: OracleMessage,
        kept: &mut Vec<RpcReplyPort<u32>>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            OracleMessage::After(wait, number, reply) => {
                tokio::time::sleep(wait).await;
                reply.send(number).ok();
            }
            OracleMessage::Keep(reply) => kept.push(reply),
            OracleMessage::Drop(_) => {}
        }
        Ok(())
    }
}

async fn oracle() -> ActorRef<OracleMessage> {
    Actor::spawn(None, Oracle, ()).await.expect("an oracle").0
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_a_call_waits_for_ever_unless_the_way_back_is_dropped() {
    let oracle = oracle().await;
    let dropped = tokio::time::timeout(PATIENCE, oracle.call(OracleMessage::Drop, None)).await;
    assert!(matches!(dropped, Ok(Ok(CallResult::SenderError))), "here, but not over a link to another node");
    let kept = tokio::time::timeout(PATIENCE, oracle.call(OracleMessage::Keep, None)).await;
    assert!(kept.is_err(), "so nothing here calls without a limit");
}

#[tokio::test(start_paused = true)]
async fn answers_to_a_call_to_many_come_in_the_order_of_the_asked() {
    let (slow, quick) = (oracle().await, oracle().await);
    let wait = std::sync::Mutex::new([(Duration::ZERO, 2), (Duration::from_secs(1), 1)].to_vec());
    let message = |reply| {
        let (wait, number) = wait.lock().expect("the list").pop().expect("two are asked");
        OracleMessage::After(wait, number, reply)
    };
    let answers = multi_call(&[slow, quick], message, Some(PATIENCE)).await.expect("both live");
    let numbers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap_or(0)).collect();
    assert_eq!(numbers, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_call_to_many_has_no_answer_at_all_when_one_of_them_is_gone() {
    let (one, gone) = (oracle().await, oracle().await);
    gone.stop(None);
    gone.wait(Some(PATIENCE)).await.expect("gone");
    let message = |reply| OracleMessage::After(Duration::ZERO, 1, reply);
    assert!(multi_call(&[one.clone(), gone], message, Some(PATIENCE)).await.is_err(), "so each is called by itself");
    let alone = one.call(message, Some(PATIENCE)).await.expect("it lives");
    assert!(matches!(alone, CallResult::Success(1)));
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_a_call_does_not_stop_the_work() {
    let pair = pair().await;
    let asked = pair.child.clone();
    pair.child.cast(WorkerMessage::Work(Duration::from_secs(5))).expect("sent");
    tokio::select! {
        biased;
        () = tokio::task::yield_now() => {}
        _ = asked.call(WorkerMessage::Ping, None) => unreachable!("it is at work"),
    }
    pair.child.drain().expect("sent");
    pair.child.wait(Some(PATIENCE)).await.expect("gone");
    assert!(pair.diary.lock().expect("the diary").iter().any(|line| line == "a did"));
}
