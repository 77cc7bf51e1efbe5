//! Retries, fallbacks, deadlines and streams of a chain, over scripted models on paused time.

use std::sync::{Arc, Mutex};

use super::*;
use crate::domain::agent::{AgentName, ModelSpec, ProviderKind, ScriptAct, ScriptRule};
use crate::domain::chat::{Finish, ToolCall, Usage};
use crate::model::scripted::{ScriptedCalls, ScriptedModel};
use crate::retry::BackoffOptions;

fn rule(then: ScriptAct, times: Option<u32>) -> ScriptRule {
    ScriptRule { when: None, then, delay: Duration::ZERO, times }
}

fn fail(status: u16, times: Option<u32>) -> ScriptRule {
    rule(ScriptAct::Fail(status), times)
}

fn reply(text: &str) -> ScriptRule {
    rule(ScriptAct::Reply(text.into()), None)
}

/// A chain of scripted models, each named by its place.
fn chain(scripts: Vec<Vec<ScriptRule>>) -> (Chain, ScriptedCalls) {
    let calls = ScriptedCalls::default();
    let links = scripts.into_iter().enumerate().map(|(place, script)| {
        let spec = ModelSpec {
            provider: ProviderKind::Scripted,
            model: place.to_string(),
            api_key: None,
            base_url: None,
            timeout: Duration::from_secs(30),
            max_output_tokens: 100,
            script,
        };
        let agent: AgentName = format!("a{place}").parse().unwrap();
        link(&format!("scripted/{place}"), ScriptedModel::new(&agent, &spec, &calls).unwrap())
    });
    (chain_of(links.collect()), calls)
}

fn chain_of(links: Vec<Link>) -> Chain {
    let options = ModelOptions { tool_calls_max: 8, ..ModelOptions::default() };
    Chain { links, backoff: Backoff::new(BackoffOptions::default()).unwrap(), options: options.into() }
}

fn link(label: &str, model: impl Model + 'static) -> Link {
    Link {
        label: label.into(),
        model: Box::new(model),
        access: None,
        timeout: Duration::from_secs(30),
        name: "m".into(),
    }
}

fn ask() -> Request {
    Request { messages: vec![Message::User { text: "x".into() }].into(), ..Request::default() }
}

fn within(seconds: u64) -> Request {
    Request { deadline: Some(Instant::now() + Duration::from_secs(seconds)), ..ask() }
}

/// Fails in turn with what it was given, then answers; in a stream it says half of it first.
struct Shaky(Mutex<Vec<Error>>);

#[async_trait]
impl Model for Shaky {
    async fn complete(&self, _: &Request) -> Result<Completion, Error> {
        match self.0.lock().unwrap().pop() {
            Some(error) => Err(error),
            None => Ok(Completion {
                text: "whole".into(),
                tool_calls: vec![call(""), call("c"), call("c")],
                finish: Finish::ToolCalls,
                usage: Usage::default(),
                provider: "p".into(),
                model: "m".into(),
                request_id: None,
            }),
        }
    }

    async fn complete_streaming(&self, request: &Request, on_delta: OnDelta<'_>) -> Result<Completion, Error> {
        on_delta("half");
        self.complete(request).await
    }
}

fn call(id: &str) -> ToolCall {
    ToolCall { id: id.into(), name: "clock".into(), arguments: serde_json::json!({}) }
}

fn limited(seconds: u64) -> Error {
    Error::Status {
        model: "p/m".into(),
        status: 429,
        message: "slow down".into(),
        retry_after: Some(Duration::from_secs(seconds)),
    }
}

#[tokio::test(start_paused = true)]
async fn a_passing_failure_is_repeated() {
    let (chain, calls) = chain(vec![vec![fail(500, Some(2)), reply("third")]]);
    let start = Instant::now();
    assert_eq!(chain.complete(&ask()).await.unwrap().text, "third");
    assert_eq!(calls.total(), 3);
    assert!(start.elapsed() <= Duration::from_millis(500 + 1_000 + 2));
}

#[tokio::test(start_paused = true)]
async fn nobody_calls_before_retry_after() {
    let model = Shaky(Mutex::new(vec![limited(7), limited(5)]));
    let start = Instant::now();
    chain_of(vec![link("p/m", model)]).complete(&ask()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(12));

    let model = Arc::new(Shaky(Mutex::new(vec![limited(1); 5])));
    let error = chain_of(vec![link("p/m", Shared(Arc::clone(&model)))]).complete(&ask()).await.unwrap_err();
    assert_eq!(error, limited(1));
    assert_eq!(model.0.lock().unwrap().len(), 2, "three tries of five");
}

/// Says a word every so often, and breaks off after the third when it is told to.
struct Talker {
    every: Duration,
    breaks: Mutex<u32>,
}

#[async_trait]
impl Model for Talker {
    async fn complete(&self, _: &Request) -> Result<Completion, Error> {
        tokio::time::sleep(self.every * 10).await;
        Shaky(Mutex::default()).complete(&ask()).await
    }

    async fn complete_streaming(&self, _: &Request, on_delta: OnDelta<'_>) -> Result<Completion, Error> {
        for word in 0..10 {
            tokio::time::sleep(self.every).await;
            on_delta("word");
            let mut breaks = self.breaks.lock().unwrap();
            if word == 2 && *breaks > 0 {
                *breaks -= 1;
                return Err(limited(0));
            }
        }
        Shaky(Mutex::default()).complete(&ask()).await
    }
}

