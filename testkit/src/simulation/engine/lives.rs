//! How processes begin and end.

use rand::seq::SliceRandom;

use super::{
    Address, CONNECTIONS, Carried, Downing, Duration, Effect, End, Failure, Happening, Host, Incarnation, Input,
    JoinAnswer, KindName, Member, MemberId, Node, Phase, Process, ProcessId, Record, RngExt, Simulation, Stage,
    TimerEpoch, Timestamp,
};

impl Simulation {
    /// Since when nothing has been wrong with this host or the network.
    pub(super) fn healthy_since(&self, host: Host) -> Timestamp {
        self.hosts[host.index()].disturbed_until.max(self.disturbed_until)
    }

    pub(super) fn form(&mut self) {
        let count = self.config.hosts;
        let ids: Vec<_> = (0..count).map(|host| self.new_process(Host(u32::try_from(host).unwrap_or(0)))).collect();
        let records: Vec<Carried> = ids
            .iter()
            .map(|id| {
                let member = self.processes[id.index()].node.as_ref().map(|node| node.machine().me().member().clone());
                member.map(|member| Record::new(member, Incarnation::default().next(), Stage::Up).into())
            })
            .collect::<Option<_>>()
            .unwrap_or_default();
        let stagger = self.config.membership.probe_interval;
        for id in ids {
            self.settle(id, &records, stagger);
            self.settle_downing(id);
            self.begin_sharing(id);
            self.refresh(id);
        }
    }

    /// Lets the process live for a random time before the beginning, so that the timers of no two go together.
    pub(super) fn settle(&mut self, id: ProcessId, records: &[Carried], stagger: Duration) {
        let before = self.rng.random_range(Duration::ZERO..stagger);
        let seeds = self.seeds();
        let begin = self.processes[id.index()].clock.at(Timestamp::ZERO);
        let start = Timestamp::new(begin.since_origin().saturating_sub(before));
        let mut out = std::mem::take(&mut self.out);
        let mut due: Option<(TimerEpoch, Timestamp)> = None;
        if let Some(node) = &mut self.processes[id.index()].node {
            let machine = node.machine_mut();
            machine.handle(start, Input::Start { seeds: Vec::new() }, &mut out);
            let others: Vec<_> = records.iter().filter(|record| record.id() != machine.me().id()).cloned().collect();
            if let Some(other) = others.first() {
                // As a node learns of all when it is let in.
                let address = other.member().address.clone();
                let answer = JoinAnswer::Accepted { records: others };
                machine.handle(start, Input::JoinAnswered { address, answer }, &mut out);
            }
            machine.handle(start, Input::Discovered { addresses: seeds }, &mut out);
            machine.assume_told();
            let mut now = start;
            loop {
                for effect in out.drain_effects() {
                    if let Effect::SetTimer { epoch, after } = effect {
                        due = Some((epoch, now + after));
                    }
                }
                out.drain_events().for_each(drop);
                let Some((epoch, at)) = due.filter(|(_, at)| *at < begin) else { break };
                now = at;
                machine.handle(now, Input::Timer(epoch), &mut out);
            }
        }
        self.out = out;
        if let Some((epoch, at)) = due {
            let after = self.processes[id.index()].clock.real(at.since(begin));
            self.queue.push(Timestamp::ZERO + after, Happening::Timer { process: id, epoch });
        }
        self.history.began_up(id);
        self.note_own_record(id);
    }

    pub(super) fn new_process(&mut self, host: Host) -> ProcessId {
        let process = ProcessId(u32::try_from(self.processes.len()).unwrap_or(u32::MAX));
        let id = MemberId::new(u128::from(self.rng.random::<u64>()) << 64 | u128::from(process.0));
        let state = &mut self.hosts[host.index()];
        let member = Member::new(id, state.member.clone(), [KindName::new("grain")]);
        let node = Node::new(&self.config.membership, member, self.rng.random(), self.config.bug);
        state.process = Some(process);
        state.gone = false;
        let clock = state.clock;
        let timing = &self.config.membership;
        let downing = self.config.downing.as_ref().map(|config| Downing::new(config.clone(), timing.clone(), id));
        let incarnation = Incarnation::default();
        let sharing = self.new_sharing(id);
        self.processes.push(Process {
            host,
            id,
            node: Some(node),
            downing,
            sharing,
            incarnation,
            leaves: false,
            misled: false,
            clock,
        });
        self.history.started(process, self.now);
        process
    }

    pub(super) fn start(&mut self, host: Host) {
        self.starting = self.starting.saturating_sub(1);
        if self.hosts[host.index()].process.is_some() {
            return;
        }
        let anybody = self.running().any(|(_, machine)| machine.phase() == Phase::Up);
        let seeds = self.seeds();
        let state = &self.hosts[host.index()];
        let input = match (&self.config.downing, &state.cut_off) {
            // When nobody is left and those who returned have waited in vain, somebody starts the cluster anew.
            (Some(downing), Some((was, settled))) if anybody || !state.has_tried => {
                let through = self.hosts.iter().map(|state| state.member.clone()).collect();
                let enough = downing.enough_to_form(settled.len());
                Input::Return { through, was: *was, settled: settled.clone(), enough }
            }
            _ => Input::Start { seeds },
        };
        let process = self.new_process(host);
        self.begin_sharing(process);
        self.feed(process, input);
    }

    pub(super) fn seeds(&self) -> Vec<Address> {
        self.hosts.iter().take(self.config.seeds).map(|host| host.member.clone()).collect()
    }

    pub(super) fn start_later(&mut self, host: Host, after: Duration) {
        self.starting += 1;
        self.queue.push(self.now + after, Happening::Start(host));
    }

    pub(super) fn stopped(&mut self, id: ProcessId, end: End) {
        let process = &mut self.processes[id.index()];
        process.node = None;
        let (host, member) = (process.host, process.id);
        self.hosts[host.index()].process = None;
        self.history.ended(id, self.now, end);
        if let (End::Evicted | End::Fenced | End::NotJoined, Some(after)) = (end, self.config.rejoin) {
            let state = &mut self.hosts[host.index()];
            state.has_tried = end == End::NotJoined;
            if !state.has_tried {
                let decision =
                    self.processes[id.index()].downing.as_ref().and_then(|downing| downing.decisions().last());
                let fence = decision.filter(|decision| decision.fences(member));
                state.cut_off = Some((member, fence.map_or_else(Vec::new, |decision| decision.counted(member))));
            }
            self.start_later(host, after);
        }
    }

    pub(super) fn end_process(&mut self, host: Host, end: End) {
        self.hosts[host.index()].cut_off = None;
        if let Some(id) = self.hosts[host.index()].process.take() {
            self.processes[id.index()].node = None;
            self.history.ended(id, self.now, end);
        }
    }

    /// Who has a connection to a killed process sees it reset, dials again and is refused.
    pub(super) fn kill(&mut self, host: Host) {
        let Some(id) = self.hosts[host.index()].process else { return };
        self.end_process(host, End::Killed);
        let member = self.processes[id.index()].id;
        let mut peers: Vec<_> = self.running().map(|(id, _)| id).collect();
        let (peers, _) = peers.partial_shuffle(&mut self.rng, CONNECTIONS);
        for process in peers {
            let peer = self.processes[process.index()].host;
            if !self.network.is_cut(host, peer) && !self.network.is_cut(peer, host) {
                let after = self.network.latency() + self.network.latency() + self.network.latency();
                let failure = Happening::Failure { process: *process, member, failure: Failure::Refused };
                self.queue.push(self.now + after, failure);
            }
        }
    }
}
