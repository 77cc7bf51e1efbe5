//! What the demo tells: the answer, the timeline, the live tree, the count of model calls, and what to try next.
//!
//! Pure: from the facts to a text or to JSON. Every line is backed by a record (the journal, the tree, a metric), none by
//! the script of the demo.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::Trouble;
use super::performance::time;
use super::role::{COMMAND, NAME, QUESTION};
use crate::cli::age;
use crate::cli::runs::what;
use crate::cli::style::{Paint, Style};
use crate::cli::table::{at, one_line, plain, text_at};
use crate::cli::{counted, tree};

/// What the timeline calls the act of violence.
pub(super) const KILLED: &str = "the agent is KILLED";

/// Width of the prose.
const WIDTH: usize = 92;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) at: DateTime<Utc>,
    what: String,
    more: String,
}

/// Everything that happened.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) voice: String,
    pub(super) start: DateTime<Utc>,
    pub(super) took: Duration,
    pub(super) task: String,
    pub(super) status: String,
    pub(super) instance: String,
    pub(super) restarts: u64,
    pub(super) calls: u64,
    pub(super) turns: u64,
    pub(super) reply: String,
    pub(super) tree: Vec<Value>,
    /// When the tree was looked at.
    pub(super) seen: DateTime<Utc>,
    pub(super) moments: Vec<Moment>,
}

impl Moment {
    pub(super) fn new(at: DateTime<Utc>, what: &str, more: &str) -> Self {
        Self { at, what: what.to_owned(), more: more.to_owned() }
    }

    /// A moment whose time the API wrote.
    pub(super) fn at(at: &str, what: &str, more: &str) -> Option<Self> {
        time(at).map(|at| Self::new(at, what, more))
    }

    /// What is on record.
    pub(super) fn of_journal(journal: &[Value]) -> Vec<Self> {
        let mut turn = 0;
        let mut moments = Vec::new();
        for entry in journal {
            let kind = text_at(entry, "kind");
            turn += u32::from(kind == "model_result");
            let name = match kind {
                "model_result" => format!("turn {turn} is on record"),
                "tool_result" => "the tool answers".to_owned(),
                other => other.replace('_', " "),
            };
            moments.extend(Self::at(text_at(entry, "at"), &name, &one_line(&what(entry), 60)));
        }
        moments
    }

    /// What the tree knows: when the agent was started again, and when its step was.
    pub(super) fn of_tree(tree: &[Value], instance: &str) -> Vec<Self> {
        let inside = format!("{instance}/");
        let moment = |actor: &Value| {
            let path = text_at(actor, "path");
            if path == instance {
                let count = at(actor, "restarts").map(plain).unwrap_or_default();
                Self::at(text_at(actor, "since"), "its pool starts it again", &format!("restart {count}"))
            } else if path.starts_with(&inside) {
                let doing = format!("from the journal: {}", text_at(actor, "step"));
                Self::at(text_at(actor, "since"), "its step goes on", &doing)
            } else {
                None
            }
        };
        tree.iter().filter_map(moment).collect()
    }
}

impl Facts {
    /// Whether the promise was kept.
    pub(super) const fn verdict(&self) -> Result<(), Trouble> {
        if self.calls != self.turns || self.turns == 0 {
            return Err(Trouble::Repeated { calls: self.calls, turns: self.turns });
        }
        if self.restarts != 1 {
            return Err(Trouble::Restarts(self.restarts));
        }
        Ok(())
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let moment = |moment: &Moment| json!({"at_ms": millis(self.start, moment.at), "what": moment.what, "detail": moment.more});
        json!({
            "model": self.voice, "task": self.task, "status": self.status, "reply": self.reply, "agent": NAME,
            "killed": self.instance, "restarts": self.restarts, "model_calls": self.calls, "turns": self.turns,
            "took_ms": self.took.as_millis() as u64, "timeline": self.moments.iter().map(moment).collect::<Vec<_>>(),
            "tree": self.tree,
        })
    }
}

/// The whole story.
pub(super) fn tell(facts: &Facts, style: Style) -> String {
    let head = |text: &str| style.paint(Paint::Strong, text);
    let mut story = vec![
        head("An agent is killed in the middle of its work, and nobody in the audience notices"),
        String::new(),
        indented("you", &format!("{COMMAND} {QUESTION}")),
        indented(NAME, &facts.reply),
        String::new(),
        head("What happened"),
        timeline(facts, style),
        String::new(),
        head("The live tree, right after the restart"),
    ];
    story.extend(tree::draw(&facts.tree, style, facts.seen).lines().map(|line| format!("  {line}")));
    story.extend([String::new(), head("What it cost")]);
    let proof = if facts.verdict().is_ok() {
        let calls = style.paint(
            Paint::Good,
            &format!(
                "{}, {}",
                counted(facts.calls as usize, "model call", "model calls"),
                counted(facts.turns as usize, "turn", "turns")
            ),
        );
        format!(
            "  {calls}: none was made twice, none was lost. {} restart, {} in all.",
            facts.restarts,
            age::exact(facts.took)
        )
    } else {
        let calls = format!("{} model calls for {} turns, {} restarts", facts.calls, facts.turns, facts.restarts);
        format!("  {}", style.paint(Paint::Bad, &calls))
    };
    story.push(proof);
    story.extend([String::new(), head("What to try next")]);
    let next = [
        ("troupe up", "a node that stays: Slack on :8080, the API on http://127.0.0.1:8081"),
        ("troupe ask example-autonomous \"what time is it?\" --wait", "one of the agents in config/agents"),
        ("troupe actors tree", "the tree of the running node; `troupe actors kill PATH` is the kill switch"),
        ("troupe demo --live", "the same with a real model: set ANTHROPIC_API_KEY or OPENAI_API_KEY"),
    ];
    let width = next.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    story.extend(next.iter().map(|(command, why)| format!("  {command:width$}  {}", style.paint(Paint::Faint, why))));
    story.join("\n")
}

