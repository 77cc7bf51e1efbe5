//! TLS to the broker: `amqps://` lets in the certificate that was meant, and nobody else's.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use troupe_runtime::bus::rabbitmq::{OpenError, Options, RabbitBus};
use troupe_runtime::bus::{Bus, Routing};
use troupe_tests::authority::Authority;
use troupe_tests::rabbitmq::RabbitMq;

use crate::faults::{Outcome, Run, event, failed, open, queue};

/// Every case.
pub(crate) const CASES: [(&str, Run); 1] =
    [("only_the_certificate_that_was_meant_is_let_in", |broker, url| Box::pin(certificates(broker, url)))];

async fn certificates(broker: &mut RabbitMq, url: String) -> Outcome {
    let (ours, strangers) = (Authority::new("ours"), Authority::new("strangers"));
    let (certificate, key) = ours.issue("IP:127.0.0.1");
    let secure = broker.secure(&ours.root(), &certificate, &key).await;
    let url = url.replace("amqp://", "amqps://").replace(&format!(":{}/", broker.port()), &format!(":{secure}/"));
    let trusting = |authority: Option<&Authority>| Options {
        tls_ca: authority.map(Authority::root),
        connect_timeout: Duration::from_secs(5),
        ..Options::default()
    };
    let bus = open(&url, trusting(Some(&ours)))?;
    let begun = Instant::now();
    while let Err(error) = bus.declare(queue(false)).await {
        if begun.elapsed() > Duration::from_secs(30) {
            return Err(failed(error));
        }
        sleep(Duration::from_millis(50)).await;
    }
    bus.publish(event(1), Routing::Mandatory).await.map_err(failed)?;
    bus.close().await;
    let other_name = url.replace("127.0.0.1", "localhost");
    for (who, url, trusting) in [
        ("another authority", &url, trusting(Some(&strangers))),
        ("the public authorities", &url, trusting(None)),
        ("another name", &other_name, trusting(Some(&ours))),
    ] {
        let seen = RabbitBus::look(&url.as_str().into(), &trusting).await;
        if !matches!(seen, Err(OpenError::Silent { .. })) {
            return Err(format!("{who} was let in: {seen:?}"));
        }
    }
    RabbitBus::look(&url.as_str().into(), &trusting(Some(&ours))).await.map_err(failed)?;
    Ok("published over TLS; another authority, the public ones and another name were refused".to_owned())
}
