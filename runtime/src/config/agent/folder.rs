//! The folder of agent specs, and what must hold between them.
//!
//! Every file is read whatever the others hold. A file that is wrong gives problems and no agent, but its name still
//! counts: a team that names it is right, and the one who reads the problems should see the cause and no echo.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::nearest::nearest;
use super::super::node::Agents;
use super::super::problem::{At, Problem};
use super::Reading;
use super::kept::Kept;
use super::stamp::{Outside, followed, is_spec};
use crate::domain::agent::{AgentName, AgentSpec, ExecutionMode};

/// What a folder gave.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The agents that may run, in the order of their files.
    pub agents: Vec<(Arc<AgentSpec>, PathBuf)>,
    /// Everything that is wrong with the others.
    pub errors: Vec<Problem>,
    /// Files that are there and give no agent.
    pub refused: Vec<PathBuf>,
    /// The folder itself cannot be read: nothing is known of what is in it.
    pub unread: bool,
}

/// Reads `*.yaml` and `*.yml` in `dir`, sorted by name. Never fails as a whole: what is wrong is in `errors`.
///
/// `dir` may be one file (`troupe check FILE`): it is read alone, and whom its team names is not asked.
#[must_use]
pub fn load_agents(dir: &Path, limits: &Agents) -> Loaded {
    load_agents_again(dir, limits, &mut Kept::default())
}

/// The same, of a folder that was read before: a file that is what it was is not read again.
#[must_use]
pub fn load_agents_again(dir: &Path, limits: &Agents, kept: &mut Kept) -> Loaded {
    kept.begin(limits);
    loop {
        match Read::of(dir, limits, kept).map(|read| read.loaded(dir, kept)) {
            Ok((loaded, false)) => return loaded,
            // Told with places in the files, which only reading tells; then none is kept.
            Ok((_, true)) => kept.forget(),
            Err(problem) => return Loaded { errors: vec![problem], unread: true, ..Loaded::default() },
        }
    }
}

/// A folder's files, before they are held against one another.
#[derive(Default)]
struct Read {
    readings: Readings,
    problems: Vec<Problem>,
    refused: Vec<PathBuf>,
    /// Some were not read, for they were read before.
    some_kept: bool,
}

impl Read {
    fn of(dir: &Path, limits: &Agents, kept: &Kept) -> Result<Self, Problem> {
        let mut read = Self::default();
        let mut files = spec_files(dir)?;
        if files.len() > limits.files_max {
            let (there, max) = (files.len(), limits.files_max);
            let message = format!("{there} files, at most {max} are read; agents.files_max sets it");
            read.problems.push(Problem::of(dir.display().to_string(), message));
            read.refused.extend(files.split_off(max).into_iter().map(|(path, _)| path));
        }
        for (path, outside) in files {
            if let Some(spec) = outside.and_then(|outside| kept.get(&path, &outside)) {
                read.some_kept = true;
                read.readings.push((path, outside, Reading::again(spec)));
                continue;
            }
            let shown = path.display().to_string();
            match text_of(&path, limits.file_bytes_max) {
                Ok(text) => read.readings.push((path, outside, Reading::of(&shown, &text, limits))),
                Err(why) => {
                    read.problems.push(Problem::of(shown, why));
                    read.refused.push(path);
                }
            }
        }
        Ok(read)
    }

    /// What it comes to, and is kept; and whether something is wrong between files some of which were not read.
    fn loaded(self, dir: &Path, kept: &mut Kept) -> (Loaded, bool) {
        let Self { mut readings, mut problems, mut refused, some_kept } = self;
        let single = found(&readings);
        refuse_second_names(&mut readings);
        if !dir.is_file() {
            refuse_strangers(&mut readings);
        }
        refuse_circles(&mut readings);
        let between = found(&readings) > single;

        let good = readings.iter().filter_map(|(path, outside, reading)| {
            Some((path.clone(), (*outside)?, reading.spec.as_ref().ok()?.clone()))
        });
        kept.keep(good);
        let mut agents = Vec::new();
        for (path, _, reading) in readings {
            match reading.spec {
                Ok(spec) => agents.push((spec, path)),
                Err(found) => {
                    problems.extend(found);
                    refused.push(path);
                }
            }
        }
        problems.sort();
        problems.dedup();
        (Loaded { agents, errors: problems, refused, unread: false }, between && some_kept)
    }
}

/// How much is wrong with these files.
fn found(readings: &Readings) -> usize {
    readings.iter().map(|(.., reading)| reading.spec.as_ref().err().map_or(0, Vec::len)).sum()
}

impl Loaded {
    /// Takes an agent out whose file cannot be used after all, for these reasons.
    pub fn refuse(&mut self, path: &Path, problems: Vec<Problem>) {
        self.agents.retain(|(_, other)| other != path);
        self.refused.push(path.to_owned());
        self.errors.extend(problems);
    }
}

