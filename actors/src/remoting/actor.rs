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

/// Nothing: the table of endpoints is read and written in place.
pub(crate) enum RemotingMessage {}

impl Actor for RemotingActor {
    type Msg = RemotingMessage;
    type State = RemotingArguments;
    type Arguments = RemotingArguments;

    async fn pre_start(
        &self,
        _: ActorRef<RemotingMessage>,
        arguments: RemotingArguments,
    ) -> Result<RemotingArguments, ActorProcessingErr> {
        Ok(arguments)
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
