//! A listening socket with an HTTP router behind it, with a bound on everything a peer can hold.
//!
//! The node starts two of them, public and admin. Owns its connections: it takes no more than `connections_max` at a
//! time, cuts a peer that does not finish its head in time, and on a stop lets what is being answered finish within the
//! grace. A port that is taken is an error at start, before anything else runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// How long accepting rests when the system has no more sockets.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Limits of a listener.
#[derive(Debug, Clone)]
pub struct ListenerOptions {
    /// Connections at a time; more wait to be accepted.
    pub connections_max: usize,
    /// How long a peer may take for the head of a request.
    pub head_timeout: Duration,
    /// How long answers under way may take after a stop.
    pub grace: Duration,
}

/// A bound socket that does not answer yet.
#[derive(Debug)]
pub struct Bound {
    socket: TcpListener,
    addr: SocketAddr,
}

/// A listener at work.
#[derive(Debug)]
pub struct Listener {
    stop: CancellationToken,
    work: JoinHandle<()>,
}

/// The port could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr} ({variable}): {cause}; stop what uses it or choose another address")]
pub struct CannotListen {
    addr: SocketAddr,
    variable: &'static str,
    cause: std::io::Error,
}

impl Bound {
    /// Binds `addr`, which `variable` sets.
    pub async fn to(addr: SocketAddr, variable: &'static str) -> Result<Self, CannotListen> {
        let failed = |cause| CannotListen { addr, variable, cause };
        let socket = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, addr })
    }

    /// Where it listens, the port that the system chose included.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Begins to answer.
    #[must_use]
    pub fn serve(self, router: Router, options: ListenerOptions) -> Listener {
        let stop = CancellationToken::new();
        let work = tokio::spawn(accept(self.socket, router, options, stop.clone()));
        Listener { stop, work }
    }
}

impl Listener {
    /// Takes no more connections, lets answers under way finish within the grace.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.work.await {
            tracing::error!(%error, "a listener fell");
        }
    }
}

async fn accept(socket: TcpListener, router: Router, options: ListenerOptions, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(options.connections_max));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = next(&socket, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                connections.spawn(converse(stream, place, router.clone(), &options, &graceful));
                while connections.try_join_next().is_some() {}
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(socket);
    if tokio::time::timeout(options.grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(grace = ?options.grace, connections = connections.len(), "answers under way are cut off");
        connections.shutdown().await;
    }
}

/// The next connection, once there is a place for it.
async fn next(
    socket: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, Option<OwnedSemaphorePermit>)> {
    // The semaphore is never closed; a connection without a permit would be served all the same.
    let place = places.clone().acquire_owned().await.ok();
    let (stream, _) = socket.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

/// Serves one connection to its end; its errors are the peer's.
fn converse(
    stream: TcpStream,
    place: Option<OwnedSemaphorePermit>,
    router: Router,
    options: &ListenerOptions,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + use<> {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.head_timeout)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let connection = graceful.watch(connection);
    async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended early");
        }
        drop(place);
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn options() -> ListenerOptions {
        ListenerOptions { connections_max: 2, head_timeout: Duration::from_millis(100), grace: Duration::from_secs(5) }
    }

    async fn bound() -> Bound {
        Bound::to(SocketAddr::from(([127, 0, 0, 1], 0)), "TROUPE_HTTP_ADDR").await.unwrap()
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_variable() {
        let first = bound().await;
        let error = Bound::to(first.addr(), "TROUPE_HTTP_ADDR").await.unwrap_err().to_string();
        assert!(error.contains("TROUPE_HTTP_ADDR") && error.contains(&first.addr().to_string()), "{error}");
    }

    #[tokio::test]
    async fn a_peer_that_does_not_finish_its_head_is_cut_off_and_others_are_served() {
        let bound = bound().await;
        let addr = bound.addr();
        let listener = bound.serve(Router::new().route("/", get(|| async { "here" })), options());
        let mut slow = TcpStream::connect(addr).await.unwrap();
        slow.write_all(b"GET / HT").await.unwrap();
        let mut good = TcpStream::connect(addr).await.unwrap();
        good.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        good.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("here"), "{answer}");
        let mut rest = Vec::new();
        slow.read_to_end(&mut rest).await.ok();
        assert!(!String::from_utf8_lossy(&rest).contains("200"), "cut off without an answer");
        listener.stop().await;
    }

    #[tokio::test]
    async fn an_answer_that_outlasts_the_grace_is_cut_off() {
        let bound = bound().await;
        let addr = bound.addr();
        let begun = Arc::new(tokio::sync::Notify::new());
        let of_handler = begun.clone();
        let endless = move || async move {
            of_handler.notify_one();
            std::future::pending::<&str>().await
        };
        let options = ListenerOptions { grace: Duration::from_millis(50), ..options() };
        let listener = bound.serve(Router::new().route("/", get(endless)), options);
        let mut peer = TcpStream::connect(addr).await.unwrap();
        peer.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        begun.notified().await;
        listener.stop().await;
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).await.ok();
        assert!(answer.is_empty(), "{answer:?}");
    }

    #[tokio::test]
    async fn a_stop_lets_an_answer_finish() {
        let bound = bound().await;
        let addr = bound.addr();
        let (begun, gate) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
        let (of_handler, until) = (begun.clone(), gate.clone());
        let slow = move || async move {
            of_handler.notify_one();
            until.notified().await;
            "finished"
        };
        let listener = bound.serve(Router::new().route("/", get(slow)), options());
        let mut peer = TcpStream::connect(addr).await.unwrap();
        peer.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        begun.notified().await;
        let stopping = tokio::spawn(listener.stop());
        gate.notify_one();
        let mut answer = String::new();
        peer.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("finished"), "{answer}");
        stopping.await.unwrap();
        assert!(TcpStream::connect(addr).await.is_err());
    }
}
