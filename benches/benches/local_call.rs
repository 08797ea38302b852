//! A grain of this node, called, told, activated and left idle; beside it a bare ractor actor.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)] // a benchmark reports by failing

use std::time::{Duration, Instant};

use gristmill::{ClusterActor, ClusterConfig, ClusterContext, Kind};
use gristmill_benches::{
    IN_FLIGHT, Number, NumberGrain, OtherProcess, Told, argument, calls, repetitions, report, resident, run, say,
    wanted,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

const GRAINS: usize = 200_000;
const TELLS: u64 = 1_000_000;

async fn node() -> ClusterContext {
    let kind = Kind::new("number", NumberGrain::default).mailbox(usize::MAX.try_into().unwrap());
    let config = ClusterConfig::builder("bench").kind(kind).build().unwrap();
    ClusterActor::start_member(config).await.unwrap().1
}

struct NumberActor;

enum NumberMessage {
    Tell(Number),
    Call(Number, RpcReplyPort<Number>),
}

impl Actor for NumberActor {
    type Msg = NumberMessage;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<NumberMessage>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<NumberMessage>,
        message: NumberMessage,
        told: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            NumberMessage::Tell(number) => *told = told.wrapping_add(number.value),
            NumberMessage::Call(number, reply) => drop(reply.send(number)),
        }
        Ok(())
    }
}

async fn spawn() -> ActorRef<NumberMessage> {
    Actor::spawn(None, NumberActor, ()).await.unwrap().0
}

async fn call_actors(case: &str, counts: &[usize], actors: Vec<ActorRef<NumberMessage>>) {
    // Shared without a count of its references, which all callers would fight for.
    let actors: &'static [_] = actors.leak();
    calls(case, counts, |task| {
        let mut turn = task * 7_919;
        move || {
            turn += 101;
            let actor = &actors[turn % actors.len()];
            async move {
                actor.call(|reply| NumberMessage::Call(Number { value: 1 }, reply), None).await.unwrap().unwrap();
            }
        }
    })
    .await;
}

async fn call_grains(case: &str, counts: &[usize], context: &ClusterContext, grains: usize) {
    let grains: Vec<_> = (0..grains).map(|index| context.grain(("number", index.to_string()))).collect();
    let grains: &'static [_] = grains.leak();
    calls(case, counts, |task| {
        let mut turn = task * 7_919;
        move || {
            turn += 101;
            let grain = &grains[turn % grains.len()];
            async move {
                let _: Number = grain.request(Number { value: 1 }).await.unwrap();
            }
        }
    })
    .await;
}

async fn tell() {
    let mut rates = Vec::new();
    let context = node().await;
    for _ in 0..repetitions() {
        let grain = context.grain(("number", "told"));
        let began = Instant::now();
        for told in 0..TELLS {
            grain.notify(Told { value: 1 }).await.unwrap();
            if told % 1_024 == 0 {
                tokio::task::yield_now().await;
            }
        }
        let _: Number = grain.deadline(Duration::from_secs(60)).request(Number { value: 1 }).await.unwrap();
        rates.push(TELLS as f64 / began.elapsed().as_secs_f64());
    }
    report("grain", "tell", "msg/s", rates);
    let mut rates = Vec::new();
    for _ in 0..repetitions() {
        let actor = spawn().await;
        let began = Instant::now();
        for told in 0..TELLS {
            actor.cast(NumberMessage::Tell(Number { value: 1 })).unwrap();
            if told % 1_024 == 0 {
                tokio::task::yield_now().await;
            }
        }
        actor.call(|reply| NumberMessage::Call(Number { value: 1 }, reply), None).await.unwrap().unwrap();
        rates.push(TELLS as f64 / began.elapsed().as_secs_f64());
    }
    report("ractor", "tell", "msg/s", rates);
}

/// Activates many grains by their first call, in a process of its own; prints the rate and what each takes when idle.
async fn activate() {
    let context = node().await;
    let before = resident();
    let began = Instant::now();
    let tasks: Vec<_> = (0..1_000)
        .map(|task| {
            let context = context.clone();
            tokio::spawn(async move {
                for index in (task..GRAINS).step_by(1_000) {
                    let _: Number = context.request(("number", index.to_string()), Number { value: 1 }).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let rate = GRAINS as f64 / began.elapsed().as_secs_f64();
    let warm = resident();
    // Two sweeps later all of them are cold.
    tokio::time::sleep(Duration::from_secs(11)).await;
    say(format_args!("{rate} {} {}", (warm - before) / GRAINS as f64, (resident() - before) / GRAINS as f64));
}

/// The same with actors: as many tasks, each spawns and calls its part of them.
async fn spawn_actors() {
    let before = resident();
    let began = Instant::now();
    let tasks: Vec<_> = (0..1_000)
        .map(|task| {
            tokio::spawn(async move {
                let mut actors = Vec::new();
                for _ in (task..GRAINS).step_by(1_000) {
                    let actor = spawn().await;
                    actor.call(|reply| NumberMessage::Call(Number { value: 1 }, reply), None).await.unwrap().unwrap();
                    actors.push(actor);
                }
                actors
            })
        })
        .collect();
    let mut actors = Vec::new();
    for task in tasks {
        actors.extend(task.await.unwrap());
    }
    let rate = GRAINS as f64 / began.elapsed().as_secs_f64();
    let each = (resident() - before) / GRAINS as f64;
    say(format_args!("{rate} {each} {each}"));
}

fn in_other_processes(case: &str, argument: &str) {
    let (mut rates, mut warm, mut cold) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..repetitions() {
        let other = OtherProcess::start(argument);
        let mut figures = other.said.split(' ').map(|figure| figure.parse::<f64>().unwrap());
        rates.extend(figures.next());
        warm.extend(figures.next());
        cold.extend(figures.next());
    }
    report(case, "activate and call 200k", "grains/s", rates);
    report(case, "after a call", "bytes", warm);
    report(case, "idle", "bytes", cold);
}

fn main() {
    match argument().as_deref() {
        Some("activate") => return run(activate()),
        Some("spawn") => return run(spawn_actors()),
        _ => {}
    }
    run(async {
        call_grains("grain", &IN_FLIGHT, &node().await, 1).await;
        call_actors("ractor", &IN_FLIGHT, vec![spawn().await]).await;
        call_grains("10k grains", &[1_000], &node().await, 10_000).await;
        let mut actors = Vec::new();
        for _ in 0..10_000 {
            actors.push(spawn().await);
        }
        call_actors("10k ractor", &[1_000], actors).await;
    });
    if wanted("tell") {
        run(tell());
    }
    if wanted("activate") {
        in_other_processes("grain", "activate");
        in_other_processes("ractor", "spawn");
    }
}
