//! A node, put together: configuration in, ports open, actors up, doors open; and all of it closed again in order.
//!
//! ```text
//! start   addresses bound → ports, spool opened → troupe started (reply sender last) → spool drains → doors answer → ready
//! drain   not ready → public door closed → spool stopped, steps finish their entry → actors stopped, lease given back
//!         → admin door closed → ports closed
//! ```
//!
//! The admin door answers until the end: whoever watches over the node (`/livez`) is not to kill it for draining, and whoever asks
//! how far it is gets an answer. A drain takes `drain_timeout` at most, whatever does not answer by then.
//!
//! Called by `up`, by the demo and by tests. What is wrong is one clear error before anything answers; the addresses
//! are bound first, so that a taken port leaves no trace in the data directory.

pub(crate) mod dials;
pub(crate) mod lacking;
mod observed;
pub(crate) mod options;
mod replies;
pub(crate) mod upkeep;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use troupe_actors::roster::Standing;
use troupe_actors::stage;
use troupe_actors::troupe::{self, Troupe};
use troupe_runtime::config::NodeConfig;
use troupe_runtime::domain::agent::AgentSpec;
use troupe_runtime::model::{self, Models};
use troupe_runtime::ports::{self, Ports};
use troupe_runtime::secret::Secrets;
use troupe_runtime::telemetry::Metrics;
use troupe_runtime::tool::Tools;

use self::dials::Dials;
use self::upkeep::Upkeep;
use crate::admin::{self, Admin, ConfigReport, Setup};
use crate::course::Course;
use crate::listener::{Bound, CannotListen, Listener};
use crate::slack::ingress::{self, Ingress};
use crate::slack::reply::ReplyStats;
use crate::slack::signature::EmptySecret;
use crate::spool::{self, Spool};

/// What is left of a drain for the last door and the ports.
const CLOSING: Duration = Duration::from_millis(500);

