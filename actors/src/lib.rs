//! Who acts: the orchestrator with its registry, the pools, the agents, their steps, and the relay that tells the bus.
//!
//! ```text
//! root                       rest_for_one
//! ├─ lease                   renews the node's lease; nothing is begun without it
//! ├─ orchestrator            registry of agents
//! │  ├─ autonomous           a pool: one_for_one over inboxes and instances
//! │  │  ├─ researcher/inbox  accepts what comes, claims it, hands it on
//! │  │  ├─ researcher/0      agent actor: starts steps, always answers
//! │  │  │  └─ step 01J…      a routine: one life of the step
//! │  │  └─ researcher/1
//! │  ├─ autonomous-2         one more, when there are many agents
//! │  ├─ collaborative
//! │  ├─ continuous
//! │  ├─ recovery             takes up what nobody works on
//! │  └─ vitals               asks every agent actor whether it is there
//! ├─ relay                   outbox → bus
//! ├─ doors                   what the gateway brings
//! ├─ cleaner                 deletes what was kept for long enough
//! └─ watcher                 has changes of the folder of agents take effect
//! ```
//!
//! Calls go down (messages to children), facts go out (rows, then events), failures go up (supervision events). Every
//! in-memory message is a hint: losing all of them loses nothing, for the store is asked again.

pub mod agent;
pub mod cleaner;
pub mod difference;
pub mod fork;
pub mod inbox;
pub mod lease;
pub mod orchestrator;
pub mod places;
pub mod pool;
pub mod prepared;
pub mod recovery;
pub mod registry;
pub mod relay;
mod reload;
pub mod root;
pub mod roster;
pub mod served;
pub mod stage;
pub mod standing;
pub mod step;
pub mod troupe;
pub mod vitals;
pub mod watcher;
pub mod work;
