//! Learning: what a merged record sets off, and what this node says of itself.

use alloc::sync::Arc;

use gristmill_messages::{Incarnation, MemberId};
use rand::RngExt;

use super::dissemination::Urgency;
use super::explanation::{Accusation, SuspicionOutcome};
use super::record::{Record, Stage, Verdict};
use super::suspicion::Suspicion;
use super::{Event, Evidence, JoinError, Membership, Outbox, Phase, QuarantineReason, Refusal, Task};
use crate::{MemberStatus, Timestamp};

/// How this node came to know something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// From another: whose message it was in.
    Heard(Option<MemberId>),
    /// It accuses by itself.
    Accused(Evidence),
    /// It has decided.
    Judged(QuarantineReason),
}

/// Of those who hear of a suspicion about so many probe the suspect at once: twice as many as are needed to confirm it
/// when it is dead, and to tell it when it lives.
const HASTENED_BY: usize = 6;

/// So many times each node tells of one more accuser.
const ACCUSERS_TOLD: u32 = 2;

impl Membership {
    /// Takes over what a record, said by `from`, says better than the table; whether it was news.
    pub(super) fn learn(
        &mut self,
        now: Timestamp,
        from: Option<MemberId>,
        record: &Arc<Record>,
        out: &mut Outbox,
    ) -> bool {
        if record.id() == self.me().id() {
            self.hear_of_me(now, from, record, out)
        } else {
            self.learn_from(now, record, Source::Heard(from), out)
        }
    }

    pub(super) fn learn_from(
        &mut self,
        now: Timestamp,
        record: &Arc<Record>,
        source: Source,
        out: &mut Outbox,
    ) -> bool {
        debug_assert_ne!(record.id(), self.me().id(), "this node writes its record, nobody else");
        let merged = self.table.merge(record);
        let (id, from, to) = (record.id(), merged.from, merged.to);
        if let Some(reason) = merged.refused {
            self.refuse(now, record, reason, out);
        }
        if !merged.changed {
            return false;
        }
        if from.is_none() {
            self.hearsay.know(id);
            if source == Source::Heard(None) {
                self.inherit(id, to);
            }
        }
        // What a joiner is told by those who let it in is no news to them. Nor is who else says what all know.
        if self.phase != Phase::Joining && merged.weightier && self.inheritance.is_told(id) {
            let urgency = if to == MemberStatus::Suspect { Urgency::Second } else { Urgency::First };
            // One more accuser of a suspect only hastens, and it is enough that somebody knows of all in time.
            let most = self.config.retransmits(self.table.size());
            let repeated = from == Some(to) && !merged.rewritten;
            self.news.enqueue_after(id, urgency, if repeated { most.saturating_sub(ACCUSERS_TOLD) } else { 0 });
            // What this node has found itself it tells at once, and what it hears with the next round.
            if !matches!(source, Source::Heard(_)) {
                self.agenda.schedule(Task::Gossip, now);
            }
        }
        let changed = from != Some(to);
        match to {
            MemberStatus::Joining | MemberStatus::Up | MemberStatus::Leaving => {
                self.unsuspect(now, id);
            }
            MemberStatus::Suspect => {
                if changed || merged.rewritten {
                    self.agenda.cancel(Task::Suspicion(id));
                    self.suspicions.insert(id, Suspicion::new(now));
                    self.chronicle.begin(id);
                    self.breaker.note_begun(now, &self.config);
                }
                self.time_suspicion(now, id);
            }
            MemberStatus::Dead => {
                if changed {
                    self.bury(id, now + self.config.quarantine_ttl);
                    let by = record.asserted_by();
                    let reason = match source {
                        Source::Judged(reason) => reason,
                        Source::Heard(_) | Source::Accused(_) => QuarantineReason::Declared { by: by.unwrap_or(id) },
                    };
                    self.table.set_reason(id, reason);
                    self.chronicle.ended(id, SuspicionOutcome::Dead { by, reason, at: now });
                }
            }
            MemberStatus::Removed => {
                if changed {
                    self.bury(id, now + self.config.tombstone_ttl);
                    self.chronicle.ended(id, SuspicionOutcome::Removed { at: now });
                }
            }
        }
        self.tell(now, id, from, to, out);
        if to == MemberStatus::Suspect {
            self.note_accusers(now, id, source, changed || merged.rewritten, out);
        }
        if to == MemberStatus::Dead {
            self.bound_quarantine(now, out);
        }
        true
    }

