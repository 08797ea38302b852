//! The clockwork: one queue, one thread, every process of the cluster.

mod delivery;
mod faults;
mod judgement;
mod lives;
mod partition;
mod sharing;

use std::collections::BTreeMap;
use std::time::Duration;

use gristmill_core::downing::{self, Downing};
use gristmill_core::membership::{
    Config, ContactFailure, Event, Input, JoinAnswer, Membership, Message, Phase, Record, Stage, TimerEpoch,
};
use gristmill_core::topology::{self, Topology};
use gristmill_core::{Address, KindName, Member, MemberStatus, RequestId, Timestamp};
use gristmill_messages::{Incarnation, MemberId, TopologyHash, TopologyVersion};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::bytes::encoded_len;
use super::fault::{Fault, Schedule};
use super::history::{End, History, Observation, ProcessId, Totals};
use super::invariant::{Checker, Checks, Violation};
use super::network::{Host, Network, NetworkConfig, Passage};
use super::node::{Bug, Carried, Clock, Effect, Node, Out, clock_offset};
use super::queue::Queue;
use super::sharing::{Parcel, Sharing, SharingConfig};

/// To how many members a killed process is taken to have had open connections: all of a small cluster.
const CONNECTIONS: usize = 128;
/// How long what a leaving node serves takes to move.
const DRAIN: Duration = Duration::from_millis(50);
/// Seeds of the different random numbers, so that more of one kind leave the others as they are.
const NETWORK: u64 = 0x6e65_7477_6f72_6b00;
const NODES: u64 = 0x6e6f_6465_7300_0000;
const SHARING: u64 = 0x7368_6172_696e_6700;

/// What is simulated.
#[derive(Debug, Clone)]
pub struct SimulationConfig {
    /// Decides everything that is random: the same seed, the same history.
    pub seed: u64,
    /// Hosts that run a process from the beginning; they have known each other for long.
    pub hosts: usize,
    /// Hosts beyond these that are empty until a fault starts a process there.
    pub spare: usize,
    /// The timing of all processes.
    pub membership: Config,
    /// What every link does.
    pub network: NetworkConfig,
    /// After so much time a process that was evicted, or could not join, is started anew; never with `None`.
    pub rejoin: Option<Duration>,
    /// How many hosts are listed as seeds, from the first.
    pub seeds: usize,
    /// What is checked on the way.
    pub checks: Checks,
    /// Who goes on when the cluster splits; nobody is asked with `None`: the membership alone.
    pub downing: Option<downing::Config>,
    /// What members share beyond the membership: nothing with `None`.
    pub sharing: Option<SharingConfig>,
    /// What is wrong with every process.
    pub bug: Option<Bug>,
}

impl SimulationConfig {
    /// A cluster of this size in one data centre, where nothing is wrong.
    #[must_use]
    pub fn new(hosts: usize, seed: u64) -> Self {
        Self {
            seed,
            hosts,
            spare: 0,
            membership: Config { max_members: 20_000, ..Config::lan() },
            network: NetworkConfig::default(),
            rejoin: Some(Duration::from_secs(1)),
            seeds: 3,
            checks: Checks::default(),
            downing: None,
            sharing: None,
            bug: None,
        }
    }
}

/// A process as others see it from outside.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) host: Host,
    pub(crate) id: MemberId,
    pub(crate) node: Option<Node>,
    downing: Option<Downing>,
    pub(crate) sharing: Option<Sharing>,
    pub(crate) incarnation: Incarnation,
    /// It has said that it leaves.
    leaves: bool,
    /// Whoever let it in has told it of members that do not exist.
    pub(crate) misled: bool,
    clock: Clock,
}

#[derive(Debug)]
struct HostState {
    member: Address,
    process: Option<ProcessId>,
    gone: bool,
    stalled_until: Timestamp,
    disturbed_until: Timestamp,
    clock: Clock,
    /// The process here was cut off, from these: the next one joins again and forms no cluster of its own.
    cut_off: Option<(MemberId, Vec<MemberId>)>,
    /// Whether the next process is the second one since, because the first has not joined.
    has_tried: bool,
}

