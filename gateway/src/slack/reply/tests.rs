//! The reply sender against the stand-in, over real sockets: what goes right, what goes wrong, and what nobody knows.

use std::collections::HashMap;

use chrono::Utc;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use troupe_runtime::domain::agent::{AgentName, SlackReply};
use troupe_runtime::domain::event::Event;
use troupe_runtime::domain::ids::TaskId;
use troupe_runtime::domain::outcome::{Failure, Outcome, Reason};
use troupe_runtime::domain::topic::Topic;

use super::super::testing::{Settled, TestBus, TestReplies};
use super::*;
use crate::stand_in::{BOT_TOKEN, Misbehaviour, Reply, SlackStandIn};

const PATIENCE: Duration = Duration::from_secs(20);

/// A sender between a test bus and the stand-in.
struct Stage {
    bus: Arc<TestBus>,
    replies: Arc<TestReplies>,
    slack: SlackStandIn,
    stats: Arc<ReplyStats>,
    drain: CancellationToken,
    run: JoinHandle<Result<(), Error>>,
}

fn quick(slack: &SlackStandIn) -> ReplyOptions {
    ReplyOptions {
        bot_token: Some(SecretString::from(BOT_TOKEN)).into(),
        response_hosts: vec!["127.0.0.1".to_owned()],
        backoff: Duration::from_millis(1),
        // Long enough for a busy machine: a time-out that nobody asked for is a doubt that nobody expects.
        request_timeout: PATIENCE,
        ..ReplyOptions::new(slack.base_url().parse().unwrap())
    }
}

async fn stage_with(change: impl FnOnce(&mut ReplyOptions)) -> Stage {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let slack = SlackStandIn::start().await.unwrap();
    let mut options = quick(&slack);
    change(&mut options);
    let (bus, replies) = (TestBus::new(), Arc::new(TestReplies::default()));
    let sender = ReplySender::new(bus.clone(), replies.clone(), options).unwrap();
    let (stats, drain) = (sender.stats(), CancellationToken::new());
    let run = tokio::spawn(sender.run(drain.clone()));
    Stage { bus, replies, slack, stats, drain, run }
}

async fn stage() -> Stage {
    stage_with(|_| ()).await
}

/// For a sender that is to give up waiting.
fn impatient(options: &mut ReplyOptions) {
    options.request_timeout = Duration::from_secs(1);
}

/// The question behind an answer.
fn asked(topic: Topic, data: Value) -> Event {
    Event::new(topic, "/slack/T1", data)
}

fn command(slack: &SlackStandIn, n: usize) -> Event {
    let url = slack.response_url(n);
    asked(Topic::slack_command("ask"), json!({"text": "?", "user": "U1", "channel": "C1", "response_url": url}))
}

fn message(channel: &str, ts: &str) -> Event {
    asked(Topic::slack_message(), json!({"text": "?", "user": "U1", "channel": channel, "ts": ts}))
}

fn answer_to(event: &Event, output: &str, reply: SlackReply) -> Answered {
    let agent: AgentName = "researcher".parse().unwrap();
    let task_id = TaskId::derive(&event.id, agent.as_str());
    let outcome = Outcome::Succeeded { output: output.to_owned() };
    Answered { task_id, agent, outcome, origin: Origin::of(event), reply }
}

fn told(answer: &Answered, cause: &Event) -> Event {
    answer.clone().event(answer.task_id.run(0).step(0), cause, Utc::now())
}

impl Stage {
    /// Delivers an answer and waits until it is settled; the `n`-th settling so far.
    async fn answer(&self, event: &Event, output: &str, reply: SlackReply) -> (TaskId, Vec<Settled>) {
        let answer = answer_to(event, output, reply);
        let before = self.bus.settled_so_far().len();
        self.bus.deliver(told(&answer, event), 0, false);
        (answer.task_id, self.bus.settled(before + 1).await[before..].to_vec())
    }

    fn count(&self, read: impl Fn(&ReplyStats) -> &AtomicU64) -> u64 {
        read(&self.stats).load(Ordering::Relaxed)
    }
}

fn acked(settled: &[Settled]) -> bool {
    settled.iter().all(|one| matches!(one, Settled::Acked(_)))
}

