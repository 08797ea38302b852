//! What a node has from the answer alone that let it in.
//!
//! Whoever lets a node in tells it of all members. That is one voice, and it may lie; but the node has no other to go
//! by yet. So it takes all that for true, and tells it to no member: else it would be the second voice of a liar for
//! members that do not exist, or are not dead. (To whom it lets in itself its answer is no voice either.) What it has
//! inherited is its own to tell
//!
//! - when the member itself has described itself, or
//! - when two members have described it, each in a message of its own, or have shown a table equal to this one, or
//!   equal in the part where the member belongs. So a node shows no digest of what it has inherited either.
//!
//! What these say replaces what was inherited where the two cannot both be true. Of those that it inherited as dead it
//! gives up each one of whom anybody says that it lives, and each one that speaks.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use gristmill_messages::MemberId;

use super::hearsay::Descriptions;
use super::record::Record;
use super::table::TableDigest;
use super::{Membership, Outbox, Phase};
use crate::{MemberStatus, Timestamp};

/// Members that this node tells nobody of. Bounded by the table.
#[derive(Debug, Default)]
pub(super) struct Inheritance(BTreeMap<MemberId, Inherited>);

#[derive(Debug)]
struct Inherited {
    /// It was dead when this node first heard of it, and nobody has denied it.
    dead: bool,
    /// Others than those who let this node in may not know of it.
    is_news: bool,
    /// What members have said of it since.
    said: Descriptions,
}

impl Inheritance {
    /// Whether others are told what is known of this member.
    pub(super) fn is_told(&self, member: MemberId) -> bool {
        !self.0.contains_key(&member)
    }

    fn is_dead(&self, member: MemberId) -> bool {
        self.0.get(&member).is_some_and(|inherited| inherited.dead)
    }

    /// It lives, others say.
    pub(super) fn revive(&mut self, member: MemberId) {
        if let Some(inherited) = self.0.get_mut(&member) {
            inherited.dead = false;
        }
    }

    /// Nothing is known of it any more.
    pub(super) fn forget(&mut self, member: MemberId) {
        self.0.remove(&member);
    }

    pub(super) fn members(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.0.keys().copied()
    }
}

impl Membership {
    /// The digest of what this node tells. One of all that it knows would say that it has found the same.
    pub(super) fn told_digest(&self) -> TableDigest {
        if self.inheritance.0.is_empty() {
            return self.table.digest();
        }
        self.table.digests_without(self.inheritance.members(), 0).0
    }

    /// The same of each of so many buckets.
    pub(super) fn told_buckets(&self, count: usize) -> Vec<TableDigest> {
        self.table.digests_without(self.inheritance.members(), count).1
    }

    /// A member is known from now on, by the answer that let this node in.
    pub(super) fn inherit(&mut self, member: MemberId, status: MemberStatus) {
        let dead = status == MemberStatus::Dead;
        let is_news = dead || self.phase != Phase::Joining;
        self.inheritance.0.insert(member, Inherited { dead, is_news, said: Descriptions::default() });
    }

    /// A member has described one that was inherited, or itself.
    pub(super) fn vouch(&mut self, now: Timestamp, from: MemberId, record: &Arc<Record>, out: &mut Outbox) {
        let (id, within) = (record.id(), self.voice_ttl());
        let Some(inherited) = self.inheritance.0.get_mut(&id) else { return };
        if from == id {
            return self.vouched(now, &Arc::new(record.own_part()), out);
        }
        if let Some(record) = inherited.said.hear(from, record, now, within) {
            self.vouched(now, &record, out);
        }
    }

    /// A member has shown a digest equal to ours of all members for whom `same` holds, which says nothing of those
    /// removed.
    pub(super) fn vouch_for_equal(
        &mut self,
        now: Timestamp,
        from: MemberId,
        same: impl Fn(MemberId) -> bool,
        out: &mut Outbox,
    ) {
        let equal = self.inheritance.members().filter(|member| same(*member));
        let equal = equal.filter_map(|member| self.table.get(member).cloned());
        let equal: Vec<_> = equal.filter(|record| record.status() != MemberStatus::Removed).collect();
        for record in equal {
            self.vouch(now, from, &record, out);
        }
    }

    /// A message has come from one that was inherited as dead.
    pub(super) fn hear_inherited(&mut self, now: Timestamp, member: MemberId, out: &mut Outbox) {
        if self.inheritance.is_dead(member)
            && let Some(known) = self.table.get(member).filter(|known| known.status() == MemberStatus::Dead)
        {
            let living = Arc::new(known.own_part());
            self.reinstate(now, &living, out);
        }
    }

    /// Somebody says that a member lives that was inherited as dead; whether it was.
    pub(super) fn deny_inherited(&mut self, now: Timestamp, record: &Record, out: &mut Outbox) -> bool {
        let id = record.id();
        let was = self.inheritance.is_dead(id);
        if was && self.table.get(id).is_some_and(|known| record.incarnation() >= known.incarnation()) {
            self.reinstate(now, &Arc::new(record.own_part()), out);
        }
        was
    }

    /// It is there, as `truth` says.
    fn vouched(&mut self, now: Timestamp, truth: &Arc<Record>, out: &mut Outbox) {
        let id = truth.id();
        // Who is removed stays so, as with any member.
        let known = self.table.get(id).filter(|known| known.status() != MemberStatus::Removed).cloned();
        let Some(known) = known else { return };
        let Some(inherited) = self.inheritance.0.remove(&id) else { return };
        let ahead = known.incarnation().get().saturating_sub(truth.incarnation().get());
        let untrue = known.member() != truth.member() || ahead > Self::FAR_AHEAD;
        if inherited.dead && known.is_terminal() && !truth.is_terminal() && ahead > 0 && !untrue {
            // They may not have heard yet.
            self.inheritance.0.insert(id, inherited);
            return;
        }
        match (known.is_terminal(), truth.is_terminal()) {
            (true, false) if inherited.dead => self.reinstate(now, truth, out),
            (true, true) if untrue => self.table.replace(truth),
            (false, false) if untrue => {
                let from = known.status();
                self.table.replace(truth);
                self.unsuspect(now, id);
                self.tell(now, id, Some(from), truth.status(), out);
            }
            _ => {}
        }
        let claimed = self.table.get(id).is_some_and(|record| record.claim().is_some());
        if inherited.is_news || claimed {
            self.spread(id);
        }
    }
}
