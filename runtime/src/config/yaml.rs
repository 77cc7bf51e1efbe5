//! YAML text to a located tree, within budgets.
//!
//! A configuration file comes from people and from whoever may write to a mounted folder, so its size, depth and
//! expansion are bounded *before* anything is built: an alias bomb costs what its file costs to read. What YAML
//! allows and nobody needs in a configuration (several documents, tags, keys that are no scalars, merge keys) is
//! refused by name. Events and marks come from the parser under serde-saphyr; the tree is ours, because serde would
//! drop the place of every key but the failing one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, Span, StructureStyle, Tag, options};

use super::located::{Entry, Node, Value, short};
use super::problem::{At, Place, Problem};

/// What a file may cost at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct YamlBudget {
    /// Bytes of the file.
    pub(crate) bytes: usize,
    /// Collections inside one another.
    pub(crate) depth: usize,
    /// Keys and values, aliases written out.
    pub(crate) nodes: usize,
    /// Uses of anchors.
    pub(crate) aliases: usize,
    /// Bytes of text, aliases written out.
    pub(crate) text_bytes: usize,
    /// The section of the node configuration that sets all this as `bytes_max`, `depth_max` …; fixed when there is none.
    pub(crate) section: Option<&'static str>,
}

impl YamlBudget {
    /// What tells of a limit that was reached: its name, and whether it can be set.
    fn limit(&self, name: &str) -> String {
        self.section.map_or_else(|| format!("({name})"), |section| format!("({section}.{name} sets it)"))
    }
}

impl Default for YamlBudget {
    fn default() -> Self {
        let bytes = 1024 * 1024;
        Self { bytes, depth: 32, nodes: 20_000, aliases: 100, text_bytes: 4 * bytes, section: None }
    }
}

/// Parses the one document of `text`; `path` is what places are shown with. An empty file is an empty mapping.
///
/// A syntax error ends the reading, so there is one problem at most.
pub(crate) fn parse(path: &Arc<str>, text: &str, budget: &YamlBudget) -> Result<Node, Problem> {
    if text.len() > budget.bytes {
        let (there, max, limit) = (text.len(), budget.bytes, budget.limit("file_bytes_max"));
        let message = format!("the file has {there} bytes, at most {max} are read {limit}; split it");
        return Err(At::named(Arc::clone(path)).problem(message));
    }
    // Above ours, because the scanner reads ahead and our own message is the clearer one.
    let mut parser_options = options! {
        flow_nesting_limit: budget.depth * 2,
        block_nesting_limit: budget.depth * 2,
        disallow_directives: true,
    };
    parser_options.set_emit_comments(false);
    let mut builder = Builder {
        path,
        budget,
        open: Vec::new(),
        root: None,
        anchors: HashMap::new(),
        nodes: 0,
        aliases: 0,
        text_bytes: 0,
    };
    for event in Parser::new_from_str_with_options(text, parser_options) {
        let (event, span) = event.map_err(|error| {
            let at = At::file(path, place(error.marker()));
            at.problem(format!("this is no YAML: {}{}", error.info(), builder.unclosed(error.marker())))
        })?;
        builder.take(event, &span)?;
    }
    Ok(builder.root.unwrap_or(Node { at: At::file(path, Place::START), value: Value::Map(Vec::new()) }))
}

/// The tree while it grows: a stack of open collections instead of recursion.
struct Builder<'a> {
    path: &'a Arc<str>,
    budget: &'a YamlBudget,
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, (Node, Cost)>,
    nodes: usize,
    aliases: usize,
    text_bytes: usize,
}

/// A collection whose end has not come yet.
struct Open {
    at: At,
    /// Whether it began with a bracket.
    bracket: bool,
    anchor: usize,
    before: Cost,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, seen: HashSet<String>, key: Option<(String, At)> },
}

