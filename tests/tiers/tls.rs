//! TLS to Redis: `rediss://` lets in the certificate that was meant, and nobody else's.

use troupe_runtime::store::redis_cache::{Error, Options, RedisMemory};
use troupe_tests::authority::Authority;
use troupe_tests::redis::Redis;

use super::{Scene, options};

#[tokio::test]
async fn only_the_certificate_that_was_meant_is_let_in() {
    let Some(mut redis) = Redis::prepare() else { return };
    troupe_tests::tls();
    let (ours, strangers) = (Authority::new("ours"), Authority::new("strangers"));
    let (certificate, key) = ours.issue("IP:127.0.0.1");
    let port = redis.secure(&certificate, &key);
    redis.resume().await;
    let url = format!("rediss://127.0.0.1:{port}/0");
    let trusting = |authority: Option<&Authority>| Options { tls_ca: authority.map(Authority::root), ..options() };

    let scene = Scene::at(redis, &url, trusting(Some(&ours))).await;
    scene.save("s", "1").await;
    assert_eq!((scene.load("s").await.as_deref(), scene.report().hits), (Some("1"), 1), "{:?}", scene.report());
    let look = RedisMemory::look(&url.as_str().into(), &trusting(Some(&ours))).await.unwrap();
    assert!(look.version.split('.').count() >= 2 && look.place == url, "{look:?}");

    let other_name = url.replace("127.0.0.1", "localhost");
    for (who, url, trusting) in [
        ("another authority", &url, trusting(Some(&strangers))),
        ("the public authorities", &url, trusting(None)),
        ("another name", &other_name, trusting(Some(&ours))),
    ] {
        let refused = RedisMemory::look(&url.as_str().into(), &trusting).await;
        assert!(matches!(refused, Err(Error::Silent { .. })), "{who}: {refused:?}");
    }
}
