//! One topic: who subscribes to it, and how its publications fare.
//!
//! Guarantees: a batch goes to everybody who is subscribed at that moment, to all at the same time, so that a slow or
//! dead subscriber delays no other; each publication is answered exactly once, at the latest after the delivery
//! timeout, and the answer names everybody who did not get it; a publication without subscribers is answered at once.
//! Delivery is at most once: nothing is sent again. Not guaranteed here: that subscriptions outlive the topic.
//! Those of members are soft state, and come back because the members renew them; nobody renews those of grains.
//!
//! | subscriber | stands for | ends |
//! | --- | --- | --- |
//! | [`Subscriber::Member`] | all streams and local actors of one member or client | `Unsubscribe`, its member is blocked, it is reported unreachable, its lease runs out |
//! | [`Subscriber::Grain`] | a grain, wherever it lives | `Unsubscribe` only |
//!
//! ```text
//!   Publish ──> nobody subscribed ─────────────────────────────────────────────> Answer, at once
//!     │ └─────> for each: window of the subscriber full? ──> failed: Overloaded ──┐
//!     v                   else Deliver ──> Delivered / timeout / gone ────────────┴> last one: Answer
//!   too many publications under way: Answer Overloaded
//! ```
//!
//! The payload stays in the shell, under the id of the request that published it, until that request is answered.
//! A subscriber's window bounds how many unanswered publications one slow subscriber can hold.
//!
//! Source: protoactor-go `cluster/pubsub_topic.go` (whose topic delivers one batch at a time, so that one slow
//! subscriber holds up all) and `cluster/pubsub_delivery.go`; leases are ours.
//!
//! ```
//! use gristmill_core::topic::{Answer, Config, Effect, Input, Subscriber, Topic};
//! use gristmill_core::{Outbox, RequestId, Timestamp};
//! use gristmill_messages::MemberId;
//!
//! let (mut topic, mut out) = (Topic::new(Config::lan()), Outbox::new());
//! let subscriber = Subscriber::Member(MemberId::new(1));
//! let request = RequestId::new(1);
//! topic.handle(Timestamp::ZERO, Input::Subscribe { request, subscriber: subscriber.clone() }, &mut out);
//! let publication = RequestId::new(2);
//! topic.handle(Timestamp::ZERO, Input::Publish { publication }, &mut out);
//! let deliver = Effect::Deliver { publication, subscriber };
//! assert!(out.drain_effects().any(|effect| effect == deliver));
//! ```

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::time::Duration;

use gristmill_messages::{ClusterIdentity, MemberId};

use crate::alarm::{Alarm, SetTimer, TimerEpoch};
use crate::{Outbox, RequestId, Timestamp};

mod config;
mod wire;

pub use config::{Config, InvalidConfig};

/// Who receives what is published.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subscriber {
    /// Everything that subscribes on one member or client.
    Member(MemberId),
    /// A grain.
    Grain(Arc<ClusterIdentity>),
}

impl PartialOrd for Subscriber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Subscriber {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Member(a), Self::Member(b)) => a.cmp(b),
            (Self::Grain(a), Self::Grain(b)) => (&a.kind, &a.identity).cmp(&(&b.kind, &b.identity)),
            (Self::Member(_), Self::Grain(_)) => Ordering::Less,
            (Self::Grain(_), Self::Member(_)) => Ordering::Greater,
        }
    }
}

/// How one subscriber fared with one publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryStatus {
    /// It took it.
    Delivered,
    /// There is nobody any more.
    NoLongerReachable,
    /// It did not answer in time; it may have got it.
    Timeout,
    /// It has too many publications before this one; it did not get it.
    Overloaded,
    /// It failed to take it.
    Failed,
}

/// How a publication fared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublishReceipt {
    /// Subscribers that it was sent to.
    pub accepted: u32,
    /// Subscribers that took it.
    pub delivered: u32,
    /// Those that did not, or may not have, or that it was not sent to, in the order in which that turned out.
    pub failed: Vec<(Subscriber, DeliveryStatus)>,
}

