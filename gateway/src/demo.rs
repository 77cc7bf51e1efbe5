//! `troupe demo`: the main job in a few seconds, on embedded parts, without keys and without a network.
//!
//! ```text
//! scene         a temporary folder, a Slack stand-in, a node with one agent
//! performance   a signed slash command → turn 1 → tool → the agent is killed → it goes on → turn 2 → reply
//! story         what happened, told from the journal, the tree and the metrics
//! ```
//!
//! It uses the doors that everybody uses: a signed request to the public listener, the admin API for the rest, the kill
//! switch included. It is a proof, not a picture: when a model call was made twice, it says so and ends with 1. Its log
//! goes to a file in its folder, which is kept and named when something goes wrong.

mod metrics;
mod performance;
mod role;
mod scene;
mod story;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use troupe_runtime::config::{Problems, Sources};

use crate::cli::exit::Exit;
use crate::cli::printer::{Format, Printer};
use crate::client;
use crate::node::StartError;
use role::Role;
use scene::Scene;

/// What the demo is to show.
#[derive(Debug, Default, Args)]
pub struct DemoArgs {
    /// With a real model, by `ANTHROPIC_API_KEY` or `OPENAI_API_KEY`
    #[arg(long)]
    live: bool,
    /// Which model, with --live
    #[arg(long, requires = "live")]
    model: Option<String>,
}

/// How patient the demo is, and how long its agent works.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// How long each thing that must happen may take.
    pub patience: Duration,
    /// How often it is looked at in between.
    pub look_every: Duration,
}

impl DemoOptions {
    /// A scripted model answers at once; a real one takes its time.
    #[must_use]
    pub const fn new(live: bool) -> Self {
        let patience = if live { Duration::from_mins(2) } else { Duration::from_secs(20) };
        Self { patience, look_every: Duration::from_millis(10) }
    }
}

/// Why the demo did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// No folder, no log, no listener.
    #[error("{what}: {cause}")]
    Machine {
        /// What was to be had.
        what: &'static str,
        /// Why it was not.
        cause: io::Error,
    },
    /// The variables cannot be read, or the agent is not what it should be.
    #[error("{0}")]
    Config(#[from] Problems),
    /// There is no key.
    #[error(
        "--live needs a model: set ANTHROPIC_API_KEY or OPENAI_API_KEY (with OPENAI_BASE_URL for a server of your own)"
    )]
    NoKey,
    /// The node did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The admin API did not do it.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The slash command was not taken.
    #[error("the slash command was answered with status {0}")]
    NotTaken(u16),
    /// Something that must happen did not.
    #[error("it took more than {} s until {what}", limit.as_secs())]
    Late {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        limit: Duration,
    },
    /// The task ended before there was anything to interrupt.
    #[error("the task ended ({0}) before the agent could be killed; try again")]
    TooEarly(String),
    /// A call was made again, or is not on record.
    #[error("{calls} model calls were made for {turns} turns: a call was repeated or lost")]
    Repeated {
        /// Calls that were made.
        calls: u64,
        /// Turns in the journal.
        turns: u64,
    },
    /// The agent was not restarted exactly once.
    #[error("the agent was restarted {0} times, not once")]
    Restarts(u64),
    /// Nobody reads the story.
    #[error("cannot write the story: {0}")]
    Output(#[from] io::Error),
}

/// A demo that went wrong, with the log that tells more.
#[derive(Debug, thiserror::Error)]
#[error("the demo did not come to its end: {trouble}{}", told(log.as_ref()))]
pub struct DemoError {
    /// What went wrong.
    #[source]
    pub trouble: Trouble,
    /// The node's log, where one was kept.
    pub log: Option<PathBuf>,
}

impl DemoError {
    /// The code that this ends with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match &self.trouble {
            Trouble::Config(_) | Trouble::NoKey | Trouble::Start(_) => Exit::Config,
            Trouble::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
            _ => Exit::Error,
        }
    }
}

fn told(log: Option<&PathBuf>) -> String {
    log.map(|log| format!("; the log is {}", log.display())).unwrap_or_default()
}

/// Shows the demo and tells its story.
pub async fn run(args: DemoArgs, printer: &mut Printer) -> Result<(), DemoError> {
    let bare = |trouble| DemoError { trouble, log: None };
    let role = if args.live {
        let sources = Sources::from_process(std::collections::BTreeMap::new()).map_err(|error| bare(error.into()))?;
        Role::live(&sources, args.model).map_err(bare)?
    } else {
        Role::scripted()
    };
    if printer.is_live() {
        printer.note(&format!("A node starts in a temporary folder, with one agent and {} …", role.voice()));
    }
    let options = DemoOptions::new(args.live);
    let scene = Scene::set(role, &options).await.map_err(bare)?;
    let performed = performance::perform(&scene, &options).await;
    let facts = match performed {
        Ok(facts) => facts,
        Err(trouble) => return Err(DemoError { trouble, log: scene.keep_log().await }),
    };
    scene.strike().await;
    let told = match printer.format() {
        Format::Json | Format::Yaml => printer.document(&facts.json()),
        Format::Name => printer.line(&facts.task),
        Format::Table | Format::Wide => {
            let text = story::tell(&facts, printer.style());
            printer.line(&text)
        }
    };
    told.map_err(|error| bare(error.into()))?;
    facts.verdict().map_err(bare)
}