#[tokio::test]
async fn a_command_is_answered_at_its_response_url() {
    let stage = stage().await;
    let (task, settled) = stage.answer(&command(&stage.slack, 1), "42 < 43", SlackReply::Thread).await;
    assert!(acked(&settled));
    let replies = stage.slack.replies();
    let [Reply { via, text, reply_id, ephemeral, body, .. }] = replies.as_slice() else { panic!("{replies:?}") };
    assert_eq!((*via, text.as_str(), *ephemeral), ("response_url", "42 &lt; 43", false));
    assert_eq!(reply_id.as_deref(), Some(task.to_string().as_str()));
    assert_eq!(body["metadata"]["event_type"], "troupe-reply");
    assert_eq!(stage.replies.row(task).status, "sent");
    stage.answer(&command(&stage.slack, 2), "psst", SlackReply::Ephemeral).await;
    assert!(stage.slack.replies()[1].ephemeral);
    let declared = stage.bus.declared.lock().unwrap()[0].clone();
    assert_eq!((declared.name.as_str(), declared.bindings), (REPLY_QUEUE, reply_patterns()));
}

#[tokio::test]
async fn a_message_is_answered_where_the_spec_says() {
    let stage = stage().await;
    let (task, _) = stage.answer(&message("C1", "1.1"), "in the thread", SlackReply::Thread).await;
    stage.answer(&message("C1", "1.2"), "in the channel", SlackReply::Channel).await;
    stage.answer(&message("C1", "1.3"), "in the ear", SlackReply::Ephemeral).await;
    let seen: Vec<_> = stage.slack.replies().into_iter().map(|r| (r.via, r.thread_ts, r.ephemeral)).collect();
    assert_eq!(seen[0], ("chat.postMessage", Some("1.1".to_owned()), false));
    assert_eq!(seen[1], ("chat.postMessage", None, false));
    assert_eq!(seen[2], ("chat.postEphemeral", None, true));
    assert_eq!(stage.replies.row(task).ts, Some(stage.slack.replies()[0].ts.clone()));
}

#[tokio::test]
async fn a_failure_is_told_in_a_short_honest_line() {
    let stage = stage().await;
    let event = command(&stage.slack, 1);
    let mut answer = answer_to(&event, "", SlackReply::Thread);
    let failure = Failure { reason: Reason::Timeout, message: "secret details".to_owned(), retryable: false };
    answer.outcome = Outcome::Failed { failure };
    stage.bus.deliver(told(&answer, &event), 0, false);
    stage.bus.settled(1).await;
    let text = stage.slack.replies()[0].text.clone();
    assert_eq!(text, format!("I could not finish this: it took longer than it may (task {}).", answer.task_id));
    stage.answer(&command(&stage.slack, 2), "  ", SlackReply::Thread).await;
    assert!(stage.slack.replies()[1].text.starts_with("The answer is empty"));
}

#[tokio::test]
async fn answers_that_do_not_concern_slack_pass_by_the_thousand() {
    let stage = stage_with(|options| options.prefetch = 10_000).await;
    let mut event = message("C1", "1.1");
    assert!(acked(&stage.answer(&event, "x", SlackReply::None).await.1));
    event.source = "/api".to_owned();
    let told = told(&answer_to(&event, "x", SlackReply::Thread), &event);
    for _ in 0..5_000 {
        stage.bus.deliver(told.clone(), 0, false);
    }
    assert!(acked(&stage.bus.settled(5_001).await));
    assert_eq!(stage.slack.calls(), []);
    assert_eq!(stage.count(|stats| &stats.passed), 5_001);
}

#[tokio::test]
async fn what_cannot_be_read_or_addressed_is_a_dead_letter_at_once() {
    let stage = stage().await;
    let stranger = json!({"channel": "C1", "response_url": "https://evil.example/T/sekrit"});
    let rows = [
        (json!({"origin": {"source": "/slack/T1"}}), "no answer that can be read"),
        (told_of(json!({"text": "?"})), "names no channel"),
        (told_of(stranger), "SLACK_RESPONSE_HOSTS"),
    ];
    for (n, (data, expected)) in rows.into_iter().enumerate() {
        stage.bus.deliver(asked("agent.output.a".parse().unwrap(), data), 0, false);
        let Settled::Rejected(_, cause) = stage.bus.settled(n + 1).await[n].clone() else { panic!("not rejected") };
        assert!(cause.contains(expected) && !cause.contains("sekrit"), "{cause}");
    }
    assert_eq!(stage.slack.calls(), []);
}

