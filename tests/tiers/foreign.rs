//! What others have put under our keys, and what we have put there in another time: never an answer, always written over.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Notify;
use troupe_runtime::domain::agent::AgentName;
use troupe_runtime::store::redis_cache::{Options, RedisMemory};
use troupe_runtime::store::{Error, Memory, Remembered, SessionFilter, SessionRow};
use troupe_tests::redis::Redis;

use super::{Scene, agent, key, options, stored};

#[tokio::test]
async fn a_save_behind_its_back_is_seen_by_the_next_load() {
    let Some(scene) = Scene::open().await else { return };
    scene.save("s", "1").await;
    for number in 2..50 {
        // As by another node whose write-through was lost: Redis has the version before.
        scene.save_behind("s", &number.to_string()).await;
        assert_eq!(scene.load("s").await, Some(number.to_string()));
    }
    let report = scene.report();
    assert_eq!((report.outdated, report.hits), (48, 0), "{report:?}");
    assert_eq!(scene.load("s").await.as_deref(), Some("49"));
    assert_eq!(scene.report().hits, 1, "it was told");
}

#[tokio::test]
async fn what_is_no_value_of_ours_is_a_miss_and_written_over() {
    let Some(scene) = Scene::open().await else { return };
    scene.save("s", "\"mine\"").await;
    let key = key("s");
    let long = "x".repeat(2 * 1024 * 1024);
    let strangers: [&[&str]; 8] = [
        &["set", &key, "hello"],
        &["set", &key, "troupeM1"],
        &["set", &key, "troupeM1999999999999999999990________________\"evil\""],
        &["set", &key, "troupeM200000000000000000001 of a later version, who knows what it means"],
        &["setrange", &key, "3", "X"],
        &["append", &key, " and more"],
        &["lpush", &key, "a list"],
        &["set", &key, &long],
    ];
    for (number, stranger) in (1..).zip(strangers) {
        if stranger[0] == "lpush" {
            scene.redis.tell(&["del", &key]).await;
        }
        scene.redis.tell(stranger).await;
        assert_eq!(scene.load("s").await.as_deref(), Some("\"mine\""), "{stranger:?}");
        let report = scene.report();
        assert_eq!(
            (report.unreadable, report.hits),
            (number, number - 1),
            "{:.80}: {report:?}",
            format!("{stranger:?}")
        );
        assert_eq!(scene.load("s").await.as_deref(), Some("\"mine\""));
        assert_eq!(scene.report().hits, number, "it was not written over: {:.80}", format!("{stranger:?}"));
    }
    assert_eq!(scene.report().errors, 0, "what lies there is no trouble of the server's: {:?}", scene.report());
}

#[tokio::test]
async fn what_another_memory_has_is_never_an_answer() {
    let Some(scene) = Scene::open().await else { return };
    scene.save("mine", "\"mine\"").await;
    scene.save("other", "\"other\"").await;
    scene.redis.tell(&["copy", &key("other"), &key("mine"), "replace"]).await;
    assert_eq!(scene.load("mine").await.as_deref(), Some("\"mine\""), "the same version, another text");
    assert_eq!(scene.report().outdated, 1);
    assert_eq!((scene.load("mine").await.as_deref(), scene.report().hits), (Some("\"mine\""), 1));
}

/// The same agents in another database, or in a backup of this one that is younger than what Redis has.
#[tokio::test]
async fn two_databases_on_one_redis_disturb_each_other_and_mislead_nobody() {
    let Some(scene) = Scene::open().await else { return };
    let (_folder, store) = stored().await;
    let there = RedisMemory::new(store, &scene.redis.url().as_str().into(), options()).unwrap();
    let mut version = 0;
    for number in 0..5 {
        version = there.save(&agent(), "s", version, &format!("\"there {number}\"")).await.unwrap();
    }
    // Version 1 here, version 5 there: written through, the older one is left outside.
    scene.save("s", "\"here\"").await;
    for _ in 0..3 {
        assert_eq!(scene.load("s").await.as_deref(), Some("\"here\""));
    }
    let report = scene.report();
    assert_eq!((report.outdated, report.hits), (1, 2), "refused once, written over, then taken: {report:?}");
    let loaded = there.load(&agent(), "s").await.unwrap().unwrap();
    assert_eq!((loaded.version, &*loaded.body), (5, "\"there 4\""));
    assert_eq!(there.report().outdated, 1);
}

