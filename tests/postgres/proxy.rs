//! A line to the server that breaks at the worst moment: when a commit is under way.
//!
//! It passes everything on, and watches the client's side for the one message that ends a transaction. Armed, it cuts the
//! line there: before the server has heard it, or after the server has answered it and before the client has heard that.
//! Then it disarms itself, so that the client may come back. It ends with its runtime.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A simple query "commit": type, length with itself, text, NUL.
const COMMIT: &[u8] = b"Q\x00\x00\x00\x0bcommit\x00";

/// Where the line is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cut {
    /// Nowhere.
    Never = 0,
    /// The server does not hear the commit.
    Before = 1,
    /// The client does not hear the answer.
    After = 2,
}

/// The line.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    cut: Arc<AtomicU8>,
}

impl Proxy {
    /// Listens on a port of its own and passes on to `server`.
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let cut = Arc::new(AtomicU8::new(Cut::Never as u8));
        let armed = cut.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(line(client, server, armed.clone()));
            }
        });
        Self { port, cut }
    }

    /// The next commit meets this.
    pub(crate) fn arm(&self, cut: Cut) {
        self.cut.store(cut as u8, Ordering::SeqCst);
    }

    /// Whether no commit has met it yet.
    pub(crate) fn armed(&self) -> bool {
        self.cut.load(Ordering::SeqCst) != Cut::Never as u8
    }
}

/// One connection; returning drops both ends.
async fn line(mut client: TcpStream, server: u16, cut: Arc<AtomicU8>) {
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else { return };
    let (mut asked, mut said) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                // Small enough that it always comes in one piece on this machine.
                let commit = asked[..length].ends_with(COMMIT);
                let meets = if commit { cut.swap(Cut::Never as u8, Ordering::SeqCst) } else { Cut::Never as u8 };
                if meets == Cut::Before as u8 || server.write_all(&asked[..length]).await.is_err() {
                    return;
                }
                if meets == Cut::After as u8 {
                    // The answer is here, and goes no further.
                    let answered = server.read(&mut said).await.is_ok_and(|length| length > 0);
                    debug_assert!(answered, "the server has gone");
                    return;
                }
            }
            read = server.read(&mut said) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&said[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}
