//! Calls that go on while something else happens.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::process::{Node, PATIENCE};

/// One caller that calls one grain after the other, round and round.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    slowest: Arc<Mutex<Duration>>,
    caller: Option<JoinHandle<Vec<String>>>,
}

impl Traffic {
    /// Starts; each call has `deadline` milliseconds.
    pub(crate) fn start(caller: &Arc<Node>, identities: Vec<String>, deadline: u64) -> Self {
        let (stop, calls, slowest) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), Arc::default());
        let worker = {
            let (caller, stop, calls) = (Arc::clone(caller), Arc::clone(&stop), Arc::clone(&calls));
            let slowest: Arc<Mutex<Duration>> = Arc::clone(&slowest);
            std::thread::spawn(move || {
                let mut failures = Vec::new();
                for identity in identities.iter().cycle() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let begun = Instant::now();
                    if let Err(error) = caller.ask(&format!("call echo {identity} {deadline} hello")) {
                        failures.push(format!("{identity}: {error}"));
                    }
                    let mut slowest = slowest.lock().unwrap();
                    *slowest = begun.elapsed().max(*slowest);
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                failures
            })
        };
        Self { stop, calls, slowest, caller: Some(worker) }
    }

    /// Waits until so many more calls have been made.
    pub(crate) fn goes_on_for(&self, calls: usize) {
        let (deadline, until) = (Instant::now() + PATIENCE, self.calls.load(Ordering::Relaxed) + calls);
        while self.calls.load(Ordering::Relaxed) < until {
            assert!(Instant::now() < deadline, "the calls have come to a halt");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops, and returns the calls that failed and how long the slowest took.
    pub(crate) fn stop(mut self) -> (Vec<String>, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.caller.take().unwrap().join().expect("the caller did not panic");
        (failures, *self.slowest.lock().unwrap())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
