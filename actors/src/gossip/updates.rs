use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use gristmill_core::gossip::GossipValue;
use gristmill_messages::MemberId;
use prost::{Message, Name};
use tokio::sync::broadcast;
use tokio_util::sync::ReusableBoxFuture;

use crate::event::{Received, receive};

/// A change of one key, not read yet.
#[derive(Debug, Clone)]
pub(crate) struct Update {
    pub(super) member: MemberId,
    /// None: removed.
    pub(super) value: Option<GossipValue>,
}

/// The values that are there, and the changes from then on.
pub(crate) type Begun = (Vec<(MemberId, GossipValue)>, broadcast::Receiver<Update>);

/// A change of a key, as it came here. The last write of a member wins; of several quick ones only the last may come.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum GossipUpdate<M> {
    /// A member has written a value, or had one when the subscription began.
    Set {
        /// Who.
        member: MemberId,
        /// What.
        value: M,
    },
    /// A member has removed its value, or is gone.
    Removed {
        /// Who.
        member: MemberId,
    },
    /// A member has written what is no `M`.
    Unreadable {
        /// Who.
        member: MemberId,
        /// The full name of the message that it says it wrote.
        type_name: String,
    },
    /// This subscriber was too slow: the oldest updates were dropped. What is there now
    /// [can be read](crate::ClusterGossip::get).
    Missed(u64),
}

/// The updates of one key: first the values that are there, then each change.
///
/// It is bounded: a subscriber that falls behind by more than 256 updates loses the oldest and gets
/// [`GossipUpdate::Missed`] in their place. Dropping it ends the subscription.
pub struct GossipUpdates<M> {
    /// What was there when it began.
    first: VecDeque<Update>,
    next: ReusableBoxFuture<'static, Received<Update>>,
    message: PhantomData<fn() -> M>,
}

impl<M> fmt::Debug for GossipUpdates<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GossipUpdates").field("first", &self.first.len()).finish_non_exhaustive()
    }
}

impl<M: Message + Name + Default> GossipUpdates<M> {
    pub(super) fn new((first, receiver): Begun) -> Self {
        let first = first.into_iter().map(|(member, value)| Update { member, value: Some(value) }).collect();
        Self { first, next: ReusableBoxFuture::new(receive(receiver)), message: PhantomData }
    }

    /// The next update; none when the node has stopped. Cancel safe: an update is lost only to
    /// [`GossipUpdate::Missed`].
    pub async fn next(&mut self) -> Option<GossipUpdate<M>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<M: Message + Name + Default> Stream for GossipUpdates<M> {
    type Item = GossipUpdate<M>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(update) = self.first.pop_front() {
            return Poll::Ready(Some(read(update)));
        }
        let (received, receiver) = std::task::ready!(self.next.poll(cx));
        self.next.set(receive(receiver));
        Poll::Ready(match received {
            Ok(update) => Some(read(update)),
            Err(broadcast::error::RecvError::Lagged(updates)) => Some(GossipUpdate::Missed(updates)),
            Err(broadcast::error::RecvError::Closed) => None,
        })
    }
}

fn read<M: Message + Name + Default>(Update { member, value }: Update) -> GossipUpdate<M> {
    let Some(value) = value else { return GossipUpdate::Removed { member } };
    match value.decode::<M>() {
        Some(Ok(value)) => GossipUpdate::Set { member, value },
        Some(Err(_)) | None => GossipUpdate::Unreadable { member, type_name: value.type_name },
    }
}
