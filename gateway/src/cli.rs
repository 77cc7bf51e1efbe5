//! The command line: `troupe <noun> <verb>`, for people and for scripts.
//!
//! ```text
//! arguments ─► Command ─► verb ─► client ─► node
//!                          └─► printer: data on stdout, the rest on stderr ─► exit code
//! ```
//!
//! Each noun has a file with its verbs. Most talk to a running node through [`crate::client`]; `up` and `demo` are one;
//! `check`, `schema`, `doctor` and `completion` need none. A verb returns how it ended or one [`Error`], which is printed
//! here, once, and becomes the exit code of the contract. Called by `main`.

pub mod actors;
pub mod age;
pub mod agents;
pub mod ask;
pub mod check;
pub mod dlq;
pub mod doctor;
pub mod events;
pub mod exit;
pub mod migrate;
pub mod nodes;
pub mod printer;
pub mod reach;
pub mod results;
pub mod runs;
pub mod sheet;
pub mod state;
pub mod style;
pub mod table;
pub mod tasks;
pub mod tree;
pub mod up;
pub mod yaml;

use std::io;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use troupe_runtime::config::{Problems, agent_schema, node_schema};
use troupe_runtime::fault::Faulty as _;
use troupe_runtime::ports;

use self::exit::Exit;
use self::printer::{Format, Printer};
use crate::client;
use crate::demo::{self, DemoError};
use crate::node::StartError;

/// A Rust actor runtime for teams of LLM agents.
#[derive(Debug, Parser)]
#[command(name = "troupe", version, about, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 ok, 1 error, 2 usage, 3 not found or a check failed, 4 conflict, 5 the task failed,\n\
    6 the task waits for a person, 78 configuration, 124 timed out.\n\n\
    New here? Try `troupe demo`."
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// How data is written
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Format,
    #[arg(
        help = "Where the node's admin API answers [env: TROUPE_ADMIN_URL] [default: http://127.0.0.1:8081]",
        long,
        global = true
    )]
    url: Option<String>,
    #[arg(
        help = "The admin API's bearer token; the environment is the safer place [env: TROUPE_ADMIN_TOKEN]",
        long,
        global = true
    )]
    token: Option<secrecy::SecretString>,
    #[arg(help = "No colours, also on a terminal [env: NO_COLOR]", long, global = true)]
    no_color: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until it is told to stop
    #[command(visible_alias = "serve")]
    Up(up::UpArgs),
    /// See the whole thing work in ten seconds: an agent is killed in the middle of its task and finishes it
    Demo(demo::DemoArgs),
    /// Bring the tables of the state up to date, as a start does
    Migrate,
    /// Check agent specs and the node's configuration, all problems at once
    Check(check::CheckArgs),
    /// Print the JSON Schema that editors complete with
    Schema {
        /// Of what
        of: SchemaOf,
    },
    /// Submit a task to an agent
    Ask(ask::AskArgs),
    /// The agents and how they stand
    #[command(subcommand, alias = "agent")]
    Agents(agents::Verb),
    /// The tasks and how they ended
    #[command(subcommand, alias = "task")]
    Tasks(tasks::Verb),
    /// What happened inside a task, and whether it fits
    #[command(subcommand, alias = "run")]
    Runs(runs::Verb),
    /// How steps ended, by agent and time
    #[command(subcommand, alias = "result")]
    Results(results::Verb),
    /// What an agent remembers between events
    #[command(subcommand)]
    State(state::Verb),
    /// The live tree of actors
    #[command(subcommand, alias = "actor")]
    Actors(actors::Verb),
    /// The nodes, and the end of one in good order
    #[command(subcommand, alias = "node")]
    Nodes(nodes::Verb),
    /// The dead letters: events that were given up
    #[command(subcommand)]
    Dlq(dlq::Verb),
    /// An event onto the bus, and the events that pass
    #[command(subcommand, alias = "event")]
    Events(events::Verb),
    /// Name each dependency, whether it answers, and what to do
    Doctor,
    /// Print a completion script for a shell
    Completion {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// What has a schema.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum SchemaOf {
    /// An agent spec: config/agents/<name>.yaml
    Agent,
    /// The node's configuration: config/node.yaml
    Node,
}

