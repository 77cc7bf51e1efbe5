//! The dials of a node: the settings that have an effect while it runs, in the form in which its parts use them.
//!
//! Made once when the node starts, shared with the parts; turned by the [upkeep](super::upkeep) when the configuration is another
//! one. A part looks at its dial at the beginning of each piece of work. What has no dial needs a restart; which keys have one is
//! said where they are declared, and a test holds the two against each other.

use secrecy::SecretString;
use troupe_actors::watcher;
use troupe_runtime::config::{Agents, NodeConfig};
use troupe_runtime::live::Live;
use troupe_runtime::model::ModelOptions;

use super::options;
use crate::slack::signature::{EmptySecret, SigningSecrets};

/// What can be turned. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Dials {
    /// Who may sign requests to Slack's door.
    pub(super) signing: Live<SigningSecrets>,
    /// With what replies are sent.
    pub(super) bot_token: Live<Option<SecretString>>,
    /// With what the admin API is opened.
    pub(super) admin_token: Live<Option<SecretString>>,
    /// What is logged.
    pub(super) log_filter: Live<String>,
    /// The limits of model calls, and their prices.
    pub(super) models: Live<ModelOptions>,
    /// When the configuration is looked at.
    pub(super) watcher: Live<watcher::Options>,
    /// What specs may be.
    pub(super) agents: Live<Agents>,
}

impl Dials {
    /// As the configuration has them.
    ///
    /// # Errors
    /// [`EmptySecret`]: everybody could sign with it.
    pub fn of(config: &NodeConfig) -> Result<Self, EmptySecret> {
        Ok(Self {
            signing: SigningSecrets::new(config.slack.signing_secrets.clone())?.into(),
            bot_token: config.slack.bot_token.clone().into(),
            admin_token: config.admin.token.clone().into(),
            log_filter: config.log.filter.clone().into(),
            models: options::models(config).into(),
            watcher: options::watcher(config).into(),
            agents: config.agents.clone().into(),
        })
    }

    /// Turns them to what this configuration has. A secret that it has no more stays: a door must not open because a line is
    /// gone, and running work must not fail for it.
    ///
    /// # Errors
    /// [`EmptySecret`], and nothing is turned.
    pub(super) fn turn(&self, config: &NodeConfig) -> Result<(), EmptySecret> {
        let Self { signing, bot_token, admin_token, log_filter, models, watcher, agents } = Self::of(config)?;
        if !signing.get().is_empty() {
            self.signing.set(signing.get().as_ref().clone());
        }
        for (dial, new) in [(&self.bot_token, bot_token), (&self.admin_token, admin_token)] {
            if new.get().is_some() {
                dial.set(new.get().as_ref().clone());
            }
        }
        self.log_filter.set(log_filter.get().as_ref().clone());
        self.models.set(models.get().as_ref().clone());
        self.watcher.set(watcher.get().as_ref().clone());
        // The folder itself is where it was when the node started.
        let dir = self.agents.get().dir.clone();
        self.agents.set(Agents { dir, ..agents.get().as_ref().clone() });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use secrecy::ExposeSecret as _;
    use troupe_runtime::config::{Sources, node_keys};

    use super::*;

    /// Values of every kind that a key may have; each key takes some of them.
    const VALUES: [&str; 14] = [
        "7",
        "11",
        "3",
        "700ms",
        "2s",
        "11s",
        "3h",
        "40d",
        "2 MiB",
        "3 MiB",
        "[2s]",
        "[a.example.org]",
        "some-word",
        "streamed",
    ];
    /// And of the kinds that need their own.
    const SPECIAL: [&str; 10] = [
        "127.0.0.1:7",
        "http://127.0.0.1:7",
        "postgres://u@127.0.0.1/x",
        "amqp://u:p@127.0.0.1:1/x",
        "redis://127.0.0.1:1/0",
        "json",
        "[gateway]",
        "64 KiB",
        "{m: {input_usd: 1, output_usd: 2}}",
        "pretty",
    ];

    fn config(key: &str, value: &str) -> Option<NodeConfig> {
        let depth = key.matches('.').count();
        let text = key.split('.').collect::<Vec<_>>().join(": {");
        let sources = Sources {
            file: Some(("node.yaml".to_owned(), format!("{text}: {value}{}\n", "}".repeat(depth)))),
            ..Sources::default()
        };
        NodeConfig::load(&sources, &sources.secrets()).ok()
    }

    /// What the parts would see.
    fn seen(config: &NodeConfig) -> String {
        let dials = Dials::of(config).unwrap();
        let shown = |secret: &Option<SecretString>| secret.as_ref().map(|secret| secret.expose_secret().to_owned());
        let secrets: Vec<_> =
            config.slack.signing_secrets.iter().map(|secret| secret.expose_secret().to_owned()).collect();
        let tokens = [shown(&dials.bot_token.get()), shown(&dials.admin_token.get())];
        let agents = Agents { dir: "the same".into(), ..dials.agents.get().as_ref().clone() };
        let models = ModelOptions { connect_timeout: std::time::Duration::ZERO, ..dials.models.get().as_ref().clone() };
        format!("{secrets:?} {tokens:?} {:?} {models:?} {:?} {agents:?}", dials.log_filter.get(), dials.watcher.get())
    }

    /// Every key has a word, and the word is true: what is declared live turns a dial, and nothing else does.
    #[test]
    fn what_is_declared_live_has_a_dial_and_what_is_not_has_none() {
        let plain = NodeConfig::load(&Sources::default(), &Sources::default().secrets()).unwrap();
        let mut untried = BTreeMap::new();
        for key in node_keys() {
            let others = VALUES.iter().chain(&SPECIAL).filter_map(|value| config(&key.key, value));
            let other = others.into_iter().find(|other| !plain.differences(other).is_empty());
            let Some(other) = other else {
                untried.insert(key.key, key.live);
                continue;
            };
            assert_eq!(plain.differences(&other).as_slice(), std::slice::from_ref(&key), "one key was changed");
            assert_eq!(seen(&plain) != seen(&other), key.live, "{}: is it live or not?", key.key);
        }
        // A node that is given these does not start yet.
        let later: Vec<_> = untried.keys().filter(|key| key.starts_with("cluster.")).cloned().collect();
        assert_eq!(untried.keys().cloned().collect::<Vec<_>>(), later, "no value was found for these");
    }
}