fn told_of(data: Value) -> Value {
    let event = asked(Topic::slack_message(), data);
    told(&answer_to(&event, "x", SlackReply::Thread), &event).data.value()
}

#[tokio::test]
async fn ten_deliveries_of_one_answer_are_one_reply() {
    let stage = stage().await;
    let event = command(&stage.slack, 1);
    let told = told(&answer_to(&event, "once", SlackReply::Thread), &event);
    for n in 0..10 {
        stage.bus.deliver(told.clone(), 0, n > 0);
    }
    assert!(acked(&stage.bus.settled(10).await));
    assert_eq!(stage.slack.replies().len(), 1);
}

#[tokio::test]
async fn after_a_doubt_the_thread_is_looked_into_and_nothing_is_said_twice() {
    let stage = stage().await;
    for n in 0..50 {
        stage.slack.misbehave(Misbehaviour::DropAfterAccept, 1);
        let reply = if n % 2 == 0 { SlackReply::Thread } else { SlackReply::Channel };
        let (task, settled) = stage.answer(&message("C1", &format!("{n}.1")), "once", reply).await;
        assert!(acked(&settled));
        let row = stage.replies.row(task);
        assert_eq!((row.status.as_str(), row.doubtful), ("sent", 1));
        assert_eq!(row.ts, Some(stage.slack.replies()[n].ts.clone()));
    }
    let mut by_id = HashMap::new();
    for reply in stage.slack.replies() {
        *by_id.entry(reply.reply_id).or_insert(0) += 1;
    }
    assert!(by_id.len() == 50 && by_id.values().all(|times| *times == 1), "{by_id:?}");
    assert_eq!((stage.count(|s| &s.reconciled), stage.count(|s| &s.doubtful)), (50, 0));
}

#[tokio::test]
async fn what_is_not_found_is_said_again() {
    let stage = stage_with(impatient).await;
    for how in [Misbehaviour::Status(500), Misbehaviour::Hang, Misbehaviour::Error("internal_error")] {
        stage.slack.misbehave(how, 1);
        let before = stage.slack.replies().len();
        assert!(acked(&stage.answer(&message("C1", "1.1"), "again", SlackReply::Thread).await.1), "{how:?}");
        assert_eq!(stage.slack.replies().len(), before + 1, "{how:?}");
    }
    let looks = stage.slack.calls().iter().filter(|call| call.method == "conversations.replies").count();
    assert_eq!((looks, stage.count(|s| &s.doubtful), stage.count(|s| &s.reconciled)), (3, 0, 0));
}

#[tokio::test]
async fn at_a_response_url_nobody_can_look_so_the_doubt_is_counted() {
    let stage = stage().await;
    stage.slack.misbehave(Misbehaviour::DropAfterAccept, 1);
    let (task, settled) = stage.answer(&command(&stage.slack, 1), "twice", SlackReply::Thread).await;
    assert!(acked(&settled));
    let replies = stage.slack.replies();
    assert_eq!((replies.len(), &replies[0].reply_id), (2, &replies[1].reply_id));
    assert_eq!(stage.count(|s| &s.doubtful), 1);
    assert_eq!(stage.replies.row(task).doubtful, 1);
}

#[tokio::test]
async fn a_life_that_ended_within_a_call_leaves_a_doubt_to_the_next() {
    let stage = stage().await;
    let event = message("C1", "1.1");
    let answer = answer_to(&event, "hello", SlackReply::Thread);
    // The former life said it and died before noting so.
    stage.replies.begin(answer.task_id).await.unwrap();
    let wire = Wire::new(&quick(&stage.slack)).unwrap();
    let id = answer.task_id.to_string();
    let said = wire::Message { channel: "C1", text: "hello", reply_id: &id };
    wire.say(&address::Target::Channel { thread: Some("1.1".to_owned()) }, said).await;
    stage.bus.deliver(told(&answer, &event), 0, true);
    assert!(acked(&stage.bus.settled(1).await));
    assert_eq!((stage.slack.replies().len(), stage.count(|s| &s.reconciled)), (1, 1));
}

