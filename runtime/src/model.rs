//! The model port: one call of a language model, whatever wire it speaks.
//!
//! A [`Model`] performs exactly one turn: conversation in, completion out. Retries of a call, fallbacks, prices and
//! deadlines are here and in the adapters; what a run does with the answer is [`crate::domain::run`]'s business.
//!
//! ```text
//! Models::for_agent ─▶ chain (limits, retries, fallbacks, prices) ─▶ openai │ anthropic ─▶ call (HTTP, faults)
//!                                                                 └▶ scripted
//! ```
//!
//! Called by the life of a step, which holds the chain of its agent. A failure is an [`Error`] with its fault class after the
//! chain has tried what its options allow; it never holds a key.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::domain::chat::{Completion, Message};
use crate::fault::{Fault, Faulty};
use crate::progress::Progress;
use crate::secret::MissingSecret;

mod access;
mod anthropic;
mod call;
mod chain;
mod factory;
#[cfg(test)]
mod fault_server;
mod openai;
mod scripted;
mod usage;

pub use crate::domain::chat::ToolOffer;
pub use factory::{ModelOptions, Models};
pub use scripted::ScriptedCalls;
pub use usage::Price;

/// One turn to perform.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// The system prompt; shared with all calls for the agent.
    pub instructions: Arc<str>,
    /// The conversation, oldest first; shared with the run, which says nothing while it asks.
    pub messages: Arc<Vec<Message>>,
    /// What the model may ask for; shared too.
    pub tools: Arc<[ToolOffer]>,
    /// Force this tool to be called, where the provider can.
    pub force_tool: Option<String>,
    /// When the step's time is over: bounds the call with all its retries and fallbacks. `None` = no such bound.
    pub deadline: Option<Instant>,
    /// Told of each sign of life: a try, a wait before another one, a piece of a streamed answer.
    pub progress: Option<Progress>,
}

/// Takes the pieces of a streamed answer's text, in order.
pub type OnDelta<'sink> = &'sink mut (dyn FnMut(&str) + Send);

/// A language model behind a provider's wire.
#[async_trait]
pub trait Model: Send + Sync {
    /// Performs one turn.
    ///
    /// # Errors
    /// [`Error`] with its fault class. Dropping the future cancels the call.
    async fn complete(&self, request: &Request) -> Result<Completion, Error>;

    /// Performs one turn and hands the text out while it comes; the completion at the end is the whole answer.
    ///
    /// A model that cannot stream hands its text out in one piece. An answer that has begun is never begun again by a
    /// retry: the reader would see it twice.
    ///
    /// # Errors
    /// As [`Model::complete`].
    async fn complete_streaming(&self, request: &Request, on_delta: OnDelta<'_>) -> Result<Completion, Error> {
        let completion = self.complete(request).await?;
        if !completion.text.is_empty() {
            on_delta(&completion.text);
        }
        Ok(completion)
    }
}

