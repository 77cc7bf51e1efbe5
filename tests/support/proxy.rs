//! A line between a client and a server that misbehaves on demand: it can be cut, delayed, held, half-open, slow, refused.
//!
//! ```text
//! client ─► Proxy (a port of 127.0.0.1) ── Flow of Way::ToServer ──► server
//!        ◄──────────────────────────────── Flow of Way::ToClient ──
//! ```
//!
//! What is told takes effect at once, on the lines there are and on every new one. Knows no protocol: a cut at a certain
//! message is a cut at its bytes. Who calls: tests that stand between a node and its database, cache or broker. It ends,
//! with all of its lines, when it is dropped.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::ports::free_port;

/// Bytes read in one go.
const CHUNK: usize = 16_384;
/// Chunks on their way in one direction; more wait at whoever sends them.
const CHUNKS_MAX: usize = 64;

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// What the client says.
    ToServer,
    /// What the server says.
    ToClient,
}

/// How bytes pass in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// At once.
    #[default]
    Pass,
    /// Each so long after it came.
    Delay(Duration),
    /// So many bytes, then a pause.
    Trickle {
        /// Bytes in one go.
        bytes: usize,
        /// From one go to the next.
        every: Duration,
    },
    /// Not at all for now; they wait, and pass when this ends. A network that is torn and heals.
    Hold,
    /// Never: they are read and lost, and the line is cut when this ends. A peer that has gone without a word.
    Swallow,
}

/// Where the next line is cut; once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// When so many bytes have passed from now on.
    After(Way, usize),
    /// When these bytes are about to pass: the other side does not hear them.
    Unheard(Way, Vec<u8>),
    /// When these bytes have passed and their answer is here: the answer goes no further.
    Unanswered(Way, Vec<u8>),
}

/// The line. Everything passes until it is told otherwise.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

/// What all lines look at.
#[derive(Debug)]
struct Shared {
    plan: watch::Sender<Plan>,
    due: Mutex<Option<Cut>>,
    lines: AtomicUsize,
    cuts: AtomicUsize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Plan {
    to_server: Flow,
    to_client: Flow,
    refuse: bool,
    /// Raised by whatever concerns only the lines there are.
    generation: u64,
    /// Lines of an earlier generation are cut.
    cut: u64,
    /// Lines of an earlier generation are dead.
    dead: u64,
}

/// The line is over.
struct Over;

impl Proxy {
    /// Listens on a port of its own and passes on to this port of 127.0.0.1.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(server: u16) -> Self {
        let port = free_port();
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            plan: watch::Sender::new(Plan::default()),
            due: Mutex::default(),
            lines: AtomicUsize::new(0),
            cuts: AtomicUsize::new(0),
        });
        let listener = listen(port).await;
        let (lines, stopped) = (shared.clone(), stop.clone());
        tokio::spawn(async move {
            stopped.run_until_cancelled(lines.serve(listener, port, server, &stopped)).await;
        });
        Self { port, shared, _stop: stop.drop_guard() }
    }

    /// Where clients connect.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// From now on bytes of one direction pass like this.
    pub fn flow(&self, way: Way, flow: Flow) {
        self.shared.plan.send_modify(|plan| match way {
            Way::ToServer => plan.to_server = flow,
            Way::ToClient => plan.to_client = flow,
        });
    }

    /// From now on all bytes pass like this.
    pub fn flows(&self, flow: Flow) {
        self.shared.plan.send_modify(|plan| (plan.to_server, plan.to_client) = (flow, flow));
    }

    /// Everything passes again, and who knocks is let in. What was armed stays armed.
    pub fn pass(&self) {
        self.shared.plan.send_modify(|plan| {
            *plan = Plan { to_server: Flow::Pass, to_client: Flow::Pass, refuse: false, ..*plan };
        });
    }

    /// Nobody listens here until [`Proxy::pass`]; lines that are open stay.
    pub fn refuse(&self) {
        self.shared.plan.send_modify(|plan| plan.refuse = true);
    }

    /// The lines that are open now are dead from now on, without a word: both sides talk into the void, and nobody is
    /// told. New lines pass.
    pub fn deaden(&self) {
        self.shared.plan.send_modify(|plan| {
            plan.generation += 1;
            plan.dead = plan.generation;
        });
    }

    /// All lines are cut now, dead ones too.
    pub fn cut(&self) {
        self.shared.plan.send_modify(|plan| {
            plan.generation += 1;
            plan.cut = plan.generation;
        });
    }

    /// The line that meets this next is cut there.
    pub fn arm(&self, cut: Cut) {
        *self.shared.due() = Some(cut);
    }

    /// What no line has met yet is no longer there.
    pub fn disarm(&self) {
        *self.shared.due() = None;
    }

    /// Whether no line has met it yet.
    #[must_use]
    pub fn armed(&self) -> bool {
        self.shared.due().is_some()
    }

    /// Lines that are open.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.shared.lines.load(Ordering::SeqCst)
    }

    /// Lines that were cut, by whatever.
    #[must_use]
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

