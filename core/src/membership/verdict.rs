//! Judging others: probes, suspicion, death, and the way to being forgotten.

use gristmill_messages::MemberId;

use super::record::{Record, Verdict};
use super::{Event, Membership, Outbox, ProbeSequence, QuarantineReason, Refusal, Task};
use crate::{MemberStatus, Timestamp};

impl Membership {
    pub(super) fn probe(&mut self, now: Timestamp, out: &mut Outbox) {
        self.agenda.schedule(Task::Probe, now + self.config.probe_interval);
        let table = &self.table;
        let probe = self.detector.probe(&mut self.rng, || table.living().map(Record::id).collect());
        if let Some((sequence, member)) = probe {
            self.agenda.schedule(Task::ProbeTimeout(sequence), now + self.config.probe_timeout);
            self.ping(member, sequence, out);
        }
    }

    pub(super) fn probe_timed_out(&mut self, now: Timestamp, sequence: ProbeSequence, out: &mut Outbox) {
        if let Some(member) = self.detector.timed_out(sequence)
            && let Some(record) = self.table.get(member)
        {
            let suspect = record.claimed(Verdict::Suspect, self.me().id());
            self.learn(now, &suspect, out);
        }
    }

    /// Declares a living member dead.
    pub(super) fn judge(
        &mut self,
        now: Timestamp,
        member: MemberId,
        verdict: Verdict,
        reason: QuarantineReason,
        out: &mut Outbox,
    ) {
        if let Some(record) = self.table.get(member).filter(|record| !record.is_terminal()) {
            let judged = record.claimed(verdict, self.me().id());
            self.learn_because(now, &judged, Some(reason), out);
        }
    }

    pub(super) fn down(&mut self, now: Timestamp, member: MemberId, out: &mut Outbox) {
        let from = self.status(member);
        let reason = match from {
            _ if member == self.me().id() => Refusal::Oneself,
            None => Refusal::UnknownMember,
            Some(MemberStatus::Dead | MemberStatus::Removed) => Refusal::Final,
            Some(_) => return self.judge(now, member, Verdict::Dead, QuarantineReason::Decided, out),
        };
        out.event(Event::TransitionRefused { member, from, to: MemberStatus::Dead, reason });
    }

    /// The next step of forgetting: dead, removed, lapsed, unknown.
    pub(super) fn expire(&mut self, now: Timestamp, member: MemberId, out: &mut Outbox) {
        match self.table.get(member) {
            Some(record) if record.status() == MemberStatus::Dead => {
                let removed = record.claimed(Verdict::Removed, self.me().id());
                self.learn(now, &removed, out);
            }
            Some(_) => {
                self.news.remove(member);
                self.table.lapse(member);
                self.agenda.schedule(Task::Expire(member), now + self.config.lapse_ttl());
            }
            None => self.table.forget(member),
        }
    }
}
