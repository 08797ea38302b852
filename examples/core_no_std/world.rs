//! Nodes, and the loop that performs what their machines decide.
//!
//! ```text
//!            ┌──────────── one node ────────────┐
//!  message,  │ Membership ──> Aggregator        │
//!  timer ──> │     │ Up, Dead…     │ topology   │
//!            │     │               v            │
//!            │     │          Rendezvous        │
//!            │     │               │ owners     │
//!            │     │               v            │
//!            │     └─ drained ─ Activations     │ ──> effects, which this loop puts in its queue
//!            └──────────────────────────────────┘
//! ```

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use gristmill_core::membership::{self, ContactFailure, JoinAnswer, Membership};
use gristmill_core::placement::activations::{self, Activations};
use gristmill_core::placement::{Placed, Refusal, Rendezvous};
use gristmill_core::topology::{self, Aggregator, Topology};
use gristmill_core::{Address, Member, Outbox, RequestId, Timestamp};
use gristmill_messages::{ClusterIdentity, MemberId};

/// What a message takes from one node to another.
const LATENCY: Duration = Duration::from_millis(1);

/// How long a grain takes to start, and to end.
const WORK: Duration = Duration::from_millis(3);

/// One node: the machines that decide for it.
struct Node {
    name: &'static str,
    membership: Membership,
    aggregator: Aggregator,
    rendezvous: Arc<Rendezvous>,
    activations: Activations,
    crashed: bool,
}

/// What a machine of a node is told.
enum Input {
    Membership(membership::Input),
    Topology(topology::Input),
    Placement(activations::Input),
}

pub(crate) struct World<Say> {
    now: Timestamp,
    nodes: BTreeMap<MemberId, Node>,
    /// What is going to happen, in the order of its time; the number keeps apart what happens at the same time.
    queue: BTreeMap<(Timestamp, u64), (MemberId, Input)>,
    next: u64,
    /// Who waits for the answer to a join, and whom it asked.
    joins: BTreeMap<RequestId, (MemberId, Address)>,
    /// The answers to requests for grains.
    placed: BTreeMap<RequestId, Result<Placed, Refusal>>,
    say: Say,
}

