//! The `.env` file: `NAME=value` lines, read without touching the process environment.
//!
//! Values are taken as they stand: no substitution, for a `$` in a password is a `$`. Single quotes keep everything,
//! double quotes know `\n`, `\t`, `\"`, `\\` and `\$`; without quotes a value ends at ` #`. The first line of a name
//! holds. Every line that is none of this is a problem with its place; its text is not quoted, it may be a secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::problem::{At, Place, Problem};
use crate::config::reference::is_name;

/// Reads the file's text; `path` is what places are shown with.
pub(crate) fn parse(path: &str, text: &str, problems: &mut Vec<Problem>) -> BTreeMap<String, String> {
    let path: Arc<str> = path.into();
    let mut values = BTreeMap::new();
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        match read_line(line) {
            Ok(None) => {}
            Ok(Some((name, value))) => {
                values.entry(name).or_insert(value);
            }
            Err((column, why)) => {
                problems.push(At::file(&path, Place { line: number, column }).problem(why));
            }
        }
    }
    values
}

/// A name and its value, nothing for an empty line or a comment, or the column and the reason.
fn read_line(line: &str) -> Result<Option<(String, String)>, (u32, &'static str)> {
    let text = line.trim_start();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let text = text.strip_prefix("export ").map_or(text, str::trim_start);
    let column = |rest: &str| {
        let before = line.len() - rest.len();
        u32::try_from(line.get(..before).unwrap_or_default().chars().count()).map_or(u32::MAX, |n| n.saturating_add(1))
    };
    let Some((name, value)) = text.split_once('=') else {
        return Err((column(text), "expected NAME=value; comments begin with #"));
    };
    if !is_name(name.trim_end()) {
        return Err((column(text), "expected a name of letters, digits and _ before the ="));
    }
    let start = value.trim_start();
    let value = match start.chars().next() {
        Some(quote @ ('"' | '\'')) => quoted(&start[1..], quote).map_err(|why| (column(start), why))?,
        _ if value.starts_with([' ', '\t']) && start.starts_with('#') => String::new(),
        _ => start.split_once(" #").map_or(start, |(value, _)| value).trim_end().to_owned(),
    };
    Ok(Some((name.trim_end().to_owned(), value)))
}

/// What stands before the closing quote; only a comment may follow it.
fn quoted(text: &str, quote: char) -> Result<String, &'static str> {
    let mut value = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            _ if c == quote => {
                let rest = chars.as_str().trim_start();
                let clean = rest.is_empty() || rest.starts_with('#');
                return if clean {
                    Ok(value)
                } else {
                    Err("something follows the closing quote; quote the whole value")
                };
            }
            '\\' if quote == '"' => match chars.next() {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some(c @ ('"' | '\\' | '$')) => value.push(c),
                _ => return Err("unknown escape; use \\n, \\t, \\\", \\\\ or \\$, or single quotes"),
            },
            c => value.push(c),
        }
    }
    Err("the quote is not closed on this line; write \\n for a line break")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_as_they_stand() {
        let text =
            "# c\nA=1\nexport B = two words # c\nC='a $B #x'\nD=\"l1\\nl2 \\\"q\\\"\"\nE=\nF=p#ss$w\nA=2\r\n G=x\n";
        let mut problems = Vec::new();
        let values = parse(".env", text, &mut problems);
        assert_eq!(problems, []);
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "a $B #x"),
            ("D", "l1\nl2 \"q\""),
            ("E", ""),
            ("F", "p#ss$w"),
            ("G", "x"),
        ];
        assert_eq!(values, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn every_bad_line_has_its_place_and_keeps_its_secret() {
        let text = "GOOD=1\njust text\n2X=1\nKEY=\"sk-secret\nQ='a'b\nW=\"\\x\"\n";
        let mut problems = Vec::new();
        parse(".env", text, &mut problems);
        let places: Vec<(u32, u32)> =
            problems.iter().filter_map(|problem| problem.place.map(|place| (place.line, place.column))).collect();
        assert_eq!(places, [(2, 1), (3, 1), (4, 5), (5, 3), (6, 3)]);
        assert!(!format!("{problems:?}").contains("sk-secret"));
    }
}
