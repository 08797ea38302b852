//! What one process shares with others beyond the membership: its topology, its values, and whether all agree.

use std::time::Duration;

use gristmill_core::consensus::Check;
use gristmill_core::gossip::{
    self, Delta, DeltaAck, DeltaId, Effect, Event, Gossip, GossipEntry, GossipKey, GossipValue, HEARTBEAT, Input,
    RoundEpoch, Sequence, TOPOLOGY,
};
use gristmill_core::topology::{self, Aggregator, Roster, Topology, TopologyUpdated, WindowEpoch};
use gristmill_core::{Outbox, Timestamp, alarm, membership};
use gristmill_messages::cluster;
use gristmill_messages::{MemberId, TopologyHash};
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::fault::Lie;
use super::history::ProcessId;
use super::node::Bug;

/// The user's keys: a value of which no two are equal, one of which there are two, and one that comes and goes.
const KEYS: [&str; 3] = ["unique", "build", "fleeting"];

/// All keys that are written.
pub(crate) const ALL_KEYS: [&str; 5] = [HEARTBEAT, TOPOLOGY, KEYS[0], KEYS[1], KEYS[2]];

/// How values and topologies are shared, and how often they are written.
#[derive(Debug, Clone)]
pub struct SharingConfig {
    /// Of all processes.
    pub gossip: gossip::Config,
    /// Of all processes.
    pub topology: topology::Config,
    /// Each process writes one of its values once in so much time, on average.
    pub write_every: Duration,
    /// But not after this, so that all can agree in the end.
    pub write_until: Timestamp,
}

/// What happens to the sharing of one process.
#[derive(Debug)]
pub(super) enum Parcel {
    /// Its topology may be published again.
    Window(WindowEpoch),
    /// A member that was released has been blocked for long enough.
    Unblock(alarm::TimerEpoch),
    /// Its next round of gossip is due.
    Round(RoundEpoch),
    /// It writes one of its values.
    Write,
    /// A question that waits for an answer until `deadline`.
    Delta { from: ProcessId, delta: Delta, deadline: Timestamp },
    /// The answer to it.
    Answer { from: ProcessId, id: DeltaId, answer: Option<DeltaAck>, deadline: Timestamp },
}