#[tokio::test(start_paused = true)]
async fn pieces_and_tries_are_progress_and_a_broken_stream_that_nobody_saw_is_begun_again() {
    let second = Duration::from_secs(1);
    let stalls_after = |streams: bool, breaks: u32, patience: Duration| async move {
        let talker = Talker { every: second, breaks: Mutex::new(breaks) };
        let options = ModelOptions { stream: streams, ..ModelOptions::default() };
        let chain = Chain { options: options.into(), ..chain_of(vec![link("p/m", talker)]) };
        let progress = Progress::begin();
        let request = Request { progress: Some(progress.clone()), ..ask() };
        tokio::select! {
            answer = chain.complete(&request) => { answer.unwrap(); true }
            () = progress.stalled(patience) => false,
        }
    };
    assert!(stalls_after(true, 0, second * 2).await, "each word counts");
    assert!(stalls_after(true, 2, second * 5).await, "two tries broke off, and the third is whole");
    assert!(!stalls_after(false, 0, second * 2).await, "in one piece it is silent until it is there");
    assert!(stalls_after(false, 0, second * 11).await);
}

/// A model that the test keeps a hand on.
struct Shared(Arc<Shaky>);

#[async_trait]
impl Model for Shared {
    async fn complete(&self, request: &Request) -> Result<Completion, Error> {
        self.0.complete(request).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_limit_goes_to_the_fallback_at_once() {
    let links = vec![link("p/m", Shaky(Mutex::new(vec![limited(3_600)]))), link("p/n", Shaky(Mutex::default()))];
    let start = Instant::now();
    assert_eq!(chain_of(links).complete(&ask()).await.unwrap().text, "whole");
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn fallbacks_come_in_order_and_the_end_names_them_all() {
    let (chain, calls) = chain(vec![vec![fail(503, None)], vec![fail(401, None)], vec![reply("third")]]);
    assert_eq!(chain.complete(&ask()).await.unwrap().text, "third");
    let by_agent: Vec<_> = calls.snapshot().into_iter().map(|(agent, _, count)| (agent.to_string(), count)).collect();
    assert_eq!(by_agent, [("a0".to_owned(), 3), ("a1".to_owned(), 1), ("a2".to_owned(), 1)]);

    let (chain, _) = super::tests::chain(vec![vec![fail(503, None)], vec![fail(401, None)]]);
    let error = chain.complete(&ask()).await.unwrap_err();
    assert!(error.fault().is_transient());
    let text = error.to_string();
    assert!(text.contains("scripted/0 answered 503") && text.contains("scripted/1 answered 401"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_model_is_cut_at_its_limit_and_at_the_deadline() {
    let slow = ScriptRule { delay: Duration::from_secs(45), ..reply("late") };
    let (chain, calls) = chain(vec![vec![slow], vec![reply("other")]]);
    let start = Instant::now();
    assert_eq!(chain.complete(&ask()).await.unwrap().text, "other");
    assert!(start.elapsed() >= Duration::from_secs(90), "three tries of 30 s");
    assert_eq!(calls.total(), 4);

    let start = Instant::now();
    let error = chain.complete(&within(40)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Deadline { last: Some(last) } if matches!(**last, Error::Timeout { .. })),
        "{error:?}"
    );
    assert_eq!(start.elapsed(), Duration::from_secs(40));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_the_deadline_does_not_allow_is_not_begun() {
    let start = Instant::now();
    let chain = chain_of(vec![link("p/m", Shaky(Mutex::new(vec![limited(30)])))]);
    assert_eq!(chain.complete(&within(10)).await.unwrap_err(), limited(30));
    assert_eq!(start.elapsed(), Duration::ZERO);
    let error = chain.complete(&within(0)).await.unwrap_err();
    assert_eq!(error, Error::Deadline { last: None });
}

#[tokio::test]
async fn ids_of_calls_are_unique_in_the_conversation() {
    let mut request = ask();
    let tool_calls = vec![call("c")];
    Arc::make_mut(&mut request.messages).push(Message::Assistant { text: String::new(), tool_calls });
    let completion = chain_of(vec![link("p/m", Shaky(Mutex::default()))]).complete(&request).await.unwrap();
    let ids: Vec<_> = completion.tool_calls.iter().map(|call| call.id.as_str()).collect();
    assert_eq!(ids, ["call-2-0", "c-2-1", "c-2-2"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_begun_is_not_begun_again() {
    let mut shown = String::new();
    let mut show = |delta: &str| shown.push_str(delta);
    let links = vec![link("p/m", Shaky(Mutex::new(vec![limited(1)]))), link("p/n", Shaky(Mutex::default()))];
    let error = chain_of(links).complete_streaming(&ask(), &mut show).await.unwrap_err();
    assert_eq!(error, limited(1));
    assert_eq!(shown, "half");

    let (chain, calls) = chain(vec![vec![fail(500, Some(1)), reply("whole")]]);
    let mut shown = String::new();
    let mut show = |delta: &str| shown.push_str(delta);
    chain.complete_streaming(&ask(), &mut show).await.unwrap();
    assert_eq!((shown.as_str(), calls.total()), ("whole", 2), "nothing was shown before the retry");
}
