//! The night watch: a thread of its own that sees to it that somebody looks at the clock.
//!
//! tokio's timers are driven by whichever of its threads rests last. When that one is woken for a task whose handler then
//! blocks it, no other thread takes the clock over before something wakes one: on an idle node every timer stands still,
//! the pings' and the lease's with them. So something wakes one, twice a ping. Started by each life of the vitals and ended
//! with it; it owns nothing, and a runtime that is gone ends it too.

use std::future::ready;
use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;

/// Ends the watch when it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    _on_duty: Arc<()>,
}

impl Watch {
    /// Begins a watch over this runtime that wakes a thread of it `every` so often.
    pub(super) fn begin(runtime: Handle, every: Duration) -> io::Result<Self> {
        let on_duty = Arc::new(());
        let watched = Arc::downgrade(&on_duty);
        thread::Builder::new().name("troupe-watch".to_owned()).spawn(move || keep(&watched, &runtime, every))?;
        Ok(Self { _on_duty: on_duty })
    }
}

fn keep(on_duty: &Weak<()>, runtime: &Handle, every: Duration) {
    while on_duty.strong_count() > 0 {
        // From outside it goes to whichever thread rests, which then looks at the clock before it rests again.
        drop(runtime.spawn(ready(())));
        thread::sleep(every);
    }
}
