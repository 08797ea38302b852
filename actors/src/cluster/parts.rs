use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gristmill_core::{Address, Member};
use gristmill_messages::MemberId;
use gristmill_transport::{Acceptor, Local, LocalPeer};
use ractor::{Actor, ActorCell, ActorRef, ActorStatus, SpawnErr};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::{ClusterMessage, Shutdown};
use crate::config::ClusterConfig;
use crate::delivery::{DeliveryActor, DeliveryMessage};
use crate::error::{ShutdownError, StartError};
use crate::gossip::{GossipActor, GossipMessage};
use crate::inbox::Inbox;
use crate::member_list::{FollowerActor, MemberListActor, MemberListMessage};
use crate::node::{self, Node, Role};
use crate::pid_cache::PidCacheActor;
use crate::placement::{Directory, PlacementActor, PlacementMessage};
use crate::provider::{ProviderActor, ProviderArguments, ProviderError, ProviderMessage};
use crate::remoting::{Dialer, Remoting, RemotingActor, RemotingArguments, Router};
use crate::topic;

/// How long a part may take to stop before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The parts of a node that have been started, in the order of their start.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) node: Arc<Node>,
    /// To start it again at the same address.
    config: ClusterConfig,
    parts: Vec<(&'static str, ActorCell)>,
    sweeper: JoinHandle<()>,
}

impl Started {
    /// Opens the port and makes the node around it. Nothing but the listener runs yet.
    pub(super) async fn listen(
        config: ClusterConfig,
        role: Role,
        root: &ActorRef<ClusterMessage>,
    ) -> Result<Self, StartError> {
        let mut config = config;
        let id = new_id();
        let listener = match role {
            Role::Member => Some(
                config
                    .network
                    .listen(&config.listen)
                    .await
                    .map_err(|source| StartError::Listen { address: config.listen.clone(), source })?,
            ),
            Role::Client => None,
        };
        if let Some(listener) = &listener {
            config.listen = listener.local_address().as_str().into();
        }
        let again = config.clone();
        if role == Role::Member {
            config.kinds.push(topic::kind());
        }
        let address =
            listener.as_ref().map(|listener| config.advertise.clone().unwrap_or_else(|| listener.local_address()));
        let mut me = Member::new(id, address.clone().unwrap_or_else(|| "".into()), config.kind_names());
        me.weight = config.weight;
        let local = LocalPeer {
            cluster: config.name.clone(),
            member: id,
            address,
            secret: config.secret.clone().unwrap_or_default(),
        };
        let local = Local::new(local, config.transport.clone())
            .map_err(|error| StartError::Part { part: "remoting", reason: error.to_string() })?;
        let router = Arc::new(Router::default());
        let dialer =
            Dialer { network: Arc::clone(&config.network), local: local.clone(), handler: Arc::clone(&router) };
        let events = config.events.clone();
        let node = Arc::new(Node::new(me, role, config, Remoting::new(dialer), events));
        router.connect(&node);
        let acceptor = listener.map(|listener| {
            Acceptor::start(listener, local, Arc::clone(&router) as Arc<_>, Arc::clone(&router) as Arc<_>)
        });
        let calls = Arc::clone(&node.local_calls);
        let sweeper = tokio::spawn(async move { calls.sweep(node::SWEEP).await });
        let mut started = Self { node: Arc::clone(&node), config: again, parts: Vec::new(), sweeper };
        let arguments = RemotingArguments { node, acceptor };
        started.spawn("remoting", RemotingActor, arguments, root).await?;
        Ok(started)
    }

    /// Starts everything else, and joins through what the provider finds.
    pub(super) async fn join(&mut self, root: &ActorRef<ClusterMessage>) -> Result<(), StartError> {
        self.join_through(root, &[], None).await
    }

