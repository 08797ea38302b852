//! Drives topology, gossip and consensus beside the membership, as a shell does.
//!
//! A delta is a question with an answer: what was not answered in time has failed, whatever became of it. Random
//! numbers of its own leave the history of the membership as it would be without.

use std::collections::BTreeSet;
use std::time::Duration;

use gristmill_core::gossip::{Delta, DeltaAck, DeltaId, Effect, Input, Refusal};
use gristmill_core::{Outbox, RequestId, Timestamp, topology};
use gristmill_messages::MemberId;
use rand::RngExt;

use super::{Happening, ProcessId, Simulation};
use crate::simulation::invariant::Step;
use crate::simulation::network::Passage;
use crate::simulation::sharing::{Parcel, Sharing, topology_key, topology_value};

/// What an answer belongs to.
#[derive(Debug, Clone, Copy)]
struct Asked {
    by: ProcessId,
    id: DeltaId,
    deadline: Timestamp,
}

impl Simulation {
    /// The machines of a process that starts.
    pub(super) fn new_sharing(&mut self, me: MemberId) -> Option<Sharing> {
        let config = self.config.sharing.as_ref()?;
        let membership = self.config.membership.clone();
        Some(Sharing::new(config, membership, me, self.sharing_rng.random(), self.config.bug))
    }

    /// A process begins to gossip, before it has joined.
    pub(super) fn begin_sharing(&mut self, id: ProcessId) {
        self.share(id, Input::Start, None);
        self.write_value(id);
    }

    /// A process that leaves gossips no longer.
    pub(super) fn end_sharing(&mut self, id: ProcessId) {
        self.share(id, Input::Stop, None);
    }

    /// The members may be others, or who is held.
    pub(super) fn refresh(&mut self, id: ProcessId) {
        let process = &mut self.processes[id.index()];
        let local = process.clock.at(self.now);
        let (Some(node), Some(sharing)) = (&process.node, &mut process.sharing) else { return };
        let downing = process.downing.as_ref();
        let holds = |member| downing.is_some_and(|downing| downing.holds(member));
        let (input, timer) = sharing.roster().refresh(local, node.machine(), holds);
        if let Some(timer) = timer {
            let after = process.clock.real(timer.after);
            let what = Parcel::Unblock(timer.epoch);
            self.queue.push(self.now + after, Happening::Shared { process: id, what });
        }
        self.aggregate(id, input);
    }

    pub(super) fn aggregate(&mut self, id: ProcessId, input: topology::Input) {
        let process = &mut self.processes[id.index()];
        let local = process.clock.at(self.now);
        let Some(sharing) = &mut process.sharing else { return };
        let (updated, timer) = sharing.aggregate(local, input);
        if let Some((epoch, after)) = timer {
            let after = process.clock.real(after);
            self.queue.push(self.now + after, Happening::Shared { process: id, what: Parcel::Window(epoch) });
        }
        let Some(updated) = updated else { return };
        let me = process.id;
        let members = updated.topology.members().iter().map(|member| member.id).filter(|id| *id != me).collect();
        let value = topology_value(updated.topology.hash());
        // Asked is who has left, not the observer: it may have forgotten what it was told, or never have been. But who
        // is disturbed while another lies may be taken at the word of the liar.
        let has_said = |id: MemberId| self.process_of(id).is_some_and(|id| self.processes[id.index()].leaves);
        let unsaid = updated.left.iter().map(|member| member.id).find(|id| !self.has_lied && !has_said(*id));
        let Some(sharing) = &self.processes[id.index()].sharing else { return };
        self.checker.topology_updated(self.now, id, &updated, unsaid, sharing.topology());
        self.share(id, Input::MembersChanged { members }, None);
        self.share(id, Input::Set { key: topology_key(), value }, None);
    }

    /// Something happens to the sharing of a process that runs.
    pub(super) fn parcel(&mut self, id: ProcessId, what: Parcel) {
        match what {
            Parcel::Window(epoch) => self.aggregate(id, topology::Input::Timer(epoch)),
            Parcel::Unblock(epoch) => {
                let sharing = self.processes[id.index()].sharing.as_mut();
                if sharing.is_some_and(|sharing| sharing.roster().fired(epoch)) {
                    self.refresh(id);
                }
            }
            Parcel::Round(epoch) => self.share(id, Input::Timer(epoch), None),
            Parcel::Write => self.write_value(id),
            Parcel::Delta { from, delta, deadline } => {
                // Answered within this step: one name is enough.
                let request = RequestId::new(0);
                let asked = Asked { by: from, id: delta.id, deadline };
                let from = self.processes[from.index()].id;
                self.share(id, Input::Requested { request, from, delta }, Some(asked));
            }
            Parcel::Answer { from, id: delta, answer, deadline } => {
                let from = self.processes[from.index()].id;
                let input = match answer {
                    Some(ack) if self.now <= deadline => Input::Answered { from, ack },
                    _ => Input::Failed { to: from, delta },
                };
                self.share(id, input, None);
            }
        }
    }

