//! The log: one JSON object a line, or a line for people on a terminal.
//!
//! ```text
//! {"timestamp":"…","level":"INFO","component":"gateway::slack","message":"…","trace_id":"4bf9…","task_id":"01J…", …}
//! ```
//!
//! The five first keys are always there (`trace_id` is null outside a trace); then come the event's fields and those of
//! the spans around it, the nearest winning. `component` is where the line comes from, relative to the workspace. Each
//! line passes the redactor as a whole, whoever wrote it, and goes out in one write. A line that cannot be written is
//! lost: the log never stops work. Who calls: the binary, once ([`install`]).

mod line;
mod panics;

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Registry, reload};

use self::line::{Fields, Line};

/// What a line passes before it is written.
pub type Redact = Arc<dyn for<'text> Fn(&'text str) -> Cow<'text, str> + Send + Sync>;

/// Libraries that talk a lot about what we log ourselves; the filter given by the operator comes after and wins.
const QUIET: &str = "hyper=warn,hyper_util=warn,h2=warn,reqwest=warn,rustls=warn,sqlx=warn,ractor=warn";

/// What the log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Lines for people on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// Lines for people.
    Pretty,
}

impl Format {
    /// The value of `TROUPE_LOG_FORMAT`.
    ///
    /// # Errors
    /// [`Error::Format`] for any other word.
    pub fn parse(word: &str) -> Result<Self, Error> {
        match word {
            "" => Ok(Self::Auto),
            "json" => Ok(Self::Json),
            "pretty" => Ok(Self::Pretty),
            other => Err(Error::Format(other.to_owned())),
        }
    }
}

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// `troupe up`: the log is what it prints.
    Stdout,
    /// Every other verb: stdout belongs to its data.
    Stderr,
    /// Appended to this file.
    File(PathBuf),
}

/// How to log.
#[derive(Clone)]
pub struct Options {
    /// What is logged: `TROUPE_LOG`, e.g. `info` or `info,troupe_gateway::slack=debug`.
    pub filter: String,
    /// What it looks like: `TROUPE_LOG_FORMAT`.
    pub format: Format,
    /// Where it goes.
    pub output: Output,
    /// What each line passes before it is written.
    pub redact: Redact,
    /// Longest value of a field, in bytes; the rest is cut.
    pub field_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: Format::Auto,
            output: Output::Stderr,
            redact: Arc::new(|text| Cow::Borrowed(text)),
            field_bytes_max: 16 * 1024,
        }
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter cannot be read.
    #[error("TROUPE_LOG: {filter:?} is no filter ({cause}); write e.g. info or info,troupe_gateway=debug")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        cause: String,
    },
    /// There is no such format.
    #[error("TROUPE_LOG_FORMAT: {0:?} is no format: json or pretty")]
    Format(String),
    /// The file cannot be written.
    #[error("log file {path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Somebody installed a subscriber before.
    #[error("the log is installed already")]
    Installed,
}

/// Makes this the log of the process, and has every panic logged in one line.
///
/// # Errors
/// [`Error`]; nothing is installed then.
pub fn install(options: Options) -> Result<Filter, Error> {
    let (subscriber, filter) = changeable(options)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| Error::Installed)?;
    panics::hook();
    Ok(filter)
}

/// What is logged, while it is logged. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Filter(reload::Handle<EnvFilter, Registry>);

impl Filter {
    /// Logs this from now on.
    ///
    /// # Errors
    /// [`Error::Filter`], and what was logged is logged on.
    pub fn set(&self, filter: &str) -> Result<(), Error> {
        let parsed = parsed(filter)?;
        // It fails when the log is gone, and then nobody is there to be told.
        self.0.reload(parsed).ok();
        Ok(())
    }
}

fn parsed(filter: &str) -> Result<EnvFilter, Error> {
    EnvFilter::builder()
        .parse(format!("{QUIET},{filter}"))
        .map_err(|cause| Error::Filter { filter: filter.to_owned(), cause: cause.to_string() })
}

/// The log without installing it: for `tracing::subscriber::with_default`.
///
/// # Errors
/// [`Error::Filter`] and [`Error::File`].
pub fn subscriber(options: Options) -> Result<impl Subscriber + Send + Sync, Error> {
    changeable(options).map(|(subscriber, _)| subscriber)
}

fn changeable(options: Options) -> Result<(impl Subscriber + Send + Sync, Filter), Error> {
    let (filter, handle) = reload::Layer::new(parsed(&options.filter)?);
    let (sink, terminal) = match &options.output {
        Output::Stdout => (Sink::Stdout, io::stdout().is_terminal()),
        Output::Stderr => (Sink::Stderr, io::stderr().is_terminal()),
        Output::File(path) => {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            let file = opened.map_err(|cause| Error::File { path: path.clone(), cause })?;
            (Sink::File(file), false)
        }
    };
    let pretty = match options.format {
        Format::Auto => terminal,
        Format::Json => false,
        Format::Pretty => true,
    };
    let colour = pretty && terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = Lines { sink, pretty, colour, redact: options.redact, field_bytes_max: options.field_bytes_max };
    Ok((Registry::default().with(filter).with(lines), Filter(handle)))
}

enum Sink {
    Stdout,
    Stderr,
    File(File),
}

/// The layer that turns events into lines.
struct Lines {
    sink: Sink,
    pretty: bool,
    colour: bool,
    redact: Redact,
    field_bytes_max: usize,
}

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        // Values are written out before the span is locked: their Debug may log, or panic.
        let mut fields = Fields::new(self.field_bytes_max, self.redact.clone());
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::new(self.field_bytes_max, self.redact.clone());
        values.record(&mut fields);
        if let Some(span) = context.span(id) {
            let mut extensions = span.extensions_mut();
            match extensions.get_mut::<Fields>() {
                Some(earlier) => earlier.take_over(fields),
                None => drop(extensions.replace(fields)),
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::new(self.field_bytes_max, self.redact.clone());
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(around) = span.extensions().get::<Fields>() {
                fields.fill_up_from(around);
            }
        }
        let metadata = event.metadata();
        let line = Line::new(chrono::Utc::now(), *metadata.level(), metadata.target(), fields);
        let text = if self.pretty { line.pretty(&self.redact, self.colour) } else { line.json(&self.redact) };
        self.write(&(self.redact)(&text));
    }
}

impl Lines {
    fn write(&self, line: &str) {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        // Whoever reads the log may be gone; there is nobody left to tell.
        let _ = match &self.sink {
            Sink::Stdout => io::stdout().lock().write_all(&bytes),
            Sink::Stderr => io::stderr().lock().write_all(&bytes),
            Sink::File(file) => (&*file).write_all(&bytes),
        };
    }
}

#[cfg(test)]
mod tests;
