//! The looks that `troupe doctor` takes at this machine and at the network: a folder, a file, a port, a host.
//!
//! Called by the doctor; a look that fails is its finding, never an error of the command.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use troupe_runtime::bus::rabbitmq::{self, RabbitBus};
use troupe_runtime::config::{Agents, load_agents, secret_names};
use troupe_runtime::domain::agent::{AgentSpec, ModelSpec, ProviderKind};
use troupe_runtime::postgres;
use troupe_runtime::secret::{ExposeSecret as _, SecretString, Secrets};
use troupe_runtime::sqlite::FILE_NAME;
use troupe_runtime::store::redis_cache::{self, Look, RedisMemory};
use url::Url;

use super::Finding;
use crate::cli::counted;
use crate::spool;

/// How long a host may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How every SQLite file begins.
const SQLITE_HEAD: &[u8; 16] = b"SQLite format 3\0";

/// Whether a node could listen there.
pub(super) async fn port(what: &str, addr: SocketAddr, variable: &str) -> Finding {
    match TcpListener::bind(addr).await {
        Ok(_) => Finding::ok(what, format!("{addr} is free")),
        Err(error) => {
            let advice = format!("stop what uses it, or choose another with {variable}");
            Finding::broken(what, format!("cannot listen on {addr}: {error}"), advice)
        }
    }
}

/// Whether the data folder takes a file, or could be made.
pub(super) fn data_dir(dir: &Path) -> Finding {
    let advice = "make it writable, or choose another with TROUPE_DATA_DIR";
    let Some(there) = dir.ancestors().map(or_here).find(|folder| folder.exists()) else {
        return Finding::broken("data folder", format!("{} cannot be made", dir.display()), advice);
    };
    if let Err(error) = writable(there) {
        return Finding::broken("data folder", format!("cannot write to {}: {error}", there.display()), advice);
    }
    if there == or_here(dir) {
        Finding::ok("data folder", format!("{} is writable", dir.display()))
    } else {
        Finding::ok("data folder", format!("{} will be made at the first start", dir.display()))
    }
}

/// The parent of a bare name is the empty path, which means here.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

fn writable(dir: &Path) -> io::Result<()> {
    tempfile::Builder::new().prefix(".troupe-doctor-").tempfile_in(dir).map(drop)
}

/// What a node that is not running has left for its bus.
pub(super) fn spool(dir: &Path) -> Finding {
    let folder = dir.join(spool::FOLDER_NAME);
    match spool::look(&folder) {
        Ok((events, isolated)) => super::kept(events, isolated, ""),
        Err(error) => {
            let seen = format!("cannot read {}: {error}", folder.display());
            Finding::broken("spool", seen, "make it readable: accepted events may lie there")
        }
    }
}

