//! How the command line finds the node: flag, environment, `.env`, node file, default, as everywhere.
//!
//! The file is read for the address and the token only. When something else in it is wrong, that is the business of
//! `troupe check` and of `up`: a look at a node on another machine must not fail for it.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret as _, SecretString};
use troupe_runtime::config::{NodeConfig, Problems, Sources};

use super::{Error, Global};
use crate::client::{Client, ClientOptions};

const URL: &str = "TROUPE_ADMIN_URL";
const TOKEN: &str = "TROUPE_ADMIN_TOKEN";

/// A client for the node that is meant.
pub fn client(global: &Global) -> Result<Client, Error> {
    let sources = sources(global)?;
    Ok(Client::new(options(&sources))?)
}

/// The sources of this process with the global flags over them.
pub fn sources(global: &Global) -> Result<Sources, Problems> {
    let token = global.token.as_ref().map(|token| token.expose_secret().to_owned());
    let flags = [(URL, global.url.clone()), (TOKEN, token)];
    let flags: BTreeMap<_, _> = flags.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    Sources::from_process(flags)
}

/// Address and token, from the whole configuration or, when that is broken, from the variables alone.
#[must_use]
pub fn options(sources: &Sources) -> ClientOptions {
    let defaults = ClientOptions::default();
    let secrets = sources.secrets();
    if let Ok(config) = NodeConfig::load(sources, &secrets) {
        return ClientOptions { url: config.admin.url, token: config.admin.token, ..defaults };
    }
    let variable = |name: &str| {
        let flag = sources.flags.get(name).filter(|value| !value.is_empty());
        flag.cloned().or_else(|| secrets.setting(name))
    };
    let url = variable(URL).unwrap_or(defaults.url);
    ClientOptions { url, token: variable(TOKEN).map(SecretString::from), ..ClientOptions::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_strongest_source_wins() {
        let mut sources = Sources::default();
        assert_eq!(options(&sources).url, "http://127.0.0.1:8081");
        sources.file =
            Some(("config/node.yaml".into(), "admin: {url: \"http://file:1\", token: from-the-file-1234}".into()));
        assert_eq!(options(&sources).url, "http://file:1");
        assert!(options(&sources).token.is_some());
        sources.dotenv = set(&[(URL, "http://dotenv:1")]);
        assert_eq!(options(&sources).url, "http://dotenv:1");
        sources.env = set(&[(URL, "http://env:1")]);
        assert_eq!(options(&sources).url, "http://env:1");
        sources.flags = set(&[(URL, "http://flag:1")]);
        assert_eq!(options(&sources).url, "http://flag:1");
    }

    #[test]
    fn a_broken_file_does_not_hide_the_node() {
        let sources = Sources {
            file: Some(("config/node.yaml".into(), "http: {addr: nowhere}".into())),
            env: set(&[(URL, "http://env:1"), (TOKEN, "t0ken-of-the-node")]),
            ..Sources::default()
        };
        let options = options(&sources);
        assert_eq!(options.url, "http://env:1");
        assert_eq!(options.token.unwrap().expose_secret(), "t0ken-of-the-node");
    }
}
