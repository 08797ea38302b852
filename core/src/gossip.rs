//! Values that each member writes and every member reads: heartbeats, topology hashes, and the user's own keys.
//!
//! # Guarantees
//! - Each member writes its own values, numbered by its own counter. Everywhere the greatest number wins, for each
//!   member and key by itself; a merge is commutative, associative and idempotent.
//! - After the last change all members that know the same members and can reach each other hold the same values,
//!   whatever was lost, duplicated or reordered before: a delta counts as received only when its receiver says so, and
//!   digests in both directions show when that went wrong all the same.
//! - The state of a member goes when the member goes, and does not come back by hearsay.
//! - Only a known member is listened to, under its own name, and that is checked before anything is merged. What others
//!   say about our own values is never believed: we write above it.
//! - Messages, keys, values and keys for each member are bounded; one delta at a time is on its way to a peer.
//!
//! No order is promised between two keys, and of several quick writes to one key a reader may see only the last. What a
//! peer invents of a third member is seen until that member hears of it and contradicts.
//!
//! # Story
//! ```text
//!  A                                       B
//!  │ Delta { #7, digest, oldest news }      │   each round: `fanout` peers in turn
//!  ├──────────────────────────────────────►│   known? own name? then merge
//!  │           DeltaAck { #7, digest }      │
//!  │◄──────────────────────────────────────┤   A: B has all up to #7's last entry
//!  │ Delta { #8, … }                        │   at once, if #7 had no room for everything
//!  ├──────────────────────────────────────►│
//!  │     lost, or lost_at passes            │   A: the same entries again, when B's turn comes
//! ```
//! **What a peer has** is one number. Each entry that is taken, own or not, gets the next revision of this node's log,
//! and an overwritten one leaves it; the log is therefore as long as the state. A peer's watermark is a revision of our
//! log: all before it was acknowledged. One number for each pair would not do if it counted the writes of a third
//! member (as in protoactor): these arrive in any order, and one that comes late would be below a watermark that has
//! passed it. A map from each member and key to the acknowledged number would do, and takes peers × members × keys.
//!
//! **Digests.** A peer whose digest equals ours has everything, however it came by it: its watermark jumps to the end.
//! If they differ although the sender had nothing to send and we have nothing for it, something is lost for good, and
//! both sides start over. A member that comes (back) into our view is asked for everything in our first delta to it,
//! because what it once told us is gone.
//!
//! **Our own values** in a peer's mouth with a greater number are not ours, and that is an event. We take the number,
//! and write our value above it. Where we have none, the key is invented. Then we write under [`OWN_KEYS`] which keys
//! are ours: of whatever else carries a lower number under our name, everybody lets go and takes no more. One value so
//! answers any number of inventions, which may be others for each member; and a member that has removed many keys frees
//! their places with it. Who lacks a value of a key that is named there, because inventions had taken its place, asks
//! the member for everything when its turn comes.
//!
//! **Urgent values** overtake: a message that cannot carry everything begins with the newest of the reserved keys, at
//! most a quarter of it. The watermark does not count them, so they come once more in their order.
//!
//! **Suspected and unreachable members** are visited in turn like all others as long as they are members here, however
//! many deltas to them have failed: only so does a partition heal by itself.
//!
//! # Source
//! protoactor-go at c318a5a0, `cluster/informer.go`, `cluster/gossip_actor.go`; names of messages and keys follow it.
//! Deviations: watermarks commit with the acknowledgement (there when the delta is built), the sender is checked before
//! the merge, departed members are purged, deltas are bounded in bytes, digests repair, rounds visit peers in turn.
//!
//! # How it is driven
//! The shell turns each `Send` into a request to the peer's gossip actor, each reply into [`Input::Answered`], and each
//! failure into [`Input::Failed`]; lost ones need no input.
//! ```
//! use gristmill_core::gossip::{Config, Effect, Event, Gossip, GossipValue, Input};
//! use gristmill_core::{Outbox, Timestamp};
//! use gristmill_messages::MemberId;
//!
//! let (me, peer) = (MemberId::new(1), MemberId::new(2));
//! let mut gossip = Gossip::new(Config::lan(), me, 42);
//! let mut out = Outbox::new();
//! gossip.handle(Timestamp::ZERO, Input::Start, &mut out);
//! gossip.handle(Timestamp::ZERO, Input::MembersChanged { members: vec![peer] }, &mut out);
//! let value = GossipValue { type_name: "shop.Build".into(), data: "1.4".into() };
//! gossip.handle(Timestamp::ZERO, Input::Set { key: "build".into(), value: value.clone() }, &mut out);
//! assert!(gossip.get("build").eq([(me, &value)]));
//!
//! let Some(Effect::SetTimer { after, epoch }) = out.drain_effects().next() else { panic!("a round is due") };
//! gossip.handle(Timestamp::ZERO + after, Input::Timer(epoch), &mut out);
//! let Some(Effect::Send { to, delta }) = out.drain_effects().next() else { panic!("a round sends") };
//! assert_eq!((to, delta.entries.len()), (peer, 1));
//! ```

