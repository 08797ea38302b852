//! What the benchmarks have in common: a closed loop of callers, repetitions, a second process, and one line per
//! figure.
//!
//! Each line on standard output is `RESULT`, case, metric, unit, median, least, greatest and repetitions, separated by
//! tabs. `REPS` (5) is how often each figure is taken, `LOOP_MS` (1000) how long one loop runs, `ONLY` which figures to
//! take: parts of `case call x1 `, separated by commas. The machine matters more than the code: compare figures of one
//! run, by their ratio.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a benchmark reports by failing

use std::fmt::Display;
use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use gristmill::{Call, Grain, GrainContext, GrainError, Reply};

/// Bytes of every payload.
pub const PAYLOAD: usize = 64;
/// Calls in flight.
pub const IN_FLIGHT: [usize; 3] = [1, 100, 1_000];

/// A number that is sent and comes back.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Number {
    /// Any.
    #[prost(uint64, tag = "1")]
    pub value: u64,
}

impl prost::Name for Number {
    const PACKAGE: &'static str = "bench";
    const NAME: &'static str = "Number";
}

/// A number that is told, one-way.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Told {
    /// Any.
    #[prost(uint64, tag = "1")]
    pub value: u64,
}

impl prost::Name for Told {
    const PACKAGE: &'static str = "bench";
    const NAME: &'static str = "Told";
}

/// Bytes that are sent and come back.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Echo {
    /// Any.
    #[prost(bytes = "bytes", tag = "1")]
    pub payload: bytes::Bytes,
}

impl prost::Name for Echo {
    const PACKAGE: &'static str = "bench";
    const NAME: &'static str = "Echo";
}

impl Echo {
    /// One of [`PAYLOAD`] bytes.
    #[must_use]
    pub fn new() -> Self {
        Self { payload: bytes::Bytes::from_static(&[7; PAYLOAD]) }
    }
}

/// Answers a number with that number, and has nothing to say to one that it is told.
#[derive(Debug, Default)]
pub struct NumberGrain(u64);

impl Grain for NumberGrain {
    async fn receive(&mut self, call: Call<'_>, _: &GrainContext) -> Result<Reply, GrainError> {
        if call.is::<Told>() {
            self.0 = self.0.wrapping_add(call.decode::<Told>()?.value);
            return Reply::empty();
        }
        let number = call.decode::<Number>()?;
        self.0 = self.0.wrapping_add(number.value);
        Reply::message(&number)
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// How often each figure is taken.
#[must_use]
pub fn repetitions() -> u64 {
    setting("REPS", 5)
}

/// Whether this case was asked for.
#[must_use]
pub fn wanted(case: &str) -> bool {
    std::env::var("ONLY").map_or(true, |only| only.split(',').any(|part| case.contains(part)))
}

/// Runs `main` on a worker of a runtime with two of them.
pub fn run<T: Send + 'static>(main: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let result = runtime.block_on(async { tokio::spawn(main).await.unwrap() });
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Prints one figure.
pub fn report(case: impl Display, metric: impl Display, unit: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let (median, least, greatest) = (values[values.len() / 2], values[0], values[values.len() - 1]);
    println!("RESULT\t{case}\t{metric}\t{unit}\t{median:.3}\t{least:.3}\t{greatest:.3}\t{}", values.len());
}

/// What one closed loop measured.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    per_second: f64,
    p50: f64,
    p99: f64,
}

const WARMING: u8 = 0;
const COUNTING: u8 = 1;
const DONE: u8 = 2;

/// `in_flight` tasks, each with one call at a time; `caller(i)` makes the calls of task `i`.
pub async fn closed_loop<C, F>(in_flight: usize, caller: impl Fn(usize) -> C) -> Load
where
    C: FnMut() -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let phase = Arc::new(AtomicU8::new(WARMING));
    // Alone, every call is timed; under load one in eight, so that the clock does not count.
    let sampled = if in_flight == 1 { 1 } else { 8 };
    let tasks: Vec<_> = (0..in_flight)
        .map(|index| {
            let (phase, mut call) = (Arc::clone(&phase), caller(index));
            tokio::spawn(async move {
                let (mut calls, mut counted, mut latencies) = (0_u64, 0_u64, Vec::<f64>::new());
                loop {
                    calls += 1;
                    let began = calls.is_multiple_of(sampled).then(Instant::now);
                    call().await;
                    match phase.load(Ordering::Relaxed) {
                        WARMING => {}
                        COUNTING => {
                            counted += 1;
                            latencies.extend(began.map(|began| began.elapsed().as_secs_f64() * 1e6));
                        }
                        _ => return (counted, latencies),
                    }
                }
            })
        })
        .collect();
    // The clock of the loop is a thread of its own, which busy workers cannot delay.
    let clock = Arc::clone(&phase);
    let seconds = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(200));
        clock.store(COUNTING, Ordering::Relaxed);
        let began = Instant::now();
        std::thread::sleep(Duration::from_millis(setting("LOOP_MS", 1_000)));
        clock.store(DONE, Ordering::Relaxed);
        began.elapsed().as_secs_f64()
    });
    let seconds = seconds.await.unwrap();
    let (mut calls, mut latencies) = (0, Vec::new());
    for task in tasks {
        let (counted, timed) = task.await.unwrap();
        calls += counted;
        latencies.extend(timed);
    }
    latencies.sort_by(f64::total_cmp);
    let quantile = |part: f64| latencies.get((latencies.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN);
    Load { per_second: calls as f64 / seconds, p50: quantile(0.5), p99: quantile(0.99) }
}

/// Measures calls with 1, 100 and 1,000 in flight.
pub async fn calls<C, F>(case: &str, counts: &[usize], caller: impl Fn(usize) -> C)
where
    C: FnMut() -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    for &in_flight in counts {
        if !wanted(&format!("{case} call x{in_flight} ")) {
            continue;
        }
        let mut loads = Vec::new();
        for _ in 0..repetitions() {
            loads.push(closed_loop(in_flight, &caller).await);
        }
        let column = |of: fn(&Load) -> f64| loads.iter().map(of).collect();
        report(case, format_args!("call x{in_flight} rate"), "op/s", column(|load| load.per_second));
        report(case, format_args!("call x{in_flight} p50"), "us", column(|load| load.p50));
        report(case, format_args!("call x{in_flight} p99"), "us", column(|load| load.p99));
    }
}

/// This program, run a second time with `argument`; ends with this value.
#[derive(Debug)]
pub struct OtherProcess {
    child: Child,
    /// Its first line.
    pub said: String,
}

impl OtherProcess {
    /// Starts it and waits for its first line.
    #[must_use]
    pub fn start(argument: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut child =
            Command::new(program).arg(argument).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        Self { child, said: said.trim().to_owned() }
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The argument of [`OtherProcess::start`], in that process.
#[must_use]
pub fn argument() -> Option<String> {
    // cargo adds `--bench`.
    std::env::args().skip(1).find(|argument| !argument.starts_with("--"))
}

/// Says the first line of the other process.
pub fn say(line: impl Display) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

/// Resident memory of this process, in bytes.
#[must_use]
pub fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 4_096.0
}
