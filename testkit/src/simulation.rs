//! Whole clusters of core machines on a virtual clock: one thread, one queue, one seed.
//!
//! # What it is for
//! It drives the machines of the product, not models of them, through [`Input`](gristmill_core::membership::Input)s and
//! [`Effect`](gristmill_core::membership::Effect)s: the membership, and beside it, where asked for, downing
//! ([`SimulationConfig::downing`]) and topology, gossip and consensus ([`SimulationConfig::sharing`]); with hundreds or
//! thousands of nodes, under every fault of [`Fault`], and looks at each step whether what must hold does hold
//! ([`Violation`]). The same seed gives the same history to the last bit ([`Simulation::trace_hash`]).
//!
//! # What it does not show
//! Messages are one-way datagrams: what TCP would repeat is lost here, which is harder on the protocol than a real
//! network, and no connection is ever slow because another message is large. A node handles a message in no time unless
//! it is stalled. Bytes are those of the encoded payloads.
//!
//! ```text
//!          ┌────────────── Queue (time, order) ──────────────┐
//!          v                                                 │
//!   message, timer, failure ──> Node(Membership) ──> effects ┤
//!          ^                        │                Network: lose, double, delay, cut
//!   Schedule: faults                └─> events ──> History, Checker
//! ```
//!
//! # Example
//! ```
//! use gristmill_core::Timestamp;
//! use gristmill_testkit::simulation::{Fault, Host, Schedule, Simulation, SimulationConfig};
//! use std::time::Duration;
//!
//! let mut simulation = Simulation::new(SimulationConfig::new(5, 42));
//! simulation.schedule(&"@1000ms crash n3".parse::<Schedule>()?);
//! simulation.run_until(Timestamp::from_millis(1000))?;
//! let agreed = simulation.run_until_agreed(Timestamp::from_millis(60_000), Duration::from_millis(100))?;
//! assert!(agreed.is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// Hosts and processes are numbered by the simulator itself and never go away.
#![allow(clippy::indexing_slicing)]

mod bytes;
mod engine;
mod fault;
pub mod foca;
mod history;
mod invariant;
mod network;
mod node;
mod panics;
mod planted;
pub mod plot;
mod queue;
pub mod report;
pub mod scenario;
mod schedule;
mod sharing;
mod shrink;

pub use engine::{Simulation, SimulationConfig};
pub use fault::{Fault, Lie, NoFault, Schedule};
pub use history::{End, History, Life, Observation, ProcessId, Release, Totals, percentile};
pub use invariant::{Checks, Violation};
pub use network::{Host, NetworkConfig};
pub use node::Bug;
pub use planted::Planted;
pub use sharing::SharingConfig;
pub use shrink::{Campaign, Outcome, Trial};