#[tokio::test]
async fn nothing_is_sent_before_slack_wants_it_and_other_methods_go_on() {
    let stage = stage().await;
    stage.slack.misbehave(Misbehaviour::RateLimited(1), 1);
    let limited = message("C1", "1.1");
    stage.bus.deliver(told(&answer_to(&limited, "late", SlackReply::Thread), &limited), 0, false);
    while stage.count(|s| &s.rate_limited) == 0 {
        tokio::task::yield_now().await;
    }
    let other = message("C2", "1.2");
    stage.bus.deliver(told(&answer_to(&other, "late too", SlackReply::Thread), &other), 0, false);
    let mut free = command(&stage.slack, 1);
    let mut data = free.data.value();
    data["channel"] = json!("C3");
    free.data = data.into();
    stage.bus.deliver(told(&answer_to(&free, "at once", SlackReply::Thread), &free), 0, false);
    assert!(acked(&stage.bus.settled(3).await));
    assert_eq!(stage.slack.replies()[0].text, "at once");
    let posts: Vec<_> = stage.slack.calls().into_iter().filter(|call| call.method == "chat.postMessage").collect();
    assert_eq!(posts.len(), 3);
    assert!(posts[1..].iter().all(|call| call.at - posts[0].at >= Duration::from_millis(990)), "{posts:?}");
    assert_eq!(stage.count(|s| &s.doubtful), 0);
}

#[tokio::test]
async fn a_refusal_is_a_dead_letter_that_can_be_replayed() {
    let stage = stage().await;
    stage.slack.misbehave(Misbehaviour::Error("channel_not_found"), 1);
    let event = message("C1", "1.1");
    let (task, settled) = stage.answer(&event, "hello", SlackReply::Channel).await;
    let Settled::Rejected(_, cause) = &settled[0] else { panic!("{settled:?}") };
    assert_eq!(cause, "chat.postMessage: channel_not_found");
    assert_eq!(stage.replies.row(task).status, "given_up");
    assert_eq!(stage.slack.replies().len(), 0);
    stage.slack.misbehave(Misbehaviour::Status(503), 5);
    stage.bus.deliver(told(&answer_to(&event, "hello", SlackReply::Channel), &event), 0, false);
    let settled = stage.bus.settled(3).await;
    assert!(matches!(settled[1..], [Settled::Retried(_), Settled::Acked(_)]), "{settled:?}");
    assert_eq!((stage.slack.replies().len(), stage.replies.row(task).status.as_str()), (1, "sent"));
}

#[tokio::test]
async fn what_never_connects_climbs_the_ladder_and_is_given_up_without_a_doubt() {
    let stage = stage_with(|options| options.bot_token = None.into()).await;
    let url = "http://127.0.0.1:1/commands/sekrit";
    let data = json!({"channel": "C1", "user": "U1", "response_url": url});
    let event = asked(Topic::slack_command("ask"), data);
    let answer = answer_to(&event, "x", SlackReply::Thread);
    stage.bus.deliver(told(&answer, &event), 0, false);
    let settled = stage.bus.settled(6).await;
    assert!(settled[..5].iter().all(|one| matches!(one, Settled::Retried(_))), "{settled:?}");
    let Settled::Rejected(_, cause) = &settled[5] else { panic!("{settled:?}") };
    let row = stage.replies.row(answer.task_id);
    assert_eq!((row.status.as_str(), row.attempts, row.doubtful), ("given_up", 24, 0));
    assert!(!cause.contains("sekrit") && !row.last_error.unwrap().contains("sekrit"), "{cause}");
}

