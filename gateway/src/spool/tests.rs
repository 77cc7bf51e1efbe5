//! The spool over a real bus that is told to be sick, on a real disk: what is taken arrives, in order, whatever happens.
//!
//! A crash is played by copying the folder while the node lives: what is in the copy is what a kill would have left.

mod crashes;
mod outages;
mod sick;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;
use troupe_runtime::bus::Consumer;

use self::sick::{Mood, SickBus};
use super::*;

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A bus, a spool before it, and the one queue that gets everything at `t.#`.
struct House {
    dir: TempDir,
    bus: Arc<SickBus>,
    spool: Spool,
}

fn options() -> Options {
    Options {
        publish_timeout: Duration::from_millis(200),
        confirm_timeout: Duration::from_millis(300),
        retry_max: Duration::from_millis(100),
        window: 8,
        settle: Duration::from_millis(50),
        ..Options::default()
    }
}

impl House {
    async fn open(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bus = SickBus::open(&dir.path().join("bus")).await;
        let spool = Spool::open(&dir.path().join("spool"), bus.clone(), options).await.unwrap();
        spool.begin();
        Self { dir, bus, spool }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    /// Publishes the event with this number.
    async fn publish(&self, number: u64) -> Result<Taken, Error> {
        self.spool.publish(event("t.here", number), Stray::Bury).await
    }

    async fn publish_all(&self, numbers: std::ops::Range<u64>) -> Vec<Taken> {
        let mut taken = Vec::new();
        for number in numbers {
            taken.push(self.publish(number).await.unwrap());
        }
        taken
    }

    /// Waits until nothing is spooled.
    async fn empty(&self) {
        self.until("an empty spool", |report| report.events == 0).await;
    }

    async fn until(&self, what: &str, reached: impl Fn(&Report) -> bool) {
        let mut standing = self.spool.shared.gate.watch();
        let waits = async {
            while !reached(&self.spool.report()) {
                standing.changed().await.unwrap();
            }
        };
        assert!(timeout(PATIENCE, waits).await.is_ok(), "waited for {what}: {:?}", self.spool.report());
    }
}

fn event(topic: &str, number: u64) -> Arc<Event> {
    let mut event = Event::new(topic.parse().unwrap(), "/test", json!({ "number": number }));
    event.id = format!("event-{number}");
    Arc::new(event)
}

/// The numbers of everything in the queue, in the order of delivery, until `all` of them were seen.
async fn delivered(consumer: &mut Consumer, all: u64) -> Vec<u64> {
    let mut seen = BTreeSet::new();
    let mut order = Vec::new();
    let taking = async {
        while (seen.len() as u64) < all {
            for delivery in consumer.next(64).await {
                let number = delivery.event.data.value()["number"].as_u64().unwrap();
                order.push(number);
                seen.insert(number);
                delivery.settle.ack();
            }
        }
    };
    let arrived = timeout(PATIENCE, taking).await.is_ok();
    assert!(arrived, "{} of {all} events arrived", seen.len());
    order
}

/// The order in which each was first seen: what an inbox that is unique by event id makes of it.
fn first_seen(order: &[u64]) -> Vec<u64> {
    let mut seen = BTreeSet::new();
    order.iter().copied().filter(|number| seen.insert(*number)).collect()
}

/// What a kill would leave of a folder. A kill sees one moment; a copy that a save of the position has overtaken is made
/// again.
fn copy(from: &Path, to: &Path) {
    let copied = (0..100).any(|_| {
        std::fs::remove_dir_all(to).ok();
        match copied(from, to) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => panic!("{error}"),
        }
    });
    assert!(copied, "the folder does not hold still");
}

fn copied(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.metadata()?.is_dir() {
            copied(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