    /// Remembers who accuses, says so when it is the first, and has the suspect probed by some of those who hear of it.
    fn note_accusers(&mut self, now: Timestamp, id: MemberId, source: Source, begins: bool, out: &mut Outbox) {
        let Some(record) = self.table.get(id) else { return };
        let me = self.me().id();
        for by in record.authors() {
            let evidence = match source {
                Source::Accused(evidence) if *by == me => evidence,
                _ => Evidence::Reported,
            };
            self.chronicle.accused(id, Accusation { by: *by, at: now, evidence });
        }
        if begins && let Some(by) = record.asserted_by() {
            let evidence = if let Source::Accused(evidence) = source { evidence } else { Evidence::Reported };
            out.event(Event::Suspected { member: id, by, evidence, observed_at: now });
            self.review_evictions(now, out);
            let others = u32::try_from(self.table.size()).unwrap_or(u32::MAX);
            let share = u32::try_from(HASTENED_BY).unwrap_or(u32::MAX).min(others);
            if matches!(source, Source::Heard(_)) && self.rng.random_ratio(share, others) {
                self.detector.hasten(id);
            }
        }
    }

    /// It lives, and has said so.
    pub(super) fn unsuspect(&mut self, now: Timestamp, member: MemberId) {
        self.hearsay.forget_lives(member);
        if self.suspicions.remove(&member).is_some() {
            self.agenda.cancel(Task::Suspicion(member));
            self.breaker.note_refuted(now, &self.config);
            self.refusals.refuted(member);
            self.stats.refuted += 1;
            if let Some(record) = self.table.get(member) {
                let incarnation = record.incarnation();
                self.chronicle.ended(member, SuspicionOutcome::Refuted { incarnation, at: now });
            }
        }
    }

    /// Neither probed nor suspected any more, and to be forgotten.
    fn bury(&mut self, member: MemberId, until: Timestamp) {
        for sequence in self.detector.probes_of(member, false) {
            self.agenda.cancel(Task::ProbeTimeout(sequence));
            self.agenda.cancel(Task::ProbeEnd(sequence));
        }
        for (sequence, _) in self.detector.relays_to(member) {
            self.agenda.cancel(Task::RelayTimeout(sequence));
        }
        self.refusals.forget(member);
        self.hearsay.forget(member);
        self.suspicions.remove(&member);
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

    /// What others say of this node: a suspicion is refuted, and a death too until it is believed.
    fn hear_of_me(&mut self, now: Timestamp, from: Option<MemberId>, record: &Record, out: &mut Outbox) -> bool {
        let me = self.me();
        let mut heard = me.clone();
        if me.stage() == Stage::Removed || !heard.merge(record) {
            return false;
        }
        if record.claim().is_some_and(|claim| claim.verdict > Verdict::Suspect) {
            if self.believes_own_death(now, from) {
                self.evicted(now, &heard, out);
                return true;
            }
            // Against an earlier version it is refuted already.
            let refutes = record.incarnation() >= self.me().incarnation();
            if refutes {
                self.refute(now, record.incarnation(), out);
            }
            self.ask_about_me(now, from, out);
            return refutes;
        }
        // A stage that this node did not write: a lie, or its id is used by somebody else too.
        if heard.stage() > me.stage().max(Stage::Up) {
            self.refuse(now, &heard, Refusal::Forged, out);
            return false;
        }
        if heard.status() == MemberStatus::Suspect {
            self.refute(now, heard.incarnation(), out);
        } else {
            self.write_after(heard.incarnation());
        }
        true
    }

    /// Writes a version later than the one that is accused.
    fn refute(&mut self, now: Timestamp, accused: Incarnation, out: &mut Outbox) {
        self.write_after(accused);
        // Others did not hear this node: it may be its own fault.
        self.health.worsen(1);
        self.stats.refuted_by_me += 1;
        let incarnation = self.me().incarnation();
        out.event(Event::SuspicionRefuted { member: self.me().id(), incarnation, observed_at: now });
    }

    fn write_after(&mut self, incarnation: Incarnation) {
        let me = self.me();
        self.write_me(Record::new(me.member().clone(), incarnation.next(), me.stage()));
    }

    /// This node enters another stage of its life, and says so.
    pub(super) fn advance(&mut self, now: Timestamp, stage: Stage, out: &mut Outbox) {
        let from = self.me().status();
        self.write_me(self.me().rewritten(stage));
        self.tell(now, self.me().id(), Some(from), self.me().status(), out);
    }

    /// What is known of this member is news to all.
    pub(super) fn spread(&mut self, member: MemberId) {
        self.news.enqueue(member, Urgency::First);
    }

    fn write_me(&mut self, me: Record) {
        self.spread(me.id());
        self.table.write_me(me);
    }

    pub(super) fn evicted(&mut self, now: Timestamp, heard: &Record, out: &mut Outbox) {
        if self.phase == Phase::Joining {
            // Let in, and declared dead before anybody had reached it.
            return self.fail_join(JoinError::NotReached, out);
        }
        let from = self.me().status();
        self.table.write_me(heard.clone());
        self.tell(now, heard.id(), Some(from), heard.status(), out);
        out.event(Event::Evicted { by: heard.asserted_by() });
        self.stop();
    }
}
