//! Split brain: which side of a partition goes on serving, and when.
//!
//! # What it guarantees, and what not
//! - Two sides of a partition never both go on, if their members had the same settled members before it (see
//!   *Baseline*) and the strategy is not [`Strategy::Off`].
//! - The losing side stops before the winning side takes over, as long as clocks run equally fast up to the slack of
//!   the table below, no process stands still in between, and messages inside of a side arrive. A process that stood
//!   still beyond that serves until it hears its verdict, one round trip after it wakes, or sees by itself that it has
//!   lost. Who cannot live with that needs leases.
//! - A member that is *gone for sure* is released at once, and counts on no side: one that leaves or has left, that
//!   this node has declared dead by decision, or that is dead while its host answers that nobody listens there. Where
//!   another process runs at its address by now, that one counts in its place, also before it has joined.
//! - A member whose verdict was withdrawn ([`Event::VerdictWithdrawn`](crate::membership::Event::VerdictWithdrawn))
//!   counts again, also if it was released meanwhile: it has served all the time, as the others saw it, and so its keys
//!   were in two hands from the release to the withdrawal.
//! - It decides nothing about members that are suspected and refute, or that answer this node while others suspect
//!   them, nor about members that only this node cannot reach.
//!
//! # The story of a partition
//! ```text
//!  cut          first suspicion                                            dead             released
//!   │  probe          │             suspicion S                             │   stable + margin  │
//!   ├─────────────────┼─────────────────────────────────────────────────────┼────────────────────┤  winner
//!   ├───────────────┬─────────────┬────────────────┐
//!   │ quiet, or one │ three polls │  stable_after  │ fenced                                           loser
//! ```
//! While there is a suspected or dead member, or this node is accused itself, and for a release's wait after either, or
//! when nobody has answered for two probe intervals and a timeout, a node asks all members in turn, `poll_limit` in
//! each probe timeout, whether they hear it ([`Effect::Poll`]). Three unanswered questions make a member *silent*. The
//! answer proves both directions, so a deaf and a mute node see the same. A refutation proves one direction only: a
//! member that refutes is suspect no more, but as silent as before, until it answers or another member reports that it
//! has reached it. These questions run on this machine's clock: Lifeguard slows the probes of a node whose probes fail,
//! but not this.
//!
//! A suspect counts as *unreachable* at once, but no longer when it answers, until it has left three questions in a row
//! unanswered; one that is suspected again within a probe interval of an answer counts as having answered. So nobody
//! moves a side by accusing members that live, where all are asked within a probe interval: up to 129 with the default
//! timing. In larger clusters an accused member counts until its turn comes.
//!
//! A winner waits for each of the losers from the moment on at which it became unreachable, whoever else comes and goes
//! meanwhile. So that this is soon after the first, it has silent members checked by others ([`Effect::Check`]) and
//! suspected if nobody reaches them, instead of waiting for its own probes, which have become slow: after the first
//! suspicion three rounds of polls and one probe interval, which is the margin. Those who are found out within it are
//! released together, by one decision, when the last of them has waited. This makes no release earlier than the table
//! says: no member is checked before somebody is suspected or silent.
//!
//! Where one cut follows another the sides change. A member that is unreachable may have been together with others that
//! were so at the same time, and not have noticed yet that one of them went back. So nobody is released unless this
//! side goes on even without all who are silent now or were unreachable within the last wait. Members that are
//! suspected and refute, as some always are in a large cluster that loses messages, therefore delay the release of a
//! dead one only where this side does not win without them.
//!
//! | | loser fences | winner releases |
//! | --- | --- | --- |
//! | evidence | unreachable or silent | unreachable: dead, or suspected without an answer |
//! | for | `stable_after` | suspicion + `stable_after` + margin, without a break |
//! | worst case after the cut, T = 1 s, t = 0.5 s, n <= 10 | 2T + t quiet, t to the first poll, 3t polls, 2T = 6.5 s | not before 4T + 2T + 2.5 s = 8.5 s |
//! | the same, n = 100 | 2T + t, t, 6t, 4T = 10 s | not before 6.6T + 4T + 5 s = 15.6 s |
//! | the same, n = 1,000 | 2T + t, t, 48t, 6T = 33 s | not before 9.2T + 6T + 27 s = 42.2 s |
//!
//! So a silent crash costs its detection and 8.5 s in a small cluster. From the moment at which it sees itself losing a
//! node also declares nobody dead and admits nobody ([`Effect::Restrain`]): on a cut of one direction its verdicts
//! would reach the winners.
//!
//! # Baseline
//! A member is *settled* when this node has known it for `settle_after`, and all members were reachable then. Sides are
//! counted among the settled members and among those of the last fully reachable view; a side goes on only when it wins
//! in both. `settle_after` is longer than a cut usually stays unnoticed: a member that joins one side just before or
//! after the cut, of which the other side does not know, makes no majority.
//!
//! A node counts itself only when it has settled too. Until then it goes by those whom it found when it came: cut off
//! with other newcomers, it loses against those who were there before, whoever is more. Who found nobody has formed the
//! cluster, and counts from the beginning.
//!
//! Where no side goes on, those who go down first have ended for the others. That is no reason for these to stay: as
//! long as anybody is unreachable it remains so.
//!
//! # Source
//! Pekko's `SplitBrainResolver` (`cluster/sbr/DowningStrategy.scala`) for the strategies and the waiting for stability;
//! deviations: losers do not wait for a stable view, so `down_all_when_unstable` is off by default; what is known to
//! have ended is not counted; indirectly connected members are kept as long as others reach them. Lifeguard (arXiv
//! 1707.00788) for why a node that hears nothing distrusts itself.
//!
//! # How it is driven
//! ```
//! use gristmill_core::downing::{Config, Downing, Effect, Input, Observed, Standing};
//! use gristmill_core::{Outbox, Timestamp, membership};
//! use gristmill_messages::MemberId;
//!
//! let [me, other, third] = [1, 2, 3].map(MemberId::new);
//! let mut downing = Downing::new(Config::keep_majority(), membership::Config::lan(), me);
//! let mut out = Outbox::new();
//! let standing = |id, others| if id == me { Standing::Up } else { others };
//! let seen = |others| [me, other, third].map(|id| Observed { id, standing: standing(id, others) });
//! downing.handle(Timestamp::ZERO, Input::Observed(seen(Standing::Up).to_vec()), &mut out);
//! downing.handle(Timestamp::from_millis(100), Input::Observed(seen(Standing::Suspect).to_vec()), &mut out);
//! assert!(out.drain_effects().any(|effect| effect == Effect::Restrain(true)), "one of three has lost");
//! ```

