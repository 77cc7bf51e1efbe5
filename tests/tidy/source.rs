//! A source file as the rules see it: its text, its code without comments and strings, and which lines are tests.
//!
//! The lexer knows just enough Rust to tell code from comments and literals; it never fails, and what it does not know
//! it takes for code. Called by [`super::tree`] for every `.rs` file, and by the rules' own tests on small texts.

use std::ops::Range;

/// A Rust file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    /// Its path from the top of the tree, with `/`.
    pub(crate) path: String,
    /// As it stands.
    pub(crate) text: String,
    /// The same lines with comments and the insides of literals blanked out.
    pub(crate) code: Vec<String>,
    /// String literals with the line (from 1) on which each begins.
    pub(crate) strings: Vec<(usize, String)>,
    /// Lines (from 1) that only tests compile.
    pub(crate) tests: Vec<Range<usize>>,
    /// The whole file is a test.
    pub(crate) all_tests: bool,
}

impl Source {
    /// Reads a file's text.
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let (code, strings) = strip(&text);
        let tests = test_lines(&code);
        let code = code.lines().map(str::to_owned).collect();
        let all_tests = is_test_path(&path);
        Self { path, text, code, strings, tests, all_tests }
    }

    /// Whether only tests compile this line.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.all_tests || self.tests.iter().any(|lines| lines.contains(&line))
    }

    /// The lines of code that the product compiles, with their numbers.
    pub(crate) fn product_code(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.code.iter().map(String::as_str)).filter(|(line, _)| !self.is_test(*line))
    }

    /// The string literals of the product, with their lines.
    pub(crate) fn product_strings(&self) -> impl Iterator<Item = (usize, &str)> {
        self.strings.iter().map(|(line, text)| (*line, text.as_str())).filter(|(line, _)| !self.is_test(*line))
    }

    /// Modules that are declared for tests only: `#[cfg(test)] mod x;`.
    pub(crate) fn test_modules(&self) -> Vec<String> {
        let mut modules = Vec::new();
        for lines in &self.tests {
            let last = self.code.get(lines.end.saturating_sub(2)).map_or("", |line| line.trim());
            let Some(name) = last.strip_suffix(';').and_then(|line| line.rsplit_once("mod ")) else { continue };
            modules.push(name.1.trim().to_owned());
        }
        modules
    }

    /// The place of a line.
    pub(crate) fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path)
    }
}

/// `tests.rs`, `x/tests/y.rs`, conformance suites and everything under the top folder `tests/`.
fn is_test_path(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    path.starts_with("tests/")
        || path.contains("/tests/")
        || path.contains("/conformance/")
        || name == "tests.rs"
        || name == "conformance.rs"
}

/// What the lexer is in.
enum In {
    Code,
    Line,
    Block(u32),
    Text { raw: Option<usize>, began: usize, text: String },
}

/// Blanks out comments and literals, keeping every line break in its place.
fn strip(text: &str) -> (String, Vec<(usize, String)>) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut strings) = (String::with_capacity(text.len()), Vec::new());
    let (mut state, mut line, mut i) = (In::Code, 1, 0);
    while i < chars.len() {
        let (c, next) = (chars[i], chars.get(i + 1).copied().unwrap_or('\0'));
        let mut eaten = 1;
        let mut seen = ' ';
        match &mut state {
            In::Code => match (c, next) {
                ('/', '/') => state = In::Line,
                ('/', '*') => (state, eaten) = (In::Block(1), 2),
                ('"', _) => {
                    seen = '"';
                    state = In::Text { raw: raw_hashes(&chars, i), began: line, text: String::new() };
                }
                ('\'', _) => match char_literal(&chars, i) {
                    Some(length) => eaten = length,
                    None => seen = c,
                },
                _ => seen = c,
            },
            In::Line if c == '\n' => state = In::Code,
            In::Line => {}
            In::Block(depth) => match (c, next) {
                ('*', '/') => {
                    eaten = 2;
                    *depth -= 1;
                    if *depth == 0 {
                        state = In::Code;
                    }
                }
                ('/', '*') => (*depth, eaten) = (*depth + 1, 2),
                _ => {}
            },
            In::Text { raw: None, text, .. } if c == '\\' => {
                eaten = 2;
                text.push(c);
                text.push(next);
            }
            In::Text { raw, began, text } => {
                let hashes = raw.unwrap_or(0);
                let ends = c == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
                if ends {
                    (eaten, seen) = (1 + hashes, '"');
                    strings.push((*began, std::mem::take(text)));
                    state = In::Code;
                } else {
                    text.push(c);
                }
            }
        }
        for eaten in &chars[i..(i + eaten).min(chars.len())] {
            code.push(if *eaten == '\n' { '\n' } else { seen });
            line += usize::from(*eaten == '\n');
        }
        i += eaten;
    }
    (code, strings)
}

