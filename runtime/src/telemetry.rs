//! What a node tells of itself: metrics, read at `/metrics`, and the log, one JSON object a line.
//!
//! ```text
//! a happening ─► Metrics::task_ended(…) ─┐
//! a scrape   ──► closures and levels  ───┴─► /metrics
//! a line     ──► logs ─► redactor ─► stdout · stderr · file
//! ```
//!
//! Nothing here is global but the log subscriber and the panic hook, both set once by the binary ([`logs::install`]).
//! Telemetry never stops work: a closure that panics at a scrape yields nothing, a line that cannot be written is lost.

pub mod logs;
pub mod metrics;
pub mod names;

pub use metrics::Metrics;
