//! This node's activations: the [`PlacementActor`] starts, drains and stops grains as the machine in
//! [`gristmill_core::placement::activations`] decides.

mod actor;
mod announcer;
mod directory;

pub(crate) use self::actor::{PlacementActor, PlacementMessage};
pub(crate) use self::directory::Directory;
