//! Broken specs, ten thousand of them with `make fuzz` and a tenth of that with `make test`: whatever a file holds, reading it ends, and ends in a spec or in problems with places.
//!
//! Three kinds of damage, in turn: to the *structure* of a good spec (values of the wrong kind and size, keys that are missing, misspelt
//! and elsewhere), to its *text* (lines, pieces of YAML, any character), and to its *bytes* (which may be no text at all).
//! Prints its seed; `TROUPE_TEST_SEED=…` repeats a run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, str};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Map, Value as Json, json};

use super::*;

/// Mutated files in one run; `TROUPE_TEST_ROUNDS` says otherwise.
const ROUNDS: usize = 1_000;

/// What a round may take on a busy machine; a hang is far beyond it.
const ROUND_MAX: Duration = Duration::from_secs(5);

/// What reading may add to the memory that the process holds at most, the other tests beside it included. One file that is built
/// without a bound is far beyond it.
const GROWTH_MAX: u64 = 512 * 1024 * 1024;

/// Pieces that mean something in YAML, to be put where they do not belong.
const PIECES: [&str; 24] = [
    ": ", "- ", "\n", "\t", "  ", "#", "&a ", "*a", "[", "]", "{", "}", "'", "\"", "|", ">", "? ", "!!str ", "<<: ",
    "---\n", "~", "0x", "\u{feff}", "${",
];

/// Twice what is read of a file, so that some are too large.
const FILE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Numbers, as written, that no limit allows or that are none.
const NUMBERS: [&str; 14] = [
    "-1",
    "0",
    "1e9",
    "1e400",
    "-1e400",
    ".nan",
    ".inf",
    "-.inf",
    "99999999999999999999999999999999999999999",
    "0x7fffffffffffffff",
    "0.0000000000001",
    "1_000",
    "9223372036854775808",
    "99999999999d",
];

/// One random change of the text: drop, repeat or swap lines, cut, or put in a piece or any character.
fn mutate_text(text: &mut String, rng: &mut StdRng) {
    let boundary =
        |text: &str, at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let at = boundary(text, rng.random_range(0..=text.len()));
    match rng.random_range(0..7) {
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
        5 => text.insert_str(at, NUMBERS[rng.random_range(0..NUMBERS.len())]),
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

/// One random change somewhere in the structure.
fn mutate_value(value: &mut Json, rng: &mut StdRng) {
    let deeper = rng.random_range(0..4) > 0;
    match value {
        Json::Object(fields) if deeper && !fields.is_empty() => {
            let place = rng.random_range(0..fields.len());
            let Some(key) = fields.keys().nth(place).cloned() else { return };
            match rng.random_range(0..8) {
                0 => drop(fields.remove(&key)),
                1 => {
                    let moved = fields.remove(&key).unwrap_or_default();
                    fields.insert(format!("{key}{}", PIECES[rng.random_range(0..PIECES.len())].trim()), moved);
                }
                2 => {
                    let copy = fields.get(&key).cloned().unwrap_or_default();
                    fields.insert("extra".to_owned(), copy);
                }
                _ => fields.values_mut().nth(place).into_iter().for_each(|field| mutate_value(field, rng)),
            }
        }
        Json::Array(items) if deeper && !items.is_empty() => {
            let place = rng.random_range(0..items.len());
            match rng.random_range(0..4) {
                0 => {
                    // As many as fit into a file that is read at all, for the damage itself must have a bound.
                    let item = items[place].clone();
                    let most = (FILE_BYTES_MAX / item.to_string().len()).clamp(2, 3_000);
                    items.resize(rng.random_range(1..most), item);
                }
                _ => mutate_value(&mut items[place], rng),
            }
        }
        other => *other = strange(other, rng),
    }
}

/// A value that does not belong where `there` stood.
fn strange(there: &Json, rng: &mut StdRng) -> Json {
    match rng.random_range(0..10) {
        0 => Json::Null,
        1 => json!([]),
        2 => json!({}),
        3 => json!("x".repeat(rng.random_range(0..100_000))),
        4 => json!(PIECES[rng.random_range(0..PIECES.len())]),
        5 => (0..rng.random_range(1..100)).fold(there.clone(), |inner, _| json!([inner])),
        6 => json!(rng.random::<i64>()),
        7 => json!(rng.random::<f64>() * 1e300),
        8 => json!(NUMBERS[rng.random_range(0..NUMBERS.len())]),
        _ => Json::Object(Map::from_iter([("name".to_owned(), there.clone())])),
    }
}

/// Good specs, as text and as structure.
fn good_specs() -> Vec<(String, Json)> {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> = [crate_folder.join("testdata/specs"), crate_folder.join("../config/agents")]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.is_file())
        .collect();
    // The order of a folder is the file system's; a seed must mean the same everywhere.
    paths.sort();
    let specs = paths.iter().map(|path| {
        let text = fs::read_to_string(path).unwrap();
        let root = parse(&"good.yaml".into(), &text, &YamlBudget::default()).ok().unwrap();
        (text, root.to_json())
    });
    specs.collect()
}

/// One damaged file.
fn damaged(good: &[(String, Json)], rng: &mut StdRng) -> Vec<u8> {
    let (text, structure) = &good[rng.random_range(0..good.len())];
    match rng.random_range(0..5) {
        0 | 1 => {
            let mut structure = structure.clone();
            for _ in 0..rng.random_range(1..6) {
                if structure.to_string().len() < FILE_BYTES_MAX {
                    mutate_value(&mut structure, rng);
                }
            }
            // JSON is YAML. Numbers that JSON cannot write lose their quotes here.
            let mut text = structure.to_string();
            for number in NUMBERS {
                text = text.replace(&format!("\"{number}\""), number);
            }
            text.into_bytes()
        }
        2 | 3 => {
            let mut text = text.clone();
            (0..rng.random_range(1..8)).for_each(|_| mutate_text(&mut text, rng));
            text.into_bytes()
        }
        _ => {
            let mut bytes = text.clone().into_bytes();
            for _ in 0..rng.random_range(1..30) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] = rng.random();
            }
            bytes
        }
    }
}

