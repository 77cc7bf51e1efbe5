//! `troupe ask`: a task for an agent, and with `--wait` its answer.
//!
//! The task is named before it is sent (an idempotency key), so a call that broke is repeated without making a second
//! task. Waiting is a long poll that outlives the node: one that is started again in between finishes the task, and the
//! command line goes on asking until its own time is over. Nothing here can lose a task: what was accepted goes on
//! whether somebody waits or not.

use std::io::{self, Read as _};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};
use troupe_runtime::domain::ids::new_event_id;
use troupe_runtime::domain::task::TaskStatus;

use super::Error;
use super::age;
use super::exit::Exit;
use super::printer::{Format, Printer};
use super::runs;
use super::table::{at, text_at};
use super::tasks::{ending, latest_run, status, steps, whole};
use crate::client::{self, Ask, Client};

/// How long `--wait` waits when it is not told.
pub const WAIT_DEFAULT: Duration = Duration::from_mins(10);
/// [`WAIT_DEFAULT`] as it is typed.
pub(super) const WAIT_DEFAULT_TEXT: &str = "10m";

/// Longest question, in bytes: the bus takes no larger event.
const INPUT_BYTES_MAX: u64 = 1024 * 1024;

/// What to ask.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// The agent's name
    agent: String,
    /// The question; `-` reads it from stdin
    text: String,
    /// Wait for the answer and print it; at most so long (30s, 5m), 10m when not told
    #[arg(long, num_args = 0..=1, require_equals = true, value_name = "SPAN", value_parser = age::parse)]
    #[arg(default_missing_value = WAIT_DEFAULT_TEXT)]
    wait: Option<Duration>,
    /// The conversation that it belongs to
    #[arg(long)]
    session: Option<String>,
    /// 0 (last) to 9 (first)
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
}

impl AskArgs {
    /// How long to wait for the answer, if at all.
    #[must_use]
    pub const fn wait(&self) -> Option<Duration> {
        self.wait
    }
}

/// The rhythm of asking.
#[derive(Debug, Clone)]
pub struct AskOptions {
    /// How often a submission is sent before it is given up.
    pub tries: u32,
    /// The wait between two tries, and at least between two looks at the task.
    pub pause: Duration,
    /// How long one look waits for the end.
    pub poll: Duration,
}

impl AskOptions {
    /// The usual rhythm; somebody who watches sees more of it.
    #[must_use]
    pub const fn new(watched: bool) -> Self {
        let poll = if watched { Duration::from_secs(1) } else { Duration::from_secs(20) };
        Self { tries: 3, pause: Duration::from_millis(250), poll }
    }
}

/// Asks, and waits when told to.
pub async fn run(args: AskArgs, client: &Client, printer: &mut Printer) -> Result<Exit, Error> {
    let options = AskOptions::new(printer.is_live());
    let ask = Ask {
        input: question(args.text)?,
        priority: args.priority,
        session: args.session,
        idempotency_key: new_event_id(),
    };
    let accepted = patiently(&options, || client.submit(&args.agent, &ask)).await?;
    let id = task_id(&accepted);
    let Some(limit) = args.wait else {
        printer.one(&accepted, &id, |_| id.clone())?;
        printer.note(&format!("{} has it; look with `troupe tasks show {id}`", args.agent));
        return Ok(Exit::Ok);
    };
    let task = wait(client, &id, limit, &options, printer).await?;
    tell(&id, task.as_ref(), limit, printer)
}

fn question(text: String) -> Result<String, Error> {
    if text != "-" {
        return Ok(text);
    }
    let mut read = String::new();
    let usage = |message: String| Error::Said { exit: Exit::Usage, message };
    let limited = io::stdin().take(INPUT_BYTES_MAX + 1).read_to_string(&mut read);
    limited.map_err(|error| usage(format!("cannot read the question from stdin: {error}")))?;
    if read.len() as u64 > INPUT_BYTES_MAX {
        return Err(usage(format!("the question has more than {INPUT_BYTES_MAX} bytes; shorten it")));
    }
    Ok(read.trim_end().to_owned())
}

/// Sends something until the node has surely taken it; a key makes the repetition harmless.
pub(super) async fn patiently<F>(options: &AskOptions, send: impl Fn() -> F) -> Result<Value, Error>
where
    F: Future<Output = Result<Value, client::Error>>,
{
    let mut tries = 1;
    loop {
        match send().await {
            Ok(accepted) => return Ok(accepted),
            // A node that is not there at all is told at once: most likely nobody has started it.
            Err(error @ client::Error::NoNode(_)) if tries == 1 => return Err(error.into()),
            Err(error) if !error.is_passing() || tries >= options.tries => return Err(error.into()),
            Err(_) => sleep(options.pause).await,
        }
        tries += 1;
    }
}

