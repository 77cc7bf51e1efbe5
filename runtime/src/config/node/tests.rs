//! Who wins among flag, environment, `.env`, file and default; what is refused, and where it is said.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::secret::ExposeSecret;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn file(text: &str) -> Sources {
    Sources { file: Some(("node.yaml".to_owned(), text.to_owned())), ..Sources::default() }
}

fn env(pairs: &[(&str, &str)]) -> Sources {
    Sources { env: map(pairs), ..Sources::default() }
}

fn load(sources: &Sources) -> Result<NodeConfig, Problems> {
    NodeConfig::load(sources, &sources.secrets())
}

fn problems(sources: &Sources) -> Vec<String> {
    load(sources).expect_err("it loads").0.iter().map(ToString::to_string).collect()
}

/// A file of the repository.
fn repository(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

#[test]
fn nothing_set_gives_the_defaults_of_the_contract() {
    let config = load(&Sources::default()).unwrap();
    assert_eq!(config.http.addr.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.addr.to_string(), "127.0.0.1:8081");
    assert_eq!(config.data_dir, Path::new("./data"));
    assert_eq!(config.agents.dir, Path::new("config/agents"));
    assert_eq!(config.slack.api_base, "https://slack.com/api/");
    assert_eq!(config.bus.retry_ladder, [1, 2, 4, 8, 16].map(Duration::from_secs));
    assert_eq!((config.log.filter.as_str(), config.log.format.as_str()), ("info", "auto"));
    assert_eq!((config.drain_timeout, config.node.name.as_str()), (Duration::from_secs(30), "node"));
    assert!(config.admin.token.is_none() && config.node.roles.is_empty());
    assert_eq!(config.models.prices["gpt-5-mini"].output_microusd, 2_000_000);
}

#[test]
fn flag_beats_environment_beats_dotenv_beats_file_beats_default() {
    let name = "TROUPE_DATA_DIR";
    let mut sources = file("data_dir: from-file\n");
    let dir = |sources: &Sources| load(sources).unwrap().data_dir.display().to_string();
    assert_eq!(dir(&sources), "from-file");
    sources.dotenv = map(&[(name, "from-dotenv")]);
    assert_eq!(dir(&sources), "from-dotenv");
    sources.env = map(&[(name, "from-env")]);
    assert_eq!(dir(&sources), "from-env");
    sources.flags = map(&[(name, "from-flag")]);
    assert_eq!(dir(&sources), "from-flag");
    // Compose files pass variables on that are empty when nobody set them.
    let sources = Sources { env: map(&[(name, "")]), ..file("data_dir: from-file\n") };
    assert_eq!(dir(&sources), "from-file");
}

#[test]
fn every_variable_reaches_its_key() {
    let config = load(&env(&[
        ("TROUPE_AGENTS_DIR", "a"),
        ("TROUPE_HTTP_ADDR", "localhost:1"),
        ("TROUPE_ADMIN_ADDR", "0.0.0.0:2"),
        ("TROUPE_ADMIN_TOKEN", "secret-token"),
        ("TROUPE_ADMIN_URL", "https://troupe.example"),
        ("SLACK_SIGNING_SECRET", "new-one, old-one"),
        ("SLACK_BOT_TOKEN", "xoxb-1"),
        ("SLACK_API_BASE", "http://127.0.0.1:9/api/"),
        ("SLACK_RESPONSE_HOSTS", "hooks.slack.com,127.0.0.1"),
        ("TROUPE_LOG", "debug"),
        ("TROUPE_LOG_FORMAT", "pretty"),
        ("TROUPE_NODE_NAME", "7"),
        ("TROUPE_ROLES", "gateway,pool.autonomous"),
    ]))
    .unwrap();
    assert_eq!(config.agents.dir, Path::new("a"));
    assert_eq!(config.http.addr.to_string(), "127.0.0.1:1");
    assert_eq!(config.admin.addr.to_string(), "0.0.0.0:2");
    assert_eq!(config.admin.token.as_ref().map(ExposeSecret::expose_secret), Some("secret-token"));
    assert_eq!(config.admin.url, "https://troupe.example");
    let signing: Vec<&str> = config.slack.signing_secrets.iter().map(ExposeSecret::expose_secret).collect();
    assert_eq!(signing, ["new-one", "old-one"]);
    assert_eq!(config.slack.response_hosts, ["hooks.slack.com", "127.0.0.1"]);
    assert_eq!((config.log.filter.as_str(), config.log.format.as_str()), ("debug", "pretty"));
    assert_eq!((config.node.name.as_str(), config.node.roles.len()), ("7", 2));
    assert!(!format!("{config:?}").contains("secret-token"));
    assert!(!format!("{config:?}").contains("xoxb-1"));
}

#[test]
fn a_variable_is_named_where_a_file_has_a_place() {
    let mut sources = file("http:\n  addr: 8080\nsteps: {per_nod_max: 1}\nstore:\n  batch_max: 0\nbus: []\n");
    sources.env = map(&[("TROUPE_ADMIN_ADDR", ":8081"), ("TROUPE_ROLES", "gateway,sheduler")]);
    sources.dotenv = map(&[("TROUPE_LOG_FORMAT", "xml")]);
    sources.flags = map(&[("TROUPE_NODE_NAME", "a b"), ("TROUPE_NO_SUCH", "1")]);
    assert_eq!(
        problems(&sources),
        [
            "--no-such: no variable of the contract stands behind this flag; remove it",
            "--node-name: name: expected a node name such as node-1, found \"a b\"; up to 63 letters, digits, ., _ and -, a letter or digit first",
            ".env: TROUPE_LOG_FORMAT: format: expected one of auto, json, pretty, found \"xml\"",
            "TROUPE_ADMIN_ADDR: addr: expected an address with a port such as 127.0.0.1:8080, found \":8081\"; write 0.0.0.0:8081 for every interface",
            "TROUPE_ROLES: roles: expected one of all, gateway, orchestrator, scheduler, pool.autonomous, pool.collaborative, pool.continuous, found \"sheduler\"; did you mean scheduler?",
            "node.yaml:2:9: addr: expected an address with a port such as 127.0.0.1:8080, found the number 8080; write it in quotes",
            "node.yaml:3:9: unknown key \"per_nod_max\" in steps; did you mean \"per_node_max\"?",
            "node.yaml:5:14: batch_max: expected a whole number, found the number 0; write 1 to 10000",
            "node.yaml:6:6: bus: expected a mapping (`key: value`), found a list",
        ]
    );
}

#[test]
fn a_file_that_is_no_yaml_does_not_hide_a_bad_variable() {
    let sources = Sources { env: map(&[("TROUPE_HTTP_ADDR", "x")]), ..file("http: [\n") };
    let told = problems(&sources);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("TROUPE_HTTP_ADDR: addr:") && told[1].starts_with("node.yaml:1:7: this is no YAML"));
}

