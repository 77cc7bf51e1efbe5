//! The variables of the contract and the keys that they stand for.
//!
//! A flag is named after its variable: `--http-addr` is `TROUPE_HTTP_ADDR`. Variables that are no key (provider keys,
//! `OTEL_*`) stay what they are: secrets that specs refer to, or settings of a library.

/// A variable with its key.
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    /// The path of its key in the node configuration.
    pub(crate) key: &'static [&'static str],
    /// Whether its value is a list, separated by commas.
    pub(crate) list: bool,
    /// Why it cannot be set yet.
    pub(crate) later: Option<&'static str>,
}

const fn one(name: &'static str, key: &'static [&'static str]) -> Variable {
    Variable { name, key, list: false, later: None }
}

const fn many(name: &'static str, key: &'static [&'static str]) -> Variable {
    Variable { name, key, list: true, later: None }
}

const fn later(name: &'static str, key: &'static [&'static str], why: &'static str) -> Variable {
    Variable { name, key, list: false, later: Some(why) }
}

const NO_CLUSTER: &str = "clusters arrive with a later version; remove it to run on this machine alone";

/// Every variable that is a key, in the order of the contract.
pub(crate) static VARIABLES: [Variable; 24] = [
    one("TROUPE_AGENTS_DIR", &["agents", "dir"]),
    one("TROUPE_DATA_DIR", &["data_dir"]),
    one("TROUPE_HTTP_ADDR", &["http", "addr"]),
    one("TROUPE_ADMIN_ADDR", &["admin", "addr"]),
    one("TROUPE_ADMIN_TOKEN", &["admin", "token"]),
    one("TROUPE_ADMIN_URL", &["admin", "url"]),
    one("DATABASE_URL", &["database_url"]),
    one("AMQP_URL", &["amqp_url"]),
    one("REDIS_URL", &["redis_url"]),
    many("SLACK_SIGNING_SECRET", &["slack", "signing_secrets"]),
    one("SLACK_BOT_TOKEN", &["slack", "bot_token"]),
    one("SLACK_APP_TOKEN", &["slack", "app_token"]),
    one("SLACK_API_BASE", &["slack", "api_base"]),
    many("SLACK_RESPONSE_HOSTS", &["slack", "response_hosts"]),
    one("TROUPE_LOG", &["log", "filter"]),
    one("TROUPE_LOG_FORMAT", &["log", "format"]),
    one("TROUPE_NODE_NAME", &["node", "name"]),
    many("TROUPE_ROLES", &["node", "roles"]),
    later("TROUPE_CLUSTER_ADDR", &["cluster", "addr"], NO_CLUSTER),
    Variable { name: "TROUPE_CLUSTER_SEEDS", key: &["cluster", "seeds"], list: true, later: Some(NO_CLUSTER) },
    later("TROUPE_CLUSTER_COOKIE", &["cluster", "cookie"], NO_CLUSTER),
    later("TROUPE_CLUSTER_TLS_CA", &["cluster", "tls_ca"], NO_CLUSTER),
    later("TROUPE_CLUSTER_TLS_CERT", &["cluster", "tls_cert"], NO_CLUSTER),
    later("TROUPE_CLUSTER_TLS_KEY", &["cluster", "tls_key"], NO_CLUSTER),
];

/// Names the file itself, so it is no key of it.
pub(crate) const CONFIG_VARIABLE: &str = "TROUPE_CONFIG";

/// The flag that sets what `variable` sets.
pub(crate) fn flag_name(variable: &str) -> String {
    let name = variable.strip_prefix("TROUPE_").unwrap_or(variable);
    format!("--{}", name.to_ascii_lowercase().replace('_', "-"))
}

/// The variable that sets the key at `path`.
pub(crate) fn variable_of(path: &[&str]) -> Option<&'static Variable> {
    VARIABLES.iter().find(|variable| variable.key == path)
}