/// Nodes and bytes of text.
#[derive(Clone, Copy)]
struct Cost {
    nodes: usize,
    text_bytes: usize,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Problem> {
        let at = At::file(self.path, place(&span.start));
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(at.problem("a second document begins here; one file holds one document, remove the `---`"))
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span)?;
                let before = self.cost();
                self.spend(&at, Cost { nodes: 1, text_bytes: text.len() })?;
                let empty = style == ScalarStyle::Plain && span.start == span.end;
                let value = match style {
                    _ if empty => Value::Null,
                    ScalarStyle::Plain => Value::plain(&text),
                    _ => Value::Text(text.into_owned()),
                };
                let source = if empty { String::new() } else { key_text(&value) };
                self.place_node(Node { at, value }, Some(source), anchor, before)
            }
            Event::SequenceStart(style, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span)?;
                self.open(at, style, anchor, OpenKind::List(Vec::new()))
            }
            Event::MappingStart(style, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span)?;
                self.open(at, style, anchor, OpenKind::Map { entries: Vec::new(), seen: HashSet::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(&at, anchor),
            _ => Ok(()),
        }
    }

    fn open(&mut self, at: At, style: StructureStyle, anchor: usize, kind: OpenKind) -> Result<(), Problem> {
        if self.open.len() >= self.budget.depth {
            let (max, limit) = (self.budget.depth, self.budget.limit("depth_max"));
            return Err(at.problem(format!("nested more than {max} deep {limit}; flatten it")));
        }
        let before = self.cost();
        self.spend(&at, Cost { nodes: 1, text_bytes: 0 })?;
        self.open.push(Open { at, bracket: style == StructureStyle::Flow, anchor, before, kind });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Problem> {
        let Some(Open { at, anchor, before, kind, .. }) = self.open.pop() else { return Ok(()) };
        let value = match kind {
            OpenKind::List(items) => Value::List(items),
            OpenKind::Map { entries, .. } => Value::Map(entries),
        };
        self.place_node(Node { at, value }, None, anchor, before)
    }

    fn alias(&mut self, at: &At, anchor: usize) -> Result<(), Problem> {
        self.aliases += 1;
        if self.aliases > self.budget.aliases {
            let (max, limit) = (self.budget.aliases, self.budget.limit("aliases_max"));
            return Err(at.problem(format!("more than {max} aliases {limit}; write the values out")));
        }
        let Some((node, cost)) = self.anchors.get(&anchor).cloned() else {
            return Err(at.problem("this alias stands inside the value that it names; write the value out"));
        };
        let before = self.cost();
        self.spend(at, cost)?;
        let source = key_text(&node.value);
        self.place_node(node, Some(source), 0, before)
    }

    /// Puts a finished node where it belongs; `key` is its text when it may be a key.
    fn place_node(&mut self, node: Node, key: Option<String>, anchor: usize, before: Cost) -> Result<(), Problem> {
        if anchor != 0 {
            let now = self.cost();
            let cost = Cost { nodes: now.nodes - before.nodes, text_bytes: now.text_bytes - before.text_bytes };
            self.anchors.insert(anchor, (node.clone(), cost));
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(OpenKind::List(items)) => items.push(node),
            Some(OpenKind::Map { entries, seen, key: waiting }) => match waiting.take() {
                Some((key, key_at)) => entries.push(Entry { key, key_at, node }),
                None => *waiting = Some(key_of(&node, key, entries, seen)?),
            },
        }
        Ok(())
    }

    /// The likeliest cause of a syntax error: the innermost bracket that is still open.
    fn unclosed(&self, error: &Marker) -> String {
        let error_at = At::file(self.path, place(error)).to_string();
        let bracket = self.open.iter().rev().find(|open| open.bracket && open.at.to_string() != error_at);
        bracket.map_or_else(String::new, |open| format!("; is the bracket at {} closed?", open.at))
    }

    fn cost(&self) -> Cost {
        Cost { nodes: self.nodes, text_bytes: self.text_bytes }
    }

    fn spend(&mut self, at: &At, cost: Cost) -> Result<(), Problem> {
        self.nodes += cost.nodes;
        self.text_bytes += cost.text_bytes;
        if self.nodes > self.budget.nodes {
            let (max, limit) = (self.budget.nodes, self.budget.limit("nodes_max"));
            return Err(at.problem(format!("more than {max} keys and values, aliases counted {limit}")));
        }
        if self.text_bytes > self.budget.text_bytes {
            let (max, limit) = (self.budget.text_bytes, self.budget.limit("text_bytes_max"));
            return Err(at.problem(format!("more than {max} bytes of text, aliases counted {limit}")));
        }
        Ok(())
    }

    fn refuse_tag(&self, tag: Option<&Tag>, span: &Span) -> Result<(), Problem> {
        let Some(tag) = tag else { return Ok(()) };
        let at = At::file(self.path, place(&span.tag_start.unwrap_or(span.start)));
        Err(at.problem(format!("the tag {:?} is not read here; remove it", short(&tag.original()))))
    }
}

/// The text of a key, which must be new in its mapping.
fn key_of(
    node: &Node,
    text: Option<String>,
    entries: &[Entry],
    seen: &mut HashSet<String>,
) -> Result<(String, At), Problem> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Err(node.at.problem(format!("expected a key, found {}; a key is a text", node.found())));
    };
    if text == "<<" {
        return Err(node.at.problem("merge keys (`<<`) are not read here; write the keys out"));
    }
    if !seen.insert(text.clone()) {
        let first = entries
            .iter()
            .find(|entry| entry.key == text)
            .map_or_else(String::new, |entry| format!("; the first is at {}", entry.key_at));
        return Err(node.at.problem(format!("the key {:?} is here a second time{first}; remove one", short(&text))));
    }
    Ok((text, node.at.clone()))
}

