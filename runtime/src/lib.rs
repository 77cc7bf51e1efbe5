//! What a troupe stands on: the words of the domain, the ports to the outside with their adapters, supervision,
//! configuration and telemetry.
//!
//! Floors, lowest first; a module imports only from floors below its own (held by `tests/tidy.rs`):
//!
//! | floor | modules |
//! |---|---|
//! | 0 | [`domain`] (pure), [`fault`], [`retry`], [`secret`], [`live`], [`group_commit`], [`sqlite`] (the file and its one writer), [`postgres`] (the pool and its one writer) |
//! | 1 | the ports [`bus`], [`store`], [`model`], [`tool`], [`clock`]; never one another |
//! | 2 | [`config`], [`supervision`], [`telemetry`], [`ports`] |

pub mod bus;
pub mod clock;
pub mod config;
pub mod domain;
pub mod fault;
pub mod group_commit;
pub mod live;
pub mod model;
pub mod ports;
pub mod postgres;
pub mod progress;
pub mod retry;
pub mod secret;
pub mod sqlite;
pub mod store;
pub mod supervision;
pub mod telemetry;
pub mod tool;
