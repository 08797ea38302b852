use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cluster::parts::Started;
use crate::cluster::{ClusterActor, ClusterArguments, ClusterMessage, End, Internal, News, Shutdown};
use crate::config::{ClusterConfig, OnEviction};
use crate::context::ClusterContext;
use crate::error::ShutdownError;
use crate::event::{ClusterEvent, Events};
use crate::node::Node;

/// The state of a [`ClusterActor`]: nothing for anybody else.
#[derive(Debug)]
pub struct ClusterState {
    life: Life,
    context: ClusterContext,
    events: Events,
    end: End,
}

#[derive(Debug)]
enum Life {
    Running(Box<Started>),
    /// Between two lives, until [`News::Rejoined`]; dropping the guard ends the attempt.
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
        ClusterArguments { config, role, end }: ClusterArguments,
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
        Ok(ClusterState { life: Life::Running(Box::new(started)), context, events, end })
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
            ClusterMessage::Internal(Internal(news)) => match news {
                News::Evicted if state.rejoins() => state.rejoin(myself),
                News::Rejoined => {
                    state.rejoined(myself.clone()).await;
                    if matches!(state.life, Life::Over) {
                        myself.stop(None);
                    }
                }
                News::Evicted | News::PartFailed => {
                    drop(state.shut_down(Shutdown::immediate()).await);
                    myself.stop(None);
                }
            },
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
            drop(myself.cast(ClusterMessage::PART_FAILED));
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
                let told = Told(myself.clone());
                let next = tokio::spawn(async move {
                    let _told = told;
                    started.rejoin(myself, ended).await.map(Box::new)
                });
                Life::Rejoining(next, old, end.drop_guard())
            }
            life => life,
        };
    }

    async fn rejoined(&mut self, myself: ActorRef<ClusterMessage>) {
        self.life = match std::mem::replace(&mut self.life, Life::Over) {
            Life::Rejoining(next, old, _end) => match next.await {
                Ok(Some(next)) => {
                    old.succeeded_by(&next.node);
                    let (old, new) = (old.me.id, next.node.me.id);
                    next.node.events.publish(ClusterEvent::Rejoined { old, new });
                    if let Some(part) = next.ended_part() {
                        let reason = String::from("it ended while the node joined again");
                        next.node.events.publish(ClusterEvent::PartFailed { part: part.into(), reason });
                        drop(myself.cast(ClusterMessage::PART_FAILED));
                    }
                    Life::Running(next)
                }
                // Only a shutdown ends it, which has taken this life.
                Ok(None) => Life::Over,
                Err(error) => {
                    tracing::error!(%error, "the node could not be started again");
                    self.over(Err(ShutdownError::Aborted));
                    Life::Over
                }
            },
            life => life,
        };
        // The news of it came while this life was not known here.
        if matches!(&self.life, Life::Running(started) if started.node.is_fenced()) {
            self.rejoin(myself);
        }
    }

    /// Once; afterwards there is nothing left to shut down.
    async fn shut_down(&mut self, how: Shutdown) -> Result<(), ShutdownError> {
        let started = match std::mem::replace(&mut self.life, Life::Over) {
            Life::Running(started) => Some(started),
            Life::Rejoining(next, _, end) => {
                drop(end);
                // Told to end, it has stopped what it had started, unless it has just rejoined.
                next.await.ok().flatten()
            }
            Life::Over => return Ok(()),
        };
        let result = match started {
            Some(mut started) => started.stop(how).await,
            None => Ok(()),
        };
        self.over(result.clone());
        result
    }

    /// Notes how the node has ended, and tells it. Only the first time counts.
    fn over(&self, how: Result<(), ShutdownError>) {
        let last = match &how {
            Ok(()) => ClusterEvent::Shutdown,
            Err(error) => ClusterEvent::ShutdownFailed { reason: error.to_string() },
        };
        if self.end.set(how).is_ok() {
            self.events.publish_last(last);
        }
    }
}

/// Tells the root that the task that rejoins has ended, also by a panic.
struct Told(ActorRef<ClusterMessage>);

impl Drop for Told {
    fn drop(&mut self) {
        drop(self.0.cast(ClusterMessage::REJOINED));
    }
}

impl Drop for ClusterState {
    /// Killed, or after a panic, the actor had no chance to shut down.
    fn drop(&mut self) {
        self.over(Err(ShutdownError::Aborted));
    }
}
