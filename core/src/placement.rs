//! Who runs which grain: the owner of an identity, this node's activations, and the lookups of its callers.
//!
//! ```text
//!   caller's node                                  owner's node
//!   PID cache, miss ──> Lookups ──ActivationRequest──> Activations ──Spawn──> grain
//!                          │   owner of the identity       │  is it mine? one at a time?
//!                          └────────> Rendezvous <─────────┘
//! ```
//!
//! - [`rendezvous`] computes the owner, alike on every member that sees the same topology. A node builds one
//!   [`Rendezvous`] for each topology and shares it, so that no two of its parts disagree about an owner.
//! - [`activations`] is the table of one node: one slot for an identity, one activation in it at a time.
//! - [`pid_cache`] decides which lookups are made and what a cache of their results must forget.
//! - [`wire`] turns all that to and from the messages of the wire contract.

pub mod activations;
pub mod pid_cache;
pub mod rendezvous;
mod vocabulary;
pub mod wire;

pub use rendezvous::Rendezvous;
pub use vocabulary::{DeactivationReason, Location, Placed, Refusal};
