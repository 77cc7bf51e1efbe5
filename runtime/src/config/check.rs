//! Holds a located tree against a table of keys and collects everything that is wrong.
//!
//! The check never stops at the first problem and never changes the tree. After a clean check the decoders may read
//! every value without asking again; what needs two keys at once is checked by them.

use super::located::{Entry, Node, Value, short};
use super::measure;
use super::nearest::nearest;
use super::problem::Problem;
use super::table::{Kind, Need, Table};

/// Everything in `node` that `table` does not allow. `what` names the mapping for messages: `the agent spec`.
pub(crate) fn check(node: &Node, table: &Table, what: &str, problems: &mut Vec<Problem>) {
    let Value::Map(entries) = &node.value else {
        let message = format!("{what}: expected {}, found {}", Kind::Table(&EMPTY).expected(), node.found());
        problems.push(node.at.problem(message));
        return;
    };
    let mut misspelt = Vec::new();
    for entry in entries {
        match table.key(&entry.key) {
            None => {
                let known = nearest(&entry.key, table.names());
                problems.push(entry.key_at.problem(unknown_key(&entry.key, known, table, what)));
                misspelt.extend(known);
            }
            Some(_) if entry.node.value == Value::Null => {}
            Some(key) => check_kind(&entry.node, &key.kind, key.name, problems),
        }
    }
    for key in table.keys.iter().filter(|key| matches!(key.need, Need::Required)) {
        let empty = node.entry(key.name).filter(|entry| entry.node.value == Value::Null);
        if let Some(entry) = empty {
            let message = format!("{}: expected {}, found nothing; write a value", key.name, key.kind.expected());
            problems.push(entry.key_at.problem(message));
        } else if node.get(key.name).is_none() && !misspelt.contains(&key.name) {
            let doc = key.doc.trim_end_matches('.');
            let message = format!("the key {:?} is missing in {what}; add `{}:` ({doc})", key.name, key.name);
            problems.push(node.at.problem(message));
        }
    }
    check_one_of(node, table, what, problems);
}

const EMPTY: Table = Table { keys: &[], one_of: &[] };

fn check_one_of(node: &Node, table: &Table, what: &str, problems: &mut Vec<Problem>) {
    if table.one_of.is_empty() {
        return;
    }
    let chosen = |entry: &&Entry| table.one_of.contains(&entry.key.as_str());
    let empty = node.entries().iter().filter(chosen).find(|entry| entry.node.value == Value::Null);
    let there: Vec<_> = node.entries().iter().filter(chosen).filter(|entry| entry.node.value != Value::Null).collect();
    let choice = table.one_of.join(", ");
    match (there.as_slice(), empty) {
        ([], Some(entry)) => {
            let expected = table.key(&entry.key).map(|key| key.kind.expected()).unwrap_or_default();
            let message = format!("{}: expected {expected}, found nothing; write a value", entry.key);
            problems.push(entry.key_at.problem(message));
        }
        ([], None) => problems.push(node.at.problem(format!("{what}: expected one of the keys {choice}; add one"))),
        ([_], _) => {}
        ([first, rest @ ..], _) => problems.extend(rest.iter().map(|entry| {
            let message =
                format!("{what}: only one of {choice} may be there; remove {:?} or {:?}", entry.key, first.key);
            entry.key_at.problem(message)
        })),
    }
}

fn unknown_key(key: &str, nearest: Option<&str>, table: &Table, what: &str) -> String {
    let key_text = short(key);
    if let Some(known) = nearest {
        return format!("unknown key {key_text:?} in {what}; did you mean {known:?}?");
    }
    let known = table.names().collect::<Vec<_>>().join(", ");
    format!("unknown key {key_text:?} in {what}; known are {known}")
}

