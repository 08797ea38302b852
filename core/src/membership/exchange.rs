//! What members say to each other, and what of it is believed.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use gristmill_messages::MemberId;
use rand::seq::SliceRandom;

use super::dissemination::Dissemination;
use super::record::Record;
use super::{Effect, Event, Membership, Message, Outbox, Phase, ProbeSequence, Task};
use crate::{MemberStatus, Timestamp};

impl Membership {
    pub(super) fn received(&mut self, now: Timestamp, from: MemberId, message: Message, out: &mut Outbox) {
        let (records, digest) = match &message {
            Message::Ping { updates, digest, .. }
            | Message::PingAck { updates, digest, .. }
            | Message::Gossip { updates, digest } => (updates, Some(*digest)),
            Message::Sync { records, .. } => (records, None),
        };
        if !self.hears(from, &message, records, out) {
            return;
        }
        let mut news = false;
        for record in records {
            news |= self.learn(now, record, out);
            if self.phase == Phase::Stopped {
                return;
            }
        }
        // What has just brought news is no sign of a lasting difference: the rest may be on its way. Polls go to all
        // members while views differ anyway.
        let differs = digest.is_some_and(|digest| digest != self.table.digest()) && !news && !message.is_poll();
        match message {
            Message::Ping { sequence, .. } => self.pinged(now, from, sequence, out),
            Message::PingAck { sequence, .. } => {
                if self.detector.answered(sequence, from) {
                    self.agenda.cancel(Task::ProbeTimeout(sequence));
                }
            }
            Message::Gossip { .. } => {}
            Message::Sync { records, reply_wanted } => {
                if reply_wanted {
                    self.reply_sync(from, &records, out);
                }
            }
        }
        if differs && self.phase != Phase::Joining {
            self.sync(now, from, out);
        }
    }

    /// Whether anything of the message may be believed. Its sender is a living member or introduces itself. Nothing is
    /// learned from the dead: they are told, when they ask for an answer, so that two nodes that hold each other for
    /// dead do not go on for ever.
    fn hears(&self, from: MemberId, message: &Message, records: &[Record], out: &mut Outbox) -> bool {
        let Some(known) = self.table.get(from) else {
            let introduces = |record: &Record| record.id() == from && !record.is_terminal();
            let introduced = records.iter().any(introduces) && !self.table.has_lapsed(from);
            if !introduced {
                out.event(Event::SenderUnknown { member: from });
            }
            return introduced;
        };
        if known.is_terminal() && matches!(message, Message::Ping { .. }) {
            let message = Message::Gossip { updates: [known.clone()].into(), digest: self.table.digest() };
            out.effect(Effect::Send { to: from, address: known.member().address.clone(), message });
        }
        from != self.me().id() && !known.is_terminal()
    }

    fn pinged(&mut self, now: Timestamp, from: MemberId, sequence: ProbeSequence, out: &mut Outbox) {
        if self.phase == Phase::Joining {
            self.joining.reached = true;
            self.join_if_ready(now, out);
        }
        // Who leaves says so to all who ask: there may be no other occasion.
        let updates = self.updates_for(from, self.phase == Phase::Leaving);
        self.send(from, Message::PingAck { sequence, updates, digest: self.table.digest() }, out);
    }

    pub(super) fn ping(&mut self, to: MemberId, sequence: ProbeSequence, out: &mut Outbox) {
        let updates = self.updates_for(to, true);
        self.send(to, Message::Ping { sequence, updates, digest: self.table.digest() }, out);
    }

    /// Pings that nobody waits for, and that carry no news: they must not use up how often news are sent.
    pub(super) fn poll(&self, members: &[MemberId], out: &mut Outbox) {
        for to in members.iter().copied() {
            let claimed = self.table.get(to).filter(|record| record.claim().is_some());
            let updates = claimed.into_iter().chain([self.me()]).cloned().collect();
            let message = Message::Ping { sequence: ProbeSequence::POLL, updates, digest: self.table.digest() };
            self.send(to, message, out);
        }
    }

    /// Compares tables in full with a peer whose digest differs, at most once in each `sync_interval`.
    fn sync(&mut self, now: Timestamp, with: MemberId, out: &mut Outbox) {
        let recent = |at: Timestamp| now.since(at) < self.config.sync_interval;
        if !self.table.synced_at(with).is_some_and(recent) {
            self.table.set_synced_at(with, now);
            let records = self.table.records().cloned().collect();
            self.send(with, Message::Sync { records, reply_wanted: true }, out);
        }
    }

    /// Sends what the other knows less of. Tombstones only where the other believes in the member.
    fn reply_sync(&self, to: MemberId, theirs: &[Record], out: &mut Outbox) {
        let theirs: BTreeMap<_, _> = theirs.iter().map(|record| (record.id(), record)).collect();
        let lacks = |record: &&Record| match theirs.get(&record.id()) {
            Some(known) => known != record,
            None => record.status() != MemberStatus::Removed,
        };
        let records: Vec<_> = self.table.records().filter(lacks).cloned().collect();
        if !records.is_empty() {
            self.send(to, Message::Sync { records, reply_wanted: false }, out);
        }
    }

    pub(super) fn gossip(&mut self, out: &mut Outbox) {
        for to in self.random_members(self.config.gossip_fanout) {
            let updates = self.updates_for(to, false);
            if updates.is_empty() {
                break;
            }
            self.send(to, Message::Gossip { updates, digest: self.table.digest() }, out);
        }
        if self.table.living().next().is_none() {
            self.news = Dissemination::default();
        }
    }

    /// News for this member: first what is claimed of itself, so that it can refute at once.
    pub(super) fn updates_for(&mut self, to: MemberId, introduce: bool) -> Vec<Record> {
        let mut ids = Vec::new();
        if self.table.get(to).is_some_and(|record| record.claim().is_some()) {
            ids.push(to);
        }
        if introduce {
            ids.push(self.me().id());
        }
        let room = self.config.max_updates_per_message.saturating_sub(ids.len());
        let retransmits = self.config.retransmits(self.table.size());
        let picked = self.news.pick(room, retransmits, &ids);
        ids.into_iter().chain(picked).filter_map(|id| self.table.get(id)).cloned().collect()
    }

    /// To living members only.
    pub(super) fn send(&self, to: MemberId, message: Message, out: &mut Outbox) {
        if let Some(record) = self.table.get(to).filter(|record| !record.is_terminal()) {
            out.effect(Effect::Send { to, address: record.member().address.clone(), message });
        }
    }

    pub(super) fn random_members(&mut self, count: usize) -> Vec<MemberId> {
        let mut ids: Vec<_> = self.table.living().map(Record::id).collect();
        let (chosen, _) = ids.partial_shuffle(&mut self.rng, count);
        chosen.to_vec()
    }
}
