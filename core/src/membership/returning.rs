//! Coming back after a partition that no side has survived.
//!
//! Who was cut off joins again and forms no cluster by itself: others may go on without it, and merely be unreachable.
//! Silence says nothing, but those with whom it was can say that they were cut off too. The oldest of those who say so
//! forms the cluster anew, once older ones that were settled have had two rounds of questions to say so as well, and
//! the others join it,
//!
//! - when so many have said it for whom the same members counted
//!   ([`counted`](crate::downing::DowningDecision::counted)) that nobody of these can be left who goes on
//!   ([`enough_to_form`](crate::downing::Config::enough_to_form)). Of a later view, with which others went on, fewer
//!   might be enough;
//! - when all have said it who counted for any of them, whatever else each of them knew: where one cut followed
//!   another, or members came and went just before, the views differ.
//!
//! Who had not settled itself is not the one who forms it, and waits for others.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use gristmill_messages::MemberId;

use super::JoinAnswer;
use crate::{Address, Timestamp};

/// Members that counted together.
type View = Arc<BTreeSet<MemberId>>;

/// What a node was before it was cut off, and who else has said so.
#[derive(Debug)]
pub(super) struct Returning {
    /// When this node began to ask.
    since: Timestamp,
    was: MemberId,
    enough: usize,
    /// What was settled: for this node, and then for others, where it was something else.
    views: Vec<View>,
    /// What each address has said last: one process speaks for one that was cut off, however often it answers.
    waiting: BTreeMap<Address, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    was: MemberId,
    settled: View,
    at: Timestamp,
}

impl Returning {
    /// Different views that are remembered. Where there are more, those with others are not heard.
    const MOST_VIEWS: usize = 16;

    pub(super) fn new(
        since: Timestamp,
        was: MemberId,
        settled: impl IntoIterator<Item = MemberId>,
        enough: usize,
    ) -> Self {
        let settled = Arc::new(settled.into_iter().collect());
        Self { since, was, enough, views: vec![settled], waiting: BTreeMap::new() }
    }

    /// What this node answers to others who want to join.
    pub(super) fn answer(&self) -> JoinAnswer {
        JoinAnswer::Returning { was: self.was, settled: self.settled().iter().copied().collect() }
    }

    /// Somebody else has given such an answer.
    pub(super) fn note(&mut self, at: Timestamp, by: &Address, was: MemberId, settled: Vec<MemberId>) {
        self.waiting.remove(by);
        let (own, waiting) = (self.settled(), &self.waiting);
        let is_said =
            |view: &View| Arc::ptr_eq(view, &own) || waiting.values().any(|it| Arc::ptr_eq(view, &it.settled));
        self.views.retain(is_said);
        let settled = settled.into_iter().collect();
        let known = self.views.iter().find(|view| ***view == settled).cloned();
        let settled = match known {
            Some(view) => view,
            None if self.views.len() >= Self::MOST_VIEWS => return,
            None => {
                let view = Arc::new(settled);
                self.views.push(Arc::clone(&view));
                view
            }
        };
        if was != self.was {
            self.waiting.insert(by.clone(), Waiting { was, settled, at });
        }
    }

    /// Whether this node is to form the cluster, by answers that are not older than `fresh`. For so long it waits for
    /// older ones that were settled too.
    pub(super) fn may_form(&self, now: Timestamp, fresh: Duration) -> bool {
        let latest = self.waiting.values().filter(|waiting| now.since(waiting.at) <= fresh);
        // Two addresses may be those of one process.
        let mut said: BTreeMap<_, _> = latest.map(|waiting| (waiting.was, Arc::clone(&waiting.settled))).collect();
        said.insert(self.was, self.settled());
        let ours = said.iter().filter(|(_, view)| Arc::ptr_eq(view, &self.settled()));
        let ours: BTreeSet<_> = ours.map(|(was, _)| *was).collect();
        let in_view: BTreeSet<_> = ours.intersection(&self.settled()).copied().collect();
        let those_who_form = all_of(&said, self.was).or_else(|| Some(in_view).filter(|it| it.len() >= self.enough));
        those_who_form.is_some_and(|settled| settled.first() == Some(&self.was))
            && (now.since(self.since) >= fresh
                || self.settled().range(..self.was).all(|older| said.contains_key(older)))
    }

    fn settled(&self) -> View {
        self.views.first().cloned().unwrap_or_default()
    }
}

/// Of all who were settled with `member`, or with one of these, those who had settled by their own view; none unless
/// all have said that they were cut off.
fn all_of(said: &BTreeMap<MemberId, View>, member: MemberId) -> Option<BTreeSet<MemberId>> {
    let (mut all, mut rest) = (BTreeSet::from([member]), said.clone());
    let mut views = Vec::<View>::new();
    loop {
        let meets = |was: &MemberId, view: &mut View| all.contains(was) || !all.is_disjoint(view);
        let met: Vec<_> = rest.extract_if(.., meets).collect();
        if met.is_empty() {
            break;
        }
        for (was, view) in met {
            all.insert(was);
            // Most have the same.
            if !views.iter().any(|known| Arc::ptr_eq(known, &view)) {
                all.extend(view.iter());
                views.push(view);
            }
        }
        if !all.iter().all(|id| said.contains_key(id)) {
            return None;
        }
    }
    let has_settled = |id: &MemberId| said.get(id).is_some_and(|view| view.contains(id));
    Some(all.into_iter().filter(has_settled).collect())
}