fn timeline(facts: &Facts, style: Style) -> String {
    let width = facts.moments.iter().map(|moment| moment.what.chars().count()).max().unwrap_or(0);
    let line = |moment: &Moment| {
        let paint = if moment.what == KILLED { Paint::Bad } else { Paint::Strong };
        let at = format!("{:>6} ms", format!("+{}", millis(facts.start, moment.at)));
        let what = format!("{:width$}", moment.what);
        format!("  {}  {}  {}", style.paint(Paint::Faint, &at), style.paint(paint, &what), moment.more)
    };
    facts.moments.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn millis(start: DateTime<Utc>, at: DateTime<Utc>) -> i64 {
    (at - start).num_milliseconds().max(0)
}

/// Who speaks and what they say, the lines below one another.
fn indented(who: &str, says: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in says.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    let mark = |number: usize| if number == 0 { who } else { "" };
    lines.iter().enumerate().map(|(number, line)| format!("  {:8}{line}", mark(number))).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let start: DateTime<Utc> = time("2026-01-01T00:00:00Z").unwrap_or_default();
        let instance = "root/orchestrator/autonomous/guide/0";
        let journal = [
            json!({"kind": "model_result", "at": "2026-01-01T00:00:00.200Z", "completion": {"text": "", "tool_calls": [{"name": "wait", "arguments": {"seconds": 1}}]}}),
            json!({"kind": "tool_result", "at": "2026-01-01T00:00:01.900Z", "tool": "wait", "content": "waited 1.2s"}),
            json!({"kind": "model_result", "at": "2026-01-01T00:00:02Z", "completion": {"text": "All is well."}}),
        ];
        let tree = vec![
            json!({"path": instance, "kind": "agent", "state": "running", "since": "2026-01-01T00:00:00.700Z", "restarts": 1}),
            json!({"path": format!("{instance}/018f"), "kind": "step", "state": "running", "since": "2026-01-01T00:00:00.710Z", "restarts": 0, "step": "attempt 1, turn 1: calls a tool"}),
        ];
        let mut moments = Moment::of_journal(&journal);
        moments.extend(Moment::of_tree(&tree, instance));
        moments.push(Moment::new(
            start + Duration::from_millis(250),
            KILLED,
            &format!("{instance}, while its tool runs"),
        ));
        moments.sort_by_key(|moment| moment.at);
        Facts {
            voice: "a scripted model".into(),
            start,
            took: Duration::from_millis(2_010),
            task: "018f".into(),
            status: "succeeded".into(),
            instance: instance.into(),
            restarts: 1,
            calls: 2,
            turns: 2,
            reply: "All is well.".into(),
            tree,
            seen: start,
            moments,
        }
    }

    #[test]
    fn the_story_is_in_order_and_ends_with_what_to_try() {
        let story = tell(&facts(), Style::PLAIN);
        let place = |text: &str| story.find(text).unwrap_or_else(|| panic!("{text} is missing in\n{story}"));
        let order = [
            "guide   All is well.",
            "+200 ms  turn 1 is on record       → wait({\"seconds\":1})",
            "+250 ms  the agent is KILLED       root/orchestrator/autonomous/guide/0, while its tool runs",
            "+700 ms  its pool starts it again  restart 1",
            "+710 ms  its step goes on          from the journal: attempt 1, turn 1: calls a tool",
            "+1900 ms  the tool answers          wait: waited 1.2s",
            "+2000 ms  turn 2 is on record       All is well.",
            "└─ 018f",
            "2 model calls, 2 turns: none was made twice, none was lost. 1 restart, 2.0 s in all.",
            "troupe up",
        ];
        let places: Vec<usize> = order.into_iter().map(place).collect();
        assert!(places.is_sorted(), "{places:?}\n{story}");
    }

    #[test]
    fn a_repeated_call_is_told_and_fails() {
        let facts = Facts { calls: 3, ..facts() };
        assert!(matches!(facts.verdict(), Err(Trouble::Repeated { calls: 3, turns: 2 })));
        let story = tell(&facts, Style::PLAIN);
        assert!(story.contains("3 model calls for 2 turns") && !story.contains("none was made twice"), "{story}");
        assert!(matches!(Facts { restarts: 0, ..self::facts() }.verdict(), Err(Trouble::Restarts(0))));
        assert!(Facts { calls: 0, turns: 0, ..self::facts() }.verdict().is_err(), "nothing proves nothing");
    }

    #[test]
    fn programs_get_numbers() {
        let json = facts().json();
        assert_eq!(json["model_calls"], json["turns"]);
        assert_eq!(json["timeline"][0]["at_ms"], 200);
        assert_eq!(json["took_ms"], 2010);
    }

    #[test]
    fn prose_is_wrapped_under_its_speaker() {
        let text = indented("guide", &"word ".repeat(40));
        assert!(text.lines().count() > 1 && text.lines().all(|line| line.chars().count() <= WIDTH + 10), "{text}");
        assert!(text.lines().nth(1).unwrap().starts_with("          word"));
    }
}
