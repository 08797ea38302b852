//! Whole nodes as processes on loopback, each behind a relay that is slow, holds back what they say, or breaks their
//! connections.
//!
//! What is dropped below TCP is tested in `netns`. Here nothing is lost, and so nobody's system notices anything: what
//! arrives late, or not before the fault is over, arrives all the same.
//!
//! A wait for a time is here the length of a fault. Everything else waits for a condition.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a test may fail where it stands

mod breaking;
mod holding;
mod lab;
mod sleeping;
mod slowing;

#[allow(dead_code, reason = "the tests on hosts of their own need more of it")]
#[path = "../netns/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "the end-to-end tests need more of it")]
#[path = "../e2e/process.rs"]
mod process;

use cluster::Cluster;
use lab::Lab;

/// Runs a test on a cluster of so many nodes.
fn on_hosts(hosts: usize, flags: &[&str], test: impl FnOnce(&mut Cluster)) {
    let mut cluster = Cluster::start(Lab::set_up(hosts), hosts, flags);
    // Nothing is promised of members that have only just come: each counts those that it has found.
    cluster.settled();
    test(&mut cluster);
}
