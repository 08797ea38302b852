use std::sync::Arc;

use gristmill_transport::Acceptor;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::node::Node;

/// Owns the listener of a member; forgets peers when told to; closes everything when it stops.
pub(crate) struct RemotingActor;

pub(crate) struct RemotingArguments {
    pub(crate) node: Arc<Node>,
    /// None for a client.
    pub(crate) acceptor: Option<Acceptor>,
}

/// The table of endpoints is read and written in place; what is left to do is to tidy it.
pub(crate) enum RemotingMessage {
    /// Forget peers that are gone.
    Sweep,
}

impl Actor for RemotingActor {
    type Msg = RemotingMessage;
    type State = RemotingArguments;
    type Arguments = RemotingArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<RemotingMessage>,
        arguments: RemotingArguments,
    ) -> Result<RemotingArguments, ActorProcessingErr> {
        myself.send_interval(arguments.node.config.timing.rediscovery, || RemotingMessage::Sweep);
        Ok(arguments)
    }

    async fn handle(
        &self,
        _: ActorRef<RemotingMessage>,
        RemotingMessage::Sweep: RemotingMessage,
        state: &mut RemotingArguments,
    ) -> Result<(), ActorProcessingErr> {
        let node = &state.node;
        let topology = Arc::clone(node.view.load().topology());
        node.remoting.forget_disconnected(|peer| topology.member(peer).is_some());
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<RemotingMessage>,
        state: &mut RemotingArguments,
    ) -> Result<(), ActorProcessingErr> {
        state.node.remoting.forget_all("this node shuts down");
        if let Some(acceptor) = state.acceptor.take() {
            acceptor.shutdown("this node shuts down").await;
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<RemotingMessage>,
        _: SupervisionEvent,
        _: &mut RemotingArguments,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}