/// The number of `#` of the raw string that opens at `quote`; `None` for a plain one.
fn raw_hashes(chars: &[char], quote: usize) -> Option<usize> {
    let hashes = chars[..quote].iter().rev().take_while(|c| **c == '#').count();
    let mut before = chars[..quote - hashes].iter().rev().copied();
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if before.next() != Some('r') {
        return None;
    }
    let first = before.next();
    (!is_word(first) || (matches!(first, Some('b' | 'c')) && !is_word(before.next()))).then_some(hashes)
}

/// The length of a character literal at `quote`; `None` for a lifetime.
fn char_literal(chars: &[char], quote: usize) -> Option<usize> {
    match (chars.get(quote + 1)?, chars.get(quote + 2)) {
        ('\\', Some(_)) => chars[quote + 3..].iter().take(12).position(|c| *c == '\'').map(|at| at + 4),
        (_, Some('\'')) => Some(3),
        _ => None,
    }
}

/// The lines of every item behind `#[cfg(test)]`.
fn test_lines(code: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        let after = at + attribute.len();
        let line = |offset: usize| code[..offset].matches('\n').count() + 1;
        found.push(line(at)..line(after + item_length(&code[after..])) + 1);
    }
    found
}

/// How far an item reaches: to its `;`, or over its braces.
pub(crate) fn item_length(text: &str) -> usize {
    let (mut braces, mut brackets) = (0_i32, 0_i32);
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                // `use a::{b, c};` goes on after its brace; an item with a body ends there.
                if braces <= 0 && !text[at + 1..].trim_start().starts_with(';') {
                    return at;
                }
            }
            ';' if braces == 0 && brackets == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

#[test]
fn comments_and_literals_are_no_code() {
    let text = "let a = \"x.unwrap()\"; // b.unwrap()\n/* c /* d */ e */ let f = '\"'; g(r#\"h\"i\"#);";
    let source = Source::new("a.rs", text);
    assert_eq!(source.code[0].trim_end(), "let a = \"          \";");
    let second: String = source.code[1].split_whitespace().collect();
    assert_eq!(second, "letf=;g(r#\"\"\");");
    assert_eq!(source.strings, [(1, "x.unwrap()".to_owned()), (2, "h\"i".to_owned())]);
}

#[test]
fn lifetimes_and_escapes_do_not_open_literals() {
    let source = Source::new("a.rs", "fn f<'a>(x: &'a str) { g('\\'', \"\\\"\", b'\\n', '\\u{7f}'); h() }");
    assert!(source.code[0].contains("<'a>(x: &'a str)"), "{:?}", source.code);
    assert!(source.code[0].contains("h()"), "{:?}", source.code);
    assert_eq!(source.strings, [(1, "\\\"".to_owned())]);
}

#[test]
fn test_items_are_found_with_their_ends() {
    let text =
        "fn a() {}\n#[cfg(test)]\nuse b::{c,\n d};\nfn e() {}\n#[cfg(test)]\nmod tests {\n fn f() {}\n}\nfn g() {}";
    let source = Source::new("runtime/src/a.rs", text);
    let tests: Vec<_> = (1..=10).filter(|line| source.is_test(*line)).collect();
    assert_eq!(tests, [2, 3, 4, 6, 7, 8, 9]);
}

#[test]
fn a_module_for_tests_only_is_named() {
    let source = Source::new("runtime/src/model.rs", "mod call;\n#[cfg(test)]\nmod fault_server;\nmod usage;");
    assert_eq!(source.test_modules(), ["fault_server"]);
    assert!(Source::new("runtime/src/x/tests.rs", "").is_test(1));
    assert!(!Source::new("runtime/src/x/testing.rs", "").is_test(1));
}