#[test]
fn the_admin_listener_is_guarded_off_loopback() {
    for open in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
        let told = problems(&env(&[("TROUPE_ADMIN_ADDR", open)]));
        assert!(told[0].contains("set TROUPE_ADMIN_TOKEN"), "{told:?}");
        assert!(load(&env(&[("TROUPE_ADMIN_ADDR", open), ("TROUPE_ADMIN_TOKEN", "t")])).is_ok());
    }
    for closed in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"] {
        assert!(load(&env(&[("TROUPE_ADMIN_ADDR", closed)])).is_ok(), "{closed}");
    }
}

#[test]
fn settings_that_contradict_one_another_are_refused() {
    assert!(problems(&env(&[("TROUPE_HTTP_ADDR", "127.0.0.1:8081")]))[0].contains("are both 127.0.0.1:8081"));
    assert!(load(&env(&[("TROUPE_HTTP_ADDR", "127.0.0.1:0"), ("TROUPE_ADMIN_ADDR", "127.0.0.1:0")])).is_ok());
    let told = problems(&file("supervision: {backoff_base: 2m, backoff_max: 1m}\n"));
    assert_eq!(told, ["node.yaml:1:29: supervision.backoff_base: it is longer than supervision.backoff_max"]);
}

#[test]
fn what_arrives_later_is_said_and_its_secret_is_not() {
    let told = problems(&env(&[("TROUPE_CLUSTER_COOKIE", "hunter2hunter2")]));
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("TROUPE_CLUSTER_COOKIE: cluster.cookie: clusters arrive"), "{told:?}");
    assert!(!told.concat().contains("hunter2"));
    let told = problems(&file("cluster: {seeds: [a, b]}\n"));
    assert!(told[0].starts_with("node.yaml:1:18: cluster.seeds: clusters arrive"), "{told:?}");
}

