use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use gristmill_messages::MemberId;

use super::Input;
use crate::alarm::{Alarm, SetTimer, TimerEpoch};
use crate::membership::{self, Membership, Record, Stage};
use crate::{Member, Timestamp};

/// Who owns keys and who is blocked, by the membership and by who is held.
///
/// The held are the dead about whom [`downing`](crate::downing) has not decided. They keep their keys, and are not
/// blocked, however long that takes: what the membership remembers of a dead member may end before. From its release on
/// a member is blocked for as long as a quarantine lasts, so that everybody hears of its death and none takes it for a
/// leave; and so is whoever else goes otherwise than by its own word, of whom this node hears when its quarantine is
/// over elsewhere. One whose verdict is withdrawn is blocked no longer.
///
/// The bound is [`membership::Config::max_quarantined`]: beyond it the block of who was released first ends.
#[derive(Debug)]
pub struct Roster {
    membership: membership::Config,
    /// Of the membership, ascending.
    active: Vec<MemberId>,
    /// As they were when they were last known.
    held: BTreeMap<MemberId, Member>,
    /// Until when each of them is blocked.
    released: BTreeMap<MemberId, Timestamp>,
    alarm: Alarm,
}

impl Roster {
    /// Nobody is held, and nobody was released. The configuration is that of the membership.
    #[must_use]
    pub const fn new(membership: membership::Config) -> Self {
        Self { membership, active: Vec::new(), held: BTreeMap::new(), released: BTreeMap::new(), alarm: Alarm::new() }
    }

    /// What an [`Aggregator`](super::Aggregator) is to be told now, and the timer to set, if one is. To be called when
    /// either the membership or who is held has changed, and when a timer has [`fired`](Self::fired).
    pub fn refresh(
        &mut self,
        now: Timestamp,
        membership: &Membership,
        holds: impl Fn(MemberId) -> bool,
    ) -> (Input, Option<SetTimer>) {
        let mut active = membership.active();
        let is_active = |id: &MemberId| active.binary_search_by_key(id, |member| member.id).is_ok();
        // Who died before it was up never owned anything.
        let held = membership.records().filter(|record| record.stage() == Stage::Up && holds(record.id()));
        let held = held.map(|record| (record.id(), record.member().clone())).collect();
        let before = core::mem::replace(&mut self.active, active.iter().map(|member| member.id).collect());
        let mut gone: Vec<_> = before.into_iter().filter(|id| !is_active(id) && !holds(*id)).collect();
        if !gone.is_empty() {
            let left = membership.records().filter(|record| record.stage() >= Stage::Leaving);
            let left: BTreeSet<_> = left.map(Record::id).collect();
            gone.retain(|id| !left.contains(id));
        }
        for (id, member) in core::mem::replace(&mut self.held, held) {
            if holds(id) {
                self.held.entry(id).or_insert(member);
            } else {
                gone.push(id);
            }
        }
        let until = now + self.membership.quarantine_ttl;
        self.released.extend(gone.into_iter().map(|id| (id, until)));
        let held = &self.held;
        self.released.retain(|id, until| *until > now && !is_active(id) && !held.contains_key(id));
        while self.released.len() > self.membership.max_quarantined {
            let first = self.released.iter().min_by_key(|(_, until)| **until).map(|(id, _)| *id);
            first.map(|id| self.released.remove(&id));
        }
        active.extend(self.held.values().cloned());
        let dead = membership.dead().into_iter().map(|member| member.id).chain(self.released.keys().copied());
        let dead: Vec<_> = dead.collect();
        let blocked = dead.iter().copied().filter(|id| !self.held.contains_key(id)).collect();
        let timer = self.alarm.wake_at(now, self.released.values().min().copied());
        (Input::Changed { active, dead, blocked }, timer)
    }

    /// Until when a member is blocked that was released; none if it was not, or is blocked no longer.
    #[must_use]
    pub fn released_until(&self, member: MemberId) -> Option<Timestamp> {
        self.released.get(&member).copied()
    }

    /// Whether the timer that fired is the one that counts; it counts once.
    pub fn fired(&mut self, epoch: TimerEpoch) -> bool {
        self.alarm.fired(epoch)
    }
}

#[cfg(test)]
mod tests;
