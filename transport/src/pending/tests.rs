use std::pin::pin;
use std::task::Wake;

use super::*;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn poll<T>(call: &mut PendingCall<'_, T>) -> Poll<Result<T, Expired>> {
    Pin::new(call).poll(&mut Context::from_waker(Waker::noop()))
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_result_ends_its_call_once_and_wakes_who_waits() {
    let calls = Arc::new(PendingCalls::new());
    let (key, mut call) = calls.register(soon());
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    assert_eq!(Pin::new(&mut call).poll(&mut Context::from_waker(&waker)), Poll::Pending);
    assert_eq!(calls.complete(key, 1), Ok(()));
    assert_eq!(calls.complete(key, 2), Err(2));
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    assert_eq!(poll(&mut call), Poll::Ready(Ok(1)));
    assert!(calls.is_empty());
    assert_eq!(calls.complete(key, 3), Err(3));
}

#[test]
fn the_last_waker_is_the_one_that_is_woken() {
    let calls = Arc::new(PendingCalls::new());
    let (key, mut call) = calls.register(soon());
    let [first, last] = [(); 2].map(|()| Arc::new(Wakes::default()));
    for wakes in [&first, &last] {
        assert_eq!(Pin::new(&mut call).poll(&mut Context::from_waker(&Waker::from(Arc::clone(wakes)))), Poll::Pending);
    }
    calls.complete(key, ()).unwrap();
    assert_eq!([first, last].map(|wakes| wakes.0.load(Ordering::Relaxed)), [0, 1]);
}

#[test]
fn a_result_before_the_first_poll_is_kept() {
    let calls = Arc::new(PendingCalls::new());
    let (key, mut call) = calls.register(soon());
    calls.complete(key, 1).unwrap();
    assert_eq!(poll(&mut call), Poll::Ready(Ok(1)));
}

#[test]
fn dropping_the_future_frees_the_slot_and_a_late_result_ends_nothing_else() {
    let calls = Arc::new(PendingCalls::new());
    let (old, call) = calls.register(soon());
    drop(call);
    assert!(calls.is_empty());
    let (new, mut call) = calls.register(soon());
    assert_eq!(old.unpack().1, new.unpack().1, "the slot is used again");
    assert_ne!(old, new);
    assert_eq!(calls.complete(old, 1), Err(1));
    assert_eq!(poll(&mut call), Poll::Pending);
}

#[test]
fn dropping_the_future_of_an_ended_call_frees_the_slot_too() {
    let calls = Arc::new(PendingCalls::new());
    let (key, call) = calls.register(soon());
    calls.complete(key, 1).unwrap();
    drop(call);
    assert!(calls.is_empty());
}

#[test]
fn exactly_the_calls_whose_deadline_has_come_expire() {
    let calls = Arc::new(PendingCalls::<()>::new());
    let start = Instant::now();
    let at = |milliseconds| start + Duration::from_millis(milliseconds);
    let mut registered: Vec<_> = [30, 10, 20].into_iter().map(|ms| calls.register(at(ms))).collect();
    assert_eq!(calls.expire(at(9)), 0);
    assert_eq!(calls.expire(at(10)), 1);
    assert_eq!(calls.expire(at(10)), 0);
    assert_eq!(poll(&mut registered[1].1), Poll::Ready(Err(Expired)));
    assert_eq!(calls.complete(registered[1].0, ()), Err(()));
    assert_eq!(calls.expire(at(30)), 2);
    assert_eq!(poll(&mut registered[0].1), Poll::Ready(Err(Expired)));
    assert_eq!(poll(&mut registered[2].1), Poll::Ready(Err(Expired)));
    assert!(calls.is_empty());
}

#[test]
fn closing_ends_what_waits_and_leaves_what_has_ended() {
    let calls = Arc::new(PendingCalls::new());
    let (done, mut first) = calls.register(soon());
    let (_, mut second) = calls.register(soon());
    calls.complete(done, "done").unwrap();
    calls.close(|| "closed");
    assert_eq!(poll(&mut first), Poll::Ready(Ok("done")));
    assert_eq!(poll(&mut second), Poll::Ready(Ok("closed")));
}

#[test]
fn no_number_of_a_peer_is_taken_for_another_call() {
    let calls = Arc::new(PendingCalls::new());
    let (key, _call) = calls.register(soon());
    for value in [0, 1, u64::MAX, key.get() ^ 1, key.get() ^ 8, key.get() ^ (1 << 32)] {
        assert_eq!(calls.complete(CallKey::new(value), ()), Err(()));
    }
    assert_ne!(key.get(), 0);
}

#[test]
fn keys_survive_packing() {
    for (shard, index, generation) in [(0, 0, 1), (7, 5, 9), (3, (1 << INDEX_BITS) - 1, u32::MAX)] {
        assert_eq!(CallKey::pack(shard, index, generation).unpack(), (shard, index, generation));
    }
}

#[tokio::test(start_paused = true)]
async fn the_sweeper_rests_while_there_is_nothing_and_expires_in_time_when_there_is() {
    let calls = Arc::new(PendingCalls::<()>::new());
    let every = Duration::from_millis(10);
    let sweeper = tokio::spawn({
        let calls = Arc::clone(&calls);
        async move { calls.sweep(every).await }
    });
    for _ in 0..3 {
        let start = Instant::now();
        let (_, call) = calls.register(start + Duration::from_millis(25));
        assert_eq!(call.await, Err(Expired));
        assert!((25..=36).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        // Long enough for the sweeper to rest: the next call has to wake it.
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(calls.sweeper_rests.load(Ordering::Relaxed));
    }
    sweeper.abort();
}

#[test]
fn threads_complete_each_others_calls_without_losing_any() {
    const CALLS: u64 = 2000;
    let calls = Arc::new(PendingCalls::new());
    let (keys, todo) = std::sync::mpsc::channel::<(CallKey, u64)>();
    let completer = std::thread::spawn({
        let calls = Arc::clone(&calls);
        move || todo.into_iter().filter(|(key, value)| calls.complete(*key, *value).is_ok()).count()
    });
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let (calls, keys) = (Arc::clone(&calls), keys.clone());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for n in 0..CALLS {
                    let (key, call) = calls.register(soon());
                    keys.send((key, caller * CALLS + n)).unwrap();
                    if n % 10 == 0 {
                        drop(call);
                    } else {
                        assert_eq!(runtime.block_on(async { pin!(call).await }), Ok(caller * CALLS + n));
                    }
                }
            })
        })
        .collect();
    drop(keys);
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    let completed = completer.join().unwrap() as u64;
    assert!((4 * CALLS * 9 / 10..=4 * CALLS).contains(&completed));
    assert!(calls.is_empty());
}

#[test]
fn who_completes_a_call_can_ask_whether_anybody_waits() {
    let calls = PendingCalls::new();
    let (_, call) = calls.register(soon());
    let waiting = call.completer();
    let (_, other) = calls.register(soon());
    let dropped = other.completer();
    assert!(waiting.is_waiting() && dropped.is_waiting());
    drop(other);
    assert!(waiting.is_waiting() && !dropped.is_waiting());
    assert_eq!(dropped.complete(1), Err(1));
    assert!(waiting.is_waiting());

    let now = Instant::now();
    let (_, late) = calls.register(now);
    let expired = late.completer();
    assert_eq!(calls.expire(now), 1);
    assert!(waiting.is_waiting() && !expired.is_waiting());
}

#[tokio::test]
async fn a_call_that_was_registered_with_its_waker_ends_when_its_result_is_already_there() {
    let calls = PendingCalls::new();
    let mut begun = None;
    let result = std::future::poll_fn(|context| {
        let call = begun.get_or_insert_with(|| {
            let (key, call) = calls.register_for(soon(), context.waker());
            calls.complete(key, 1).unwrap();
            call
        });
        Pin::new(call).poll(context)
    });
    assert_eq!(result.await, Ok(1));
}
