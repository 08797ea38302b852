//! Clusters of core machines on a virtual clock.

mod determinism;
mod figures;
mod planted;
mod schedules;
