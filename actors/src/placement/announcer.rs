use std::sync::Arc;

use gristmill_messages::cluster::ActivationTerminated;
use gristmill_messages::remote::SystemActor;
use gristmill_transport::Lane;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::node::Node;

/// Announcements that may wait. Further ones are not made: a member that does not hear that an activation has ended
/// finds out at its next request to it.
const BACKLOG: usize = 65_536;

/// Tells every other member which activations have ended, one after the other, so that no cache keeps them.
pub(super) struct Announcer(mpsc::Sender<ActivationTerminated>, Arc<Node>);

impl Announcer {
    /// Starts the task that sends; it ends with this handle, when everything that waits was sent.
    pub(super) fn start(node: &Arc<Node>) -> Self {
        let (sender, mut waiting) = mpsc::channel(BACKLOG);
        let from = Arc::clone(node);
        tokio::spawn(async move {
            while let Some(message) = waiting.recv().await {
                send(&from, &message).await;
            }
        });
        Self(sender, Arc::clone(node))
    }

    pub(super) fn announce(&self, message: ActivationTerminated) {
        if self.0.try_send(message).is_err() {
            self.1.metrics.failed_sends.add_one();
        }
    }
}

async fn send(node: &Node, message: &ActivationTerminated) {
    let topology = Arc::clone(node.view.load().topology());
    for member in topology.members().iter().filter(|member| member.id != node.me.id) {
        let endpoint = node.remoting.endpoint(member.id, &member.address);
        let deadline = Instant::now() + node.config.timing.gossip.request_timeout;
        let told = node.remoting.tell(&endpoint, Lane::Control, SystemActor::PidCache, message, deadline).await;
        if told.is_err() {
            node.metrics.failed_sends.add_one();
        }
    }
}