/// The machines of one process.
#[derive(Debug)]
pub(crate) struct Sharing {
    me: MemberId,
    gossip: Gossip,
    roster: Roster,
    topology: Aggregator,
    /// Whether all go by the same topology, and whether all have the same build.
    checks: [(&'static str, Check); 2],
    bug: Option<Bug>,
    /// What the defect remembers.
    known: Vec<MemberId>,
    lie: Option<Lie>,
    /// The greatest number in a lie.
    forged: u64,
    rng: Xoshiro256PlusPlus,
    written: u64,
}

impl Sharing {
    pub(super) fn new(
        config: &SharingConfig,
        membership: membership::Config,
        me: MemberId,
        seed: u64,
        bug: Option<Bug>,
    ) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Self {
            me,
            gossip: Gossip::new(config.gossip.clone(), me, rng.random()),
            roster: Roster::new(membership),
            topology: Aggregator::new(config.topology.clone()),
            checks: [TOPOLOGY, KEYS[1]].map(|key| (key, Check::new([key.into()]))),
            bug,
            known: Vec::new(),
            lie: None,
            forged: 0,
            rng,
            written: 0,
        }
    }

    pub(crate) const fn gossip(&self) -> &Gossip {
        &self.gossip
    }

    pub(crate) fn topology(&self) -> &Topology {
        self.topology.topology()
    }

    /// The checks that run, with their keys.
    pub(crate) const fn checks(&self) -> &[(&'static str, Check); 2] {
        &self.checks
    }

    pub(super) const fn set_lie(&mut self, lie: Option<Lie>) {
        self.lie = lie;
    }

    /// How long after now this process writes next.
    pub(super) fn pause(&mut self, config: &SharingConfig) -> Duration {
        config.write_every.mul_f64(self.rng.random_range(0.1..1.9))
    }

    /// What it writes next. The first is the heartbeat.
    pub(super) fn write(&mut self) -> Input {
        let kind = if self.written == 0 { 0 } else { self.rng.random_range(0..6) };
        self.written += 1;
        let (key, value) = match kind {
            0 => (HEARTBEAT, heartbeat(self.rng.random_range(0..9))),
            1 => return Input::Refresh { key: HEARTBEAT.into() },
            2 => (KEYS[0], text(&self.written.to_string())),
            3 => (KEYS[1], text(if self.rng.random() { "1.4" } else { "1.5" })),
            4 => (KEYS[2], text(&self.written.to_string())),
            _ => return Input::Remove { key: KEYS[2].into() },
        };
        Input::Set { key: key.into(), value }
    }

    pub(super) const fn roster(&mut self) -> &mut Roster {
        &mut self.roster
    }

    /// The membership may have changed: says what was published, and when to come back.
    pub(super) fn aggregate(
        &mut self,
        now: Timestamp,
        input: topology::Input,
    ) -> (Option<TopologyUpdated>, Option<(WindowEpoch, Duration)>) {
        let mut out = Outbox::new();
        self.topology.handle(now, input, &mut out);
        let timer = out.drain_effects().map(|topology::Effect::SetTimer { after, epoch }| (epoch, after)).next();
        let mut updated = out.drain_events().map(|topology::Event::Updated(updated)| updated).next();
        match (self.bug, &mut updated) {
            (Some(Bug::SaysTwiceWhoWent), Some(updated)) => updated.left.extend(updated.dead.iter().cloned()),
            (Some(Bug::TakesTheDeadForLeft), Some(updated)) => updated.left.append(&mut updated.dead),
            _ => {}
        }
        (updated, timer)
    }

    /// Takes one input; says what has happened.
    pub(super) fn handle(&mut self, now: Timestamp, mut input: Input, out: &mut Outbox<Effect, Event>) -> Vec<Event> {
        let told = matches!(input, Input::MembersChanged { .. } | Input::Stop);
        self.mistake(now, &mut input, out);
        self.gossip.handle(now, input, out);
        match self.bug {
            Some(Bug::TakesSentForReceived) => {
                let effects: Vec<_> = out.drain_effects().collect();
                for mut effect in effects {
                    if let Effect::Answer { answer: Ok(ack), .. } = &mut effect {
                        ack.full_state_wanted = false;
                    }
                    let believed = match &effect {
                        Effect::Send { to, delta } => Some((*to, delta.id)),
                        _ => None,
                    };
                    out.effect(effect);
                    if let Some((from, id)) = believed {
                        let ack = DeltaAck { id, digest: self.gossip.digest(), full_state_wanted: false };
                        self.gossip.handle(now, Input::Answered { from, ack }, out);
                    }
                }
            }
            Some(Bug::WritesValuesOfOthers) => retold(out, |to, delta| {
                let others = delta.entries.iter_mut().filter(|entry| entry.member != delta.from && entry.member != to);
                others.for_each(|entry| entry.sequence = entry.sequence.next());
            }),
            Some(Bug::AdoptsClaimsAboutItself) => retold(out, |to, delta| {
                for entry in delta.entries.iter_mut().filter(|entry| entry.member == to) {
                    entry.sequence = entry.sequence.next();
                    entry.value = Some(text("claimed"));
                }
            }),
            _ => {}
        }
        if self.lie == Some(Lie::Written) {
            self.forge(out);
        }
        let events: Vec<_> = out.drain_events().collect();
        if told || !events.is_empty() {
            self.look();
        }
        events
    }

    /// Each delta says of one other that it has written a key of its own anew, and many that it has not.
    fn forge(&mut self, out: &mut Outbox<Effect, Event>) {
        let others: Vec<_> = self.topology().members().iter().map(|member| member.id).collect();
        let (me, rng, forged) = (self.me, &mut self.rng, &mut self.forged);
        retold(out, |_, delta| {
            let Some(&member) = others.choose(rng).filter(|member| **member != me) else { return };
            let invented = (0..100).map(|_| format!("invented {}", rng.random_range(0..1_000_000)));
            let keys: Vec<_> = invented.chain(ALL_KEYS.map(str::to_owned)).collect();
            for key in keys {
                *forged += rng.random_range(1..100);
                let (key, sequence) = (key.as_str().into(), Sequence::new(*forged));
                delta.entries.push(GossipEntry { member, key, sequence, value: Some(text("forged")) });
            }
        });
    }

    /// What a defect makes of an input.
    fn mistake(&mut self, now: Timestamp, input: &mut Input, out: &mut Outbox<Effect, Event>) {
        match (self.bug, input) {
            (Some(Bug::TakesSentForReceived), Input::Requested { delta, .. }) => {
                delta.full_state_wanted = false;
                delta.digest = self.gossip.digest();
            }
            (Some(Bug::AdoptsClaimsAboutItself), Input::Requested { delta, .. }) => {
                let of_mine = |entry: &mut GossipEntry| entry.member == self.me;
                for GossipEntry { key, value, .. } in delta.entries.extract_if(.., of_mine).collect::<Vec<_>>() {
                    let claim = value.map_or(Input::Remove { key: key.clone() }, |value| Input::Set { key, value });
                    self.gossip.handle(now, claim, out);
                }
            }
            (Some(Bug::NeverDisowns), Input::Requested { delta, .. }) => {
                let is_written = |entry: &GossipEntry| ALL_KEYS.contains(&entry.key.as_str());
                delta.entries.retain(|entry| entry.member != self.me || is_written(entry));
            }
            (Some(Bug::KeepsValuesOfTheGone), Input::MembersChanged { members }) => {
                self.known.extend_from_slice(members);
                self.known.sort_unstable();
                self.known.dedup();
                members.clone_from(&self.known);
            }
            (Some(Bug::ForgetsTheLiving), Input::MembersChanged { members }) if members.len() % 3 == 2 => {
                let some = members.split_last().map_or(Vec::new(), |(_, some)| some.to_vec());
                self.gossip.handle(now, Input::MembersChanged { members: some }, out);
            }
            _ => {}
        }
    }

    /// Looks whether all agree, as a node does when a value or the members have changed.
    fn look(&mut self) {
        for (_, check) in &mut self.checks {
            if self.bug == Some(Bug::MissesDisagreement) && check.current().is_some() {
                continue;
            }
            check.look(&self.gossip);
        }
    }
}

/// Gives each delta that is about to be sent to `change`.
fn retold(out: &mut Outbox<Effect, Event>, mut change: impl FnMut(MemberId, &mut Delta)) {
    let effects: Vec<_> = out.drain_effects().collect();
    for mut effect in effects {
        if let Effect::Send { to, delta } = &mut effect {
            change(*to, delta);
        }
        out.effect(effect);
    }
}

/// The hash of a topology as a value, as nodes write it.
pub(crate) fn topology_value(hash: TopologyHash) -> GossipValue {
    GossipValue::of(&cluster::ClusterTopology { topology_hash: hash.get(), ..Default::default() })
}

/// The key under which it is written.
pub(super) fn topology_key() -> GossipKey {
    TOPOLOGY.into()
}

fn heartbeat(grains: i64) -> GossipValue {
    let actor_count = [("grain".into(), grains)].into();
    GossipValue::of(&cluster::MemberHeartbeat { actor_statistics: Some(cluster::ActorStatistics { actor_count }) })
}

fn text(text: &str) -> GossipValue {
    GossipValue { type_name: "simulation.Text".into(), data: text.to_owned().into() }
}