/// A running node.
pub struct Node {
    /// Where the public listener answers.
    pub http_addr: SocketAddr,
    /// Where the admin listener answers.
    pub admin_addr: SocketAddr,
    /// The actors.
    pub troupe: Troupe,
    course: Course,
    public: Listener,
    private: Listener,
    spool: Spool,
    stop_replies: CancellationToken,
    over: JoinHandle<()>,
    drain_timeout: Duration,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken or not ours.
    #[error(transparent)]
    Listen(#[from] CannotListen),
    /// The data directory or what is in it.
    #[error(transparent)]
    Ports(#[from] ports::Error),
    /// The models' options.
    #[error(transparent)]
    Models(#[from] model::Error),
    /// A signing secret is empty.
    #[error("SLACK_SIGNING_SECRET: {0}")]
    Secret(#[from] EmptySecret),
    /// The reply sender's options.
    #[error("slack: {0}")]
    Slack(String),
    /// Events of a former life cannot be reached.
    #[error(transparent)]
    Spool(#[from] spool::OpenError),
    /// The actors.
    #[error(transparent)]
    Troupe(#[from] troupe::Error),
}

/// A drain that did not come to its end.
#[derive(Debug, thiserror::Error)]
#[error("the node did not drain within {0:?} (drain_timeout); what it had in hand goes on in its next life")]
pub struct DrainError(Duration);

impl Node {
    /// Starts a node with these agents; answers once it is ready. With an upkeep, changes of the configuration have an effect.
    ///
    /// # Errors
    /// [`StartError`], and nothing is left running.
    pub async fn start(
        config: NodeConfig,
        secrets: Secrets,
        agents: Vec<Arc<AgentSpec>>,
        upkeep: Option<Arc<Upkeep>>,
    ) -> Result<Self, StartError> {
        let begun = Instant::now();
        let public = Bound::to(config.http.addr, "TROUPE_HTTP_ADDR").await?;
        let private = Bound::to(config.admin.addr, "TROUPE_ADMIN_ADDR").await?;
        let dials = upkeep.as_ref().map_or_else(|| Dials::of(&config), |upkeep| Ok(upkeep.dials().clone()))?;

        let redactor = secrets.redactor();
        let ports = Arc::new(open_ports(&config, secrets, &dials).await?);
        let (folder, of_spool) = (config.data_dir.join(spool::FOLDER_NAME), options::spool(&config));
        let spool = match Spool::open(&folder, ports.bus.clone(), of_spool).await {
            Ok(spool) => spool,
            Err(error) => {
                ports.close().await;
                return Err(error.into());
            }
        };
        for spec in &agents {
            ports.metrics.agent_known(&spec.name, spec.execution_mode);
        }
        let (sent, stop_replies) = (Arc::new(ReplyStats::default()), CancellationToken::new());
        let sender = replies::child(options::replies(&config, dials.bot_token.clone())?, &ports, &sent, &stop_replies)?;
        let acting = stage::Options { watch: upkeep.as_ref().map(Upkeep::watch), ..options::actors(&config) };
        let started = Troupe::start(ports.clone(), agents, acting, vec![sender]).await;
        let (troupe, over) = match started {
            Ok(started) => started,
            Err(error) => {
                ports.close().await;
                return Err(error.into());
            }
        };

        // Not before the queues are declared: what a former life has left would find none.
        spool.begin();
        let course = Course::default();
        let ingress = Ingress::new(spool.clone(), dials.signing.clone(), options::ingress(&config));
        observed::observe(&ports, &ingress.stats, &sent, &spool);
        let (http_addr, admin_addr) = (public.addr(), private.addr());
        let limits = options::listener(&config);
        let of_config = troupe.clone();
        let api = Admin::new(Setup {
            troupe: troupe.clone(),
            spool: spool.clone(),
            node: config.node.name.clone(),
            token: dials.admin_token.clone(),
            course: course.clone(),
            config: Arc::new(move || report(of_config.standing(), upkeep.as_deref())),
            redact: Arc::new(move |text| redactor.mask(text)),
            options: options::admin(&config),
        });
        let for_all = ingress::router(ingress).merge(admin::public_health(api.clone()));
        let (public, private) = (public.serve(for_all, limits.clone()), private.serve(admin::router(api), limits));
        tracing::info!(%http_addr, %admin_addr, ready_ms = begun.elapsed().as_millis() as u64, "the node is ready");
        Ok(Self {
            http_addr,
            admin_addr,
            troupe,
            course,
            public,
            private,
            spool,
            stop_replies,
            over,
            drain_timeout: config.drain_timeout,
        })
    }

    /// Waits until the node is over by itself: a part of it did not come back.
    pub async fn over(&mut self) {
        (&mut self.over).await.ok();
    }

    /// How far it is, for whoever waits for somebody to ask for a drain.
    #[must_use]
    pub fn course(&self) -> Course {
        self.course.clone()
    }

    /// Closes the doors, lets steps finish the entry they are at, stops everything; within `drain_timeout`.
    ///
    /// # Errors
    /// [`DrainError`] when a part did not answer in time and is left as it is: what it had in hand goes on in the next life.
    pub async fn drain(self) -> Result<(), DrainError> {
        let (begun, limit) = (Instant::now(), self.drain_timeout);
        tracing::info!(steps = self.troupe.in_hand(), "the node drains");
        self.course.drain();
        match tokio::time::timeout(limit, self.wind_down(limit)).await {
            Ok(()) => {
                tracing::info!(took_ms = begun.elapsed().as_millis() as u64, "the node is drained");
                Ok(())
            }
            Err(_) => Err(DrainError(limit)),
        }
    }

    async fn wind_down(self, limit: Duration) {
        let deadline = Instant::now() + limit.saturating_sub(CLOSING);
        let left = || deadline.saturating_duration_since(Instant::now());
        // A tail would keep its door open until the grace is over.
        self.troupe.ports().taps.close();
        self.public.stop().await;
        self.stop_replies.cancel();
        tokio::join!(self.spool.stop(left() / 2), self.troupe.drain(left()));
        self.over.await.ok();
        self.private.stop().await;
        self.troupe.ports().close().await;
    }
}

fn report(standing: Standing, upkeep: Option<&Upkeep>) -> ConfigReport {
    let Standing { agents, problems, reloads } = standing;
    let needs_restart = upkeep.map(Upkeep::needs_restart).unwrap_or_default();
    ConfigReport { agents, problems, reloads, needs_restart }
}

async fn open_ports(config: &NodeConfig, secrets: Secrets, dials: &Dials) -> Result<Ports, StartError> {
    let of_models = dials.models.clone();
    let models = Models::new(secrets, Models::client(&of_models.get())?, of_models)?;
    let tools = Tools::new(options::tools(config));
    let ports = options::ports(config);
    Ok(Ports::open(&config.data_dir, ports, models, tools, Metrics::new()).await?)
}
