//! What every actor of a node stands on, handed down the tree: the ports, the limits, the hold on the node's lease, the
//! list of work in hand, and the two signals that concern all of them (a step has ended, the node drains).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use troupe_runtime::domain::ids::TaskId;
use troupe_runtime::ports::Ports;
use troupe_runtime::supervision::{BackoffOptions, LedgerOptions};

use crate::cleaner::options as cleaner;
use crate::lease::hold::Hold;
use crate::lease::options as lease;
use crate::prepared::Late;
use crate::relay::hint::RelayHint;
use crate::standing::Standings;
use crate::vitals::options as vitals;
use crate::watcher::watch::Watch;
use crate::work::InHand;

/// Limits of the acting side.
#[derive(Debug, Clone)]
pub struct Options {
    /// Steps that the node works on at a time.
    pub steps_max: usize,
    /// Steps that one agent actor works on at a time.
    pub steps_per_instance_max: usize,
    /// Steps of an agent that are accepted ahead, while all of its places are taken: one for four places, at most so many.
    pub ahead_max: usize,
    /// Deliveries that an inbox accepts in one go.
    pub accept_max: usize,
    /// Deliveries that wait in memory beside those accepted.
    pub prefetch: usize,
    /// What a priority is worth: a delivery goes before a more urgent one once it has waited for so much longer.
    pub aging: Duration,
    /// Claims of a step without any progress, after which it fails as `crash_loop`.
    pub claims_max: u32,
    /// How long a step tries to record what it has in hand while the store does not answer.
    pub record_for: Duration,
    /// The longest wait between two tries while the store does not answer.
    pub store_wait_max: Duration,
    /// The wait before another attempt; doubles with each.
    pub attempt_backoff: Duration,
    /// How long a call may be without a sign of life; a model's own timeout comes on top.
    pub stalled_after: Duration,
    /// Ends of steps that the relay reads from the outbox in one go.
    pub relay_batch: usize,
    /// Ends of steps that the relay tells at a time, and those that are told and wait for the deletion of their rows.
    pub relay_window: usize,
    /// Ends of steps that wait for the relay in memory; those beyond it are read from the outbox.
    pub relay_queue: usize,
    /// Bytes that ends in memory may take by what they say, those that are being told too; those beyond it are read from the outbox.
    pub relay_bytes_max: usize,
    /// How often the relay looks by itself, without a hint, and the recovery for steps that this node has lost.
    pub sweep_every: Duration,
    /// Orphaned steps that are claimed in one go.
    pub orphans_max: usize,
    /// How long an actor may take to answer a question.
    pub call_timeout: Duration,
    /// Steps of one instance that the registry names.
    pub steps_shown_max: usize,
    /// Children of one pool; where the agents of a mode have more, it has further pools.
    pub pool_children_max: usize,
    /// The waits before an agent's actors are started again.
    pub backoff: BackoffOptions,
    /// How agent actors are looked after.
    pub vitals: vitals::Options,
    /// What is kept of falls.
    pub ledger: LedgerOptions,
    /// The node's lease.
    pub lease: lease::Options,
    /// What is deleted, and when.
    pub cleaner: cleaner::Options,
    /// The folder of agents, when its changes are to have an effect.
    pub watch: Option<Watch>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            steps_max: 4096,
            steps_per_instance_max: 256,
            ahead_max: 256,
            accept_max: 256,
            prefetch: 512,
            aging: Duration::from_mins(1),
            claims_max: 20,
            record_for: Duration::from_secs(600),
            store_wait_max: Duration::from_secs(1),
            attempt_backoff: Duration::from_millis(500),
            stalled_after: Duration::from_mins(2),
            relay_batch: 256,
            relay_window: 512,
            relay_queue: 4096,
            relay_bytes_max: 16 * 1024 * 1024,
            sweep_every: Duration::from_secs(5),
            orphans_max: 256,
            call_timeout: Duration::from_secs(1),
            steps_shown_max: 16,
            pool_children_max: 1_000,
            backoff: BackoffOptions::default(),
            vitals: vitals::Options::default(),
            ledger: LedgerOptions::default(),
            lease: lease::Options::default(),
            cleaner: cleaner::Options::default(),
            watch: None,
        }
    }
}

/// What is handed down the tree, one for all of it.
pub struct Stage {
    /// The ports.
    pub ports: Arc<Ports>,
    /// The limits.
    pub options: Options,
    /// Whether the node holds its lease, and as whom: nothing is begun without it.
    pub lease: Hold,
    /// All steps that this node works on.
    pub in_hand: InHand,
    /// Who is paused, and what failed last.
    pub standings: Standings,
    /// Agents that came ready after the start.
    pub late: Late,
    /// The lives of steps that last; what is in hand beyond them waits for somebody to live.
    pub acting: TaskTracker,
    /// Places for steps, on the whole node.
    pub slots: Arc<Semaphore>,
    /// Wakes the relay.
    pub relay: RelayHint,
    /// Told every task that ends here.
    pub ended: broadcast::Sender<TaskId>,
    /// Cancelled when the node drains: no new work, steps stop after the entry they are at.
    pub drain: CancellationToken,
}

impl Stage {
    /// A stage over these ports, for the node that holds this lease.
    #[must_use]
    pub fn new(ports: Arc<Ports>, options: Options, lease: Hold) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(options.steps_max)),
            relay: RelayHint::new(options.relay_queue, options.relay_bytes_max),
            options,
            lease,
            in_hand: InHand::new(ports.clock.clone()),
            standings: Standings::default(),
            late: Late::default(),
            acting: TaskTracker::new(),
            ended: broadcast::Sender::new(1024),
            drain: CancellationToken::new(),
            ports,
        }
    }
}
