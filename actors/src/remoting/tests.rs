use std::io;

use futures_util::future::BoxFuture;
use gristmill_transport::{Listener, MemoryHost, MemoryNetwork, Stream};

use super::*;
use crate::{Cluster, ClusterActor, ClusterConfig, ClusterContext, Shutdown, Timing};

/// A host to which the name `svc` is whoever it says.
#[derive(Debug)]
struct Named(MemoryHost, &'static str);

impl Network for Named {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        self.0.listen(address)
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        self.0.connect(if address == "svc:1" { self.1 } else { address })
    }
}

async fn start(network: impl Network, host: &str, seeds: &[&str]) -> (Cluster, ClusterContext) {
    let config = ClusterConfig::builder("test")
        .listen(format!("{host}:1"))
        .seeds(seeds.iter().copied())
        .network(Arc::new(network))
        .timing(Timing::test());
    ClusterActor::start_member(config.build().unwrap()).await.unwrap()
}

#[tokio::test]
async fn who_was_met_behind_a_name_is_known_by_the_address_that_it_tells() {
    let network = MemoryNetwork::new();
    let (met, context) = start(network.host("a"), "a", &[]).await;
    let (joiner, other) = start(Named(network.host("b"), "a:1"), "b", &["svc:1"]).await;
    let endpoint = other.node().remoting.known(context.id()).unwrap();
    assert!(endpoint.is_at(&"a:1".into()), "{endpoint:?}");
    for cluster in [met, joiner] {
        cluster.shutdown(Shutdown::immediate()).await.unwrap();
    }
}
