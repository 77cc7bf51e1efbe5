//! The factory of models: from the specs of an agent to the chain that its steps call.
//!
//! One [`Models`] per node, made at start from the secrets, one HTTP client and the options; the orchestrator asks it for
//! each agent. A missing key is an error that names every one missing, except where a scripted model stands last: then
//! the models without a key are passed over for as long as they have none, so that the examples run without any.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;

use crate::domain::agent::{AgentName, ModelSpec, ProviderKind};
use crate::live::Live;
use crate::retry::{Backoff, BackoffOptions};
use crate::secret::{MissingSecret, Redactor, Secrets};

use super::access::{Access, label};
use super::anthropic::Anthropic;
use super::call::Endpoint;
use super::chain::{Chain, Link};
use super::openai::OpenAi;
use super::scripted::{ScriptedCalls, ScriptedModel};
use super::{Error, Model, Price};

/// The limits of model calls.
#[derive(Debug, Clone)]
pub struct ModelOptions {
    /// How a failed call of one model is repeated.
    pub backoff: BackoffOptions,
    /// Limit of making a connection.
    pub connect_timeout: Duration,
    /// Longest silence between two pieces of a streamed answer.
    pub idle_timeout: Duration,
    /// Longest answer that is read, in bytes.
    pub answer_bytes_max: usize,
    /// An answer that asks for more tools at once is unusable.
    pub tool_calls_max: usize,
    /// Whether answers are asked for piece by piece, so that each piece counts as progress.
    pub stream: bool,
    /// What models cost, by the name in the spec; the cost of the others counts as 0.
    pub prices: BTreeMap<String, Price>,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self {
            backoff: BackoffOptions::default(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            answer_bytes_max: 4 * 1024 * 1024,
            tool_calls_max: 64,
            stream: false,
            prices: BTreeMap::new(),
        }
    }
}

/// A model, and how it is reached when it is not in this process.
type Reached = (Box<dyn Model>, Option<Arc<Access>>);

/// Makes the models of agents.
pub struct Models {
    secrets: Secrets,
    client: Client,
    backoff: Backoff,
    options: Live<ModelOptions>,
    calls: ScriptedCalls,
    told: Mutex<HashSet<AgentName>>,
    renewing: Arc<tokio::sync::Mutex<()>>,
}

impl Models {
    /// `client` is one of [`Models::client`]; connections are shared by all agents. Options that change are those of the next call.
    ///
    /// # Errors
    /// [`Error::BadSpec`] when the backoff of the options makes no sense.
    pub fn new(secrets: Secrets, client: Client, options: impl Into<Live<ModelOptions>>) -> Result<Self, Error> {
        let options = options.into();
        let backoff =
            Backoff::new(options.get().backoff).map_err(|error| bad_spec("the model chain", &error.to_string()))?;
        Ok(Self {
            secrets,
            client,
            backoff,
            options,
            calls: ScriptedCalls::default(),
            told: Mutex::default(),
            renewing: Arc::default(),
        })
    }

    /// The HTTP client for models. It follows no redirects (a key goes to the host it was meant for) and has no time limit
    /// of its own but for connecting: each call brings its own.
    ///
    /// # Errors
    /// [`Error::BadSpec`] when TLS cannot be set up.
    pub fn client(options: &ModelOptions) -> Result<Client, Error> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(bad_spec("the model chain", "no TLS provider is installed; main must install one first"));
        }
        Client::builder()
            .user_agent(concat!("troupe/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(options.connect_timeout)
            .build()
            .map_err(|error| bad_spec("the model chain", &error.to_string()))
    }

    /// What masks the secrets that models are called with, and every other one of the node.
    #[must_use]
    pub fn redactor(&self) -> Redactor {
        self.secrets.redactor()
    }

    /// The calls of scripted models so far, for the metrics and the demo.
    #[must_use]
    pub fn scripted_calls(&self) -> ScriptedCalls {
        self.calls.clone()
    }

    /// The chain of `agent`: its first choice, then the fallbacks.
    ///
    /// # Errors
    /// [`Error::MissingSecret`] with every missing name, [`Error::BadSpec`] for an address, key or script that cannot work.
    pub fn for_agent(&self, agent: &AgentName, specs: &[ModelSpec]) -> Result<Arc<dyn Model>, Error> {
        let has_stand_in = specs.last().is_some_and(|spec| spec.provider == ProviderKind::Scripted);
        let mut links = Vec::with_capacity(specs.len());
        let mut missing: Vec<String> = Vec::new();
        for spec in specs {
            let (model, access) = self.model(agent, spec)?;
            match access.as_ref().map_or(Ok(()), |access| access.way().map(drop)) {
                Ok(()) => {}
                Err(Error::MissingSecret(error)) => missing.extend(error.names),
                Err(error) => return Err(error),
            }
            links.push(Link { label: label(spec), model, access, timeout: spec.timeout, name: spec.model.clone() });
        }
        missing.sort();
        missing.dedup();
        if !missing.is_empty() {
            if !has_stand_in {
                return Err(MissingSecret { names: missing }.into());
            }
            self.tell_once(agent, &missing);
        }
        if links.is_empty() {
            return Err(bad_spec(agent.as_str(), "its spec names no model"));
        }
        Ok(Arc::new(Chain { links, backoff: self.backoff, options: self.options.clone() }))
    }

    /// One model of a chain.
    fn model(&self, agent: &AgentName, spec: &ModelSpec) -> Result<Reached, Error> {
        let endpoint = self.endpoint(spec);
        let access = Some(endpoint.access.clone());
        Ok(match spec.provider {
            ProviderKind::Scripted => (Box::new(ScriptedModel::new(agent, spec, &self.calls)?), None),
            ProviderKind::Openai => (Box::new(OpenAi::new(spec, endpoint)), access),
            ProviderKind::Anthropic => (Box::new(Anthropic::new(spec, endpoint)), access),
        })
    }

    pub(super) fn endpoint(&self, spec: &ModelSpec) -> Endpoint {
        Endpoint {
            label: label(spec),
            client: self.client.clone(),
            access: Arc::new(Access::new(spec, &self.secrets, &self.renewing)),
            redactor: self.secrets.redactor(),
            options: self.options.clone(),
        }
    }

    /// Every instance of an agent asks for the same chain; one line is enough.
    fn tell_once(&self, agent: &AgentName, missing: &[String]) {
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(agent.clone()) {
            let missing = missing.join(", ");
            tracing::info!(
                agent = agent.as_str(),
                missing,
                "models without a key are passed over, the script stands in"
            );
        }
    }
}

fn bad_spec(model: &str, message: &str) -> Error {
    Error::BadSpec { model: model.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
pub(super) mod tests;
