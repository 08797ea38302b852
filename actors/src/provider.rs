//! How members find each other.
//!
//! A [`ClusterProvider`] knows addresses, from a list, a file, a registry; it reports them and never decides who is a
//! member. The member list contacts what is reported, over the network, and the cluster's own protocol does the rest.

mod actor;
mod memory;
mod seeds;
mod static_list;

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use gristmill_core::{Address, Member};
use tokio::sync::watch;

pub(crate) use self::actor::{ProviderActor, ProviderArguments, ProviderMessage};
pub use self::memory::MemoryProvider;
pub use self::seeds::SeedNodes;
pub use self::static_list::StaticList;

/// A boxed future, so that providers can be chosen at run time.
pub type ProviderFuture<'a> = Pin<Box<dyn Future<Output = Result<(), ProviderError>> + Send + 'a>>;

/// Finds members. Shipped: [`SeedNodes`], [`StaticList`], [`MemoryProvider`].
///
/// One provider serves one node at a time, and may be started again after its shutdown.
pub trait ClusterProvider: Debug + Send + Sync + 'static {
    /// Announces `member`, where the provider has a place for that, and starts to report what it finds.
    /// It must report at least once before it returns, an empty list if nobody is there.
    ///
    /// # Errors
    /// Whatever keeps it from starting; the node then does not start.
    fn start_member<'a>(&'a self, member: &'a Member, discovery: Discovery) -> ProviderFuture<'a>;

    /// Starts to report what it finds to a client, which is no member.
    ///
    /// # Errors
    /// Whatever keeps it from starting; the client then does not start.
    fn start_client(&self, discovery: Discovery) -> ProviderFuture<'_>;

    /// Stops reporting and takes back the announcement. `graceful`: the member leaves in order. Calling it again does
    /// nothing.
    ///
    /// # Errors
    /// What could not be taken back; the node shuts down all the same.
    fn shutdown(&self, graceful: bool) -> ProviderFuture<'_>;
}

/// Where a provider reports addresses. Only the newest list counts, so a slow node is never flooded.
#[derive(Debug, Clone)]
pub struct Discovery(watch::Sender<Option<Vec<Address>>>);

impl Discovery {
    pub(crate) fn new() -> (Self, watch::Receiver<Option<Vec<Address>>>) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), receiver)
    }

    /// Reports every address at which a member may listen now, in the provider's order; this node's own may be among
    /// them. The first of the list may form a cluster when it finds none.
    pub fn report(&self, addresses: Vec<Address>) {
        self.0.send_replace(Some(addresses));
    }

    /// Completes when the node no longer listens to reports.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// Why a provider did not start or stop. Whether a retry helps depends on the provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// The member is not in the list that says who may be one. The configuration's fault.
    #[error("{address} is not in the static list")]
    NotListed {
        /// The member's advertised address.
        address: Address,
    },
    /// It has been started and not shut down.
    #[error("the provider is already running")]
    AlreadyRunning,
    /// What it relies on is not there.
    #[error("the provider's backend: {0}")]
    Backend(String),
}