/// What the node calls the task that it accepted.
#[must_use]
pub fn task_id(accepted: &Value) -> String {
    let fields = ["id", "task_id", "task.id"];
    fields.into_iter().map(|field| text_at(accepted, field)).find(|id| !id.is_empty()).unwrap_or_default().to_owned()
}

/// Waits until the task has ended, needs a person, or the time is over; the last that was heard of it.
pub async fn wait(
    client: &Client,
    id: &str,
    limit: Duration,
    options: &AskOptions,
    printer: &mut Printer,
) -> Result<Option<Value>, Error> {
    let end = Instant::now() + limit;
    let mut progress = Progress::begin(printer.is_live());
    let mut last = None;
    while Instant::now() < end {
        let asked = Instant::now();
        match client.task(id, options.poll.min(end - asked)).await {
            Ok(body) => {
                let over = matches!(status(whole(&body)), TaskStatus::Waiting) || status(whole(&body)).is_terminal();
                progress.task(client, whole(&body)).await;
                last = Some(body);
                if over {
                    break;
                }
            }
            // Between the bus and the store: nobody has accepted it yet.
            Err(client::Error::Refused(problem)) if problem.status == 404 => progress.say("received"),
            Err(error) if error.is_passing() => {
                progress.say("the node is away, waiting for it");
                if let Some(note) = progress.first_trouble(&error) {
                    printer.note(&note);
                }
            }
            Err(error) => return Err(error.into()),
        }
        sleep_until((asked + options.pause).min(end)).await;
    }
    Ok(last)
}

/// Prints what came of it and answers the code.
pub(super) fn tell(id: &str, body: Option<&Value>, limit: Duration, printer: &mut Printer) -> Result<Exit, Error> {
    let task = body.map(whole);
    let status = task.map_or(TaskStatus::Received, status);
    let exit = Exit::of_task(status);
    match (printer.format(), task) {
        (Format::Json | Format::Yaml, Some(task)) => printer.document(task)?,
        (Format::Name, _) => printer.line(id)?,
        (Format::Table | Format::Wide, Some(task)) if exit == Exit::Ok => printer.answer(&ending(task))?,
        _ => {}
    }
    let message = match (status, task) {
        (TaskStatus::Succeeded, _) => return Ok(exit),
        (TaskStatus::Failed, Some(task)) => {
            format!("the task failed: {}; look at `troupe runs journal {id}`", ending(task))
        }
        (TaskStatus::Cancelled, Some(task)) => format!("the task was called off: {}", ending(task)),
        (TaskStatus::Waiting, _) => format!("the task waits for a person; look at `troupe tasks show {id}`"),
        _ => format!("no answer within {}; it goes on: `troupe tasks show {id}`", age::exact(limit)),
    };
    Err(Error::Said { exit, message })
}

/// What somebody at a terminal sees while they wait; nothing for anybody else.
struct Progress {
    bar: Option<ProgressBar>,
    troubled: bool,
}

impl Progress {
    fn begin(watched: bool) -> Self {
        let bar = watched.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.set_message("received");
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, troubled: false }
    }

    fn say(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// Shows how the task stands; the turns come from its journal, and are left out when that does not answer.
    async fn task(&self, client: &Client, task: &Value) {
        let Some(bar) = &self.bar else { return };
        let mut parts = vec![text_at(task, "status").to_owned()];
        let attempts = steps(task).last().and_then(|step| at(step, "attempts").and_then(Value::as_u64)).unwrap_or(1);
        if attempts > 1 {
            parts.push(format!("attempt {attempts}"));
        }
        if let Some(run) = latest_run(task)
            && let Ok(journal) = client.journal(&run).await
        {
            let turns = runs::turns(&runs::entries(&journal));
            parts.push(super::counted(turns, "turn", "turns"));
        }
        bar.set_message(parts.join(" · "));
    }

    /// A line for those without a terminal, the first time that the node is away.
    fn first_trouble(&mut self, error: &client::Error) -> Option<String> {
        let first = !std::mem::replace(&mut self.troubled, true);
        (first && self.bar.is_none()).then(|| format!("{error}; waiting for it"))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests;
