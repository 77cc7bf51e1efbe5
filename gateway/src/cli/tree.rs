//! The live tree, drawn: who lives under whom, how they are, what they are doing.
//!
//! The API lists actors by path, a parent before its children; the lines between them are drawn here. An actor whose
//! parent is not in the list stands at the edge with its whole path, so nothing that is alive is hidden.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::age;
use super::style::{Paint, Style};
use super::table::{at, one_line, plain, text_at};

/// Characters of what an actor is doing.
const DOING_CHARS_MAX: usize = 70;

/// One line before it is aligned.
struct Line {
    label: String,
    kind: String,
    state: String,
    restarts: String,
    since: String,
    doing: String,
}

/// The actors with who stands below whom.
struct Family<'api> {
    actors: Vec<&'api Value>,
    parents: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
}

/// The tree of `actors` as of `now`, a head line first.
#[must_use]
pub fn draw(actors: &[Value], style: Style, now: DateTime<Utc>) -> String {
    let family = Family::of(actors);
    let mut lines = vec![Line {
        label: "ACTOR".to_owned(),
        kind: "KIND".to_owned(),
        state: "STATE".to_owned(),
        restarts: "RESTARTS".to_owned(),
        since: "SINCE".to_owned(),
        doing: "DOING".to_owned(),
    }];
    for top in (0..family.actors.len()).filter(|index| family.parents[*index].is_none()) {
        family.branch(top, "", "", now, &mut lines);
    }
    align(&lines, style)
}

impl<'api> Family<'api> {
    fn of(actors: &'api [Value]) -> Self {
        let actors = flat(actors);
        let places: HashMap<_, _> = actors.iter().enumerate().map(|(index, actor)| (place(actor), index)).collect();
        let parents: Vec<Option<usize>> = actors.iter().map(|actor| parent(actor, &places)).collect();
        let mut children = vec![Vec::new(); actors.len()];
        for (index, parent) in parents.iter().enumerate() {
            if let Some(parent) = parent {
                children[*parent].push(index);
            }
        }
        Self { actors, parents, children }
    }

    /// Draws the actor at `index` behind `lead` and everything under it behind `below`.
    fn branch(&self, index: usize, lead: &str, below: &str, now: DateTime<Utc>, lines: &mut Vec<Line>) {
        let above = self.parents[index].map_or("", |parent| place(self.actors[parent]).1);
        lines.push(line(self.actors[index], lead, above, now));
        let children = &self.children[index];
        for (number, child) in children.iter().enumerate() {
            let (mark, space) = if number + 1 == children.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            self.branch(*child, &format!("{below}{mark}"), &format!("{below}{space}"), now, lines);
        }
    }
}

/// All actors in one list, also when the API nests them.
fn flat(actors: &[Value]) -> Vec<&Value> {
    let mut list = Vec::new();
    for actor in actors {
        list.push(actor);
        list.extend(actor.get("children").and_then(Value::as_array).map(|children| flat(children)).unwrap_or_default());
    }
    list
}

/// Where an actor lives: its node where there are several, and its path.
fn place(actor: &Value) -> (&str, &str) {
    (text_at(actor, "node"), text_at(actor, "path"))
}

/// The nearest actor above: not every segment of a path is an actor (`guide/0` is one child of its pool).
fn parent(actor: &Value, places: &HashMap<(&str, &str), usize>) -> Option<usize> {
    let (node, mut rest) = place(actor);
    while let Some((above, _)) = rest.rsplit_once('/') {
        if let Some(index) = places.get(&(node, above)) {
            return Some(*index);
        }
        rest = above;
    }
    None
}

fn line(actor: &Value, lead: &str, above: &str, now: DateTime<Utc>) -> Line {
    let (node, path) = place(actor);
    let name = path.strip_prefix(above).unwrap_or(path).trim_start_matches('/');
    let name = if above.is_empty() && !node.is_empty() { format!("{name} on {node}") } else { name.to_owned() };
    let doing = match (text_at(actor, "step"), text_at(actor, "last_error")) {
        ("", "") => String::new(),
        ("", error) => format!("last error: {error}"),
        (step, "") => step.to_owned(),
        (step, error) => format!("{step} (last error: {error})"),
    };
    Line {
        label: format!("{lead}{}", one_line(&name, 200)),
        kind: text_at(actor, "kind").to_owned(),
        state: text_at(actor, "state").to_owned(),
        restarts: at(actor, "restarts").map(plain).unwrap_or_default(),
        since: at(actor, "since").and_then(Value::as_str).map(|then| age::since_text(then, now)).unwrap_or_default(),
        doing: one_line(&doing, DOING_CHARS_MAX),
    }
}