impl Plan {
    /// How a line of this generation passes.
    const fn of(self, way: Way, generation: u64) -> Flow {
        if generation < self.dead {
            return Flow::Swallow;
        }
        match way {
            Way::ToServer => self.to_server,
            Way::ToClient => self.to_client,
        }
    }
}

impl Way {
    const fn back(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

impl Shared {
    fn due(&self) -> MutexGuard<'_, Option<Cut>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self: Arc<Self>, listener: TcpListener, port: u16, server: u16, stop: &CancellationToken) {
        let (mut listener, mut plan) = (Some(listener), self.plan.subscribe());
        loop {
            let refuse = plan.borrow_and_update().refuse;
            if refuse {
                // Dropped: the system itself refuses who comes.
                listener = None;
            } else if listener.is_none() {
                listener = Some(listen(port).await);
            }
            let accept = async {
                match &listener {
                    Some(listener) => listener.accept().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender is ours.
                _ = plan.changed() => {}
                accepted = accept => if let Ok((client, _)) = accepted {
                    let (shared, stop) = (self.clone(), stop.clone());
                    tokio::spawn(async move { stop.run_until_cancelled(shared.line(client, server)).await });
                },
            }
        }
    }

    /// One connection, to its end; then both sides are closed.
    async fn line(self: Arc<Self>, client: TcpStream, server: u16) {
        let begun = self.plan.borrow().generation;
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else { return };
        for side in [&client, &server] {
            side.set_nodelay(true).ok();
        }
        let _open = Open::count(&self.lines);
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let line = Line { shared: &self, begun, torn: AtomicBool::new(false), mute: Mutex::default() };
        let passes = async {
            tokio::try_join!(
                line.pump(Way::ToServer, from_client, to_server),
                line.pump(Way::ToClient, from_server, to_client),
            )
        };
        let over = tokio::select! {
            over = passes => over.is_err(),
            () = line.falls() => true,
        };
        self.cuts.fetch_add(usize::from(over), Ordering::SeqCst);
    }

    /// How many of these bytes may pass, and whether the line is cut after them. `tail` has just passed.
    fn meets(&self, way: Way, tail: &[u8], bytes: &[u8]) -> (usize, Option<Met>) {
        let mut due = self.due();
        let whole = (bytes.len(), None);
        let (passes, met) = match &mut *due {
            Some(Cut::After(of, left)) if *of == way => {
                if *left > bytes.len() {
                    *left -= bytes.len();
                    return whole;
                }
                (*left, Met::Cut)
            }
            Some(Cut::Unheard(of, pattern)) if *of == way => match find(tail, bytes, pattern) {
                // What passed of it in an earlier piece is no whole message.
                Some((begins, _)) => (begins.saturating_sub(tail.len()), Met::Cut),
                None => return whole,
            },
            Some(Cut::Unanswered(of, pattern)) if *of == way => match find(tail, bytes, pattern) {
                // With what follows: the bytes may stand in the middle of a message.
                Some(_) => (bytes.len(), Met::Mute),
                None => return whole,
            },
            _ => return whole,
        };
        *due = None;
        (passes, Some(met))
    }
}

/// What a piece of bytes has met.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Met {
    /// The line ends here.
    Cut,
    /// The line ends when the other side answers.
    Mute,
}

/// One connection.
struct Line<'a> {
    shared: &'a Shared,
    /// Its generation.
    begun: u64,
    /// Bytes were lost: it cannot go on as if nothing had been.
    torn: AtomicBool,
    /// The direction in which the next byte ends the line.
    mute: Mutex<Option<Way>>,
}

