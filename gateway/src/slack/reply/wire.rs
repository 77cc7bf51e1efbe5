//! The calls to Slack, and what each possible end of one means for the question "is it there now?".
//!
//! | end of the call | means |
//! |---|---|
//! | 2xx (`ok: true`) | it is there |
//! | no connection; 429; `ratelimited` | it is not there, later |
//! | time-out, reset, cut answer, 5xx, `internal_error` and its like | nobody knows |
//! | 4xx of a response URL | the URL is used up |
//! | 3xx, 4xx, any other `ok: false` | it is not there and never will be |
//!
//! Redirects are not followed: a `response_url` must not lead elsewhere. Errors are free of URLs and tokens.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use troupe_runtime::live::Live;
use url::Url;

use super::ReplyOptions;
use super::address::{Target, is_loopback};

/// What a try to say something came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It is there.
    Yes {
        /// Slack's id of it, where Slack tells.
        ts: Option<String>,
    },
    /// It is certainly not there.
    No {
        /// Why.
        error: String,
        /// How long Slack wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// It may be there.
    Unknown {
        /// Why we cannot tell.
        error: String,
    },
    /// It is not there, and this way never will be.
    Never {
        /// Why.
        error: String,
    },
}

/// What looking for an earlier try came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Looked {
    /// It is there.
    Found {
        /// Slack's id of it.
        ts: String,
    },
    /// It is not there.
    Absent,
    /// Look again later.
    Later {
        /// Why.
        error: String,
        /// How long Slack wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// We may not or cannot look.
    Unable,
}

/// One message to say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) channel: &'a str,
    pub(super) text: &'a str,
    pub(super) reply_id: &'a str,
}

/// The client.
#[derive(Debug)]
pub(super) struct Wire {
    outside: Client,
    /// Never through a proxy: what is on this machine is reached on this machine.
    loopback: Client,
    api_base: Url,
    token: Live<Option<SecretString>>,
    answer_bytes_max: usize,
    pages_max: usize,
}

/// What every method of the Web API answers; the fields that we read.
#[derive(Debug, Default, Deserialize)]
struct ApiAnswer {
    ok: bool,
    error: Option<String>,
    ts: Option<String>,
    message_ts: Option<String>,
    #[serde(default)]
    messages: Vec<Value>,
    response_metadata: Option<NextPage>,
}

#[derive(Debug, Default, Deserialize)]
struct NextPage {
    #[serde(default)]
    next_cursor: String,
}

/// Errors of the Web API after which "some aspect of the operation may have succeeded" (Slack's words).
const DOUBTFUL_ERRORS: [&str; 4] = ["internal_error", "fatal_error", "service_unavailable", "request_timeout"];

impl Wire {
    pub(super) fn new(options: &ReplyOptions) -> Result<Self, reqwest::Error> {
        let builder = || {
            Client::builder()
                .redirect(redirect::Policy::none())
                .timeout(options.request_timeout)
                .connect_timeout(options.connect_timeout)
        };
        Ok(Self {
            outside: builder().build()?,
            loopback: builder().no_proxy().build()?,
            api_base: options.api_base.clone(),
            token: options.bot_token.clone(),
            answer_bytes_max: options.answer_bytes_max,
            pages_max: options.pages_max,
        })
    }

    /// Whether there is a bot token.
    pub(super) fn has_token(&self) -> bool {
        self.token.get().is_some()
    }

    /// Says it.
    pub(super) async fn say(&self, target: &Target, message: Message<'_>) -> Said {
        let mut body = json!({
            "text": message.text,
            "unfurl_links": false,
            "unfurl_media": false,
            "metadata": {"event_type": "troupe-reply", "event_payload": {"reply_id": message.reply_id}},
        });
        let thread = match target {
            Target::ResponseUrl { url, in_channel } => {
                body["response_type"] = json!(if *in_channel { "in_channel" } else { "ephemeral" });
                body["replace_original"] = json!(false);
                return self.respond(url, &body).await;
            }
            Target::Channel { thread } => thread,
            Target::Whisper { user, thread } => {
                body["user"] = json!(user);
                thread
            }
        };
        body["channel"] = json!(message.channel);
        if let Some(thread) = thread {
            body["thread_ts"] = json!(thread);
        }
        self.post(target.method(), &body).await
    }

