//! `troupe doctor`: each thing the node stands on, whether it answers, and what to do when it does not.
//!
//! Works with and without a running node and changes nothing but a file that it writes and removes to see whether the
//! data folder takes one. A provider is only ever reached for when its key is set, and only by connecting. Ends with 3
//! when something is broken; what is merely not set up is a notice.

mod look;

use chrono::Utc;
use serde_json::{Value, json};
use troupe_runtime::config::{Agents, NodeConfig, Problems, Sources, load_agents};
use troupe_runtime::secret::Secrets;

use super::exit::Exit;
use super::printer::{Format, Printer};
use super::reach;
use super::style::{Paint, Style};
use super::table::{Column, Listing, Shown};
use super::{Error, Global, counted};
use crate::client::{self, Client};
use crate::node::lacking::lacking;
use crate::node::options;

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Ok,
    /// It is not set up, or not running, and may be meant so.
    Notice,
    /// It is broken.
    Broken,
}

impl Health {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Notice => "notice",
            Self::Broken => "broken",
        }
    }
}

/// What was found out about one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The thing.
    pub what: String,
    /// How it is.
    pub health: Health,
    /// What was seen.
    pub seen: String,
    /// What to do; empty when nothing is to be done.
    pub advice: String,
}

impl Finding {
    fn ok(what: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { what: what.into(), health: Health::Ok, seen: seen.into(), advice: String::new() }
    }

    fn notice(what: impl Into<String>, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), health: Health::Notice, seen: seen.into(), advice: advice.into() }
    }

    fn broken(what: impl Into<String>, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), health: Health::Broken, seen: seen.into(), advice: advice.into() }
    }

    fn json(&self) -> Value {
        json!({"check": self.what, "state": self.health.as_str(), "seen": self.seen, "advice": self.advice})
    }
}

const FINDINGS: Listing = Listing {
    things: "findings",
    name: "check",
    columns: &[
        Column::new("CHECK", "check", Shown::Plain),
        Column::new("STATE", "state", Shown::Plain),
        Column::new("SEEN", "seen", Shown::Plain),
        Column::new("ADVICE", "advice", Shown::Plain),
    ],
};

/// Looks at everything and prints what was found.
pub async fn run(global: &Global, printer: &mut Printer) -> Result<Exit, Error> {
    let findings = match reach::sources(global) {
        Ok(sources) => examine(&sources).await,
        Err(problems) => vec![configuration(Err(&problems))],
    };
    let broken = findings.iter().filter(|finding| finding.health == Health::Broken).count();
    if printer.format() == Format::Table {
        let text = lines(&findings, printer.style());
        printer.line(&text)?;
    } else {
        let items: Vec<Value> = findings.iter().map(Finding::json).collect();
        printer.list(&FINDINGS, &json!({"findings": items, "at": Utc::now()}), &items)?;
    }
    if broken == 0 {
        return Ok(Exit::Ok);
    }
    printer.note(&counted(broken, "thing is broken", "things are broken"));
    Ok(Exit::NotFound)
}

/// Every finding, in the order in which a node needs the things.
pub async fn examine(sources: &Sources) -> Vec<Finding> {
    let secrets = sources.secrets();
    let loaded = NodeConfig::load(sources, &secrets);
    let mut findings = vec![configuration(loaded.as_ref().map(|_| ()))];
    let config = loaded.unwrap_or_default();

    let reached = node(sources).await;
    let running = reached.iter().any(|finding| finding.health == Health::Ok);
    findings.extend(reached);
    if !running {
        findings.push(look::port("public address", config.http.addr, "TROUPE_HTTP_ADDR").await);
        findings.push(look::port("admin address", config.admin.addr, "TROUPE_ADMIN_ADDR").await);
    }
    findings.push(look::data_dir(&config.data_dir));
    if !running {
        findings.push(look::spool(&config.data_dir));
    }
    findings.push(match &config.database_url {
        None => look::database(&config.data_dir),
        Some(url) => look::server(url, &options::ports(&config).postgres).await,
    });
    findings.push(match &config.amqp_url {
        None => Finding::ok("bus", "in the data folder; AMQP_URL is not set"),
        Some(url) => look::rabbitmq(url, &options::rabbitmq(&config)).await,
    });
    findings.push(match &config.redis_url {
        None => Finding::ok("cache", "in the process; REDIS_URL is not set"),
        Some(url) => look::redis(url, &options::redis(&config)).await,
    });
    findings.push(agents(&config.agents, &secrets));
    findings.extend(slack(&config).await);
    findings.extend(look::models(&config.agents, &secrets).await);
    findings
}

fn configuration(loaded: Result<(), &Problems>) -> Finding {
    match loaded {
        Ok(()) => Finding::ok("configuration", "node settings are well"),
        Err(Problems(problems)) => {
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            let seen = format!("{}; {first}", counted(problems.len(), "problem", "problems"));
            Finding::broken("configuration", seen, "`troupe check` lists them all")
        }
    }
}