/// One value. `what` is the key that it stands at.
fn check_kind(node: &Node, kind: &Kind, what: &str, problems: &mut Vec<Problem>) {
    match kind {
        Kind::Table(table) => check(node, table, what, problems),
        Kind::List(of, max) => match &node.value {
            Value::List(items) => {
                check_count(node, items.len(), *max, what, problems);
                for item in items.iter().take(*max) {
                    check_kind(item, of, what, problems);
                }
            }
            _ => problems.push(wrong(node, kind, what, "write `- ` before each item, or [a, b]")),
        },
        Kind::Map(of, max) => match &node.value {
            Value::Map(entries) => {
                check_count(node, entries.len(), *max, what, problems);
                for entry in entries.iter().take(*max) {
                    check_kind(&entry.node, of, what, problems);
                }
            }
            _ => problems.push(wrong(node, kind, what, "")),
        },
        _ => problems.extend(check_scalar(node, kind, what)),
    }
}

fn check_count(node: &Node, count: usize, max: usize, what: &str, problems: &mut Vec<Problem>) {
    if count > max {
        problems.push(node.at.problem(format!("{what}: {count} entries, at most {max} are read; remove some")));
    }
}

fn check_scalar(node: &Node, kind: &Kind, what: &str) -> Option<Problem> {
    let bad = |hint: &str| Some(wrong(node, kind, what, hint));
    match kind {
        Kind::Whole(min, max) => match node.whole() {
            Some(number) if (*min..=*max).contains(&number) => None,
            _ => bad(&format!("write {min} to {max}")),
        },
        Kind::Usd(max) => match node.digits().map(|digits| measure::microusd(&digits)) {
            Some(Ok(amount)) if amount <= *max => None,
            Some(Ok(_)) => bad(&format!("at most {}", measure::show_usd(*max))),
            Some(Err(why)) => bad(&why),
            None => bad("write the bare number"),
        },
        Kind::Duration(min, max) => match node.amount().map(|text| measure::duration(&text)) {
            Some(Ok(time)) if (*min..=*max).contains(&time) => None,
            Some(Ok(_)) => bad(&format!("write {} to {}", measure::show_duration(*min), measure::show_duration(*max))),
            Some(Err(why)) => bad(&why),
            None => bad(""),
        },
        Kind::Size(min, max) => match node.amount().map(|text| measure::size(&text)) {
            Some(Ok(bytes)) if (*min..=*max).contains(&bytes) => None,
            Some(Ok(_)) => bad(&format!("write {} to {}", measure::show_size(*min), measure::show_size(*max))),
            Some(Err(why)) => bad(&why),
            None => bad(""),
        },
        Kind::Text(format) => match node.text() {
            Some(text) => (format.check)(text).err().and_then(|why| bad(&why)),
            None => bad(quote_hint(node)),
        },
        Kind::Secret(format) => {
            let why = match node.text() {
                Some(text) => (format.check)(text).err()?,
                None => quote_hint(node).to_owned(),
            };
            let (expected, found) = (kind.expected(), node.found_kind());
            Some(node.at.problem(format!("{what}: expected {expected}, found {found}; {why}")))
        }
        Kind::Choice(words) => match node.text() {
            Some(text) if words.contains(&text) => None,
            Some(text) => match nearest(text, words.iter().copied()) {
                Some(word) => bad(&format!("did you mean {word}?")),
                None => bad(""),
            },
            None => bad(""),
        },
        Kind::Any | Kind::List(..) | Kind::Map(..) | Kind::Table(_) => None,
    }
}

/// `what: expected …, found …; hint`.
fn wrong(node: &Node, kind: &Kind, what: &str, hint: &str) -> Problem {
    let semicolon = if hint.is_empty() { "" } else { "; " };
    node.at.problem(format!("{what}: expected {}, found {}{semicolon}{hint}", kind.expected(), node.found()))
}