/// What a request to a topic is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is subscribed, and stays so for this long without renewal.
    Subscribed {
        /// See [`Config::lease`].
        lease: Duration,
    },
    /// It is not subscribed, whether or not it was.
    Unsubscribed,
    /// The publication is through.
    Published(PublishReceipt),
    /// The topic has as many subscribers, or publications under way, as it may; nothing was done. A publication may
    /// be tried again after a pause.
    Overloaded,
}

/// What a topic is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Somebody subscribes, or renews.
    Subscribe {
        /// Whom to answer.
        request: RequestId,
        /// Who.
        subscriber: Subscriber,
    },
    /// Somebody subscribes no longer.
    Unsubscribe {
        /// Whom to answer.
        request: RequestId,
        /// Who.
        subscriber: Subscriber,
    },
    /// A batch is published.
    Publish {
        /// Whom to answer; names the publication until then.
        publication: RequestId,
    },
    /// A subscriber's node reports. A report that comes too late changes nothing, but that an unreachable member goes.
    Delivered {
        /// Which publication.
        publication: RequestId,
        /// Who.
        subscriber: Subscriber,
        /// How it went.
        status: DeliveryStatus,
    },
    /// A member was blocked: what subscribes there is gone.
    MemberGone(MemberId),
    /// A timer of [`Effect::SetTimer`] fired; ignored unless it is the latest.
    TimerFired(TimerEpoch),
}

/// What the topic's actor has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a publication to a subscriber; report `Delivered`. Those to one subscriber are in the order of publication.
    Deliver {
        /// Which publication.
        publication: RequestId,
        /// To whom.
        subscriber: Subscriber,
    },
    /// Answer a request, exactly once; the payload of a publication is no longer needed.
    Answer {
        /// Which.
        request: RequestId,
        /// With what.
        answer: Answer,
    },
    /// Give back `Input::TimerFired` after a time; the timer before it is void.
    SetTimer(SetTimer),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody new subscribed.
    Subscribed(Subscriber),
    /// Somebody is no longer subscribed.
    Unsubscribed(Subscriber, UnsubscribeReason),
}

/// Why somebody is no longer subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnsubscribeReason {
    /// It asked for it.
    Asked,
    /// Its member was blocked.
    MemberGone,
    /// It was reported to be no longer reachable.
    NoLongerReachable,
    /// It was not renewed in time.
    LeaseExpired,
}

#[derive(Debug)]
struct Publication {
    published: Timestamp,
    pending: BTreeSet<Subscriber>,
    receipt: PublishReceipt,
}

type Out = Outbox<Effect, Event>;

/// The state of one topic. See the [module](self).
#[derive(Debug)]
pub struct Topic {
    config: Config,
    /// Subscribers and when they last subscribed or renewed.
    subscribers: BTreeMap<Subscriber, Timestamp>,
    publications: BTreeMap<RequestId, Publication>,
    /// For how many publications a subscriber is pending; absent when for none.
    in_flight: BTreeMap<Subscriber, usize>,
    /// Publications by deadline; those that are answered stay in until they reach the front.
    deadlines: VecDeque<(Timestamp, RequestId)>,
    /// No lease runs out before this.
    next_expiry: Option<Timestamp>,
    alarm: Alarm,
}

