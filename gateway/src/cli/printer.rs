//! The one place that writes: data to stdout, everything else to stderr.
//!
//! Commands hand over what the API said; the format that was asked for decides what becomes of it. A reader that goes
//! away (`troupe tasks ls | head -1`) shows as [`std::io::ErrorKind::BrokenPipe`], which `cli::run` turns into a quiet
//! success. Errors on stderr are swallowed: nobody is left to be told.

use std::io::{self, IsTerminal as _, Write};

use chrono::Utc;
use clap::ValueEnum;
use serde_json::Value;

use super::sheet::safe;
use super::style::{Paint, Style};
use super::table::Listing;
use super::yaml;

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Columns and sheets for people.
    #[default]
    Table,
    /// What the API said.
    Json,
    /// What the API said, as YAML.
    Yaml,
    /// The table with every column.
    Wide,
    /// Ids or names only, one a line.
    Name,
}

/// Writes data, notes and errors.
pub struct Printer {
    format: Format,
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    out_style: Style,
    err_style: Style,
    read: bool,
    live: bool,
}

impl Printer {
    /// To the process's own streams.
    #[must_use]
    pub fn of_process(format: Format, no_color: bool) -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        Self {
            format,
            out_style: Style::detect(out.is_terminal(), no_color),
            err_style: Style::detect(err.is_terminal(), no_color),
            read: out.is_terminal(),
            live: err.is_terminal(),
            out: Box::new(out),
            err: Box::new(err),
        }
    }

    /// To other writers, without colours and progress.
    #[must_use]
    pub fn to(format: Format, out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Self {
        Self { format, out, err, out_style: Style::PLAIN, err_style: Style::PLAIN, read: false, live: false }
    }

    /// The format that was asked for.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The colours of stdout.
    #[must_use]
    pub const fn style(&self) -> Style {
        self.out_style
    }

    /// Whether somebody watches stderr: progress makes sense.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.live
    }

    /// One line of data, or several.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        write!(self.out, "{text}{end}")?;
        self.out.flush()
    }

    /// Makes room for a picture that takes the place of the one before; into a pipe they follow one another.
    pub fn clear(&mut self) -> io::Result<()> {
        if self.read { write!(self.out, "\u{1b}[H\u{1b}[2J") } else { Ok(()) }
    }

    /// What an agent said: as it stands into a pipe, without what would steer the terminal on one.
    pub fn answer(&mut self, text: &str) -> io::Result<()> {
        let shown = if self.read { safe(text) } else { text.to_owned() };
        self.line(&shown)
    }

    /// A list: a table of `items`, their names, or the whole `body`.
    pub fn list(&mut self, listing: &Listing, body: &Value, items: &[Value]) -> io::Result<()> {
        match self.format {
            Format::Json | Format::Yaml => self.document(body),
            Format::Name => items.iter().try_for_each(|item| self.line(&listing.name_of(item))),
            Format::Table | Format::Wide if items.is_empty() => {
                self.note(&format!("no {}", listing.things));
                Ok(())
            }
            Format::Table | Format::Wide => {
                let wide = self.format == Format::Wide;
                self.line(&listing.render(items, wide, Utc::now()))
            }
        }
    }

    /// One thing: `sheet` for people, its name, or the whole `body`.
    pub fn one(&mut self, body: &Value, name: &str, sheet: impl FnOnce(Style) -> String) -> io::Result<()> {
        match self.format {
            Format::Json | Format::Yaml => self.document(body),
            Format::Name => self.line(name),
            Format::Table | Format::Wide => {
                let sheet = sheet(self.out_style);
                self.line(&sheet)
            }
        }
    }

    /// Says how to go on, when a list has more than it shows.
    pub fn more(&mut self, body: &Value) {
        if let Some(cursor) = body.get("next").and_then(Value::as_str) {
            self.note(&format!("there are more; go on with --cursor {cursor}"));
        }
    }

    /// A note for whoever sits there.
    pub fn note(&mut self, text: &str) {
        let _ = writeln!(self.err, "{text}");
    }

    /// What went wrong, in one line that says what to do.
    pub fn error(&mut self, text: &str) {
        let mark = self.err_style.paint(Paint::Bad, "error:");
        let _ = writeln!(self.err, "{mark} {text}");
    }

    /// A value as JSON, or as YAML where that was asked for.
    pub fn document(&mut self, value: &Value) -> io::Result<()> {
        if self.format == Format::Yaml {
            return self.line(&yaml::document(value));
        }
        serde_json::to_writer_pretty(&mut self.out, value)?;
        self.line("\n")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;

    use super::*;
    use crate::cli::table::{Column, Shown};

    /// A stream that a test reads afterwards.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A printer and its two streams.
    pub(crate) fn captured(format: Format) -> (Printer, Captured, Captured) {
        let (out, err) = (Captured::default(), Captured::default());
        (Printer::to(format, Box::new(out.clone()), Box::new(err.clone())), out, err)
    }

    const THINGS: Listing = Listing { things: "things", name: "id", columns: &[Column::new("ID", "id", Shown::Plain)] };

    fn list(format: Format, items: &Value) -> (String, String) {
        let (mut printer, out, err) = captured(format);
        let body = json!({"items": items});
        printer.list(&THINGS, &body, items.as_array().unwrap()).unwrap();
        (out.text(), err.text())
    }

    #[test]
    fn each_format_writes_its_own() {
        let items = json!([{"id": "a"}, {"id": "b"}]);
        assert_eq!(list(Format::Table, &items).0, "ID\na\nb\n");
        assert_eq!(list(Format::Name, &items).0, "a\nb\n");
        assert_eq!(list(Format::Yaml, &items).0, "items:\n  - id: a\n  - id: b\n");
        let json: Value = serde_json::from_str(&list(Format::Json, &items).0).unwrap();
        assert_eq!(json, json!({"items": [{"id": "a"}, {"id": "b"}]}));
    }

    #[test]
    fn an_empty_list_is_no_data_for_people_and_still_json_for_programs() {
        assert_eq!(list(Format::Table, &json!([])), (String::new(), "no things\n".to_owned()));
        assert_eq!(list(Format::Name, &json!([])), (String::new(), String::new()));
        assert!(list(Format::Json, &json!([])).0.contains("\"items\": []"));
    }

    #[test]
    fn a_list_says_how_to_go_on_only_when_there_is_more() {
        let (mut printer, out, err) = captured(Format::Name);
        printer.more(&json!({"items": [], "next": null}));
        assert_eq!(err.text(), "");
        printer.more(&json!({"items": [], "next": "c1ff"}));
        assert_eq!((out.text().as_str(), err.text().as_str()), ("", "there are more; go on with --cursor c1ff\n"));
    }

    #[test]
    fn a_line_ends_once() {
        let (mut printer, out, _) = captured(Format::Table);
        printer.line("a").unwrap();
        printer.line("b\n").unwrap();
        printer.document(&json!(1)).unwrap();
        assert_eq!(out.text(), "a\nb\n1\n");
    }
}
