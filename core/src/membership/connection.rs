//! What connections say of the process at the other end.
//!
//! A host that refuses connections to a member runs no such process: stronger evidence than silence, and at hand at
//! once. Still one node may be mistaken, by a rule of a firewall between the two. So it accuses and asks others for
//! what they see; two who are refused are enough, of whom one is the node that declares it, and nothing has to be
//! waited for. What they tell each other directly counts, hearsay does not. Where there is nobody to ask, one is
//! enough; where all who could be asked refuse or are suspected too, the suspicion runs its time.

use core::time::Duration;

use gristmill_messages::MemberId;

use super::record::{Stage, Verdict};
use super::{Evidence, Membership, Outbox, PingOutcome, QuarantineReason, Task};
use crate::Timestamp;

impl Membership {
    /// A refusal counts for so many probe intervals.
    const REFUSAL_COUNTS_FOR: u32 = 5;

    pub(super) fn refused(&mut self, now: Timestamp, member: MemberId, out: &mut Outbox) {
        let is_me = member == self.me().id();
        if is_me || self.table.get(member).is_none_or(|record| record.is_terminal()) {
            return;
        }
        if let Some(departed) = self.told_departure(now, member) {
            self.learn(now, None, &departed, out);
            return;
        }
        for sequence in self.detector.probes_of(member, true) {
            self.agenda.cancel(Task::ProbeTimeout(sequence));
        }
        self.refusals.saw(member, self.me().id(), now);
        self.end_isolation(now, out);
        for (sequence, relay) in self.detector.relays_to(member) {
            self.agenda.cancel(Task::RelayTimeout(sequence));
            self.report(relay, PingOutcome::Refused, out);
        }
        // Where others have reached it before, they are asked first.
        if !self.refusals.is_reached_by_others(member) {
            self.accuse(now, member, Evidence::ConnectionRefused, out);
        }
        self.weigh_refusals(now, member, out);
        let decided = self.table.get(member).is_none_or(|record| record.is_terminal());
        if !decided && !self.detector.is_asking(member) {
            let sequence = self.begin_probe(now, member);
            self.ask_others(sequence, member, true, out);
            if self.detector.is_asking(member) {
                let end = now + self.health.scale(self.config.probe_interval);
                self.agenda.schedule(Task::ProbeEnd(sequence), end);
            } else {
                self.detector.ended(sequence);
                self.accuse(now, member, Evidence::ConnectionRefused, out);
            }
        }
    }

    /// Declares a member dead whose host has refused this node and another one.
    pub(super) fn weigh_refusals(&mut self, now: Timestamp, member: MemberId, out: &mut Outbox) {
        let witnesses = self.refusals.witnesses(member, now, self.refusal_ttl());
        // Who said that it leaves may have gone, and its last word be on its way.
        let leaves = self.table.get(member).is_some_and(|record| record.stage() == Stage::Leaving);
        let enough = !leaves && (witnesses >= 2 || self.table.size() == 2);
        if enough && self.refused_me(member, now) {
            self.judge(now, member, Verdict::Dead, QuarantineReason::ConnectionRefused, out);
        }
    }

    /// Whether the host of this member has refused this node lately.
    pub(super) fn refused_me(&self, member: MemberId, now: Timestamp) -> bool {
        self.refusals.has_seen(member, self.me().id(), now, self.refusal_ttl())
    }

    fn refusal_ttl(&self) -> Duration {
        self.config.probe_interval * Self::REFUSAL_COUNTS_FOR
    }
}
