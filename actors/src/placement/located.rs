use std::sync::Arc;

use gristmill_core::placement::{Location, Refusal};
use gristmill_messages::ClusterIdentity;
use tokio::sync::oneshot;

use crate::grain::Door;
use crate::node::Node;
use crate::placement::PlacementMessage;

/// Where the activation of an identity that this node owns is, which starts it if there is none. What is found is in the
/// table of the PID cache now or in a moment. `None` when the placement has ended.
///
/// A new activation begins in the caller's task, so that the placement, which sees them all, runs none.
pub(crate) async fn locate(node: &Node, identity: Arc<ClusterIdentity>) -> Option<Result<Location, Refusal>> {
    match node.parts()?.placement.ask(|reply| PlacementMessage::Locate { identity, reply }).await? {
        Located::Known(located) => Some(located),
        Located::Unborn(unborn) => unborn.begin().await,
    }
}

/// The placement's answer.
pub(crate) enum Located {
    Known(Result<Location, Refusal>),
    /// It is the caller who begins.
    Unborn(Unborn),
}

/// An activation that nobody has begun. Dropped, it begins in a task.
pub(crate) struct Unborn {
    location: Location,
    door: Option<Arc<dyn Door>>,
    known: oneshot::Receiver<Located>,
}

impl Unborn {
    /// `known` will say what became of it.
    pub(super) fn new(location: Location, door: Arc<dyn Door>, known: oneshot::Receiver<Located>) -> Self {
        Self { location, door: Some(door), known }
    }

    async fn begin(mut self) -> Option<Result<Location, Refusal>> {
        if self.door.take()?.begin() {
            return Some(Ok(self.location));
        }
        match (&mut self.known).await.ok()? {
            Located::Known(located) => Some(located),
            Located::Unborn(_) => unreachable!("it was unborn before"),
        }
    }
}

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some(door) = self.door.take() {
            door.begin_apart();
        }
    }
}