#[tokio::test]
async fn a_used_up_response_url_falls_back_to_those_who_may_see_it() {
    let stage = stage().await;
    stage.slack.misbehave(Misbehaviour::Status(404), 1);
    stage.answer(&command(&stage.slack, 1), "to all", SlackReply::Thread).await;
    stage.slack.misbehave(Misbehaviour::Error("used_url"), 1);
    stage.answer(&command(&stage.slack, 1), "to one", SlackReply::Ephemeral).await;
    let mut old = command(&stage.slack, 2);
    old.time = Utc::now() - chrono::TimeDelta::minutes(31);
    stage.answer(&old, "late", SlackReply::Thread).await;
    let seen: Vec<_> = stage.slack.replies().into_iter().map(|reply| reply.via).collect();
    assert_eq!(seen, ["chat.postMessage", "chat.postEphemeral", "chat.postMessage"]);
    let calls: Vec<_> = stage.slack.calls().into_iter().map(|call| call.method).collect();
    assert_eq!(calls.iter().filter(|method| **method == "response_url").count(), 2, "the old URL is not tried");
}

#[tokio::test]
async fn without_a_token_a_used_up_url_and_a_message_are_dead_letters() {
    let stage = stage_with(|options| options.bot_token = None.into()).await;
    stage.slack.misbehave(Misbehaviour::Status(404), 1);
    let (_, settled) = stage.answer(&command(&stage.slack, 1), "x", SlackReply::Thread).await;
    assert!(matches!(&settled[0], Settled::Rejected(_, cause) if cause == "response_url: status 404"), "{settled:?}");
    let (_, settled) = stage.answer(&message("C1", "1.1"), "x", SlackReply::Thread).await;
    assert!(matches!(&settled[0], Settled::Rejected(_, cause) if cause.contains("SLACK_BOT_TOKEN")), "{settled:?}");
}

#[tokio::test]
async fn a_slow_channel_keeps_its_order_and_holds_up_no_other() {
    let stage = stage_with(impatient).await;
    stage.slack.misbehave(Misbehaviour::Hang, 1);
    for n in 0..5 {
        let event = message("C1", &format!("{n}.1"));
        stage.bus.deliver(told(&answer_to(&event, &format!("C1 {n}"), SlackReply::Thread), &event), 0, false);
    }
    while stage.slack.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    for n in 0..20 {
        let event = message(&format!("D{n}"), "1.1");
        stage.bus.deliver(told(&answer_to(&event, "other", SlackReply::Thread), &event), 0, false);
    }
    assert!(stage.slack.wait_for(25, PATIENCE).await);
    let texts: Vec<_> = stage.slack.replies().into_iter().map(|reply| reply.text).collect();
    assert!(texts[..20].iter().all(|text| text == "other"), "{texts:?}");
    assert_eq!(texts[20..], ["C1 0", "C1 1", "C1 2", "C1 3", "C1 4"]);
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_gives_back_what_waits() {
    let stage = stage_with(|options| {
        impatient(options);
        options.in_flight_max = 1;
    })
    .await;
    stage.slack.misbehave(Misbehaviour::Hang, 1);
    for n in 0..3 {
        let event = message(&format!("C{n}"), "1.1");
        stage.bus.deliver(told(&answer_to(&event, "x", SlackReply::Thread), &event), 0, false);
    }
    while stage.slack.calls().is_empty() {
        tokio::task::yield_now().await;
    }
    stage.drain.cancel();
    tokio::time::timeout(PATIENCE, stage.run).await.unwrap().unwrap().unwrap();
    let settled = stage.bus.settled(3).await;
    assert!(settled.iter().all(|one| matches!(one, Settled::Dropped(_))), "{settled:?}");
    assert_eq!(stage.slack.calls().len(), 1);
}

#[tokio::test]
async fn while_the_store_is_away_replies_wait() {
    let stage = stage().await;
    *stage.replies.broken.lock().unwrap() = true;
    let event = message("C1", "1.1");
    stage.bus.deliver(told(&answer_to(&event, "x", SlackReply::Thread), &event), 0, false);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!((stage.slack.calls(), stage.bus.settled_so_far()), (vec![], vec![]));
    *stage.replies.broken.lock().unwrap() = false;
    assert!(acked(&stage.bus.settled(1).await));
    assert_eq!(stage.slack.replies().len(), 1);
}
