//! The factory of models: from the specs of an agent to the chain that its steps call.
//!
//! One [`Models`] per node, made at start from the secrets, one HTTP client and the options; the orchestrator asks it for
//! each agent. A missing key is an error that names every one missing, except where a scripted model stands last: then
//! the models without a key are left out, so that the examples run without any.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::domain::agent::{AgentName, ModelSpec, ProviderKind};
use crate::retry::{Backoff, BackoffOptions};
use crate::secret::{ExposeSecret, MissingSecret, SecretString, Secrets};

use super::anthropic::{self, Anthropic};
use super::call::Endpoint;
use super::chain::{Chain, Link};
use super::openai::{self, OpenAi};
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

/// Makes the models of agents.
pub struct Models {
    secrets: Secrets,
    client: Client,
    backoff: Backoff,
    options: ModelOptions,
    calls: ScriptedCalls,
    told: Mutex<HashSet<AgentName>>,
}

impl Models {
    /// `client` is one of [`Models::client`]; connections are shared by all agents.
    ///
    /// # Errors
    /// [`Error::BadSpec`] when the backoff of the options makes no sense.
    pub fn new(secrets: Secrets, client: Client, options: ModelOptions) -> Result<Self, Error> {
        let backoff = Backoff::new(options.backoff).map_err(|error| bad_spec("the model chain", &error.to_string()))?;
        Ok(Self { secrets, client, backoff, options, calls: ScriptedCalls::default(), told: Mutex::default() })
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
            match self.model(agent, spec) {
                Ok(model) => links.push(Link {
                    label: label(spec),
                    model,
                    timeout: spec.timeout,
                    price: self.options.prices.get(&spec.model).copied(),
                }),
                Err(Error::MissingSecret(error)) => missing.extend(error.names),
                Err(error) => return Err(error),
            }
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
        let (tool_calls_max, streams) = (self.options.tool_calls_max, self.options.stream);
        Ok(Arc::new(Chain { links, backoff: self.backoff, tool_calls_max, streams }))
    }

    fn model(&self, agent: &AgentName, spec: &ModelSpec) -> Result<Box<dyn Model>, Error> {
        match spec.provider {
            ProviderKind::Scripted => Ok(Box::new(ScriptedModel::new(agent, spec, &self.calls)?)),
            ProviderKind::Openai => Ok(Box::new(OpenAi::new(spec, self.openai_endpoint(spec)?))),
            ProviderKind::Anthropic => Ok(Box::new(Anthropic::new(spec, self.anthropic_endpoint(spec)?))),
        }
    }

    pub(super) fn openai_endpoint(&self, spec: &ModelSpec) -> Result<Endpoint, Error> {
        let base = self.base_url(spec, "OPENAI_BASE_URL")?;
        let key = self.key(spec, "OPENAI_API_KEY", base.is_none())?;
        let url = join(spec, base.as_deref().unwrap_or(openai::DEFAULT_BASE_URL), "chat/completions")?;
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            let bearer = SecretString::from(format!("Bearer {}", key.expose_secret()));
            headers.insert(AUTHORIZATION, sensitive(spec, &bearer)?);
        }
        Ok(self.endpoint(spec, url, headers))
    }

    pub(super) fn anthropic_endpoint(&self, spec: &ModelSpec) -> Result<Endpoint, Error> {
        let base = self.base_url(spec, "ANTHROPIC_BASE_URL")?;
        let key = self.key(spec, "ANTHROPIC_API_KEY", base.is_none())?;
        let base = base.as_deref().unwrap_or(anthropic::DEFAULT_BASE_URL).trim_end_matches('/');
        // The vendor's variable holds no version, other tools write it with one: both are meant alike.
        let url = join(spec, base.strip_suffix("/v1").unwrap_or(base), "v1/messages")?;
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("anthropic-version"), HeaderValue::from_static(anthropic::VERSION));
        if let Some(key) = key {
            headers.insert(HeaderName::from_static("x-api-key"), sensitive(spec, &key)?);
        }
        Ok(self.endpoint(spec, url, headers))
    }

    fn endpoint(&self, spec: &ModelSpec, url: Url, headers: HeaderMap) -> Endpoint {
        Endpoint {
            label: label(spec),
            client: self.client.clone(),
            url,
            headers,
            redactor: self.secrets.redactor(),
            answer_bytes_max: self.options.answer_bytes_max,
            idle: self.options.idle_timeout,
        }
    }

    /// The address of the spec, else of the variable; `None` for the provider's own.
    fn base_url(&self, spec: &ModelSpec, variable: &str) -> Result<Option<String>, Error> {
        match &spec.base_url {
            Some(template) => Ok(Some(self.secrets.resolve(template)?.expose_secret().to_owned())),
            None => Ok(self.secrets.setting(variable).map(str::to_owned)),
        }
    }

    /// The key of the spec, else of the variable. A server of one's own may need none.
    fn key(&self, spec: &ModelSpec, variable: &str, required: bool) -> Result<Option<SecretString>, Error> {
        if let Some(template) = &spec.api_key {
            return Ok(Some(self.secrets.resolve(template)?));
        }
        let key = self.secrets.get(variable);
        if required && key.is_none() {
            return Err(MissingSecret { names: vec![variable.to_owned()] }.into());
        }
        Ok(key)
    }

    /// Every instance of an agent asks for the same chain; one line is enough.
    fn tell_once(&self, agent: &AgentName, missing: &[String]) {
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(agent.clone()) {
            let missing = missing.join(", ");
            tracing::info!(agent = agent.as_str(), missing, "models without a key are left out, the script stands in");
        }
    }
}

fn label(spec: &ModelSpec) -> String {
    format!("{}/{}", spec.provider.as_str(), spec.model)
}

fn bad_spec(model: &str, message: &str) -> Error {
    Error::BadSpec { model: model.to_owned(), message: message.to_owned() }
}

/// `path` below `base`. The address is not shown in errors: it may hold a token.
fn join(spec: &ModelSpec, base: &str, path: &str) -> Result<Url, Error> {
    let url = Url::parse(&format!("{}/{path}", base.trim_end_matches('/')));
    let url = url.map_err(|error| bad_spec(&label(spec), &format!("its base_url is no address: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(bad_spec(&label(spec), "its base_url must begin with http:// or https://"));
    }
    Ok(url)
}

fn sensitive(spec: &ModelSpec, value: &SecretString) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::from_str(value.expose_secret().trim())
        .map_err(|_| bad_spec(&label(spec), "its api_key holds characters that no header may hold"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
pub(super) mod tests;