#[derive(Debug)]
enum Happening {
    Message {
        from: ProcessId,
        to: ProcessId,
        message: Message,
    },
    Timer {
        process: ProcessId,
        epoch: TimerEpoch,
    },
    /// The timer of the downing.
    Judge {
        process: ProcessId,
        epoch: downing::TimerEpoch,
    },
    /// Something of topology or gossip.
    Shared {
        process: ProcessId,
        what: Parcel,
    },
    Failure {
        process: ProcessId,
        member: MemberId,
        failure: Failure,
    },
    Ask {
        asker: ProcessId,
        request: RequestId,
        joiner: Record,
    },
    Answer {
        request: RequestId,
        answer: Result<JoinAnswer, ContactFailure>,
    },
    Fault {
        index: usize,
        begins: bool,
    },
    Start(Host),
    Drained(ProcessId),
    /// The process notices that it stood still.
    Lag {
        process: ProcessId,
        by: Duration,
    },
}

/// Why a send failed.
#[derive(Debug, Clone, Copy)]
enum Failure {
    Unreachable,
    Refused,
    Superseded(MemberId),
}

#[derive(Debug)]
struct Call {
    asker: ProcessId,
    host: Host,
}

/// A cluster in one thread.
#[derive(Debug)]
pub struct Simulation {
    config: SimulationConfig,
    now: Timestamp,
    queue: Queue<Happening>,
    network: Network,
    hosts: Vec<HostState>,
    pub(crate) processes: Vec<Process>,
    by_address: BTreeMap<Address, Host>,
    calls: BTreeMap<RequestId, Call>,
    requests: u64,
    faults: Vec<Fault>,
    pub(crate) has_lied: bool,
    /// Or of their values.
    has_forged_values: bool,
    /// Something has gone wrong beyond which nobody promises P2.
    excused: bool,
    disturbed_until: Timestamp,
    rng: Xoshiro256PlusPlus,
    sharing_rng: Xoshiro256PlusPlus,
    out: Out,
    trace: u64,
    history: History,
    checker: Checker,
    starting: usize,
}

impl Simulation {
    /// A cluster that has long agreed on who its members are.
    ///
    /// # Panics
    /// When the timing is not valid.
    #[must_use]
    pub fn new(config: SimulationConfig) -> Self {
        let network = Network::new(
            config.network.clone(),
            config.hosts + config.spare,
            Xoshiro256PlusPlus::seed_from_u64(config.seed ^ NETWORK),
        );
        let mut simulation = Self {
            now: Timestamp::ZERO,
            queue: Queue::default(),
            network,
            hosts: Vec::new(),
            processes: Vec::new(),
            by_address: BTreeMap::new(),
            calls: BTreeMap::new(),
            requests: 0,
            faults: Vec::new(),
            has_lied: false,
            has_forged_values: false,
            excused: false,
            disturbed_until: Timestamp::ZERO,
            rng: Xoshiro256PlusPlus::seed_from_u64(config.seed ^ NODES),
            sharing_rng: Xoshiro256PlusPlus::seed_from_u64(config.seed ^ SHARING),
            out: Out::new(),
            trace: config.seed,
            history: History::default(),
            checker: Checker::new(config.checks, &config.membership),
            starting: 0,
            config,
        };
        for number in 0..simulation.config.hosts + simulation.config.spare {
            let host = Host(u32::try_from(number).unwrap_or(u32::MAX));
            let member = Address::from(address(number));
            simulation.by_address.insert(member.clone(), host);
            let clock = Clock::new(clock_offset(&mut simulation.rng));
            simulation.hosts.push(HostState {
                member,
                process: None,
                gone: false,
                stalled_until: Timestamp::ZERO,
                disturbed_until: Timestamp::ZERO,
                clock,
                cut_off: None,
                has_tried: false,
            });
        }
        simulation.form();
        simulation
    }

    /// Adds what goes wrong.
    pub fn schedule(&mut self, schedule: &Schedule) {
        for (at, fault) in &schedule.0 {
            let index = self.faults.len();
            self.faults.push(fault.clone());
            self.queue.push(*at, Happening::Fault { index, begins: true });
            if !fault.duration().is_zero() {
                self.queue.push(*at + fault.duration(), Happening::Fault { index, begins: false });
            }
        }
    }

