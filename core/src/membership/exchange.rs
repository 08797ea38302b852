//! What members say to each other, and what of it is believed.

use alloc::sync::Arc;
use alloc::vec::Vec;

use gristmill_messages::MemberId;
use rand::RngExt;
use rand::seq::SliceRandom;

use super::failure_detector::Relay;
use super::record::Record;
use super::verdict::tell_the_dead;
use super::{Effect, Event, Evidence, Membership, Message, Outbox, Phase, ProbeSequence, Task};
use crate::{MemberStatus, Timestamp};

/// At one ping of a suspect in so many a node says who it is.
const INTRODUCED_TO_SUSPECTS_ONE_IN: u32 = 4;

impl Membership {
    pub(super) fn received(&mut self, now: Timestamp, from: MemberId, message: Message, out: &mut Outbox) {
        let (records, digest) = message.contents();
        if !self.hears(now, from, &message, records, out) {
            return;
        }
        self.heard(now, out);
        if matches!(message, Message::Ping { .. } | Message::PingAck { .. } | Message::PingRequest { .. }) {
            self.hearsay.deals_with_me(from);
        }
        let (mut news, mut disputed) = (false, false);
        for record in records {
            self.vouch(now, from, record, out);
            // Most records of a comparison are known, and within one process they are the very same.
            if self.table.get(record.id()).is_some_and(|known| Arc::ptr_eq(known, record)) {
                continue;
            }
            if record.id() == from {
                self.replace_at_its_address(now, record, out);
            }
            match self.believed(now, Some(from), record, out) {
                Some(believed) => news |= self.learn(now, Some(from), &believed, out),
                None => disputed = true,
            }
            if self.phase == Phase::Stopped {
                return;
            }
        }
        if let Some(digest) = digest {
            self.news.show(from, digest);
        }
        let agrees = digest == Some(self.table.digest());
        if agrees {
            self.agreed = digest;
            self.vouch_for_equal(now, from, |_| true, out);
        }
        // What has just brought news is no sign of a lasting difference: the rest may be on its way. Nor would a
        // comparison say more of what is in dispute. Polls go to all members while views differ anyway.
        let differs = digest.is_some() && !agrees && !news && !disputed && !message.is_poll();
        match message {
            Message::Ping { sequence, .. } => self.pinged(now, from, sequence, out),
            Message::PingAck { sequence, .. } => self.acknowledged(now, from, sequence, out),
            Message::PingRequest { sequence, target, refused, .. } => {
                self.ping_requested(now, Relay { target, origin: from, sequence }, refused, out);
            }
            Message::PingReport { sequence, target, outcome, .. } => {
                self.ping_reported(now, from, sequence, target, outcome, out);
            }
            Message::Gossip { .. } => {}
            Message::Compare { buckets, .. } => self.answer_comparison(now, from, &buckets, out),
            Message::Sync { records, complete } => self.complete_comparison(from, &records, &complete, out),
        }
        if differs && self.phase != Phase::Joining {
            self.compare(now, from, out);
        }
    }

    /// Whether anything of the message may be believed. Its sender is a living member or introduces itself. Nothing is
    /// learned from the dead: they are told, when they ask for an answer, so that two nodes that hold each other for
    /// dead do not go on for ever.
    ///
    /// But that it lives, in a later version than the condemned one, the dead may say themselves: see
    /// [`hearsay`](super::hearsay).
    fn hears(
        &mut self,
        now: Timestamp,
        from: MemberId,
        message: &Message,
        records: &[Arc<Record>],
        out: &mut Outbox,
    ) -> bool {
        self.hear_inherited(now, from, out);
        if self.reason(from).is_some()
            && let Some(own) = records.iter().find(|record| record.id() == from)
        {
            self.believed(now, Some(from), own, out);
        }
        let Some(known) = self.table.get(from) else {
            let introduces = |record: &Arc<Record>| record.id() == from && !record.is_terminal();
            let introduced = records.iter().any(introduces) && !self.table.has_lapsed(from);
            let known = introduced || self.meet_newcomer(now, from, out);
            if !known {
                out.event(Event::SenderUnknown { member: from });
            }
            return known;
        };
        if known.is_terminal() && matches!(message, Message::Ping { .. }) {
            tell_the_dead(known, self.told_digest(), out);
        }
        from != self.me().id() && !known.is_terminal()
    }

    fn pinged(&mut self, now: Timestamp, from: MemberId, sequence: ProbeSequence, out: &mut Outbox) {
        self.detector.heard(now, from);
        if self.phase == Phase::Joining {
            self.joining.reached = true;
            self.join_if_ready(now, out);
        }
        // Who leaves says so to all who ask: there may be no other occasion.
        let updates = self.updates_for(from, self.phase == Phase::Leaving);
        self.send(from, Message::PingAck { sequence, updates, digest: self.told_digest() }, out);
    }

    pub(super) fn ping(&mut self, to: MemberId, sequence: ProbeSequence, out: &mut Outbox) {
        // When another table is the same as this one, this node is in it; should `to` not know it yet, others do.
        // Unless those others are gone: who does not answer may not know who asks, and is told now and then.
        let silent =
            self.status(to) == Some(MemberStatus::Suspect) && self.rng.random_ratio(1, INTRODUCED_TO_SUSPECTS_ONE_IN);
        let introduce = silent || self.agreed != Some(self.table.digest());
        self.ping_with(to, sequence, introduce, out);
    }

