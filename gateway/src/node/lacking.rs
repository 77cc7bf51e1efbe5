//! What a spec lacks before its agent can run: secrets that it names and that have no value, each at the place that names it.
//!
//! Asked by `check`, at the start and by the [upkeep](super::upkeep). A place is looked for in the text, for a spec keeps none;
//! one that is not found is left out.

use std::fs;
use std::path::Path;

use troupe_runtime::config::{Place, Problem, missing_secrets};
use troupe_runtime::domain::agent::AgentSpec;
use troupe_runtime::secret::Secrets;

/// The secrets that an agent cannot run without and that are not set, at the places that name them.
pub(crate) fn lacking(spec: &AgentSpec, path: &Path, secrets: &Secrets) -> Vec<Problem> {
    let names = missing_secrets(spec, &|name| secrets.is_set(name));
    if names.is_empty() {
        return Vec::new();
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    let problem = |name: String| {
        let message = match name.strip_prefix("file:") {
            Some(file) => format!("the secret file {file} cannot be read or is empty; put the secret there"),
            None => format!("{name} is not set; set it in the environment or in .env"),
        };
        let place = place_of(&text, &format!("${{{name}}}"));
        Problem { place, ..Problem::of(path.display().to_string(), message) }
    };
    names.into_iter().map(problem).collect()
}

/// Where `wanted` first stands in `text`, comments left out.
fn place_of(text: &str, wanted: &str) -> Option<Place> {
    (1..).zip(text.lines()).find_map(|(line, content)| {
        let before = content.split_once(wanted)?.0;
        let comment = before.starts_with('#') || before.contains(" #");
        let column = u32::try_from(before.chars().count()).ok()?.saturating_add(1);
        (!comment).then_some(Place { line, column })
    })
}