mod config;
mod interface;
mod message;
mod peers;
mod state;
#[cfg(test)]
mod tests;
mod wire;

use alloc::vec::Vec;
use core::iter;

use gristmill_messages::MemberId;

pub use config::{Config, InvalidConfig};
pub use interface::{ClaimRefusal, Effect, Event, Input, Refusal, RoundEpoch, SetRefusal};
pub use message::{Delta, DeltaAck, DeltaId, GossipEntry, GossipKey, GossipValue, Sequence, StateDigest};
pub use wire::InvalidGossip;

use crate::{Outbox, RequestId, Timestamp, consensus};
use peers::{Outstanding, Peers};
use state::{State, Taken, Told};

/// The key of a member's `cluster.MemberHeartbeat`: how many grains of each kind it runs.
pub const HEARTBEAT: &str = "heartbeat";

/// The key of a member's `cluster.ClusterTopology`: the hash of its topology, without members.
pub const TOPOLOGY: &str = "topology";

/// The key of a member's `cluster.GossipKeys`: which keys are its own, once somebody has invented others or it has
/// removed many.
pub const OWN_KEYS: &str = "keys";

/// The gossip of one member.
#[derive(Debug)]
pub struct Gossip {
    config: Config,
    me: MemberId,
    running: bool,
    state: State,
    peers: Peers,
    /// Of our last write.
    sequence: Sequence,
    /// Of our last delta.
    delta: DeltaId,
    epoch: RoundEpoch,
}

impl Gossip {
    /// Keys that one member may have; the same on all members.
    pub const MAX_KEYS: usize = State::MAX_KEYS;

    /// Not started. `seed` decides in which order peers are visited.
    #[must_use]
    pub fn new(config: Config, me: MemberId, seed: u64) -> Self {
        Self {
            config,
            me,
            running: false,
            state: State::default(),
            peers: Peers::new(seed),
            sequence: Sequence::default(),
            delta: DeltaId::default(),
            epoch: RoundEpoch::default(),
        }
    }

