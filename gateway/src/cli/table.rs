//! Lists as tables: columns side by side, two blanks between them, no borders, so that `awk` and eyes both can read it.
//!
//! A [`Listing`] says once how one kind of thing is shown: its columns, the ones that only `-o wide` has, and the name
//! that `-o name` prints. Cells are cut to one line; what is missing shows as `-`.

use chrono::{DateTime, Utc};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use super::age;

/// Characters of a cell that are shown; the rest is in `-o json`.
const CELL_CHARS_MAX: usize = 60;
/// The same for `-o wide`.
const WIDE_CELL_CHARS_MAX: usize = 200;

/// How one kind of thing is listed.
#[derive(Debug, Clone, Copy)]
pub struct Listing {
    /// What there is none of when the list is empty.
    pub things: &'static str,
    /// The field that names one of them.
    pub name: &'static str,
    /// Left to right.
    pub columns: &'static [Column],
}

/// One column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its head.
    pub title: &'static str,
    /// Where its content is: keys joined by dots.
    pub field: &'static str,
    /// How the content becomes text.
    pub shown: Shown,
    /// Whether only `-o wide` has it.
    pub wide: bool,
}

/// How a value becomes the text of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// As it stands; lists joined by commas.
    Plain,
    /// A time as its age.
    Age,
    /// How many a list holds.
    Count,
}

impl Column {
    /// A column that is always there.
    #[must_use]
    pub const fn new(title: &'static str, field: &'static str, shown: Shown) -> Self {
        Self { title, field, shown, wide: false }
    }

    /// A column of `-o wide`.
    #[must_use]
    pub const fn wide(title: &'static str, field: &'static str, shown: Shown) -> Self {
        Self { title, field, shown, wide: true }
    }

    fn cell(&self, item: &Value, now: DateTime<Utc>, chars_max: usize) -> String {
        let Some(value) = at(item, self.field) else { return "-".to_owned() };
        let text = match (self.shown, value) {
            (Shown::Age, Value::String(then)) => age::since_text(then, now),
            (Shown::Count, Value::Array(items)) => items.len().to_string(),
            (_, value) => plain(value),
        };
        if text.is_empty() { "-".to_owned() } else { one_line(&text, chars_max) }
    }
}

impl Listing {
    /// The table of `items`, without a line break at its end.
    #[must_use]
    pub fn render(&self, items: &[Value], wide: bool, now: DateTime<Utc>) -> String {
        let columns: Vec<&Column> = self.columns.iter().filter(|column| wide || !column.wide).collect();
        let chars_max = if wide { WIDE_CELL_CHARS_MAX } else { CELL_CHARS_MAX };
        let rows = items.iter().map(|item| columns.iter().map(|column| column.cell(item, now, chars_max)).collect());
        grid(columns.iter().map(|column| column.title.to_owned()).collect(), rows)
    }

    /// The name of one item, for `-o name`.
    #[must_use]
    pub fn name_of(&self, item: &Value) -> String {
        at(item, self.name).map(plain).unwrap_or_default()
    }
}

/// A head and rows, aligned.
pub fn grid(head: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(head);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// The value at `field` (keys joined by dots); `None` when it is missing or null.
#[must_use]
pub fn at<'a>(item: &'a Value, field: &str) -> Option<&'a Value> {
    let value = field.split('.').try_fold(item, |value, key| value.get(key))?;
    (!value.is_null()).then_some(value)
}

/// The text at `field`, or nothing.
#[must_use]
pub fn text_at<'a>(item: &'a Value, field: &str) -> &'a str {
    at(item, field).and_then(Value::as_str).unwrap_or_default()
}

/// A value without the marks of JSON where it has none for people.
#[must_use]
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// One line of at most `chars_max` characters; what is cut off shows as `…`.
#[must_use]
pub fn one_line(text: &str, chars_max: usize) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "");
    if let Some((end, _)) = line.char_indices().nth(chars_max) {
        line.truncate(end);
        line.pop();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const AGENTS: Listing = Listing {
        things: "agents",
        name: "name",
        columns: &[
            Column::new("NAME", "name", Shown::Plain),
            Column::new("INSTANCES", "instances", Shown::Count),
            Column::new("SINCE", "since", Shown::Age),
            Column::wide("ERROR", "last.error", Shown::Plain),
        ],
    };

    fn now() -> DateTime<Utc> {
        "2026-01-01T00:01:00Z".parse().unwrap()
    }

    #[test]
    fn columns_stand_under_their_heads() {
        let items = [
            json!({"name": "researcher", "instances": [1, 2], "since": "2026-01-01T00:00:48Z"}),
            json!({"name": "w", "instances": [], "since": null}),
        ];
        let table = AGENTS.render(&items, false, now());
        assert_eq!(table, "NAME        INSTANCES  SINCE\nresearcher  2          12s\nw           0          -");
    }

    #[test]
    fn wide_has_more_and_cells_stay_on_one_line() {
        let items = [json!({"name": "a", "last": {"error": format!("first\nsecond {}", "x".repeat(300))}})];
        let table = AGENTS.render(&items, true, now());
        let row = table.lines().nth(1).unwrap();
        assert!(row.contains("first second xxx") && row.ends_with('…'), "{row}");
        assert_eq!(table.lines().count(), 2);
        assert!(!AGENTS.render(&items, false, now()).contains("ERROR"));
    }

    #[test]
    fn what_a_terminal_would_obey_is_taken_out() {
        assert_eq!(one_line("a\u{1b}[31mred\u{7}", 60), "a[31mred");
        assert_eq!(one_line("äöü", 2), "ä…");
    }
}
