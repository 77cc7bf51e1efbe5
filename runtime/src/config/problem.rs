//! What is wrong with a configuration, and where.
//!
//! One [`Problem`] is one line for an operator: `path:line:column: message`. Files are checked to the end before
//! anything is refused, so that nobody mends one key a time. `troupe check`, start-up and hot reload print the same
//! lines; nothing in this file can fail.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// Problems of one file that are listed before the rest is only counted.
pub const PROBLEMS_MAX: usize = 100;

/// A place in a file, both counted from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The character of the line.
    pub column: u32,
}

impl Place {
    /// Where a file begins: the place of whatever is missing from all of it.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file, or the name of the variable or flag.
    pub origin: String,
    /// The place in the file; `None` for variables, flags and files that cannot be read.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// What was expected, what was found, what to do. One line.
    pub message: String,
}

impl Problem {
    /// A problem that has no place inside its origin.
    #[must_use]
    pub fn of(origin: impl Into<String>, message: impl Into<String>) -> Self {
        Self { origin: origin.into(), place: None, message: one_line(&message.into()) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(Place { line, column }) => write!(f, "{}:{line}:{column}: {}", self.origin, self.message),
            None => write!(f, "{}: {}", self.origin, self.message),
        }
    }
}

/// Everything that is wrong with a configuration; never empty when it is an error.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// `value` when nothing is wrong, else everything that is, in the order of the files.
    pub(crate) fn or<T>(mut self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => {
                self.tidy();
                Err(self)
            }
        }
    }

    /// Sorts by place, drops repetitions and cuts the list at [`PROBLEMS_MAX`], saying so.
    pub(crate) fn tidy(&mut self) {
        self.0.sort();
        self.0.dedup();
        if let Some(first_cut) = self.0.get(PROBLEMS_MAX) {
            let (origin, more) = (first_cut.origin.clone(), self.0.len() - PROBLEMS_MAX);
            self.0.truncate(PROBLEMS_MAX);
            self.0.push(Problem::of(origin, format!("{more} more problems are not shown")));
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Where a value came from: a file and a place in it, or a variable or flag.
#[derive(Clone)]
pub(crate) struct At {
    origin: Arc<str>,
    place: Option<Place>,
}

impl At {
    /// A place in a file.
    pub(crate) fn file(path: &Arc<str>, place: Place) -> Self {
        Self { origin: Arc::clone(path), place: Some(place) }
    }

    /// A variable, a flag or a whole file.
    pub(crate) fn named(origin: impl Into<Arc<str>>) -> Self {
        Self { origin: origin.into(), place: None }
    }

    /// A problem of the value that stands here.
    pub(crate) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem { place: self.place, ..Problem::of(&*self.origin, message) }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(Place { line, column }) => write!(f, "{}:{line}:{column}", self.origin),
            None => f.write_str(&self.origin),
        }
    }
}

/// A message is one line whatever it quotes.
fn one_line(message: &str) -> String {
    message.split(['\n', '\r']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_with_its_place() {
        let path: Arc<str> = "config/agents/a.yaml".into();
        let problem = At::file(&path, Place { line: 3, column: 7 }).problem("bad\nthing");
        assert_eq!(problem.to_string(), "config/agents/a.yaml:3:7: bad; thing");
        assert_eq!(At::named("TROUPE_ROLES").problem("bad").to_string(), "TROUPE_ROLES: bad");
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["line"], 3);
        assert_eq!(json["origin"], "config/agents/a.yaml");
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        let flood = Problems((0..PROBLEMS_MAX + 7).map(|n| Problem::of("f", format!("{n:04}"))).collect());
        let cut = flood.or(Some(())).unwrap_err();
        assert_eq!(cut.0.len(), PROBLEMS_MAX + 1);
        assert_eq!(cut.0.last().unwrap().message, "7 more problems are not shown");
    }
}
