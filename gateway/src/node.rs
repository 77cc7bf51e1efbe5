//! A node, put together: configuration in, ports open, actors up, doors open; and all of it closed again in order.
//!
//! ```text
//! start   addresses bound → ports, spool opened → troupe started (reply sender last) → spool drains → doors answer → ready
//! drain   not ready → doors closed → spool stopped → steps finish their entry → actors stopped → ports closed
//! ```
//!
//! Called by `up`, by the demo and by tests. What is wrong is one clear error before anything answers; the addresses
//! are bound first, so that a taken port leaves no trace in the data directory.

mod observed;
pub(crate) mod options;
mod replies;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use troupe_actors::roster::Standing;
use troupe_actors::stage;
use troupe_actors::troupe::{self, Troupe};
use troupe_actors::watcher::Watch;
use troupe_runtime::config::NodeConfig;
use troupe_runtime::domain::agent::AgentSpec;
use troupe_runtime::model::{self, Models};
use troupe_runtime::ports::{self, Ports};
use troupe_runtime::secret::Secrets;
use troupe_runtime::telemetry::Metrics;
use troupe_runtime::tool::Tools;

use crate::admin::{self, Admin, ConfigReport, Setup};
use crate::listener::{Bound, CannotListen, Listener};
use crate::slack::ingress::{self, Ingress};
use crate::slack::reply::ReplyStats;
use crate::slack::signature::{EmptySecret, SigningSecrets};
use crate::spool::{self, Spool};

/// A running node.
pub struct Node {
    /// Where the public listener answers.
    pub http_addr: SocketAddr,
    /// Where the admin listener answers.
    pub admin_addr: SocketAddr,
    /// The actors.
    pub troupe: Troupe,
    ready: Arc<AtomicBool>,
    doors: Vec<Listener>,
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

impl Node {
    /// Starts a node with these agents; answers once it is ready. With a watch, changes of their folder have an effect.
    ///
    /// # Errors
    /// [`StartError`], and nothing is left running.
    pub async fn start(
        config: NodeConfig,
        secrets: Secrets,
        agents: Vec<AgentSpec>,
        watch: Option<Watch>,
    ) -> Result<Self, StartError> {
        let begun = Instant::now();
        let public = Bound::to(config.http.addr, "TROUPE_HTTP_ADDR").await?;
        let private = Bound::to(config.admin.addr, "TROUPE_ADMIN_ADDR").await?;
        let signing = SigningSecrets::new(config.slack.signing_secrets.clone())?;

        let redactor = secrets.redactor();
        let ports = Arc::new(open_ports(&config, secrets).await?);
        let (folder, of_spool) = (config.data_dir.join(spool::FOLDER_NAME), options::spool(&config));
        let spool = match Spool::open(&folder, ports.bus.clone(), of_spool).await {
            Ok(spool) => spool,
            Err(error) => {
                ports.close().await;
                return Err(error.into());
            }
        };
        for spec in &agents {
            ports.metrics.agent_known(spec.name.as_str(), spec.execution_mode);
        }
        let (sent, stop_replies) = (Arc::new(ReplyStats::default()), CancellationToken::new());
        let sender = replies::child(options::replies(&config)?, &ports, &sent, &stop_replies)?;
        let acting = stage::Options { watch, ..options::actors(&config) };
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
        let ready = Arc::new(AtomicBool::new(true));
        let ingress = Ingress::new(spool.clone(), signing, options::ingress(&config));
        observed::observe(&ports, &ingress.stats, &sent, &spool);
        let (http_addr, admin_addr) = (public.addr(), private.addr());
        let limits = options::listener(&config);
        let of_config = troupe.clone();
        let api = Admin::new(Setup {
            troupe: troupe.clone(),
            spool: spool.clone(),
            node: config.node.name.clone(),
            token: config.admin.token.clone(),
            ready: ready.clone(),
            config: Arc::new(move || report(of_config.standing())),
            redact: Arc::new(move |text| redactor.mask(text)),
            options: options::admin(&config),
        });
        let for_all = ingress::router(ingress).merge(admin::public_health(api.clone()));
        let doors = vec![public.serve(for_all, limits.clone()), private.serve(admin::router(api), limits)];
        tracing::info!(%http_addr, %admin_addr, ready_ms = begun.elapsed().as_millis() as u64, "the node is ready");
        Ok(Self {
            http_addr,
            admin_addr,
            troupe,
            ready,
            doors,
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

    /// Closes the doors, lets steps finish the entry they are at, stops everything; within `drain_timeout`.
    pub async fn drain(self) {
        let begun = Instant::now();
        tracing::info!(steps = self.troupe.in_hand(), "the node drains");
        self.ready.store(false, Ordering::Release);
        // A tail would keep its door open until the grace is over.
        self.troupe.ports().taps.close();
        futures::future::join_all(self.doors.into_iter().map(Listener::stop)).await;
        self.spool.stop(self.drain_timeout.saturating_sub(begun.elapsed()) / 2).await;
        self.stop_replies.cancel();
        self.troupe.drain(self.drain_timeout.saturating_sub(begun.elapsed())).await;
        self.over.await.ok();
        self.troupe.ports().close().await;
        tracing::info!(took_ms = begun.elapsed().as_millis() as u64, "the node is drained");
    }
}

fn report(standing: Standing) -> ConfigReport {
    let Standing { agents, problems, reloads } = standing;
    ConfigReport { agents, problems, reloads }
}

async fn open_ports(config: &NodeConfig, secrets: Secrets) -> Result<Ports, StartError> {
    let of_models = options::models(config);
    let models = Models::new(secrets, Models::client(&of_models)?, of_models)?;
    let tools = Tools::new(options::tools(config));
    let ports = options::ports(config);
    Ok(Ports::open(&config.data_dir, ports, models, tools, Metrics::new()).await?)
}