impl Topic {
    /// A topic without subscribers.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self {
            config,
            subscribers: BTreeMap::new(),
            publications: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            deadlines: VecDeque::new(),
            next_expiry: None,
            alarm: Alarm::new(),
        }
    }

    /// Takes one input and leaves in `out` what follows from it.
    pub fn handle(&mut self, now: Timestamp, input: Input, out: &mut Out) {
        match input {
            Input::Subscribe { request, subscriber } => self.subscribe(now, request, subscriber, out),
            Input::Unsubscribe { request, subscriber } => {
                self.remove(&subscriber, UnsubscribeReason::Asked, out);
                out.effect(Effect::Answer { request, answer: Answer::Unsubscribed });
            }
            Input::Publish { publication } => self.publish(now, publication, out),
            Input::Delivered { publication, subscriber, status } => {
                self.delivered(publication, &subscriber, status, out);
            }
            Input::MemberGone(member) => self.member_gone(member, out),
            Input::TimerFired(epoch) => {
                if self.alarm.fired(epoch) {
                    self.time_out(now, out);
                    self.expire(now, out);
                }
            }
        }
        let publications = &self.publications;
        while self.deadlines.pop_front_if(|(_, id)| !publications.contains_key(id)).is_some() {}
        let deadline = self.deadlines.front().map(|(at, _)| *at).into_iter().chain(self.next_expiry).min();
        if let Some(timer) = self.alarm.wake_at(now, deadline) {
            out.effect(Effect::SetTimer(timer));
        }
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
    }

    /// Who is subscribed: members by id, then grains by kind and identity.
    pub fn subscribers(&self) -> impl Iterator<Item = &Subscriber> {
        self.subscribers.keys()
    }

    /// Whether nobody is subscribed and no publication is under way: nothing is lost when the topic goes.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.subscribers.is_empty() && self.publications.is_empty()
    }

    fn subscribe(&mut self, now: Timestamp, request: RequestId, subscriber: Subscriber, out: &mut Out) {
        let is_new = !self.subscribers.contains_key(&subscriber);
        if is_new && self.subscribers.len() >= self.config.max_subscribers {
            out.effect(Effect::Answer { request, answer: Answer::Overloaded });
            return;
        }
        if matches!(subscriber, Subscriber::Member(_)) {
            self.next_expiry = self.next_expiry.or(Some(now + self.config.lease));
        }
        self.subscribers.insert(subscriber.clone(), now);
        out.effect(Effect::Answer { request, answer: Answer::Subscribed { lease: self.config.lease } });
        if is_new {
            out.event(Event::Subscribed(subscriber));
        }
    }

    fn remove(&mut self, subscriber: &Subscriber, reason: UnsubscribeReason, out: &mut Out) {
        if let Some((subscriber, _)) = self.subscribers.remove_entry(subscriber) {
            out.event(Event::Unsubscribed(subscriber, reason));
        }
    }

    fn publish(&mut self, now: Timestamp, id: RequestId, out: &mut Out) {
        if self.publications.contains_key(&id) {
            return; // The shell promised unique ids; the first one goes on.
        }
        if self.publications.len() >= self.config.max_publications {
            out.effect(Effect::Answer { request: id, answer: Answer::Overloaded });
            return;
        }
        let mut publication =
            Publication { published: now, pending: BTreeSet::new(), receipt: PublishReceipt::default() };
        for subscriber in self.subscribers.keys() {
            let in_flight = self.in_flight.get(subscriber).copied().unwrap_or(0);
            if in_flight >= self.config.window {
                publication.receipt.failed.push((subscriber.clone(), DeliveryStatus::Overloaded));
                continue;
            }
            self.in_flight.insert(subscriber.clone(), in_flight + 1);
            publication.receipt.accepted += 1;
            publication.pending.insert(subscriber.clone());
            out.effect(Effect::Deliver { publication: id, subscriber: subscriber.clone() });
        }
        if publication.pending.is_empty() {
            out.effect(Effect::Answer { request: id, answer: Answer::Published(publication.receipt) });
        } else {
            self.deadlines.push_back((now + self.config.delivery_timeout, id));
            self.publications.insert(id, publication);
        }
    }

    fn delivered(&mut self, id: RequestId, subscriber: &Subscriber, status: DeliveryStatus, out: &mut Out) {
        let Some(published) = self.settle(id, subscriber, status, out) else { return };
        let unreachable = status == DeliveryStatus::NoLongerReachable && matches!(subscriber, Subscriber::Member(_));
        // Who has subscribed again after this was sent is reachable again.
        let renewed = self.subscribers.get(subscriber).is_some_and(|renewed| *renewed > published);
        if unreachable && !renewed {
            self.remove(subscriber, UnsubscribeReason::NoLongerReachable, out);
        }
    }

    /// Notes how a delivery went, and answers the publication when it was the last. Says when it was published.
    fn settle(
        &mut self,
        id: RequestId,
        subscriber: &Subscriber,
        status: DeliveryStatus,
        out: &mut Out,
    ) -> Option<Timestamp> {
        let publication = self.publications.get_mut(&id)?;
        let subscriber = publication.pending.take(subscriber)?;
        let published = publication.published;
        release(&mut self.in_flight, &subscriber);
        if status == DeliveryStatus::Delivered {
            publication.receipt.delivered += 1;
        } else {
            publication.receipt.failed.push((subscriber, status));
        }
        if publication.pending.is_empty()
            && let Some(publication) = self.publications.remove(&id)
        {
            out.effect(Effect::Answer { request: id, answer: Answer::Published(publication.receipt) });
        }
        Some(published)
    }

    fn member_gone(&mut self, member: MemberId, out: &mut Out) {
        let subscriber = Subscriber::Member(member);
        self.remove(&subscriber, UnsubscribeReason::MemberGone, out);
        if self.in_flight.contains_key(&subscriber) {
            let pending = self.publications.iter().filter(|(_, publication)| publication.pending.contains(&subscriber));
            for id in pending.map(|(id, _)| *id).collect::<Vec<_>>() {
                self.settle(id, &subscriber, DeliveryStatus::NoLongerReachable, out);
            }
        }
    }

    fn time_out(&mut self, now: Timestamp, out: &mut Out) {
        while let Some((_, id)) = self.deadlines.pop_front_if(|(deadline, _)| *deadline <= now) {
            let Some(Publication { pending, mut receipt, .. }) = self.publications.remove(&id) else { continue };
            for subscriber in pending {
                release(&mut self.in_flight, &subscriber);
                receipt.failed.push((subscriber, DeliveryStatus::Timeout));
            }
            out.effect(Effect::Answer { request: id, answer: Answer::Published(receipt) });
        }
    }

    fn expire(&mut self, now: Timestamp, out: &mut Out) {
        if self.next_expiry.is_none_or(|next| next > now) {
            return;
        }
        let lease = self.config.lease;
        self.subscribers.retain(|subscriber, renewed| {
            let expired = matches!(subscriber, Subscriber::Member(_)) && *renewed + lease <= now;
            if expired {
                out.event(Event::Unsubscribed(subscriber.clone(), UnsubscribeReason::LeaseExpired));
            }
            !expired
        });
        let members = self.subscribers.iter().filter(|(subscriber, _)| matches!(subscriber, Subscriber::Member(_)));
        self.next_expiry = members.map(|(_, renewed)| *renewed + lease).min();
    }

    /// Panics when the state contradicts itself; for tests and debug builds.
    pub fn check_invariants(&self) {
        assert!(self.subscribers.len() <= self.config.max_subscribers);
        assert!(self.publications.len() <= self.config.max_publications);
        let mut in_flight = BTreeMap::new();
        for (id, publication) in &self.publications {
            assert!(!publication.pending.is_empty(), "{id} waits for nobody");
            assert!(self.deadlines.iter().any(|(_, deadline)| deadline == id), "{id} waits for ever");
            let receipt = &publication.receipt;
            let well = receipt.delivered as usize + publication.pending.len();
            let sent = receipt.accepted as usize;
            assert!((well..=well + receipt.failed.len()).contains(&sent), "{id} was sent to {sent}");
            for subscriber in &publication.pending {
                *in_flight.entry(subscriber.clone()).or_insert(0) += 1;
            }
        }
        assert_eq!(in_flight, self.in_flight);
        assert!(in_flight.values().all(|count| *count <= self.config.window));
        let leases = self.subscribers.iter().filter(|(subscriber, _)| matches!(subscriber, Subscriber::Member(_)));
        let first = leases.map(|(_, renewed)| *renewed + self.config.lease).min();
        assert!(first.is_none_or(|first| self.next_expiry.is_some_and(|next| next <= first)), "a lease without an end");
    }
}

fn release(in_flight: &mut BTreeMap<Subscriber, usize>, subscriber: &Subscriber) {
    if let Some(count) = in_flight.get_mut(subscriber) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            in_flight.remove(subscriber);
        }
    }
}

#[cfg(test)]
mod tests;
