//! What the log looks like, written to real files and read back as a log reader would.
//! The subscriber is set for the test's thread only, so tests do not see one another's lines.

use std::sync::Mutex;

use serde_json::Value;

use super::*;
use crate::secret::Secrets;

/// Runs `story` under a log and answers its lines.
fn logged(options: Options, story: impl FnOnce()) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let options = Options { output: Output::File(file.path().to_owned()), ..options };
    tracing::subscriber::with_default(subscriber(options).unwrap(), story);
    std::fs::read_to_string(file.path()).unwrap().lines().map(str::to_owned).collect()
}

fn json(options: Options, story: impl FnOnce()) -> Vec<Value> {
    logged(options, story).iter().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn a_line_is_one_json_object_with_the_ids_at_hand() {
    let lines = logged(Options::default(), || {
        let task = tracing::info_span!("task", trace_id = "4bf92f3577b34da6a3ce929d0e0e4736", task_id = "t1", n = 1);
        let _in_task = task.enter();
        let step = tracing::info_span!("step", step_id = tracing::field::Empty, n = 2);
        let _in_step = step.enter();
        step.record("step_id", "s1");
        tracing::warn!(target: "troupe_gateway::slack", status = 503_u16, ok = false, "two\nlines");
    });
    let [line] = lines.as_slice() else { panic!("one event, one line: {lines:?}") };
    let head = r#","level":"WARN","component":"gateway::slack","message":"two\nlines","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","#;
    assert!(line.starts_with(r#"{"timestamp":"20"#) && line.contains(head), "{line}");
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["task_id"], &line["step_id"]), (&Value::from("t1"), &Value::from("s1")));
    assert_eq!((&line["status"], &line["ok"]), (&Value::from(503), &Value::from(false)));
    assert_eq!(line["n"], 2, "the nearest span wins");
    let at = line["timestamp"].as_str().unwrap();
    assert!(chrono::DateTime::parse_from_rfc3339(at).is_ok(), "{at}");
}

#[test]
fn outside_a_trace_the_key_is_there_and_null_and_a_traceparent_gives_its_trace() {
    let lines = json(Options::default(), || {
        tracing::info!("no trace");
        tracing::info!(traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "in a trace");
    });
    assert!(lines[0].as_object().unwrap().contains_key("trace_id") && lines[0]["trace_id"].is_null());
    assert_eq!(lines[0]["component"], "runtime::telemetry::logs::tests");
    assert_eq!(lines[1]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
}

#[test]
fn the_filter_is_the_operator_s_and_libraries_are_quiet_unless_asked() {
    let story = || {
        tracing::debug!(target: "troupe_runtime::bus", "ours");
        tracing::info!(target: "hyper::proto", "theirs");
    };
    let messages = |filter: &str| {
        let lines = json(Options { filter: filter.to_owned(), ..Options::default() }, story);
        lines.iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(messages("info").is_empty());
    assert_eq!(messages("debug"), ["ours"]);
    assert_eq!(messages("warn,hyper=debug"), ["theirs"]);
    let error = subscriber(Options { filter: "info,a=loud".to_owned(), ..Options::default() }).err().unwrap();
    assert!(error.to_string().contains("TROUPE_LOG"), "{error}");
}

#[test]
fn no_secret_passes_even_where_json_escapes_it() {
    let secrets = ["hunter2-hunter2", "quo\"ted\\secret"];
    let redact: Redact = Arc::new(move |text| {
        let masked = secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"));
        if masked == text { Cow::Borrowed(text) } else { Cow::Owned(masked) }
    });
    for format in [Format::Json, Format::Pretty] {
        let options = Options { redact: Arc::clone(&redact), format, ..Options::default() };
        let lines = logged(options, || {
            let span = tracing::info_span!("call", header = secrets[0]);
            let _in = span.enter();
            tracing::info!(body = secrets[1], "sent {}", secrets[0]);
        });
        let text = lines.join("\n");
        assert!(text.contains("***") && !text.contains("hunter2") && !text.contains("ted"), "{text}");
    }
}

#[test]
fn what_is_logged_can_be_changed_while_it_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (subscriber, filter) =
        changeable(Options { output: Output::File(path.clone()), ..Options::default() }).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        tracing::debug!("unheard");
        filter.set("debug").unwrap();
        tracing::debug!("heard");
        assert!(filter.set("a=b=c").is_err());
        tracing::debug!("heard still");
    });
    let log = std::fs::read_to_string(path).unwrap();
    assert!(!log.contains("unheard") && log.matches("heard").count() == 2, "{log}");
}

