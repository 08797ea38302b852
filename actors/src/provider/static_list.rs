use gristmill_core::{Address, Member};

use crate::provider::{ClusterProvider, Discovery, ProviderError, ProviderFuture};

/// A closed list of members: a node whose address is not in it does not start as a member.
#[derive(Debug, Clone)]
pub struct StaticList(Vec<Address>);

impl StaticList {
    /// The addresses at which members listen, in the order that all nodes agree on.
    pub fn new<A: Into<Address>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self(addresses.into_iter().map(Into::into).collect())
    }
}

impl ClusterProvider for StaticList {
    fn start_member<'a>(&'a self, member: &'a Member, discovery: Discovery) -> ProviderFuture<'a> {
        if !self.0.contains(&member.address) {
            let address = member.address.clone();
            return Box::pin(async { Err(ProviderError::NotListed { address }) });
        }
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
