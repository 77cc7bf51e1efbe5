//! What a spec may be, what it may not be, and where the reader is told so.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::domain::agent::{ExecutionMode, ProviderKind, Rule, ScriptAct, SlackReply, ToolSpec};

/// A folder of this crate.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn fixture(name: &str) -> String {
    fs::read_to_string(folder("testdata/specs").join(name)).unwrap()
}

fn read(text: &str) -> Result<AgentSpec, Problems> {
    parse_agent("a.yaml", text, &Agents::default())
}

/// The lines of all problems of `extra`, put behind a minimal spec of six lines.
fn problems_of(extra: &str) -> Vec<String> {
    let text = format!("{MINIMAL}{extra}");
    let problems = read(&text).expect_err(&text);
    problems.0.iter().map(ToString::to_string).collect()
}

const MINIMAL: &str =
    "name: a\ntype: t\nexecution_mode: autonomous\nllm_config:\n  provider: scripted\n  script: [{reply: r}]\n";

#[test]
fn the_spec_of_the_contract_loads_whole() {
    let spec = read(&fixture("full.yaml")).unwrap();
    assert_eq!((spec.name.as_str(), spec.kind.as_str(), spec.instances), ("researcher", "assistant", 2));
    assert_eq!((spec.execution_mode, spec.runs_as), (ExecutionMode::Autonomous, ExecutionMode::Autonomous));
    assert_eq!(spec.models.len(), 2);
    assert_eq!(spec.models[0].api_key.as_deref(), Some("${ANTHROPIC_API_KEY}"));
    assert_eq!(spec.models[0].timeout, Duration::from_mins(1));
    assert_eq!((spec.models[1].provider, spec.models[1].model.as_str()), (ProviderKind::Openai, "gpt-5-mini"));
    assert_eq!(spec.instructions, "You answer research questions.\n");
    assert_eq!(spec.tools.len(), 3);
    let crm = json!({"url": "https://crm.example/mcp", "headers": {"Authorization": "Bearer ${CRM_TOKEN}"}, "tools": ["find_*"]});
    assert_eq!(spec.tools[2], ToolSpec::Mcp { name: "crm".to_owned(), config: crm });
    assert_eq!((spec.rule_for("crm.delete_all", false), spec.rule_for("git.push", false)), (Rule::Deny, Rule::Ask));
    assert_eq!((spec.limits.cost_microusd, spec.limits.daily_cost_microusd), (Some(500_000), Some(20_000_000)));
    assert_eq!((spec.limits.turns, spec.limits.timeout), (12, Duration::from_mins(5)));
    assert_eq!((spec.restart.max, spec.restart.window), (3, Duration::from_mins(1)));
    assert_eq!(spec.team.len(), 2);
    assert_eq!(spec.extra["schedule"]["cron"], "0 9 * * 1-5");
    assert_eq!(spec.extra["memory"]["window"], 40);
    assert_eq!(spec.extra["plan"], json!([]));
    assert_eq!(spec.reply, SlackReply::Thread);
}

#[test]
fn script_rules_load() {
    let spec = read(&fixture("writer.yaml")).unwrap();
    let [fail, tool, reply] = spec.models[0].script.as_slice() else { panic!("three rules") };
    assert_eq!((&fail.then, fail.times), (&ScriptAct::Fail(529), Some(2)));
    let arguments = json!({"url": "https://example.org/{1}"});
    assert_eq!(tool.then, ScriptAct::Tool { name: "http_get".to_owned(), arguments });
    assert_eq!(tool.delay, Duration::from_millis(200));
    assert_eq!((&reply.when, &reply.then), (&None, &ScriptAct::Reply("written: {input}".to_owned())));
    assert_eq!(spec.models[0].model, "scripted");
}