/// Why a command did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node will not, or is not there.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The node did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The demo did not come to its end.
    #[error(transparent)]
    Demo(Box<DemoError>),
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] Problems),
    /// The state cannot be opened.
    #[error(transparent)]
    Ports(#[from] ports::Error),
    /// Nobody reads what is written, or it cannot be written.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
    /// Something else that ends with this code.
    #[error("{message}")]
    Said {
        /// The code.
        exit: Exit,
        /// What to tell.
        message: String,
    },
}

impl Error {
    /// The code that this error ends with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Client(client::Error::BadUrl { .. }) => Exit::Usage,
            Self::Client(client::Error::TimedOut { .. }) => Exit::TimedOut,
            Self::Client(client::Error::Refused(problem)) => Exit::of_status(problem.status),
            Self::Demo(error) => error.exit(),
            // Away now, and perhaps back in a minute: nothing is wrong with the configuration.
            Self::Start(StartError::Ports(error)) | Self::Ports(error) if error.fault().is_transient() => Exit::Error,
            Self::Start(_) | Self::Config(_) | Self::Ports(_) => Exit::Config,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
            Self::Client(_) | Self::Output(_) => Exit::Error,
            Self::Said { exit, .. } => *exit,
        }
    }
}

/// Reads the process's arguments and does what they say.
pub async fn run() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not mistakes; a reader that went away is none either.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    let mut printer = Printer::of_process(cli.global.output, cli.global.no_color);
    // Boxed: it holds the node's whole configuration.
    let done = Box::pin(perform(cli, &mut printer)).await;
    report(done, &mut printer)
}

async fn perform(cli: Cli, printer: &mut Printer) -> Result<Exit, Error> {
    let global = cli.global;
    match cli.command {
        Command::Up(args) => up::run(args, printer).await,
        Command::Demo(args) => match Box::pin(demo::run(args, printer)).await {
            Ok(()) => Ok(Exit::Ok),
            Err(error) => Err(Error::Demo(Box::new(error))),
        },
        Command::Migrate => migrate::run(&global, printer).await,
        Command::Check(args) => check::run(&args, printer),
        Command::Schema { of } => {
            let schema = match of {
                SchemaOf::Agent => agent_schema(),
                SchemaOf::Node => node_schema(),
            };
            printer.document(&schema)?;
            Ok(Exit::Ok)
        }
        Command::Ask(args) => ask::run(args, &reach::client(&global)?, printer).await,
        Command::Agents(verb) => agents::run(verb, &reach::client(&global)?, printer).await,
        Command::Tasks(verb) => tasks::run(verb, &reach::client(&global)?, printer).await,
        Command::Runs(verb) => runs::run(verb, &global, printer).await,
        Command::Results(verb) => results::run(verb, &reach::client(&global)?, printer).await,
        Command::State(verb) => state::run(verb, &reach::client(&global)?, printer).await,
        Command::Actors(verb) => actors::run(verb, &reach::client(&global)?, printer).await,
        Command::Nodes(verb) => nodes::run(verb, &reach::client(&global)?, printer).await,
        Command::Dlq(verb) => dlq::run(verb, &reach::client(&global)?, printer).await,
        Command::Events(verb) => events::run(verb, &reach::client(&global)?, printer).await,
        Command::Doctor => doctor::run(&global, printer).await,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "troupe", &mut script);
            printer.line(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Ok)
        }
    }
}

/// Tells what went wrong, once, and answers the code.
fn report(done: Result<Exit, Error>, printer: &mut Printer) -> Exit {
    let error = match done {
        Ok(exit) => return exit,
        Err(error) => error,
    };
    match &error {
        // Nobody is left to be told.
        quiet if quiet.exit() == Exit::Ok => {}
        Error::Config(Problems(problems)) => {
            printer.error(&counted(problems.len(), "problem in the configuration", "problems in the configuration"));
            for problem in problems {
                printer.note(&format!("  {problem}"));
            }
        }
        other => printer.error(&other.to_string()),
    }
    error.exit()
}

/// A number with its noun.
#[must_use]
pub fn counted(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

#[cfg(test)]
mod tests;