/// The files of the folder, by name, and how each looks from outside before it is read.
fn spec_files(dir: &Path) -> Result<Vec<(PathBuf, Option<Outside>)>, Problem> {
    if dir.is_file() {
        return Ok(vec![(dir.to_owned(), None)]);
    }
    let entries = fs::read_dir(dir).map_err(|error| {
        let message = format!("cannot read the folder of agents: {error}; create it or set TROUPE_AGENTS_DIR");
        Problem::of(dir.display().to_string(), message)
    })?;
    let mut files: Vec<(PathBuf, Option<Outside>)> = entries
        .filter_map(Result::ok)
        .filter(|entry| is_spec(&entry.file_name()))
        .map(|entry| (entry.path(), followed(&entry).ok().map(|file| Outside::of(&file))))
        .collect();
    // As texts: of one folder, so it is the order of the names; a path is compared part by part.
    files.sort_unstable_by(|(a, _), (b, _)| a.as_os_str().cmp(b.as_os_str()));
    Ok(files)
}

/// The text of a file, or why there is none.
fn text_of(path: &Path, bytes_max: usize) -> Result<String, String> {
    let size = fs::metadata(path).map_err(|error| format!("cannot read the file: {error}"))?;
    if !size.is_file() {
        return Err("this is no file; remove it or give it another ending".to_owned());
    }
    if size.len() > bytes_max as u64 {
        return Err(format!(
            "the file has {} bytes, at most {bytes_max} are read; agents.file_bytes_max sets it",
            size.len()
        ));
    }
    let bytes = fs::read(path).map_err(|error| format!("cannot read the file: {error}"))?;
    String::from_utf8(bytes).map_err(|error| {
        format!("the file is no UTF-8 text (byte {}); save it as UTF-8", error.utf8_error().valid_up_to())
    })
}

type Readings = Vec<(PathBuf, Option<Outside>, Reading)>;

/// Adds a problem to a file, which then gives no agent.
fn refuse(reading: &mut Reading, problem: Problem) {
    match &mut reading.spec {
        Ok(_) => reading.spec = Err(vec![problem]),
        Err(problems) => problems.push(problem),
    }
}

/// A name belongs to the first file that has it.
fn refuse_second_names(readings: &mut Readings) {
    let mut first: HashMap<AgentName, At> = HashMap::new();
    for (.., reading) in readings {
        let Some((name, at)) = reading.name.clone() else { continue };
        match first.get(&name) {
            None => drop(first.insert(name, at)),
            Some(taken) => {
                let message = format!("name: {:?} is taken by {taken}; give one of them another name", name.as_str());
                refuse(reading, at.problem(message));
            }
        }
    }
}

/// A team names agents of this folder.
fn refuse_strangers(readings: &mut Readings) {
    let mut known: BTreeSet<String> = BTreeSet::new();
    for (path, _, reading) in readings.iter() {
        // A file whose name cannot be read is most likely named after its agent.
        let stem = || path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        known.extend(reading.name.as_ref().map(|(name, _)| name.to_string()).or_else(stem));
    }
    for (.., reading) in readings {
        for (member, at) in reading.team.clone() {
            if known.contains(member.as_str()) {
                continue;
            }
            let hint = nearest(member.as_str(), known.iter().map(String::as_str))
                .map_or_else(|| "add its file or remove it".to_owned(), |near| format!("did you mean {near:?}?"));
            refuse(reading, at.problem(format!("team: no agent is named {:?}; {hint}", member.as_str())));
        }
    }
}

/// A lead may lead leads, but never itself through others: such a plan would have no end.
fn refuse_circles(readings: &mut Readings) {
    let teams: BTreeMap<AgentName, Vec<AgentName>> = readings
        .iter()
        .filter_map(|(.., reading)| reading.spec.as_ref().ok())
        .filter(|spec| spec.runs_as == ExecutionMode::Collaborative)
        .map(|spec| (spec.name.clone(), spec.team.clone()))
        .collect();
    for (.., reading) in readings {
        let Ok(spec) = &reading.spec else { continue };
        if !teams.contains_key(&spec.name) {
            continue;
        }
        let lead = spec.name.clone();
        for (member, at) in reading.team.clone() {
            if leads_to(&member, &lead, &teams) {
                let message =
                    format!("team: {member} leads back to {lead}; a plan would have no end, remove one of the two");
                refuse(reading, at.problem(message));
            }
        }
    }
}