impl<Say: FnMut(fmt::Arguments<'_>)> World<Say> {
    pub(crate) fn new(say: Say) -> Self {
        let (queue, joins, placed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { now: Timestamp::ZERO, nodes: BTreeMap::new(), queue, next: 0, joins, placed, say }
    }

    /// Starts a node that hosts one kind of grain. A random id and seed are the shell's to draw; here they are fixed,
    /// so that the story is the same each time.
    pub(crate) fn start(&mut self, name: &'static str, kind: &str, seeds: &[&str]) -> MemberId {
        let id = MemberId::new(0x9e37_79b9 * (self.nodes.len() as u128 + 1));
        let me = Member::new(id, name, [kind.into()]);
        let node = Node {
            name,
            membership: Membership::new(membership::Config::lan(), me, 7),
            aggregator: Aggregator::new(topology::Config::lan()),
            rendezvous: Arc::default(),
            activations: Activations::new(activations::Config::lan(), id),
            crashed: false,
        };
        self.nodes.insert(id, node);
        let seeds = seeds.iter().map(|seed| Address::new(seed)).collect();
        self.input(id, Input::Membership(membership::Input::Start { seeds }));
        id
    }

    /// The node is gone without a word.
    pub(crate) fn crash(&mut self, id: MemberId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.crashed = true;
            self.say(id, format_args!("crashes"));
        }
    }

    /// The node goes in order: it owns nothing from now on, ends its grains, and tells the others that it has left.
    pub(crate) fn leave(&mut self, id: MemberId) {
        self.say(id, format_args!("begins to leave"));
        self.input(id, Input::Membership(membership::Input::Leave));
        self.input(id, Input::Placement(activations::Input::ShutDown { grace: Duration::from_secs(5) }));
    }

    /// Asks a node for the activation of a grain, and waits for its answer.
    pub(crate) fn request(&mut self, at: MemberId, identity: &ClusterIdentity) -> Result<Placed, Refusal> {
        let request = RequestId::new(self.number());
        let identity = identity.clone();
        self.input(at, Input::Placement(activations::Input::Requested { request, identity: identity.into() }));
        let answered = self.run_until(|world| world.placed.contains_key(&request));
        assert!(answered, "every request is answered");
        self.placed.remove(&request).unwrap_or(Err(Refusal::NotStarted))
    }

    /// Lets time pass until the condition holds; gives up after a minute. The time that it took is virtual.
    pub(crate) fn run_until(&mut self, condition: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + Duration::from_secs(60);
        while !condition(self) {
            match self.queue.pop_first() {
                Some(((at, _), (id, input))) if at <= end => {
                    self.now = at;
                    self.input(id, input);
                }
                _ => return false,
            }
        }
        true
    }

    pub(crate) const fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn topology(&self, of: MemberId) -> Arc<Topology> {
        self.nodes.get(&of).map(|node| Arc::clone(node.aggregator.topology())).unwrap_or_default()
    }

    pub(crate) fn owner(&self, as_seen_by: MemberId, identity: &ClusterIdentity) -> Option<MemberId> {
        Some(self.nodes.get(&as_seen_by)?.rendezvous.owner(identity)?.id)
    }

    pub(crate) fn activations(&self, of: MemberId) -> usize {
        self.nodes.get(&of).map_or(0, |node| node.activations.len())
    }

    pub(crate) fn has_left(&self, id: MemberId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.membership.phase() == membership::Phase::Stopped)
    }

    fn input(&mut self, id: MemberId, input: Input) {
        match self.nodes.get(&id) {
            Some(node) if !node.crashed => {}
            _ => return,
        }
        match input {
            Input::Membership(input) => self.membership(id, input),
            Input::Topology(input) => self.aggregate(id, input),
            Input::Placement(input) => self.place(id, input),
        }
    }

    fn membership(&mut self, id: MemberId, input: membership::Input) {
        use membership::{Effect, Event};
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let mut out = Outbox::new();
        node.membership.handle(self.now, input, &mut out);
        for effect in out.drain_effects() {
            match effect {
                Effect::Join { address, joiner } => match self.node_at(&address) {
                    Some(seed) => {
                        let request = RequestId::new(self.number());
                        self.joins.insert(request, (id, address));
                        let input = membership::Input::JoinRequested { request, joiner };
                        self.later(LATENCY, seed, Input::Membership(input));
                    }
                    None => {
                        let failure = ContactFailure::Unreachable("nobody is there".to_string());
                        let input = membership::Input::JoinFailed { address, failure };
                        self.later(LATENCY, id, Input::Membership(input));
                    }
                },
                Effect::AnswerJoin { request, answer } => self.answer_join(request, answer),
                Effect::Send { to, message, .. } => {
                    let input = membership::Input::Received { from: id, message };
                    self.later(LATENCY, to, Input::Membership(input));
                }
                Effect::SetTimer { epoch, after } => {
                    self.later(after, id, Input::Membership(membership::Input::Timer(epoch)));
                }
            }
        }
        for event in out.drain_events() {
            match event {
                Event::Joined => self.say(id, format_args!("is up")),
                Event::StatusChanged { member, from: Some(from), to, .. } if member.id != id => {
                    self.say(id, format_args!("knows: {} was {from}, is {to}", member.address));
                }
                Event::Quarantined { member, reason, .. } => {
                    self.say(id, format_args!("lets nobody in as {} for a while: {reason}", member.address));
                }
                Event::Left => self.say(id, format_args!("has left")),
                _ => {}
            }
        }
        // The aggregator sees for itself whether this changes anything.
        let Some(node) = self.nodes.get(&id) else { return };
        if node.membership.phase() > membership::Phase::Joining {
            let active = node.membership.active();
            let dead = node.membership.dead().into_iter().map(|member| member.id).collect();
            let blocked = node.membership.blocked().into_iter().map(|quarantine| quarantine.member.id).collect();
            self.aggregate(id, topology::Input::Changed { active, dead, blocked });
        }
    }

    fn answer_join(&mut self, request: RequestId, answer: JoinAnswer) {
        if let Some((joiner, address)) = self.joins.remove(&request) {
            let input = membership::Input::JoinAnswered { address, answer };
            self.later(LATENCY, joiner, Input::Membership(input));
        }
    }

    fn aggregate(&mut self, id: MemberId, input: topology::Input) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let mut out = Outbox::new();
        node.aggregator.handle(self.now, input, &mut out);
        for topology::Effect::SetTimer { after, epoch } in out.drain_effects() {
            self.later(after, id, Input::Topology(topology::Input::Timer(epoch)));
        }
        for topology::Event::Updated(updated) in out.drain_events() {
            let members: Vec<String> =
                updated.topology.members().iter().map(|member| member.address.to_string()).collect();
            self.say(id, format_args!("sees a topology of {}: {}", members.len(), members.join(", ")));
            let rendezvous = Arc::new(Rendezvous::new(updated.topology));
            if let Some(node) = self.nodes.get_mut(&id) {
                node.rendezvous = Arc::clone(&rendezvous);
            }
            self.place(id, activations::Input::TopologyChanged { rendezvous });
        }
    }

    fn place(&mut self, id: MemberId, input: activations::Input) {
        use activations::{Effect, Event, Input as Report};
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let mut out = Outbox::new();
        node.activations.handle(self.now, input, &mut out);
        for effect in out.drain_effects() {
            match effect {
                // No grain runs here, but it takes its time.
                Effect::Spawn { activation, .. } => {
                    self.later(WORK, id, Input::Placement(Report::Activated { activation }));
                }
                Effect::Drain { activation, reason } => {
                    // It finishes what it has.
                    self.later(WORK, id, Input::Placement(Report::Ended { activation, reason }));
                }
                Effect::Answer { request, answer } => drop(self.placed.insert(request, answer)),
                Effect::SetTimer(timer) => {
                    self.later(timer.after, id, Input::Placement(Report::TimerFired(timer.epoch)));
                }
                // These grains always end in time, and nobody here keeps a cache.
                Effect::Stop { .. } | Effect::Announce { .. } => {}
            }
        }
        for event in out.drain_events() {
            match event {
                Event::Started { identity, .. } => self.say(id, format_args!("runs {identity}")),
                Event::Terminated { identity, reason, .. } => {
                    self.say(id, format_args!("ended {identity}: {reason}"));
                }
                Event::NotStarted { identity, failure, .. } => {
                    self.say(id, format_args!("could not run {identity}: {failure}"));
                }
                Event::Drained { .. } => {
                    // What the others think of it is no longer its business.
                    self.aggregate(id, topology::Input::Stop);
                    self.membership(id, membership::Input::Drained);
                }
            }
        }
    }

    fn node_at(&self, address: &Address) -> Option<MemberId> {
        let listens = |node: &&Node| !node.crashed && node.name == address.as_str();
        self.nodes.values().find(listens).map(|node| node.membership.me().id())
    }

    fn later(&mut self, after: Duration, id: MemberId, input: Input) {
        let key = (self.now + after, self.number());
        self.queue.insert(key, (id, input));
    }

    const fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// One line of the story: when, who, what.
    pub(crate) fn say(&mut self, id: MemberId, what: fmt::Arguments<'_>) {
        let name = self.nodes.get(&id).map_or("", |node| node.name);
        let milliseconds = self.now.since_origin().as_millis();
        (self.say)(format_args!("{milliseconds:6} ms  {name:5}  {what}"));
    }
}
