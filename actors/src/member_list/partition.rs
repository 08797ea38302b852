use std::sync::Arc;

use gristmill_core::downing::{self, Downing, Effect, Event};
use gristmill_core::membership::{Input, Phase};
use gristmill_core::{MemberStatus, Outbox, topology};
use gristmill_messages::MemberId;
use ractor::ActorRef;

use crate::cluster::ClusterMessage;
use crate::event::ClusterEvent;
use crate::member_list::MemberListMessage;
use crate::member_list::actor::MemberListState;
use crate::node::Block;

impl MemberListState {
    /// Asks the downing what follows, as long as this node is a member.
    pub(super) fn judge(&mut self, myself: &ActorRef<MemberListMessage>, input: downing::Input) {
        if self.membership.phase() != Phase::Up || self.node.is_fenced() {
            return;
        }
        let mut out = Outbox::new();
        self.downing.handle(self.node.clock.now(), input, &mut out);
        if self.node.metrics.is_on() {
            self.node.metrics.settled_members.set(self.downing.settled() as u64);
        }
        for Event::Decided(decision) in out.drain_events() {
            let mut decisions = self.node.decisions.load().to_vec();
            if decisions.len() == Downing::DECISIONS {
                decisions.remove(0);
            }
            decisions.push(decision.clone());
            self.node.decisions.store(Arc::new(decisions));
            tracing::warn!(%decision, "a partition");
            self.node.events.publish(ClusterEvent::DowningDecided(Arc::new(decision)));
        }
        let mut effects: Vec<_> = out.drain_effects().collect();
        // The timer first: what the others set off may set an earlier one.
        effects.sort_by_key(|effect| !matches!(effect, Effect::SetTimer(_)));
        for effect in effects {
            match effect {
                Effect::SetTimer(timer) => {
                    self.downing_timer.set(myself, timer.after, move || MemberListMessage::Judge(timer.epoch));
                }
                Effect::Poll { members } => self.step(myself, Input::Poll { members }),
                Effect::Check { members } => self.step(myself, Input::Check { members }),
                Effect::Restrain(restrained) => self.step(myself, Input::Restrain(restrained)),
                Effect::Fence => self.fence(),
                Effect::Release { members } => {
                    for member in members {
                        if self.membership.status(member).is_some_and(|status| status < MemberStatus::Dead) {
                            self.step(myself, Input::Down { member });
                        }
                    }
                    self.refresh(myself);
                }
            }
        }
    }

    /// Says what the topology is now.
    pub(super) fn refresh(&mut self, myself: &ActorRef<MemberListMessage>) {
        let (now, downing) = (self.node.clock.now(), &self.downing);
        let (input, timer) = self.roster.refresh(now, &self.membership, |member| downing.holds(member));
        if let Some(timer) = timer {
            self.roster_timer.set(myself, timer.after, move || MemberListMessage::Unblock(timer.epoch));
        }
        if let topology::Input::Changed { blocked, .. } = &input {
            self.explain_blocks(blocked);
        }
        self.aggregate(myself, input);
    }

    /// Says why and until when these are blocked, for those of them that come.
    fn explain_blocks(&self, blocked: &[MemberId]) {
        if blocked.is_empty() && self.node.blocks.load().is_empty() {
            return;
        }
        let quarantines = self.membership.blocked();
        let before = self.node.blocks.load();
        let block = |id: &MemberId| {
            let quarantine = quarantines.iter().find(|quarantine| quarantine.member.id == *id);
            let reason = quarantine.map(|quarantine| quarantine.reason.to_string());
            let reason = reason.or_else(|| before.get(id).map(|block| block.reason.clone()));
            let until = quarantine.map(|quarantine| quarantine.until).max(self.roster.released_until(*id));
            let reason = reason.unwrap_or_else(|| String::from("it was declared dead"));
            Some((*id, Block { reason, until: until? }))
        };
        let blocks = blocked.iter().filter_map(block).collect();
        self.node.blocks.store(Arc::new(blocks));
    }

    /// This node must not serve any more, from this moment on. The rest is the root's.
    pub(super) fn fence(&self) {
        self.node.fence();
        self.node.events.publish(ClusterEvent::Fenced { member: self.node.me.id });
        if let Some(parts) = self.node.parts() {
            drop(parts.root.cast(ClusterMessage::EVICTED));
        }
    }
}
