//! Where a model is called and with which key, as the secrets say it now.
//!
//! ```text
//! call ─► way: made anew when a secret is another one ─► sent
//!           ▲                                             │ 401, 403
//!           └── secrets read again; another key? once ◄───┘
//! ```
//!
//! One for each model of an agent, made by [`super::Models`], asked by the [`super::call`]s. So a key that was changed is the
//! key of the next call, also of runs that began with the old one; and a call that the provider refuses, for it knows the new key
//! before we do, looks for a new key before it gives up. A value that makes no way (an address that is none) leaves the last one in use.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use url::Url;

use super::{Error, anthropic, openai};
use crate::domain::agent::{ModelSpec, ProviderKind};
use crate::domain::chat::Completion;
use crate::secret::{ExposeSecret as _, MissingSecret, SecretString, Secrets};

/// How long a refused call waits for the secrets to be read again; a mounted folder may not answer.
const RENEW_MAX: Duration = Duration::from_secs(2);

/// How one model is reached. Cheap to ask: the secrets are in memory.
pub(super) struct Access {
    spec: ModelSpec,
    secrets: Secrets,
    /// Held by whoever reads the secrets again: a thousand refused calls are one reading at a time.
    renewing: Arc<tokio::sync::Mutex<()>>,
    /// The last way, and the generation of the secrets that it was last found right for.
    made: Mutex<Option<(u64, Arc<Way>)>>,
}

/// An address and what to show there.
#[derive(PartialEq, Eq)]
pub(super) struct Way {
    /// The full address of the method.
    pub(super) url: Url,
    /// Authentication and versions.
    pub(super) headers: HeaderMap,
}

impl Access {
    pub(super) fn new(spec: &ModelSpec, secrets: &Secrets, renewing: &Arc<tokio::sync::Mutex<()>>) -> Self {
        let (spec, secrets, renewing) = (spec.clone(), secrets.clone(), renewing.clone());
        Self { spec, secrets, renewing, made: Mutex::default() }
    }

    /// The way as it is now.
    ///
    /// # Errors
    /// [`Error::MissingSecret`], [`Error::BadSpec`]; neither once there was a way.
    pub(super) fn way(&self) -> Result<Arc<Way>, Error> {
        let now = self.secrets.generation();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, way)) = made.as_ref().filter(|(generation, _)| *generation == now) {
            return Ok(way.clone());
        }
        let way = match (Way::of(&self.spec, &self.secrets), made.as_ref()) {
            (Ok(way), _) => Arc::new(way),
            (Err(error), Some((_, last))) => {
                tracing::warn!(%error, "a changed secret cannot be used; the last good one stays");
                last.clone()
            }
            (Err(error), None) => return Err(error),
        };
        *made = Some((now, way.clone()));
        Ok(way)
    }

    /// Whether a secret that it needs is not set.
    pub(super) fn lacks_secret(&self) -> bool {
        matches!(self.way(), Err(Error::MissingSecret(_)))
    }

    /// Takes the secrets out of an answer: what a provider quotes would be kept, shown and sent on.
    pub(super) fn hide(&self, completion: &mut Completion) {
        let redactor = self.secrets.redactor();
        let hide = |text: &mut String| {
            if let Cow::Owned(hidden) = redactor.hide(text) {
                *text = hidden;
            }
        };
        [&mut completion.text, &mut completion.model].into_iter().chain(&mut completion.request_id).for_each(hide);
        completion.tool_calls.iter_mut().for_each(|call| hide_in(&mut call.arguments, &hide));
    }

    /// Another way than this, which was refused: read from where the secrets come from. `None` when they are what they were.
    ///
    /// Cancelled, the reading goes on and is the next call's gain.
    pub(super) async fn other_than(&self, refused: &Way) -> Option<Arc<Way>> {
        let another = || self.way().ok().filter(|way| **way != *refused);
        let renew = async {
            let _turn = self.renewing.lock().await;
            // Somebody else may have read them while we waited for our turn.
            if another().is_none() {
                let secrets = self.secrets.clone();
                // What has gone is told by the watcher.
                spawn_blocking(move || drop(secrets.renew())).await.ok();
            }
        };
        timeout(RENEW_MAX, renew).await.ok();
        another()
    }
}