#[test]
fn a_long_value_is_cut_at_a_character() {
    let lines = json(Options { field_bytes_max: 5, ..Options::default() }, || tracing::info!(body = "aaaaéé", "m"));
    assert_eq!(lines[0]["body"], "aaaa…");
}

#[test]
fn a_secret_at_the_edge_is_masked_before_the_cut() {
    let redact: Redact = Arc::new(|text| Cow::Owned(text.replace("hunter2-hunter2", "***")));
    let options = Options { field_bytes_max: 12, redact, ..Options::default() };
    let lines = json(options, || tracing::info!(body = "0123hunter2-hunter2-and-more", "m"));
    assert_eq!(lines[0]["body"], "0123***-and-…");
}

#[test]
fn the_pretty_form_is_one_line_that_cannot_steer_a_terminal() {
    let options = Options { format: Format::Pretty, ..Options::default() };
    let lines = logged(options, || tracing::info!(target: "troupe_actors::step", text = "a\x1b[2Jb\nc", "done"));
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(line.ends_with(" INFO actors::step  done text=a\\u{1b}[2Jb\\nc"), "{line}");
}

/// The lines of a panic with this text.
fn lines_of_a_panic(options: Options, text: &str) -> Vec<String> {
    // The hook belongs to the process: other tests' panics must find the old one again.
    static HOOK: Mutex<()> = Mutex::new(());
    let _guard = HOOK.lock().unwrap();
    let us = std::thread::current().id();
    let before = Arc::new(std::panic::take_hook());
    let of_others = Arc::clone(&before);
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() == us { panics::report(info) } else { of_others(info) }
    }));
    let lines = logged(options, || {
        std::panic::catch_unwind(|| panic!("{text}")).unwrap_err();
    });
    std::panic::set_hook(Box::new(move |info| before(info)));
    lines
}

#[test]
fn a_panic_is_one_line_with_its_place() {
    let lines = lines_of_a_panic(Options::default(), "on purpose");
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert_eq!(line["message"], "panic: on purpose");
    assert_eq!(line["component"], "runtime::telemetry::logs::tests");
    assert!(line["location"].as_str().unwrap().contains("tests.rs:"));
    assert!(line.get("backtrace").is_none());
}

#[test]
fn a_panic_that_quotes_a_secret_is_told_without_it() {
    let secret = "hunter2\"hunter\\2";
    let secrets = Secrets::new([("KEY".to_owned(), secret.to_owned())]);
    secrets.get("KEY").unwrap();
    let redactor = secrets.redactor();
    let redact: Redact = Arc::new(move |text| redactor.mask(text));
    for (format, filter) in [(Format::Json, "info"), (Format::Pretty, "info"), (Format::Json, "debug")] {
        for text in [format!("{secret}: no such key"), format!("no key is {secret:?}")] {
            let options = Options { filter: filter.to_owned(), format, redact: redact.clone(), ..Options::default() };
            let lines = lines_of_a_panic(options, &text).join("\n");
            assert!(lines.contains("***") && !lines.contains("hunter"), "{format:?}, {filter}: {lines}");
        }
    }
}

#[test]
fn formats_are_named_as_the_contract_names_them() {
    assert_eq!(Format::parse("json").unwrap(), Format::Json);
    assert_eq!(Format::parse("pretty").unwrap(), Format::Pretty);
    assert!(Format::parse("xml").unwrap_err().to_string().contains("json or pretty"));
}