#[test]
fn the_defaults_of_the_table_are_the_ones_that_are_used() {
    let written = format!(
        "{MINIMAL}  timeout: 60s\n  max_output_tokens: 1024\n{}",
        "instructions: \"\"\nsubscriptions: []\ninstances: 1\ntools: []\npermissions: []\nretries: 2\nteam: []\n\
         limits: {turns: 12, tokens: 50000, timeout: 5m}\nrestart: {max: 3, window: 60s}\nreply: {slack: thread}\n"
    );
    assert_eq!(read(MINIMAL).unwrap(), read(&written).unwrap());
    let schema = agent_schema();
    for (path, default) in [
        ("/properties/instances/default", json!(1)),
        ("/properties/retries/default", json!(2)),
        ("/properties/limits/properties/turns/default", json!(12)),
        ("/properties/limits/properties/timeout/default", json!("5m")),
        ("/properties/restart/properties/window/default", json!("1m")),
        ("/properties/llm_config/properties/max_output_tokens/default", json!(1024)),
        ("/properties/instructions/default", json!("")),
    ] {
        assert_eq!(schema.pointer(path), Some(&default), "{path}");
    }
}

#[test]
fn empty_values_count_as_absent() {
    let spec = read(&format!("{MINIMAL}tools:\nlimits: ~\ninstructions:\n")).unwrap();
    assert_eq!(spec, read(MINIMAL).unwrap());
}

#[test]
fn ten_broken_files_have_ten_places() {
    let loaded = load_agents(&folder("testdata/specs/broken"), &Agents::default());
    assert!(loaded.agents.is_empty());
    let places: Vec<(String, u32, u32)> = loaded
        .errors
        .iter()
        .map(|problem| {
            let file = Path::new(&problem.origin).file_name().unwrap().to_string_lossy().into_owned();
            let place = problem.place.unwrap();
            (file, place.line, place.column)
        })
        .collect();
    let expected = [
        ("01-unknown-key.yaml", 7, 1),
        ("02-missing-key.yaml", 2, 1),
        ("03-wrong-type.yaml", 7, 12),
        ("04-bad-duration.yaml", 6, 12),
        ("05-bad-topic.yaml", 9, 5),
        ("06-unknown-provider.yaml", 5, 13),
        ("07-unknown-tool.yaml", 9, 14),
        ("08-bad-expression.yaml", 7, 14),
        ("09-duplicate-key.yaml", 8, 1),
        ("10-no-yaml.yaml", 7, 13),
    ];
    let expected: Vec<_> = expected.map(|(file, line, column)| (file.to_owned(), line, column)).into();
    assert_eq!(places, expected, "{}", Problems(loaded.errors));
}

