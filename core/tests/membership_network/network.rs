//! A network in memory: an ordered queue of deliveries and timers, one clock, one random generator.
//!
//! Faults apply to messages. The answer of a join is lost or late like a message, and then fails as a shell would say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use gristmill_core::membership::{
    Config, ContactFailure, Effect, Event, Input, JoinAnswer, Membership, Message, Phase, Record, TimerEpoch,
};
use gristmill_core::{Address, Member, MemberStatus, Outbox, RequestId, Timestamp};
use gristmill_messages::MemberId;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

pub(crate) fn id(node: u128) -> MemberId {
    MemberId::new(node)
}

pub(crate) fn address(host: u128) -> Address {
    format!("node:{host}").into()
}

/// In percent of all messages.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) lost: u32,
    pub(crate) duplicated: u32,
    pub(crate) reordered: bool,
}

#[derive(Debug, Clone)]
enum Delivery {
    Message { from: u128, to: u128, message: Message },
    Timer { node: u128, epoch: TimerEpoch },
    JoinRequest { from: u128, host: Address, joiner: Record },
    JoinAnswer { to: u128, host: Address, answer: JoinAnswer },
    JoinFailed { to: u128, host: Address },
}

struct Node {
    machine: Membership,
    events: Vec<Event>,
    host: Address,
    frozen: Option<Vec<Delivery>>,
    crashed: bool,
}

