//! Learning: what a merged record sets off, and what this node says of itself.

use gristmill_messages::MemberId;

use super::dissemination::Urgency;
use super::record::{Record, Stage};
use super::{Event, Membership, Outbox, QuarantineReason, Task};
use crate::{MemberStatus, Timestamp};

impl Membership {
    /// Takes over what a record says better than the table; whether it was news.
    pub(super) fn learn(&mut self, now: Timestamp, record: &Record, out: &mut Outbox) -> bool {
        self.learn_because(now, record, None, out)
    }

    pub(super) fn learn_because(
        &mut self,
        now: Timestamp,
        record: &Record,
        reason: Option<QuarantineReason>,
        out: &mut Outbox,
    ) -> bool {
        if record.id() == self.me().id() {
            return self.hear_of_me(now, record, out);
        }
        let merged = self.table.merge(record);
        let (id, from, to) = (record.id(), merged.from, merged.to);
        if let Some(reason) = merged.refused {
            out.event(Event::TransitionRefused { member: id, from, to: record.status(), reason });
        }
        if !merged.changed {
            return false;
        }
        self.news.enqueue(id, if to == MemberStatus::Suspect { Urgency::Second } else { Urgency::First });
        if from.is_none() {
            self.agenda.cancel(Task::Expire(id));
            self.detector.watch(id, &mut self.rng);
        }
        match to {
            MemberStatus::Joining | MemberStatus::Up | MemberStatus::Leaving => {
                self.agenda.cancel(Task::Suspicion(id));
            }
            MemberStatus::Suspect => {
                if from != Some(to) || merged.rewritten {
                    let timeout = self.config.suspicion_timeout(self.table.size());
                    self.agenda.schedule(Task::Suspicion(id), now + timeout);
                }
            }
            MemberStatus::Dead => {
                if from != Some(to) {
                    self.bury(id, now + self.config.quarantine_ttl);
                    let by = record.asserted_by().unwrap_or(id);
                    self.table.set_reason(id, reason.unwrap_or(QuarantineReason::Declared { by }));
                }
            }
            MemberStatus::Removed => {
                if from != Some(to) {
                    self.bury(id, now + self.config.tombstone_ttl);
                }
            }
        }
        self.tell(now, id, from, to, out);
        true
    }

    /// Neither probed nor suspected any more, and to be forgotten.
    fn bury(&mut self, member: MemberId, until: Timestamp) {
        for sequence in self.detector.forget(member) {
            self.agenda.cancel(Task::ProbeTimeout(sequence));
        }
        self.agenda.cancel(Task::Suspicion(member));
        self.agenda.schedule(Task::Expire(member), until);
    }

    pub(super) fn tell(
        &self,
        observed_at: Timestamp,
        id: MemberId,
        from: Option<MemberStatus>,
        to: MemberStatus,
        out: &mut Outbox,
    ) {
        let Some(record) = self.table.get(id).filter(|_| from != Some(to)) else { return };
        let member = record.member().clone();
        out.event(Event::StatusChanged { member: member.clone(), from, to, observed_at });
        match (from, to) {
            (_, MemberStatus::Dead) => {
                if let Some(reason) = self.table.reason(id) {
                    let until = observed_at + self.config.quarantine_ttl;
                    out.event(Event::Quarantined { member, reason, observed_at, until });
                }
            }
            (Some(MemberStatus::Dead), _) => out.event(Event::QuarantineEnded { member, observed_at }),
            (Some(MemberStatus::Suspect), MemberStatus::Joining | MemberStatus::Up | MemberStatus::Leaving) => {
                let incarnation = record.incarnation();
                out.event(Event::SuspicionRefuted { member: id, incarnation, observed_at });
            }
            _ => {}
        }
    }

    /// What others say of this node: a suspicion is refuted, a death is final.
    fn hear_of_me(&mut self, now: Timestamp, record: &Record, out: &mut Outbox) -> bool {
        let me = self.me();
        let mut heard = me.clone();
        if me.stage() == Stage::Removed || !heard.merge(record) {
            return false;
        }
        // A stage that this node did not write: its id is used by somebody else too.
        let impostor = heard.stage() > me.stage().max(Stage::Up);
        if heard.is_terminal() || impostor {
            self.evicted(now, &heard, out);
            return true;
        }
        let suspected = heard.status() == MemberStatus::Suspect;
        let stage = me.stage();
        self.write_me(Record::new(me.member().clone(), heard.incarnation().next(), stage));
        if suspected {
            let incarnation = self.me().incarnation();
            out.event(Event::SuspicionRefuted { member: self.me().id(), incarnation, observed_at: now });
        }
        true
    }

    /// This node enters another stage of its life, and says so.
    pub(super) fn advance(&mut self, now: Timestamp, stage: Stage, out: &mut Outbox) {
        let from = self.me().status();
        self.write_me(self.me().rewritten(stage));
        self.tell(now, self.me().id(), Some(from), self.me().status(), out);
    }

    fn write_me(&mut self, me: Record) {
        self.news.enqueue(me.id(), Urgency::First);
        self.table.write_me(me);
    }

    fn evicted(&mut self, now: Timestamp, heard: &Record, out: &mut Outbox) {
        let from = self.me().status();
        self.table.write_me(heard.clone());
        self.tell(now, heard.id(), Some(from), heard.status(), out);
        out.event(Event::Evicted { by: heard.asserted_by() });
        self.stop();
    }
}
