//! The chain of an agent: its models in order, each with its time limit, retries and price.
//!
//! A try that fails in a way that may pass is repeated after a backoff that honours `Retry-After`; when the tries of a
//! model are used up, or repeating makes no sense, the next model is asked. The request's deadline bounds it all. Built by
//! [`super::Models`], held by the life of a step. When everything failed, [`Error::Exhausted`] tells each model's last word.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout};

use crate::domain::chat::{Completion, Message};
use crate::fault::{Fault, Faulty};
use crate::live::Live;
use crate::progress::Progress;
use crate::retry::Backoff;

use super::access::Access;
use super::{Error, Model, ModelOptions, OnDelta, Request};

/// One model of a chain.
pub(super) struct Link {
    /// `provider/model`.
    pub(super) label: String,
    /// Who is asked.
    pub(super) model: Box<dyn Model>,
    /// How it is reached; `None` for one in this process.
    pub(super) access: Option<Arc<Access>>,
    /// Limit of one try.
    pub(super) timeout: Duration,
    /// The name in the spec, by which it has its price.
    pub(super) name: String,
}

/// The models of an agent, first choice first.
pub(super) struct Chain {
    /// Never empty.
    pub(super) links: Vec<Link>,
    /// How a try was repeated at the start.
    pub(super) backoff: Backoff,
    /// The limits, as they are now.
    pub(super) options: Live<ModelOptions>,
}

/// How a link failed.
enum Failed {
    /// The next link may be asked.
    Here(Error),
    /// It is over: no time is left, or half an answer was shown already.
    Over(Error),
}

/// Where the text goes while it comes, and whether some did.
struct Sink<'sink> {
    on_delta: OnDelta<'sink>,
    begun: bool,
}

#[async_trait]
impl Model for Chain {
    async fn complete(&self, request: &Request) -> Result<Completion, Error> {
        self.ask(request, None).await
    }

    async fn complete_streaming(&self, request: &Request, on_delta: OnDelta<'_>) -> Result<Completion, Error> {
        self.ask(request, Some(Sink { on_delta, begun: false })).await
    }
}

impl Chain {
    async fn ask(&self, request: &Request, mut sink: Option<Sink<'_>>) -> Result<Completion, Error> {
        let mut failures = Vec::new();
        for link in &self.links {
            // Only where a script stands last: elsewhere an agent is not ready without its keys.
            if link.access.as_ref().is_some_and(|access| access.lacks_secret()) {
                continue;
            }
            match self.ask_link(link, request, sink.as_mut()).await {
                Ok(completion) => return Ok(completion),
                Err(Failed::Over(error)) => return Err(error),
                Err(Failed::Here(error)) => {
                    tracing::warn!(model = link.label, %error, fault = error.fault().as_str(), "model gave no answer");
                    failures.push(error);
                }
            }
        }
        match (failures.pop(), failures.is_empty()) {
            (Some(only), true) => Err(only),
            (last, _) => {
                failures.extend(last);
                Err(Error::Exhausted { failures })
            }
        }
    }

    async fn ask_link(
        &self,
        link: &Link,
        request: &Request,
        mut sink: Option<&mut Sink<'_>>,
    ) -> Result<Completion, Failed> {
        let mut last = None;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match self.try_once(link, request, sink.as_deref_mut()).await {
                Ok(completion) => return Ok(completion),
                Err(error) => error,
            };
            if let Error::Deadline { .. } = error {
                return Err(Failed::Over(Error::Deadline { last }));
            }
            if sink.as_ref().is_some_and(|sink| sink.begun) {
                return Err(Failed::Over(error));
            }
            let Fault::Transient { retry_after } = error.fault() else { return Err(Failed::Here(error)) };
            let backoff = Backoff::new(self.options.get().backoff).unwrap_or(self.backoff);
            let wait = backoff.next(attempt, retry_after, &mut rand::rng());
            let Some(wait) = wait.filter(|wait| time_left(request).is_none_or(|left| *wait < left)) else {
                return Err(Failed::Here(error));
            };
            tracing::info!(model = link.label, attempt, %error, wait_ms = wait.as_millis() as u64, "model call repeated");
            made(request);
            sleep(wait).await;
            last = Some(Box::new(error));
        }
    }

    /// One call within its time.
    async fn try_once(&self, link: &Link, request: &Request, sink: Option<&mut Sink<'_>>) -> Result<Completion, Error> {
        let left = time_left(request);
        let limit = left.map_or(link.timeout, |left| left.min(link.timeout));
        if limit.is_zero() {
            return Err(Error::Deadline { last: None });
        }
        made(request);
        let call = async {
            match sink {
                // Nobody is shown the pieces, so a stream that breaks may be begun again.
                None if self.options.get().stream && request.progress.is_some() => {
                    link.model.complete_streaming(request, &mut |_| made(request)).await
                }
                None => link.model.complete(request).await,
                Some(Sink { on_delta, begun }) => {
                    let mut pass_on = |delta: &str| {
                        *begun = true;
                        made(request);
                        on_delta(delta);
                    };
                    link.model.complete_streaming(request, &mut pass_on).await
                }
            }
        };
        let completion = match timeout(limit, call).await {
            Ok(answer) => answer?,
            Err(_) if limit < link.timeout => return Err(Error::Deadline { last: None }),
            Err(_) => return Err(Error::Timeout { model: link.label.clone(), after: limit }),
        };
        self.checked(link, request, completion)
    }

    /// What holds for the answers of every wire: a bound on tool calls, ids that are unique, no secrets, and a price.
    fn checked(&self, link: &Link, request: &Request, mut completion: Completion) -> Result<Completion, Error> {
        let asked = completion.tool_calls.len();
        let options = self.options.get();
        if asked > options.tool_calls_max {
            let message = format!("it asks for {asked} tools at once, tool_calls_max is {}", options.tool_calls_max);
            return Err(Error::BadAnswer { model: link.label.clone(), message });
        }
        make_ids_unique(&mut completion, request);
        if let Some(access) = &link.access {
            access.hide(&mut completion);
        }
        if let Some(price) = options.prices.get(&link.name) {
            completion.usage.cost_microusd = price.cost_microusd(&completion.usage);
        }
        Ok(completion)
    }
}

/// A sign of life, for whoever asked.
fn made(request: &Request) {
    request.progress.iter().for_each(Progress::made);
}

/// What is left until the request's deadline.
fn time_left(request: &Request) -> Option<Duration> {
    request.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

/// Some servers leave the id out, or count from 0 in every answer; the journal needs one name for one call.
fn make_ids_unique(completion: &mut Completion, request: &Request) {
    let mut taken: Vec<String> = Vec::new();
    for message in request.messages.iter() {
        if let Message::Assistant { tool_calls, .. } = message {
            taken.extend(tool_calls.iter().map(|call| call.id.clone()));
        }
    }
    for (index, call) in completion.tool_calls.iter_mut().enumerate() {
        if call.id.is_empty() || taken.contains(&call.id) {
            let prefix = if call.id.is_empty() { "call" } else { &call.id };
            call.id = format!("{prefix}-{}-{index}", request.messages.len());
        }
        taken.push(call.id.clone());
    }
}

#[cfg(test)]
mod tests;