/// Numbers and truths become texts by quotes; collections do not.
fn quote_hint(node: &Node) -> &'static str {
    match node.value {
        Value::Bool(_) | Value::Whole(_) | Value::Decimal(_) => "write it in quotes",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::table::{Change, Key, SOME_TEXT};
    use super::super::yaml::{YamlBudget, parse};
    use super::*;

    const INNER: Table = Table {
        keys: &[
            Key { name: "a", doc: "", kind: Kind::Whole(0, 1), need: Need::Optional, change: Change::Live },
            Key { name: "b", doc: "", kind: Kind::Secret(&SOME_TEXT), need: Need::Optional, change: Change::Live },
        ],
        one_of: &["a", "b"],
    };
    const OUTER: Table = Table {
        keys: &[
            Key { name: "name", doc: "who", kind: Kind::Text(&SOME_TEXT), need: Need::Required, change: Change::Live },
            Key { name: "count", doc: "", kind: Kind::Whole(1, 9), need: Need::Optional, change: Change::Live },
            Key {
                name: "mode",
                doc: "",
                kind: Kind::Choice(&["fast", "slow"]),
                need: Need::Optional,
                change: Change::Live,
            },
            Key { name: "cost", doc: "", kind: Kind::Usd(1_000_000), need: Need::Optional, change: Change::Live },
            Key {
                name: "wait",
                doc: "",
                kind: Kind::Duration(Duration::from_secs(1), Duration::from_mins(1)),
                need: Need::Optional,
                change: Change::Live,
            },
            Key { name: "size", doc: "", kind: Kind::Size(1, 1024), need: Need::Optional, change: Change::Live },
            Key {
                name: "inner",
                doc: "",
                kind: Kind::List(&Kind::Table(&INNER), 2),
                need: Need::Optional,
                change: Change::Live,
            },
        ],
        one_of: &[],
    };

    fn problems(text: &str) -> Vec<String> {
        let root = parse(&"f".into(), text, &YamlBudget::default()).ok().unwrap();
        let mut problems = Vec::new();
        check(&root, &OUTER, "the file", &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_good_file_passes() {
        let text = "name: x\ncount: 9\nmode: slow\ncost: 0.5\nwait: 60s\nsize: 1 KiB\ninner: [{a: 1}, {b: x}]\n";
        assert_eq!(problems(text), Vec::<String>::new());
        assert_eq!(problems("name: x\ncount:\ninner: ~\n"), Vec::<String>::new());
    }

    #[test]
    fn all_that_is_wrong_comes_at_once() {
        let text =
            "nmae: x\ncount: 10\nmode: fats\ncost: 2\nwait: 60\nsize: 1 MB\ninner: [{a: yes}, {a: 1, b: 1}, {}]\n";
        assert_eq!(
            problems(text),
            [
                "f:1:1: unknown key \"nmae\" in the file; did you mean \"name\"?",
                "f:2:8: count: expected a whole number, found the number 10; write 1 to 9",
                "f:3:7: mode: expected one of fast, slow, found \"fats\"; did you mean fast?",
                "f:4:7: cost: expected an amount in US dollars such as 0.50, found the number 2; at most 1",
                "f:5:7: wait: expected a duration such as 500ms, 60s or 5m, found the number 60; the unit is missing: write 60s or 60ms",
                "f:6:7: size: expected a size such as 64 KiB, found \"1 MB\"; the units are B, KiB, MiB and GiB",
                "f:7:8: inner: 3 entries, at most 2 are read; remove some",
                "f:7:13: a: expected a whole number, found \"yes\"; write 0 to 1",
                "f:7:29: b: expected a text, found a number; write it in quotes",
                "f:7:26: inner: only one of a, b may be there; remove \"b\" or \"a\"",
            ]
        );
        // What is over the limit is not read, and so costs nothing.
        assert_eq!(problems("name: x\ninner: [{}]\n"), ["f:2:9: inner: expected one of the keys a, b; add one"]);
    }

    #[test]
    fn a_secret_is_never_quoted() {
        let told = problems("name: x\ninner: [{b: 12345678}]\n");
        assert_eq!(told.len(), 1);
        assert!(!told[0].contains("12345678"), "{told:?}");
    }

    #[test]
    fn a_file_that_is_no_mapping_is_one_problem() {
        assert_eq!(problems("- a\n"), ["f:1:1: the file: expected a mapping (`key: value`), found a list"]);
        assert_eq!(problems("count: 1\n"), ["f:1:1: the key \"name\" is missing in the file; add `name:` (who)"]);
        assert_eq!(
            problems("name: x\ninner: [{a: ~}]\n"),
            ["f:2:10: a: expected a whole number, found nothing; write a value"]
        );
        assert_eq!(problems("name:\n"), ["f:1:1: name: expected a text, found nothing; write a value"]);
    }
}
