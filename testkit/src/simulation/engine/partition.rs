//! Who goes on when the cluster splits: drives `core::downing` beside the membership, as a shell does.

use std::time::Duration;

use gristmill_core::downing::{self, Effect, Event, Side};
use gristmill_core::membership::{Input, Phase};
use gristmill_core::{MemberStatus, Outbox, Timestamp};
use gristmill_messages::MemberId;

use super::{End, Happening, ProcessId, Simulation};
use crate::simulation::history::Release;
use crate::simulation::node::Bug;

/// For so long the views had been settled when the history begins: longer than a member takes to settle.
const SETTLED: Duration = Duration::from_secs(60);

impl Simulation {
    /// Tells the downing of a process that its members have been the same for long.
    pub(super) fn settle_downing(&mut self, id: ProcessId) {
        let process = &mut self.processes[id.index()];
        let begin = process.clock.at(Timestamp::ZERO);
        let (Some(downing), Some(node)) = (&mut process.downing, &process.node) else { return };
        let before = Timestamp::new(begin.since_origin().saturating_sub(SETTLED));
        let observed = downing::observe(node.machine());
        let other = observed.iter().map(|observed| observed.id).find(|other| *other != process.id);
        let inputs = [(before, Some(downing::Input::Observed(observed)))];
        let answered = other.map(|member| downing::Input::Answered { member });
        let mut out = Outbox::new();
        let mut due = None;
        for (now, input) in inputs.into_iter().chain([(begin, answered)]) {
            let Some(input) = input else { continue };
            downing.handle(now, input, &mut out);
            for effect in out.drain_effects() {
                if let Effect::SetTimer(timer) = effect {
                    due = Some((timer.epoch, now + timer.after));
                }
            }
        }
        if let Some((epoch, at)) = due {
            let after = process.clock.real(at.since(begin));
            self.queue.push(Timestamp::ZERO + after, Happening::Judge { process: id, epoch });
        }
    }

    /// Tells the downing what the members are now.
    pub(super) fn judge_members(&mut self, id: ProcessId) {
        let process = &self.processes[id.index()];
        if let (Some(node), Some(_)) = (&process.node, &process.downing) {
            let observed = downing::observe(node.machine());
            self.judge(id, downing::Input::Observed(observed));
        }
    }

    /// Does what the downing of a process says, as long as that process is a member.
    pub(super) fn judge(&mut self, id: ProcessId, input: downing::Input) {
        let process = &mut self.processes[id.index()];
        let local = process.clock.at(self.now);
        let (Some(downing), Some(node)) = (&mut process.downing, &process.node) else { return };
        if node.machine().phase() != Phase::Up {
            return;
        }
        let mut out = Outbox::new();
        downing.handle(local, input, &mut out);
        let mut winners = Vec::new();
        for Event::Decided(decision) in out.drain_events() {
            if decision.chosen == Side::This {
                winners.clone_from(&decision.reachable);
            }
            self.history.decisions.push((self.now, id, decision));
        }
        let effects: Vec<_> = out.drain_effects().collect();
        for effect in effects {
            match effect {
                Effect::SetTimer(timer) => {
                    let after = self.processes[id.index()].clock.real(timer.after);
                    self.queue.push(self.now + after, Happening::Judge { process: id, epoch: timer.epoch });
                }
                Effect::Poll { members } => self.feed(id, Input::Poll { members }),
                Effect::Check { members } => self.feed(id, Input::Check { members }),
                Effect::Restrain(restrained) => self.feed(id, Input::Restrain(restrained)),
                Effect::Fence if self.config.bug == Some(Bug::NeverFences) => {}
                Effect::Fence => self.stopped(id, End::Fenced),
                Effect::Release { members } => self.release(id, &members, &winners),
            }
        }
    }

    /// `winners`: the side of a decision; nobody when there was none.
    fn release(&mut self, by: ProcessId, members: &[MemberId], winners: &[MemberId]) {
        for member in members {
            if let Some(subject) = self.process_of(*member)
                && !winners.is_empty()
            {
                self.history.released.push(Release { at: self.now, by, subject });
                self.history.armed += usize::from(!self.excused);
                if self.is_serving(subject) && self.has_known_any(subject, winners) && !self.excused {
                    let (by, subject) = (self.name(by), self.name(subject));
                    self.checker.split(self.now, || format!("{by} has released {subject}, which serves"));
                }
            }
            let node = self.processes[by.index()].node.as_ref();
            let status = node.and_then(|node| node.machine().status(*member));
            if status.is_some_and(|status| status < MemberStatus::Dead) {
                self.feed(by, Input::Down { member: *member });
            }
        }
        self.refresh(by);
    }

    /// Who was cut off forms no cluster beside somebody from whom it was.
    pub(super) fn check_formed(&mut self, id: ProcessId) {
        let process = &self.processes[id.index()];
        let Some((_, counted)) = &self.hosts[process.host.index()].cut_off else { return };
        let alone = process.node.as_ref().is_some_and(|node| node.machine().records().count() == 1);
        let goes_on =
            counted.iter().filter_map(|member| self.process_of(*member)).find(|other| self.is_serving(*other));
        if let Some(other) = goes_on.filter(|_| alone && !self.excused) {
            let (name, other) = (self.name(id), self.name(other));
            self.checker.split(self.now, || format!("{name} has formed a cluster beside {other}, which serves"));
        }
    }

    /// Whether it runs as a member.
    pub(crate) fn is_serving(&self, process: ProcessId) -> bool {
        let node = self.processes[process.index()].node.as_ref();
        node.is_some_and(|node| node.machine().phase() == Phase::Up)
    }

    /// Who has not known anybody of the winners for longer than a suspicion takes was not in one cluster with them when
    /// they began to wait: a seed that was started alone has formed an island, of which they have heard, and it has
    /// heard nothing of them until just now.
    fn has_known_any(&self, process: ProcessId, members: &[MemberId]) -> bool {
        let Some(node) = &self.processes[process.index()].node else { return false };
        let is_known_for_long = |member: &MemberId| {
            let up = self.process_of(*member).map_or(&[][..], |winner| self.history.up(winner));
            let noted = up.iter().find(|(observer, _)| *observer == process);
            node.machine().status(*member).is_some() && noted.is_none_or(|(_, at)| self.is_calm_since(*at))
        };
        members.iter().any(is_known_for_long)
    }
}
