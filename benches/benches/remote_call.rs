//! Grains of another process, called and told over loopback; beside them the bare socket with the same frames.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)] // a benchmark reports by failing

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gristmill::{
    Call, ClusterActor, ClusterConfig, ClusterContext, Grain, GrainContext, GrainError, GrainRef, Kind, Reply,
};
use gristmill_benches::{Echo, IN_FLIGHT, OtherProcess, argument, calls, repetitions, report, run, say, wanted};

const GRAINS: usize = 1_000;
const TELLS: u64 = 1_000_000;

static TOLD: AtomicU64 = AtomicU64::new(0);

/// Answers what it gets; counts what wants no answer; tells the count when it gets nothing.
#[derive(Default)]
struct Remote;

impl Grain for Remote {
    async fn receive(&mut self, call: Call<'_>, _: &GrainContext) -> Result<Reply, GrainError> {
        let data = match call.data().len() {
            0 => Bytes::copy_from_slice(&TOLD.load(Ordering::Relaxed).to_be_bytes()),
            _ => call.data(),
        };
        TOLD.fetch_add(1, Ordering::Relaxed);
        Ok(Reply::encoded("bench.Echo", data))
    }
}

async fn serve() {
    let kind = Kind::new("remote", Remote::default).mailbox(usize::MAX.try_into().unwrap());
    let config = ClusterConfig::builder("bench").kind(kind).build().unwrap();
    let (_cluster, context) = ClusterActor::start_member(config).await.unwrap();
    say(context.address());
    std::future::pending::<()>().await;
}

async fn told(grain: &GrainRef) -> u64 {
    let count = grain.request_encoded("bench.Echo", Bytes::new()).await.unwrap();
    u64::from_be_bytes(count.data()[..].try_into().unwrap())
}

async fn tell(context: &ClusterContext, grains: &'static [GrainRef]) {
    let counter = context.grain(("remote", "counter")).deadline(Duration::from_secs(60));
    let mut rates = Vec::new();
    for _ in 0..repetitions() {
        let before = told(&counter).await;
        let began = Instant::now();
        let producers: Vec<_> = (0..4)
            .map(|producer| {
                tokio::spawn(async move {
                    for index in (producer..TELLS as usize).step_by(4) {
                        grains[index % GRAINS].notify(Echo::new()).await.unwrap();
                        if index % 512 < 4 {
                            tokio::task::yield_now().await;
                        }
                    }
                })
            })
            .collect();
        for producer in producers {
            producer.await.unwrap();
        }
        // The counter counts its own calls, too.
        while told(&counter).await - before < TELLS {
            tokio::task::yield_now().await;
        }
        rates.push(TELLS as f64 / began.elapsed().as_secs_f64());
    }
    report("remote grain", "one-way", "msg/s", rates);
}

fn main() {
    if argument().as_deref() == Some("serve") {
        return run(serve());
    }
    run(async {
        let other = OtherProcess::start("serve");
        let config = ClusterConfig::builder("bench").seeds([other.said.as_str()]).build().unwrap();
        let (_cluster, context) = ClusterActor::start_member(config).await.unwrap();
        let grains: Vec<_> = (0..GRAINS).map(|index| context.grain(("remote", format!("g{index}")))).collect();
        let grains: &'static [GrainRef] = grains.leak();
        {
            calls("remote grain", &IN_FLIGHT, |task| {
                let mut turn = task * 31;
                move || {
                    turn += 7;
                    let grain = &grains[turn % GRAINS];
                    async move {
                        let _: Echo = grain.request(Echo::new()).await.unwrap();
                    }
                }
            })
            .await;
        }
        {
            let payload = Bytes::from_static(&[7; gristmill_benches::PAYLOAD]);
            calls("remote grain, untyped", &IN_FLIGHT, |task| {
                let (payload, mut turn) = (payload.clone(), task * 31);
                move || {
                    turn += 7;
                    let (grain, payload) = (&grains[turn % GRAINS], payload.clone());
                    async move {
                        grain.request_encoded("bench.Echo", payload).await.unwrap();
                    }
                }
            })
            .await;
        }
        if wanted("one-way") {
            tell(&context, grains).await;
        }
    });
}