/// Whether `from` is `to` or leads it, through any number of leads.
fn leads_to(from: &AgentName, to: &AgentName, teams: &BTreeMap<AgentName, Vec<AgentName>>) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(name) = open.pop() {
        if name == to {
            return true;
        }
        if seen.insert(name) {
            open.extend(teams.get(name).into_iter().flatten());
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "type: t\nexecution_mode: autonomous\nllm_config: {provider: scripted, script: [{reply: r}]}\n";

    /// Loads a folder of these files; the problems without the folder's own path.
    fn load(files: &[(&str, &[u8])]) -> (Vec<String>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        let loaded = load_agents(dir.path(), &Agents { file_bytes_max: 2000, files_max: 6, ..Agents::default() });
        let path = format!("{}/", dir.path().display());
        let names = loaded.agents.iter().map(|(spec, _)| spec.name.to_string()).collect();
        (names, loaded.errors.iter().map(|problem| problem.to_string().replace(&path, "")).collect())
    }

    fn agent(name: &str, extra: &str) -> Vec<u8> {
        format!("name: {name}\n{BODY}{extra}").into_bytes()
    }

    fn lead(name: &str, team: &str) -> Vec<u8> {
        let text = format!("name: {name}\n{BODY}team: {team}\n");
        text.replace("autonomous", "collaborative").into_bytes()
    }

    #[test]
    fn one_bad_file_never_stops_the_others() {
        let big = agent("big", &"#".repeat(2000));
        let (names, errors) = load(&[
            ("b.yml", &agent("b", "")),
            ("a.yaml", &agent("a", "")),
            ("bad.yaml", b"name: [\n"),
            ("big.yaml", &big),
            ("latin.yaml", b"name: \xe4\n"),
            (".hidden.yaml", b"x"),
            ("notes.txt", b"x"),
        ]);
        assert_eq!(names, ["a", "b"]);
        assert_eq!(errors.len(), 3, "{errors:#?}");
        assert!(errors[0].starts_with("bad.yaml:1:7: this is no YAML: unclosed"), "{errors:#?}");
        assert!(errors[1].starts_with("big.yaml: the file has 2100 bytes, at most 2000"), "{errors:#?}");
        assert!(errors[2].starts_with("latin.yaml: the file is no UTF-8 text (byte 6)"), "{errors:#?}");
    }

    #[test]
    fn a_name_belongs_to_the_first_file() {
        let (names, errors) = load(&[("a.yaml", &agent("twin", "")), ("b.yaml", &agent("twin", ""))]);
        assert_eq!(names, ["twin"]);
        assert_eq!(errors, ["b.yaml:1:7: name: \"twin\" is taken by a.yaml:1:7; give one of them another name"]);
    }

    #[test]
    fn a_team_names_agents_of_the_folder() {
        let (names, errors) = load(&[
            ("lead.yaml", &lead("lead", "[writer, broken, wirter]")),
            ("writer.yaml", &agent("writer", "")),
            ("broken.yaml", b"name: broken\n"),
        ]);
        assert_eq!(names, ["writer"]);
        let of_lead: Vec<_> = errors.iter().filter(|error| error.starts_with("lead")).collect();
        assert_eq!(of_lead, ["lead.yaml:5:24: team: no agent is named \"wirter\"; did you mean \"writer\"?"]);
    }

    #[test]
    fn one_file_is_read_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lead.spec");
        fs::write(&path, lead("lead", "[somebody]")).unwrap();
        let loaded = load_agents(&path, &Agents::default());
        assert_eq!((loaded.agents.len(), loaded.errors), (1, vec![]));
        assert_eq!(loaded.agents[0].1, path);
    }

    #[test]
    fn leads_may_not_lead_in_a_circle() {
        let (names, errors) = load(&[
            ("a.yaml", &lead("a", "[b]")),
            ("b.yaml", &lead("b", "[w, c]")),
            ("c.yaml", &lead("c", "[a]")),
            ("d.yaml", &lead("d", "[w, a]")),
            ("w.yaml", &agent("w", "team: [w]\n")),
        ]);
        assert_eq!(names, ["d", "w"]);
        assert_eq!(errors.len(), 3, "{errors:#?}");
        assert!(errors[1].starts_with("b.yaml:5:11: team: c leads back to b"), "{errors:#?}");
    }

    #[test]
    fn a_folder_that_is_not_there_or_too_full_is_one_problem() {
        let loaded = load_agents(Path::new("no/such/folder"), &Agents::default());
        assert!(loaded.agents.is_empty());
        assert!(loaded.errors[0].message.contains("set TROUPE_AGENTS_DIR"), "{:?}", loaded.errors);

        let files: Vec<(String, Vec<u8>)> =
            (0..8).map(|n| (format!("{n}.yaml"), agent(&format!("a{n}"), ""))).collect();
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (name.as_str(), text.as_slice())).collect();
        let (names, errors) = load(&files);
        assert_eq!(names.len(), 6);
        assert!(errors[0].contains("8 files, at most 6 are read"), "{errors:?}");
    }
}