    /// Goes on until this time.
    ///
    /// # Errors
    /// The first invariant that does not hold. The state is that of the moment.
    pub fn run_until(&mut self, until: Timestamp) -> Result<(), Violation> {
        while self.queue.next_at().is_some_and(|at| at <= until) {
            let Some((at, happening)) = self.queue.pop() else { break };
            self.now = at;
            self.step(happening);
            if let Some(violation) = self.checker.violation() {
                return Err(violation);
            }
        }
        self.now = until;
        Ok(())
    }

    /// Goes on until all views are equal and right, looked at in steps of `every`; the time of it, or `None` when that
    /// was not before `limit`.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn run_until_agreed(&mut self, limit: Timestamp, every: Duration) -> Result<Option<Timestamp>, Violation> {
        loop {
            if self.agreed().is_ok() {
                return Ok(Some(self.now));
            }
            if self.now >= limit {
                return Ok(None);
            }
            self.run_until((self.now + every).min(limit))?;
        }
    }

    /// What the time is, for an observer outside.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// A hash over all that has happened, in order.
    #[must_use]
    pub const fn trace_hash(&self) -> u64 {
        self.trace
    }

    /// What has been seen and sent.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// From now on every change of a view is kept.
    pub fn keep_observations(&mut self) {
        self.history.keep_observations = true;
    }

    /// The process that runs on a host.
    #[must_use]
    pub fn process_on(&self, host: Host) -> Option<ProcessId> {
        self.hosts.get(host.index()).and_then(|state| state.process)
    }

    /// The machines that run, with the processes that they belong to.
    pub fn running(&self) -> impl Iterator<Item = (ProcessId, &Membership)> {
        self.running_nodes().map(|(id, node)| (id, node.machine()))
    }

    pub(crate) fn running_nodes(&self) -> impl Iterator<Item = (ProcessId, &Node)> {
        self.hosts
            .iter()
            .filter_map(|host| host.process)
            .filter_map(|id| self.processes[id.index()].node.as_ref().map(|node| (id, node)))
    }

    /// The host of a process.
    #[must_use]
    pub fn host_of(&self, process: ProcessId) -> Host {
        self.processes[process.index()].host
    }

    /// Whether all processes run in one cluster and each of them believes exactly in those that run; else who does not.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn agreed(&self) -> Result<(), String> {
        if self.starting > 0 {
            return Err("a process is about to start".into());
        }
        let mut first: Option<(ProcessId, TopologyHash)> = None;
        let running: Vec<_> = self.running().collect();
        // The last of a larger cluster that hears nobody takes itself for cut off, and buries nobody.
        if let [(_, machine)] = running.as_slice()
            && machine.phase() == Phase::Up
            && machine.is_isolated()
        {
            return Ok(());
        }
        for (id, machine) in &running {
            if machine.phase() != Phase::Up {
                return Err(format!("{} is {:?}", self.name(*id), machine.phase()));
            }
            let known = machine.records().filter(|record| record.is_active()).count();
            if known != running.len() {
                return Err(format!("{} counts {known} members of {}", self.name(*id), running.len()));
            }
            let suspected = machine.records().filter(|record| record.status() == MemberStatus::Suspect).count();
            if suspected > 0 {
                return Err(format!("{} suspects {suspected}", self.name(*id)));
            }
        }
        // Equal digests are equal tables; a topology is made of them only when they differ by what is dead.
        if running.windows(2).all(|pair| pair[0].1.digest() == pair[1].1.digest()) {
            return Ok(());
        }
        for (id, machine) in &running {
            let hash = Topology::new(TopologyVersion::default(), machine.active(), Vec::new()).hash();
            match first {
                None => first = Some((*id, hash)),
                Some((other, expected)) if expected != hash => {
                    return Err(format!("{} and {} differ", self.name(other), self.name(*id)));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// How many different tables there are among the processes that run.
    #[must_use]
    pub fn views(&self) -> usize {
        let mut digests: Vec<_> = self.running().map(|(_, machine)| machine.digest()).collect();
        digests.sort_unstable();
        digests.dedup();
        digests.len()
    }

    /// `n3.7`: the seventh process of all, on host 3.
    #[must_use]
    pub fn name(&self, process: ProcessId) -> String {
        format!("{}.{}", self.processes[process.index()].host, process.0)
    }

    /// Checks what must hold when nothing has happened for long.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub fn check_rest(&self) -> Result<(), Violation> {
        self.checker.rest(self)
    }

    pub(crate) fn process_of(&self, member: MemberId) -> Option<ProcessId> {
        let number = u32::try_from(member.bits() & u128::from(u32::MAX)).ok()?;
        self.processes.get(number as usize).filter(|process| process.id == member).map(|_| ProcessId(number))
    }

    pub(crate) fn is_running(&self, process: ProcessId) -> bool {
        self.processes[process.index()].node.is_some()
    }

    // ---- one step ----

    fn step(&mut self, happening: Happening) {
        if let Some(process) = happening.process() {
            if !self.is_running(process) {
                if let Happening::Message { from, to, .. } = happening {
                    self.not_delivered(from, to);
                } else if let Happening::Ask { request, .. } = happening {
                    self.refuse_call(request);
                } else if let Happening::Shared { process, what } = happening {
                    self.parcel_lost(process, what);
                }
                return;
            }
            let host = self.processes[process.index()].host;
            let stalled_until = self.hosts[host.index()].stalled_until;
            if stalled_until > self.now {
                self.queue.push(stalled_until, happening);
                return;
            }
        }
        self.mix(happening.code());
        match happening {
            Happening::Message { from, to, message } => {
                let from = self.processes[from.index()].id;
                let node = self.processes[to.index()].node.as_ref();
                if let Some(heard) = node.and_then(|node| downing::hear(node.machine(), from, &message)) {
                    self.judge(to, heard);
                }
                self.feed(to, Input::Received { from, message });
            }
            Happening::Timer { process, epoch } => self.feed(process, Input::Timer(epoch)),
            Happening::Shared { process, what } => self.parcel(process, what),
            Happening::Judge { process, epoch } => self.judge(process, downing::Input::Timer(epoch)),
            Happening::Failure { process, member, failure } => {
                if matches!(failure, Failure::Refused) {
                    self.judge(process, downing::Input::Refused { member });
                }
                let input = match failure {
                    Failure::Unreachable => Input::Unreachable { member },
                    Failure::Refused => Input::Refused { member },
                    Failure::Superseded(by) => Input::Superseded { old: member, by },
                };
                self.feed(process, input);
            }
            Happening::Ask { asker: _, request, joiner } => {
                if let Some(Call { host, .. }) = self.calls.get(&request)
                    && let Some(process) = self.hosts[host.index()].process
                {
                    self.feed(process, Input::JoinRequested { request, joiner });
                }
            }
            Happening::Answer { request, answer } => {
                if let Some(Call { asker, host }) = self.calls.remove(&request)
                    && self.is_running(asker)
                {
                    let address = self.hosts[host.index()].member.clone();
                    if let Ok(JoinAnswer::Accepted { records }) = &answer {
                        let invents = records.iter().any(|record| self.process_of(record.id()).is_none());
                        self.processes[asker.index()].misled |= invents;
                    }
                    self.feed(
                        asker,
                        match answer {
                            Ok(answer) => Input::JoinAnswered { address, answer },
                            Err(failure) => Input::JoinFailed { address, failure },
                        },
                    );
                }
            }
            Happening::Fault { index, begins } => self.fault(index, begins),
            Happening::Start(host) => self.start(host),
            Happening::Drained(process) => {
                self.aggregate(process, topology::Input::Stop);
                self.feed(process, Input::Drained);
            }
            Happening::Lag { process, by } => self.feed(process, Input::Lag { by }),
        }
    }

    fn feed(&mut self, id: ProcessId, input: Input) {
        let mut out = std::mem::take(&mut self.out);
        let process = &mut self.processes[id.index()];
        let local = process.clock.at(self.now);
        let Some(node) = &mut process.node else { return };
        node.handle(local, input, &mut out);
        let stopped = node.machine().phase() == Phase::Stopped;
        let digest = node.machine().digest().get();
        self.history.totals.handled += 1;
        self.mix(u64::from(id.0) ^ digest);
        self.note_own_record(id);
        let mut end = None;
        let mut changed = false;
        for event in out.drain_events() {
            changed = true;
            self.observe(id, &event, &mut end);
        }
        for effect in out.drain_effects() {
            self.perform(id, effect);
        }
        self.out = out;
        if self.config.checks.states {
            let mut checker = std::mem::take(&mut self.checker);
            checker.look(self, id);
            self.checker = checker;
        }
        if stopped {
            self.stopped(id, end.unwrap_or(End::NotJoined));
        } else if changed {
            self.members_changed(id);
        }
    }

    /// Tells what goes by the members. Before it has joined, a node knows nothing that others should go by.
    fn members_changed(&mut self, id: ProcessId) {
        self.judge_members(id);
        let joined =
            |process: &Process| process.node.as_ref().is_some_and(|node| node.machine().phase() > Phase::Joining);
        if joined(&self.processes[id.index()]) {
            self.refresh(id);
        }
    }

    /// What it says of itself.
    fn note_own_record(&mut self, id: ProcessId) {
        let process = &mut self.processes[id.index()];
        if let Some(node) = &process.node {
            let me = node.machine().me();
            process.incarnation = process.incarnation.max(me.incarnation());
            process.leaves |= me.stage() >= Stage::Leaving;
        }
    }

    // ---- what is seen ----

    fn observe(&mut self, id: ProcessId, event: &Event, end: &mut Option<End>) {
        match event {
            Event::StatusChanged { member, from, to, .. } => {
                if let Some(subject) = self.process_of(member.id) {
                    let observation = Observation { at: self.now, observer: id, subject, from: *from, to: *to };
                    self.checker.observed(&observation, self.version_of(id, member.id));
                    self.history.observed(observation, self.processes[subject.index()].node.is_some());
                    self.check_end(&observation);
                }
            }
            Event::Quarantined { member, reason, .. } => {
                if let Some(subject) = self.process_of(member.id) {
                    self.buried(id, subject, *reason);
                }
            }
            Event::SuspicionRefuted { member, .. } if *member == self.processes[id.index()].id => {
                self.history.totals.refutations += 1;
            }
            Event::EvictionsHalted { .. } => self.history.halted += 1,
            Event::Isolated { .. } => self.history.isolated += 1,
            Event::Joined => {
                self.history.joined(id, self.now);
                self.check_formed(id);
            }
            Event::Evicted { .. } => {
                self.check_eviction(id);
                *end = Some(End::Evicted);
            }
            Event::Left => *end = Some(End::Left),
            _ => {}
        }
    }

    fn mix(&mut self, value: u64) {
        let time = u64::try_from(self.now.since_origin().as_nanos()).unwrap_or(u64::MAX);
        self.trace = (self.trace.rotate_left(5) ^ value ^ time.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .wrapping_mul(0x2545_f491_4f6c_dd1d);
    }
}

/// Where a host of this number listens, in text.
pub(crate) fn address(number: usize) -> String {
    format!("10.{}.{}.{}:7700", number >> 16, (number >> 8) & 255, number & 255)
}

impl Happening {
    /// Who has to run for it.
    const fn process(&self) -> Option<ProcessId> {
        match self {
            Self::Message { to: process, .. }
            | Self::Timer { process, .. }
            | Self::Judge { process, .. }
            | Self::Shared { process, .. }
            | Self::Failure { process, .. }
            | Self::Ask { asker: process, .. }
            | Self::Drained(process)
            | Self::Lag { process, .. } => Some(*process),
            Self::Answer { .. } | Self::Fault { .. } | Self::Start(_) => None,
        }
    }

    const fn code(&self) -> u64 {
        match self {
            Self::Message { from, .. } => 1 | (from.0 as u64) << 8,
            Self::Timer { .. } => 2,
            Self::Failure { .. } => 3,
            Self::Ask { request, .. } => 4 | request.get() << 8,
            Self::Answer { request, .. } => 5 | request.get() << 8,
            Self::Fault { index, .. } => 6 | (*index as u64) << 8,
            Self::Start(host) => 7 | (host.0 as u64) << 8,
            Self::Drained(_) => 8,
            Self::Lag { .. } => 9,
            Self::Judge { .. } => 10,
            Self::Shared { process, .. } => 11 | (process.0 as u64) << 8,
        }
    }
}