/// What a scalar reads as when it is a key: `1` and `true` are keys like any other.
fn key_text(value: &Value) -> String {
    match value {
        Value::Bool(truth) => truth.to_string(),
        Value::Whole(number) => number.to_string(),
        Value::Decimal(text) | Value::Text(text) | Value::Loose(text) => text.clone(),
        Value::Null | Value::List(_) | Value::Map(_) => String::new(),
    }
}

fn place(mark: &Marker) -> Place {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: count(mark.line()).max(1), column: count(mark.col()).saturating_add(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Node, Problem> {
        parse(&"f.yaml".into(), text, &YamlBudget::default())
    }

    /// `line:column` of the one problem of `text`.
    fn place_of(text: &str) -> (u32, u32) {
        let problem = read(text).err().unwrap_or_else(|| panic!("{text:?} passed"));
        problem.place.map_or((0, 0), |place| (place.line, place.column))
    }

    #[test]
    fn every_key_and_value_has_its_place() {
        let root = read("a: 1\nlist:\n  - x\n  - y: 'é'\n    z: {p: [q]}\nempty:\n").ok().unwrap();
        let at = |at: &At| at.to_string();
        assert_eq!(at(&root.entry("list").unwrap().key_at), "f.yaml:2:1");
        let item = &root.get("list").unwrap().items()[1];
        assert_eq!(at(&item.get("y").unwrap().at), "f.yaml:4:8");
        let q = &item.get("z").unwrap().get("p").unwrap().items()[0];
        assert_eq!(at(&q.at), "f.yaml:5:13");
        assert!(root.get("empty").is_none());
        assert!(root.entry("empty").is_some());
    }

    #[test]
    fn an_empty_file_is_an_empty_mapping() {
        for text in ["", "# only a comment\n", "\n\n"] {
            assert!(read(text).ok().unwrap().entries().is_empty());
        }
    }

    #[test]
    fn what_nobody_needs_is_refused_with_its_place() {
        assert_eq!(place_of("a: 1\nb: 2\na: 3\n"), (3, 1));
        assert_eq!(place_of("a: 1\n---\nb: 2\n"), (2, 1));
        assert_eq!(place_of("a: !!python/object x\n"), (1, 4));
        assert_eq!(place_of("a: &x {b: 1}\nc:\n  <<: *x\n"), (3, 3));
        assert_eq!(place_of("? [k]\n: v\n"), (1, 3));
        assert_eq!(place_of("a: *nowhere\n"), (1, 4));
        assert_eq!(place_of("a: &x [*x]\n"), (1, 8));
        assert_eq!(place_of("%YAML 1.1\n---\na: 1\n"), (1, 1));
    }

    #[test]
    fn syntax_errors_have_a_place() {
        assert_eq!(place_of("a: b: c\n"), (1, 5));
        assert_eq!(place_of("a:\n  - x\n b: 1\n"), (3, 2));
        assert_eq!(place_of("a: \"open\n"), (1, 4));
        let told = read("a: [1, {b: c}\nd: e\n").err().unwrap().message;
        assert!(told.ends_with("; is the bracket at f.yaml:1:4 closed?"), "{told}");
    }

    #[test]
    fn aliases_work_and_bombs_do_not() {
        let root = read("a: &x {k: v}\nb: *x\n").ok().unwrap();
        assert!(root.get("a").unwrap() == root.get("b").unwrap());

        let level = |n: usize| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "));
        let bomb =
            "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned() + &(1..10).map(level).collect::<Vec<_>>().concat();
        let problem = read(&bomb).err().unwrap();
        assert!(problem.message.contains("aliases"), "{problem}");

        let wide = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(500_000), vec!["*a"; 50].join(", "));
        assert!(read(&wide).err().unwrap().message.contains("bytes of text"));
    }

    #[test]
    fn depth_and_size_are_bounded() {
        assert_eq!(place_of(&format!("{}{}", "[".repeat(40), "]".repeat(40))), (1, 33));
        assert_eq!(place_of(&format!("{}{}", "[".repeat(5_000), "]".repeat(5_000))), (1, 65));
        let block: Vec<String> = (0..1_000).map(|level| " ".repeat(level) + "a:").collect();
        assert_eq!(place_of(&block.join("\n")), (33, 33));
        let big = "#".repeat(1024 * 1024 + 1);
        assert!(read(&big).err().unwrap().message.contains("at most 1048576"));
        let many = "- x\n".repeat(20_001);
        assert!(read(&many).err().unwrap().message.contains("20000 keys and values"));
    }
}
