//! Asking the members whether they hear this node, and others about those who do not answer.

use alloc::vec::Vec;

use super::peer::Peer;
use super::{Downing, Effect, Outbox, Standing};
use crate::Timestamp;

/// Members checked at the same time; the others wait for the next round of polls.
const MOST_CHECKS: usize = 8;

impl Downing {
    /// Asks the members whether they hear this node, as long as there is reason to.
    pub(super) fn poll(&mut self, now: Timestamp, out: &mut Outbox) {
        let (every, quiet_after) = (self.pace().poll_interval(), self.pace().quiet_after());
        if self.fenced || self.poll_at.is_some_and(|at| now < at) {
            return;
        }
        let quiet = now.since(self.answered_at) >= quiet_after;
        // Whom others do not hear may hear them, and have no doubt of anybody.
        let takeover = self.pace().takeover(self.latest.len());
        let accused = self.accused_at.is_some_and(|at| now.since(at) < takeover);
        // Probes are slow for a while after they have failed, and would not show the next cut in time.
        let lately = |peer: &Peer| peer.lost_until.is_some_and(|until| now.since(until) < takeover);
        let troubled = self.peers.values().any(lately);
        let everybody = quiet || accused || troubled || !self.chosen(|peer| peer.is_doubted()).is_empty();
        if !everybody {
            self.poll_at = None;
            self.peers.values_mut().for_each(|peer| (peer.asked, peer.answers) = (0, false));
            return;
        }
        let asked = |peer: &Peer| !peer.is_gone() && peer.standing != Standing::Dead;
        let wanted = self.chosen(asked);
        let after = wanted.range((core::ops::Bound::Excluded(self.cursor), core::ops::Bound::Unbounded));
        let before = wanted.range(..=self.cursor);
        let members: Vec<_> = after.chain(before).copied().take(self.config.poll_limit).collect();
        let Some(last) = members.last() else {
            self.poll_at = None;
            return;
        };
        self.check(now, out);
        self.cursor = *last;
        self.poll_at = Some(now + every);
        for id in &members {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.asked = peer.asked.saturating_add(1).min(Peer::SILENT);
                peer.answers &= peer.asked < Peer::SILENT;
            }
        }
        out.effect(Effect::Poll { members });
    }

    /// Has those checked who are silent: on the winning side each of the losers has to be suspected before they can be
    /// released, and the probes of a node that misses many are slow. A node that sees itself losing accuses nobody.
    fn check(&mut self, now: Timestamp, out: &mut Outbox) {
        if self.losing_since.is_some() {
            return;
        }
        let again_after = self.membership.probe_interval;
        let due = |peer: &Peer| peer.is_silent() && peer.checked_at.is_none_or(|at| now.since(at) >= again_after);
        let due = self.chosen(due);
        // Each node begins elsewhere, so that together they are soon through.
        let (before, after): (Vec<_>, Vec<_>) = due.into_iter().partition(|id| *id < self.me);
        let members: Vec<_> = after.into_iter().chain(before).take(MOST_CHECKS).collect();
        for id in &members {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.checked_at = Some(now);
            }
        }
        if !members.is_empty() {
            out.effect(Effect::Check { members });
        }
    }
}
