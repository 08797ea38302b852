use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::cluster::parts::Started;
use crate::cluster::{ClusterActor, ClusterArguments, ClusterMessage, Shutdown};
use crate::config::ClusterConfig;
use crate::context::ClusterContext;
use crate::event::ClusterEvent;

/// The state of a [`ClusterActor`]: nothing for anybody else.
#[derive(Debug)]
pub struct ClusterState(Option<Started>);

impl Actor for ClusterActor {
    type Msg = ClusterMessage;
    type State = ClusterState;
    type Arguments = ClusterArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ClusterMessage>,
        ClusterArguments { config, role }: ClusterArguments,
    ) -> Result<ClusterState, ActorProcessingErr> {
        let events = config.events.another();
        let config = ClusterConfig { events: events.clone(), ..ClusterConfig::clone(&config) };
        let failed = |error: crate::StartError| {
            events.publish_last(ClusterEvent::StartupFailed { reason: error.to_string() });
            // Boxed once only: whoever started it asks for exactly this type.
            Err(error.into())
        };
        let mut started = match Started::listen(config, role, &myself).await {
            Ok(started) => started,
            Err(error) => return failed(error),
        };
        if let Err(error) = started.join(&myself).await {
            drop(started.stop(Shutdown::immediate()).await);
            return failed(error);
        }
        events.publish(ClusterEvent::Started { member: started.node.me.id });
        Ok(ClusterState(Some(started)))
    }

    async fn handle(
        &self,
        myself: ActorRef<ClusterMessage>,
        message: ClusterMessage,
        state: &mut ClusterState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ClusterMessage::Context(reply) => {
                if let ClusterState(Some(started)) = state {
                    drop(reply.send(ClusterContext::new(Arc::clone(&started.node))));
                }
            }
            ClusterMessage::Shutdown(how, reply) => {
                drop(reply.send(state.shut_down(how).await));
                myself.stop(None);
            }
            ClusterMessage::Evicted | ClusterMessage::PartFailed => {
                drop(state.shut_down(Shutdown::immediate()).await);
                myself.stop(None);
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<ClusterMessage>, state: &mut ClusterState) -> Result<(), ActorProcessingErr> {
        // Stopped as an actor, without a word: as orderly as that allows.
        drop(state.shut_down(Shutdown::immediate()).await);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<ClusterMessage>,
        event: SupervisionEvent,
        state: &mut ClusterState,
    ) -> Result<(), ActorProcessingErr> {
        if let (SupervisionEvent::ActorFailed(cell, error), ClusterState(Some(started))) = (event, state) {
            let part = started.part(&cell).unwrap_or("unknown").into();
            started.node.events.publish(ClusterEvent::PartFailed { part, reason: error.to_string() });
            drop(myself.cast(ClusterMessage::PartFailed));
        }
        Ok(())
    }
}

impl ClusterState {
    /// Once; afterwards there is nothing left to shut down.
    async fn shut_down(&mut self, how: Shutdown) -> Result<(), crate::ShutdownError> {
        let Some(mut started) = self.0.take() else { return Ok(()) };
        let result = started.stop(how).await;
        started.node.events.publish_last(match &result {
            Ok(()) => ClusterEvent::Shutdown,
            Err(error) => ClusterEvent::ShutdownFailed { reason: error.to_string() },
        });
        result
    }
}
