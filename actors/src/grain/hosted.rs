use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use gristmill_core::placement::DeactivationReason;
use gristmill_core::request::NotDeliveredReason;
use gristmill_transport::Outcome;
use ractor::{Actor, ActorProcessingErr, ActorRef, ActorRuntime, SupervisionEvent};

use crate::grain::door::{Door, Ended, Refused};
use crate::grain::kind::KindSettings;
use crate::grain::{Call, Envelope, GrainContext, GrainError, Reply, ReplyTo};

/// A message to a ractor actor that is hosted as a grain, and the way back for its answer.
///
/// Dropped unopened it was surely not handled, and its caller is told so; dropped opened and unanswered, its outcome is
/// unknown.
#[derive(Debug)]
pub struct HostedCall {
    /// None once it is opened.
    waiting: Option<(Envelope, Mailbox)>,
}

/// The answer that a [`HostedCall`] waits for. May be given later, from any task: until then its actor is not idle.
#[derive(Debug)]
#[must_use = "dropped, it tells the caller that the outcome is unknown"]
pub struct Answer {
    reply: ReplyTo,
    _mailbox: Mailbox,
}

/// How many messages wait in the mailbox of an actor. The door holds it, and everything that the actor still has to do:
/// who else holds it is counted anyway.
type Mailbox = Arc<AtomicUsize>;

