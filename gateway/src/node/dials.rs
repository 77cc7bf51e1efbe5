//! The dials of a node: the settings that have an effect while it runs, in the form in which its parts use them.
//!
//! Made once when the node starts, shared with the parts; turned by the [upkeep](super::upkeep) when the configuration is another
//! one. A part looks at its dial at the beginning of each piece of work. What has no dial needs a restart.

use secrecy::SecretString;
use troupe_runtime::config::NodeConfig;
use troupe_runtime::live::Live;

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
        })
    }

    /// Turns them to what this configuration has. A secret that it has no more stays: a door must not open because a line is
    /// gone, and running work must not fail for it.
    ///
    /// # Errors
    /// [`EmptySecret`], and nothing is turned.
    pub(super) fn turn(&self, config: &NodeConfig) -> Result<(), EmptySecret> {
        let signing = SigningSecrets::new(config.slack.signing_secrets.clone())?;
        if !signing.is_empty() {
            self.signing.set(signing);
        }
        for (dial, value) in [(&self.bot_token, &config.slack.bot_token), (&self.admin_token, &config.admin.token)] {
            if value.is_some() {
                dial.set(value.clone());
            }
        }
        Ok(())
    }
}