#[test]
fn a_database_server_is_named_by_a_url_that_nobody_sees() {
    let config = load(&env(&[("DATABASE_URL", "postgres://u:hunter2@db/troupe")])).unwrap();
    assert!(config.database_url.is_some() && !format!("{config:?}").contains("hunter2"));
    let told = problems(&env(&[("DATABASE_URL", "mysql://u:hunter2@db/troupe")]));
    assert!(told[0].starts_with("DATABASE_URL: ") && !told.concat().contains("hunter2"), "{told:?}");
}

#[test]
fn a_broker_is_named_by_a_url_that_nobody_sees() {
    for good in ["amqp://u:hunter2@mq:5672/v", "amqps://u:hunter2@mq"] {
        let config = load(&env(&[("AMQP_URL", good)])).unwrap();
        assert!(config.amqp_url.is_some() && !format!("{config:?}").contains("hunter2"));
    }
    let told = problems(&env(&[("AMQP_URL", "http://u:hunter2@mq")]));
    assert!(told[0].starts_with("AMQP_URL: ") && !told.concat().contains("hunter2"), "{told:?}");
}

#[test]
fn redis_is_named_by_a_url_that_nobody_sees() {
    for good in ["redis://:hunter2@cache:6379/0", "rediss://u:hunter2@cache"] {
        let config = load(&env(&[("REDIS_URL", good)])).unwrap();
        assert!(config.redis_url.is_some() && !format!("{config:?}").contains("hunter2"));
    }
    let told = problems(&env(&[("REDIS_URL", "http://:hunter2@cache")]));
    assert!(told[0].starts_with("REDIS_URL: ") && !told.concat().contains("hunter2"), "{told:?}");
    let limits =
        load(&file("cache: {answer_timeout: 20ms, failures_max: 3, rest: 1s, tls_ca: ca.pem}\n")).unwrap().cache;
    assert_eq!((limits.answer_timeout, limits.failures_max), (Duration::from_millis(20), 3));
    assert_eq!(limits.tls_ca.as_deref(), Some(Path::new("ca.pem")));
}

#[test]
fn the_server_gives_up_on_a_statement_before_its_caller_does() {
    let told = problems(&file("postgres: {answer_timeout: 5s}\n"));
    assert_eq!(told, ["node.yaml:1:28: postgres.answer_timeout: it must be longer than postgres.statement_timeout"]);
    assert_eq!(problems(&file("postgres: {statement_timeout: 1m}\n")).len(), 1);
    assert!(load(&file("postgres: {statement_timeout: 1m, answer_timeout: 70s}\n")).is_ok());
}

