//! A node for tests of its parts, which see what the others would be told.

use gristmill_messages::MemberId;
use gristmill_transport::{Local, LocalPeer, MemoryNetwork, TransportConfig};
use ractor::{Actor, ActorProcessingErr};
use tokio::sync::mpsc;

use super::*;
use crate::grain::Kind;
use crate::remoting::{Dialer, Router};

/// An actor that passes on whatever it gets.
struct Sink<M>(mpsc::UnboundedSender<M>);

impl<M: ractor::Message + Sync> Actor for Sink<M> {
    type Msg = M;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<M>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<M>, message: M, (): &mut ()) -> Result<(), ActorProcessingErr> {
        drop(self.0.send(message));
        Ok(())
    }
}

async fn sink<M: ractor::Message + Sync>() -> (ActorRef<M>, mpsc::UnboundedReceiver<M>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Actor::spawn(None, Sink(sender), ()).await.unwrap().0, receiver)
}

/// A node whose placement is the test.
pub(crate) async fn node(kinds: Vec<Kind>) -> (Arc<Node>, mpsc::UnboundedReceiver<PlacementMessage>) {
    let id = MemberId::new(1);
    let network = Arc::new(MemoryNetwork::new().host("a"));
    let peer = LocalPeer { cluster: "test".into(), member: id, address: None, secret: Default::default() };
    let dialer = Dialer {
        network,
        local: Local::new(peer, TransportConfig::lan()).unwrap(),
        handler: Arc::new(Router::default()),
    };
    let config = ClusterConfig::builder("test").build().unwrap();
    let node =
        Arc::new(Node::new(Member::new(id, "a:1", []), Role::Member, config, Remoting::new(dialer), Events::new(16)));
    let (placement, reports) = sink().await;
    node.connect(Parts {
        root: sink().await.0,
        member_list: Inbox::new(sink().await.0),
        gossip: Inbox::new(sink().await.0),
        placement: Inbox::new(placement),
        directory: Arc::new(Directory::new(&node, kinds)),
        pid_cache: Inbox::new(sink().await.0),
        delivery: Inbox::new(sink().await.0),
    });
    (node, reports)
}