mod config;
mod decision;
mod observe;
mod peer;
mod poll;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

use gristmill_messages::MemberId;

pub use crate::alarm::{SetTimer, TimerEpoch};
pub use config::{Config, ConfigError, Strategy};
pub use decision::{Cause, DowningDecision, Side};
pub use observe::{Observed, Standing, hear, observe};

use crate::alarm::Alarm;
use crate::{Timestamp, membership};
use config::Pace;
use decision::choose;
use peer::Peer;

type Outbox = crate::Outbox<Effect, Event>;

/// What the machine is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The membership has changed: the whole of it, see [`observe`]. Who is no longer listed stays as it was.
    Observed(Vec<Observed>),
    /// A member has answered a ping of this node.
    Answered {
        /// Who.
        member: MemberId,
    },
    /// Another member has reached a member that this node did not reach: it is indirectly connected, until it answers
    /// by itself or is suspected.
    Vouched {
        /// Who was reached.
        member: MemberId,
    },
    /// Somebody has told this node that it is suspected: perhaps others do not hear it.
    Accused,
    /// The host of a member has answered that nobody listens at its address.
    Refused {
        /// Whose.
        member: MemberId,
    },
    /// The timer of [`Effect::SetTimer`] has fired.
    Timer(TimerEpoch),
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Say `Timer` with this epoch after this time.
    SetTimer(SetTimer),
    /// Send a ping to each of these; an answer is said as `Answered`, a missing one is not waited for.
    Poll {
        /// Whom.
        members: Vec<MemberId>,
    },
    /// These leave polls unanswered: find out at once whether others reach them, who is then `Vouched` for, and suspect
    /// them if not.
    Check {
        /// Whom.
        members: Vec<MemberId>,
    },
    /// While true: declare nobody dead, and admit nobody.
    Restrain(bool),
    /// This node must not serve from now on. The last effect: every further input is ignored.
    Fence,
    /// These are out: declare those dead that are not, and let their keys be taken over.
    Release {
        /// Whom, ascending.
        members: Vec<MemberId>,
    },
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A side was chosen. With [`Side::This`] those who have been unreachable for long enough are released, else this
    /// node is fenced.
    Decided(DowningDecision),
}

