//! Clusters of core machines on a virtual clock.

mod determinism;
mod planted;
mod schedules;
