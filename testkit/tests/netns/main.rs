//! Whole nodes as processes on hosts of their own, in network namespaces, between which packets are dropped.
//!
//! It takes root, `ip` and `nft`; where one is missing, each test says `skipped: …` with the reason, and passes, unless
//! the variable `GRISTMILL_REQUIRE_NETNS` is set.
//! Every test reads what all nodes have told as one history and checks it, besides what the test itself is about.
//!
//! A wait for a time is here the length of a fault. Everything else waits for a condition.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a test may fail where it stands

mod cluster;
mod cutting;
mod lab;
mod stalling;
mod vanishing;

#[allow(dead_code, reason = "the end-to-end tests need more of it")]
#[path = "../e2e/process.rs"]
mod process;

use std::io::Write as _;

use cluster::Cluster;
use lab::Lab;

/// Runs a test on a cluster with one node on each of so many hosts, or says why it cannot.
fn on_hosts(hosts: usize, flags: &[&str], test: impl FnOnce(&mut Cluster)) {
    match Lab::set_up(hosts) {
        Ok(lab) => {
            let mut cluster = Cluster::start(lab, hosts, flags);
            // Nothing is promised of members that have only just come: each counts those that it has found.
            cluster.settled();
            test(&mut cluster);
        }
        Err(why) => skip(&format!("no network namespaces: {why}")),
    }
}

/// Says why a test is not made, past the harness, which keeps what passing tests print to itself.
fn skip(why: &str) {
    assert!(std::env::var_os("GRISTMILL_REQUIRE_NETNS").is_none(), "must not be skipped: {why}");
    std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).unwrap();
}
