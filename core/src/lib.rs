//! Every decision of a Gristmill node, as sans-IO state machines.
//!
//! A machine here never awaits, spawns, locks, reads a clock or seeds randomness: time and random bits are arguments.
//! Each has the same shape: `handle(now, input, out)` takes one [`Timestamp`], one `Input`, and leaves in the
//! [`Outbox`] what the shell has to do (`Effect`, imperative) and what happened (`Event`, past tense). Effects and
//! events are plain comparable data, so that a test is a list of inputs and an `assert_eq!`.
//!
//! Timers are effects that carry an epoch; a timer that comes back with an older epoch is ignored.
//! `check_invariants` of a machine runs after each `handle` in debug builds.
#![no_std]

extern crate alloc;

pub mod alarm;
pub mod consensus;
pub mod downing;
pub mod gossip;
pub mod member;
pub mod membership;
pub mod outbox;
pub mod placement;
pub mod request;
pub mod session;
pub mod time;
pub mod topic;
pub mod topology;

pub use member::{Address, KindName, Member, MemberStatus};
pub use outbox::{Outbox, RequestId};
pub use time::Timestamp;
