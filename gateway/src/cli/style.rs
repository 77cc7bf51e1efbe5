//! Colours, for people at a terminal only.
//!
//! Whether there are any is decided once per stream: it is a terminal, `NO_COLOR` is unset or empty, `--no-color` was not
//! given, and the terminal is not `dumb`. Colour never carries what words do not say.

use std::env;

/// Whether a stream takes colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    coloured: bool,
}

/// What a colour means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// It is well.
    Good,
    /// It is under way, or somebody should look.
    Notice,
    /// It went wrong.
    Bad,
    /// It is the heart of the line.
    Strong,
    /// It is beside the point.
    Faint,
}

impl Style {
    /// No colours.
    pub const PLAIN: Self = Self { coloured: false };
    /// Colours.
    pub const COLOURED: Self = Self { coloured: true };

    /// Colours when the stream is a terminal and nobody objects.
    #[must_use]
    pub fn detect(terminal: bool, refused: bool) -> Self {
        let said = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { coloured: terminal && !refused && !said("NO_COLOR") && !dumb }
    }

    /// `text` in the colour of `paint`.
    #[must_use]
    pub fn paint(self, paint: Paint, text: &str) -> String {
        if !self.coloured || text.is_empty() {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Good => "32",
            Paint::Notice => "33",
            Paint::Bad => "31",
            Paint::Strong => "1",
            Paint::Faint => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// `word`, a status of a task, an agent or an actor, in the colour that it deserves.
    #[must_use]
    pub fn status(self, word: &str) -> String {
        let paint = match word {
            "succeeded" | "ready" | "running" | "complete" | "ok" => Paint::Good,
            "failed" | "unavailable" | "blocked" | "unhealthy" => Paint::Bad,
            "stopped" | "retired" | "cancelled" => Paint::Faint,
            _ => Paint::Notice,
        };
        self.paint(paint, word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gets_plain_text() {
        assert_eq!(Style::detect(false, false), Style::PLAIN);
        assert_eq!(Style::detect(true, true), Style::PLAIN);
        assert_eq!(Style::PLAIN.status("failed"), "failed");
    }

    #[test]
    fn a_colour_ends_where_its_text_ends() {
        assert_eq!(Style::COLOURED.status("failed"), "\u{1b}[31mfailed\u{1b}[0m");
        assert_eq!(Style::COLOURED.paint(Paint::Bad, ""), "");
    }
}
