//! One line of the log: its fields gathered from the event and the spans around it, and its two written forms.
//!
//! Called by the log's layer for each event. A field that cannot be written as JSON is written as its debug text.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;
use tracing::Level;
use tracing::field::{Field, Visit};

use super::Redact;

/// Crates of the workspace; a component is named relative to it.
const WORKSPACE_PREFIX: &str = "troupe_";
/// The keys that every line has; a field of the same name (the panic hook's) takes their place.
const FIXED: [&str; 5] = ["timestamp", "level", "component", "message", "trace_id"];

/// Fields by name, each at most so many bytes long.
pub(super) struct Fields {
    values: BTreeMap<&'static str, Value>,
    bytes_max: usize,
    redact: Redact,
}

impl Fields {
    pub(super) const fn new(bytes_max: usize, redact: Redact) -> Self {
        Self { values: BTreeMap::new(), bytes_max, redact }
    }

    /// Later records of a span win over earlier ones.
    pub(super) fn take_over(&mut self, later: Self) {
        self.values.extend(later.values);
    }

    /// What the span around says, where nothing nearer has said it.
    pub(super) fn fill_up_from(&mut self, around: &Self) {
        for (name, value) in &around.values {
            // A span's own `message` is its name for people, not the event's.
            if *name != "message" {
                self.values.entry(name).or_insert_with(|| value.clone());
            }
        }
    }

    fn take_text(&mut self, name: &str) -> Option<String> {
        match self.values.remove(name)? {
            Value::String(text) => Some(text),
            other => Some(other.to_string()),
        }
    }

    fn put(&mut self, field: &Field, value: Value) {
        self.values.insert(field.name(), value);
    }

    fn put_text(&mut self, field: &Field, mut text: String) {
        if text.len() > self.bytes_max {
            // Before it is cut: of a secret at the edge the redactor would not know the half that is left.
            text = (self.redact)(&text).into_owned();
        }
        if text.len() > self.bytes_max {
            text.truncate(text.floor_char_boundary(self.bytes_max));
            text.push('…');
        }
        self.put(field, Value::String(text));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field, format!("{value:?}"));
    }
}

/// One line, before it is written.
#[derive(Debug)]
pub(super) struct Line {
    at: DateTime<Utc>,
    level: Level,
    component: String,
    message: String,
    trace_id: Option<String>,
    fields: BTreeMap<&'static str, Value>,
}

impl Line {
    pub(super) fn new(at: DateTime<Utc>, level: Level, target: &str, mut fields: Fields) -> Self {
        let message = fields.take_text("message").unwrap_or_default();
        let component = fields
            .take_text("component")
            .unwrap_or_else(|| target.strip_prefix(WORKSPACE_PREFIX).unwrap_or(target).to_owned());
        let of_parent = fields.take_text("traceparent").and_then(|parent| parent.split('-').nth(1).map(str::to_owned));
        let trace_id = fields.take_text("trace_id").or(of_parent).filter(|id| !id.is_empty());
        Self { at, level, component, message, trace_id, fields: fields.values }
    }

    /// One JSON object. Texts that must be escaped pass the redactor before: escaped, a secret would not be found.
    pub(super) fn json(&self, redact: &Redact) -> String {
        let timestamp = self.at.to_rfc3339_opts(SecondsFormat::Micros, true);
        let mut line = String::with_capacity(256);
        line.push('{');
        put(&mut line, FIXED[0], &Value::String(timestamp), redact);
        put(&mut line, FIXED[1], &Value::from(self.level.as_str()), redact);
        put(&mut line, FIXED[2], &Value::from(self.component.as_str()), redact);
        put(&mut line, FIXED[3], &Value::from(self.message.as_str()), redact);
        put(&mut line, FIXED[4], &self.trace_id.as_deref().map_or(Value::Null, Value::from), redact);
        for (name, value) in self.fields.iter().filter(|(name, _)| !FIXED.contains(name)) {
            put(&mut line, name, value, redact);
        }
        line.push('}');
        line
    }

    /// A line for people: time, level, component, message, then the fields.
    pub(super) fn pretty(&self, redact: &Redact, colour: bool) -> String {
        let paint = |code: &str, text: &str| {
            if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
        };
        let level = format!("{:>5}", self.level.as_str());
        let level = match self.level {
            Level::ERROR => paint("31", &level),
            Level::WARN => paint("33", &level),
            Level::INFO => paint("32", &level),
            _ => paint("2", &level),
        };
        let time = paint("2", &self.at.format("%H:%M:%S%.3f").to_string());
        let mut line = format!("{time} {level} {}  {}", paint("2", &self.component), printable(&redact(&self.message)));
        for (name, value) in &self.fields {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // Writing to a String cannot fail.
            let _ = write!(line, " {}{}", paint("2", &format!("{name}=")), printable(&redact(&text)));
        }
        if let Some(trace) = &self.trace_id {
            let _ = write!(line, " {}", paint("2", &format!("trace_id={trace}")));
        }
        line
    }
}

fn put(line: &mut String, name: &str, value: &Value, redact: &Redact) {
    if !line.ends_with('{') {
        line.push(',');
    }
    // Writing to a String cannot fail.
    let _ = match value {
        Value::String(text) if text.contains(['"', '\\']) || text.contains(char::is_control) => {
            write!(line, "{}:{}", Value::from(name), Value::from(redact(text).as_ref()))
        }
        other => write!(line, "{}:{other}", Value::from(name)),
    };
}

/// A terminal obeys control characters, so what came from outside must hold none.
fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