    /// The same; one that was cut off joins through the addresses that it knew, too.
    async fn join_through(
        &mut self,
        root: &ActorRef<ClusterMessage>,
        known: &[Address],
        cut_off: Option<(MemberId, Vec<MemberId>)>,
    ) -> Result<(), StartError> {
        let node = Arc::clone(&self.node);
        let gossip = self.spawn("gossip", GossipActor, Arc::clone(&node), root).await?;
        let member_list = match node.role {
            Role::Member => self.spawn("member list", MemberListActor, Arc::clone(&node), root).await?,
            Role::Client => self.spawn("member list", FollowerActor, Arc::clone(&node), root).await?,
        };
        let kinds = node.config.kinds.clone();
        let directory = Arc::new(Directory::new(&node, kinds));
        let arguments = (Arc::clone(&node), Arc::clone(&directory));
        let placement = self.spawn("placement", PlacementActor, arguments, root).await?;
        let pid_cache = self.spawn("PID cache", PidCacheActor, Arc::clone(&node), root).await?;
        let delivery = self.spawn("delivery", DeliveryActor, Arc::clone(&node), root).await?;
        node.connect(node::Parts {
            root: root.clone(),
            member_list: Inbox::new(member_list),
            gossip: Inbox::new(gossip),
            placement: Inbox::new(placement),
            directory,
            pid_cache: Inbox::new(pid_cache),
            delivery: Inbox::new(delivery),
        });
        let parts = node.parts().ok_or_else(|| failed("cluster", "the parts are not connected"))?;
        parts.gossip.send(GossipMessage::Start);
        let (found, addresses) = oneshot::channel();
        self.spawn("provider", ProviderActor, ProviderArguments { node: Arc::clone(&node), found }, root).await?;
        let mut seeds = addresses.await.map_err(|_| failed("provider", "it ended"))?;
        seeds.extend_from_slice(known);
        let joined = parts.member_list.ask(|joined| MemberListMessage::Start { seeds, cut_off, joined }).await;
        joined.ok_or_else(|| failed("member list", "it ended"))?
    }

    /// Ends this life of the node and begins the next one, under a new id at the same address, trying until it has
    /// joined.
    ///
    /// It joins through everybody it knows, and forms a cluster only with others that were cut off like it: those who
    /// go on may merely be unreachable so far, and where no side goes on each would form a cluster of its own.
    ///
    /// None when it was told to end first: whatever it had started has stopped.
    pub(super) async fn rejoin(mut self, root: ActorRef<ClusterMessage>, end: CancellationToken) -> Option<Self> {
        let old = Arc::clone(&self.node);
        let config = self.config.clone();
        drop(self.stop(Shutdown::immediate()).await);
        drop(self);
        let decided = old.decisions.load();
        let fence = decided.last().filter(|decision| decision.fences(old.me.id));
        let settled = fence.map_or_else(Vec::new, |decision| decision.counted(old.me.id));
        let known: Vec<_> = old.view.load().topology().members().iter().map(|member| member.address.clone()).collect();
        let cut_off = Some((old.me.id, settled));
        let membership = &config.timing.membership;
        // The others of a losing side fence too, and must not be joined before.
        let mut pause = membership.probe_interval * 4;
        loop {
            end.run_until_cancelled(tokio::time::sleep(pause)).await?;
            pause = membership.join_retry_max;
            let mut next = match Self::listen(config.clone(), old.role, &root).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "not rejoined yet");
                    continue;
                }
            };
            next.node.decisions.store(old.decisions.load_full());
            match end.run_until_cancelled(next.join_through(&root, &known, cut_off.clone())).await {
                Some(Ok(())) => return Some(next),
                Some(Err(error)) => tracing::info!(%error, "not rejoined yet"),
                None => {}
            }
            drop(next.stop(Shutdown::immediate()).await);
        }
    }

    async fn spawn<A: Actor>(
        &mut self,
        part: &'static str,
        actor: A,
        arguments: A::Arguments,
        root: &ActorRef<ClusterMessage>,
    ) -> Result<ActorRef<A::Msg>, StartError> {
        let spawned = Actor::spawn_linked(None, actor, arguments, root.get_cell()).await;
        let (actor, _) = spawned.map_err(|error| match error {
            SpawnErr::StartupFailed(cause) => match cause.downcast::<ProviderError>() {
                Ok(error) => StartError::Provider(*error),
                Err(other) => failed(part, other),
            },
            other => failed(part, other),
        })?;
        self.parts.push((part, actor.get_cell()));
        Ok(actor)
    }

    /// Which part an actor is.
    pub(super) fn part(&self, actor: &ActorCell) -> Option<&'static str> {
        self.parts.iter().find(|(_, cell)| cell.get_id() == actor.get_id()).map(|(part, _)| *part)
    }

    /// A part that does not run any more.
    pub(super) fn ended_part(&self) -> Option<&'static str> {
        let ended = |cell: &ActorCell| cell.get_status() > ActorStatus::Running;
        self.parts.iter().find(|(_, cell)| ended(cell)).map(|(part, _)| *part)
    }

    /// Ends every part, in the opposite order of their start. Each step is bounded, whether peers answer or not.
    pub(super) async fn stop(&mut self, how: Shutdown) -> Result<(), ShutdownError> {
        let node = Arc::clone(&self.node);
        node.stops();
        let mut result = Ok(());
        if let (Some(grace), Some(parts)) = (how.grace, node.parts()) {
            parts.member_list.send(MemberListMessage::Leave);
            result = self.end("provider", ProviderMessage::Shutdown { graceful: true }).await;
            let unsubscribed = parts.delivery.ask(DeliveryMessage::Close);
            drop(tokio::time::timeout(PATIENCE.min(grace), unsubscribed).await);
            result = result.and(self.end("gossip", GossipMessage::Stop).await);
            let drained = parts.placement.ask(|reply| PlacementMessage::ShutDown { grace, reply });
            result = result.and(match tokio::time::timeout(grace.saturating_add(PATIENCE), drained).await {
                Ok(Some(0)) => Ok(()),
                Ok(Some(grains)) => Err(ShutdownError::CutOff { grains }),
                Ok(None) | Err(_) => Err(ShutdownError::Stuck { part: "placement" }),
            });
            drop(tokio::time::timeout(PATIENCE, parts.member_list.ask(MemberListMessage::Depart)).await);
        }
        if let Some(parts) = node.parts() {
            parts.directory.halt(&node);
        }
        while let Some((part, cell)) = self.parts.pop() {
            result = result.and(stop(part, &cell).await);
        }
        result
    }

    async fn end<M: ractor::Message>(&mut self, part: &str, how: M) -> Result<(), ShutdownError> {
        if let Some(at) = self.parts.iter().position(|(name, _)| *name == part) {
            let (part, cell) = self.parts.remove(at);
            drop(cell.send_message(how));
            return stop(part, &cell).await;
        }
        Ok(())
    }
}