impl Way {
    fn of(spec: &ModelSpec, secrets: &Secrets) -> Result<Self, Error> {
        match spec.provider {
            ProviderKind::Anthropic => Self::to_anthropic(spec, secrets),
            // A scripted model asks nobody.
            ProviderKind::Openai | ProviderKind::Scripted => Self::to_openai(spec, secrets),
        }
    }

    fn to_openai(spec: &ModelSpec, secrets: &Secrets) -> Result<Self, Error> {
        let base = base_url(spec, secrets, "OPENAI_BASE_URL")?;
        let key = key(spec, secrets, "OPENAI_API_KEY", base.is_none())?;
        let url = join(spec, base.as_deref().unwrap_or(openai::DEFAULT_BASE_URL), "chat/completions")?;
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            let bearer = SecretString::from(format!("Bearer {}", key.expose_secret().trim()));
            headers.insert(AUTHORIZATION, sensitive(spec, &bearer)?);
        }
        Ok(Self { url, headers })
    }

    fn to_anthropic(spec: &ModelSpec, secrets: &Secrets) -> Result<Self, Error> {
        let base = base_url(spec, secrets, "ANTHROPIC_BASE_URL")?;
        let key = key(spec, secrets, "ANTHROPIC_API_KEY", base.is_none())?;
        let base = base.as_deref().unwrap_or(anthropic::DEFAULT_BASE_URL).trim_end_matches('/');
        // The vendor's variable holds no version, other tools write it with one: both are meant alike.
        let url = join(spec, base.strip_suffix("/v1").unwrap_or(base), "v1/messages")?;
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("anthropic-version"), HeaderValue::from_static(anthropic::VERSION));
        if let Some(key) = key {
            headers.insert(HeaderName::from_static("x-api-key"), sensitive(spec, &key)?);
        }
        Ok(Self { url, headers })
    }
}

/// Every text of a value, however deep.
fn hide_in(value: &mut Value, hide: &impl Fn(&mut String)) {
    match value {
        Value::String(text) => hide(text),
        Value::Array(items) => items.iter_mut().for_each(|item| hide_in(item, hide)),
        Value::Object(fields) => fields.values_mut().for_each(|field| hide_in(field, hide)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `provider/model`, for errors.
pub(super) fn label(spec: &ModelSpec) -> String {
    format!("{}/{}", spec.provider.as_str(), spec.model)
}

/// The address of the spec, else of the variable; `None` for the provider's own.
fn base_url(spec: &ModelSpec, secrets: &Secrets, variable: &str) -> Result<Option<String>, Error> {
    match &spec.base_url {
        Some(template) => Ok(Some(secrets.resolve(template)?.expose_secret().to_owned())),
        None => Ok(secrets.setting(variable)),
    }
}

/// The key of the spec, else of the variable. A server of one's own may need none.
fn key(spec: &ModelSpec, secrets: &Secrets, variable: &str, required: bool) -> Result<Option<SecretString>, Error> {
    if let Some(template) = &spec.api_key {
        return Ok(Some(secrets.resolve(template)?));
    }
    let key = secrets.get(variable);
    if required && key.is_none() {
        return Err(MissingSecret { names: vec![variable.to_owned()] }.into());
    }
    Ok(key)
}

/// `path` below `base`. The address is not shown in errors: it may hold a token.
fn join(spec: &ModelSpec, base: &str, path: &str) -> Result<Url, Error> {
    let bad = |message: String| Error::BadSpec { model: label(spec), message };
    let url = Url::parse(&format!("{}/{path}", base.trim_end_matches('/')));
    let url = url.map_err(|error| bad(format!("its base_url is no address: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(bad("its base_url must begin with http:// or https://".to_owned()));
    }
    Ok(url)
}

fn sensitive(spec: &ModelSpec, value: &SecretString) -> Result<HeaderValue, Error> {
    let message = "its api_key holds characters that no header may hold";
    let mut value = HeaderValue::from_str(value.expose_secret().trim())
        .map_err(|_| Error::BadSpec { model: label(spec), message: message.to_owned() })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
