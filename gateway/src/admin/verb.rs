//! Paths that end in a verb, `/v1/agents/researcher:restart`: the router knows only whole segments, so they are split
//! here, for every thing that has verbs. An unknown verb is a 404 that names those there are.

use super::problem::Problem;

/// The thing and what shall be done to it: the verb stands after the last colon, for names and paths may hold others.
pub(super) fn split<'path>(segment: &'path str, verbs: &[&str]) -> Result<(&'path str, &'path str), Problem> {
    let offered = || verbs.iter().map(|verb| format!(":{verb}")).collect::<Vec<_>>().join(", ");
    match segment.rsplit_once(':') {
        Some((thing, verb)) if verbs.contains(&verb) && !thing.is_empty() => Ok((thing, verb)),
        Some((thing, verb)) if !thing.is_empty() && !verb.is_empty() => {
            Err(Problem::not_found(format!("there is no verb {:?} here; there is {}", clipped(verb), offered())))
        }
        _ => Err(Problem::not_found(format!("a POST to {:?} needs a verb: {}", clipped(segment), offered()))),
    }
}

/// What somebody sent, short enough to be repeated to them.
pub(super) fn clipped(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verb_stands_after_the_last_colon() {
        let verbs = ["kill", "restart"];
        assert_eq!(split("researcher:restart", &verbs), Ok(("researcher", "restart")));
        assert_eq!(split("root/support/C42:1700:kill", &verbs), Ok(("root/support/C42:1700", "kill")));
    }

    #[test]
    fn what_is_no_verb_is_answered_with_those_there_are() {
        for bad in ["researcher", "researcher:", ":restart", "researcher:dance", ""] {
            let problem = format!("{:?}", split(bad, &["restart"]).unwrap_err());
            assert!(problem.contains(":restart"), "{bad}: {problem}");
        }
    }
}