/// The judgement of one node over partitions. See the [module](self).
#[derive(Debug)]
pub struct Downing {
    config: Config,
    membership: membership::Config,
    me: MemberId,
    peers: BTreeMap<MemberId, Peer>,
    /// Decided to be out, or gone: no side counts them.
    released: BTreeSet<MemberId>,
    baseline: BTreeSet<MemberId>,
    latest: BTreeSet<MemberId>,
    /// When this node first saw who is there.
    born: Option<Timestamp>,
    unreachable: BTreeSet<MemberId>,
    /// Since when there have been any.
    since: Option<Timestamp>,
    losing_since: Option<Timestamp>,
    /// No side goes on, since there have been unreachable members: those who go down first are no reason to stay.
    nobody: bool,
    answered_at: Timestamp,
    /// When this node was told last that it is suspected.
    accused_at: Option<Timestamp>,
    poll_at: Option<Timestamp>,
    /// The last member that was polled.
    cursor: MemberId,
    fenced: bool,
    alarm: Alarm,
    decisions: VecDeque<DowningDecision>,
}

impl Downing {
    /// Decisions remembered; the oldest are forgotten.
    pub const DECISIONS: usize = 16;

    /// A node that knows of nobody else yet. `config` is one that [`Config::validate`] accepts with `membership`, whose
    /// intervals it goes by.
    #[must_use]
    pub fn new(config: Config, membership: membership::Config, me: MemberId) -> Self {
        debug_assert_eq!(config.validate(&membership), Ok(()));
        Self {
            config,
            membership,
            me,
            peers: BTreeMap::new(),
            released: BTreeSet::new(),
            baseline: BTreeSet::new(),
            latest: BTreeSet::new(),
            born: None,
            unreachable: BTreeSet::new(),
            since: None,
            losing_since: None,
            nobody: false,
            answered_at: Timestamp::ZERO,
            accused_at: None,
            poll_at: None,
            cursor: me,
            fenced: false,
            alarm: Alarm::new(),
            decisions: VecDeque::new(),
        }
    }