#[test]
fn secrets_of_the_file_are_references_that_are_resolved() {
    let text = "admin: {token: \"${TOKEN}\"}\nslack: {signing_secrets: [\"${A}\", \"${B}\"]}\n";
    let mut sources = file(text);
    sources.env = map(&[("TOKEN", "t0ken"), ("A", "aaa")]);
    let told = problems(&sources);
    assert_eq!(told, ["node.yaml:2:35: no value for B; set it in the environment or in .env"]);
    sources.dotenv = map(&[("B", "bbb"), ("A", "weaker")]);
    let config = load(&sources).unwrap();
    let signing: Vec<&str> = config.slack.signing_secrets.iter().map(ExposeSecret::expose_secret).collect();
    assert_eq!(signing, ["aaa", "bbb"]);
}

#[test]
fn a_secret_that_the_node_reads_is_masked_in_the_log() {
    let mut sources = file("admin: {token: \"${TOKEN}\"}\n");
    sources.env = map(&[("TOKEN", "from-the-file"), ("SLACK_SIGNING_SECRET", "first-secret,second$${secret")]);
    let secrets = sources.secrets();
    let config = NodeConfig::load(&sources, &secrets).unwrap();
    assert_eq!(config.slack.signing_secrets[1].expose_secret(), "second$${secret");
    let masked = secrets.redactor().mask("from-the-file first-secret second$${secret other").into_owned();
    assert_eq!(masked, "*** *** *** other");
}

#[test]
fn sources_are_gathered_from_the_working_directory() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("config")).unwrap();
    fs::write(dir.path().join(".env"), "TROUPE_LOG=warn\nKEY=k\n").unwrap();
    fs::write(dir.path().join("config/node.yaml"), "data_dir: d\n").unwrap();
    fs::write(dir.path().join("other.yaml"), "data_dir: e\n").unwrap();
    let gather = |pairs: &[(&str, &str)]| Sources::gather(BTreeMap::new(), map(pairs), dir.path());

    let sources = gather(&[]).unwrap();
    let config = load(&sources).unwrap();
    assert_eq!((config.data_dir.as_path(), config.log.filter.as_str()), (Path::new("d"), "warn"));
    assert_eq!((sources.secrets().setting("KEY").as_deref(), std::env::var("KEY").ok()), (Some("k"), None));

    let config = load(&gather(&[("TROUPE_CONFIG", "other.yaml")]).unwrap()).unwrap();
    assert_eq!(config.data_dir, Path::new("e"));
    let told = gather(&[("TROUPE_CONFIG", "none.yaml")]).unwrap_err().to_string();
    assert_eq!(told, "TROUPE_CONFIG: there is no file \"none.yaml\"; correct the path or remove it");

    fs::write(dir.path().join(".env"), "oops\n").unwrap();
    assert_eq!(gather(&[]).unwrap_err().to_string(), ".env:1:1: expected NAME=value; comments begin with #");
}

#[test]
fn variables_without_effect_are_warned_of() {
    let sources = env(&[
        ("TROUPE_HTTP_ADR", "x"),
        ("TROUPE_TEST_SEED", "1"),
        ("SLACK_APP_TOKEN", "xapp-1"),
        ("TROUPE_CONFIG", "c"),
        ("HOME", "/"),
    ]);
    let told: Vec<String> = sources.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("SLACK_APP_TOKEN: Socket Mode"));
    assert_eq!(told[1], "TROUPE_HTTP_ADR: this variable is not known; did you mean TROUPE_HTTP_ADDR?");
}

#[test]
fn a_host_name_becomes_a_node_name() {
    let name = |host: &str| load(&Sources { host_name: host.to_owned(), ..Sources::default() }).unwrap().node.name;
    assert_eq!(name("web-1.example.org"), "web-1.example.org");
    assert_eq!(name("-böse maschine"), "b-se-maschine");
}