#[test]
fn rules_between_keys_are_told_at_the_value_to_change() {
    let rows = [
        ("instances: 2000\n", "a.yaml:7:12: instances: expected at most 1000"),
        ("instances: 0\n", "a.yaml:7:12: instances: expected a whole number, found the number 0; write 1 to"),
        ("retries: 11\n", "a.yaml:7:10: retries: expected a whole number, found the number 11; write 0 to 10"),
        ("tools: [{builtin: http_get}]\n", "a.yaml:7:19: http_get: expected the hosts"),
        ("tools: [{builtin: clock, hosts: [a.b]}]\n", "a.yaml:7:26: hosts: only http_get has hosts"),
        ("tools: [{builtin: clock}, {builtin: clock}]\n", "a.yaml:7:37: tools: \"clock\" is here a second time"),
        (
            "tools: [{builtin: remember}]\n",
            "a.yaml:7:19: builtin: expected a built-in tool, found \"remember\"; this version",
        ),
        ("tools: [{mcp: {name: x}}]\n", "a.yaml:7:15: mcp: expected one of the keys command, url"),
        ("tools: [{mcp: {name: x, url: 'https://x', env: {A: b}}}]\n", "a.yaml:7:43: env: goes with command"),
        (
            "tools: [{mcp: {name: x, url: 'https://x', headers: {A: '${'}}}]\n",
            "a.yaml:7:56: headers: a `${` is not closed",
        ),
        ("team: [b, b]\n", "a.yaml:7:11: team: \"b\" is here a second time"),
        ("subscriptions: ['a.b*']\n", "a.yaml:7:17: subscriptions: expected a topic pattern"),
        ("limits: {cost_usd: cheap}\n", "a.yaml:7:20: cost_usd: expected an amount in US dollars"),
        ("reply: {slack: dm}\n", "a.yaml:7:16: slack: expected one of thread, channel, ephemeral, none"),
        ("schedule: {cron: daily}\n", "a.yaml:7:18: cron: expected a cron expression"),
        ("plan: [wash, dry]\n", "a.yaml:7:8: plan: expected a mapping"),
    ];
    for (extra, expected) in rows {
        let problems = problems_of(extra);
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{extra}{problems:#?}");
    }
}

#[test]
fn models_are_checked_as_a_chain() {
    let spec = |llm: &str| format!("name: a\ntype: t\nexecution_mode: autonomous\nllm_config: {llm}\n");
    let rows = [
        ("{provider: openai}", "a.yaml:4:13: model: expected the name of a model of openai"),
        ("{provider: scripted}", "a.yaml:4:13: script: a scripted model needs rules"),
        ("{provider: scripted, script: []}", "a.yaml:4:42: script: a scripted model needs rules"),
        ("{provider: openai, model: m, script: [{reply: r}]}", "a.yaml:4:42: script: only a scripted model has rules"),
        ("{provider: openai, model: m, fallback: [{provider: openai}]}", "a.yaml:4:53: model: expected the name"),
        ("{provider: openai, model: m, api_key: '${A-B}'}", "a.yaml:4:51: api_key: expected ${NAME}: a reference is"),
        ("{provider: openai, model: m, base_url: models}", "a.yaml:4:52: base_url: expected a URL"),
        (
            "{provider: scripted, script: [{when: x}]}",
            "a.yaml:4:43: script: expected one of the keys reply, tool, fail",
        ),
        ("{provider: scripted, script: [{fail: 200}]}", "a.yaml:4:50: fail: expected a whole number"),
    ];
    for (llm, expected) in rows {
        let told = read(&spec(llm)).unwrap_err().to_string();
        assert!(told.starts_with(expected), "{llm}: {told}");
    }
    assert!(read(&spec("{provider: openai, model: m, api_key: none, base_url: 'http://127.0.0.1:9/v1'}")).is_ok());
}

#[test]
fn a_key_that_is_written_out_is_refused_and_not_repeated() {
    let text = "name: a\ntype: t\nexecution_mode: autonomous\n\
                llm_config: {provider: openai, model: m, api_key: sk-abcdefghijklmnop, base_url: 'https://u:hunter2@x'}\n";
    let told = read(text).unwrap_err().to_string();
    assert!(told.contains("a.yaml:4:51: api_key: expected ${NAME}"), "{told}");
    assert!(told.contains("name and password do not belong here"), "{told}");
    assert!(!told.contains("abcdefgh") && !told.contains("hunter2"), "{told}");
}

#[test]
fn modes_ask_for_what_they_need() {
    let spec = |mode: &str, extra: &str| {
        let text = MINIMAL.replace("autonomous", mode).replace("type: t\n", &format!("type: t\n{extra}"));
        read(&text)
    };
    assert!(spec("scheduled", "").unwrap_err().to_string().contains("a scheduled agent needs a schedule"));
    assert!(spec("collaborative", "").unwrap_err().to_string().contains("leads a team"));
    let scheduled = spec("scheduled", "schedule: {every: 30s}\n").unwrap();
    assert_eq!(scheduled.runs_as, ExecutionMode::Autonomous);
    let lead = "schedule: {every: 30s}\nruns_as: collaborative\n";
    assert!(spec("scheduled", lead).unwrap_err().to_string().contains("leads a team"));
    assert_eq!(spec("continuous", "runs_as: autonomous\n").unwrap().runs_as, ExecutionMode::Continuous);
}

#[test]
fn all_that_is_wrong_comes_at_once_in_order() {
    let text = "nme: a\ntype: 7\nexecution_mode: auto\nllm_config: []\nretries: many\nlimits: {turn: 1}\n";
    let told: Vec<String> = read(text).unwrap_err().0.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "a.yaml:1:1: unknown key \"nme\" in the agent spec; did you mean \"name\"?",
            "a.yaml:2:7: type: expected a label such as assistant, found the number 7; write it in quotes",
            "a.yaml:3:17: execution_mode: expected one of autonomous, collaborative, continuous, scheduled, found \"auto\"",
            "a.yaml:4:13: llm_config: expected a mapping (`key: value`), found a list",
            "a.yaml:5:10: retries: expected a whole number, found \"many\"; write 0 to 10",
            "a.yaml:6:10: unknown key \"turn\" in limits; did you mean \"turns\"?",
        ]
    );
}