fn align(lines: &[Line], style: Style) -> String {
    let width = |part: fn(&Line) -> &str| lines.iter().map(|line| part(line).chars().count()).max().unwrap_or(0);
    let label = width(|line| &line.label);
    let kind = width(|line| &line.kind);
    let state = width(|line| &line.state);
    let restarts = width(|line| &line.restarts);
    let since = width(|line| &line.since);
    let drawn = lines.iter().enumerate().map(|(number, line)| {
        // Colours come after the padding: their bytes take no room on the screen.
        let padded = format!("{:state$}", line.state);
        let painted = padded.replace(&line.state, &style.status(&line.state));
        let state = if number == 0 || line.state.is_empty() { padded } else { painted };
        let Line { label: name, kind: sort, restarts: falls, since: age, doing, .. } = line;
        let falls = format!("{falls:restarts$}");
        let fell = !matches!(falls.trim(), "" | "0" | "RESTARTS");
        let falls = if fell { style.paint(Paint::Notice, &falls) } else { falls };
        let text = format!("{name:label$}  {sort:kind$}  {state}  {falls}  {age:since$}  {doing}");
        text.trim_end().to_owned()
    });
    drawn.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-01-01T00:01:00Z".parse().unwrap()
    }

    fn actor(path: &str, kind: &str, restarts: u32, step: Option<&str>) -> Value {
        json!({
            "path": path, "kind": kind, "state": "running", "since": "2026-01-01T00:00:48Z", "restarts": restarts,
            "mailbox_depth": 0, "step": step, "last_error": (restarts > 0).then_some("killed")
        })
    }

    fn company() -> Vec<Value> {
        vec![
            actor("root", "root", 0, None),
            actor("root/orchestrator", "orchestrator", 0, None),
            actor("root/orchestrator/autonomous", "pool", 0, None),
            actor("root/orchestrator/autonomous/guide/0", "agent", 1, None),
            actor("root/orchestrator/autonomous/guide/0/018f", "step", 0, Some("tool wait")),
            actor("root/orchestrator/autonomous/guide-b/0", "agent", 0, None),
            actor("root/relay", "relay", 0, None),
        ]
    }

    #[test]
    fn branches_are_drawn() {
        let expected = "\
ACTOR                     KIND          STATE    RESTARTS  SINCE  DOING
root                      root          running  0         12s
├─ orchestrator           orchestrator  running  0         12s
│  └─ autonomous          pool          running  0         12s
│     ├─ guide/0          agent         running  1         12s    last error: killed
│     │  └─ 018f          step          running  0         12s    tool wait
│     └─ guide-b/0        agent         running  0         12s
└─ relay                  relay         running  0         12s";
        let squeeze = |text: &str| {
            text.lines()
                .map(|line| line.split("  ").filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  "))
                .collect::<Vec<_>>()
        };
        let drawn = draw(&company(), Style::PLAIN, now());
        assert_eq!(squeeze(&drawn), squeeze(expected));
        assert!(drawn.lines().any(|line| line.starts_with("│     │  └─ 018f")), "{drawn}");
    }

    #[test]
    fn columns_stand_in_line_with_and_without_colours() {
        let plain = draw(&company(), Style::PLAIN, now());
        let column = |line: &str| line.char_indices().position(|(at, _)| line[at..].starts_with("running"));
        let columns: Vec<_> = plain.lines().skip(1).map(column).collect();
        assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "{columns:?}\n{plain}");
        let coloured = draw(&company(), Style::COLOURED, now());
        let bare = ["32", "33", "0"].iter().fold(coloured, |text, code| text.replace(&format!("\u{1b}[{code}m"), ""));
        let trimmed = |text: &str| text.lines().map(str::trim_end).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(trimmed(&bare), trimmed(&plain));
    }

    #[test]
    fn an_orphan_is_shown_with_its_whole_path_and_nodes_do_not_mix() {
        let mut far = actor("root/relay", "relay", 0, None);
        far["node"] = json!("b");
        let drawn = draw(&[actor("root", "root", 0, None), far], Style::PLAIN, now());
        assert!(drawn.lines().any(|line| line.starts_with("root/relay on b ")), "{drawn}");
    }

    #[test]
    fn nested_answers_are_drawn_alike() {
        let mut root = actor("root", "root", 0, None);
        root["children"] = json!([actor("root/relay", "relay", 0, None)]);
        assert!(draw(&[root], Style::PLAIN, now()).contains("└─ relay"));
    }
}
