//! What a node knows of another one.

use super::Standing;
use crate::Timestamp;

/// What is known of one other member.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) standing: Standing,
    /// When this node first heard of it, if it was dead by then: others have judged it, and it was never on this side.
    pub(super) inherited: Option<Timestamp>,
    /// Polls without an answer since.
    pub(super) asked: u8,
    /// It answers this node while this node asks, since it was suspected or just before.
    pub(super) answers: bool,
    pub(super) answered_at: Timestamp,
    /// Its host says that its process has ended.
    pub(super) refused: bool,
    /// Another member has reached it within the last probe interval.
    pub(super) vouched: bool,
    pub(super) vouched_at: Timestamp,
    pub(super) known_since: Timestamp,
    /// Since when it has been unreachable.
    pub(super) lost_since: Option<Timestamp>,
    /// When it was unreachable last, if it is no longer.
    pub(super) lost_until: Option<Timestamp>,
    /// When others were asked last.
    pub(super) checked_at: Option<Timestamp>,
}

impl Peer {
    pub(super) const SILENT: u8 = 3;

    pub(super) const fn is_gone(self) -> bool {
        self.refused || matches!(self.standing, Standing::Gone | Standing::Replaced { .. })
    }

    /// Whether it is on some side.
    pub(super) const fn counts(self) -> bool {
        !self.is_gone() && self.inherited.is_none()
    }

    /// Whether there is reason to ask.
    pub(super) const fn is_doubted(self) -> bool {
        self.counts() && matches!(self.standing, Standing::Suspect | Standing::Dead)
    }

    /// A suspect that answers this node is none of them, whoever suspects it.
    pub(super) const fn is_unreachable(self) -> bool {
        self.is_doubted() && !(self.answers && matches!(self.standing, Standing::Suspect))
    }

    pub(super) const fn does_not_answer(self) -> bool {
        !self.is_gone() && matches!(self.standing, Standing::Up) && self.asked >= Self::SILENT
    }

    /// It does not answer, and nobody else is known to hear it.
    pub(super) const fn is_silent(self) -> bool {
        self.does_not_answer() && !self.vouched
    }
}
