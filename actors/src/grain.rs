//! Grains: what users write, and the cells that they run in.
//!
//! A grain is an actor that exists by name: whoever sends to a [`ClusterIdentity`] finds it activated on the member
//! that owns the identity, and an activation handles one message at a time. On one node there is at most one
//! activation; while members disagree about the owner, or the old owner drains, there may be one on each. Between
//! messages it rests in a *cell*:
//!
//! ```text
//!   Activating ──► Warm ◄──► Cold          Warm: a task runs turns, or is parked on the cell's own waker
//!        │           │         │           Cold: no task, no queue memory; the next message makes it warm
//!        │           ▼         │
//!        │        Draining ◄───┘           Draining: refuses new messages, handles what is queued,
//!        │           │                               then runs `on_deactivate`
//!        └────────► Gone                   Gone: released; only now may the identity be activated again
//! ```
//!
//! A caller of this node that finds the grain cold, or parked, runs the turn itself if turns of the kind are
//! brief: then no task is needed at all.
//!
//! The rest of a node knows a cell only by its [`Door`](door::Door): deliver, drain, stop. [`Kind::actor`] hosts an
//! ordinary ractor actor behind the same door.

mod brief;
mod call;
mod cell;
mod context;
mod door;
mod envelope;
mod error;
mod hosted;
mod kind;
mod payload;
#[cfg(test)]
mod tests;

use std::future::Future;

pub use self::call::{Call, DecodeError, Reply};
pub use self::context::GrainContext;
pub(crate) use self::door::{Door, Ended, Refused};
pub(crate) use self::envelope::{Envelope, ReplyTo};
pub use self::error::{ErrorCode, GrainError};
pub use self::hosted::{Answer, HostedCall};
pub(crate) use self::kind::KindSettings;
pub use self::kind::{Kind, OnPanic};
pub(crate) use self::payload::Payload;
pub use gristmill_core::placement::DeactivationReason;

/// A virtual actor: its state is private to one activation, and it handles one message at a time.
///
/// While members see different topologies, and while a grain that moves is drained, two activations of one identity may
/// overlap on two members; "Activations" in `docs/semantics.md` says when.
///
/// The node that activates it calls, in this order: the kind's factory, [`on_activate`](Self::on_activate), then
/// [`receive`](Self::receive) for each message, and [`on_deactivate`](Self::on_deactivate) at the end of a drained
/// life. A panic in any of them is caught; see [`OnPanic`].
pub trait Grain: Send + 'static {
    /// Runs before the first message. An error, or a panic, fails the activation and is told to every waiting caller.
    ///
    /// It may run in the task of the first of them if that takes but a moment; what it spawns is on the node's runtime.
    fn on_activate(&mut self, context: &GrainContext) -> impl Future<Output = Result<(), GrainError>> + Send {
        let _ = context;
        async { Ok(()) }
    }

    /// Handles one message. The next one waits until the future is done.
    ///
    /// Which task runs a turn is not specified: a brief one may run in its caller's. Block in none of them.
    ///
    /// An `Err` is the grain's own answer: the caller gets it as [`RequestError::Rejected`](crate::RequestError) and
    /// it is never retried. A caller that gives up does not cancel a turn that has begun.
    fn receive(
        &mut self,
        call: Call<'_>,
        context: &GrainContext,
    ) -> impl Future<Output = Result<Reply, GrainError>> + Send;

    /// Runs when the activation ends in an orderly way, after the last message. Nothing waits for what it starts.
    /// It does not run after a panic, nor when the drain deadline of a shutdown has passed.
    fn on_deactivate(&mut self, reason: DeactivationReason, context: &GrainContext) -> impl Future<Output = ()> + Send {
        let _ = (reason, context);
        async {}
    }
}