    /// The values of all members under this key, by member.
    pub fn get<'a>(&'a self, key: &'a str) -> impl Iterator<Item = (MemberId, &'a GossipValue)> {
        self.state.values(key)
    }

    /// The value of one member under this key.
    #[must_use]
    pub fn value(&self, member: MemberId, key: &str) -> Option<&GossipValue> {
        self.state.held(member, key).and_then(|(_, value)| value)
    }

    /// The value under this key that all members have, this one among them; none while one lacks it or has another.
    #[must_use]
    pub fn consensus(&self, key: &str) -> Option<&GossipValue> {
        consensus::agreed(iter::once(self.me).chain(self.peers.ids()).map(|member| self.value(member, key)))
    }

    /// Of everything that is held.
    #[must_use]
    pub const fn digest(&self) -> StateDigest {
        self.state.digest()
    }

    /// Takes one input. Never waits, never fails.
    ///
    /// Before the start and after the stop nothing is changed: deltas, members and writes are refused as not started,
    /// and what is left of an earlier life is ignored.
    pub fn handle(&mut self, now: Timestamp, input: Input, out: &mut Outbox<Effect, Event>) {
        if self.running {
            self.handle_running(now, input, out);
        } else {
            self.handle_stopped(input, out);
        }
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
    }

    /// Panics when a promise of this module is broken, which is a defect of it.
    pub fn check_invariants(&self) {
        self.state.check_invariants(|member| self.running && (member == self.me || self.peers.contains(member)));
        self.peers.check_invariants(self.state.newest());
        assert!(!self.peers.contains(self.me), "a member does not gossip with itself");
        assert!(self.running || self.peers.ids().next().is_none(), "nobody is left after the stop");
        let own = self.state.sequences(self.me).max();
        assert!(own.is_none_or(|greatest| greatest <= self.sequence), "the next write is above all own writes");
    }

    fn handle_stopped(&mut self, input: Input, out: &mut Outbox<Effect, Event>) {
        match input {
            Input::Start => {
                self.running = true;
                self.set_timer(out);
            }
            Input::Set { key, .. } | Input::Remove { key } => {
                out.event(Event::SetRefused { key, reason: SetRefusal::NotStarted });
            }
            Input::MembersChanged { .. } => {
                out.event(Event::Refused { from: self.me, reason: Refusal::NotStarted });
            }
            Input::Requested { request, from, .. } => Self::refuse(request, from, Refusal::NotStarted, out),
            Input::Refresh { .. } | Input::Answered { .. } | Input::Failed { .. } | Input::Timer(_) | Input::Stop => {}
        }
    }

    fn handle_running(&mut self, now: Timestamp, input: Input, out: &mut Outbox<Effect, Event>) {
        match input {
            Input::Start => {}
            Input::Stop => {
                self.running = false;
                self.state = State::default();
                self.peers.clear();
            }
            Input::Set { key, value } => self.set(key, Some(value), out),
            Input::Remove { key } => self.set(key, None, out),
            Input::Refresh { key } => self.refresh(key, out),
            Input::MembersChanged { members } => self.members_changed(members, out),
            Input::Requested { request, from, delta } => self.requested(now, request, from, delta, out),
            Input::Answered { from, ack } => self.answered(now, from, ack, out),
            Input::Failed { to, delta } => {
                if let Some(peer) = self.peers.get_mut(to) {
                    peer.outstanding.take_if(|outstanding| outstanding.id == delta);
                }
            }
            Input::Timer(epoch) if epoch == self.epoch => self.round(now, out),
            Input::Timer(_) => {} // of an earlier life
        }
    }

    fn set_timer(&mut self, out: &mut Outbox<Effect, Event>) {
        self.epoch = RoundEpoch(self.epoch.0.saturating_add(1));
        out.effect(Effect::SetTimer { after: self.config.interval, epoch: self.epoch });
    }

    fn round(&mut self, now: Timestamp, out: &mut Outbox<Effect, Event>) {
        for _ in 0..self.config.fanout.get() {
            let Some(to) = self.peers.next(now) else { break };
            self.send(now, to, out);
        }
        self.set_timer(out);
    }

    fn send(&mut self, now: Timestamp, to: MemberId, out: &mut Outbox<Effect, Event>) {
        let Some(peer) = self.peers.get_mut(to) else { return };
        let Config { max_entries_per_message, max_bytes_per_message, request_timeout, .. } = self.config;
        let told = Told { to, acknowledged: peer.acknowledged, urgent: peer.urgent };
        let chunk = self.state.chunk(told, max_entries_per_message.get(), max_bytes_per_message);
        self.delta = DeltaId::new(self.delta.get().saturating_add(1));
        peer.outstanding = Some(Outstanding {
            id: self.delta,
            up_to: chunk.up_to,
            urgent: self.state.newest(),
            truncated: chunk.truncated,
            lost_at: now + request_timeout,
        });
        let delta = Delta {
            from: self.me,
            id: self.delta,
            digest: self.state.digest(),
            full_state_wanted: peer.full_state_wanted || self.state.lacks_own_keys(to),
            entries: chunk.entries,
        };
        out.effect(Effect::Send { to, delta });
    }

    fn set(&mut self, key: GossipKey, value: Option<GossipValue>, out: &mut Outbox<Effect, Event>) {
        let held = self.state.held(self.me, key.as_str());
        if held.and_then(|(_, held)| held) == value.as_ref() {
            return; // what is set already, or was never there, is nobody's news
        }
        let full = held.is_none() && self.state.keys(self.me).count() >= Self::MAX_KEYS;
        let bytes = key.as_str().len();
        let reason = match &value {
            _ if bytes == 0 || bytes > GossipKey::MAX_BYTES => Some(SetRefusal::KeyLength { bytes }),
            Some(value) if value.len() > GossipValue::MAX_BYTES => {
                Some(SetRefusal::ValueTooLarge { bytes: value.len() })
            }
            _ if full && self.state.keys(self.me).all(|(_, has_value)| has_value) => Some(SetRefusal::TooManyKeys),
            _ => None,
        };
        if let Some(reason) = reason {
            return out.event(Event::SetRefused { key, reason });
        }
        if full {
            self.write_own_keys(out); // the removed ones make room
        }
        self.write(key, value, out);
    }

    /// Says everywhere which keys are ours.
    fn write_own_keys(&mut self, out: &mut Outbox<Effect, Event>) {
        self.write(OWN_KEYS.into(), Some(self.state.own_keys(self.me)), out);
    }

    /// Writes again what is written.
    fn refresh(&mut self, key: GossipKey, out: &mut Outbox<Effect, Event>) {
        if let Some(value) = self.value(self.me, key.as_str()).cloned() {
            self.write(key, Some(value), out);
        }
    }

    fn write(&mut self, key: GossipKey, value: Option<GossipValue>, out: &mut Outbox<Effect, Event>) {
        self.sequence = self.sequence.next();
        self.take(GossipEntry { member: self.me, key, sequence: self.sequence, value }, None, out);
    }

    /// Offers an entry to the state, and says so if it was news.
    fn take(&mut self, entry: GossipEntry, learned_from: Option<MemberId>, out: &mut Outbox<Effect, Event>) {
        let GossipEntry { member, key, sequence, value } = entry.clone();
        let Some(Taken { replaced, dropped }) = self.state.offer(entry, learned_from) else { return };
        for (key, sequence) in dropped {
            out.event(Event::Removed { member, key, sequence });
        }
        match value {
            Some(value) => out.event(Event::Updated { member, key, value, sequence }),
            None if replaced => out.event(Event::Removed { member, key, sequence }),
            None => {}
        }
    }

    fn members_changed(&mut self, members: Vec<MemberId>, out: &mut Outbox<Effect, Event>) {
        let others = members.into_iter().filter(|&member| member != self.me).collect();
        for member in self.peers.replace(&others) {
            let Some(values) = self.state.purge(member) else { continue };
            for (key, sequence) in values {
                out.event(Event::Removed { member, key, sequence });
            }
            out.event(Event::Purged { member });
        }
    }

    fn refuse(request: RequestId, from: MemberId, reason: Refusal, out: &mut Outbox<Effect, Event>) {
        out.effect(Effect::Answer { request, answer: Err(reason) });
        out.event(Event::Refused { from, reason });
    }

    fn requested(
        &mut self,
        now: Timestamp,
        request: RequestId,
        from: MemberId,
        delta: Delta,
        out: &mut Outbox<Effect, Event>,
    ) {
        if delta.from != from {
            return Self::refuse(request, from, Refusal::WrongSender { claimed: delta.from }, out);
        }
        if !self.peers.contains(from) {
            return Self::refuse(request, from, Refusal::UnknownSender, out);
        }
        let Delta { id, digest, full_state_wanted, mut entries, .. } = delta;
        let sender_is_done = entries.is_empty();
        // A list makes room for what was written after it, and the wire keeps no order.
        entries.sort_by_key(|entry| !entry.key.is_own_keys());
        let mut invented = false;
        for entry in entries {
            if entry.member == self.me {
                invented |= self.defend(from, entry, out);
            } else if self.peers.contains(entry.member) {
                self.hear(from, entry, out);
            }
        }
        if invented {
            self.write_own_keys(out);
        }
        let digests_equal = digest == self.state.digest();
        let diverged = !digests_equal && !full_state_wanted && sender_is_done && self.full_state_is_due(now, from);
        let ack = DeltaAck { id, digest: self.state.digest(), full_state_wanted: diverged };
        out.effect(Effect::Answer { request, answer: Ok(ack) });
        if digests_equal {
            self.has_everything(from);
        } else if full_state_wanted || diverged {
            self.start_over(now, from, out);
        }
    }

    /// Whether `peer` has everything that we have to tell, so that a difference has no innocent cause; and remembers
    /// that it is asked for everything now.
    fn full_state_is_due(&mut self, now: Timestamp, peer: MemberId) -> bool {
        let interval = self.config.full_state_interval;
        let Some(known) = self.peers.get_mut(peer) else { return false };
        let asked_lately = known.full_state_asked_at.is_some_and(|at| now.since(at) < interval);
        let due = !asked_lately && self.state.is_told(known.acknowledged, peer);
        if due {
            known.full_state_asked_at = Some(now);
        }
        due
    }

    fn has_everything(&mut self, peer: MemberId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.acknowledged = self.state.newest();
        }
    }

    /// Tells `peer` everything again, beginning now.
    fn start_over(&mut self, now: Timestamp, peer: MemberId, out: &mut Outbox<Effect, Event>) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        self.state.forget_source(peer);
        if known.start_over(now) {
            self.send(now, peer, out);
        }
    }

    /// A peer tells us a value of another, which may be its own.
    fn hear(&mut self, from: MemberId, entry: GossipEntry, out: &mut Outbox<Effect, Event>) {
        // A member may number its own values as it likes: nobody else has to live with that.
        if entry.member != from && self.is_jump(entry.member, entry.sequence) {
            let GossipEntry { member, key, sequence, .. } = entry;
            return out.event(Event::ClaimRefused { from, member, key, reason: ClaimRefusal::Jump { sequence } });
        }
        self.take(entry, Some(from), out);
    }

    /// Whether a member's writes can hardly have come that far. By what it has said itself, not by what is held of it:
    /// else others could go on step by step, and it would not follow.
    fn is_jump(&self, member: MemberId, sequence: Sequence) -> bool {
        let last = if member == self.me { self.sequence } else { self.state.word(member) };
        sequence.get().saturating_sub(last.get()) > Sequence::MAX_JUMP
    }

    /// A peer tells us a value of ours. Says whether the key is none of ours, so that all have to be told which are.
    fn defend(&mut self, from: MemberId, claim: GossipEntry, out: &mut Outbox<Effect, Event>) -> bool {
        let (member, GossipEntry { key, sequence, value, .. }) = (self.me, claim);
        let held = self.state.held(member, key.as_str());
        if (sequence, value.as_ref()) <= held.unwrap_or_default() || self.state.disowns(member, &key, sequence) {
            return false; // our own word, come back late; or what it is answered by is on its way
        }
        let ours = held.filter(|_| !key.is_own_keys()).map(|(_, value)| value.cloned());
        let jump = self.is_jump(member, sequence);
        let reason = if jump { ClaimRefusal::Jump { sequence } } else { ClaimRefusal::Ours };
        out.event(Event::ClaimRefused { from, member, key: key.clone(), reason });
        // What jumps is refused by the others as well, and following it would use the numbers up.
        if jump {
            return false;
        }
        self.sequence = self.sequence.max(sequence);
        match ours {
            Some(value) => {
                self.write(key, value, out);
                false
            }
            None => true,
        }
    }

    fn answered(&mut self, now: Timestamp, from: MemberId, ack: DeltaAck, out: &mut Outbox<Effect, Event>) {
        let Some(peer) = self.peers.get_mut(from) else { return };
        let Some(delta) = peer.outstanding.take_if(|outstanding| outstanding.id == ack.id) else { return };
        peer.acknowledged = peer.acknowledged.max(delta.up_to);
        peer.urgent = peer.urgent.max(delta.urgent);
        peer.full_state_wanted = false;
        if ack.digest == self.state.digest() {
            self.has_everything(from);
        } else if ack.full_state_wanted {
            self.start_over(now, from, out);
        } else if delta.truncated {
            self.send(now, from, out);
        }
    }
}
