//! What is done to hosts and links.

use super::{DRAIN, Duration, End, Fault, Happening, Input, Simulation, Timestamp};

impl Simulation {
    pub(super) fn fault(&mut self, index: usize, begins: bool) {
        let fault = self.faults[index].clone();
        if fault.hosts().iter().any(|host| host.index() >= self.hosts.len()) {
            return;
        }
        self.excused |= fault.excuses();
        let until = if begins { self.now + fault.duration() } else { self.now };
        match &fault {
            Fault::Crash(host) => {
                self.hosts[host.index()].gone = true;
                self.end_process(*host, End::Crashed);
            }
            Fault::Kill(host) => self.kill(*host),
            Fault::Restart(host) => {
                self.end_process(*host, End::Killed);
                self.start_later(*host, Duration::ZERO);
            }
            Fault::Leave(host) => {
                if let Some(process) = self.hosts[host.index()].process {
                    self.feed(process, Input::Leave);
                    self.end_sharing(process);
                    self.queue.push(self.now + DRAIN, Happening::Drained(process));
                }
            }
            Fault::Stall(host, _) => {
                let state = &mut self.hosts[host.index()];
                state.stalled_until = state.stalled_until.max(until);
                // Measured by a task of its own, which runs behind what waits already.
                if let (Some(process), true) = (state.process, begins) {
                    let by = fault.duration();
                    self.queue.push(until + Duration::from_millis(1), Happening::Lag { process, by });
                }
            }
            Fault::Drift(host, rate) => {
                let state = &mut self.hosts[host.index()];
                state.clock.set_rate(self.now, *rate);
                if let Some(process) = state.process {
                    self.processes[process.index()].clock = state.clock;
                }
            }
            Fault::Deaf(host, _) => self.network.set_deaf(*host, begins),
            Fault::Mute(host, _) => self.network.set_mute(*host, begins),
            Fault::Cut(from, to, _) => self.network.set_cut(*from, *to, begins),
            Fault::Partition(hosts, _) => self.network.set_partition(index, begins.then_some(hosts)),
            Fault::Loss(percent, _) => self.network.set_loss(index, begins.then_some(*percent)),
            Fault::Duplicate(percent, _) => self.network.set_duplication(index, begins.then_some(*percent)),
            Fault::Delay(most, _) => self.network.set_delay(index, begins.then_some(*most)),
            Fault::Bad(host, percent) => self.network.set_bad(*host, *percent),
            Fault::Lie(host, lie, _) => {
                self.has_lied = true;
                self.has_forged_values |= !lie.is_of_members();
                if let Some(process) = self.hosts[host.index()].process {
                    let process = &mut self.processes[process.index()];
                    let lie = begins.then_some(*lie);
                    process.node.iter_mut().for_each(|node| node.set_lie(lie));
                    process.sharing.iter_mut().for_each(|sharing| sharing.set_lie(lie));
                }
            }
        }
        self.disturb(&fault, until);
    }

    /// Who cannot be expected to be well until then.
    pub(super) fn disturb(&mut self, fault: &Fault, until: Timestamp) {
        let forever = Timestamp::new(Duration::MAX);
        match fault {
            Fault::Partition(..) | Fault::Loss(..) | Fault::Delay(..) => {
                self.disturbed_until = self.disturbed_until.max(until);
            }
            // Who lies is not compared with any more as long as what it says is in dispute, and refutes the slower.
            Fault::Stall(host, _) | Fault::Deaf(host, _) | Fault::Mute(host, _) | Fault::Lie(host, ..) => {
                let state = &mut self.hosts[host.index()];
                state.disturbed_until = state.disturbed_until.max(until);
            }
            Fault::Cut(from, to, _) => {
                for host in [from, to] {
                    let state = &mut self.hosts[host.index()];
                    state.disturbed_until = state.disturbed_until.max(until);
                }
            }
            Fault::Bad(host, _) => self.hosts[host.index()].disturbed_until = forever,
            Fault::Crash(_)
            | Fault::Kill(_)
            | Fault::Restart(_)
            | Fault::Leave(_)
            | Fault::Drift(..)
            | Fault::Duplicate(..) => {}
        }
    }
}