    /// Decides what follows from one input.
    pub fn handle(&mut self, now: Timestamp, input: Input, out: &mut Outbox) {
        if self.fenced {
            return;
        }
        if let Input::Timer(epoch) = input
            && !self.alarm.fired(epoch)
        {
            return;
        }
        // This process stood still, and refutations may wait unread in its queues: it takes nothing over by time that
        // it did not live through. To fence late would be wrong, so that clock goes on. Less than a probe interval is
        // what a busy machine costs, and half of what the margin leaves for it.
        if self.poll_at.is_some_and(|due| now.since(due) >= self.membership.probe_interval) {
            self.peers.values_mut().filter_map(|peer| peer.lost_since.as_mut()).for_each(|since| *since = now);
        }
        match input {
            Input::Observed(members) => self.observed(now, members),
            Input::Answered { member } => {
                self.answered_at = now;
                if let Some(peer) = self.peers.get_mut(&member) {
                    (peer.asked, peer.refused, peer.vouched) = (0, false, false);
                    (peer.answers, peer.answered_at) = (self.poll_at.is_some(), now);
                }
            }
            Input::Vouched { member } => {
                self.answered_at = now;
                if let Some(peer) = self.peers.get_mut(&member) {
                    (peer.vouched, peer.vouched_at) = (true, now);
                }
            }
            Input::Refused { member } => {
                let held = self.holds(member);
                if let Some(peer) = self.peers.get_mut(&member).filter(|peer| peer.standing != Standing::Gone) {
                    peer.refused = true;
                }
                // Of a member that is dead already the membership has nothing new to say.
                if held && !self.holds(member) {
                    out.effect(Effect::Release { members: vec![member] });
                }
            }
            Input::Accused => self.accused_at = Some(now),
            Input::Timer(_) => {}
        }
        // What was true of a member a while ago says nothing of a partition since.
        for peer in self.peers.values_mut() {
            peer.vouched &= now.since(peer.vouched_at) < self.membership.probe_interval;
        }
        self.follow(now);
        if self.config.strategy != Strategy::Off {
            self.judge(now, out);
            self.poll(now, out);
        }
        self.take_over(now, out);
        self.settle_inheritance(now, out);
        if !self.fenced
            && let Some(timer) = self.alarm.wake_at(now, self.next_deadline(now))
        {
            out.effect(Effect::SetTimer(timer));
        }
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
    }

    /// Whether a member that is dead keeps its keys for now, because nobody has decided yet.
    #[must_use]
    pub fn holds(&self, member: MemberId) -> bool {
        let dead = |peer: &Peer| peer.standing == Standing::Dead && !peer.is_gone();
        !self.released.contains(&member) && self.peers.get(&member).is_some_and(dead)
    }

    /// How many members count when sides are counted, this node included if it has settled.
    #[must_use]
    pub fn settled(&self) -> usize {
        self.members(&self.baseline).len()
    }

    /// Whether this node has fenced itself.
    #[must_use]
    pub const fn is_fenced(&self) -> bool {
        self.fenced
    }

    /// The last decisions, oldest first.
    pub fn decisions(&self) -> impl Iterator<Item = &DowningDecision> {
        self.decisions.iter()
    }

    /// Panics when the state contradicts itself; `handle` calls it in debug builds.
    #[allow(clippy::missing_panics_doc)] // the summary says it
    pub fn check_invariants(&self) {
        assert!(!self.peers.contains_key(&self.me), "this node is no other");
        assert_eq!(self.since.is_none(), self.unreachable.is_empty(), "there is a time at which it began");
        let waits = |id| self.peers.get(id).is_some_and(|peer| peer.lost_since.is_some());
        assert!(self.unreachable.iter().all(waits), "there is a time at which each began");
        assert!(self.unreachable.is_disjoint(&self.released), "what is released is no longer waited for");
        assert!(self.released.iter().all(|id| self.peers.contains_key(id)), "who is released is remembered");
        assert!(self.decisions.len() <= Self::DECISIONS, "decisions are bounded");
    }

