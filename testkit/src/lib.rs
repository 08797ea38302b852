//! Whole clusters in one process, for tests: many nodes on a network in memory that can be cut, and nodes that crash.
//!
//! A [`TestCluster`] starts nodes with fast timers, records what each of them publishes as events, and waits for
//! conditions instead of for time. A [`Probe`] makes kinds of [`TestGrain`]s, which do what a message tells them to,
//! and keeps count of what they did on all nodes: how many activations of an identity were alive at once, for example.
//!
//! A [`Hub`] stands between nodes that are processes, and delays, slows down, holds back and breaks what they say.
//!
//! A [`History`] is what several nodes have seen, in whatever network, and checks what must hold of it.
//!
//! Everything here panics when it cannot do what it was asked for: a test that goes on would test something else.
//!
//! ```
//! use gristmill_testkit::{Add, Probe, TestCluster, Total};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
//! # runtime.block_on(async {
//! let probe = Probe::new();
//! let mut cluster = TestCluster::builder().members(2).kind(probe.kind("counter")).start().await;
//! let total: Total = cluster.member(0).context().request(("counter", "a"), Add { amount: 2 }).await.unwrap();
//! assert_eq!(total.value, 2);
//!
//! cluster.crash(1).await;
//! cluster.eventually("the crash is noticed", |cluster| cluster.all_agree()).await;
//! let total: Total = cluster.member(0).context().request(("counter", "b"), Add { amount: 1 }).await.unwrap();
//! assert_eq!(total.value, 1);
//! # });
//! ```

mod cluster;
mod grain;
mod history;
mod hub;
mod message;
mod node;
pub mod simulation;
mod turmoil;
mod wire;

pub use cluster::{TestCluster, TestClusterBuilder};
pub use grain::{Probe, TestGrain};
pub use history::{Entry, History, InvalidObservation, Observation, Rule, Violation};
pub use hub::{Hub, Link};
pub use message::{Add, Fail, Forward, Panic, Said, Say, Stop, Total, Wait};
pub use node::TestNode;
pub use turmoil::{TurmoilHost, TurmoilNetwork};