#[test]
fn a_lease_must_survive_a_renewal_that_fails() {
    let of = |text: &str| {
        let sources = Sources { file: Some(("node.yaml".into(), text.into())), ..Sources::default() };
        NodeConfig::load(&sources, &Secrets::default())
    };
    for good in ["lease: {ttl: 6s}", "lease: {renew_every: 5s}", "lease: {ttl: 2s, renew_every: 1s}"] {
        assert!(of(good).is_ok(), "{good}");
    }
    for bad in ["lease: {ttl: 5s}", "lease: {renew_every: 5001ms}", "lease: {ttl: 1s, renew_every: 600ms}"] {
        let problems = of(bad).unwrap_err().to_string();
        assert!(problems.contains("lease.renew_every: it must be at most half of lease.ttl"), "{bad}: {problems}");
    }
}

#[test]
fn nothing_is_kept_for_less_than_an_event_may_come_again_nor_a_journal_for_longer_than_its_task() {
    let told = problems(&file("journal:\n  keep: 71h\n  keep_results: 36501d\n"));
    assert_eq!(
        told,
        [
            "node.yaml:2:9: keep: expected a duration such as 500ms, 60s or 5m, found \"71h\"; write 3d to 36500d",
            "node.yaml:3:17: keep_results: expected a duration such as 500ms, 60s or 5m, found \"36501d\"; write 3d to 36500d",
        ]
    );
    let short = "journal.keep_results: it must not be shorter than journal.keep";
    assert_eq!(problems(&file("journal: {keep: 91d}\n")), [format!("node.yaml:1:17: {short}")]);
    assert_eq!(problems(&file("journal: {keep: 5d, keep_results: 4d}\n")), [format!("node.yaml:1:35: {short}")]);
    assert!(problems(&file("journal: {clean_batch: 0}\n"))[0].starts_with("node.yaml:1:24: clean_batch: "));
    let kept = load(&file("journal: {keep: 72h, keep_results: 72h}\n")).unwrap().journal;
    assert_eq!((kept.keep, kept.keep_results), (Duration::from_hours(72), Duration::from_hours(72)));
}

#[test]
fn the_example_file_is_whole_and_shows_the_defaults() {
    let rendered = node_example();
    if std::env::var_os("TROUPE_TEST_UPDATE").is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/node.example.yaml"), &rendered).unwrap();
    }
    let example = repository("config/node.example.yaml");
    let differs = example.lines().zip(rendered.lines()).find(|(there, rendered)| there != rendered);
    assert_eq!(differs, None, "run this test with TROUPE_TEST_UPDATE=1 to write config/node.example.yaml anew");
    assert_eq!(example.len(), rendered.len());
    let uncommented: Vec<&str> = example.lines().map(|line| line.strip_prefix('#').unwrap_or(line)).collect();
    let loaded = load(&file(&uncommented.join("\n"))).unwrap_or_else(|problems| panic!("{problems}"));
    let defaults = load(&Sources::default()).unwrap();
    assert_eq!(format!("{loaded:?}"), format!("{defaults:?}"));
    // As it stands it sets nothing.
    let commented = load(&file(&example)).unwrap();
    assert_eq!(format!("{commented:?}"), format!("{defaults:?}"));
}

#[test]
fn the_example_of_variables_is_whole_and_sets_nothing() {
    let example = repository("deploy/.env.example");
    let mut problems = Vec::new();
    let as_it_stands = dotenv::parse(".env.example", &example, &mut problems);
    assert_eq!((as_it_stands, problems), (BTreeMap::new(), Vec::new()));

    let is_setting = |line: &&str| line.starts_with(|c: char| c.is_ascii_uppercase());
    let lines = example.lines().filter_map(|line| line.strip_prefix('#')).filter(is_setting);
    let uncommented = lines.collect::<Vec<_>>().join("\n");
    let mut problems = Vec::new();
    let all = dotenv::parse(".env.example", &uncommented, &mut problems);
    assert_eq!(problems, []);
    let passed_on =
        ["OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"];
    let known = VARIABLES.iter().map(|variable| variable.name).chain(passed_on).chain([variables::CONFIG_VARIABLE]);
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    assert_eq!(all.keys().map(String::as_str).collect::<Vec<_>>(), known);
}