    fn observed(&mut self, now: Timestamp, members: Vec<Observed>) {
        if self.peers.is_empty() {
            self.answered_at = now;
        }
        let listed: BTreeSet<_> = members.iter().map(|observed| observed.id).collect();
        for Observed { id, standing } in members.into_iter().filter(|observed| observed.id != self.me) {
            let inherited = (standing == Standing::Dead).then_some(now);
            let (answered_at, vouched_at, known_since) = (now, now, now);
            let new = Peer {
                standing,
                inherited,
                asked: 0,
                answers: false,
                answered_at,
                refused: false,
                vouched: false,
                vouched_at,
                known_since,
                lost_since: None,
                lost_until: None,
                checked_at: None,
            };
            let peer = self.peers.entry(id).or_insert(new);
            if peer.standing == Standing::Suspect && standing == Standing::Up {
                peer.refused = false;
            } else if standing == Standing::Suspect {
                // Answers to the questions of a while ago say nothing of a new suspicion.
                let lately = now.since(peer.answered_at) < self.membership.probe_interval;
                peer.answers &= lately || peer.standing == Standing::Suspect;
                peer.vouched = false;
            }
            // The verdict was withdrawn: whatever was decided about it, it counts again. One that this node was told to
            // give was a certain end.
            let lives = |standing| matches!(standing, Standing::Up | Standing::Suspect);
            if lives(standing) && !lives(peer.standing) {
                (peer.inherited, peer.refused, peer.lost_until) = (None, false, Some(now));
                self.released.remove(&id);
            }
            // Who has ended is not alive because it is forgotten why.
            let has_ended = matches!(peer.standing, Standing::Gone | Standing::Replaced { .. });
            if !(has_ended && standing == Standing::Dead) {
                peer.standing = standing;
            }
        }
        // Who is forgotten by the membership is forgotten here, unless nobody has decided about it.
        let released = &self.released;
        self.peers.retain(|id, peer| listed.contains(id) || !(peer.is_gone() || released.contains(id)));
        let (me, peers) = (self.me, &self.peers);
        for set in [&mut self.released, &mut self.baseline, &mut self.latest] {
            set.retain(|id| *id == me || peers.contains_key(id));
        }
        if self.born.is_none() {
            self.born = Some(now);
            self.baseline = self.chosen(|peer| peer.counts());
            if self.baseline.is_empty() {
                self.baseline.insert(self.me);
            }
        }
    }

    /// Works out who is unreachable, and which views were the last good ones.
    fn follow(&mut self, now: Timestamp) {
        let unreachable = self.chosen(|peer| peer.is_unreachable());
        for (id, peer) in &mut self.peers {
            match (unreachable.contains(id), peer.lost_since) {
                (true, None) => peer.lost_since = Some(now),
                (false, Some(_)) => (peer.lost_since, peer.lost_until) = (None, Some(now)),
                _ => {}
            }
        }
        self.since = if unreachable.is_empty() { None } else { self.since.or(Some(now)) };
        self.unreachable = unreachable;
        let mut view = self.chosen(|peer| peer.counts());
        view.insert(self.me);
        if self.unreachable.is_empty() && self.chosen(|peer| peer.is_silent()).is_empty() {
            let settled = self.pace().settle_after(view.len());
            let is_old = |since: Timestamp| now.since(since) >= settled;
            self.baseline.extend(self.chosen(|peer| peer.counts() && is_old(peer.known_since)));
            if self.born.is_some_and(is_old) {
                self.baseline.insert(self.me);
            }
            self.latest = view;
        } else if !self.baseline.contains(&self.me) {
            // Nothing better is known.
            self.latest.extend(view);
        }
    }

    /// Whether this node is on a losing side, and for how long it has been.
    fn judge(&mut self, now: Timestamp, out: &mut Outbox) {
        let mut lost = self.unreachable.clone();
        lost.extend(self.chosen(|peer| peer.is_silent()));
        // One link that fails is no partition, in whatever strategy, as long as nobody else misses its other end.
        if lost.len() < 2 && 2 * lost.len() < self.members(&self.baseline).len() {
            lost.clone_from(&self.unreachable);
        }
        let side = self.side(&lost);
        self.nobody = !self.unreachable.is_empty() && (self.nobody || side == Side::Nobody);
        match (side, self.losing_since) {
            (Side::Other, None) => {
                self.losing_since = Some(now);
                out.effect(Effect::Restrain(true));
            }
            (Side::This | Side::Nobody, Some(_)) => {
                self.losing_since = None;
                out.effect(Effect::Restrain(false));
            }
            _ => {}
        }
        let stable_after = self.pace().stable_after(self.latest.len());
        let long_enough = |since: Timestamp| now.since(since) >= stable_after;
        if self.losing_since.is_some_and(long_enough) {
            self.decide(now, Cause::Losing, Side::Other, &lost, out);
        }
    }

