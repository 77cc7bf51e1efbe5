//! Supervision: who is started by whom, started again when it falls, and brought down in order.
//!
//! ractor is a sound kernel (one tokio task per actor, panics caught, one supervisor per actor) that *reports* ends and
//! does nothing about them. This module is the OTP part, as a component: not a supervisor actor to configure, but
//! [`Children`], which any actor holds in its state. So a pool is an ordinary actor that also supervises.
//!
//! | file | holds |
//! |---|---|
//! | `child.rs` | [`ChildSpec`]: how to start, restart and stop a child; [`ChildContext`]: what a life is given |
//! | `children.rs` | [`Children`]: the supervisor's side; read its picture first |
//! | `alive.rs` | [`Alive`]: what lives at a child's place, an actor of ractor's or a routine |
//! | `exit.rs` | [`Exit`]: how an actor ended, and the table of which ends call for a restart |
//! | `budget.rs`, `backoff.rs` | how often, after which waits; pure |
//! | `mailbox.rs` | [`Mailbox`]: bounded, counted sending to a routine; [`Messages`]: the routine's end of it |
//! | `ledger.rs` | [`Ledger`]: who fell, when, why, with what in hand |
//! | `tree.rs` | [`Tree`]: every live actor, for people and for the kill switch |
//! | `reach.rs`, `wake.rs` | [`Reach`]: how the tree reaches a life; [`Wake`]: what a supervisor is woken for |
//!
//! What to know about ractor 0.16 before writing an actor (each held by a test in `tests/traps.rs`):
//!
//! 1. The default `handle_supervisor_evt` **stops the parent when any child ends**, also normally. Always override it.
//! 2. A failed `pre_start` emits no supervision event; only whoever spawned it learns of it.
//! 3. `post_stop` runs after stop and drain, not after a panic, an `Err` or a kill. What must happen is not put there.
//! 4. When a parent ends, however gracefully, its children are killed: bring them down first.
//! 5. A panic or a stop drops the queue, although every cast returned `Ok`. Only a drain handles it.
//! 6. Supervision events wait behind the running handler. A supervisor therefore never awaits long work.
//! 7. Every message that goes through ractor derives `ractor_cluster_derive::RactorMessage`: the `cluster` feature is on
//!    for the whole build. Without it a type is no message:
//!
//!    ```compile_fail,E0277
//!    struct Plain;
//!    fn is_a_message<M: ractor::Message>() {}
//!    is_a_message::<Plain>();
//!    ```
//! 8. `panic = "abort"` would end all of this; never set it.
//!
//! A restart budget is about an actor and ends in `unavailable`. A step's attempts are about work, live in the store and
//! end in a dead letter. A busy or refusing dependency is a result, never a crash.

mod alive;
mod backoff;
mod budget;
mod cause;
mod child;
mod children;
mod exit;
mod ledger;
mod mailbox;
mod reach;
mod tree;
mod wake;

pub use self::alive::{Alive, Routine};
pub use self::backoff::{Backoff, BackoffOptions};
pub use self::budget::{Decision, RestartBudget, Restarts};
pub use self::cause::CAUSE_CHARS_MAX;
pub use self::child::{CHILD_ID_BYTES_MAX, ChildContext, ChildSpec, ChildView, Shutdown, StartFn};
pub use self::children::{ChildEvent, ChildTimer, Children, ChildrenError, ChildrenOptions, Strategy};
pub use self::exit::{Exit, Restart};
pub use self::ledger::{Fall, Ledger, LedgerOptions, Then};
pub use self::mailbox::{Busy, CallError, CastError, Mailbox, MailboxOptions, Messages, ToSelf};
pub use self::reach::Reach;
pub use self::tree::{ActorState, ActorView, Entry, KillError, Life, RestartError, STEP_CHARS_MAX, Tree};
pub use self::wake::Wake;

#[cfg(test)]
mod tests;
