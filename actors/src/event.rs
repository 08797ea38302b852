//! What happens on a node, as a stream that anybody may read.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use gristmill_core::downing::DowningDecision;
use gristmill_core::membership::{Evidence, QuarantineReason, Refusal as TransitionRefusal};
use gristmill_core::placement::DeactivationReason;
use gristmill_core::topology::TopologyUpdated;
use gristmill_core::{Member, MemberStatus, Timestamp};
use gristmill_messages::{ActivationEpoch, ActivationId, ClusterIdentity, MemberId, TopologyHash};
use tokio::sync::broadcast;
use tokio_util::sync::ReusableBoxFuture;

use crate::error::{TopologyApplyError, TopologyPart};

/// Something that has happened, as this node saw it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ClusterEvent {
    /// This node has joined and serves. Once; the topology in which it found itself came before it.
    Started {
        /// This node.
        member: MemberId,
    },
    /// This node did not start; everything was rolled back. The last event.
    StartupFailed {
        /// Why.
        reason: String,
    },
    /// The active members, or the block list, have changed. None comes once this node has begun to leave.
    TopologyUpdated(Arc<TopologyUpdated>),
    /// A part of this node does not go by this topology: it goes by the one before, and all others by this one. Nothing
    /// is to be done: each topology is handed over whole, so that the next one repairs what this one could not.
    TopologyApplyFailed {
        /// Of the topology. Of one that is none: as it was stated.
        hash: TopologyHash,
        /// What does not go by it.
        part: TopologyPart,
        /// Why.
        reason: TopologyApplyError,
    },
    /// A member's state has changed.
    MemberStatusChanged {
        /// Who.
        member: Member,
        /// Before; none when it was unknown.
        from: Option<MemberStatus>,
        /// Now.
        to: MemberStatus,
        /// On [this node's clock](crate::ClusterContext::now).
        observed_at: Timestamp,
    },
    /// A member was declared dead, and no join under its id is accepted for a while. Until it is released, as
    /// [downing](crate::Downing) decides, it is in the topology and owns its keys; from then on it is blocked, so that
    /// nothing is sent to it but that it is dead, and it is not let in.
    MemberQuarantined {
        /// Who.
        member: Member,
        /// Why.
        reason: QuarantineReason,
        /// On [this node's clock](crate::ClusterContext::now).
        observed_at: Timestamp,
    },
    /// A member that was held for dead lives, as others say and have shown: it is a member again.
    VerdictWithdrawn {
        /// Who.
        member: MemberId,
    },
    /// A member has become suspect: why. [`ClusterContext::explain`](crate::ClusterContext::explain) says more.
    MemberSuspected {
        /// Who.
        member: MemberId,
        /// Who accuses it.
        by: MemberId,
        /// What the accusation rests on.
        evidence: Evidence,
    },
    /// So many members have become suspect at once that this node declares no suspect dead until it calms.
    EvictionsHalted {
        /// Who are suspected now.
        suspects: usize,
    },
    /// It has calmed: who does not refute is dead again.
    EvictionsResumed {
        /// Who are suspected still.
        suspects: usize,
    },
    /// This node hears no other. It takes itself for cut off, and declares nobody dead.
    Isolated,
    /// This node hears another again.
    IsolationEnded,
    /// A suspected member has shown that it lives.
    SuspicionRefuted {
        /// Who.
        member: MemberId,
    },
    /// A member's record asked for a change that is not legal; it was not made.
    TransitionRefused {
        /// Who.
        member: MemberId,
        /// From; none when it is not known.
        from: Option<MemberStatus>,
        /// To.
        to: MemberStatus,
        /// Why not.
        reason: TransitionRefusal,
    },
    /// All active members tell of the same topology.
    TopologyConsensusReached {
        /// Of the topology.
        hash: TopologyHash,
        /// Since the topology began to change, on this node.
        after: Duration,
    },
    /// They no longer do: a change is on its way.
    TopologyConsensusLost,
    /// A peer's gossip, or a part of it, was not merged, because it claims what the peer cannot know. At most once a
    /// second; the metric `gossip_refused` counts each.
    GossipRefused {
        /// Whose connection it came on.
        from: MemberId,
        /// Why.
        reason: String,
    },
    /// The others have declared this node dead.
    Evicted,
    /// It was decided which side of a partition goes on; [`ClusterContext::downing_decisions`](crate::ClusterContext)
    /// keeps the last ones.
    DowningDecided(Arc<DowningDecision>),
    /// This node must not serve any more, as [`Evicted`](Self::Evicted) or [`DowningDecided`](Self::DowningDecided)
    /// before it said: its grains were stopped. What follows is its [`OnEviction`](crate::OnEviction).
    Fenced {
        /// Its id, which is used up.
        member: MemberId,
    },
    /// This node has joined again.
    Rejoined {
        /// Its id until it was fenced.
        old: MemberId,
        /// Its id from now on.
        new: MemberId,
    },
    /// Members were blocked: they own nothing any more, and nothing that is remembered leads to them.
    BlockListApplied {
        /// How many were not blocked before.
        entries: usize,
        /// All who are blocked now, ascending.
        blocked: Vec<MemberId>,
    },
    /// The remembered activations of a member that left are forgotten.
    PidCacheCleared {
        /// Who left.
        member: MemberId,
        /// How many.
        entries: usize,
    },
    /// A grain was activated on this member.
    ActivationStarted {
        /// Which grain.
        identity: Arc<ClusterIdentity>,
        /// Where.
        member: MemberId,
        /// Which activation.
        activation: ActivationId,
        /// Its order among those of the identity on this member.
        epoch: ActivationEpoch,
    },
    /// An activation has ended; observed on every member.
    ActivationTerminated {
        /// Which grain.
        identity: Arc<ClusterIdentity>,
        /// Where.
        member: MemberId,
        /// Which activation.
        activation: ActivationId,
        /// Its order among those of the identity on that member.
        epoch: ActivationEpoch,
        /// Why.
        reason: DeactivationReason,
    },
    /// A connection is established.
    PeerConnected {
        /// To whom.
        peer: MemberId,
        /// Where it listens; empty for a client.
        address: String,
    },
    /// A connection is gone. It is established again when it is needed.
    PeerDisconnected {
        /// To whom.
        peer: MemberId,
        /// Why.
        reason: String,
    },
    /// Somebody connected and was turned away before being believed: junk, wrong name, wrong secret, blocked.
    ConnectionRefused {
        /// From where, as the network says.
        from: String,
        /// Why.
        reason: String,
    },
    /// A part of this node has failed; the node shuts down.
    PartFailed {
        /// Which.
        part: String,
        /// How.
        reason: String,
    },
    /// This node has shut down in order. The last event.
    Shutdown,
    /// This node has shut down, but not in order. The last event.
    ShutdownFailed {
        /// Why.
        reason: String,
    },
    /// This subscriber was too slow: the oldest events were dropped.
    Missed(u64),
}

