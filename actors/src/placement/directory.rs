//! The table of activations, and the hands that do what it says.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use fnv::FnvBuildHasher;
use gristmill_core::placement::activations::{Activations, Config, Effect, Event, Input};
use gristmill_core::placement::{DeactivationReason, Location, Placed, Refusal, wire};
use gristmill_core::{KindName, Outbox, RequestId};
use gristmill_messages::{ActivationId, ClusterIdentity};
use tokio::sync::oneshot;

use crate::ClusterContext;
use crate::delivery::DeliveryMessage;
use crate::event::ClusterEvent;
use crate::grain::{Door, Ended, GrainContext, GrainError, Kind, KindSettings};
use crate::inbox::PeerRequest;
use crate::node::Node;
use crate::placement::PlacementMessage;
use crate::placement::announcer::Announcer;
use crate::topic;

/// How often the lock is tried before a thread sleeps for it: it is held for a microsecond or two, and to be woken
/// takes longer.
const PATIENCE: u32 = 32;

/// This node's activations.
///
/// Whoever has news tells the machine in place, under one lock, as if to an actor that answers at once: callers who
/// look for an activation, so that a new one costs no message and no task, and the placement actor for everything else.
/// No code of users runs under the lock, but for the factory of a hosted actor, and doors are touched after it: they
/// may come back.
pub(crate) struct Directory(Mutex<Option<Inner>>);

struct Inner {
    activations: Activations,
    out: Outbox<Effect, Event>,
    kinds: HashMap<KindName, (Kind, Arc<KindSettings>), FnvBuildHasher>,
    waiting: HashMap<RequestId, Requester, FnvBuildHasher>,
    shutdown: Option<oneshot::Sender<usize>>,
    announcer: Announcer,
}

/// Who asked for an activation.
enum Requester {
    /// This node.
    Here(Arc<ClusterIdentity>, oneshot::Sender<Result<Location, Refusal>>),
    Peer(PeerRequest),
}

/// What is done once the lock is free.
enum Act {
    Begin(ActivationId, Arc<dyn Door>),
    Drain(Arc<dyn Door>, DeactivationReason),
    Stop(Arc<dyn Door>),
}

impl Directory {
    /// Nothing is activated before the first topology.
    pub(crate) fn new(node: &Arc<Node>, kinds: Vec<Kind>) -> Self {
        let kinds = kinds.into_iter().map(|kind| (kind.name().clone(), (kind.clone(), kind.settings()))).collect();
        Self(Mutex::new(Some(Inner {
            activations: Activations::new(Config::lan(), node.me.id),
            out: Outbox::new(),
            kinds,
            waiting: HashMap::default(),
            shutdown: None,
            announcer: Announcer::start(node),
        })))
    }

    /// Where the activation of an identity that this node owns is, which starts it if there is none. What is found is
    /// in the table of the PID cache by then, or is about to be. `None` when this node has ended.
    ///
    /// A new activation begins in the caller's task. Dropped, it takes no place among those who wait any more.
    pub(crate) async fn locate(
        &self,
        node: &Arc<Node>,
        identity: Arc<ClusterIdentity>,
    ) -> Option<Result<Location, Refusal>> {
        let (reply, located) = oneshot::channel();
        let request = node.request_id();
        let mut wait = Wait { directory: self, node, request, over: false };
        for act in self.request(node, request, Arc::clone(&identity), Requester::Here(identity, reply)) {
            match act {
                Act::Begin(activation, door) => {
                    if door.begin() {
                        self.step(node, Input::Activated { activation });
                    }
                }
                other => other.perform(),
            }
        }
        let located = located.await.ok();
        wait.over = true;
        located
    }

    /// The same for a peer, who is answered.
    pub(super) fn locate_for(&self, node: &Arc<Node>, identity: Arc<ClusterIdentity>, peer: PeerRequest) {
        let acts = self.request(node, node.request_id(), identity, Requester::Peer(peer));
        acts.into_iter().for_each(Act::perform);
    }

    /// Tells the machine, and does what follows.
    pub(super) fn step(&self, node: &Arc<Node>, input: Input) {
        let acts = self.lock().as_mut().map(|inner| inner.step(node, input)).unwrap_or_default();
        acts.into_iter().for_each(Act::perform);
    }

    /// What a door reports.
    pub(super) fn ended(&self, node: &Arc<Node>, ended: Ended) {
        let (activation, input) = match ended {
            Ended::NotActivated(activation, error) => {
                (activation, Input::ActivationFailed { activation, failure: error.to_string() })
            }
            Ended::Deactivated(activation, reason) => (activation, Input::Ended { activation, reason }),
        };
        node.doors.remove(&activation);
        self.step(node, input);
    }

    /// Drains everything; `reply` gets the number of grains that had to be cut off.
    pub(super) fn shut_down(&self, node: &Arc<Node>, grace: Duration, reply: oneshot::Sender<usize>) {
        if let Some(inner) = &mut *self.lock() {
            inner.shutdown = Some(reply);
        }
        self.step(node, Input::ShutDown { grace });
    }

    /// Stops every grain, and starts none any more.
    pub(crate) fn halt(&self, node: &Arc<Node>) {
        self.step(node, Input::Halt);
    }

    /// How many grains of each kind live here.
    pub(super) fn counts(&self) -> BTreeMap<KindName, usize> {
        let guard = self.lock();
        let started = guard.iter().flat_map(|inner| inner.activations.started());
        started.map(|(kind, count)| (kind.clone(), count)).collect()
    }

    /// Nothing is activated any more, and nobody is answered. The node and this know each other until then.
    pub(crate) fn close(&self) {
        let inner = self.lock().take();
        drop(inner);
    }

