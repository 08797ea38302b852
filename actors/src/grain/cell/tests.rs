mod birth;
mod lending;

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{OnceLock, Weak};

use bytes::Bytes;
use gristmill_messages::{ActivationEpoch, ActivationId, ClusterIdentity, MessageName, TopologyVersion};
use gristmill_transport::{PendingCall, PendingCalls};
use tokio::sync::{Barrier, Semaphore, mpsc};
use tokio::time::Instant;

use super::*;
use crate::ClusterContext;
use crate::grain::{Reply, ReplyTo};
use crate::node::bench::node;
use crate::placement::PlacementMessage;

const PATIENCE: Duration = Duration::from_secs(30);

/// What the tests and their grain share.
struct Seen {
    handled: Mutex<Vec<String>>,
    turns: AtomicU64,
    in_a_turn: AtomicBool,
    deactivated: Mutex<Option<DeactivationReason>>,
    /// Whether the grain was dropped, and the activation had not ended then.
    dropped_in_time: AtomicBool,
    cell: OnceLock<Weak<Cell<Script>>>,
    /// Permits for turns that wait.
    gate: Semaphore,
}

impl Seen {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            handled: Mutex::default(),
            turns: AtomicU64::new(0),
            in_a_turn: AtomicBool::new(false),
            deactivated: Mutex::default(),
            dropped_in_time: AtomicBool::new(false),
            cell: OnceLock::new(),
            gate: Semaphore::new(0),
        })
    }

    fn handled(&self) -> Vec<String> {
        self.handled.lock().unwrap().clone()
    }

    fn turns(&self) -> u64 {
        self.turns.load(Ordering::SeqCst)
    }
}

/// Does what the name of its identity or of a message says.
struct Script(Arc<Seen>);

