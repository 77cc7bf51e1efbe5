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
