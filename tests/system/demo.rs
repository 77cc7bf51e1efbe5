//! `troupe demo`: the first thing a newcomer runs must be true.

use std::time::Duration;

use serde_json::Value;
use troupe_tests::Stage;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_demo_repeats_no_call_and_shows_one_restart_and_the_reply() {
    let said = Stage::new().run(&["demo", "-o", "json"], LIMIT).await;
    assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
    let facts: Value = serde_json::from_str(&said.out).expect("JSON and nothing else on stdout");
    assert_eq!(facts["model_calls"], 2, "{facts}");
    assert_eq!(facts["turns"], facts["model_calls"], "{facts}");
    assert_eq!(facts["restarts"], 1, "{facts}");
    assert!(facts["reply"].as_str().is_some_and(|reply| reply.len() > 5), "{facts}");
}

#[tokio::test]
async fn the_demo_tells_its_story_to_people() {
    let said = Stage::new().run(&["demo"], LIMIT).await;
    assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
    for word in ["restart", "journal", "root", "model calls"] {
        assert!(said.out.contains(word), "{word} is missing in:\n{}", said.out);
    }
    assert!(!said.out.contains('\u{1b}'), "no colours where nobody sees them");
}