impl Grain for Script {
    async fn on_activate(&mut self, context: &GrainContext) -> Result<(), GrainError> {
        match context.identity().identity.as_str() {
            "refuses" => Err(GrainError::internal("no")),
            "panics" => panic!("told to"),
            "hangs" => std::future::pending().await,
            "waits" => {
                self.0.gate.acquire().await.unwrap().forget();
                Ok(())
            }
            "is cut off at its end" => {
                self.0.cell.get().and_then(Weak::upgrade).unwrap().stop();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn receive(&mut self, call: Call<'_>, _: &GrainContext) -> Result<Reply, GrainError> {
        assert!(!self.0.in_a_turn.swap(true, Ordering::SeqCst), "two turns at once");
        let name = call.name().to_string();
        match name.as_str() {
            "count" => {}
            "stop" => self.0.cell.get().and_then(Weak::upgrade).unwrap().stop(),
            "drain" => self.0.cell.get().and_then(Weak::upgrade).unwrap().drain(DeactivationReason::Idle),
            "yield" => tokio::task::yield_now().await,
            _ => self.0.handled.lock().unwrap().push(name.clone()),
        }
        self.0.turns.fetch_add(1, Ordering::SeqCst);
        if name == "wait" {
            self.0.gate.acquire().await.unwrap().forget();
        }
        self.0.in_a_turn.store(false, Ordering::SeqCst);
        assert!(name != "panic", "told to");
        Ok(Reply::encoded(name, Bytes::new()))
    }

    async fn on_deactivate(&mut self, reason: DeactivationReason, context: &GrainContext) {
        *self.0.deactivated.lock().unwrap() = Some(reason);
        assert!(context.identity().identity != "panics last", "told to");
        if context.identity().identity == "hangs last" {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let cell = self.0.cell.get().and_then(Weak::upgrade);
        let ended = cell.is_none_or(|cell| matches!(cell.lock().life, Life::Gone));
        self.0.dropped_in_time.store(!ended, Ordering::SeqCst);
    }
}

struct Bench {
    cell: Arc<Cell<Script>>,
    seen: Arc<Seen>,
    calls: Arc<PendingCalls<Outcome>>,
    reports: mpsc::UnboundedReceiver<PlacementMessage>,
}

const ACTIVATION: ActivationId = ActivationId::new(NonZeroU64::new(7).unwrap());

impl Bench {
    /// A cell whose activation has been spawned, not more.
    async fn start(identity: &str, settings: KindSettings) -> Self {
        let bench = Self::unborn(identity, settings).await;
        Arc::clone(&bench.cell).begin_apart();
        bench
    }

    /// A cell whose grain nobody has begun to make.
    async fn unborn(identity: &str, settings: KindSettings) -> Self {
        let (node, reports) = node(Vec::new()).await;
        let context = GrainContext {
            identity: Arc::new(ClusterIdentity::new("script", identity)),
            activation: ACTIVATION,
            epoch: ActivationEpoch { topology: TopologyVersion::new(1), sequence: 1 },
            cluster: ClusterContext::new(node),
        };
        let seen = Seen::new();
        let shared = Arc::clone(&seen);
        let cell = Cell::new(Arc::new(settings), context, Arc::new(move || Script(Arc::clone(&shared))));
        seen.cell.set(Arc::downgrade(&cell)).unwrap();
        Self { cell, seen, calls: Arc::default(), reports }
    }

    /// A cell that rests.
    async fn resting(settings: KindSettings) -> Self {
        let mut bench = Self::start("a", settings).await;
        assert!(matches!(bench.report().await, PlacementMessage::Activated(ACTIVATION)));
        bench.until_cold().await;
        bench
    }

    /// Calls it until it keeps its task, and waits.
    async fn busy(&self) {
        for _ in 0..=BURSTS {
            answers(self.send("a")).await;
        }
        self.until(|bench| bench.cell.lock().task.as_ref().is_some_and(|task| task.parked.is_some())).await;
    }

    async fn until_cold(&self) {
        self.until(|bench| {
            let inner = bench.cell.lock();
            matches!(inner.life, Life::Resting(_)) && inner.task.is_none()
        })
        .await;
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "never happened");
            tokio::task::yield_now().await;
        }
    }

    async fn report(&mut self) -> PlacementMessage {
        let report = tokio::time::timeout(PATIENCE, self.reports.recv()).await;
        report.expect("no report").expect("no placement")
    }

    async fn ended(&mut self) -> Ended {
        match self.report().await {
            PlacementMessage::Ended(ended) => ended,
            _ => panic!("another report than that of the end"),
        }
    }

    fn call(&self, name: &str) -> (Result<(), NotDeliveredReason>, Answered<'_>) {
        self.call_until(name, Instant::now() + PATIENCE)
    }

    fn call_until(&self, name: &str, deadline: Instant) -> (Result<(), NotDeliveredReason>, Answered<'_>) {
        let (_, answered) = self.calls.register(deadline);
        let envelope = Envelope {
            message: MessageName::from(name.to_owned()),
            data: Bytes::new().into(),
            deadline: None,
            traceparent: None,
            reply: ReplyTo::local(answered.completer()),
        };
        let delivered = Arc::clone(&self.cell).deliver(envelope).map_err(|refused| refused.reason);
        (delivered, answered)
    }

    /// A call that is taken in.
    fn send(&self, name: &str) -> Answered<'_> {
        let (delivered, answered) = self.call(name);
        assert_eq!(delivered, Ok(()));
        answered
    }
}

/// What became of a call that may be answered at once.
enum Called<'a> {
    AtOnce(Outcome),
    Later(Answered<'a>),
    Refused,
}

impl Bench {
    /// A call as a caller of this node makes it.
    fn lent(&self, name: &str) -> Called<'_> {
        let mut later = None;
        let (message, data) = (MessageName::from(name.to_owned()), Bytes::new());
        let envelope =
            Envelope { message, data: data.into(), deadline: None, traceparent: None, reply: ReplyTo::nobody() };
        let called = self.cell.call(envelope, &mut || {
            let (_, answered) = self.calls.register(Instant::now() + PATIENCE);
            ReplyTo::local(later.insert(answered).completer())
        });
        match (called, later) {
            (Ok(Some(outcome)), None) => Called::AtOnce(outcome),
            (Ok(None), Some(answered)) => Called::Later(answered),
            (Err(_), _) => Called::Refused,
            (Ok(_), _) => panic!("answered at once, and a way back taken"),
        }
    }
}

impl Called<'_> {
    fn at_once(self) -> Outcome {
        match self {
            Self::AtOnce(outcome) => outcome,
            _ => panic!("not answered at once"),
        }
    }
}

/// Of a kind that has proven that its turns and its activations are brief.
fn brief() -> KindSettings {
    let settings = settings();
    for _ in 0..64 {
        settings.brief.record(Duration::ZERO);
        settings.brief_start.record(Duration::ZERO);
    }
    settings
}

type Answered<'a> = PendingCall<'a, Outcome>;

fn settings() -> KindSettings {
    KindSettings {
        mailbox: 1_000,
        on_panic: OnPanic::Deactivate,
        idle_after: None,
        brief: Arc::default(),
        brief_start: Arc::default(),
    }
}

async fn outcome(answered: Answered<'_>) -> Outcome {
    tokio::time::timeout(PATIENCE, answered).await.expect("never answered").expect("expired")
}

