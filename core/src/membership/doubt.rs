//! What is not believed just because somebody says it.
//!
//! Members prove who they are to each other, but nothing proves what they say of third ones. So of what a relay says in
//! the name of another is believed only what cannot do lasting harm, or what the other does not deny:
//!
//! | said of a known member by another | believed |
//! | --- | --- |
//! | a later incarnation, at an earlier or the same stage up to `Up` | yes: it writes a later one. Not if it is implausibly far ahead: then the member is asked. Of one that this node's own probe has not reached see [`hearsay`](super::hearsay) |
//! | another address, other kinds, another weight | never: an id lives as long as its process, and stays what it is |
//! | that it leaves or has left | as its death is: see [`hearsay`](super::hearsay) |
//! | that it is suspect | yes: the member refutes |
//! | that it is dead, that a dead one lives, or that there is one of whom nothing is known | see [`hearsay`](super::hearsay) |
//! | that a dead one is forgotten | when half of its quarantine is over here |

use alloc::sync::Arc;
use core::time::Duration;

use gristmill_messages::MemberId;

use super::record::{Record, Stage, Verdict};
use super::{Event, Membership, Outbox, Refusal, Task};
use crate::{MemberStatus, Timestamp};

/// By how much this node has lately outbid what was said of it, beyond the steps that are nothing unusual.
#[derive(Debug, Default)]
pub(super) struct Climb {
    since: Timestamp,
    by: u64,
}

/// How often it was said lately that something was refused. Peers decide how often there is reason to, and each time is
/// an event, which must not crowd out others.
#[derive(Debug, Default)]
pub(super) struct Reports {
    since: Timestamp,
    said: u32,
}

impl Reports {
    /// In one interval; all are counted.
    pub(super) const MOST: u32 = 16;

    fn take(&mut self, now: Timestamp, interval: Duration) -> bool {
        if now.since(self.since) >= interval {
            *self = Self { since: now, said: 0 };
        }
        self.said = self.said.saturating_add(1);
        self.said <= Self::MOST
    }
}

impl Membership {
    /// A step of an incarnation that no member makes between two pieces of news of it, and that another may not say of
    /// it.
    pub(super) const FAR_AHEAD: u64 = 1 << 10;
    /// How far a member climbs within a probe interval, whatever is said of it: above anything that others can be made
    /// to believe meanwhile, in steps of [`FAR_AHEAD`](Self::FAR_AHEAD).
    const MOST_CLIMBED: u64 = 1 << 42;
    /// An incarnation that no member reaches. A liar that has a member climb as far as it can in each probe interval
    /// needs a million of them: twelve days of seconds.
    const OUT_OF_REACH: u64 = 1 << 62;

    /// What is to be learned now of what `from` says; of others that is mostly the record itself.
    pub(super) fn believed(
        &mut self,
        now: Timestamp,
        from: Option<MemberId>,
        record: &Arc<Record>,
        out: &mut Outbox,
    ) -> Option<Arc<Record>> {
        let id = record.id();
        if record.incarnation().get() > Self::OUT_OF_REACH {
            self.refuse(now, record, Refusal::Implausible, out);
            return None;
        }
        if id == self.me().id() {
            return self.is_refutable(now, record, out).then(|| Arc::clone(record));
        }
        let Some(known) = self.table.get(id) else { return self.believed_newcomer(now, from, record) };
        let own_word = from == Some(id);
        if !own_word && known.member() != record.member() {
            self.refuse(now, record, Refusal::Forged, out);
            return None;
        }
        if known.is_terminal() && !record.is_terminal() {
            self.hear_of_dead(now, from, record, out);
            return None;
        }
        let ahead = record.incarnation().get().saturating_sub(known.incarnation().get());
        if !own_word && ahead > Self::FAR_AHEAD {
            self.refuse(now, record, Refusal::Implausible, out);
            // It may be so after all, when this node has missed a lot, or others were made to believe it step by step.
            self.compare(now, id, out);
            return None;
        }
        if known.is_terminal() {
            let forgotten = record.status() == MemberStatus::Removed && known.status() == MemberStatus::Dead;
            let expires = self.agenda.deadline(Task::Expire(id));
            if forgotten && !own_word && expires.is_none_or(|at| at.since(now) > self.config.quarantine_ttl / 2) {
                return None;
            }
            return Some(Arc::clone(record));
        }
        if let Some(claim) = record.claim().filter(|claim| claim.verdict > Verdict::Suspect) {
            // Whom others have forgotten this node has not buried yet: the verdict could not be taken back.
            let dead = Arc::new(record.own_part().claimed(Verdict::Dead, claim.by));
            return self.believes_death(now, from, &dead, out).then_some(dead);
        }
        if own_word {
            return Some(Arc::clone(record));
        }
        // Who has said itself that it leaves will have left.
        if known.stage() >= Stage::Leaving {
            return Some(Arc::clone(record));
        }
        if record.stage() >= Stage::Leaving {
            return self.believed_departure(now, from, record, out);
        }
        if record.incarnation() > known.incarnation() && self.has_failed_here(id) {
            return self.believed_refutation(now, from, record);
        }
        Some(Arc::clone(record))
    }

    /// Whether this node may write a version later than the one that is said to be its own.
    fn is_refutable(&mut self, now: Timestamp, said: &Record, out: &mut Outbox) -> bool {
        let ahead = said.incarnation().get().saturating_sub(self.me().incarnation().get());
        if ahead <= Self::FAR_AHEAD {
            return true;
        }
        if now.since(self.climb.since) >= self.config.probe_interval {
            self.climb = Climb { since: now, by: 0 };
        }
        let by = self.climb.by.saturating_add(ahead);
        if by > Self::MOST_CLIMBED {
            self.refuse(now, said, Refusal::Implausible, out);
            return false;
        }
        self.climb.by = by;
        true
    }

    /// Says what was refused, as long as that is not said all the time.
    pub(super) fn refuse(&mut self, now: Timestamp, said: &Record, reason: Refusal, out: &mut Outbox) {
        let from = self.status(said.id());
        self.stats.refused += 1;
        if self.reports.take(now, self.config.probe_interval) {
            out.event(Event::TransitionRefused { member: said.id(), from, to: said.status(), reason });
        }
    }
}