#[test]
fn an_empty_file_misses_everything_that_is_required() {
    let told = read("# nothing\n").unwrap_err();
    assert_eq!(told.0.len(), 4);
    assert!(told.0.iter().all(|problem| problem.place == Some(crate::config::Place::START)));
}

#[test]
fn missing_secrets_are_named_once_and_only_when_needed() {
    let spec = read(&fixture("full.yaml")).unwrap();
    assert_eq!(secret_names(&spec), ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "CRM_TOKEN"]);
    assert_eq!(missing_secrets(&spec, &|name| name == "OPENAI_API_KEY"), ["ANTHROPIC_API_KEY", "CRM_TOKEN"]);
    let example = fs::read_to_string(folder("../config/agents/example-autonomous.yaml")).unwrap();
    let example = read(&example).unwrap();
    assert_eq!(secret_names(&example), ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"]);
    assert_eq!(missing_secrets(&example, &|_| false), Vec::<String>::new());
}

#[test]
fn the_examples_load_and_answer_without_a_key() {
    let loaded = load_agents(&folder("../config/agents"), &Agents::default());
    assert_eq!(loaded.errors, []);
    let modes: Vec<(&str, ExecutionMode)> =
        loaded.agents.iter().map(|(spec, _)| (spec.name.as_str(), spec.execution_mode)).collect();
    assert_eq!(
        modes,
        [
            ("example-autonomous", ExecutionMode::Autonomous),
            ("example-collaborative", ExecutionMode::Collaborative),
            ("example-continuous", ExecutionMode::Continuous),
            ("example-scheduled", ExecutionMode::Scheduled),
        ]
    );
    for (spec, path) in &loaded.agents {
        assert_eq!(path.file_stem().unwrap().to_str(), Some(spec.name.as_str()));
        let last = spec.models.last().unwrap();
        assert_eq!(last.provider, ProviderKind::Scripted);
        assert!(last.script.last().is_some_and(|rule| rule.when.is_none() && rule.times.is_none()), "{}", spec.name);
        assert!(missing_secrets(spec, &|_| false).is_empty());
    }

    // The rule that answers, as the scripted model chooses it.
    let script = &loaded.agents[0].0.models.last().unwrap().script;
    let answer = |message: &str| {
        let matches = |when: &String| regex::Regex::new(when).unwrap().is_match(message);
        &script.iter().find(|rule| rule.when.as_ref().is_none_or(matches)).unwrap().then
    };
    assert!(matches!(answer("What time is it?"), ScriptAct::Tool { name, .. } if name == "clock"));
    assert!(matches!(answer("{\"utc\": \"2026-11-23T10:00:00Z\"}"), ScriptAct::Reply(text) if text == "It is {1}."));
    assert!(matches!(answer("Hello there"), ScriptAct::Reply(text) if text.starts_with("Hello!")));
    assert!(matches!(answer("anything"), ScriptAct::Reply(text) if text.contains("{input}")));
}