/// The store, but what a load has found arrives only when the test says so.
struct Held {
    store: Arc<dyn Memory>,
    found: Notify,
    go: Notify,
}

#[async_trait]
impl Memory for Held {
    async fn load(&self, agent: &AgentName, session: &str) -> Result<Option<Remembered>, Error> {
        let loaded = self.store.load(agent, session).await;
        self.found.notify_one();
        self.go.notified().await;
        loaded
    }

    async fn refresh(&self, agent: &AgentName, session: &str, known: Remembered) -> Result<Option<Remembered>, Error> {
        self.store.refresh(agent, session, known).await
    }

    async fn save(&self, agent: &AgentName, session: &str, over: u64, body: &str) -> Result<u64, Error> {
        self.store.save(agent, session, over, body).await
    }

    async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRow>, Error> {
        self.store.sessions(filter).await
    }
}

#[tokio::test]
async fn an_older_write_that_comes_late_does_not_take_a_newer_one_s_place() {
    let Some(scene) = Scene::open().await else { return };
    scene.save_behind("s", "\"old\"").await;
    let held = Arc::new(Held { store: scene.store.clone(), found: Notify::new(), go: Notify::new() });
    let late = RedisMemory::new(held.clone(), &scene.redis.url().as_str().into(), options()).unwrap();
    let agent = agent();
    let (loaded, ()) = tokio::join!(late.load(&agent, "s"), async {
        held.found.notified().await;
        // It has read version 1 and will write it through: after version 2.
        scene.save("s", "\"new\"").await;
        held.go.notify_one();
    });
    assert_eq!(&*loaded.unwrap().unwrap().body, "\"old\"", "it began before the save");
    assert_eq!((late.report().written, late.report().errors), (0, 0));
    assert_eq!(scene.load("s").await.as_deref(), Some("\"new\""));
    assert_eq!((scene.report().hits, scene.report().outdated), (1, 0), "Redis still has the newer one");
}

#[tokio::test]
async fn a_memory_that_is_too_large_is_left_out_and_its_older_version_goes() {
    let Some(redis) = Redis::start().await else { return };
    let url = redis.url();
    let scene = Scene::at(redis, &url, Options { memory_bytes_max: 1000, ..options() }).await;
    let (small, large) = ("a".repeat(1000), "b".repeat(1001));
    scene.save("s", &small).await;
    assert_eq!((scene.load("s").await, scene.report().hits), (Some(small), 1));
    scene.save("s", &large).await;
    assert_eq!(scene.redis.tell(&["exists", &key("s")]).await, "0");
    assert_eq!((scene.load("s").await, scene.report().hits), (Some(large), 1));
    assert_eq!((scene.report().errors, scene.report().takes_writes), (0, true));
}

#[tokio::test]
async fn a_flush_drops_one_agent_s_memories_and_nothing_else() {
    let Some(scene) = Scene::open().await else { return };
    let fill = format!("for i = 1, 2500 do redis.call('set', '{}' .. i, 'x') end", key("s*"));
    scene.redis.tell(&["eval", &fill, "0"]).await;
    for other in ["troupe:memory:support2:s", "troupe:memory:suppor:s", "troupe:memory", "mine"] {
        scene.redis.tell(&["set", other, "x"]).await;
    }
    assert_eq!(scene.tier.flush(&agent()).await, Ok(2500));
    assert_eq!(scene.tier.flush(&agent()).await, Ok(0));
    assert_eq!(scene.redis.tell(&["dbsize"]).await, "4");
}
