//! What people read: an answer as Slack's mrkdwn.
//!
//! Whatever a model wrote is data: `&`, `<` and `>` are escaped, so that it cannot make links, mentions or broadcasts of
//! its own, and a bare `@channel` is broken up in case a workspace links names. A failed task gets a short honest line;
//! its details are in the task, which the line names.

use troupe_runtime::domain::answer::Answered;
use troupe_runtime::domain::outcome::{Outcome, Reason};

/// Mentions that reach everybody.
const BROADCASTS: [&str; 3] = ["channel", "everyone", "here"];
/// Breaks a word up without showing.
const ZERO_WIDTH_SPACE: char = '\u{200b}';

/// The message for an answer, at most about `chars_max` characters and a note on what was cut.
pub(super) fn message(answer: &Answered, chars_max: usize) -> String {
    let task = answer.task_id;
    match &answer.outcome {
        Outcome::Succeeded { output } if output.trim().is_empty() => format!("The answer is empty (task {task})."),
        Outcome::Succeeded { output } => match mrkdwn(output, chars_max) {
            (text, 0) => text,
            (text, left) => format!("{text}\n… {left} more characters did not fit; all of it is in task {task}."),
        },
        Outcome::Failed { failure } => format!("I could not finish this: {} (task {task}).", phrase(failure.reason)),
        Outcome::Cancelled { .. } => format!("This was called off (task {task})."),
    }
}

const fn phrase(reason: Reason) -> &'static str {
    match reason {
        Reason::Model => "no model answered",
        Reason::Timeout => "it took longer than it may",
        Reason::Stalled => "a call it made did not get on, in every attempt",
        Reason::Turns => "it needed more turns than it may take",
        Reason::Tokens => "it needed more tokens than it may use",
        Reason::Cost => "it would cost more than it may",
        Reason::Crash => "it crashed, and so did every further attempt",
        Reason::CrashLoop => "it crashed the node again and again",
        Reason::Blocked => "it no longer fits what it did before, and a person must look",
        Reason::TooLarge => "an answer on the way was larger than I can keep",
        Reason::Refused => "the model refused to answer",
        Reason::Agent => "the agent is not there any more",
    }
}

/// Escaped text of at most `chars_max` characters, never cut within an escape, and how many characters were left over.
fn mrkdwn(text: &str, chars_max: usize) -> (String, usize) {
    let mut out = String::with_capacity(text.len().min(chars_max * 4));
    let mut room = chars_max;
    let mut before = ' ';
    for (at, char) in text.char_indices() {
        let mut one = [0; 4];
        let broken = ['@', ZERO_WIDTH_SPACE].iter().collect::<String>();
        let piece = match char {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '@' if !before.is_alphanumeric() && is_broadcast(&text[at + 1..]) => &broken,
            other => other.encode_utf8(&mut one),
        };
        let chars = piece.chars().count();
        if chars > room {
            return (out, text[at..].chars().count());
        }
        room -= chars;
        out.push_str(piece);
        before = char;
    }
    (out, 0)
}

fn is_broadcast(rest: &str) -> bool {
    let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
    BROADCASTS.iter().any(|word| rest[..end].eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_cannot_mention_link_or_broadcast() {
        let (text, _) = mrkdwn("<!channel> & <https://x|y> @Here! mail@here.com @channels", 1_000);
        assert_eq!(text, "&lt;!channel&gt; &amp; &lt;https://x|y&gt; @\u{200b}Here! mail@here.com @channels");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(mrkdwn("aü<b", 6), ("aü&lt;".to_owned(), 1));
        assert_eq!(mrkdwn("aü<b", 5), ("aü".to_owned(), 2));
        assert_eq!(mrkdwn("", 0), (String::new(), 0));
        let (text, left) = mrkdwn(&"&".repeat(10_000), 39_000);
        assert_eq!((text.len(), left), (39_000, 2_200));
    }
}