    /// Looks for a message of ours by the reply id in its metadata, in the thread or the channel itself.
    pub(super) async fn look(&self, channel: &str, thread: Option<&str>, oldest: i64, reply_id: &str) -> Looked {
        let method = look_method(thread);
        let mut cursor = String::new();
        for _ in 0..self.pages_max {
            let Some(mut url) = self.url(method) else { return Looked::Unable };
            {
                let mut query = url.query_pairs_mut();
                query.append_pair("channel", channel).append_pair("oldest", &oldest.to_string());
                query.append_pair("limit", "200").append_pair("include_all_metadata", "true");
                if let Some(thread) = thread {
                    query.append_pair("ts", thread);
                }
                if !cursor.is_empty() {
                    query.append_pair("cursor", &cursor);
                }
            }
            let Some(request) = self.authorised(self.client(&url).get(url)) else { return Looked::Unable };
            let page = match self.call(request).await {
                Ok(page) => page,
                Err(Said::No { error, retry_after }) => return Looked::Later { error, retry_after },
                Err(Said::Unknown { error }) => return Looked::Later { error, retry_after: None },
                Err(Said::Never { .. } | Said::Yes { .. }) => return Looked::Unable,
            };
            let ours = |message: &&Value| message["metadata"]["event_payload"]["reply_id"] == reply_id;
            if let Some(ts) = page.messages.iter().find(ours).and_then(|message| message["ts"].as_str()) {
                return Looked::Found { ts: ts.to_owned() };
            }
            cursor = page.response_metadata.unwrap_or_default().next_cursor;
            if cursor.is_empty() {
                return Looked::Absent;
            }
        }
        // More was said since than we read: it may be further on.
        Looked::Unable
    }

    async fn respond(&self, url: &Url, body: &Value) -> Said {
        let response = match self.client(url).post(url.clone()).json(body).send().await {
            Ok(response) => response,
            Err(error) => return unsent(error),
        };
        let status = response.status();
        if let Some(said) = unhappy(&response) {
            return said;
        }
        match self.read(response).await {
            Err(error) => Said::Unknown { error },
            // Slack answers `ok` in plain text, or JSON that may say no.
            Ok(text) => match serde_json::from_slice::<ApiAnswer>(&text) {
                Ok(answer) if !answer.ok => refusal(answer),
                _ if status.is_success() => Said::Yes { ts: None },
                _ => Said::Unknown { error: format!("status {status}") },
            },
        }
    }

    async fn post(&self, method: &'static str, body: &Value) -> Said {
        let Some(url) = self.url(method) else { return Said::Never { error: "SLACK_API_BASE is no base".to_owned() } };
        let Some(request) = self.authorised(self.client(&url).post(url)) else {
            return Said::Never { error: format!("{method} needs SLACK_BOT_TOKEN, which is not set") };
        };
        match self.call(request.json(body)).await {
            Ok(answer) => Said::Yes { ts: answer.ts.or(answer.message_ts) },
            Err(said) => said,
        }
    }

    /// One call of the Web API; whatever is not `ok: true` is an error.
    async fn call(&self, request: RequestBuilder) -> Result<ApiAnswer, Said> {
        let response = request.send().await.map_err(unsent)?;
        if let Some(said) = unhappy(&response) {
            return Err(said);
        }
        let retry_after = retry_after(&response);
        let text = self.read(response).await.map_err(|error| Said::Unknown { error })?;
        let answer: ApiAnswer = serde_json::from_slice(&text)
            .map_err(|error| Said::Unknown { error: format!("the answer cannot be read at line {}", error.line()) })?;
        match (answer.ok, answer.error.as_deref()) {
            (true, _) => Ok(answer),
            (false, Some("ratelimited")) => Err(Said::No { error: "ratelimited".to_owned(), retry_after }),
            (false, _) => Err(refusal(answer)),
        }
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(plain)? {
            if bytes.len() + chunk.len() > self.answer_bytes_max {
                return Err(format!("the answer has more than {} bytes", self.answer_bytes_max));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn url(&self, method: &str) -> Option<Url> {
        self.api_base.join(method).ok()
    }

    fn client(&self, url: &Url) -> &Client {
        if is_loopback(url) { &self.loopback } else { &self.outside }
    }

    fn authorised(&self, request: RequestBuilder) -> Option<RequestBuilder> {
        self.token.get().as_ref().as_ref().map(|token| request.bearer_auth(token.expose_secret()))
    }
}

/// The method that looks into a thread or into a channel.
pub(super) const fn look_method(thread: Option<&str>) -> &'static str {
    if thread.is_some() { "conversations.replies" } else { "conversations.history" }
}

/// What a call that brought no answer means.
fn unsent(error: reqwest::Error) -> Said {
    let certain = error.is_connect() || error.is_builder();
    let error = plain(error);
    if certain { Said::No { error, retry_after: None } } else { Said::Unknown { error } }
}

/// What a status other than 2xx means.
fn unhappy(response: &Response) -> Option<Said> {
    let status = response.status();
    let error = format!("status {}", status.as_u16());
    match status {
        StatusCode::TOO_MANY_REQUESTS => Some(Said::No { error, retry_after: retry_after(response) }),
        _ if status.is_success() => None,
        _ if status.is_server_error() => Some(Said::Unknown { error }),
        _ => Some(Said::Never { error }),
    }
}

/// What `ok: false` means.
fn refusal(answer: ApiAnswer) -> Said {
    let error = answer.error.unwrap_or_else(|| "no reason given".to_owned());
    if DOUBTFUL_ERRORS.contains(&error.as_str()) { Said::Unknown { error } } else { Said::Never { error } }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The error and its causes, without the URL, which is a secret here.
fn plain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
