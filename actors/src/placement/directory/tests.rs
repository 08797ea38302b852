use gristmill_core::alarm::SetTimer;
use gristmill_core::placement::Rendezvous;
use gristmill_core::topology::Topology;
use gristmill_core::{Address, Member};
use gristmill_messages::{MemberId, TopologyVersion};
use tokio::sync::mpsc;

use super::*;
use crate::grain::{Call, Grain, Reply};
use crate::node::bench;

const PATIENCE: Duration = Duration::from_secs(30);

struct Nothing;

impl Grain for Nothing {
    async fn receive(&mut self, _: Call<'_>, _: &GrainContext) -> Result<Reply, GrainError> {
        Reply::empty()
    }
}

/// A node's directory, whose placement is the test.
struct Lab {
    node: Arc<Node>,
    told: mpsc::UnboundedReceiver<PlacementMessage>,
}

impl Lab {
    async fn with(kinds: Vec<Kind>) -> Self {
        let (node, told) = bench::node(kinds).await;
        Self { node, told }
    }

    /// What follows from an input once the lock is free again.
    fn decides(&self, input: Input) -> Vec<Act> {
        let directory = &self.node.parts().unwrap().directory;
        let mut inner = directory.lock();
        inner.as_mut().unwrap().step(&self.node, input)
    }

    /// Of this node and another one.
    fn topology(&self, version: u64, mine: &[&'static str], others: &[&'static str]) -> Vec<Act> {
        let member = |id, address: Address, kinds: &[&'static str]| {
            Member::new(id, address, kinds.iter().map(|kind| KindName::from(*kind)))
        };
        let me = &self.node.me;
        let members = vec![member(me.id, me.address.clone(), mine), member(MemberId::new(9), "other:1".into(), others)];
        let topology = Arc::new(Topology::new(TopologyVersion::new(version), members, vec![]));
        self.decides(Input::TopologyChanged { rendezvous: Arc::new(Rendezvous::new(topology)) })
    }

    fn requested(&self, kind: &str) -> Vec<Act> {
        let identity = Arc::new(ClusterIdentity::new(kind, "a"));
        self.decides(Input::Requested { request: self.node.request_id(), identity })
    }

    async fn told(&mut self) -> PlacementMessage {
        let told = tokio::time::timeout(PATIENCE, self.told.recv()).await;
        told.expect("nothing is told").expect("no placement")
    }

    async fn timer(&mut self) -> SetTimer {
        loop {
            if let PlacementMessage::SetTimer(timer) = self.told().await {
                return timer;
            }
        }
    }
}

fn does(acts: Vec<Act>) {
    acts.into_iter().for_each(Act::perform);
}

/// Waits for ever, to be activated.
struct Hangs;

impl Grain for Hangs {
    async fn on_activate(&mut self, _: &GrainContext) -> Result<(), GrainError> {
        std::future::pending().await
    }

    async fn receive(&mut self, _: Call<'_>, _: &GrainContext) -> Result<Reply, GrainError> {
        Reply::empty()
    }
}

#[tokio::test]
async fn who_asks_a_fenced_node_for_a_grain_is_told_to_ask_again() {
    let mut lab = Lab::with(vec![Kind::new("hangs", || Hangs), Kind::new("test", || Nothing)]).await;
    does(lab.topology(1, &["hangs", "test"], &[]));
    let locate = |kind: &str| {
        let (node, identity) = (Arc::clone(&lab.node), Arc::new(ClusterIdentity::new(kind, "a")));
        tokio::spawn(async move { node.parts().unwrap().directory.locate(&node, identity).await })
    };
    let (waits, node) = (locate("hangs"), Arc::clone(&lab.node));
    let until = async |what: &str, holds: &dyn Fn() -> bool| {
        let comes = async {
            while !holds() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, comes).await.expect(what);
    };
    until("no door opens", &|| !node.doors.is_empty()).await;
    node.fence();
    let late = locate("test");
    // What the doors report, as the placement would pass it on.
    let placement = tokio::spawn(async move {
        while let Some(told) = lab.told.recv().await {
            if let PlacementMessage::Ended(ended) = told {
                lab.node.parts().unwrap().directory.ended(&lab.node, ended);
            }
        }
    });
    for answer in [waits, late] {
        let answer = tokio::time::timeout(PATIENCE, answer).await.expect("no answer").unwrap();
        assert_eq!(answer, Some(Err(Refusal::ShuttingDown)));
    }
    until("a door stays open", &|| node.doors.is_empty()).await;
    placement.abort();
}

#[tokio::test]
async fn timers_reach_the_placement_in_the_order_in_which_they_were_decided() {
    let mut lab = Lab::with(["moves", "stays"].map(|kind| Kind::new(kind, || Nothing)).into()).await;
    does(lab.topology(1, &["moves", "stays"], &[]));
    does(lab.requested("moves"));
    let first = lab.timer().await;
    let activation = loop {
        if let PlacementMessage::Activated(activation) = lab.told().await {
            break activation;
        }
    };
    does(lab.decides(Input::Activated { activation }));
    does(lab.decides(Input::TimerFired(first.epoch)));

    // The placement drains what has moved, and is slow at it; meanwhile a caller needs an earlier timer.
    let drains = lab.topology(2, &["stays"], &["moves"]);
    let begins = lab.requested("stays");
    does(begins);
    does(drains);
    let [second, third] = [lab.timer().await, lab.timer().await];
    assert!(
        first.epoch < second.epoch && second.epoch < third.epoch,
        "only the last one counts: {second:?}, {third:?}"
    );
    assert!(third.after < second.after, "{second:?}, {third:?}");
}
