//! The topic kind: one grain per topic, a ractor actor behind the grains' door, registered on every member at its
//! start.
//!
//! The [`TopicActor`](actor::TopicActor) drives [`gristmill_core::topic`]. It ends when nobody is subscribed. It holds
//! its subscriptions in memory only: the subscribers' nodes renew theirs (see [`crate::delivery`]), nobody renews those
//! of grains, which are lost when a topic moves.

mod actor;
mod lane;

use std::time::Duration;

use gristmill_core::topic::Config;

use crate::grain::Kind;

/// The name of the kind; a topic's identity is its name.
pub(crate) const KIND: &str = "topic";

/// How often a node renews its subscriptions: three times within a lease, so that one may be lost.
pub(crate) const RENEWAL: Duration = Duration::from_secs(10);

/// A publisher waits for its receipt, by default for 5 s: a delivery is given up earlier.
pub(crate) const CONFIG: Config = Config { delivery_timeout: Duration::from_secs(2), ..Config::lan() };

/// The kind that every member hosts.
pub(crate) fn kind() -> Kind {
    Kind::actor(KIND, || actor::TopicActor).idle_after(None)
}
