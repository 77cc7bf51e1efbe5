//! What is asked of the real model, and what any answer must have.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use troupe_runtime::config::{Agents, parse_agent};
use troupe_runtime::domain::chat::{Completion, Message};
use troupe_runtime::model::{Model, ModelOptions, Models, Request, ToolOffer};
use troupe_runtime::secret::Secrets;
use troupe_tests::Stage;

use crate::server::ModelServer;

/// A small model on a busy machine takes its time.
const LIMIT: Duration = Duration::from_secs(120);
/// Characters of an answer that the table shows.
const SHOWN: usize = 50;

/// What came of a check that passed.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) took: Duration,
    pub(crate) tokens: (u64, u64),
    pub(crate) answer: String,
}

/// One answer, whole.
pub(crate) async fn chat(server: &ModelServer) -> Row {
    let (model, begun) = (adapter(server), Instant::now());
    let completion = model.complete(&request("Say hello to the team.")).await.expect("an answer");
    assert!(!completion.text.trim().is_empty(), "an answer has words: {completion:?}");
    row("chat", begun, &completion)
}

/// One answer, in pieces that make the whole.
pub(crate) async fn streamed(server: &ModelServer) -> Row {
    let (model, begun) = (adapter(server), Instant::now());
    let mut pieces = Vec::new();
    let mut take = |piece: &str| pieces.push(piece.to_owned());
    let completion = model.complete_streaming(&request("Count from one to five."), &mut take).await;
    let completion = completion.expect("a streamed answer");
    assert!(pieces.len() > 1, "it came in one piece: {pieces:?}");
    assert_eq!(pieces.concat(), completion.text, "the pieces make the whole");
    row("streamed chat", begun, &completion)
}

/// A tool that must be called.
pub(crate) async fn forced_tool(server: &ModelServer) -> Row {
    let (model, begun) = (adapter(server), Instant::now());
    let clock = ToolOffer {
        name: "clock".to_owned(),
        description: "Tells the current time.".to_owned(),
        parameters: json!({"type": "object", "properties": {}}),
    };
    let mut request = request("What time is it?");
    (request.tools, request.force_tool) = ([clock].into(), Some("clock".to_owned()));
    let completion = model.complete(&request).await.expect("an answer");
    let names: Vec<_> = completion.tool_calls.iter().map(|call| call.name.as_str()).collect();
    assert_eq!(names, ["clock"], "{completion:?}");
    assert!(completion.tool_calls[0].arguments.is_object(), "{completion:?}");
    Row { answer: format!("clock({})", completion.tool_calls[0].arguments), ..row("forced tool", begun, &completion) }
}

/// The whole way: a node, an agent, the command line.
pub(crate) async fn asked(server: &ModelServer) -> Row {
    let mut stage = Stage::new();
    stage.agent("live", &spec(server));
    let node = stage.start().await;
    let begun = Instant::now();
    let said = stage.run(&["ask", "live", "Name one colour.", "--wait"], LIMIT).await;
    let took = begun.elapsed();
    assert_eq!(said.code, 0, "{}\n{}\n{}", said.out, said.err, node.log());
    let answer = said.out.trim().to_owned();
    assert!(!answer.is_empty(), "an answer has words");
    let tasks = stage.admin().tasks("live").await.expect("the tasks");
    let usage = |word: &str| tasks[0]["usage"][word].as_u64().unwrap_or_default();
    let tokens = (usage("input_tokens"), usage("output_tokens"));
    assert!(tokens.0 > 0 && tokens.1 > 0, "usage is recorded: {}", Value::from(tasks));
    Row { name: "troupe ask --wait", took, tokens, answer: shown(&answer) }
}

fn row(name: &'static str, begun: Instant, completion: &Completion) -> Row {
    let tokens = (completion.usage.input_tokens, completion.usage.output_tokens);
    assert!(tokens.0 > 0 && tokens.1 > 0, "usage is told: {completion:?}");
    assert!(completion.request_id.as_deref().is_some_and(|id| !id.is_empty()), "calls have ids: {completion:?}");
    Row { name, took: begun.elapsed(), tokens, answer: shown(&completion.text) }
}

fn shown(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(SHOWN).collect()
}

fn request(question: &str) -> Request {
    let messages = vec![Message::User { text: question.to_owned() }];
    Request {
        instructions: "You are a short-spoken colleague.".into(),
        messages: messages.into(),
        ..Request::default()
    }
}

fn spec(server: &ModelServer) -> String {
    format!(
        "name: live\ntype: assistant\nexecution_mode: autonomous\ninstructions: Answer in one short sentence.\n\
         llm_config:\n  provider: openai\n  model: smollm2\n  base_url: {}\n  timeout: 60s\n  max_output_tokens: 48\n",
        server.base_url()
    )
}

/// The provider as an agent would have it.
fn adapter(server: &ModelServer) -> Arc<dyn Model> {
    let options = ModelOptions::default();
    let client = Models::client(&options).expect("an HTTP client");
    let models = Models::new(Secrets::new(Vec::new()), client, options).expect("models");
    let spec = parse_agent("live.yaml", &spec(server), &Agents::default()).unwrap_or_else(|wrong| panic!("{wrong}"));
    models.for_agent(&spec.name, &spec.models).expect("the model")
}
