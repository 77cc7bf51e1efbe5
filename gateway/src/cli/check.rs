//! `troupe check`: everything that is wrong with agent specs and the node's configuration, before anything runs.
//!
//! Without a path it checks what `up` would read. A path may be a spec, a folder of specs, a node file (`node*.yaml`), or
//! a folder that holds `agents/` and perhaps `node.yaml`. Problems are the data of this command: they go to stdout, one a
//! line, `path:line:column: message`; the count goes to stderr.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use troupe_runtime::config::{Agents, Loaded, NodeConfig, Problem, Problems, Sources, load_agents};
use troupe_runtime::domain::agent::AgentSpec;
use troupe_runtime::secret::Secrets;

use super::exit::Exit;
use super::printer::{Format, Printer};
use super::{Error, counted};
use crate::node::lacking::lacking;

/// Bytes of a node file that are read.
const NODE_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What to check.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Specs, folders of specs, or a node file; what `up` would read when there is none
    paths: Vec<PathBuf>,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct Found {
    /// Agents that are well, with their files.
    pub agents: Vec<(Arc<AgentSpec>, PathBuf)>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// Node files that are well.
    pub nodes: usize,
}

/// Checks, prints, and ends with 3 when something is wrong.
pub fn run(args: &CheckArgs, printer: &mut Printer) -> Result<Exit, Error> {
    // A broken `.env` is a problem among others, not the end of the check.
    let sources = match Sources::from_process(BTreeMap::new()) {
        Ok(sources) => sources,
        Err(problems) => {
            return show(Found { problems: problems.0, ..Found::default() }, printer);
        }
    };
    for warning in sources.warnings() {
        printer.note(&format!("warning: {warning}"));
    }
    show(check(&args.paths, &sources), printer)
}

/// Checks `paths`, or what a node with these sources would read.
#[must_use]
pub fn check(paths: &[PathBuf], sources: &Sources) -> Found {
    let mut found = Found::default();
    let secrets = sources.secrets();
    let limits = match NodeConfig::load(sources, &secrets) {
        Ok(config) => {
            if paths.is_empty() {
                found.nodes += 1;
                found.take(load_agents(&config.agents.dir, &config.agents));
            }
            config.agents
        }
        Err(Problems(problems)) => {
            if paths.is_empty() {
                found.problems.extend(problems);
                found.take(load_agents(&agents_dir(&secrets), &Agents::default()));
            }
            Agents::default()
        }
    };
    for path in paths {
        found.path(path, sources, &limits);
    }
    found.secrets(&secrets);
    found.problems.sort();
    found.problems.dedup();
    found
}

impl Found {
    fn path(&mut self, path: &Path, sources: &Sources, limits: &Agents) {
        if path.is_dir() {
            let agents = path.join("agents");
            if !agents.is_dir() {
                return self.take(load_agents(path, limits));
            }
            let node = path.join("node.yaml");
            if node.is_file() {
                self.node(&node, sources);
            }
            self.take(load_agents(&agents, limits));
        } else if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("node")) {
            self.node(path, sources);
        } else {
            self.take(load_agents(path, limits));
        }
    }

    /// A node file, read as if `TROUPE_CONFIG` named it.
    fn node(&mut self, path: &Path, sources: &Sources) {
        let shown = path.display().to_string();
        let text = match read(path) {
            Ok(text) => text,
            Err(why) => return self.problems.push(Problem::of(shown, why)),
        };
        let sources = Sources { file: Some((shown, text)), ..sources.clone() };
        match NodeConfig::load(&sources, &sources.secrets()) {
            Ok(_) => self.nodes += 1,
            Err(Problems(problems)) => self.problems.extend(problems),
        }
    }

    fn take(&mut self, loaded: Loaded) {
        self.agents.extend(loaded.agents);
        self.problems.extend(loaded.errors);
    }

    /// Takes out the agents that cannot run for want of a secret, naming each where it is used.
    fn secrets(&mut self, secrets: &Secrets) {
        let problems = &mut self.problems;
        self.agents.retain(|(spec, path)| {
            let missing = lacking(spec, path, secrets);
            let well = missing.is_empty();
            problems.extend(missing);
            well
        });
    }
}

/// Where the specs are, when the rest of the configuration cannot be read.
fn agents_dir(variables: &Secrets) -> PathBuf {
    variables.setting("TROUPE_AGENTS_DIR").map_or_else(|| Agents::default().dir, PathBuf::from)
}

/// A node file within the bound that a node reads it in.
fn read(path: &Path) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|error| format!("cannot read the file: {error}"))?.len();
    if size > NODE_FILE_BYTES_MAX {
        return Err(format!("the file has {size} bytes, at most {NODE_FILE_BYTES_MAX} are read"));
    }
    fs::read_to_string(path).map_err(|error| format!("cannot read the file: {error}"))
}

