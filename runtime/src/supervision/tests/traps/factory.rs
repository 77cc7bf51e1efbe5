//! ractor's pool of workers, the factory: what it does when a worker falls, does not start, or takes long.

use ractor::factory::queues::DefaultQueue;
use ractor::factory::routing::QueuerRouting;
use ractor::factory::{self, DeadMansSwitchConfiguration, FactoryArguments, FactoryMessage, Job, WorkerId};
use tokio::time::Instant;

use super::*;

/// A worker that tells of its start and of every job that it has done.
struct Hand(mpsc::UnboundedSender<&'static str>);

#[derive(RactorMessage)]
enum Errand {
    /// A job that no worker survives.
    Poison,
    /// A job that takes this long.
    Work(Duration),
}

type Reference = ActorRef<FactoryMessage<u32, Errand>>;
type Factory = factory::Factory<u32, Errand, bool, Hand, QueuerRouting<u32, Errand>, DefaultQueue<u32, Errand>>;

impl factory::Worker for Hand {
    type Key = u32;
    type Message = Errand;
    /// Whether it starts.
    type Arguments = bool;
    type State = ();

    async fn pre_start(&self, _: WorkerId, _: &Reference, starts: bool) -> Result<(), ActorProcessingErr> {
        if !starts {
            return Err("no coffee".into());
        }
        Ok(self.0.send("up")?)
    }

    async fn handle(
        &self,
        _: WorkerId,
        _: &Reference,
        job: Job<u32, Errand>,
        (): &mut (),
    ) -> Result<u32, ActorProcessingErr> {
        match job.msg {
            Errand::Poison => return Err("on purpose".into()),
            Errand::Work(time) => tokio::time::sleep(time).await,
        }
        self.0.send("did")?;
        Ok(job.key)
    }
}

/// A factory of which so many workers start, the first ones included, and what they tell.
async fn open(
    workers: usize,
    starts_max: usize,
    switch: Option<DeadMansSwitchConfiguration>,
    parent: &ActorRef<Nothing>,
) -> (Reference, mpsc::UnboundedReceiver<&'static str>) {
    let (tell, told) = mpsc::unbounded_channel();
    let mut built = 0;
    let builder = factory::worker_builder(move |_| {
        built += 1;
        (Hand(tell.clone()), built <= starts_max)
    });
    let arguments = FactoryArguments::builder()
        .worker_builder(Box::new(builder))
        .num_initial_workers(workers)
        .router(QueuerRouting::default())
        .queue(DefaultQueue::default())
        .maybe_dead_mans_switch(switch)
        .build();
    (parent.spawn_linked(None, Factory::default(), arguments).await.expect("a factory").0, told)
}

#[tokio::test(start_paused = true)]
async fn a_factory_starts_a_worker_again_for_every_poisoned_job_without_a_pause_or_a_limit() {
    let (parent, _told) = listener(|event| Some(read(event))).await;
    let (factory, mut told) = open(2, usize::MAX, None, &parent).await;
    let begun = Instant::now();
    for key in 0..200 {
        factory.dispatch(key, Errand::Poison).expect("taken");
    }
    for start in 0..202 {
        assert_eq!(told.recv().await, Some("up"), "start {start}");
    }
    assert_eq!(begun.elapsed(), Duration::ZERO, "so a worker that only falls is all that a node does");
    factory.dispatch(200, Errand::Work(Duration::ZERO)).expect("taken");
    assert_eq!(told.recv().await, Some("did"), "and nobody gives it up");
}

#[tokio::test(start_paused = true)]
async fn a_factory_falls_with_all_that_waits_when_one_worker_does_not_start_again() {
    let (parent, mut heard) = listener(|event| Some(read(event))).await;
    let (factory, mut told) = open(1, 1, None, &parent).await;
    factory.dispatch(0, Errand::Poison).expect("taken");
    for key in 1..=100 {
        factory.dispatch(key, Errand::Work(Duration::ZERO)).expect("Ok means queued");
    }
    factory.wait(Some(PATIENCE)).await.expect("gone");
    let heard = [heard.recv().await, heard.recv().await].map(Option::unwrap_or_default);
    assert!(heard[0] == "started" && heard[1].contains("no coffee"), "{heard:?}");
    assert_eq!((told.recv().await, told.recv().await), (Some("up"), None), "none of a hundred is done");
}

#[tokio::test(start_paused = true)]
async fn the_dead_mans_switch_kills_whoever_awaits_longer_than_its_ping_waits() {
    let limit = Duration::from_millis(300);
    for (kills, became) in [(true, "up"), (false, "did")] {
        let (parent, _told) = listener(|event| Some(read(event))).await;
        let switch = DeadMansSwitchConfiguration::builder().detection_timeout(limit).kill_worker(kills).build();
        let (factory, mut told) = open(1, usize::MAX, Some(switch), &parent).await;
        assert_eq!(told.recv().await, Some("up"));
        // Its first ping is answered before the job; the next one comes ten seconds later and waits behind the job.
        let begun = Instant::now();
        factory.dispatch(0, Errand::Work(Duration::from_secs(12))).expect("taken");
        assert_eq!(told.recv().await, Some(became), "kills: {kills}");
        let took = begun.elapsed();
        assert_eq!(took < Duration::from_secs(11), kills, "killed in the middle of its work: {took:?}");
        factory.dispatch(1, Errand::Work(Duration::ZERO)).expect("taken");
        assert_eq!(told.recv().await, Some("did"), "kills: {kills}");
        factory.stop(None);
        factory.wait(Some(PATIENCE)).await.expect("gone");
        assert_eq!(told.recv().await, None, "kills: {kills}: the job itself is never done again");
    }
}