/// Also when the start is given up: whatever has been started ends, though nobody waits for it.
impl Drop for Started {
    fn drop(&mut self) {
        self.node.stops();
        if let Some(parts) = self.node.parts() {
            parts.directory.halt(&self.node);
        }
        for (_, cell) in self.parts.drain(..).rev() {
            cell.stop(None);
        }
        self.node.local_calls.close(|| gristmill_transport::Outcome::unknown("this node has shut down"));
        self.node.pids.clear();
        if let Some(parts) = self.node.parts() {
            parts.directory.close();
        }
        // Each grain knows its node, and the node its grains.
        self.node.doors.clear();
        self.sweeper.abort();
    }
}

/// Ids begin with the time at which they were made, so that the lowest is the oldest: clocks that differ make another
/// member count as the oldest, but the same one on all nodes. The rest is random.
fn new_id() -> MemberId {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let random = rand::random::<u128>() & ((1 << 80) - 1);
    MemberId::new((since_epoch.as_millis() << 80) | random)
}

fn failed(part: &'static str, reason: impl ToString) -> StartError {
    StartError::Part { part, reason: reason.to_string() }
}

async fn stop(part: &'static str, cell: &ActorCell) -> Result<(), ShutdownError> {
    // One that has just ended by itself cannot be drained, which is no failure: only whether it is gone counts.
    drop(cell.drain());
    if cell.wait(Some(PATIENCE)).await.is_ok() {
        return Ok(());
    }
    cell.kill();
    Err(ShutdownError::Stuck { part })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ractor::ActorProcessingErr;

    use super::*;
    use crate::cluster::ClusterActor;
    use crate::config::{OnEviction, Timing};
    use crate::event::ClusterEvent;
    use crate::provider::{ClusterProvider, Discovery, ProviderFuture};

    struct Idle;

    impl Actor for Idle {
        type Msg = ();
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_part_that_has_ended_by_itself_has_stopped_in_order() {
        let (actor, ended) = Actor::spawn(None, Idle, ()).await.unwrap();
        actor.stop(None);
        ended.await.unwrap();
        assert_eq!(stop("idle", &actor.get_cell()).await, Ok(()));
    }

    #[tokio::test]
    async fn a_part_that_runs_is_stopped() {
        let (actor, ended) = Actor::spawn(None, Idle, ()).await.unwrap();
        assert_eq!(stop("idle", &actor.get_cell()).await, Ok(()));
        ended.await.unwrap();
    }

    struct Deaf;

    impl Actor for Deaf {
        type Msg = ();
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }

        async fn handle(&self, _: ActorRef<()>, (): (), (): &mut ()) -> Result<(), ActorProcessingErr> {
            std::future::pending().await
        }
    }

    // proves TG-2
    #[tokio::test(start_paused = true)]
    async fn a_part_that_does_not_end_is_killed_and_named() {
        let (actor, ended) = Actor::spawn(None, Deaf, ()).await.unwrap();
        actor.cast(()).unwrap();
        let begun = tokio::time::Instant::now();
        assert_eq!(stop("deaf", &actor.get_cell()).await, Err(ShutdownError::Stuck { part: "deaf" }));
        assert_eq!(begun.elapsed().as_secs(), PATIENCE.as_secs());
        ended.await.unwrap();
    }

    struct Failing;

    impl Actor for Failing {
        type Msg = ();
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
            Err("no".into())
        }
    }

    fn config() -> ClusterConfig {
        ClusterConfig::builder("parts").build().unwrap()
    }

    async fn is_free(address: &str) -> bool {
        tokio::net::TcpListener::bind(address).await.is_ok()
    }

    // proves CX-4.3
    #[tokio::test]
    async fn a_cluster_whose_gossip_does_not_start_does_not_start_and_leaves_nothing_behind() {
        let mut config = config();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        config.listen = listener.local_addr().unwrap().to_string();
        drop(listener);
        let address = config.listen.clone();
        // No builder lets this through.
        config.timing.gossip.interval = Duration::ZERO;
        let mut events = config.events();
        let error = ClusterActor::start_member(config).await.unwrap_err();
        assert!(matches!(error, StartError::Part { part: "gossip", .. }), "{error}");
        assert!(matches!(events.next().await, Some(ClusterEvent::StartupFailed { .. })));
        assert!(is_free(&address).await);
    }

    // proves CX-4.3
    #[tokio::test]
    async fn any_part_that_does_not_start_is_named_and_what_has_started_is_stopped() {
        let (root, ended) = Actor::spawn(None, Idle, ()).await.unwrap();
        let root: ActorRef<ClusterMessage> = root.get_cell().into();
        let mut started = Started::listen(config(), Role::Member, &root).await.unwrap();
        let address = started.node.me.address.clone();
        assert!(!is_free(address.as_str()).await);
        let failed = started.spawn("delivery", Failing, (), &root).await.map(|_| ());
        assert!(matches!(failed, Err(StartError::Part { part: "delivery", .. })));
        assert_eq!(started.stop(Shutdown::immediate()).await, Ok(()));
        assert!(is_free(address.as_str()).await);
        root.stop(None);
        ended.await.unwrap();
    }

    /// Finds nobody. Its end takes a moment, and its second life never starts.
    #[derive(Debug, Default, Clone)]
    struct Once(Arc<[AtomicUsize; 3]>);

    impl Once {
        /// How often it was started, began to stop, and has stopped.
        fn seen(&self) -> [usize; 3] {
            std::array::from_fn(|at| self.0[at].load(Ordering::SeqCst))
        }
    }

    impl ClusterProvider for Once {
        fn start_member<'a>(&'a self, _: &'a Member, discovery: Discovery) -> ProviderFuture<'a> {
            self.start_client(discovery)
        }

        fn start_client(&self, discovery: Discovery) -> ProviderFuture<'_> {
            Box::pin(async move {
                if self.0[0].fetch_add(1, Ordering::SeqCst) > 0 {
                    discovery.closed().await;
                }
                discovery.report(vec![]);
                Ok(())
            })
        }

        fn shutdown(&self, _: bool) -> ProviderFuture<'_> {
            Box::pin(async {
                self.0[1].fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                self.0[2].fetch_add(1, Ordering::SeqCst);
                Ok(())
            })
        }
    }

    #[tokio::test]
    async fn a_node_that_is_shut_down_between_two_lives_has_ended_both_when_that_is_answered() {
        for lives in [1, 2] {
            let provider = Once::default();
            let config = ClusterConfig::builder("parts")
                .timing(Timing::test())
                .on_eviction(OnEviction::Rejoin)
                .provider(provider.clone());
            let (cluster, context) = ClusterActor::start_member(config.build().unwrap()).await.unwrap();
            let address = context.address().clone();
            context.node().fence();
            cluster.actor().cast(ClusterMessage::EVICTED).unwrap();
            let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
            while provider.seen()[0] < lives || provider.seen()[1] < 1 {
                assert!(tokio::time::Instant::now() < deadline, "never rejoins: {:?}", provider.seen());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(!is_free(address.as_str()).await, "it listens still, or again");
            cluster.shutdown(Shutdown::immediate()).await.unwrap();
            assert!(is_free(address.as_str()).await);
            assert!(provider.seen()[2] > 0, "nobody has waited for the end of its first life");
        }
    }
}
