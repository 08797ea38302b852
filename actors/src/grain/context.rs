use std::sync::Arc;

use gristmill_messages::{ActivationEpoch, ActivationId, ClusterIdentity};

use crate::ClusterContext;

/// What a grain knows about itself and its surroundings. Lives as long as the activation.
#[derive(Debug)]
pub struct GrainContext {
    pub(crate) identity: Arc<ClusterIdentity>,
    pub(crate) activation: ActivationId,
    pub(crate) epoch: ActivationEpoch,
    pub(crate) cluster: ClusterContext,
}

impl GrainContext {
    /// The name by which this grain is called.
    #[must_use]
    pub fn identity(&self) -> &ClusterIdentity {
        &self.identity
    }

    /// The activation on this member; another one has another id.
    #[must_use]
    pub const fn activation(&self) -> ActivationId {
        self.activation
    }

    /// Orders this activation among those of the same identity on this member.
    #[must_use]
    pub const fn epoch(&self) -> ActivationEpoch {
        self.epoch
    }

    /// The cluster, to call other grains with.
    ///
    /// A grain that awaits a call to itself, directly or around a cycle, waits until the deadline: it handles one
    /// message at a time.
    #[must_use]
    pub const fn cluster(&self) -> &ClusterContext {
        &self.cluster
    }

    /// Ends this activation once it has handled what is queued. The next message to the identity activates it anew.
    pub fn stop(&self) {
        self.cluster.deactivate(self.activation);
    }
}
