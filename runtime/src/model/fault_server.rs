//! For tests: an HTTP server that misbehaves in a scripted way, on raw sockets, because no proper server would.
//!
//! It gives one reply to each request, in order; the last one repeats. It keeps what it was sent.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with one request.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// A proper answer: status, further header lines, body.
    Answer(u16, &'static str, String),
    /// Announces the whole body and sends half of it.
    Cut(String),
    /// Never answers.
    Hang,
    /// Closes hard.
    Reset,
    /// A body without an end.
    Endless,
    /// Server-sent events, then the end of the connection or silence.
    Stream { events: String, then_hang: bool },
}

impl Reply {
    pub(super) fn ok(body: &str) -> Self {
        Self::Answer(200, "content-type: application/json\r\n", body.to_owned())
    }

    pub(super) fn status(status: u16, body: &str) -> Self {
        Self::Answer(status, "", body.to_owned())
    }

    pub(super) fn stream(events: &str) -> Self {
        Self::Stream { events: events.to_owned(), then_hang: false }
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) head: String,
    pub(super) body: Value,
}

pub(super) struct FaultServer {
    pub(super) base_url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl FaultServer {
    /// Starts on a free port of the loopback; it lives as long as the test's runtime.
    pub(super) async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            for number in 0.. {
                let Ok((socket, _)) = listener.accept().await else { return };
                let reply = replies[number.min(replies.len() - 1)].clone();
                tokio::spawn(serve(socket, reply, Arc::clone(&log)));
            }
        });
        Self { base_url, seen }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(mut socket: TcpStream, reply: Reply, log: Arc<Mutex<Vec<Seen>>>) -> std::io::Result<()> {
    let seen = read_request(&mut socket).await?;
    log.lock().unwrap().push(seen);
    match reply {
        Reply::Answer(status, headers, body) => {
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n");
            socket.write_all(head.as_bytes()).await?;
            socket.write_all(body.as_bytes()).await?;
        }
        Reply::Cut(body) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            socket.write_all(head.as_bytes()).await?;
            socket.write_all(&body.as_bytes()[..body.len() / 2]).await?;
        }
        Reply::Hang => tokio::time::sleep(Duration::from_hours(1)).await,
        Reply::Reset => socket.set_zero_linger()?,
        Reply::Endless => {
            socket.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await?;
            loop {
                socket.write_all(&[b' '; 4_096]).await?;
            }
        }
        Reply::Stream { events, then_hang } => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n";
            socket.write_all(head.as_bytes()).await?;
            // In pieces that care for no boundary, not even that of a character.
            for piece in events.as_bytes().chunks(7) {
                socket.write_all(piece).await?;
                socket.flush().await?;
            }
            if then_hang {
                tokio::time::sleep(Duration::from_hours(1)).await;
            }
        }
    }
    socket.shutdown().await
}

async fn read_request(socket: &mut TcpStream) -> std::io::Result<Seen> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok(Seen { head, body: serde_json::from_str(body).unwrap_or_default() });
            }
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
