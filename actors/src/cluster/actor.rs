use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cluster::parts::Started;
use crate::cluster::{ClusterActor, ClusterArguments, ClusterMessage, Shutdown};
use crate::config::{ClusterConfig, OnEviction};
use crate::context::ClusterContext;
use crate::event::ClusterEvent;
use crate::node::Node;

/// The state of a [`ClusterActor`]: nothing for anybody else.
#[derive(Debug)]
pub struct ClusterState {
    life: Life,
    context: ClusterContext,
}

#[derive(Debug)]
enum Life {
    Running(Box<Started>),
    /// Between two lives, until [`ClusterMessage::Rejoined`]; dropping the guard ends the attempt.
    Rejoining(JoinHandle<Option<Box<Started>>>, Arc<Node>, DropGuard),
    Over,
}

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
        let context = ClusterContext::new(Arc::clone(&started.node));
        Ok(ClusterState { life: Life::Running(Box::new(started)), context })
    }

    async fn handle(
        &self,
        myself: ActorRef<ClusterMessage>,
        message: ClusterMessage,
        state: &mut ClusterState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ClusterMessage::Context(reply) => {
                drop(reply.send(ClusterContext::new(Arc::clone(state.context.node()))));
            }
            ClusterMessage::Shutdown(how, reply) => {
                drop(reply.send(state.shut_down(how).await));
                myself.stop(None);
            }
            ClusterMessage::Evicted if state.rejoins() => state.rejoin(myself),
            ClusterMessage::Rejoined => state.rejoined().await,
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
        if let (SupervisionEvent::ActorFailed(cell, error), Life::Running(started)) = (event, &state.life) {
            let part = started.part(&cell).unwrap_or("unknown").into();
            started.node.events.publish(ClusterEvent::PartFailed { part, reason: error.to_string() });
            drop(myself.cast(ClusterMessage::PartFailed));
        }
        Ok(())
    }
}

impl ClusterState {
    /// Whether an eviction leads to another life. One that is behind the news ends nothing.
    fn rejoins(&self) -> bool {
        match &self.life {
            Life::Running(started) => matches!(started.node.config.on_eviction, OnEviction::Rejoin),
            Life::Rejoining(..) => true,
            Life::Over => false,
        }
    }

    /// In a task, so that a shutdown need not wait for it.
    fn rejoin(&mut self, myself: ActorRef<ClusterMessage>) {
        self.life = match std::mem::replace(&mut self.life, Life::Over) {
            Life::Running(started) if started.node.is_fenced() => {
                let old = Arc::clone(&started.node);
                let end = CancellationToken::new();
                let ended = end.clone();
                let next = tokio::spawn(async move {
                    let next = started.rejoin(myself.clone(), ended).await;
                    drop(myself.cast(ClusterMessage::Rejoined));
                    next.map(Box::new)
                });
                Life::Rejoining(next, old, end.drop_guard())
            }
            life => life,
        };
    }

    async fn rejoined(&mut self) {
        self.life = match std::mem::replace(&mut self.life, Life::Over) {
            Life::Rejoining(next, old, _end) => match next.await {
                Ok(Some(next)) => {
                    old.succeeded_by(&next.node);
                    let (old, new) = (old.me.id, next.node.me.id);
                    next.node.events.publish(ClusterEvent::Rejoined { old, new });
                    Life::Running(next)
                }
                // Only a shutdown ends it, which has taken this life.
                Ok(None) => Life::Over,
                Err(error) => {
                    tracing::error!(%error, "the node could not be started again");
                    Life::Over
                }
            },
            life => life,
        };
    }

    /// Once; afterwards there is nothing left to shut down.
    async fn shut_down(&mut self, how: Shutdown) -> Result<(), crate::ShutdownError> {
        let mut started = match std::mem::replace(&mut self.life, Life::Over) {
            Life::Running(started) => started,
            Life::Rejoining(next, old, end) => {
                drop(end);
                match next.await {
                    // It has just rejoined.
                    Ok(Some(started)) => started,
                    Ok(None) | Err(_) => {
                        old.events.publish_last(ClusterEvent::Shutdown);
                        return Ok(());
                    }
                }
            }
            Life::Over => return Ok(()),
        };
        let result = started.stop(how).await;
        started.node.events.publish_last(match &result {
            Ok(()) => ClusterEvent::Shutdown,
            Err(error) => ClusterEvent::ShutdownFailed { reason: error.to_string() },
        });
        result
    }
}
