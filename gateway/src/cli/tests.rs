//! The command line as a whole: what it takes, what it refuses, and how errors become codes.

use serde_json::json;
use troupe_runtime::config::Problem as ConfigProblem;

use super::printer::tests::captured;
use super::*;
use crate::client::Problem;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_of_the_contract_is_there() {
    for line in [
        "troupe up",
        "troupe serve --config c.yaml --agents-dir a --data-dir d --http-addr 127.0.0.1:0 --admin-addr 127.0.0.1:0 --roles all",
        "troupe demo",
        "troupe demo --live",
        "troupe check",
        "troupe check a.yaml b",
        "troupe schema agent",
        "troupe schema node -o yaml",
        "troupe ask researcher why",
        "troupe ask researcher why --wait",
        "troupe ask researcher why --wait=30s --session s --priority 9",
        "troupe agents ls --status ready --type assistant --mode autonomous",
        "troupe agents show researcher -o json",
        "troupe agents restart researcher",
        "troupe agents pause researcher",
        "troupe agents resume researcher",
        "troupe agents drop researcher",
        "troupe tasks ls --status failed --agent researcher --since 1h --limit 5",
        "troupe tasks show 018f",
        "troupe runs journal 018f -o wide",
        "troupe runs show 018f",
        "troupe runs fork 018f --from-step 2 --set model=small --set limits.turns=20 --wait",
        "troupe runs fork 018f --from-entry 3 --key k -o name",
        "troupe runs replay 018f",
        "troupe runs replay --verify run.json -o json",
        "troupe results ls --agent researcher --status failed --since 1h --until 2026-01-31T09:00:00Z --limit 5",
        "troupe results show 018f -o yaml",
        "troupe state show support",
        "troupe state flush support",
        "troupe state show support --session C42:1700 -o json",
        "troupe actors tree",
        "troupe actors tree --watch --every 500ms -n 3",
        "troupe actors inspect root/orchestrator/autonomous/researcher/0 -o json",
        "troupe actors restart root/relay",
        "troupe actors ls -o name",
        "troupe actors kill root/orchestrator",
        "troupe dlq ls",
        "troupe dlq show 018f",
        "troupe dlq replay 018f 018e",
        "troupe dlq purge --all",
        "troupe doctor --url http://127.0.0.1:1 --token t --no-color",
        "troupe completion bash",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn what_is_unknown_or_ambiguous_is_refused() {
    for line in [
        "troupe",
        "troupe fly",
        "troupe agents",
        "troupe a ls",
        "troupe ask researcher",
        "troupe ask researcher why --priority 10",
        "troupe ask researcher why --wait=soon",
        "troupe tasks ls --status done",
        "troupe tasks ls --limit 0",
        "troupe results ls --status running",
        "troupe state show",
        "troupe state flush",
        "troupe state show support --session s --limit 5",
        "troupe schema tool",
        "troupe dlq purge",
        "troupe dlq purge 018f --all",
        "troupe agents ls -o xml",
        "troupe agents ls --mode lazy",
    ] {
        let error = parse(line).expect_err(line);
        assert!(error.use_stderr(), "{line} would end with 0");
    }
    for line in ["troupe --version", "troupe --help", "troupe agents ls --help"] {
        assert!(!parse(line).expect_err(line).use_stderr(), "{line} is an answer");
    }
}

#[test]
fn a_wait_takes_its_span_only_after_an_equals_sign() {
    let wait = |line: &str| match parse(line).unwrap().command {
        Command::Ask(args) => args.wait(),
        other => panic!("{other:?}"),
    };
    assert_eq!(wait("troupe ask a why"), None);
    assert_eq!(wait("troupe ask a --wait why"), Some(ask::WAIT_DEFAULT));
    assert_eq!(wait("troupe ask a why --wait=500ms"), Some(std::time::Duration::from_millis(500)));
}

#[test]
fn a_token_is_not_shown() {
    let cli = parse("troupe agents ls --token s3cret-token").unwrap();
    assert!(!format!("{cli:?}").contains("s3cret"));
}

fn refused(status: u16) -> Error {
    let body = json!({"title": "t", "detail": "why not"}).to_string();
    Error::Client(client::Error::Refused(Problem::read(status, body.as_bytes())))
}

#[test]
fn every_error_has_its_code() {
    let table = [
        (refused(404), 3),
        (refused(409), 4),
        (refused(503), 1),
        (Error::Client(client::Error::NoNode("http://x".into())), 1),
        (Error::Client(client::Error::TimedOut { url: "http://x".into(), limit: std::time::Duration::ZERO }), 124),
        (Error::Client(client::Error::BadUrl { url: "x".into(), why: "y".into() }), 2),
        (Error::Config(Problems(vec![ConfigProblem::of("f", "m")])), 78),
        (Error::Start(StartError::Slack("x".into())), 78),
        (Error::Said { exit: Exit::TaskFailed, message: String::new() }, 5),
        (Error::Output(io::ErrorKind::BrokenPipe.into()), 0),
        (Error::Output(io::ErrorKind::StorageFull.into()), 1),
    ];
    for (error, code) in table {
        assert_eq!(error.exit().code(), code, "{error:?}");
    }
}

#[test]
fn an_error_is_one_line_on_stderr_and_nothing_on_stdout() {
    let (mut printer, out, err) = captured(Format::Json);
    assert_eq!(report(Err(refused(404)), &mut printer), Exit::NotFound);
    assert_eq!((out.text().as_str(), err.text().as_str()), ("", "error: why not\n"));
    let (mut printer, out, err) = captured(Format::Table);
    report(Err(Error::Output(io::ErrorKind::BrokenPipe.into())), &mut printer);
    assert_eq!((out.text(), err.text()), (String::new(), String::new()));
}

#[test]
fn problems_of_the_configuration_are_listed_one_a_line() {
    let problems = vec![ConfigProblem::of("TROUPE_HTTP_ADDR", "bad"), ConfigProblem::of("TROUPE_ROLES", "worse")];
    let (mut printer, _, err) = captured(Format::Table);
    assert_eq!(report(Err(Error::Config(Problems(problems))), &mut printer), Exit::Config);
    let expected = "error: 2 problems in the configuration\n  TROUPE_HTTP_ADDR: bad\n  TROUPE_ROLES: worse\n";
    assert_eq!(err.text(), expected);
}
