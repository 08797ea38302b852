//! Going away.

use super::record::Stage;
use super::{Event, Membership, Message, Outbox, Phase, Task};
use crate::Timestamp;

/// To so many members a leave is said directly; the others learn of it by gossip.
const TOLD_DIRECTLY: usize = 32;

impl Membership {
    /// Announces that this node leaves. From now on it owns no keys.
    pub(super) fn leave(&mut self, now: Timestamp, out: &mut Outbox) {
        match self.phase {
            Phase::Up => {
                self.phase = Phase::Leaving;
                self.agenda.cancel(Task::Contact);
                self.agenda.schedule(Task::DrainDeadline, now + self.config.drain_timeout);
                self.advance(now, Stage::Leaving, out);
                self.tell_all(out);
            }
            // It serves nothing yet that would have to be drained.
            Phase::Joining => {
                self.phase = Phase::Leaving;
                self.abandon_join();
                self.depart(now, out);
            }
            Phase::Idle | Phase::Leaving | Phase::Stopped => {}
        }
    }

    /// What this node served has moved, or the time for it is up.
    pub(super) fn drained(&mut self, now: Timestamp, out: &mut Outbox) {
        if self.phase == Phase::Leaving && self.me().stage() == Stage::Leaving {
            self.depart(now, out);
        }
    }

    pub(super) fn left(&mut self, out: &mut Outbox) {
        self.stop();
        out.event(Event::Left);
    }

    fn depart(&mut self, now: Timestamp, out: &mut Outbox) {
        self.agenda.cancel(Task::DrainDeadline);
        self.agenda.cancel(Task::Probe);
        self.advance(now, Stage::Removed, out);
        self.tell_all(out);
        self.agenda.schedule(Task::Linger, now + self.config.leave_linger);
    }

    fn tell_all(&mut self, out: &mut Outbox) {
        for to in self.random_members(TOLD_DIRECTLY, |_| true) {
            let updates = self.updates_for(to, true);
            self.send(to, Message::Gossip { updates, digest: self.told_digest() }, out);
        }
    }
}
