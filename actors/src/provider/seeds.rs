use gristmill_core::{Address, Member};

use crate::provider::{ClusterProvider, Discovery, ProviderFuture};

/// Joins through a fixed list of seed members; any node may join. The default.
///
/// The first seed of the list that runs forms the cluster; the order is the same on all nodes. With an empty list the
/// node forms a cluster of its own.
#[derive(Debug, Clone)]
pub struct SeedNodes(Vec<Address>);

impl SeedNodes {
    /// The seeds, in the order that all nodes agree on.
    pub fn new<A: Into<Address>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self(addresses.into_iter().map(Into::into).collect())
    }
}

impl ClusterProvider for SeedNodes {
    fn start_member<'a>(&'a self, _: &'a Member, discovery: Discovery) -> ProviderFuture<'a> {
        self.start_client(discovery)
    }

    fn start_client(&self, discovery: Discovery) -> ProviderFuture<'_> {
        discovery.report(self.0.clone());
        Box::pin(async { Ok(()) })
    }

    fn shutdown(&self, _graceful: bool) -> ProviderFuture<'_> {
        Box::pin(async { Ok(()) })
    }
}