/// Where a node's parts leave their events.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    subscribers: broadcast::Sender<ClusterEvent>,
    over: Arc<Mutex<bool>>,
}

impl Events {
    pub(crate) fn new(buffer: usize) -> Self {
        Self { subscribers: broadcast::Sender::new(buffer), over: Arc::default() }
    }

    /// The same subscribers, for another node: its end is not that of the others.
    pub(crate) fn another(&self) -> Self {
        Self { subscribers: self.subscribers.clone(), over: Arc::default() }
    }

    pub(crate) fn publish(&self, event: ClusterEvent) {
        self.publish_unless_over(event, false);
    }

    /// Publishes an event after which there is none: what still happens while the last connections close is not told.
    pub(crate) fn publish_last(&self, event: ClusterEvent) {
        self.publish_unless_over(event, true);
    }

    fn publish_unless_over(&self, event: ClusterEvent, last: bool) {
        tracing::debug!(?event, "cluster event");
        if !last && self.subscribers.receiver_count() == 0 {
            return;
        }
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        if !*over {
            *over = last;
            // No subscriber is no error.
            drop(self.subscribers.send(event));
        }
    }

    pub(crate) fn subscribe(&self) -> EventStream {
        EventStream { next: ReusableBoxFuture::new(receive(self.subscribers.subscribe())) }
    }
}

/// The events of one node from the moment of the subscription on; ends after the last one.
///
/// It is bounded: a subscriber that falls behind by more than
/// [`event_buffer`](crate::ClusterConfigBuilder::event_buffer) events loses the oldest and gets
/// [`ClusterEvent::Missed`] in their place.
#[derive(Debug)]
pub struct EventStream {
    next: ReusableBoxFuture<'static, Received<ClusterEvent>>,
}

impl EventStream {
    /// The next event; none when the node is gone. Cancel safe: an event is lost only to [`ClusterEvent::Missed`].
    pub async fn next(&mut self) -> Option<ClusterEvent> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for EventStream {
    type Item = ClusterEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ClusterEvent>> {
        let (received, receiver) = std::task::ready!(self.next.poll(cx));
        self.next.set(receive(receiver));
        Poll::Ready(match received {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(events)) => Some(ClusterEvent::Missed(events)),
            Err(broadcast::error::RecvError::Closed) => None,
        })
    }
}

/// One receipt, which gives the receiver back for the next: what a stream polls.
pub(crate) async fn receive<T: Clone>(mut receiver: broadcast::Receiver<T>) -> Received<T> {
    (receiver.recv().await, receiver)
}

pub(crate) type Received<T> = (Result<T, broadcast::error::RecvError>, broadcast::Receiver<T>);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_comes_after_the_last_event_of_a_node_but_another_nodes_first() {
        let events = Events::new(8);
        let mut stream = events.subscribe();
        let (first, second) = (events.another(), events.another());
        first.publish(ClusterEvent::Evicted);
        first.clone().publish_last(ClusterEvent::Shutdown);
        first.publish(ClusterEvent::Evicted);
        second.publish_last(ClusterEvent::Shutdown);
        drop((events, first, second));
        for event in [ClusterEvent::Evicted, ClusterEvent::Shutdown, ClusterEvent::Shutdown] {
            assert_eq!(stream.next().await, Some(event));
        }
        assert_eq!(stream.next().await, None);
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_how_much_it_lost() {
        let events = Events::new(2);
        let mut stream = events.subscribe();
        for _ in 0..5 {
            events.publish(ClusterEvent::Evicted);
        }
        assert_eq!(stream.next().await, Some(ClusterEvent::Missed(3)));
        assert_eq!(stream.next().await, Some(ClusterEvent::Evicted));
        assert_eq!(stream.next().await, Some(ClusterEvent::Evicted));
        drop(events);
        assert_eq!(stream.next().await, None);
    }
}