    /// A ping that says who asks, in its latest version.
    pub(super) fn introduce(&mut self, to: MemberId, sequence: ProbeSequence, out: &mut Outbox) {
        self.ping_with(to, sequence, true, out);
    }

    fn ping_with(&mut self, to: MemberId, sequence: ProbeSequence, introduce: bool, out: &mut Outbox) {
        let updates = self.updates_for(to, introduce);
        self.send(to, Message::Ping { sequence, updates, digest: self.told_digest() }, out);
    }

    /// Pings that nobody waits for, and that carry no news: they must not use up how often news is sent.
    pub(super) fn poll(&self, members: &[MemberId], out: &mut Outbox) {
        for to in members.iter().copied() {
            let claimed = self.table.get(to).filter(|record| record.claim().is_some());
            let updates = claimed.into_iter().chain(self.table.get(self.me().id())).cloned().collect();
            let message = Message::Ping { sequence: ProbeSequence::POLL, updates, digest: self.told_digest() };
            self.send(to, message, out);
        }
    }

    /// Probes of members that have left several polls unanswered, which begin where a probe has failed: with others.
    pub(super) fn check(&mut self, now: Timestamp, members: &[MemberId], out: &mut Outbox) {
        for member in members.iter().copied() {
            if self.phase != Phase::Up
                || self.status(member) != Some(MemberStatus::Up)
                || self.detector.is_asking(member)
            {
                continue;
            }
            let sequence = self.begin_probe(now, member);
            self.ask_others(sequence, member, false, out);
            if self.detector.is_asking(member) {
                self.agenda.schedule(Task::ProbeEnd(sequence), now + self.config.probe_interval);
            } else {
                self.detector.ended(sequence);
                self.accuse(now, member, Evidence::ProbeUnanswered, out);
            }
        }
    }

    pub(super) fn gossip(&mut self, out: &mut Outbox) {
        let holders = self.news.holders(self.table.digest());
        let wants = |record: &Record| !holders.contains(&record.id());
        if !self.table.living().any(|record| wants(record)) {
            self.news.forget_shown_by_digests();
        }
        let all = self.news.has_accusations();
        for to in self.random_members(self.config.gossip_fanout, |record| all || wants(record)) {
            let updates = self.updates_for(to, false);
            if !updates.is_empty() {
                self.send(to, Message::Gossip { updates, digest: self.told_digest() }, out);
            }
        }
    }

    /// News for this member: first what is claimed of itself, so that it can refute at once.
    pub(super) fn updates_for(&mut self, to: MemberId, introduce: bool) -> Vec<Arc<Record>> {
        let accused = self.table.get(to).and_then(accusation);
        let mut ids = Vec::from_iter(accused.as_ref().map(|_| to));
        if introduce {
            ids.push(self.me().id());
        }
        let called_dead = self.accusation_of(to);
        let holds = self.news.holds(to, self.table.digest());
        let taken = ids.len() + usize::from(called_dead.is_some());
        let room = self.config.max_updates_per_message.saturating_sub(taken);
        let retransmits = self.config.retransmits(self.table.size());
        let picked = self.news.pick(room, retransmits, &ids, holds);
        let others = ids.into_iter().filter(|id| *id != to).chain(picked);
        let known = others.filter_map(|id| self.table.get(id)).cloned();
        accused.into_iter().chain(called_dead).chain(known).collect()
    }

    /// To living members only.
    pub(super) fn send(&self, to: MemberId, message: Message, out: &mut Outbox) {
        if let Some(record) = self.table.get(to).filter(|record| !record.is_terminal()) {
            out.effect(Effect::Send { to, address: record.member().address.clone(), message });
        }
    }

    /// Up to `count` living members for whom `chosen` holds, each once. Of a large table a few are tried.
    pub(super) fn random_members(&mut self, count: usize, chosen: impl Fn(&Record) -> bool) -> Vec<MemberId> {
        let places = self.table.places();
        let fits = |record: &&Arc<Record>| !record.is_terminal() && chosen(record);
        if places <= 4 * count {
            let mut ids: Vec<_> = self.table.others().filter(fits).map(|record| record.id()).collect();
            let (ids, _) = ids.partial_shuffle(&mut self.rng, count);
            return ids.to_vec();
        }
        let mut ids = Vec::with_capacity(count);
        for _ in 0..8 * count {
            let place = self.rng.random_range(0..places);
            if let Some(record) = self.table.at(place).filter(fits)
                && !ids.contains(&record.id())
            {
                ids.push(record.id());
                if ids.len() == count {
                    break;
                }
            }
        }
        ids
    }
}

/// What the accused needs to know to refute it: by one of its authors, in whatever number they are.
fn accusation(record: &Arc<Record>) -> Option<Arc<Record>> {
    let claim = record.claim()?;
    let single = record.authors().len() == 1;
    Some(if single { Arc::clone(record) } else { Arc::new(record.own_part().claimed(claim.verdict, claim.by)) })
}