impl HostedCall {
    /// Opens the message: `handle` reads it, and gets the [`Answer`] to keep or to use at once.
    pub fn open<T>(mut self, handle: impl FnOnce(Call<'_>, Answer) -> T) -> T {
        let Some((envelope, mailbox)) = self.waiting.take() else {
            unreachable!("only opening takes the message, and it takes the call too");
        };
        mailbox.fetch_sub(1, Ordering::Relaxed);
        let Envelope { message, data, traceparent, reply, .. } = envelope;
        let call = Call { message: &message, data: &data, traceparent: traceparent.as_deref() };
        handle(call, Answer { reply, _mailbox: mailbox })
    }
}

impl Drop for HostedCall {
    fn drop(&mut self) {
        if let Some((envelope, mailbox)) = self.waiting.take() {
            mailbox.fetch_sub(1, Ordering::Relaxed);
            envelope.reply.not_delivered(NotDeliveredReason::Stopping);
        }
    }
}

impl Answer {
    /// Answers the caller.
    pub fn send(self, answer: Result<Reply, GrainError>) {
        self.reply.send(match answer {
            Ok(reply) => Outcome::Response { message: reply.message, data: reply.data },
            Err(error) => error.into(),
        });
    }
}

/// The door of a hosted ractor actor. ractor's mailbox has neither bound nor length: what is sent there is counted
/// instead.
pub(super) struct HostedDoor<A: Actor> {
    actor: ActorRef<A::Msg>,
    settings: Arc<KindSettings>,
    mailbox: Mailbox,
    draining: Arc<AtomicBool>,
    reason: Arc<std::sync::Mutex<DeactivationReason>>,
    idle_sweeps: AtomicU32,
}

impl<A> HostedDoor<A>
where
    A: Actor<Arguments = Arc<GrainContext>>,
    A::Msg: From<HostedCall>,
{
    pub(super) fn start(settings: Arc<KindSettings>, context: GrainContext, actor: A) -> Arc<Self> {
        let context = Arc::new(context);
        // Whichever runtime the caller is on who asked for it.
        let _on_the_nodes_runtime = context.cluster.node().runtime.enter();
        let reason = Arc::new(std::sync::Mutex::new(DeactivationReason::Stopped));
        let draining = Arc::new(AtomicBool::new(false));
        let failed = Arc::new(AtomicBool::new(false));
        let watched = Watched { actor, failed: Arc::clone(&failed) };
        let spawned = ActorRuntime::spawn_instant(None, watched, Arc::clone(&context));
        let (actor, started) = match spawned {
            Ok(spawned) => spawned,
            // Only a name that is taken fails here, and it has none.
            Err(error) => unreachable!("an actor without a name did not spawn: {error}"),
        };
        let watch = (Arc::clone(&reason), Arc::clone(&draining));
        tokio::spawn(async move {
            let (reason, draining) = watch;
            let cluster = &context.cluster;
            let running = match started.await {
                Ok(Ok(running)) => running,
                Ok(Err(error)) => {
                    return cluster.ended(Ended::NotActivated(context.activation, GrainError::internal(error)));
                }
                Err(error) => {
                    return cluster.ended(Ended::NotActivated(context.activation, GrainError::internal(error)));
                }
            };
            cluster.activated(context.activation);
            // An actor that panicked is caught by ractor and ends like any other.
            let _ = running.await;
            draining.store(true, Ordering::Release);
            let reason = match failed.load(Ordering::Acquire) {
                true => DeactivationReason::Panicked,
                false => *reason.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
            };
            cluster.ended(Ended::Deactivated(context.activation, reason));
        });
        Arc::new(Self {
            actor,
            settings,
            mailbox: Mailbox::default(),
            draining,
            reason,
            idle_sweeps: AtomicU32::new(0),
        })
    }
}

impl<A> Door for HostedDoor<A>
where
    A: Actor<Arguments = Arc<GrainContext>>,
    A::Msg: From<HostedCall>,
{
    fn runs_users_code(&self) -> bool {
        true
    }

    fn deliver(&self, envelope: Envelope) -> Result<(), Refused> {
        if self.draining.load(Ordering::Acquire) {
            return Err(Refused::new(envelope, NotDeliveredReason::Stopping));
        }
        if self.mailbox.fetch_add(1, Ordering::Relaxed) >= self.settings.mailbox {
            self.mailbox.fetch_sub(1, Ordering::Relaxed);
            return Err(Refused::new(envelope, NotDeliveredReason::Overloaded));
        }
        self.idle_sweeps.store(0, Ordering::Relaxed);
        let call = HostedCall { waiting: Some((envelope, Arc::clone(&self.mailbox))) };
        // A message that an ended actor gives back is dropped unopened, which tells its caller.
        drop(self.actor.cast(A::Msg::from(call)));
        Ok(())
    }

    fn drain(&self, reason: DeactivationReason) {
        *self.reason.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = reason;
        self.draining.store(true, Ordering::Release);
        if self.actor.drain().is_err() {
            tracing::debug!("a hosted actor had ended before it was drained");
        }
    }

    fn stop(&self) {
        self.actor.kill();
    }

    fn sweep(&self, every: Duration) -> bool {
        if Arc::strong_count(&self.mailbox) > 1 {
            self.idle_sweeps.store(0, Ordering::Relaxed);
            return false;
        }
        self.settings.is_idle(self.idle_sweeps.fetch_add(1, Ordering::Relaxed).saturating_add(1), every)
    }
}

/// The actor itself, and a note of whether it failed: ractor tells that to a supervisor, which it has not.
struct Watched<A> {
    actor: A,
    failed: Arc<AtomicBool>,
}

impl<A: Actor> Watched<A> {
    async fn watch(
        &self,
        turn: impl Future<Output = Result<(), ActorProcessingErr>> + Send,
    ) -> Result<(), ActorProcessingErr> {
        let done = AssertUnwindSafe(turn).catch_unwind().await;
        if !matches!(done, Ok(Ok(()))) {
            self.failed.store(true, Ordering::Release);
        }
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl<A: Actor> Actor for Watched<A> {
    type Msg = A::Msg;
    type State = A::State;
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<A::Msg>,
        arguments: A::Arguments,
    ) -> Result<A::State, ActorProcessingErr> {
        self.actor.pre_start(myself, arguments).await
    }

    async fn post_start(&self, myself: ActorRef<A::Msg>, state: &mut A::State) -> Result<(), ActorProcessingErr> {
        self.watch(async { self.actor.post_start(myself, state).await }).await
    }

    async fn post_stop(&self, myself: ActorRef<A::Msg>, state: &mut A::State) -> Result<(), ActorProcessingErr> {
        self.watch(async { self.actor.post_stop(myself, state).await }).await
    }

    async fn handle(
        &self,
        myself: ActorRef<A::Msg>,
        message: A::Msg,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        self.watch(async { self.actor.handle(myself, message, state).await }).await
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<A::Msg>,
        event: SupervisionEvent,
        state: &mut A::State,
    ) -> Result<(), ActorProcessingErr> {
        self.watch(async { self.actor.handle_supervisor_evt(myself, event, state).await }).await
    }
}

impl<A: Actor> fmt::Debug for HostedDoor<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostedDoor").field("actor", &self.actor.get_id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
