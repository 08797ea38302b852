//! What is not believed just because somebody says it.
//!
//! Members prove who they are to each other, but nothing proves what they say of third ones. So of what a relay says in
//! the name of another is believed only what cannot do lasting harm, or what the other does not deny:
//!
//! | said of a known member by another | believed |
//! | --- | --- |
//! | a later incarnation, at an earlier or the same stage up to `Up` | yes, unless it is implausibly far ahead: the member writes a later one |
//! | another address | never: an id lives as long as its process, and stays where it is |
//! | that it leaves or has left | when it does not answer a ping, or says so itself |
//! | that it is suspect | yes: the member refutes |
//! | that it is dead, or that a dead one lives | see [`hearsay`](super::hearsay) |

use alloc::sync::Arc;

use gristmill_messages::{Incarnation, MemberId};

use super::record::{Record, Stage, Verdict};
use super::{Event, Membership, Outbox, ProbeSequence, Refusal, Task};
use crate::Timestamp;

/// A departure that awaits the member's own word.
#[derive(Debug)]
pub(super) struct Doubt {
    record: Arc<Record>,
    /// Of the ping that asks the member.
    sequence: ProbeSequence,
}

impl Membership {
    /// Departures that are doubted at the same time; more are not listened to, and will be said again.
    const MOST_DOUBTS: usize = 256;
    /// A step of an incarnation that no member makes between two pieces of news of it.
    const FAR_AHEAD: u64 = 1 << 20;
    /// An incarnation that no member reaches. So much above a step that many lies are needed to come near it.
    const OUT_OF_REACH: u64 = 1 << 40;

    /// Whether what `from` says of another is to be learned now.
    pub(super) fn believes(
        &mut self,
        now: Timestamp,
        from: Option<MemberId>,
        record: &Arc<Record>,
        out: &mut Outbox,
    ) -> bool {
        let id = record.id();
        let Some(known) = self.table.get(id) else { return record.incarnation().get() <= Self::OUT_OF_REACH };
        let ahead = record.incarnation().get().saturating_sub(known.incarnation().get());
        let refusal = if known.member().address != record.member().address {
            Some(Refusal::Forged)
        } else if ahead > Self::FAR_AHEAD || record.incarnation() > Incarnation::new(Self::OUT_OF_REACH) {
            Some(Refusal::Implausible)
        } else {
            None
        };
        if let Some(reason) = refusal {
            let (from, to) = (Some(known.status()), record.status());
            out.event(Event::TransitionRefused { member: id, from, to, reason });
            return false;
        }
        if id == self.me().id() {
            return true;
        }
        if known.is_terminal() {
            let ended = record.is_terminal();
            if ended {
                self.inherit(now, from, id, false);
            } else {
                self.hear_of_dead(now, from, record, out);
            }
            return ended;
        }
        if record.claim().is_some_and(|claim| claim.verdict > Verdict::Suspect) {
            return self.believes_death(now, from, record, out);
        }
        let departs = record.stage() >= Stage::Leaving && known.stage() < Stage::Leaving;
        if !departs || from == Some(id) {
            return true;
        }
        self.doubt(now, record, out);
        false
    }

    /// The member's answer to the ping of a doubt: what it said of itself with it was learned already.
    pub(super) fn contradicted(&mut self, from: MemberId, sequence: ProbeSequence, out: &mut Outbox) {
        if self.doubts.get(&from).is_none_or(|doubt| doubt.sequence != sequence) {
            return;
        }
        self.agenda.cancel(Task::Doubt(from));
        if let (Some(doubt), Some(known)) = (self.doubts.remove(&from), self.table.get(from))
            && known.stage() < Stage::Leaving
        {
            let (from, to) = (Some(known.status()), doubt.record.stage().into());
            out.event(Event::TransitionRefused { member: doubt.record.id(), from, to, reason: Refusal::Forged });
        }
    }

    /// The member is not there to deny it; whether there was a doubt.
    pub(super) fn undenied(&mut self, now: Timestamp, member: MemberId, out: &mut Outbox) -> bool {
        self.agenda.cancel(Task::Doubt(member));
        let doubt = self.doubts.remove(&member);
        doubt.map(|doubt| self.learn(now, None, &doubt.record, out)).is_some()
    }

    fn doubt(&mut self, now: Timestamp, record: &Arc<Record>, out: &mut Outbox) {
        let id = record.id();
        if let Some(doubt) = self.doubts.get_mut(&id) {
            if let Some(merged) = doubt.record.merged(record) {
                doubt.record = Arc::new(merged);
            }
        } else if self.doubts.len() < Self::MOST_DOUBTS {
            let sequence = self.detector.sequence();
            self.doubts.insert(id, Doubt { record: Arc::clone(record), sequence });
            self.agenda.schedule(Task::Doubt(id), now + self.config.probe_timeout);
            self.ping(id, sequence, out);
        }
    }
}
