//! Server-sent events from the node, one at a time, each within the limit of an answer.
//!
//! A line that is silent for longer than the node's own signs of life counts as broken. Called by `troupe events tail`.

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::Response;

use super::{Client, Error, causes};

/// Silence after which the node counts as gone; it says something every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// One server-sent event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// Its name; empty for the usual kind.
    pub event: String,
    /// Its data.
    pub data: String,
}

/// Events as the node sends them.
pub struct Tail {
    url: String,
    chunks: BoxStream<'static, Result<Vec<u8>, String>>,
    buffer: Vec<u8>,
    bytes_max: usize,
}

impl Tail {
    pub(super) fn new(client: &Client, response: Response) -> Self {
        let chunks = response.bytes_stream().map_ok(|chunk| chunk.to_vec()).map_err(|error| causes(&error)).boxed();
        let (url, bytes_max) = (client.url().to_owned(), client.options.body_bytes_max);
        Self { url, chunks, buffer: Vec::new(), bytes_max }
    }

    /// The next event; `None` when the node has ended the stream.
    pub async fn next(&mut self) -> Result<Option<Shown>, Error> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(shown) = read(&String::from_utf8_lossy(&block)) {
                    return Ok(Some(shown));
                }
            }
            if self.buffer.len() > self.bytes_max {
                let why = format!("an event is over {} bytes", self.bytes_max);
                return Err(Error::NotOurs { url: self.url.clone(), why });
            }
            match tokio::time::timeout(SILENCE_MAX, self.chunks.next()).await {
                Ok(Some(Ok(chunk))) => self.buffer.extend(chunk),
                Ok(Some(Err(why))) => return Err(Error::Broken { url: self.url.clone(), why }),
                Ok(None) => return Ok(None),
                Err(_) => return Err(Error::TimedOut { url: self.url.clone(), limit: SILENCE_MAX }),
            }
        }
    }
}

/// The event of a block of lines; `None` for one without data, which is a sign of life.
fn read(block: &str) -> Option<Shown> {
    let mut shown = Shown::default();
    let mut data: Vec<&str> = Vec::new();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut shown.event),
            "data" => data.push(value),
            _ => {}
        }
    }
    if data.is_empty() {
        return None;
    }
    shown.data = data.join("\n");
    Some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_an_event_and_a_comment_is_none() {
        let shown = read("id: 1\nevent: gap\ndata: {\"missed\":\ndata:2}\n\n").unwrap();
        assert_eq!((shown.event.as_str(), shown.data.as_str()), ("gap", "{\"missed\":\n2}"));
        assert_eq!(read(":\n\n"), None);
        assert_eq!(read("data: x\n\n").unwrap().event, "");
    }
}