/// What the process holds, in bytes; `None` where the system does not tell.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Reads one file as the folder does, and holds what is told of it.
fn read_one(path: &Path, bytes: &[u8], told: &str) -> bool {
    fs::write(path, bytes).unwrap();
    let loaded = load_agents(path, &Agents::default());
    let lines = str::from_utf8(bytes).map_or(0, |text| u32::try_from(text.lines().count()).unwrap());
    assert_eq!(loaded.agents.is_empty(), !loaded.errors.is_empty(), "{told}: neither a spec nor a problem");
    for problem in &loaded.errors {
        assert!(!problem.message.contains('\n') && !problem.message.ends_with("a bug"), "{told}: {problem}");
        // The end of a file is the line after its last.
        assert!(problem.place.is_none_or(|place| place.line <= lines + 1), "{told}: {problem}");
        assert!(problem.message.len() < 2_000, "{told}: a message of {} bytes", problem.message.len());
    }
    !loaded.agents.is_empty()
}

#[test]
fn no_file_makes_the_reader_panic_or_hang() {
    let seed = std::env::var("TROUPE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("TROUPE_TEST_SEED={seed}");
    let rounds = std::env::var("TROUPE_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let (mut rng, good_specs) = (StdRng::seed_from_u64(seed), good_specs());
    let dir = tempfile::tempdir().unwrap();
    let (path, before) = (dir.path().join("m.yaml"), resident_bytes());
    let (mut good, mut slowest) = (0, Duration::ZERO);
    for round in 0..rounds {
        let told = format!("seed {seed} round {round}");
        let bytes = damaged(&good_specs, &mut rng);
        let start = Instant::now();
        good += usize::from(read_one(&path, &bytes, &told));
        slowest = slowest.max(start.elapsed());
        assert!(start.elapsed() < ROUND_MAX, "{told} took {:?}", start.elapsed());
        if let (Some(before), Some(now)) = (before, resident_bytes().filter(|_| round % 100 == 0)) {
            assert!(now.saturating_sub(before) < GROWTH_MAX, "{told}: {now} bytes are held");
        }
    }
    println!("{rounds} files, {good} of them good; the slowest took {slowest:?}");
    assert!(good > 0 && good < rounds / 2, "the mutations say nothing: {good} of {rounds} are good");
}

#[test]
fn a_seed_means_the_same_files() {
    let specs = good_specs();
    let files = |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..20).map(|_| damaged(&specs, &mut rng)).collect::<Vec<_>>()
    };
    assert_eq!(files(7), files(7));
    assert_ne!(files(7), files(8));
}
