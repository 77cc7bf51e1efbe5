//! Thousands of broken specs: whatever a file holds, reading it ends, and ends in a spec or in problems with places.
//!
//! Prints its seed; `TROUPE_TEST_SEED=…` repeats a run.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

/// Mutated files in one run.
const ROUNDS: usize = 3_000;

/// What a round may take on a busy machine; a hang is far beyond it.
const ROUND_MAX: Duration = Duration::from_secs(5);

/// Pieces that mean something in YAML, to be put where they do not belong.
const PIECES: [&str; 24] = [
    ": ", "- ", "\n", "\t", "  ", "#", "&a ", "*a", "[", "]", "{", "}", "'", "\"", "|", ">", "? ", "!!str ", "<<: ",
    "---\n", "~", "0x", "\u{feff}", "${",
];

/// One random change: drop, repeat or swap lines, cut, or put in a piece or any character.
fn mutate(text: &mut String, rng: &mut StdRng) {
    let boundary =
        |text: &str, at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let at = boundary(text, rng.random_range(0..=text.len()));
    match rng.random_range(0..6) {
        0 => text.insert_str(at, PIECES[rng.random_range(0..PIECES.len())]),
        1 => text.insert(at, char::from_u32(rng.random_range(0..0x11_0000)).unwrap_or('\u{0}')),
        2 => {
            let end = boundary(text, at + rng.random_range(0..20));
            text.replace_range(at..end.max(at), "");
        }
        3 => text.truncate(at),
        4 => {
            let line =
                text.lines().nth(rng.random_range(0..text.lines().count().max(1))).unwrap_or_default().to_owned();
            text.insert_str(at, &format!("\n{line}\n"));
        }
        _ => {
            let mut lines: Vec<&str> = text.lines().collect();
            if lines.len() > 1 {
                let (a, b) = (rng.random_range(0..lines.len()), rng.random_range(0..lines.len()));
                lines.swap(a, b);
                *text = lines.join("\n");
            }
        }
    }
}

#[test]
fn no_file_makes_the_reader_panic_or_hang() {
    let seed = std::env::var("TROUPE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("TROUPE_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let whole = include_str!("../../../testdata/specs/full.yaml");
    let (mut good, mut bad) = (0, 0);
    for round in 0..ROUNDS {
        let mut text = whole.to_owned();
        for _ in 0..rng.random_range(1..8) {
            mutate(&mut text, &mut rng);
        }
        let lines = u32::try_from(text.lines().count()).unwrap();
        let start = Instant::now();
        match parse_agent("m.yaml", &text, &Agents::default()) {
            Ok(spec) => {
                assert!(!spec.models.is_empty(), "seed {seed} round {round}");
                good += 1;
            }
            Err(problems) => {
                assert!(!problems.0.is_empty(), "seed {seed} round {round}");
                for problem in &problems.0 {
                    assert!(!problem.message.contains('\n'), "seed {seed} round {round}: {problem}");
                    assert!(!problem.message.ends_with("a bug"), "seed {seed} round {round}: {problem}\n{text}");
                    // The end of a file is the line after its last.
                    assert!(
                        problem.place.is_none_or(|place| place.line <= lines + 1),
                        "seed {seed} round {round}: {problem}"
                    );
                }
                bad += 1;
            }
        }
        assert!(start.elapsed() < ROUND_MAX, "seed {seed} round {round} took {:?}", start.elapsed());
    }
    assert!(good > 0 && bad > ROUNDS / 2, "the mutations say nothing: {good} good, {bad} bad");
}
