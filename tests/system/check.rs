//! `troupe check` and `troupe schema`: what is wrong with a file is said before it runs, with the place.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use troupe_tests::Stage;

const LIMIT: Duration = Duration::from_secs(20);

fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the tree")
}

/// `…/01-unknown-key.yaml:7:3: …` → the file, when a line and a column follow it.
fn placed(line: &str) -> Option<&str> {
    let (file, rest) = line.split_once(".yaml:")?;
    let mut numbers = rest.split(':').map(|part| part.trim().parse::<u32>());
    let (Some(Ok(row)), Some(Ok(column))) = (numbers.next(), numbers.next()) else { return None };
    (row > 0 && column > 0).then(|| file.rsplit(['/', ' ']).next().unwrap_or(file))
}

#[tokio::test]
async fn ten_broken_specs_are_ten_places() {
    let broken = tree().join("runtime/testdata/specs/broken");
    let said = Stage::new().run(&["check", &broken.to_string_lossy()], LIMIT).await;
    assert_eq!(said.code, 3, "{}\n{}", said.out, said.err);
    let text = said.out + &said.err;
    let files: BTreeSet<_> = text.lines().filter_map(placed).collect();
    assert_eq!(files.len(), 10, "{files:?} in:\n{text}");
}

/// A spec whose last line is this.
fn spec(name: &str, line: &str) -> String {
    format!(
        "name: {name}\ntype: t\nexecution_mode: autonomous\nllm_config: {{provider: scripted, script: [{{reply: r}}]}}\n{line}\n"
    )
}

fn lead(name: &str, team: &str) -> String {
    spec(name, &format!("team: {team}")).replace("autonomous", "collaborative")
}

/// Nine times nine times nine …
fn bomb() -> String {
    let level = |n: usize| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "));
    "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned() + &(1..10).map(level).collect::<String>()
}

