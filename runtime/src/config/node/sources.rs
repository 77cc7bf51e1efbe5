//! Where a node's settings come from, gathered once.
//!
//! [`Sources::from_process`] is the only place that looks at the process: arguments come from the command line,
//! variables from the environment, `.env` and the file from the working directory. Everything after it is a pure
//! function of this value, so tests need no process of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fmt, fs, io};

use super::dotenv;
use super::variables::{CONFIG_VARIABLE, VARIABLES, flag_name};
use crate::config::nearest::nearest;
use crate::config::problem::{Problem, Problems};
use crate::secret::Secrets;

/// The file that is read when nothing names one and it is there.
pub(crate) const DEFAULT_FILE: &str = "config/node.yaml";

/// The file of variables in the working directory.
pub(crate) const DOTENV_FILE: &str = ".env";

/// Bytes of `.env` and of the node file that are read.
const SOURCE_BYTES_MAX: u64 = 1024 * 1024;

/// Prefixes of variables that belong to tests and benches, not to a node.
const TEST_PREFIXES: [&str; 2] = ["TROUPE_TEST_", "TROUPE_BENCH_"];

/// Everything that a node's settings are made of, strongest first.
#[derive(Clone, Default)]
pub struct Sources {
    /// Values of flags, under the name of their variable: `--http-addr` is `TROUPE_HTTP_ADDR`.
    pub flags: BTreeMap<String, String>,
    /// The environment. An empty value counts as not set.
    pub env: BTreeMap<String, String>,
    /// The lines of `.env`.
    pub dotenv: BTreeMap<String, String>,
    /// The node file: how its path is shown, and its text.
    pub file: Option<(String, String)>,
    /// The default of the node's name.
    pub host_name: String,
}

/// Names only: any value may be a secret.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("flags", &self.flags.keys())
            .field("dotenv", &self.dotenv.keys())
            .field("file", &self.file.as_ref().map(|(path, _)| path))
            .finish_non_exhaustive()
    }
}

impl Sources {
    /// The sources of this process: its environment, and `.env` and the node file in its working directory.
    pub fn from_process(flags: BTreeMap<String, String>) -> Result<Self, Problems> {
        // A variable that is no text cannot be one of ours.
        let texts =
            env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let mut sources = Self::gather(flags, texts.collect(), Path::new("."))?;
        sources.host_name = host_name();
        Ok(sources)
    }

    /// The sources for a given environment and working directory.
    pub fn gather(
        flags: BTreeMap<String, String>,
        env: BTreeMap<String, String>,
        dir: &Path,
    ) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut sources = Self { flags, env, ..Self::default() };
        if let Some(text) = read(&dir.join(DOTENV_FILE), DOTENV_FILE, &mut problems) {
            sources.dotenv = dotenv::parse(DOTENV_FILE, &text, &mut problems);
        }
        let (origin, path) = match sources.origins(CONFIG_VARIABLE).next_back() {
            Some((origin, path)) => (Some(origin), path),
            None => (None, DEFAULT_FILE.to_owned()),
        };
        let known = problems.len();
        let text = read(&dir.join(&path), &path, &mut problems);
        if let Some(origin) = origin.filter(|_| text.is_none() && problems.len() == known) {
            problems.push(Problem::of(origin, format!("there is no file {path:?}; correct the path or remove it")));
        }
        sources.file = text.map(|text| (path, text));
        Problems(problems).or(Some(sources))
    }

    /// What `${NAME}` in specs and in the node file stands for, as it is now.
    #[must_use]
    pub fn secrets(&self) -> Secrets {
        Secrets::new(self.variables())
    }

    /// Every variable by name, the environment before `.env`.
    pub(crate) fn variables(&self) -> BTreeMap<String, String> {
        let set = |values: &BTreeMap<String, String>| {
            values.clone().into_iter().filter(|(_, value)| !value.is_empty()).collect::<BTreeMap<_, _>>()
        };
        let mut all = set(&self.dotenv);
        all.extend(set(&self.env));
        all
    }

    /// What is set and has no effect: worth a line at start, no reason to stop.
    #[must_use]
    pub fn warnings(&self) -> Vec<Problem> {
        let known: Vec<&str> = VARIABLES.iter().map(|variable| variable.name).chain([CONFIG_VARIABLE]).collect();
        let names = self.env.keys().chain(self.dotenv.keys());
        let mut warnings: Vec<Problem> = names
            .filter(|name| name.starts_with("TROUPE_") && !known.contains(&name.as_str()))
            .filter(|name| !TEST_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
            .map(|name| match nearest(name, known.iter().copied()) {
                Some(near) => Problem::of(name, format!("this variable is not known; did you mean {near}?")),
                None => Problem::of(name, "this variable is not known and has no effect"),
            })
            .collect();
        for (name, why) in [
            ("SLACK_APP_TOKEN", "Socket Mode arrives with a later version; events come over HTTP"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "export arrives with a later version; nothing is sent"),
        ] {
            if self.origins(name).next().is_some() {
                warnings.push(Problem::of(name, why));
            }
        }
        warnings.sort();
        warnings.dedup();
        warnings
    }

    /// Every value of a variable with how its origin is shown, weakest first.
    pub(crate) fn origins(&self, name: &str) -> impl DoubleEndedIterator<Item = (String, String)> {
        let shown = [format!("{DOTENV_FILE}: {name}"), name.to_owned(), flag_name(name)];
        let found = [self.dotenv.get(name), self.env.get(name), self.flags.get(name)];
        let set = shown.into_iter().zip(found.map(Option::<&String>::cloned));
        set.filter_map(|(origin, value)| Some((origin, value.filter(|value| !value.is_empty())?)))
    }
}

/// The text of a file that may be absent; anything else that keeps it from being read is a problem.
fn read(path: &Path, shown: &str, problems: &mut Vec<Problem>) -> Option<String> {
    let too_large = fs::metadata(path).is_ok_and(|file| file.len() > SOURCE_BYTES_MAX);
    if too_large {
        problems.push(Problem::of(shown, format!("the file has more than {SOURCE_BYTES_MAX} bytes; shorten it")));
        return None;
    }
    match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            problems.push(Problem::of(shown, format!("cannot read the file: {error}")));
            None
        }
    }
}

/// The machine's name as the kernel or the container says it.
fn host_name() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    kernel.or_else(|| env::var("HOSTNAME").ok()).map(|name| name.trim().to_owned()).unwrap_or_default()
}