    /// Nobody is there to take it.
    pub(super) fn parcel_lost(&mut self, to: ProcessId, what: Parcel) {
        if let Parcel::Delta { from, delta, deadline } = what {
            let what = Parcel::Answer { from: to, id: delta.id, answer: None, deadline };
            self.queue.push(deadline, Happening::Shared { process: from, what });
        }
    }

    fn write_value(&mut self, id: ProcessId) {
        let Some(config) = self.config.sharing.clone() else { return };
        let Some(sharing) = &mut self.processes[id.index()].sharing else { return };
        let (input, pause) = (sharing.write(), sharing.pause(&config));
        self.share(id, input, None);
        if self.now + pause <= config.write_until {
            self.queue.push(self.now + pause, Happening::Shared { process: id, what: Parcel::Write });
        }
    }

    fn share(&mut self, id: ProcessId, input: Input, asked: Option<Asked>) {
        let process = &mut self.processes[id.index()];
        let local = process.clock.at(self.now);
        let (me, clock) = (process.id, process.clock);
        let Some(sharing) = &mut process.sharing else { return };
        let stops = input == Input::Stop;
        let told = matches!(input, Input::MembersChanged { .. });
        let writes = matches!(input, Input::Set { .. } | Input::Remove { .. } | Input::Refresh { .. });
        let mut out = Outbox::new();
        let events = sharing.handle(local, input, &mut out);
        let forged = self.has_forged_values;
        let step = Step { at: self.now, observer: id, me, stops, told, writes, forged };
        self.checker.shared(step, &events, sharing);
        let digest = sharing.gossip().digest().get();
        self.mix(digest ^ u64::from(id.0));
        for effect in out.drain_effects() {
            match effect {
                Effect::Send { to, delta } => self.send_delta(id, to, delta),
                Effect::Answer { answer, .. } => {
                    if let Some(asked) = asked {
                        self.answer_delta(id, asked, answer);
                    }
                }
                Effect::SetTimer { after, epoch } => {
                    let after = clock.real(after);
                    self.queue.push(self.now + after, Happening::Shared { process: id, what: Parcel::Round(epoch) });
                }
            }
        }
    }

    fn send_delta(&mut self, id: ProcessId, to: MemberId, delta: Delta) {
        let (Some(target), Some(config)) = (self.process_of(to), &self.config.sharing) else { return };
        let deadline = self.now + config.gossip.request_timeout;
        let (here, there) = (self.processes[id.index()].host, self.processes[target.index()].host);
        let parcel = |delta| Happening::Shared { process: target, what: Parcel::Delta { from: id, delta, deadline } };
        match self.network.pass_by(&mut self.sharing_rng, here, there) {
            Passage::Cut | Passage::Lost => self.parcel_lost(target, Parcel::Delta { from: id, delta, deadline }),
            Passage::Once(after) => self.queue.push(self.now + after, parcel(delta)),
            Passage::Twice(after, again) => {
                self.queue.push(self.now + after, parcel(delta.clone()));
                self.queue.push(self.now + again, parcel(delta));
            }
        }
    }

    fn answer_delta(&mut self, id: ProcessId, asked: Asked, answer: Result<DeltaAck, Refusal>) {
        let Asked { by, id: delta, deadline } = asked;
        let (here, there) = (self.processes[id.index()].host, self.processes[by.index()].host);
        let at = match self.network.pass_by(&mut self.sharing_rng, here, there) {
            Passage::Once(after) | Passage::Twice(after, _) => self.now + after,
            Passage::Cut | Passage::Lost => deadline.max(self.now) + Duration::from_nanos(1),
        };
        let what = Parcel::Answer { from: id, id: delta, answer: answer.ok(), deadline };
        self.queue.push(at, Happening::Shared { process: by, what });
    }

    /// Whether all who take part hold the same values of exactly those who take part, and go by the same topology; else
    /// who does not. Always so where nothing is shared.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn sharing_agreed(&self) -> Result<(), String> {
        let running: Vec<_> = self.running_nodes().collect();
        if running.len() == 1 && running.iter().any(|(_, node)| node.machine().is_isolated()) {
            return Ok(());
        }
        let members: BTreeSet<_> = running.iter().map(|(_, node)| node.machine().me().id()).collect();
        let sharing = |id: ProcessId| self.processes[id.index()].sharing.as_ref();
        let mut first = None;
        for (id, _) in &running {
            let Some(shared) = sharing(*id) else { return Ok(()) };
            self.checker.rests(*id, shared, &members).map_err(|what| format!("{} {what}", self.name(*id)))?;
            let all = (shared.topology().hash(), shared.gossip().digest());
            match first {
                None => first = Some((*id, all)),
                Some((other, expected)) if expected != all => {
                    return Err(format!("{} and {} hold {expected:?} and {all:?}", self.name(other), self.name(*id)));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
