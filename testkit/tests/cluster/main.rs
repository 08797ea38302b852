//! Whole clusters in one process: what the members of one promise to each other and to their callers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a test may fail where it stands

mod downing;
mod following;
mod gossip;
mod lifecycle;
mod membership;
mod placement;
mod requests;
mod superseding;
mod topics;
