//! The doors of a troupe: the command line, the HTTP listeners, Slack, the demo, and the node that puts all together.
//!
//! | module | door |
//! |---|---|
//! | [`cli`], [`client`] | the program `troupe`: a node, or a caller of one |
//! | [`node`], [`listener`] | a node put together, and its two sockets |
//! | [`admin`] | the API under `/v1`, health, metrics |
//! | [`recording`] | a run written down, and replayed from what is written |
//! | [`slack`] | what Slack sends us, and what we send back |
//! | [`spool`] | what keeps an event that the bus does not take now |
//! | [`demo`], [`stand_in`] | the main job in ten seconds, and the Slack that it plays with |
//!
//! Nothing below imports from here: actors and runtime know of no HTTP.

pub mod admin;
pub mod cli;
pub mod client;
pub mod course;
pub mod demo;
pub mod listener;
pub mod node;
pub mod recording;
pub mod slack;
pub mod spool;
pub mod stand_in;