impl Line<'_> {
    /// Comes back when the line was told to fall.
    async fn falls(&self) {
        let mut plan = self.shared.plan.subscribe();
        loop {
            let now = *plan.borrow_and_update();
            let swallows = [Way::ToServer, Way::ToClient].map(|way| now.of(way, self.begun)).contains(&Flow::Swallow);
            if now.cut > self.begun || (self.torn.load(Ordering::SeqCst) && !swallows) || plan.changed().await.is_err()
            {
                return;
            }
        }
    }

    /// Passes on what one side says, until it has no more to say.
    async fn pump(&self, way: Way, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> Result<(), Over> {
        let (sender, mut queue) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
        let reads = async move {
            loop {
                let mut bytes = vec![0; CHUNK];
                match from.read(&mut bytes).await {
                    Ok(0) => return Ok(()),
                    Ok(length) => bytes.truncate(length),
                    Err(_) => return Err(Over),
                }
                sender.send((Instant::now(), bytes)).await.map_err(|_| Over)?;
            }
        };
        let writes = async {
            let mut tail = Vec::new();
            while let Some((came, bytes)) = queue.recv().await {
                self.pass_on(way, &mut to, came, &bytes, &mut tail).await?;
            }
            self.goodbye(way).await?;
            to.shutdown().await.map_err(|_| Over)
        };
        tokio::try_join!(reads, writes).map(drop)
    }

    /// Comes back when a goodbye may pass: who is dead or out of reach cannot say one.
    async fn goodbye(&self, way: Way) -> Result<(), Over> {
        let mut plan = self.shared.plan.subscribe();
        while matches!(plan.borrow_and_update().of(way, self.begun), Flow::Hold | Flow::Swallow) {
            plan.changed().await.map_err(|_| Over)?;
        }
        Ok(())
    }

    async fn pass_on(
        &self,
        way: Way,
        to: &mut OwnedWriteHalf,
        came: Instant,
        bytes: &[u8],
        tail: &mut Vec<u8>,
    ) -> Result<(), Over> {
        if *self.muted() == Some(way) {
            return Err(Over);
        }
        let (passes, met) = self.shared.meets(way, tail, bytes);
        if met == Some(Met::Mute) {
            // Before they pass, for the answer may be quick.
            *self.muted() = Some(way.back());
        }
        self.write(way, to, came, &bytes[..passes]).await?;
        if met == Some(Met::Cut) {
            return Err(Over);
        }
        tail.extend_from_slice(bytes);
        let keep = match &*self.shared.due() {
            Some(Cut::Unheard(_, pattern) | Cut::Unanswered(_, pattern)) => pattern.len().saturating_sub(1),
            _ => 0,
        };
        tail.drain(..tail.len().saturating_sub(keep));
        Ok(())
    }

    /// Writes in the manner of the hour, which may change in the middle.
    async fn write(&self, way: Way, to: &mut OwnedWriteHalf, came: Instant, bytes: &[u8]) -> Result<(), Over> {
        let (mut plan, mut rest, mut pause) = (self.shared.plan.subscribe(), bytes, came);
        while !rest.is_empty() {
            let flow = plan.borrow_and_update().of(way, self.begun);
            let (length, due) = match flow {
                Flow::Pass => (rest.len(), came),
                Flow::Delay(time) => (rest.len(), came + time),
                Flow::Trickle { bytes, .. } => (rest.len().min(bytes), pause),
                Flow::Hold => {
                    plan.changed().await.map_err(|_| Over)?;
                    continue;
                }
                Flow::Swallow => {
                    self.torn.store(true, Ordering::SeqCst);
                    // Called off in this very moment: whoever looks after torn lines may have looked already.
                    let goes_on = plan.borrow().of(way, self.begun) == Flow::Swallow;
                    return if goes_on { Ok(()) } else { Err(Over) };
                }
            };
            if Instant::now() < due {
                tokio::select! {
                    () = sleep_until(due) => {}
                    changed = plan.changed() => changed.map_err(|_| Over)?,
                }
                continue;
            }
            to.write_all(&rest[..length]).await.map_err(|_| Over)?;
            rest = &rest[length..];
            if let Flow::Trickle { every, .. } = flow {
                pause = Instant::now() + every;
            }
        }
        Ok(())
    }

    fn muted(&self) -> MutexGuard<'_, Option<Way>> {
        self.mute.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a line as long as it is there.
struct Open<'a>(&'a AtomicUsize);

impl<'a> Open<'a> {
    fn count(lines: &'a AtomicUsize) -> Self {
        lines.fetch_add(1, Ordering::SeqCst);
        Self(lines)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn listen(port: u16) -> TcpListener {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).await.unwrap_or_else(|error| panic!("the proxy cannot listen on {address}: {error}"))
}

/// Where a pattern lies in `tail` and `bytes` together, when its end lies in `bytes`.
fn find(tail: &[u8], bytes: &[u8], pattern: &[u8]) -> Option<(usize, usize)> {
    let both = [tail, bytes].concat();
    let ends = |begins: &usize| begins + pattern.len();
    let mut places = (0..both.len()).filter(|begins| both[*begins..].starts_with(pattern));
    places.find(|begins| ends(begins) > tail.len()).map(|begins| (begins, ends(&begins)))
}

#[cfg(test)]
#[path = "proxy/tests.rs"]
mod tests;