/// What somebody may get wrong, by mistake or on purpose: each is told at its place, with the name of the limit.
#[tokio::test]
async fn bad_input_is_told_at_its_place_with_the_name_of_the_limit() {
    let files: [(&str, String, &[&str]); 25] = [
        (
            "alias-bomb",
            bomb(),
            &["alias-bomb.yaml:5:15: more than 20000 keys and values, aliases counted (agents.nodes_max"],
        ),
        (
            "aliases",
            format!("a: &a x\nb: [{}]\n", ["*a"; 200].join(", ")),
            &["aliases.yaml:2:405: more than 100 aliases (agents.aliases_max sets it)"],
        ),
        (
            "large-bomb",
            format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(500_000), ["*a"; 50].join(", ")),
            &["large-bomb.yaml:2:", "more than 4194304 bytes of text, aliases counted (agents.text_bytes_max sets it)"],
        ),
        (
            "huge",
            format!("# {}\n", "x".repeat(10 * 1024 * 1024)),
            &["huge.yaml: ", "at most 1048576 are read; agents.file_bytes_max sets it"],
        ),
        (
            "deep",
            format!("a: {}{}\n", "[".repeat(60), "]".repeat(60)),
            &["deep.yaml:1:35: nested more than 32 deep (agents.depth_max sets it)"],
        ),
        ("many", "- x\n".repeat(30_000), &["many.yaml:20000:3: more than 20000 keys and values", "agents.nodes_max"]),
        (
            "key-twice",
            spec("key-twice", "retries: 1\nretries: 2"),
            &["key-twice.yaml:6:1: the key \"retries\" is here a second time"],
        ),
        ("twin-1", spec("twin", ""), &[]),
        ("twin-2", spec("twin", ""), &["twin-2.yaml:1:7: name: \"twin\" is taken by ", "twin-1.yaml:1:7"]),
        ("round-1", lead("round-1", "[round-2]"), &["round-1.yaml:5:8: team: round-2 leads back to round-1"]),
        ("round-2", lead("round-2", "[round-3]"), &["round-2.yaml:5:8: team: round-3 leads back to round-2"]),
        ("round-3", lead("round-3", "[round-1]"), &["round-3.yaml:5:8: team: round-1 leads back to round-3"]),
        ("itself", lead("itself", "[itself]"), &["itself.yaml:5:8: team: itself leads back to itself"]),
        (
            "stranger",
            lead("stranger", "[nobody-here]"),
            &["stranger.yaml:5:8: team: no agent is named \"nobody-here\""],
        ),
        (
            "tool",
            spec("tool", "tools: [{builtin: clokc}]"),
            &["tool.yaml:5:19: builtin: expected a built-in tool, found \"clokc\""],
        ),
        (
            "crowd",
            spec("crowd", "instances: 1e9"),
            &["crowd.yaml:5:12: instances: ", "at most 1000", "agents.instances_max sets it"],
        ),
        (
            "crowd-2",
            spec("crowd-2", "instances: 1000000000"),
            &["crowd-2.yaml:5:12: instances: ", "agents.instances_max sets it"],
        ),
        (
            "negative",
            spec("negative", "retries: -1"),
            &["negative.yaml:5:10: retries: ", "the number -1; write 0 to 10"],
        ),
        ("nan", spec("nan", "limits: {turns: .nan}"), &["nan.yaml:5:17: turns: ", "\".nan\"; write 1 to 1000"]),
        ("beyond", spec("beyond", "limits: {tokens: 1e400}"), &["beyond.yaml:5:18: tokens: ", "write 1 to 1000000000"]),
        ("cost", spec("cost", "limits: {cost_usd: -0.5}"), &["cost.yaml:5:20: cost_usd: ", "the number -0.5"]),
        ("cost-2", spec("cost-2", "limits: {cost_usd: 1e400}"), &["cost-2.yaml:5:20: cost_usd: "]),
        (
            "patient",
            spec("patient", "limits: {timeout: 999999d}"),
            &["patient.yaml:5:19: timeout: ", "write 1ms to 7d"],
        ),
        (
            "eternal",
            spec("eternal", "limits: {timeout: 99999999999999999999d}"),
            &["eternal.yaml:5:19: timeout: ", "too large"],
        ),
        (
            "endless",
            spec("endless", "restart: {max: 1000000, window: 0s}"),
            &["endless.yaml:5:16: max: ", "write 0 to 100"],
        ),
    ];
    let mut stage = Stage::new();
    for (name, text, _) in &files {
        stage.agent(name, text);
    }
    let said = stage.run(&["check"], LIMIT).await;
    assert_eq!(said.code, 3, "{}", said.err);
    for (name, _, words) in &files {
        let lines: Vec<_> = said.out.lines().filter(|line| line.contains(&format!("/{name}.yaml:"))).collect();
        let told = words.is_empty() || lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(told, "{name}: expected {words:?} in\n{}", lines.join("\n"));
    }
    assert!(said.err.contains("1 agent ok"), "the twin that came first is well: {}", said.err);
    assert!(said.out.lines().all(|line| line.len() < 1_000), "no line is endless");
}

#[tokio::test]
async fn the_shipped_agents_are_sound() {
    let agents = tree().join("config/agents");
    let said = Stage::new().run(&["check", &agents.to_string_lossy()], LIMIT).await;
    assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
}

#[tokio::test]
async fn schemas_are_json() {
    for what in ["agent", "node"] {
        let said = Stage::new().run(&["schema", what], LIMIT).await;
        assert_eq!(said.code, 0, "{}", said.err);
        let schema: serde_json::Value = serde_json::from_str(&said.out).expect("a schema");
        assert!(schema["properties"].as_object().is_some_and(|keys| keys.len() > 4), "{what}: {schema}");
    }
}

#[test]
fn a_place_needs_a_line_and_a_column() {
    assert_eq!(placed("/a/b/01-x.yaml:7:3: unknown key"), Some("01-x"));
    assert_eq!(placed("error: b/02-y.yaml:1:1 expected"), None);
    assert_eq!(placed("b/02-y.yaml:0:1: expected"), None);
    assert_eq!(placed("b/02-y.yaml: expected"), None);
}
