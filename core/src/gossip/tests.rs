mod laws;
mod life;
mod repair;
mod spreading;
mod trust;
mod values;
mod wire;

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::num::NonZeroUsize;
use core::time::Duration;

use gristmill_messages::cluster;
use prost::Message;

use super::*;
use crate::request::NotDeliveredReason;

const ME: MemberId = MemberId::new(1);
const PEER: MemberId = MemberId::new(2);
const THIRD: MemberId = MemberId::new(3);
const STRANGER: MemberId = MemberId::new(9);

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_millis(milliseconds)
}

fn text(text: &str) -> GossipValue {
    GossipValue { type_name: "test.Text".into(), data: text.to_string().into() }
}

fn entry(member: MemberId, key: &str, sequence: u64, value: impl Into<Option<&'static str>>) -> GossipEntry {
    GossipEntry { member, key: key.into(), sequence: Sequence::new(sequence), value: value.into().map(text) }
}

/// What a member says its keys are.
fn own_keys(member: MemberId, sequence: u64, keys: &[&str]) -> GossipEntry {
    let keys = keys.iter().map(|key| (*key).to_string()).collect();
    let value = Some(GossipValue::of(&cluster::GossipKeys { keys }));
    GossipEntry { member, key: OWN_KEYS.into(), sequence: Sequence::new(sequence), value }
}

fn told(entry: GossipEntry) -> Event {
    let GossipEntry { member, key, sequence, value } = entry;
    value.map_or_else(
        || Event::Removed { member, key: key.clone(), sequence },
        |value| Event::Updated { member, key: key.clone(), value, sequence },
    )
}

fn updated(member: MemberId, key: &str, sequence: u64, value: &str) -> Event {
    Event::Updated { member, key: key.into(), value: text(value), sequence: Sequence::new(sequence) }
}

/// The digest of exactly these entries.
fn digest(entries: &[GossipEntry]) -> StateDigest {
    entries.iter().fold(StateDigest::default(), |digest, entry| digest.plus(entry.stable_hash()))
}

fn delta(from: MemberId, id: u64, entries: Vec<GossipEntry>) -> Delta {
    Delta { from, id: DeltaId::new(id), digest: StateDigest::new(77), full_state_wanted: false, entries }
}

fn ack(id: DeltaId) -> DeltaAck {
    DeltaAck { id, digest: StateDigest::new(77), full_state_wanted: false }
}

struct Node {
    gossip: Gossip,
    now: u64,
    epoch: RoundEpoch,
    requests: u64,
}

impl Node {
    fn with(config: Config, members: &[MemberId]) -> Self {
        let mut node = Self { gossip: Gossip::new(config, ME, 7), now: 0, epoch: RoundEpoch(0), requests: 0 };
        node.handle(Input::Start);
        node.members(members);
        node
    }

    fn new(members: &[MemberId]) -> Self {
        Self::with(Config::lan(), members)
    }

    /// Effects without timers, and events.
    fn handle(&mut self, input: Input) -> (Vec<Effect>, Vec<Event>) {
        let mut out = Outbox::new();
        self.gossip.handle(at(self.now), input, &mut out);
        let events = out.drain_events().collect();
        let mut effects: Vec<_> = out.drain_effects().collect();
        effects.retain(|effect| match effect {
            Effect::SetTimer { epoch, .. } => {
                self.epoch = *epoch;
                false
            }
            Effect::Send { .. } | Effect::Answer { .. } => true,
        });
        (effects, events)
    }

    fn members(&mut self, members: &[MemberId]) -> Vec<Event> {
        self.handle(Input::MembersChanged { members: members.to_vec() }).1
    }

    fn set(&mut self, key: &str, value: &str) -> Vec<Event> {
        self.handle(Input::Set { key: key.into(), value: text(value) }).1
    }

    fn round(&mut self) -> Vec<Delta> {
        self.now += 300;
        let (effects, events) = self.handle(Input::Timer(self.epoch));
        assert_eq!(events, []);
        sent(effects).into_iter().map(|(_, delta)| delta).collect()
    }

    fn receive(&mut self, delta: Delta) -> (Result<DeltaAck, Refusal>, Vec<Delta>, Vec<Event>) {
        self.requests += 1;
        let (request, from) = (RequestId::new(self.requests), delta.from);
        let (mut effects, events) = self.handle(Input::Requested { request, from, delta });
        let Effect::Answer { request: answered, answer } = effects.remove(0) else { panic!("no answer") };
        assert_eq!(answered, request);
        (answer, sent(effects).into_iter().map(|(_, delta)| delta).collect(), events)
    }

    /// Events of a delta that is taken.
    fn learn(&mut self, delta: Delta) -> Vec<Event> {
        let (answer, _, events) = self.receive(delta);
        answer.expect("taken");
        events
    }

    fn answer(&mut self, from: MemberId, ack: DeltaAck) -> Vec<Delta> {
        let (effects, events) = self.handle(Input::Answered { from, ack });
        assert_eq!(events, []);
        sent(effects).into_iter().map(|(_, delta)| delta).collect()
    }

    fn texts(&self, key: &str) -> Vec<(MemberId, String)> {
        let read = |value: &GossipValue| String::from_utf8(value.data.to_vec()).expect("text");
        self.gossip.get(key).map(|(member, value)| (member, read(value))).collect()
    }
}

fn sent(effects: Vec<Effect>) -> Vec<(MemberId, Delta)> {
    let sent = |effect| match effect {
        Effect::Send { to, delta } => (to, delta),
        other => panic!("{other:?}"),
    };
    effects.into_iter().map(sent).collect()
}

fn tiny(entries: usize) -> Config {
    Config { max_entries_per_message: NonZeroUsize::new(entries).expect("not zero"), ..Config::lan() }
}