    /// Releases those who have been unreachable for long enough, or goes down with all others.
    fn take_over(&mut self, now: Timestamp, out: &mut Outbox) {
        if self.fenced || self.unreachable.is_empty() {
            return;
        }
        let lost = self.unreachable.clone();
        if self.config.strategy == Strategy::Off {
            let dead: Vec<_> = lost.into_iter().filter(|id| self.holds(*id)).collect();
            return self.release(dead, out);
        }
        let unstable = |after| self.since.is_some_and(|since| now.since(since) >= after);
        if self.config.unstable_after.is_some_and(unstable) {
            return self.decide(now, Cause::Unstable, Side::Nobody, &lost, out);
        }
        if self.losing_since.is_some() || self.next_release().is_none_or(|due| due > now) {
            return;
        }
        let takeover = self.pace().takeover(self.latest.len());
        // They may have been together with everybody who was unreachable since.
        let lately = |peer: &Peer| peer.lost_until.is_some_and(|until| now.since(until) < takeover);
        let mut ever = self.chosen(|peer| peer.is_silent() || lately(peer));
        ever.extend(&lost);
        let side = if self.nobody { Side::Nobody } else { self.side(&ever) };
        if side == Side::Other {
            return;
        }
        self.decide(now, Cause::Stable, side, &lost, out);
        if side == Side::This {
            let waited = |peer: &Peer| peer.lost_since.is_some_and(|since| now.since(since) >= takeover);
            self.release(self.chosen(waited).into_iter().collect(), out);
        }
    }

    /// When the next are released: the first that has become unreachable, with those who have within a margin.
    fn next_release(&self) -> Option<Timestamp> {
        let (pace, size) = (self.pace(), self.latest.len());
        let since = |id| self.peers.get(id).and_then(|peer| peer.lost_since);
        let together = self.unreachable.iter().filter_map(since).min()? + pace.margin(size);
        let last = self.unreachable.iter().filter_map(since).filter(|since| *since <= together).max()?;
        Some(last + pace.takeover(size))
    }

    /// Releases those who were dead already when this node heard of them, when the others must have done so.
    fn settle_inheritance(&mut self, now: Timestamp, out: &mut Outbox) {
        if self.fenced || self.losing_since.is_some() {
            return;
        }
        let (at_once, patience) = (self.config.strategy == Strategy::Off, self.pace().takeover(self.latest.len()));
        let waited = |since| at_once || now.since(since) >= patience;
        let due = |peer: &Peer| !peer.is_gone() && peer.inherited.is_some_and(waited);
        self.release(self.chosen(due).into_iter().collect(), out);
    }

    fn decide(&mut self, at: Timestamp, cause: Cause, chosen: Side, lost: &BTreeSet<MemberId>, out: &mut Outbox) {
        let list = |set: &BTreeSet<MemberId>| set.iter().copied().collect::<Vec<_>>();
        let is_indirect = |peer: &Peer| peer.does_not_answer() && peer.vouched;
        let mut here = self.chosen(|peer| peer.counts());
        here.insert(self.me);
        let decision = DowningDecision {
            at,
            strategy: self.config.strategy,
            cause,
            chosen,
            baseline: list(&self.members(&self.baseline)),
            latest: list(&self.members(&self.latest)),
            reachable: here.difference(lost).copied().collect(),
            unreachable: list(&self.unreachable),
            silent: list(&self.chosen(|peer| peer.is_silent())),
            indirectly_connected: list(&self.chosen(is_indirect)),
            gone: self.peers.iter().filter(|(_, peer)| peer.is_gone()).map(|(id, _)| *id).collect(),
            since: self.since,
        };
        if self.decisions.len() == Self::DECISIONS {
            self.decisions.pop_front();
        }
        self.decisions.push_back(decision.clone());
        out.event(Event::Decided(decision));
        if chosen != Side::This {
            self.fenced = true;
            out.effect(Effect::Fence);
        }
    }