async fn answers(answered: Answered<'_>) -> String {
    match outcome(answered).await {
        Outcome::Response { message, .. } => message.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn refusal(answered: Answered<'_>) -> NotDeliveredReason {
    match outcome(answered).await {
        Outcome::NotDelivered { reason, .. } => reason.into(),
        other => panic!("{other:?}"),
    }
}

fn is_deactivated(ended: &Ended, because: DeactivationReason) -> bool {
    matches!(ended, Ended::Deactivated(ACTIVATION, reason) if *reason == because)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_handled_one_at_a_time_each_senders_in_its_order() {
    let bench = Arc::new(Bench::resting(settings()).await);
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move {
                let calls: Vec<_> = (0..200).map(|at| bench.send(&format!("{sender}:{at}"))).collect();
                for call in calls {
                    answers(call).await;
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    let handled = bench.seen.handled();
    for sender in 0..4 {
        let own: Vec<_> = handled.iter().filter(|name| name.starts_with(&format!("{sender}:"))).cloned().collect();
        assert_eq!(own, (0..200).map(|at| format!("{sender}:{at}")).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_full_mailbox_refuses_and_takes_in_again_when_there_is_room() {
    let bench = Bench::resting(KindSettings { mailbox: 2, ..settings() }).await;
    let running = bench.send("wait");
    bench.until(|bench| bench.seen.turns() == 1).await;
    let waiting = [bench.send("a"), bench.send("b")];
    assert_eq!(bench.call("c").0, Err(NotDeliveredReason::Overloaded));
    bench.seen.gate.add_permits(1);
    answers(running).await;
    for call in waiting {
        answers(call).await;
    }
    answers(bench.send("d")).await;
    assert_eq!(bench.seen.handled(), ["wait", "a", "b", "d"]);
}

#[tokio::test]
async fn what_the_task_has_taken_from_the_queue_still_counts_as_waiting() {
    let bench = Bench::resting(KindSettings { mailbox: 3, ..settings() }).await;
    // All three are taken together, since the task has not run yet.
    let taken = [bench.send("wait"), bench.send("a"), bench.send("b")];
    bench.until(|bench| bench.seen.turns() == 1).await;
    let third = bench.send("c");
    assert_eq!(bench.call("d").0, Err(NotDeliveredReason::Overloaded));
    bench.seen.gate.add_permits(1);
    for call in taken {
        answers(call).await;
    }
    answers(third).await;
    assert_eq!(bench.seen.handled(), ["wait", "a", "b", "c"]);
}

#[tokio::test]
async fn a_panic_is_answered_and_ends_the_activation_and_what_waited_behind_it_is_given_back() {
    let mut bench = Bench::resting(settings()).await;
    let (panics, behind) = (bench.send("panic"), bench.send("a"));
    match outcome(panics).await {
        Outcome::Rejected { code, .. } => assert_eq!(code, "PANICKED"),
        other => panic!("{other:?}"),
    }
    assert_eq!(refusal(behind).await, NotDeliveredReason::Stopping);
    assert!(is_deactivated(&bench.ended().await, DeactivationReason::Panicked));
    assert_eq!(bench.call("b").0, Err(NotDeliveredReason::Stopping));
    assert_eq!(bench.seen.handled(), ["panic"]);
    assert_eq!(*bench.seen.deactivated.lock().unwrap(), None, "its state may be broken");
}

#[tokio::test]
async fn a_kind_may_keep_a_grain_that_panicked() {
    let bench = Bench::resting(KindSettings { on_panic: OnPanic::Keep, ..settings() }).await;
    let (panics, behind) = (bench.send("panic"), bench.send("a"));
    assert!(matches!(outcome(panics).await, Outcome::Rejected { .. }));
    answers(behind).await;
    assert!(!bench.seen.dropped_in_time.load(Ordering::SeqCst));
}

#[tokio::test]
async fn draining_finishes_what_is_queued_refuses_the_rest_and_says_goodbye() {
    let mut bench = Bench::resting(settings()).await;
    let queued = [bench.send("wait"), bench.send("a"), bench.send("b")];
    bench.until(|bench| bench.seen.turns() == 1).await;
    Arc::clone(&bench.cell).drain(DeactivationReason::Idle);
    assert_eq!(bench.call("late").0, Err(NotDeliveredReason::Stopping));
    assert_eq!(*bench.seen.deactivated.lock().unwrap(), None);
    bench.seen.gate.add_permits(1);
    for call in queued {
        answers(call).await;
    }
    assert!(is_deactivated(&bench.ended().await, DeactivationReason::Idle));
    assert_eq!(*bench.seen.deactivated.lock().unwrap(), Some(DeactivationReason::Idle));
    assert_eq!(bench.seen.handled(), ["wait", "a", "b"]);
}

#[tokio::test]
async fn a_resting_grain_says_goodbye_too_and_only_the_first_reason_counts() {
    let mut bench = Bench::resting(settings()).await;
    Arc::clone(&bench.cell).drain(DeactivationReason::OwnershipMoved);
    Arc::clone(&bench.cell).drain(DeactivationReason::ShuttingDown);
    assert!(is_deactivated(&bench.ended().await, DeactivationReason::OwnershipMoved));
    assert_eq!(*bench.seen.deactivated.lock().unwrap(), Some(DeactivationReason::OwnershipMoved));
}

#[tokio::test]
async fn a_grain_is_dropped_before_its_activation_ends() {
    for how in ["drain", "panic", "stop"] {
        let mut bench = Bench::resting(settings()).await;
        match how {
            "drain" => Arc::clone(&bench.cell).drain(DeactivationReason::Idle),
            "panic" => drop(outcome(bench.send("panic")).await),
            _ => {
                let stuck = bench.send("wait");
                bench.until(|bench| bench.seen.turns() == 1).await;
                bench.cell.stop();
                drop(stuck);
            }
        }
        bench.ended().await;
        assert!(
            bench.seen.dropped_in_time.load(Ordering::SeqCst),
            "{how}: another activation would have begun before it"
        );
    }
}

#[tokio::test]
async fn a_panic_in_the_goodbye_does_not_keep_the_activation() {
    let mut bench = Bench::start("panics last", settings()).await;
    assert!(matches!(bench.report().await, PlacementMessage::Activated(_)));
    Arc::clone(&bench.cell).drain(DeactivationReason::Idle);
    assert!(is_deactivated(&bench.ended().await, DeactivationReason::Idle));
}

#[tokio::test]
async fn a_stuck_grain_is_cut_off_and_only_the_call_that_ran_has_an_unknown_outcome() {
    let mut bench = Bench::resting(settings()).await;
    let (running, taken) = (bench.send("wait"), bench.send("a"));
    bench.until(|bench| bench.seen.turns() == 1).await;
    let queued = bench.send("b");
    Arc::clone(&bench.cell).drain(DeactivationReason::ShuttingDown);
    bench.cell.stop();
    assert!(matches!(outcome(running).await, Outcome::UnknownOutcome { .. }));
    assert_eq!(refusal(taken).await, NotDeliveredReason::Stopping);
    assert_eq!(refusal(queued).await, NotDeliveredReason::Stopping);
    assert!(is_deactivated(&bench.ended().await, DeactivationReason::Unresponsive));
    assert_eq!(bench.seen.handled(), ["wait"]);
}

#[tokio::test]
async fn a_goodbye_that_hangs_is_cut_off() {
    let mut bench = Bench::start("hangs last", settings()).await;
    assert!(matches!(bench.report().await, PlacementMessage::Activated(_)));
    Arc::clone(&bench.cell).drain(DeactivationReason::Idle);
    bench.until(|bench| bench.seen.deactivated.lock().unwrap().is_some()).await;
    bench.cell.stop();
    assert!(matches!(bench.ended().await, Ended::Deactivated(..)));
}

// proves VA-3.3
#[tokio::test]
async fn expired_and_cancelled_calls_never_run() {
    let bench = Bench::resting(settings()).await;
    let running = bench.send("wait");
    bench.until(|bench| bench.seen.turns() == 1).await;
    let (_, expired) = bench.call_until("expired", Instant::now());
    let cancelled = bench.send("cancelled");
    drop(cancelled);
    assert_eq!(bench.calls.expire(Instant::now()), 1);
    bench.seen.gate.add_permits(1);
    answers(running).await;
    assert!(expired.await.is_err());
    answers(bench.send("a")).await;
    assert_eq!(bench.seen.handled(), ["wait", "a"]);
    assert!(bench.calls.is_empty());
}

#[tokio::test]
async fn an_idle_grain_rests_and_the_next_message_wakes_it() {
    let bench = Bench::resting(settings()).await;
    for _ in 0..3 {
        bench.busy().await;
        bench.cell.sweep(Duration::from_secs(1));
        bench.cell.sweep(Duration::from_secs(1));
        bench.until_cold().await;
        assert_eq!(bench.cell.lock().queue.capacity(), 0);
    }
    assert_eq!(bench.seen.turns(), 3 * (u64::from(BURSTS) + 1));
}

#[tokio::test]
async fn a_grain_that_is_called_now_and_then_rests_at_once() {
    let bench = Bench::resting(settings()).await;
    for _ in 0..3 {
        // Every look for idle grains begins the count anew.
        bench.cell.sweep(Duration::from_secs(1));
        bench.cell.sweep(Duration::from_secs(1));
        answers(bench.send("a")).await;
        bench.until_cold().await;
    }
}

#[tokio::test]
async fn only_a_grain_without_work_is_idle() {
    let second = Duration::from_secs(1);
    let bench = Bench::resting(KindSettings { idle_after: Some(second * 2), ..settings() }).await;
    let running = bench.send("wait");
    bench.until(|bench| bench.seen.turns() == 1).await;
    assert_eq!([(); 5].map(|()| bench.cell.sweep(second)), [false; 5], "a long turn is no idleness");
    bench.seen.gate.add_permits(1);
    answers(running).await;
    bench.busy().await;
    assert_eq!([(); 4].map(|()| bench.cell.sweep(second)), [false, false, true, true]);
    answers(bench.send("a")).await;
    assert!(!bench.cell.sweep(second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_while_a_grain_rests_and_wakes_again_and_again() {
    let bench = Arc::new(Bench::resting(settings()).await);
    let done = Arc::new(AtomicBool::new(false));
    let sweeper = std::thread::spawn({
        let (bench, done) = (Arc::clone(&bench), Arc::clone(&done));
        move || {
            while !done.load(Ordering::SeqCst) {
                bench.cell.sweep(Duration::from_secs(1));
            }
        }
    });
    let all = Arc::new(Barrier::new(3));
    let callers: Vec<_> = (0..3)
        .map(|caller| {
            let (bench, all) = (Arc::clone(&bench), Arc::clone(&all));
            tokio::spawn(async move {
                for round in 0..1_000 {
                    all.wait().await;
                    for _ in 0..=caller {
                        answers(bench.send(if round % 3 == caller { "yield" } else { "count" })).await;
                    }
                    all.wait().await;
                    bench.until_cold().await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    sweeper.join().unwrap();
    assert_eq!(bench.seen.turns(), 6_000);
    assert!(bench.calls.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_call_is_answered_when_a_grain_is_stopped_in_the_middle_of_them() {
    for round in 0..200 {
        let mut bench = Bench::start("a", settings()).await;
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let (cell, calls) = (Arc::clone(&bench.cell), Arc::clone(&bench.calls));
                tokio::spawn(async move {
                    let mut handled = 0;
                    loop {
                        let (_, answered) = calls.register(Instant::now() + PATIENCE);
                        let envelope = Envelope {
                            message: MessageName::from(String::from("yield")),
                            data: Bytes::new().into(),
                            deadline: None,
                            traceparent: None,
                            reply: ReplyTo::local(answered.completer()),
                        };
                        if Arc::clone(&cell).deliver(envelope).is_err() {
                            return (handled, 0);
                        }
                        match outcome(answered).await {
                            Outcome::Response { .. } => handled += 1,
                            Outcome::UnknownOutcome { .. } => return (handled, 1),
                            _ => return (handled, 0),
                        }
                    }
                })
            })
            .collect();
        bench.until(|bench| bench.seen.turns() >= round % 20).await;
        if round % 2 == 0 {
            Arc::clone(&bench.cell).drain(DeactivationReason::Idle);
        } else {
            bench.cell.stop();
        }
        let mut sum = (0, 0);
        for caller in callers {
            let (handled, unknown) = caller.await.unwrap();
            sum = (sum.0 + handled, sum.1 + unknown);
        }
        assert!((sum.0..=sum.0 + sum.1).contains(&bench.seen.turns()), "{sum:?} of {}", bench.seen.turns());
        assert!(round % 2 == 1 || sum.1 == 0, "a drained grain leaves no outcome unknown");
        while let PlacementMessage::Activated(_) = bench.report().await {}
        assert!(bench.calls.is_empty());
    }
}

#[test]
fn a_grain_that_is_called_when_its_runtime_has_ended_tells_its_caller() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let bench = runtime.block_on(Bench::resting(settings()));
    let handle = runtime.handle().clone();
    drop(runtime);
    let (sender, delivered) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _inside = handle.enter();
        let answered = bench.send("a");
        sender.send(refusal(answered).now_or_never()).unwrap();
    });
    let refused = delivered.recv_timeout(PATIENCE).expect("it hangs");
    assert_eq!(refused, Some(NotDeliveredReason::Stopping));
}