fn show(found: Found, printer: &mut Printer) -> Result<Exit, Error> {
    let Found { agents, problems, nodes } = found;
    match printer.format() {
        Format::Json | Format::Yaml => {
            let names: Vec<&str> = agents.iter().map(|(spec, _)| spec.name.as_str()).collect();
            printer.document(&json!({"agents": names, "problems": problems}))?;
        }
        Format::Name => {
            let mut origins: Vec<&str> = problems.iter().map(|problem| problem.origin.as_str()).collect();
            origins.dedup();
            origins.into_iter().try_for_each(|origin| printer.line(origin))?;
        }
        Format::Table | Format::Wide => problems.iter().try_for_each(|problem| printer.line(&problem.to_string()))?,
    }
    let mut well = counted(agents.len(), "agent ok", "agents ok");
    if nodes > 0 {
        well.push_str(", node configuration ok");
    }
    if problems.is_empty() {
        printer.note(&well);
        return Ok(Exit::Ok);
    }
    printer.note(&format!("{}, {well}", counted(problems.len(), "problem", "problems")));
    Ok(Exit::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::printer::tests::captured;

    const GOOD: &str = "name: guide\ntype: assistant\nexecution_mode: autonomous\nllm_config:\n  provider: scripted\n  script: [{reply: hello}]\n";
    const NEEDY: &str = "name: needy\ntype: assistant\nexecution_mode: autonomous\n# api_key: ${OPENAI_API_KEY}\nllm_config:\n  provider: openai\n  model: m\n  api_key: ${OPENAI_API_KEY}\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn checked(dir: &tempfile::TempDir, path: &str) -> Found {
        check(&[dir.path().join(path)], &Sources::default())
    }

    #[test]
    fn a_good_folder_is_counted() {
        let dir = folder(&[("guide.yaml", GOOD), ("notes.txt", "x")]);
        let (mut printer, out, err) = captured(Format::Table);
        assert_eq!(show(checked(&dir, "."), &mut printer).unwrap(), Exit::Ok);
        assert_eq!((out.text().as_str(), err.text().as_str()), ("", "1 agent ok\n"));
    }

    #[test]
    fn problems_are_lines_with_their_places_and_the_others_still_count() {
        let dir =
            folder(&[("guide.yaml", GOOD), ("bad.yaml", "name: bad\ntype: 7\nexecution_mode: lazy\nllm_config: {}\n")]);
        let (mut printer, out, err) = captured(Format::Table);
        assert_eq!(show(checked(&dir, "."), &mut printer).unwrap(), Exit::NotFound);
        let text = out.text();
        assert!(text.lines().count() >= 2, "{text}");
        assert!(text.lines().any(|line| line.contains("bad.yaml:3:17: ")), "{text}");
        assert!(err.text().ends_with(", 1 agent ok\n"), "{}", err.text());
    }

    #[test]
    fn a_missing_secret_is_named_where_it_is_used() {
        let dir = folder(&[("needy.yaml", NEEDY)]);
        let found = checked(&dir, "needy.yaml");
        let path = dir.path().join("needy.yaml");
        let expected =
            format!("{}:8:12: OPENAI_API_KEY is not set; set it in the environment or in .env", path.display());
        assert_eq!(found.problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
        assert!(found.agents.is_empty());
        let env = [("OPENAI_API_KEY".to_owned(), "k".to_owned())].into();
        let found = check(&[path], &Sources { env, ..Sources::default() });
        assert_eq!((found.agents.len(), found.problems.len()), (1, 0));
    }

    #[test]
    fn a_secret_file_is_a_secret_like_any_other() {
        let dir = folder(&[]);
        let key = dir.path().join("key");
        let spec = NEEDY.replace("  api_key: ${OPENAI_API_KEY}", &format!("  api_key: ${{file:{}}}", key.display()));
        fs::write(dir.path().join("needy.yaml"), spec).unwrap();
        let told = checked(&dir, "needy.yaml").problems.remove(0).to_string();
        assert!(told.contains("needy.yaml:8:12: the secret file") && told.contains("put the secret there"), "{told}");
        fs::write(&key, "k").unwrap();
        assert_eq!(checked(&dir, "needy.yaml").problems, []);
    }

    #[test]
    fn a_configuration_folder_is_checked_whole() {
        let dir = folder(&[("agents/guide.yaml", GOOD), ("node.yaml", "http: {addr: nowhere}\n")]);
        let found = checked(&dir, ".");
        assert_eq!((found.agents.len(), found.nodes), (1, 0));
        assert!(found.problems[0].to_string().contains("node.yaml:1:14: "), "{:?}", found.problems);
        fs::write(dir.path().join("node.yaml"), "http: {addr: \"127.0.0.1:0\"}\n").unwrap();
        let found = checked(&dir, "node.yaml");
        assert_eq!((found.problems.len(), found.nodes), (0, 1));
    }

    #[test]
    fn what_is_not_there_is_a_problem() {
        let dir = folder(&[]);
        for path in ["nothing.yaml", "node.yaml"] {
            assert_eq!(checked(&dir, path).problems.len(), 1, "{path}");
        }
    }

    #[test]
    fn programs_get_the_places_as_numbers() {
        let dir = folder(&[("needy.yaml", NEEDY)]);
        let (mut printer, out, _) = captured(Format::Json);
        show(checked(&dir, "."), &mut printer).unwrap();
        let value: serde_json::Value = serde_json::from_str(&out.text()).unwrap();
        assert_eq!(value["problems"][0]["line"], 8);
        assert_eq!(value["agents"], json!([]));
    }
}