    /// These no longer count.
    fn release(&mut self, members: Vec<MemberId>, out: &mut Outbox) {
        if members.is_empty() {
            return;
        }
        self.released.extend(&members);
        for id in &members {
            self.baseline.remove(id);
            self.latest.remove(id);
            self.unreachable.remove(id);
        }
        self.since = self.unreachable.iter().filter_map(|id| self.peers.get(id)?.lost_since).min();
        out.effect(Effect::Release { members });
    }

    /// When something has to be looked at again. What was due already is done, or waits for something else to happen.
    fn next_deadline(&self, now: Timestamp) -> Option<Timestamp> {
        let (pace, size) = (self.pace(), self.latest.len());
        let judges = self.config.strategy != Strategy::Off;
        let asks = judges && self.chosen(|peer| !peer.is_gone() && peer.standing != Standing::Dead).first().is_some();
        let quiet = asks.then(|| self.answered_at + pace.quiet_after());
        let fences = self.losing_since.map(|since| since + pace.stable_after(size));
        let releases = if judges { self.next_release() } else { None };
        let unstable = self.config.unstable_after.zip(self.since).map(|(after, since)| since + after);
        let inherited = self.peers.iter().filter(|(id, peer)| !peer.is_gone() && !self.released.contains(id));
        let inherited = inherited.filter_map(|(_, peer)| peer.inherited).min().map(|at| at + pace.takeover(size));
        let deadlines = [self.poll_at, quiet, fences, releases, unstable, inherited];
        deadlines.into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Who goes on if these are lost: this side only if it does by the settled view and by the latest.
    fn side(&self, lost: &BTreeSet<MemberId>) -> Side {
        let views = [&self.baseline, &self.latest].map(|view| self.seats(view));
        // Where fewer than a quorum have settled nobody can tell who counts elsewhere.
        if let (Strategy::StaticQuorum(quorum), [settled, latest]) = (self.config.strategy, &views)
            && settled.len() < quorum
            && latest.keys().any(|member| lost.contains(member))
        {
            return Side::Other;
        }
        // Who runs in the place of another is as old as that one, whatever its id: its clock may be behind.
        let [settled, latest] = views.map(|seats| {
            let empty = seats.iter().filter(|(member, _)| lost.contains(member)).map(|(_, seat)| *seat).collect();
            choose(self.config.strategy, &seats.into_values().collect(), &empty)
        });
        match (settled, latest) {
            (Side::This, Side::This) => Side::This,
            (Side::Nobody, _) | (_, Side::Nobody) => Side::Nobody,
            (Side::Other, _) | (_, Side::Other) => Side::Other,
        }
    }

    /// Of a view, those that still count, and those that stand in for others. A process that ends and begins anew does
    /// not make the cluster smaller: those who lose it may go on as little as before.
    fn members(&self, view: &BTreeSet<MemberId>) -> BTreeSet<MemberId> {
        self.seats(view).into_keys().collect()
    }

    /// The same, each with the oldest member of the view in whose place it is, which may be itself.
    fn seats(&self, view: &BTreeSet<MemberId>) -> BTreeMap<MemberId, MemberId> {
        let unreleased = |id: &MemberId| !self.released.contains(id);
        let occupant = |seat: MemberId| match self.peers.get(&seat) {
            Some(Peer { standing: Standing::Replaced { by }, .. }) => {
                self.peers.get(by).filter(|successor| successor.counts()).map(|_| *by)
            }
            Some(peer) if peer.is_gone() => None,
            Some(_) | None => Some(seat),
        };
        let mut seats = BTreeMap::new();
        for seat in view.iter().copied().filter(unreleased) {
            if let Some(member) = occupant(seat).filter(unreleased) {
                seats.entry(member).or_insert(seat);
            }
        }
        seats
    }

    fn chosen(&self, which: impl Fn(&Peer) -> bool) -> BTreeSet<MemberId> {
        let counts = |(id, peer): &(&MemberId, &Peer)| which(peer) && !self.released.contains(*id);
        self.peers.iter().filter(counts).map(|(id, _)| *id).collect()
    }

    const fn pace(&self) -> Pace<'_> {
        Pace { config: &self.config, membership: &self.membership }
    }
}
