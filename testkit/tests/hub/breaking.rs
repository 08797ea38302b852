//! Connections that break.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::on_hosts;

/// How long connections live.
const LIFE: Duration = Duration::from_millis(100);

/// How many times all of them are reset.
const RESETS: usize = 50;

// proves FT-3: fault 12, resets. What a connection loses, another says again
#[test]
fn connections_that_are_reset_again_and_again_cost_nobody_its_life_and_calls_their_outcome_at_most() {
    on_hosts(3, &[], |cluster| {
        let (over, cluster) = (AtomicBool::new(false), &*cluster);
        let (mut answered, mut unknown) = (0, 0);
        std::thread::scope(|scope| {
            let resetting = scope.spawn(|| {
                for _ in 0..RESETS {
                    cluster.lab.hub.reset();
                    std::thread::sleep(LIFE);
                }
                over.store(true, Ordering::Relaxed);
            });
            let grain = cluster.identity(1, 2);
            while !over.load(Ordering::Relaxed) {
                match cluster.node(1).ask(&format!("call echo {grain} 20000 hello")) {
                    Ok(_) => answered += 1,
                    Err(error) if error.contains("UnknownOutcome") => unknown += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            resetting.join().unwrap();
        });
        println!("{answered} calls answered, of {unknown} the outcome is not known");
        assert!(answered > 0);
        for (caller, owner) in [(1, 2), (2, 3), (3, 1)] {
            cluster.call(caller, owner).unwrap();
        }
        let history = cluster.end(&[1, 2, 3]);
        if let Err(violation) = history.nobody_was_buried_alive([1, 2, 3].map(|host| cluster.name(host))) {
            panic!("{violation}\n{history}");
        }
    });
}
