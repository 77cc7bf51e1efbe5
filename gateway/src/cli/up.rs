//! `troupe up`: a node, from its configuration to the last drained step.
//!
//! What is wrong with the configuration is told whole and ends with 78 before anything starts. A spec that is wrong
//! keeps only its own agent away; when no agent is left there is nothing to run. SIGINT, SIGTERM and
//! `troupe nodes drain` drain; a signal after that ends the process at once, and the journal makes that as safe as a power cut.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use troupe_runtime::config::{Kept, LivingSources, NodeConfig, Problem, Problems, Sources, Stamp, load_agents_again};
use troupe_runtime::domain::agent::AgentSpec;
use troupe_runtime::secret::Secrets;
use troupe_runtime::telemetry::logs;

use super::exit::Exit;
use super::printer::Printer;
use super::{Error, counted};
use crate::node::Node;
use crate::node::dials::Dials;
use crate::node::lacking::lacking;
use crate::node::upkeep::Upkeep;
use crate::slack::signature::EmptySecret;

/// What overrides the configuration.
#[derive(Debug, Default, Args)]
pub struct UpArgs {
    #[arg(
        help = "The node's configuration file [env: TROUPE_CONFIG] [default: config/node.yaml if it is there]",
        long,
        value_name = "FILE"
    )]
    config: Option<String>,
    #[arg(
        help = "The folder of agent specs [env: TROUPE_AGENTS_DIR] [default: config/agents]",
        long,
        value_name = "FOLDER"
    )]
    agents_dir: Option<String>,
    #[arg(
        help = "The folder of the SQLite file and the embedded bus [env: TROUPE_DATA_DIR] [default: ./data]",
        long,
        value_name = "FOLDER"
    )]
    data_dir: Option<String>,
    #[arg(
        help = "Where Slack reaches the node [env: TROUPE_HTTP_ADDR] [default: 127.0.0.1:8080]",
        long,
        value_name = "ADDR"
    )]
    http_addr: Option<String>,
    #[arg(
        help = "Where the API and the console answer [env: TROUPE_ADMIN_ADDR] [default: 127.0.0.1:8081]",
        long,
        value_name = "ADDR"
    )]
    admin_addr: Option<String>,
    #[arg(help = "What runs here, separated by commas [env: TROUPE_ROLES] [default: all]", long, value_name = "ROLES")]
    roles: Option<String>,
}

