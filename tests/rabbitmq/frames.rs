//! What goes out in small frames: the headers of an event must fit into one, its body goes over many.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use troupe_runtime::bus::rabbitmq::Options;
use troupe_runtime::bus::{self, Bus, Routing};
use troupe_runtime::domain::event::Event;
use troupe_tests::rabbitmq::RabbitMq;
use troupe_tests::wait::PATIENCE;

use crate::faults::{Outcome, Run, failed, open, queue};

/// Every case.
pub(crate) const CASES: [(&str, Run); 1] =
    [("the_longest_error_and_the_largest_event_go_through_the_smallest_frame", |broker, url| {
        Box::pin(smallest(broker, url))
    })];

/// The least that the node file takes.
const SMALLEST: u32 = 16 * 1024;
/// A character of four bytes.
const WIDE: &str = "\u{1d11e}";

async fn smallest(_broker: &mut RabbitMq, url: String) -> Outcome {
    let of_bus = bus::Options { retry_ladder: vec![Duration::from_millis(10)], ..bus::Options::default() };
    let most = of_bus.event_bytes_max - 1024;
    let bus = open(&url, Options { bus: of_bus, publish_frame_bytes: SMALLEST, ..Options::default() })?;
    bus.declare(queue(false)).await.map_err(failed)?;
    let mut consumer = bus.consume("q", 1).await.map_err(failed)?;
    let large = Arc::new(Event::new("t".parse().unwrap(), "/frames", json!({ "text": "x".repeat(most) })));
    bus.publish(large.clone(), Routing::Mandatory).await.map_err(failed)?;

    let error = WIDE.repeat(2_000);
    for retrycount in [0, 1] {
        let delivery = timeout(PATIENCE, consumer.deliveries.recv()).await.ok().flatten().ok_or("no delivery")?;
        if delivery.event.data != large.data || delivery.retrycount != retrycount {
            return Err(format!("delivery {} is another event", delivery.retrycount));
        }
        delivery.settle.retry(&error).await.map_err(failed)?;
    }
    let letters = timeout(PATIENCE, bus.dead_letters(1, None)).await.map_err(|_| "no answer")?.map_err(failed)?;
    let [letter] = &letters[..] else { return Err(format!("{} dead letters", letters.len())) };
    if (letter.first_error.as_str(), letter.event.data == large.data) != (error.as_str(), true) {
        return Err("the dead letter has lost something".to_owned());
    }
    bus.close().await;
    Ok(format!("{} bytes of event and {} of error in frames of {SMALLEST}", most, error.len()))
}