/// The node's API, and its parts when it answers.
async fn node(sources: &Sources) -> Vec<Finding> {
    let client = match Client::new(reach::options(sources)) {
        Ok(client) => client,
        Err(error) => return vec![Finding::broken("node", error.to_string(), "correct TROUPE_ADMIN_URL or --url")],
    };
    match client.health().await {
        Ok(health) => {
            let mut findings = parts(&health);
            findings.extend(spool(&health));
            findings.insert(0, Finding::ok("node", format!("answers at {}", client.url())));
            if let Err(error) = client.agents(&[]).await {
                findings.push(Finding::broken(
                    "admin token",
                    error.to_string(),
                    "set TROUPE_ADMIN_TOKEN as the node has it",
                ));
            }
            findings
        }
        Err(client::Error::NoNode(url)) => {
            vec![Finding::notice("node", format!("none answers at {url}"), "start one with `troupe up`")]
        }
        Err(error) => vec![Finding::broken("node", error.to_string(), "look at the node's log, or restart it")],
    }
}

/// What the node says of its parts.
fn parts(health: &Value) -> Vec<Finding> {
    let components = health.get("components").and_then(Value::as_object);
    let each = components.into_iter().flatten().filter(|(_, part)| part.is_object());
    each.map(|(name, part)| {
        let status = part.get("status").and_then(Value::as_str).unwrap_or("unknown");
        let detail = ["detail", "reason", "message", "error"].iter().find_map(|key| part.get(*key)?.as_str());
        let seen = detail.map_or_else(|| status.to_owned(), |detail| format!("{status}: {detail}"));
        let what = format!("node: {name}");
        if matches!(status, "healthy" | "ok" | "disabled" | "off" | "embedded") {
            Finding::ok(what, seen)
        } else {
            Finding::broken(what, seen, "look at the node's log")
        }
    })
    .collect()
}

/// What the node keeps on the disk for its bus.
fn spool(health: &Value) -> Option<Finding> {
    let spool = health.pointer("/components/bus/spool")?;
    let number = |name: &str| spool.get(name).and_then(Value::as_u64).unwrap_or_default();
    let why = ["append_error", "bus_error"].iter().find_map(|key| spool.get(*key)?.as_str()).unwrap_or_default();
    Some(kept(number("events"), number("isolated"), why))
}

/// Events in the spool, files that were moved aside, and what keeps it from draining.
fn kept(events: u64, isolated: u64, why: &str) -> Finding {
    let what = "spool";
    let mut seen = counted(events as usize, "event waits", "events wait");
    if isolated > 0 {
        seen = format!("{seen}, {}", counted(isolated as usize, "damaged record", "damaged records"));
    }
    if !why.is_empty() {
        return Finding::broken(what, format!("{seen}; {why}"), "see \"The spool\" in docs/RUNBOOK.md");
    }
    match (events, isolated) {
        (0, 0) => Finding::ok(what, "empty"),
        (_, 0) => Finding::notice(what, seen, "a running node drains it when its bus is there"),
        _ => Finding::notice(what, seen, "look at spool/isolated in the data folder; see docs/RUNBOOK.md"),
    }
}

fn agents(limits: &Agents, secrets: &Secrets) -> Finding {
    let loaded = load_agents(&limits.dir, limits);
    let lacking = loaded.agents.iter().filter(|(spec, path)| !lacking(spec, path, secrets).is_empty()).count();
    let seen = format!("{} in {}", counted(loaded.agents.len(), "agent", "agents"), limits.dir.display());
    let wrong = loaded.errors.len() + lacking;
    if wrong > 0 {
        let seen = format!("{seen}, {}", counted(wrong, "problem", "problems"));
        Finding::broken("agent specs", seen, "`troupe check` lists them")
    } else if loaded.agents.is_empty() {
        Finding::broken("agent specs", seen, "write one (`troupe schema agent` helps) or set TROUPE_AGENTS_DIR")
    } else {
        Finding::ok("agent specs", seen)
    }
}

async fn slack(config: &NodeConfig) -> Vec<Finding> {
    let slack = &config.slack;
    let signing = if slack.signing_secrets.is_empty() {
        let seen = "SLACK_SIGNING_SECRET is not set: Slack's requests are answered with 503";
        Finding::notice("Slack, inbound", seen, "copy it from the Slack app's Basic Information")
    } else {
        Finding::ok("Slack, inbound", counted(slack.signing_secrets.len(), "signing secret", "signing secrets"))
    };
    let outbound = if slack.bot_token.is_none() {
        let seen = "SLACK_BOT_TOKEN is not set: slash commands are answered, messages and mentions are not";
        Finding::notice("Slack, outbound", seen, "copy it from the Slack app's OAuth & Permissions")
    } else {
        look::host("Slack, outbound", &slack.api_base, "SLACK_BOT_TOKEN is set").await
    };
    vec![signing, outbound]
}

/// One thing a line, and what to do below it.
fn lines(findings: &[Finding], style: Style) -> String {
    let width = findings.iter().map(|finding| finding.what.chars().count()).max().unwrap_or(0);
    let line = |finding: &Finding| {
        let (mark, paint) = match finding.health {
            Health::Ok => ("ok    ", Paint::Good),
            Health::Notice => ("notice", Paint::Notice),
            Health::Broken => ("broken", Paint::Bad),
        };
        let head = format!("{}  {:width$}  {}", style.paint(paint, mark), finding.what, finding.seen);
        if finding.advice.is_empty() {
            head
        } else {
            format!("{head}\n{:8}{:width$}  {}", "", "", style.paint(Paint::Faint, &format!("→ {}", finding.advice)))
        }
    };
    findings.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
