//! One thing on a sheet: labels on the left, values beside them, tables below.
//!
//! Rows without a value are left out, so a sheet tells what there is and not what there could be.

use std::fmt::Write as _;

use super::style::{Paint, Style};

/// Width of the label column, the blanks behind it included.
const LABEL_WIDTH: usize = 16;

/// A sheet under way.
#[derive(Debug)]
pub struct Sheet {
    style: Style,
    text: String,
}

impl Sheet {
    /// An empty sheet.
    #[must_use]
    pub const fn new(style: Style) -> Self {
        Self { style, text: String::new() }
    }

    /// A row; further lines of the value stand under its first.
    #[must_use]
    pub fn row(mut self, label: &str, value: &str) -> Self {
        for (number, line) in value.trim_end().lines().enumerate() {
            let label = if number == 0 { format!("{label}:") } else { String::new() };
            let label = self.style.paint(Paint::Faint, &format!("{label:LABEL_WIDTH$}"));
            self.text.push_str(format!("{label}{}", safe(line)).trim_end());
            self.text.push('\n');
        }
        self
    }

    /// A row whose value is a status, with what is to be said of it.
    #[must_use]
    pub fn status(self, label: &str, word: &str, more: &str) -> Self {
        if word.is_empty() {
            return self;
        }
        let value = format!("{} {more}", self.style.status(word));
        let label = self.style.paint(Paint::Faint, &format!("{:LABEL_WIDTH$}", format!("{label}:")));
        Self { text: format!("{}{label}{}\n", self.text, value.trim_end()), ..self }
    }

    /// A part with a head of its own, below a blank line; nothing when the text is empty.
    #[must_use]
    pub fn part(mut self, head: &str, text: &str) -> Self {
        if !text.is_empty() {
            let head = self.style.paint(Paint::Strong, head);
            let text: Vec<String> =
                text.trim_end().lines().map(|line| format!("  {}", safe(line)).trim_end().to_owned()).collect();
            // Writing to a String cannot fail.
            let _ = write!(self.text, "\n{head}\n{}\n", text.join("\n"));
        }
        self
    }

    /// The text.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }
}

/// Text that a model, a person or a server wrote, without what a terminal would obey.
#[must_use]
pub fn safe(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_in_a_column_and_empty_values_are_left_out() {
        let sheet = Sheet::new(Style::PLAIN)
            .row("Name", "researcher")
            .row("Reason", "")
            .row("Answer", "first\nsecond")
            .status("Status", "ready", "for 12s")
            .status("State", "", "x")
            .part("Steps", "A  B\n1  2")
            .part("Nothing", "")
            .finish();
        let expected = "Name:           researcher\nAnswer:         first\n                second\nStatus:         ready for 12s\n\nSteps\n  A  B\n  1  2\n";
        assert_eq!(sheet, expected);
    }

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        let sheet = Sheet::new(Style::PLAIN).row("Answer", "\u{1b}]0;title\u{7}x").part("P", "\u{1b}[2Jy").finish();
        assert!(!sheet.contains('\u{1b}') && !sheet.contains('\u{7}'), "{sheet:?}");
    }
}