/// Whether the SQLite file is one.
pub(super) fn database(dir: &Path) -> Finding {
    let path = dir.join(FILE_NAME);
    let shown = path.display();
    let mut head = [0; SQLITE_HEAD.len()];
    match File::open(&path).and_then(|mut file| file.read_exact(&mut head)) {
        Ok(()) if &head == SQLITE_HEAD => {
            let bytes = fs::metadata(&path).map_or(0, |file| file.len());
            Finding::ok("database", format!("{shown}, {} KiB", bytes.div_ceil(1024)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::ok("database", format!("{shown} will be made at the first start"))
        }
        Ok(()) => Finding::broken("database", format!("{shown} is no SQLite file"), "restore it, or move it away"),
        Err(error) => {
            Finding::broken("database", format!("cannot read {shown}: {error}"), "restore it, or make it readable")
        }
    }
}

/// Whether the server that keeps the state answers, and to which version its tables belong.
pub(super) async fn server(url: &SecretString, options: &postgres::Options) -> Finding {
    let postgres::Look { place, version, migration, known } = match postgres::Database::look(url, options).await {
        Ok(look) => look,
        Err(error) => {
            // What is wrong, and behind the last semicolon what to do.
            let text = error.to_string();
            let (seen, advice) = text.rsplit_once("; ").unwrap_or((&text, "check DATABASE_URL"));
            return Finding::broken("database", seen, advice);
        }
    };
    let seen = format!("{place} answers, PostgreSQL {version}, migration {migration} of {known}");
    match migration.cmp(&known) {
        Ordering::Less => Finding::ok("database", format!("{seen}: the next start brings it up to date")),
        Ordering::Equal => Finding::ok("database", seen),
        Ordering::Greater => {
            Finding::broken("database", seen, "a newer troupe has migrated it: run that version, or restore a backup")
        }
    }
}

/// Whether the broker that is the bus answers, and lets us in.
pub(super) async fn rabbitmq(url: &SecretString, options: &rabbitmq::Options) -> Finding {
    match RabbitBus::look(url, options).await {
        Ok(place) => Finding::ok("bus", format!("{place} answers")),
        Err(error) => {
            let text = error.to_string();
            let (seen, advice) = text.rsplit_once("; ").unwrap_or((&text, "check AMQP_URL"));
            Finding::broken("bus", seen, advice)
        }
    }
}

/// Whether the Redis of the cache answers, and does what is asked of it.
pub(super) async fn redis(url: &SecretString, options: &redis_cache::Options) -> Finding {
    match RedisMemory::look(url, options).await {
        Ok(Look { place, version }) => Finding::ok("cache", format!("{place} answers, Redis {version}")),
        Err(error) => {
            let text = error.to_string();
            let (seen, advice) = text.rsplit_once("; ").unwrap_or((&text, "check REDIS_URL"));
            Finding::broken("cache", seen, advice)
        }
    }
}

/// Each provider that the agents name: whether its keys are set, and whether it can be reached.
pub(super) async fn models(limits: &Agents, secrets: &Secrets) -> Vec<Finding> {
    let mut providers: BTreeMap<&str, Vec<(String, ModelSpec)>> = BTreeMap::new();
    for (spec, _) in load_agents(&limits.dir, limits).agents {
        for model in spec.models.iter().filter(|model| model.provider != ProviderKind::Scripted) {
            let mut alone = AgentSpec::clone(&spec);
            alone.models = vec![model.clone()];
            alone.tools.clear();
            let name = secret_names(&alone).into_iter().find(|name| !secrets.is_set(name));
            providers.entry(model.provider.as_str()).or_default().push((name.unwrap_or_default(), model.clone()));
        }
    }
    let mut findings = Vec::new();
    for (provider, models) in providers {
        let what = format!("models of {provider}");
        let users = counted(models.len(), "agent names it", "agents name it");
        let mut unset: Vec<&str> =
            models.iter().map(|(unset, _)| unset.as_str()).filter(|name| !name.is_empty()).collect();
        unset.sort_unstable();
        unset.dedup();
        match models.iter().find(|(unset, _)| unset.is_empty()) {
            None => {
                let seen = format!("{users}; {} is not set", unset.join(", "));
                let advice = "set it in the environment or in .env; until then fallbacks answer, where there are any";
                findings.push(Finding::notice(what, seen, advice));
            }
            Some((_, model)) => findings.push(host(&what, &base_url(model, secrets), &users).await),
        }
    }
    findings
}

/// Where the provider of a model answers.
fn base_url(model: &ModelSpec, secrets: &Secrets) -> String {
    let (variable, usual) = match model.provider {
        ProviderKind::Anthropic => ("ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
        ProviderKind::Openai | ProviderKind::Scripted => ("OPENAI_BASE_URL", "https://api.openai.com/v1"),
    };
    // One that is missing was told of before.
    let resolved = |template: &String| secrets.resolve(template).map(|url| url.expose_secret().to_owned());
    let written = model.base_url.as_ref().map(|template| resolved(template).unwrap_or_default());
    written.or_else(|| secrets.setting(variable)).unwrap_or_else(|| usual.to_owned())
}

/// Whether something accepts a connection where `url` points.
pub(super) async fn host(what: &str, url: &str, known: &str) -> Finding {
    let advice = "check the address, the network and the proxy of this machine";
    let parsed = Url::parse(url).ok();
    let target =
        parsed.as_ref().and_then(|url| Some((url.host_str()?.trim_matches(['[', ']']), url.port_or_known_default()?)));
    let Some((name, port)) = target else {
        return Finding::broken(what, format!("{known}; its address is none"), advice);
    };
    match timeout(CONNECT_TIMEOUT, TcpStream::connect((name, port))).await {
        Ok(Ok(_)) => Finding::ok(what, format!("{known}; {name}:{port} can be reached")),
        Ok(Err(error)) => Finding::broken(what, format!("{known}; {name}:{port} cannot be reached: {error}"), advice),
        Err(_) => {
            let seen = format!("{known}; {name}:{port} does not answer within {} s", CONNECT_TIMEOUT.as_secs());
            Finding::broken(what, seen, advice)
        }
    }
}
