//! Letting others in.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::time::Duration;

use gristmill_messages::MemberId;

use super::record::{Record, Stage, Verdict};
use super::{Effect, JoinAnswer, Membership, Outbox, Phase, QuarantineReason, Task};
use crate::{MemberStatus, RequestId, Timestamp};

impl Membership {
    pub(super) fn join_requested(&mut self, now: Timestamp, request: RequestId, joiner: &Record, out: &mut Outbox) {
        self.heard(now, out);
        let answer = match self.refuses(now, joiner) {
            Some(refusal) => refusal,
            None => self.admit(now, joiner, out),
        };
        let accepted = matches!(answer, JoinAnswer::Accepted { .. });
        out.effect(Effect::AnswerJoin { request, answer });
        if accepted {
            // Not waited for: if it is lost, the next probe of any member does the same.
            let sequence = self.detector.sequence();
            self.ping(joiner.id(), sequence, out);
        }
    }

    /// A handshake with the address of `old` has met `by`. Not believed of one that is gone itself or runs elsewhere:
    /// whoever was met there, it was not that one. Who said that it leaves may have gone in order, and its last word be
    /// on its way.
    pub(super) fn met_another(&mut self, now: Timestamp, old: MemberId, by: MemberId, out: &mut Outbox) {
        let Some(record) = self.table.get(old).filter(|record| record.stage() < Stage::Leaving) else { return };
        let address = &record.member().address;
        let runs_there = |by: &Record| !by.is_terminal() && by.member().address == *address;
        if self.table.get(by).is_none_or(|by| runs_there(by)) && !self.table.has_lapsed(by) {
            self.supersede(now, old, by, out);
        }
    }

    /// A member introduces itself at an address where this node knows an older one. Ids begin with their time, so that
    /// a late message of a process that has ended replaces nobody.
    pub(super) fn replace_at_its_address(&mut self, now: Timestamp, newcomer: &Record, out: &mut Outbox) {
        let id = newcomer.id();
        if self.table.get(id).is_none() && !newcomer.is_terminal() && !self.table.has_lapsed(id) {
            for old in self.table.living_at(&newcomer.member().address).into_iter().filter(|old| *old < id) {
                self.supersede(now, old, id, out);
            }
        }
    }

    /// Another process runs at the address of `old`: an address holds one process, so `old` is dead.
    fn supersede(&mut self, now: Timestamp, old: MemberId, by: MemberId, out: &mut Outbox) {
        if old != by && old != self.me().id() {
            self.judge(now, old, Verdict::Dead, QuarantineReason::Superseded { by }, out);
        }
    }

    fn refuses(&self, now: Timestamp, joiner: &Record) -> Option<JoinAnswer> {
        match self.phase {
            Phase::Up if !self.restrained => {}
            Phase::Up => return Some(JoinAnswer::Undecided),
            Phase::Idle | Phase::Joining => return Some(self.not_ready()),
            Phase::Leaving | Phase::Stopped => return Some(JoinAnswer::ShuttingDown),
        }
        let me = self.me();
        if joiner.id() == me.id() {
            return Some(JoinAnswer::NotReady);
        }
        let blocked = |reason: String, retry_after| Some(JoinAnswer::Blocked { reason, retry_after });
        if joiner.member().address == me.member().address {
            return blocked("the node that answers has this address itself".into(), Duration::ZERO);
        }
        if joiner.stage() == Stage::Removed {
            return blocked("it says that it has left".into(), Duration::ZERO);
        }
        let expires = self.agenda.deadline(Task::Expire(joiner.id())).map_or(Duration::ZERO, |at| at.since(now));
        match self.table.get(joiner.id()).map(|record| record.status()) {
            Some(MemberStatus::Dead) => {
                let reason = self.table.reason(joiner.id()).map_or_else(String::new, |reason| reason.to_string());
                blocked(reason, expires + self.config.tombstone_ttl + self.config.lapse_ttl())
            }
            Some(MemberStatus::Removed) => blocked("it was removed".into(), expires + self.config.lapse_ttl()),
            Some(_) => None,
            None if self.table.has_lapsed(joiner.id()) => blocked("it was removed".into(), expires),
            None if self.table.is_full() => {
                blocked("the cluster has as many members as it may".into(), self.config.tombstone_ttl)
            }
            None => None,
        }
    }

    fn admit(&mut self, now: Timestamp, joiner: &Record, out: &mut Outbox) -> JoinAnswer {
        let joiner = Arc::new(joiner.own_part());
        for old in self.table.living_at(&joiner.member().address) {
            self.supersede(now, old, joiner.id(), out);
        }
        self.learn(now, Some(joiner.id()), &joiner, out);
        // Also what this node has inherited itself: to the joiner the answer is no voice for any of them.
        let known = self.table.records().filter(|record| record.status() != MemberStatus::Removed);
        JoinAnswer::Accepted { records: known.cloned().collect() }
    }
}