/// Why a turn could not be had. `model` is `provider/model` of the spec.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The provider answered with an error status.
    #[error("{model} answered {status}: {message}")]
    Status {
        /// Who.
        model: String,
        /// The HTTP status.
        status: u16,
        /// The provider's own words, cut and without the key.
        message: String,
        /// How long the provider asks us to wait.
        retry_after: Option<Duration>,
    },
    /// The account has no credit left: waiting does not help, although some providers call it 429.
    #[error("{model} has no credit left: {message}; top the account up or change the key")]
    NoCredit {
        /// Who.
        model: String,
        /// The provider's own words, cut and without the key.
        message: String,
    },
    /// No answer, or no further piece of one, in time.
    #[error("{model} did not answer within {after:?}")]
    Timeout {
        /// Who.
        model: String,
        /// The limit that was reached.
        after: Duration,
    },
    /// The connection could not be made, or broke.
    #[error("no connection to {model}: {message}")]
    Connect {
        /// Who.
        model: String,
        /// What the network said.
        message: String,
    },
    /// The answer cannot be read, or holds none.
    #[error("{model} sent an unusable answer: {message}")]
    BadAnswer {
        /// Who.
        model: String,
        /// What is wrong with it.
        message: String,
    },
    /// The answer is longer than we read.
    #[error("{model} sent more than answer_bytes_max = {limit} bytes")]
    TooLarge {
        /// Who.
        model: String,
        /// The limit.
        limit: usize,
    },
    /// No rule of the script fits.
    #[error("no rule of the script of agent {agent} matches {last:?}; add one, or a rule without `when`")]
    NoRule {
        /// Whose script.
        agent: String,
        /// The first 80 characters of the last message.
        last: String,
    },
    /// Keys that are not set.
    #[error(transparent)]
    MissingSecret(#[from] MissingSecret),
    /// The request's deadline came before an answer; `last` says what had failed until then.
    #[error("the time for the call ran out{}", .last.as_ref().map(|last| format!("; before that: {last}")).unwrap_or_default())]
    Deadline {
        /// The last failure before, if there was one.
        last: Option<Box<Error>>,
    },
    /// All models of the chain failed.
    #[error("every model failed: {}", join(.failures))]
    Exhausted {
        /// The last error of each, in the order of the chain.
        failures: Vec<Error>,
    },
    /// A spec or an option that cannot work.
    #[error("{model} cannot be used: {message}")]
    BadSpec {
        /// Who.
        model: String,
        /// What is wrong with it.
        message: String,
    },
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Status { status, retry_after, .. } => status_fault(*status, *retry_after),
            Self::Timeout { .. } | Self::Connect { .. } | Self::BadAnswer { .. } | Self::Deadline { .. } => {
                Fault::transient()
            }
            Self::NoCredit { .. }
            | Self::TooLarge { .. }
            | Self::NoRule { .. }
            | Self::MissingSecret(_)
            | Self::BadSpec { .. } => Fault::Permanent,
            Self::Exhausted { failures } => soonest(failures),
        }
    }
}

/// The one table from an HTTP status to a fault.
const fn status_fault(status: u16, retry_after: Option<Duration>) -> Fault {
    match status {
        // 409 is a lock that a provider could not get in time; both vendors' own clients repeat it.
        408 | 409 | 425 | 429 | 500..=599 => Fault::Transient { retry_after },
        _ => Fault::Permanent,
    }
}

/// A chain may succeed later as soon as one of its models may.
fn soonest(failures: &[Error]) -> Fault {
    let mut waits = failures.iter().filter_map(|failure| match failure.fault() {
        Fault::Transient { retry_after } => Some(retry_after.unwrap_or_default()),
        Fault::Permanent | Fault::Fenced | Fault::Bug => None,
    });
    let Some(first) = waits.next() else { return Fault::Permanent };
    let wait = waits.fold(first, Duration::min);
    Fault::Transient { retry_after: (!wait.is_zero()).then_some(wait) }
}

fn join(failures: &[Error]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, seconds: Option<u64>) -> Error {
        Error::Status {
            model: "openai/x".into(),
            status,
            message: "no".into(),
            retry_after: seconds.map(Duration::from_secs),
        }
    }

    #[test]
    fn statuses_map_to_faults() {
        for transient in [408, 409, 425, 429, 500, 502, 503, 504, 529] {
            assert!(status(transient, None).fault().is_transient(), "{transient}");
        }
        for permanent in [301, 400, 401, 402, 403, 404, 413, 422] {
            assert_eq!(status(permanent, Some(1)).fault(), Fault::Permanent, "{permanent}");
        }
        assert_eq!(status(429, Some(7)).fault(), Fault::Transient { retry_after: Some(Duration::from_secs(7)) });
    }

    #[test]
    fn a_chain_may_succeed_when_its_soonest_model_may() {
        let fault = |failures| Error::Exhausted { failures }.fault();
        assert_eq!(fault(vec![status(401, None), status(404, None)]), Fault::Permanent);
        let wait = Some(Duration::from_secs(3));
        assert_eq!(
            fault(vec![status(429, Some(9)), status(401, None), status(503, Some(3))]),
            Fault::Transient { retry_after: wait }
        );
        assert_eq!(fault(vec![status(429, Some(9)), status(500, None)]), Fault::transient());
    }

    #[test]
    fn an_exhausted_chain_names_each_failure() {
        let error = Error::Exhausted { failures: vec![status(500, None), status(401, None)] };
        assert_eq!(error.to_string(), "every model failed: openai/x answered 500: no; openai/x answered 401: no");
        let late = Error::Deadline { last: Some(Box::new(status(500, None))) };
        assert_eq!(late.to_string(), "the time for the call ran out; before that: openai/x answered 500: no");
    }
}