    fn request(
        &self,
        node: &Arc<Node>,
        request: RequestId,
        identity: Arc<ClusterIdentity>,
        requester: Requester,
    ) -> Vec<Act> {
        let mut guard = self.lock();
        let Some(inner) = &mut *guard else { return Vec::new() };
        inner.waiting.insert(request, requester);
        inner.step(node, Input::Requested { request, identity })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Inner>> {
        for _ in 0..PATIENCE {
            match self.0.try_lock() {
                Ok(guard) => return guard,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => (0..32).for_each(|_| std::hint::spin_loop()),
            }
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller of this node that waits.
struct Wait<'a> {
    directory: &'a Directory,
    node: &'a Arc<Node>,
    request: RequestId,
    over: bool,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let (node, request) = (self.node, self.request);
        let acts = self.directory.lock().as_mut().and_then(|inner| match inner.waiting.remove(&request)? {
            Requester::Here(identity, _) => {
                Some(inner.step(node, Input::Withdrawn { request, identity: ClusterIdentity::clone(&identity) }))
            }
            Requester::Peer(_) => None,
        });
        acts.into_iter().flatten().for_each(Act::perform);
    }
}

impl Act {
    fn perform(self) {
        match self {
            Self::Begin(_, door) => door.begin_apart(),
            Self::Drain(door, reason) => door.drain(reason),
            Self::Stop(door) => door.stop(),
        }
    }
}

impl Inner {
    fn step(&mut self, node: &Arc<Node>, input: Input) -> Vec<Act> {
        let mut out = std::mem::take(&mut self.out);
        self.activations.handle(node.clock.now(), input, &mut out);
        let acts = out.drain_effects().filter_map(|effect| self.perform(node, effect)).collect();
        for event in out.drain_events() {
            self.publish(node, event);
        }
        self.out = out;
        acts
    }

    fn perform(&mut self, node: &Arc<Node>, effect: Effect) -> Option<Act> {
        match effect {
            Effect::Spawn { activation, identity, epoch } => {
                let context =
                    GrainContext { identity, activation, epoch, cluster: ClusterContext::new(Arc::clone(node)) };
                match self.open(context) {
                    Ok(door) => {
                        node.doors.insert(activation, Arc::clone(&door));
                        return Some(Act::Begin(activation, door));
                    }
                    Err(error) => tell(node, PlacementMessage::Ended(Ended::NotActivated(activation, error))),
                }
            }
            Effect::Answer { request, answer } => {
                if let Some(requester) = self.waiting.remove(&request) {
                    requester.answer(node, answer.map(|placed| location(node, placed)));
                }
            }
            Effect::Drain { activation, reason } => {
                return node.doors.get(&activation).map(|door| Act::Drain(Arc::clone(&door), reason));
            }
            Effect::Stop { activation } => {
                return node.doors.get(&activation).map(|door| Act::Stop(Arc::clone(&door)));
            }
            Effect::Announce { activation, epoch, identity, reason } => {
                node.pids.remove(identity.stable_hash(), activation);
                let location = location(node, Placed { activation, epoch });
                let terminated = wire::Terminated { location, identity: ClusterIdentity::clone(&identity), reason };
                if let Some(parts) = node.parts().filter(|_| identity.kind == topic::KIND) {
                    parts.delivery.send(DeliveryMessage::RenewTopic(identity.identity.clone()));
                }
                self.announcer.announce(terminated.to_message(&node.me.address));
            }
            // Under the lock: of two timers only the one that was decided last counts, so it has to come last.
            Effect::SetTimer(timer) => tell(node, PlacementMessage::SetTimer(timer)),
        }
        None
    }

    fn open(&self, context: GrainContext) -> Result<Arc<dyn Door>, GrainError> {
        let name = &context.identity.kind;
        let Some((kind, settings)) = self.kinds.get(name.as_str()) else {
            return Err(GrainError::internal(format!("the kind {name} is in the topology but not on this member")));
        };
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| kind.open(Arc::clone(settings), context)));
        opened.map_err(|_| GrainError::internal("the factory panicked"))
    }

    fn publish(&mut self, node: &Node, event: Event) {
        let member = node.me.id;
        node.metrics.activations.set(self.activations.len() as u64);
        match event {
            Event::Started { identity, activation, epoch } => {
                node.events.publish(ClusterEvent::ActivationStarted { identity, member, activation, epoch });
            }
            Event::NotStarted { identity, failure, .. } => {
                tracing::warn!(%identity, %failure, "a grain did not activate");
            }
            Event::Terminated { identity, activation, epoch, reason } => {
                let event = ClusterEvent::ActivationTerminated { identity, member, activation, epoch, reason };
                node.events.publish(event);
            }
            Event::Drained { abandoned } => {
                if let Some(reply) = self.shutdown.take() {
                    let _ = reply.send(abandoned);
                }
            }
        }
    }
}

impl Requester {
    fn answer(self, node: &Node, result: Result<Location, Refusal>) {
        match self {
            Self::Here(identity, reply) => {
                // Under the lock under which it is removed when it ends, so that it cannot be inserted after that.
                if let Some(pid) = result.as_ref().ok().and_then(|location| node.local_pid(location.activation)) {
                    node.pids.insert(identity, pid);
                }
                drop(reply.send(result));
            }
            Self::Peer(peer) => {
                let hash = node.view.load().topology().hash();
                peer.answer(&wire::to_response(&result, &node.me.address, hash));
            }
        }
    }
}

/// Tells the placement actor, which is never waited for.
fn tell(node: &Node, message: PlacementMessage) {
    if let Some(parts) = node.parts() {
        parts.placement.send(message);
    }
}

fn location(node: &Node, placed: Placed) -> Location {
    Location { member: node.me.id, activation: placed.activation, epoch: placed.epoch }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
