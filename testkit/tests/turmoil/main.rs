//! Whole nodes, with all of their actors, in a simulated network and in simulated time.
//!
//! Faults, latencies and timers are simulated, so that a minute takes a second or two. What is not: the order in which
//! a node's tasks run, and the ids of members. So a run is not repeatable in every detail, and nothing here depends on
//! it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a test may fail where it stands

mod crashing;
mod cutting;
mod schedules;
mod world;