pub(crate) struct Network {
    pub(crate) faults: Faults,
    now: Timestamp,
    nodes: BTreeMap<u128, Node>,
    queue: BTreeMap<(Timestamp, u64), Delivery>,
    queued: u64,
    cut: BTreeSet<(u128, u128)>,
    requests: BTreeMap<u64, (u128, Address)>,
    sent: BTreeMap<u128, u64>,
    rng: Xoshiro256PlusPlus,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            faults: Faults::default(),
            now: Timestamp::ZERO,
            nodes: BTreeMap::new(),
            queue: BTreeMap::new(),
            queued: 0,
            cut: BTreeSet::new(),
            requests: BTreeMap::new(),
            sent: BTreeMap::new(),
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
        }
    }

    /// A new process `node` on `host`, which starts with the given hosts as seeds.
    pub(crate) fn spawn(&mut self, node: u128, host: u128, seeds: &[u128]) {
        let host = address(host);
        let machine = Membership::new(
            Config::test(),
            Member::new(id(node), host.clone(), []),
            self.rng.random_range(0..u64::MAX),
        );
        let process = Node { machine, events: Vec::new(), host, frozen: None, crashed: false };
        self.nodes.insert(node, process);
        self.input(node, Input::Start { seeds: seeds.iter().copied().map(address).collect() });
    }

    pub(crate) fn crash(&mut self, node: u128) {
        self.nodes.get_mut(&node).unwrap().crashed = true;
    }

    /// The process stands still; what reaches it waits.
    pub(crate) fn freeze(&mut self, node: u128) {
        self.nodes.get_mut(&node).unwrap().frozen = Some(Vec::new());
    }

    pub(crate) fn thaw(&mut self, node: u128) {
        let waiting = self.nodes.get_mut(&node).unwrap().frozen.take().unwrap();
        for delivery in waiting {
            self.deliver(delivery);
        }
    }

    pub(crate) fn cut(&mut self, one_side: &[u128], other_side: &[u128]) {
        for one in one_side {
            for other in other_side {
                self.cut.insert((*one, *other));
                self.cut.insert((*other, *one));
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Whether the condition held within the time; the clock stops there.
    pub(crate) fn run_until(&mut self, time: Duration, condition: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + time;
        while !condition(self) {
            let due = self.queue.first_key_value().map(|(key, _)| *key).filter(|(at, _)| *at <= end);
            let Some((key, delivery)) = due.and_then(|key| self.queue.remove_entry(&key)) else {
                self.now = end;
                return condition(self);
            };
            self.now = key.0;
            self.deliver(delivery);
        }
        true
    }

    pub(crate) fn input(&mut self, node: u128, input: Input) {
        let process = self.nodes.get_mut(&node).unwrap();
        if process.crashed {
            return;
        }
        let mut out = Outbox::new();
        process.machine.handle(self.now, input, &mut out);
        process.events.extend(out.drain_events());
        for effect in out.drain_effects() {
            self.perform(node, effect);
        }
    }

    pub(crate) fn member(&self, node: u128) -> &Membership {
        &self.nodes[&node].machine
    }

    pub(crate) fn phase(&self, node: u128) -> Phase {
        self.member(node).phase()
    }

    pub(crate) fn events(&self, node: u128) -> &[Event] {
        &self.nodes[&node].events
    }

    pub(crate) fn count(&self, kind: impl Fn(&Event) -> bool) -> usize {
        self.nodes.values().flat_map(|node| &node.events).filter(|event| kind(event)).count()
    }

    pub(crate) fn sent_to(&self, node: u128) -> u64 {
        self.sent.get(&node).copied().unwrap_or(0)
    }

    /// Processes that run and take part, or try to.
    pub(crate) fn live(&self) -> impl Iterator<Item = u128> + '_ {
        let runs = |node: &Node| !node.crashed && node.frozen.is_none() && node.machine.phase() != Phase::Stopped;
        self.nodes.iter().filter(move |(_, node)| runs(node)).map(|(node, _)| *node)
    }

    pub(crate) fn sees(&self, node: u128, other: u128) -> Option<MemberStatus> {
        self.member(node).status(id(other))
    }

    pub(crate) fn all_see(&self, other: u128, status: Option<MemberStatus>) -> bool {
        self.live().all(|node| self.sees(node, other) == status)
    }

    pub(crate) fn all_up(&self) -> bool {
        self.live().all(|node| self.phase(node) == Phase::Up)
    }

    pub(crate) fn statuses_seen(&self, node: u128, other: u128) -> Vec<MemberStatus> {
        let status = |event: &Event| match event {
            Event::StatusChanged { member, to, .. } if member.id == id(other) => Some(*to),
            _ => None,
        };
        self.events(node).iter().filter_map(status).collect()
    }

    /// How many groups of live nodes there are that do not know each other as active.
    pub(crate) fn islands(&self) -> usize {
        let groups: BTreeSet<Vec<u128>> = self.live().map(|node| self.active(node)).collect();
        groups.len()
    }

    /// Whether the live nodes of each island hold the same records, and the same digest, and know only live nodes as
    /// active; digests alone would prove themselves.
    pub(crate) fn is_converged(&self) -> bool {
        let known = |node: u128| -> Vec<_> {
            let records = self.member(node).records().filter(|record| record.status() != MemberStatus::Removed);
            let mut known: Vec<_> =
                records.map(|record| (record.id(), record.incarnation(), record.stage(), record.status())).collect();
            known.sort_unstable();
            known
        };
        self.live().all(|node| {
            let active = self.active(node);
            let agrees = |other: &u128| {
                self.nodes.contains_key(other)
                    && self.live().any(|live| live == *other)
                    && known(*other) == known(node)
                    && self.member(*other).digest() == self.member(node).digest()
            };
            active.contains(&node) && active.iter().all(agrees)
        })
    }

    fn active(&self, node: u128) -> Vec<u128> {
        self.member(node).active().iter().map(|member| member.id.bits()).collect()
    }

    fn perform(&mut self, node: u128, effect: Effect) {
        match effect {
            Effect::SetTimer { epoch, after } => self.enqueue(self.now + after, Delivery::Timer { node, epoch }),
            Effect::Send { to, message, .. } => {
                *self.sent.entry(to.bits()).or_default() += 1;
                let copies = if self.percent(self.faults.duplicated) { 2 } else { 1 };
                for _ in 0..copies {
                    if !self.percent(self.faults.lost) {
                        let at = self.now + self.latency();
                        self.enqueue(at, Delivery::Message { from: node, to: to.bits(), message: message.clone() });
                    }
                }
            }
            Effect::Join { address: host, joiner } => {
                let at = self.now + self.latency();
                let lost = self.percent(self.faults.lost);
                let delivery = if lost {
                    Delivery::JoinFailed { to: node, host }
                } else {
                    Delivery::JoinRequest { from: node, host, joiner }
                };
                self.enqueue(at, delivery);
            }
            Effect::AnswerJoin { request, answer } => {
                let (to, host) = self.requests.remove(&request.get()).unwrap();
                let at = self.now + self.latency();
                let lost = self.percent(self.faults.lost) || self.cut.contains(&(node, to));
                let delivery =
                    if lost { Delivery::JoinFailed { to, host } } else { Delivery::JoinAnswer { to, host, answer } };
                self.enqueue(at, delivery);
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        let node = match &delivery {
            Delivery::Message { to, .. } | Delivery::JoinAnswer { to, .. } | Delivery::JoinFailed { to, .. } => {
                Some(*to)
            }
            Delivery::Timer { node, .. } => Some(*node),
            Delivery::JoinRequest { host, .. } => self.process_on(host),
        };
        if let Some(process) = node.and_then(|node| self.nodes.get_mut(&node))
            && let Some(waiting) = &mut process.frozen
        {
            waiting.push(delivery);
            return;
        }
        match delivery {
            Delivery::Message { from, to, message } => {
                if self.cut.contains(&(from, to)) || !self.nodes.contains_key(&to) {
                    return;
                }
                if self.nodes[&to].crashed {
                    return self.input(from, Input::Refused { member: id(to) });
                }
                self.input(to, Input::Received { from: id(from), message });
            }
            Delivery::Timer { node, epoch } => self.input(node, Input::Timer(epoch)),
            Delivery::JoinRequest { from, host, joiner } => {
                let reachable = self.process_on(&host).filter(|node| !self.cut.contains(&(from, *node)));
                let Some(node) = reachable else {
                    let at = self.now + self.latency();
                    return self.enqueue(at, Delivery::JoinFailed { to: from, host });
                };
                self.queued += 1;
                self.requests.insert(self.queued, (from, host));
                self.input(node, Input::JoinRequested { request: RequestId::new(self.queued), joiner });
            }
            Delivery::JoinAnswer { to, host, answer } => self.input(to, Input::JoinAnswered { address: host, answer }),
            Delivery::JoinFailed { to, host } => {
                let failure = ContactFailure::Unreachable("nobody there".into());
                self.input(to, Input::JoinFailed { address: host, failure });
            }
        }
    }

    fn process_on(&self, host: &Address) -> Option<u128> {
        let runs = |node: &Node| node.host == *host && !node.crashed && node.machine.phase() != Phase::Stopped;
        self.nodes.iter().filter(|(_, node)| runs(node)).map(|(node, _)| *node).next_back()
    }

    fn enqueue(&mut self, at: Timestamp, delivery: Delivery) {
        self.queued += 1;
        self.queue.insert((at, self.queued), delivery);
    }

    fn latency(&mut self) -> Duration {
        let longest = if self.faults.reordered { 30 } else { 2 };
        Duration::from_millis(self.rng.random_range(1..=longest))
    }

    fn percent(&mut self, chance: u32) -> bool {
        self.rng.random_range(0..100) < chance
    }
}

/// What each node knows: the message of a failed test.
impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "at {:?}", self.now)?;
        for (node, process) in &self.nodes {
            let phase = if process.crashed { "crashed".into() } else { format!("{:?}", process.machine.phase()) };
            write!(f, "{node} {phase} {:016x}:", process.machine.digest().get())?;
            for record in process.machine.records() {
                write!(
                    f,
                    " {}@{}={:?}/{:?}",
                    record.id().bits(),
                    record.incarnation(),
                    record.stage(),
                    record.status()
                )?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