impl UpArgs {
    /// The flags under the names of their variables.
    fn flags(self) -> BTreeMap<String, String> {
        let flags = [
            ("TROUPE_CONFIG", self.config),
            ("TROUPE_AGENTS_DIR", self.agents_dir),
            ("TROUPE_DATA_DIR", self.data_dir),
            ("TROUPE_HTTP_ADDR", self.http_addr),
            ("TROUPE_ADMIN_ADDR", self.admin_addr),
            ("TROUPE_ROLES", self.roles),
        ];
        flags.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// What a node starts with.
#[derive(Debug)]
pub struct Plan {
    /// Its settings.
    pub config: NodeConfig,
    /// Values for `${NAME}`.
    pub secrets: Secrets,
    /// The agents that can run.
    pub agents: Vec<Arc<AgentSpec>>,
    /// What is wrong with the others, and what has no effect.
    pub warnings: Vec<Problem>,
    /// What gives changes of all this their effect.
    pub upkeep: Arc<Upkeep>,
}

/// Runs a node until it is told to stop.
pub async fn run(args: UpArgs, printer: &mut Printer) -> Result<Exit, Error> {
    let plan = plan(&Sources::from_process(args.flags())?)?;
    let filter = logs::install(logging(&plan)?).map_err(|error| configuration(&error))?;
    plan.upkeep.logs_with(filter);
    for warning in &plan.warnings {
        tracing::warn!(problem = %warning, "the configuration has a problem");
        printer.note(&format!("warning: {warning}"));
    }
    // Taken before the start: whoever says stop while the node starts means it.
    let mut stop = Stop::listen()?;
    let count = plan.agents.len();
    let mut node = tokio::select! {
        node = Node::start(plan.config, plan.secrets, plan.agents, Some(plan.upkeep)) => node?,
        () = stop.asked() => return Ok(Exit::Ok),
    };
    if printer.is_live() {
        printer.note(&welcome(&node, count));
    }
    let course = node.course();
    tokio::select! {
        () = stop.asked() => {}
        () = course.drains() => {}
        () = node.over() => {
            let message = why_over(&node);
            if let Err(error) = node.drain().await {
                tracing::error!(%error, "the node ends all the same");
            }
            return Err(Error::Said { exit: Exit::Error, message });
        }
    }
    if printer.is_live() {
        printer.note("stopping: steps finish what they are at; once more to stop at once");
    }
    tokio::select! {
        drained = node.drain() => match drained {
            Ok(()) => Ok(Exit::Ok),
            Err(error) => {
                tracing::error!(%error, "the node ends all the same");
                at_once()
            }
        },
        () = stop.asked() => at_once(),
    }
}

/// Ends the process. Not by returning: that would wait for threads that are at work.
fn at_once() -> ! {
    std::process::exit(i32::from(Exit::Error.code()))
}

/// What `sources` add up to, or everything that keeps a node from starting.
pub fn plan(sources: &Sources) -> Result<Plan, Problems> {
    let living = LivingSources::new(sources.clone(), "");
    let secrets = living.secrets();
    let config = NodeConfig::load(sources, &secrets)?;
    let empty = |error: EmptySecret| Problems(vec![Problem::of("SLACK_SIGNING_SECRET", error.to_string())]);
    let dials = Dials::of(&config).map_err(empty)?;
    // Looked at before it is read: what changes meanwhile is seen as a change.
    let files = living.files().into_iter().chain(secrets.files());
    let stamp = Stamp::of_with(&config.agents.dir, files.collect());
    let mut kept = Kept::default();
    let loaded = load_agents_again(&config.agents.dir, &config.agents, &mut kept);
    let missing: Vec<Problem> = loaded.agents.iter().flat_map(|(spec, path)| lacking(spec, path, &secrets)).collect();
    if !missing.is_empty() {
        return Err(Problems(missing.into_iter().chain(loaded.errors).collect()));
    }
    if loaded.agents.is_empty() {
        let nobody = Problem::of(
            config.agents.dir.display().to_string(),
            "no agent is defined here; write one (`troupe schema agent` helps) or set TROUPE_AGENTS_DIR",
        );
        return Err(Problems(if loaded.errors.is_empty() { vec![nobody] } else { loaded.errors }));
    }
    let mut warnings = sources.warnings();
    warnings.extend(loaded.errors.iter().cloned());
    let agents = loaded.agents.iter().map(|(spec, _)| spec.clone()).collect();
    let upkeep = Upkeep::new(living, secrets.clone(), (config.clone(), dials), (stamp, loaded, kept));
    Ok(Plan { config, secrets, agents, warnings, upkeep })
}

/// The log of a node: it is what `up` prints.
fn logging(plan: &Plan) -> Result<logs::Options, Problems> {
    let log = &plan.config.log;
    let format = if log.format == "auto" { "" } else { log.format.as_str() };
    let redactor = plan.secrets.redactor();
    Ok(logs::Options {
        filter: log.filter.clone(),
        format: logs::Format::parse(format).map_err(|error| configuration(&error))?,
        output: logs::Output::Stdout,
        redact: Arc::new(move |text| redactor.mask(text)),
        ..logs::Options::default()
    })
}

/// An error whose text names its variable, as a problem of the configuration.
fn configuration(error: &logs::Error) -> Problems {
    let text = error.to_string();
    let (origin, message) = text.split_once(": ").unwrap_or(("log", &text));
    Problems(vec![Problem::of(origin, message)])
}

/// Why a node is over that nobody has asked to stop.
fn why_over(node: &Node) -> String {
    if node.troupe.lease().is_superseded() {
        return "another process has started under this node's name on the same database; \
                give every process a name of its own (TROUPE_NODE_NAME)"
            .to_owned();
    }
    "a part of the node fell and did not come back; the log says which".to_owned()
}

fn welcome(node: &Node, agents: usize) -> String {
    format!(
        "troupe {} is up with {}\n  Slack  http://{}/slack/events\n  API    http://{}\n  stop it with Ctrl-C",
        env!("CARGO_PKG_VERSION"),
        counted(agents, "agent", "agents"),
        node.http_addr,
        node.admin_addr
    )
}

/// The two ways to ask a process to stop.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits until somebody asks, again each time.
    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use secrecy::ExposeSecret as _;

    use super::*;

    const GOOD: &str = "name: guide\ntype: assistant\nexecution_mode: autonomous\nllm_config:\n  provider: scripted\n  script: [{reply: hello}]\n";
    const NEEDY: &str = "name: needy\ntype: assistant\nexecution_mode: autonomous\nllm_config: {provider: openai, model: m, api_key: \"${TEST_KEY}\"}\n";

    fn sources(dir: &tempfile::TempDir, files: &[(&str, &str)]) -> Sources {
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let args = UpArgs { agents_dir: Some(dir.path().display().to_string()), ..UpArgs::default() };
        Sources { flags: args.flags(), ..Sources::default() }
    }

    #[test]
    fn a_broken_spec_keeps_only_its_own_agent_away() {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(&sources(&dir, &[("a.yaml", GOOD), ("b.yaml", "name: [")])).unwrap();
        assert_eq!(plan.agents.len(), 1);
        assert_eq!(plan.warnings.len(), 1);
        assert!(plan.warnings[0].to_string().contains("b.yaml:1:"), "{:?}", plan.warnings);
    }

    #[test]
    fn without_an_agent_there_is_nothing_to_run() {
        let dir = tempfile::tempdir().unwrap();
        let empty = plan(&sources(&dir, &[])).unwrap_err();
        assert!(empty.to_string().contains("no agent is defined here"), "{empty}");
        let broken = plan(&sources(&dir, &[("b.yaml", "name: [")])).unwrap_err();
        assert!(broken.to_string().contains("b.yaml:1:"), "{broken}");
    }

    #[test]
    fn every_missing_secret_is_named_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let other = NEEDY.replace("needy", "second").replace("TEST_KEY", "OTHER_KEY");
        let mut sources = sources(&dir, &[("a.yaml", GOOD), ("n.yaml", NEEDY), ("o.yaml", &other)]);
        let missing = plan(&sources).unwrap_err();
        assert_eq!(missing.0.len(), 2, "{missing}");
        assert!(missing.to_string().contains("TEST_KEY") && missing.to_string().contains("OTHER_KEY"), "{missing}");
        sources.dotenv = [("TEST_KEY", "from-dotenv"), ("OTHER_KEY", "o")].map(|(k, v)| (k.into(), v.into())).into();
        sources.env = [("TEST_KEY".to_owned(), String::new())].into();
        let plan = plan(&sources).unwrap();
        assert_eq!(plan.agents.len(), 3);
        assert_eq!(plan.secrets.get("TEST_KEY").unwrap().expose_secret(), "from-dotenv");
    }

    #[test]
    fn flags_win_and_bad_ones_are_named_as_flags() {
        let dir = tempfile::tempdir().unwrap();
        let mut sources = sources(&dir, &[("a.yaml", GOOD)]);
        sources.env = [("TROUPE_HTTP_ADDR".to_owned(), "127.0.0.1:1".to_owned())].into();
        let flags = UpArgs { http_addr: Some("127.0.0.1:0".into()), ..UpArgs::default() }.flags();
        sources.flags.extend(flags);
        assert_eq!(plan(&sources).unwrap().config.http.addr.port(), 0);
        sources.flags.extend(UpArgs { http_addr: Some("here".into()), ..UpArgs::default() }.flags());
        let wrong = plan(&sources).unwrap_err();
        assert!(wrong.to_string().starts_with("--http-addr: "), "{wrong}");
    }
}
