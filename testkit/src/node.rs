use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gristmill::{
    Cluster, ClusterActor, ClusterConfig, ClusterContext, ClusterEvent, EventStream, MemberId, Shutdown, StartError,
};

use crate::wire::Wire;

/// One node of a [`TestCluster`](crate::TestCluster): running, or what it left.
#[derive(Debug)]
pub struct TestNode {
    pub(crate) host: String,
    pub(crate) wire: Arc<Wire>,
    pub(crate) client: bool,
    cluster: Option<Cluster>,
    context: ClusterContext,
    events: Arc<Mutex<Vec<ClusterEvent>>>,
}

impl TestNode {
    pub(crate) async fn start(
        config: ClusterConfig,
        host: String,
        wire: Arc<Wire>,
        client: bool,
    ) -> Result<Self, StartError> {
        let events = record(config.events());
        let (cluster, context) =
            if client { ClusterActor::start_client(config).await? } else { ClusterActor::start_member(config).await? };
        Ok(Self { host, wire, client, cluster: Some(cluster), context, events })
    }

    /// The way into the cluster. After a shutdown or crash it is still there, and every call fails.
    #[must_use]
    pub const fn context(&self) -> &ClusterContext {
        &self.context
    }

    /// Its member id.
    #[must_use]
    pub fn id(&self) -> MemberId {
        self.context.id()
    }

    /// The name of its host in the network.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it was not shut down or crashed by the test.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.cluster.is_some()
    }

    /// The running node.
    ///
    /// # Panics
    /// It was shut down or crashed.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test that goes on without the node would test something else")]
    pub const fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("the node was shut down or crashed")
    }

    /// Every event since before its start, in order.
    #[must_use]
    pub fn events(&self) -> Vec<ClusterEvent> {
        lock(&self.events).clone()
    }

    /// How many of its events are such.
    pub fn count(&self, which: impl Fn(&ClusterEvent) -> bool) -> usize {
        lock(&self.events).iter().filter(|event| which(event)).count()
    }

    /// Whether any of its events is such.
    pub fn saw(&self, which: impl Fn(&ClusterEvent) -> bool) -> bool {
        lock(&self.events).iter().any(which)
    }

    pub(crate) async fn stop(&mut self, how: Shutdown) -> Result<(), gristmill::ShutdownError> {
        match self.cluster.take() {
            Some(cluster) => cluster.shutdown(how).await,
            None => Ok(()),
        }
    }

    /// What a failed test wants to know of it.
    pub(crate) fn describe(&self) -> String {
        let topology = self.context.topology();
        let members: Vec<_> = topology.members().iter().map(|member| member.address.as_str()).collect();
        let state = if self.is_running() { "running" } else { "stopped" };
        let role = if self.client { "client" } else { "member" };
        let events = self.events();
        let last = events.iter().rev().take(5).rev().map(|event| format!("\n    … {event:?}")).collect::<String>();
        format!(
            "{} ({role} {}, {state}): {:?}, topology {} {:016x} of {members:?}, blocked {:?}, {:?}{last}",
            self.host,
            self.id(),
            self.context.downing_decisions(),
            topology.version(),
            topology.hash().get(),
            topology.blocked(),
            self.context.metrics().unwrap_or_default(),
        )
    }
}

/// Collects events in the background, until the node is gone.
fn record(mut events: EventStream) -> Arc<Mutex<Vec<ClusterEvent>>> {
    let recorded = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&recorded);
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            lock(&record).push(event);
        }
    });
    recorded
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
