//! The library among ractor actors: a node as an ordinary actor, and an ordinary actor as a grain.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test may fail where it stands

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use gristmill::{
    Answer, ClusterActor, ClusterArguments, ClusterConfig, ClusterContext, ClusterEvent, ClusterMessage,
    DeactivationReason, ErrorCode, GrainContext, GrainError, HostedCall, Kind, MemoryNetwork, NotRunning, Reply,
    RequestError, Shutdown, ShutdownError, StartError, Timing,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::sync::Semaphore;
use tokio::time::Instant;

const GRACE: Duration = Duration::from_secs(10);

/// What a [`Hosted`] actor is asked; the answer is as many.
#[derive(Clone, PartialEq, prost::Message)]
struct Count {
    #[prost(uint64, tag = "1")]
    by: u64,
}

impl prost::Name for Count {
    const NAME: &'static str = "Count";
    const PACKAGE: &'static str = "test";
}

/// What the actor and its test share.
#[derive(Debug, Default)]
struct Shared {
    refuses: AtomicBool,
    running: AtomicUsize,
    waiting: AtomicUsize,
    stopped: AtomicUsize,
}

#[derive(Clone)]
struct Hosted(Arc<Shared>, Arc<Semaphore>);

struct Hand(HostedCall);

impl From<HostedCall> for Hand {
    fn from(call: HostedCall) -> Self {
        Self(call)
    }
}

struct Counted {
    sum: u64,
    later: Vec<Answer>,
    context: Arc<GrainContext>,
}

/// By 0: panics. By 1,000: waits. By 2,000: answers with the next. By 3,000: stops itself. By 4,000: fails.
impl Actor for Hosted {
    type Msg = Hand;
    type State = Counted;
    type Arguments = Arc<GrainContext>;

    async fn pre_start(&self, _: ActorRef<Hand>, context: Arc<GrainContext>) -> Result<Counted, ActorProcessingErr> {
        if self.0.refuses.load(Ordering::SeqCst) {
            return Err("told not to start".into());
        }
        self.0.running.fetch_add(1, Ordering::SeqCst);
        Ok(Counted { sum: 0, later: Vec::new(), context })
    }

    async fn handle(&self, _: ActorRef<Hand>, Hand(call): Hand, state: &mut Counted) -> Result<(), ActorProcessingErr> {
        let (count, answer) = call.open(|call, answer| (call.decode::<Count>(), answer));
        let by = match count {
            Ok(Count { by }) => by,
            Err(error) => {
                answer.send(Err(error.into()));
                return Ok(());
            }
        };
        assert!(by > 0, "told to panic");
        match by {
            1_000 => {
                self.0.waiting.fetch_add(1, Ordering::SeqCst);
                self.1.acquire().await.unwrap().forget();
            }
            2_000 => {
                state.later.push(answer);
                return Ok(());
            }
            3_000 => state.context.stop(),
            4_000 => return Err("told to fail".into()),
            _ => {}
        }
        state.sum += by;
        for answer in state.later.drain(..).chain([answer]) {
            answer.send(Reply::message(&Count { by: state.sum }));
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Hand>, _: &mut Counted) -> Result<(), ActorProcessingErr> {
        self.0.stopped.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn config(kind: Option<Kind>) -> ClusterConfig {
    let builder = ClusterConfig::builder("test")
        .listen("a:7")
        .network(Arc::new(MemoryNetwork::new().host("a")))
        .timing(Timing::test());
    match kind {
        Some(kind) => builder.kind(kind),
        None => builder,
    }
    .build()
    .unwrap()
}

async fn count(context: &ClusterContext, by: u64) -> Result<u64, RequestError> {
    context.grain(("hosted", "a")).deadline(Duration::from_secs(30)).request(Count { by }).await.map(|c: Count| c.by)
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_ractor_actor_is_a_grain_like_any_other() {
    let (shared, gate) = (Arc::new(Shared::default()), Arc::new(Semaphore::new(0)));
    let hosted = Hosted(Arc::clone(&shared), Arc::clone(&gate));
    let kind = Kind::actor("hosted", move || hosted.clone()).mailbox(NonZeroUsize::new(2).unwrap());
    let (cluster, context) = ClusterActor::start_member(config(Some(kind))).await.unwrap();
    let mut events = context.events();

    assert_eq!(count(&context, 1).await, Ok(1));
    assert_eq!(count(&context, 2).await, Ok(3), "the same activation");
    let refused = context.request::<_, Count>(("hosted", "a"), ()).await.unwrap_err();
    assert!(matches!(refused, RequestError::Rejected(GrainError { code: ErrorCode::Unimplemented, .. })), "{refused}");

    // An answer may be given later.
    let (later, now) = tokio::join!(count(&context, 2_000), async {
        tokio::task::yield_now().await;
        count(&context, 1).await
    });
    assert_eq!((later, now), (Ok(4), Ok(4)));

    // A stop handles what is queued, and the next message makes another activation.
    assert_eq!(count(&context, 3_000).await, Ok(3_004));
    eventually("it has stopped", || shared.stopped.load(Ordering::SeqCst) == 1).await;
    assert_eq!(count(&context, 5).await, Ok(5));

    // A panic, or an error, does not hang its caller, and ends the activation only.
    for by in [0, 4_000] {
        assert!(matches!(count(&context, by).await, Err(RequestError::UnknownOutcome { .. })));
    }
    assert_eq!(count(&context, 6).await, Ok(6));
    assert_eq!(shared.running.load(Ordering::SeqCst), 4);

    // The mailbox is bounded: a third message waits with its sender.
    let before = context.metrics().unwrap().retries;
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let context = context.clone();
            tokio::spawn(async move { count(&context, 1_000).await })
        })
        .collect();
    eventually("some find no room", || context.metrics().unwrap().retries > before + 2).await;
    gate.add_permits(4);
    let mut sums = Vec::new();
    for waiting in waiting {
        sums.push(waiting.await.unwrap().unwrap());
    }
    sums.sort_unstable();
    assert_eq!(sums, [1_006, 2_006, 3_006, 4_006]);

    // One that does not end is cut off.
    let stuck = tokio::spawn({
        let context = context.clone();
        async move { count(&context, 1_000).await }
    });
    eventually("it takes the message", || shared.waiting.load(Ordering::SeqCst) == 5).await;
    let shutdown = cluster.shutdown(Shutdown::graceful(Duration::from_millis(200))).await;
    let answer = tokio::time::timeout(Duration::from_secs(10), stuck).await.expect("its caller still waits").unwrap();
    assert!(shutdown.is_err() && answer.is_err(), "{shutdown:?} {answer:?}");

    let mut ends = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            ClusterEvent::ActivationTerminated { reason, .. } => ends.push(reason),
            ClusterEvent::Shutdown | ClusterEvent::ShutdownFailed { .. } => break,
            _ => {}
        }
    }
    assert_eq!(ends[..3], [DeactivationReason::Stopped, DeactivationReason::Panicked, DeactivationReason::Panicked]);
    assert_eq!(ends.len(), 4, "{ends:?}");
}

#[tokio::test]
async fn an_actor_that_does_not_start_fails_its_activation_at_once() {
    let shared = Arc::new(Shared { refuses: AtomicBool::new(true), ..Shared::default() });
    let hosted = Hosted(Arc::clone(&shared), Arc::new(Semaphore::new(0)));
    let kind = Kind::actor("hosted", move || hosted.clone());
    let (cluster, context) = ClusterActor::start_member(config(Some(kind))).await.unwrap();
    match count(&context, 1).await.unwrap_err() {
        error @ RequestError::NotDelivered { attempts: 1, .. } => {
            assert!(error.to_string().contains("told not to start"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    shared.refuses.store(false, Ordering::SeqCst);
    assert_eq!(count(&context, 1).await, Ok(1));
    cluster.shutdown(Shutdown::graceful(GRACE)).await.unwrap();
}

#[tokio::test]
async fn a_factory_that_panics_fails_its_activation_and_nothing_else() {
    let shared = Arc::new(Shared { refuses: AtomicBool::new(true), ..Shared::default() });
    let (hosted, panics) = (Hosted(Arc::clone(&shared), Arc::new(Semaphore::new(0))), Arc::clone(&shared));
    let kind = Kind::actor("hosted", move || {
        assert!(!panics.refuses.swap(false, Ordering::SeqCst), "told to panic");
        hosted.clone()
    });
    let (cluster, context) = ClusterActor::start_member(config(Some(kind))).await.unwrap();
    match count(&context, 1).await.unwrap_err() {
        error @ RequestError::NotDelivered { attempts: 1, .. } => {
            assert!(error.to_string().contains("panicked"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(count(&context, 1).await, Ok(1));
    cluster.shutdown(Shutdown::graceful(GRACE)).await.unwrap();
}

#[test]
fn a_hosted_actor_survives_the_runtime_of_who_called_it_first() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let home = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let hosted = Hosted(Arc::default(), Arc::new(Semaphore::new(0)));
    let kind = Kind::actor("hosted", move || hosted.clone());
    let (cluster, context) = home.block_on(ClusterActor::start_member(config(Some(kind)))).unwrap();
    assert_eq!(runtime().block_on(count(&context, 1)), Ok(1));
    assert_eq!(runtime().block_on(count(&context, 2)), Ok(3), "the same activation");
    home.block_on(cluster.shutdown(Shutdown::graceful(GRACE))).unwrap();
}

#[tokio::test]
async fn a_node_is_an_ordinary_actor() {
    let (node, ended) = Actor::spawn(None, ClusterActor, ClusterArguments::member(config(None))).await.unwrap();
    let context = ractor::call!(node, ClusterMessage::Context).unwrap();
    assert_eq!(context.topology().members().len(), 1);
    let down = ractor::call!(node, |reply| ClusterMessage::Shutdown(Shutdown::graceful(GRACE), reply)).unwrap();
    assert_eq!(down, Ok(()));
    ended.await.unwrap();
    assert_eq!(context.members().await.unwrap_err(), NotRunning);

    // Stopped without a word, it takes everything down too.
    let config = config(None);
    let mut events = config.events();
    let (node, ended) = Actor::spawn(None, ClusterActor, ClusterArguments::member(config)).await.unwrap();
    node.stop(None);
    ended.await.unwrap();
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event);
    }
    assert_eq!(last, Some(ClusterEvent::Shutdown));
}

#[tokio::test]
async fn a_node_whose_root_is_killed_says_that_it_was_aborted_and_takes_everything_down() {
    let config = config(None);
    let mut events = config.events();
    let (cluster, context) = ClusterActor::start_member(config).await.unwrap();
    cluster.actor().kill();
    assert_eq!(cluster.ended().await, Err(ShutdownError::Aborted));
    let deadline = Instant::now() + Duration::from_secs(30);
    while context.members().await != Err(NotRunning) {
        assert!(Instant::now() < deadline, "its parts still run");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    drop(context);
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(ClusterEvent::ShutdownFailed { .. })), "{last:?}");
}

#[tokio::test]
async fn how_a_node_has_ended_is_told_to_who_waits_for_that() {
    let shared = Arc::new(Shared::default());
    let hosted = Hosted(Arc::clone(&shared), Arc::new(Semaphore::new(0)));
    let kind = Kind::actor("hosted", move || hosted.clone());
    let (cluster, context) = ClusterActor::start_member(config(Some(kind))).await.unwrap();
    let root = cluster.actor().clone();
    let ended = tokio::spawn(cluster.ended());
    let call = tokio::spawn(async move { count(&context, 1_000).await });
    eventually("it runs", || shared.waiting.load(Ordering::SeqCst) == 1).await;
    let how = Shutdown::graceful(Duration::from_millis(50));
    let down = ractor::call!(root, |reply| ClusterMessage::Shutdown(how, reply)).unwrap();
    let cut_off = Err(ShutdownError::CutOff { grains: 1 });
    assert_eq!((down, ended.await.unwrap()), (cut_off.clone(), cut_off));
    assert!(call.await.unwrap().is_err());
}

#[tokio::test]
async fn a_node_that_does_not_start_fails_its_spawn_with_the_reason() {
    let nobody = ClusterConfig::builder("test")
        .listen("a:7")
        .network(Arc::new(MemoryNetwork::new().host("a")))
        .timing(Timing::test())
        .seeds(["nowhere:1"])
        .build()
        .unwrap();
    match Actor::spawn(None, ClusterActor, ClusterArguments::member(nobody)).await {
        Err(SpawnErr::StartupFailed(cause)) => {
            assert!(matches!(cause.downcast_ref::<StartError>(), Some(StartError::Join(_))), "{cause}");
        }
        other => panic!("{other:?}"),
    }
}
