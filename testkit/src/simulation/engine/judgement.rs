//! Whether what members do to others that run is right.

use gristmill_core::MemberStatus;
use gristmill_core::Timestamp;
use gristmill_core::membership::{Membership, Phase, QuarantineReason, Record};
use gristmill_messages::{Incarnation, MemberId};

use super::{ProcessId, Simulation};
use crate::simulation::history::Observation;

impl Simulation {
    /// A process holds another for dead; by itself, or because it was told.
    pub(super) fn buried(&mut self, observer: ProcessId, subject: ProcessId, reason: QuarantineReason) {
        if matches!(reason, QuarantineReason::Declared { .. }) || !self.is_running(subject) {
            return;
        }
        let since = self.both_healthy_since(observer, subject);
        self.history.falsely_declared(subject, self.now);
        // Who is held for dead itself is about to learn it: its word counts for nothing any more.
        if self.history.condemned_by(observer) > 0 {
            return;
        }
        if self.is_calm_since(since) {
            let calm = self.now.since(since);
            let (observer, subject) = (self.name(observer), self.name(subject));
            let rule =
                || format!("{observer} declares {subject} dead ({reason}), which runs and was well for {calm:?}");
            self.checker.accuracy(self.now, rule);
        }
    }

    /// What no member does to another that runs: hold it for dead, as the first, because others say so; and go on to
    /// hold it for dead until the quarantine ends, though it is held for living in turn: it has obeyed by then, or
    /// denied.
    pub(super) fn check_end(&mut self, observation: &Observation) {
        let Observation { observer, subject, from, to, .. } = *observation;
        let (Some(node), Some(other)) = (&self.processes[observer.index()].node, &self.processes[subject.index()].node)
        else {
            return;
        };
        let (observing, observed) = (self.processes[observer.index()].id, self.processes[subject.index()].id);
        let since = self.both_healthy_since(observer, subject);
        let declared = matches!(node.machine().reason(observed), Some(QuarantineReason::Declared { .. }));
        let known = from.is_some() && observer != subject;
        let first = self.history.condemned_by(subject) == 1;
        let believes = to == MemberStatus::Dead && known && declared && first && self.is_calm_since(since);
        // From the beginning, if nothing is noted.
        let since_when = self.history.up(observer).iter().rev().find(|(who, _)| *who == subject);
        let trusts = other.machine().phase() == Phase::Up
            && other.machine().status(observing).is_some_and(|status| status < MemberStatus::Suspect)
            && since_when.is_none_or(|(_, at)| self.is_calm_since(*at));
        let ends = to == MemberStatus::Removed && from == Some(MemberStatus::Dead);
        // Two sides that hold each other for dead, which one that came since belongs to both of: neither is wrong.
        let lives = |here: &Membership, member| here.status(member).is_some_and(|status| status < MemberStatus::Dead);
        let third = |member: &MemberId| ![observing, observed].contains(member);
        let others = other.machine().records().map(Record::id).filter(third);
        let mut companions = others.filter(|member| lives(other.machine(), *member)).peekable();
        let apart = companions.peek().is_some() && !companions.any(|member| lives(node.machine(), member));
        if believes {
            let (observer, subject) = (self.name(observer), self.name(subject));
            let what = || format!("{observer} holds {subject} for dead because it is told so, as nobody else does");
            self.checker.hearsay(self.now, what);
        } else if ends && trusts && !apart && self.is_calm_since(since) {
            let (observer, subject) = (self.name(observer), self.name(subject));
            let what = || format!("{observer} has held {subject} for dead for the whole quarantine, which serves");
            self.checker.unsettled(self.now, what);
        }
    }

    fn both_healthy_since(&self, one: ProcessId, other: ProcessId) -> Timestamp {
        let [one, other] = [one, other].map(|process| self.processes[process.index()].host);
        self.healthy_since(one).max(self.healthy_since(other))
    }

    /// Whether nothing has been wrong for longer than the shortest suspicion and two probe intervals.
    pub(super) fn is_calm_since(&self, since: Timestamp) -> bool {
        let timing = &self.config.membership;
        let spread = (self.hosts.len() as f64).log10().max(1.0);
        let most = timing.probe_interval.mul_f64(f64::from(timing.suspicion_multiplier) * spread + 2.0);
        self.now.since(since) > most
    }

    /// The version of a member that an observer knows.
    pub(super) fn version_of(&self, observer: ProcessId, member: MemberId) -> Option<Incarnation> {
        let node = self.processes[observer.index()].node.as_ref()?;
        node.machine().records().find(|record| record.id() == member).map(Record::incarnation)
    }

    /// A process stops because it was told that it is dead. Where two others could have said so, and it was well,
    /// somebody holds it for dead.
    pub(super) fn check_eviction(&mut self, id: ProcessId) {
        let process = &self.processes[id.index()];
        let Some(node) = &process.node else { return };
        let others = || node.machine().records().filter(|record| record.id() != process.id && !record.is_terminal());
        let suspects = others().any(|record| record.status() == MemberStatus::Suspect);
        let alone = others().count() < 2 || suspects || self.history.condemned_by(id) > 0;
        if !alone && self.is_calm_since(self.healthy_since(process.host)) {
            let what = format!("{} stops as dead, though nobody holds it for that", self.name(id));
            self.checker.hearsay(self.now, || what);
        }
    }
}
