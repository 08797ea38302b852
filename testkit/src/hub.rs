//! Relays between the processes of a cluster, which delay, slow down, hold back and break what these say to each other.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gristmill_core::session::MAX_FRAME;
use gristmill_messages::remote::frame::MessageType;
use gristmill_transport::frame::Decoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Bytes that are passed on at a time: small, so that connections that share a slow way have equal parts of it.
const CHUNK: usize = 4 * 1024;

/// Chunks that are on their way over one connection in one direction, at most: what does not fit waits at its sender.
const CHUNKS: usize = 256;

/// By so much a slow way may be behind its rate, to make it good afterwards.
const SLACK: Duration = Duration::from_millis(20);

/// What happens to what one node sends to another. The default passes it on at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Link {
    /// How long each byte is on its way.
    pub delay: Duration,
    /// Longer by up to so much, by chance. Bytes of one connection do not overtake each other.
    pub jitter: Duration,
    /// Bytes in a second, which all connections between the two share.
    pub rate: Option<NonZeroU64>,
    /// Nothing arrives, neither bytes nor the end of a connection, until this is false again; then all of it does.
    /// Connections are accepted all the same.
    pub held: bool,
}

/// Some nodes, each behind a relay: it advertises the relay's address, and listens somewhere else.
///
/// Which node opened a connection is read from its handshake, so that each way between two nodes can be made to fail by
/// itself, in one direction. It differs from a network that fails below TCP: what a sender has written is acknowledged
/// even if it never arrives, so that nobody's system notices. A process that is gone looks like one whose host resets
/// connections as soon as they are accepted.
///
/// Dropped, all connections are closed.
pub struct Hub {
    runtime: Option<Runtime>,
    ways: Arc<Ways>,
}

#[derive(Default)]
struct Ways {
    /// From, to; by the addresses that nodes advertise.
    ways: Mutex<BTreeMap<(String, String), Arc<Way>>>,
    /// What is true of ways that are not there yet: of those from and to a node, and of all others.
    expected: Mutex<(BTreeMap<String, Link>, Link)>,
    /// Breaks every connection when it changes.
    resets: watch::Sender<u64>,
}

struct Way {
    link: watch::Sender<Link>,
    /// When a slow way has room again.
    free: Mutex<Instant>,
    passed: AtomicU64,
}

impl Hub {
    /// One that relays nothing yet.
    ///
    /// # Errors
    /// What the system says when it has no threads.
    pub fn new() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { runtime: Some(runtime), ways: Arc::default() })
    }

    /// Relays what comes in at the address `advertised` to the one where a node `listens`, whether it does so already
    /// or not.
    ///
    /// # Errors
    /// What the system says when it cannot listen there.
    pub fn relay(&self, advertised: &str, listens: &str) -> io::Result<()> {
        let Some(runtime) = &self.runtime else { return Ok(()) };
        let listener = runtime.block_on(TcpListener::bind(advertised))?;
        let (at, to, ways) = (advertised.to_owned(), listens.to_owned(), Arc::clone(&self.ways));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(relay(stream, at.clone(), to.clone(), Arc::clone(&ways)));
            }
        });
        Ok(())
    }

    /// Changes the way from one node to another.
    pub fn set(&self, from: &str, to: &str, link: Link) {
        self.ways.way(from, to).link.send_replace(link);
    }

    /// Changes the ways from and to a node, also those to nodes that it does not know yet.
    pub fn set_around(&self, node: &str, link: Link) {
        lock(&self.ways.expected).0.insert(node.into(), link);
        for ((from, to), way) in &*lock(&self.ways.ways) {
            if from == node || to == node {
                way.link.send_replace(link);
            }
        }
    }

    /// Changes all ways, also those between nodes that do not know each other yet.
    pub fn set_all(&self, link: Link) {
        *lock(&self.ways.expected) = (BTreeMap::new(), link);
        for way in lock(&self.ways.ways).values() {
            way.link.send_replace(link);
        }
    }

    /// Resets every connection, at both ends.
    pub fn reset(&self) {
        self.ways.resets.send_modify(|resets| *resets += 1);
    }

    /// How many bytes one node has got from another.
    #[must_use]
    pub fn passed(&self, from: &str, to: &str) -> u64 {
        self.ways.way(from, to).passed.load(Ordering::Relaxed)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl Ways {
    fn way(&self, from: &str, to: &str) -> Arc<Way> {
        // Held until the way is there, so that no change is made in between.
        let expected = lock(&self.expected);
        let new = || {
            let (around, usual) = &*expected;
            let link = around.get(from).or_else(|| around.get(to)).unwrap_or(usual);
            let free = Mutex::new(Instant::now());
            Arc::new(Way { link: watch::Sender::new(*link), free, passed: AtomicU64::new(0) })
        };
        Arc::clone(lock(&self.ways).entry((from.into(), to.into())).or_insert_with(new))
    }
}

impl Way {
    /// Waits until bytes may arrive.
    async fn is_open(&self) {
        // The sender is this way's own, and lives as long.
        drop(self.link.subscribe().wait_for(|link| !link.held).await);
    }

    /// When what is sent now arrives at the earliest.
    fn arrival(&self) -> Instant {
        let Link { delay, jitter, .. } = *self.link.borrow();
        Instant::now() + delay + jitter.mul_f64(rand::random())
    }

    /// Takes its turn on a slow way, and waits until it is over.
    async fn turn(&self, bytes: usize) {
        let Some(rate) = self.link.borrow().rate else { return };
        let takes = Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        let over = {
            let mut free = lock(&self.free);
            // Who comes a moment late, because its timer did, is not made slower by it.
            let now = Instant::now();
            *free = (*free).max(now.checked_sub(SLACK).unwrap_or(now)) + takes;
            *free
        };
        sleep_until(over).await;
    }
}

/// What is on its way over one connection in one direction.
enum Passing {
    /// With the time of its arrival.
    Bytes(Instant, Vec<u8>),
    /// The sender has nothing more to say.
    End,
    /// Its end of the connection is broken.
    Broken(io::Error),
}

/// One connection, from its first frame to its end.
async fn relay(mut opened: TcpStream, at: String, to: String, ways: Arc<Ways>) {
    let mut resets = ways.resets.subscribe();
    let mut target = None;
    let outcome = tokio::select! {
        biased;
        _ = resets.changed() => Err(io::ErrorKind::ConnectionReset.into()),
        outcome = pass(&mut opened, &mut target, (&at, &to), &ways) => outcome,
    };
    if outcome.is_err() {
        for stream in [Some(opened), target].into_iter().flatten() {
            // Closed without a word of goodbye.
            drop(stream.set_zero_linger());
        }
    }
}

async fn pass(
    opened: &mut TcpStream,
    target: &mut Option<TcpStream>,
    (at, to): (&str, &str),
    ways: &Ways,
) -> io::Result<()> {
    let (from, first) = who_opens(opened).await?;
    let (there, back) = (ways.way(&from, at), ways.way(at, &from));
    // The relay has accepted it; the node does not hear of it.
    there.is_open().await;
    let target = target.insert(TcpStream::connect(to).await?);
    opened.set_nodelay(true)?;
    target.set_nodelay(true)?;
    let (opened_reader, opened_writer) = opened.split();
    let (target_reader, target_writer) = target.split();
    tokio::try_join!(
        pump(first, opened_reader, target_writer, &there),
        pump(Vec::new(), target_reader, opened_writer, &back),
    )?;
    Ok(())
}

/// The address that the node which opens a connection advertises, and all that was read to learn it. Empty for a client
/// and for who speaks another language.
async fn who_opens(stream: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let (mut decoder, mut first) = (Decoder::new(MAX_FRAME), Vec::new());
    loop {
        let known = first.len();
        if stream.read_buf(&mut first).await? == 0 {
            return Ok((String::new(), first));
        }
        decoder.buffer().extend_from_slice(first.get(known..).unwrap_or_default());
        match decoder.next_frame().map(|frame| frame.map(|frame| frame.message_type)) {
            Ok(None) => {}
            Ok(Some(Some(MessageType::ConnectRequest(request)))) => return Ok((request.address, first)),
            Ok(Some(_)) | Err(_) => return Ok((String::new(), first)),
        }
    }
}

async fn pump(first: Vec<u8>, reader: ReadHalf<'_>, writer: WriteHalf<'_>, way: &Way) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    tokio::try_join!(take(first, reader, way, sender), give(receiver, writer, way))?;
    Ok(())
}

async fn take(first: Vec<u8>, mut reader: ReadHalf<'_>, way: &Way, sender: mpsc::Sender<Passing>) -> io::Result<()> {
    let mut last = way.arrival();
    let mut passing = Passing::Bytes(last, first);
    loop {
        let goes_on = matches!(passing, Passing::Bytes(..));
        // Nobody takes it any more when the other end is broken.
        if sender.send(passing).await.is_err() || !goes_on {
            return Ok(());
        }
        let mut chunk = Vec::with_capacity(CHUNK);
        passing = match (&mut reader).take(CHUNK as u64).read_buf(&mut chunk).await {
            Ok(0) => Passing::End,
            Ok(_) => {
                last = last.max(way.arrival());
                Passing::Bytes(last, chunk)
            }
            Err(error) => Passing::Broken(error),
        };
    }
}

async fn give(mut receiver: mpsc::Receiver<Passing>, mut writer: WriteHalf<'_>, way: &Way) -> io::Result<()> {
    while let Some(passing) = receiver.recv().await {
        match passing {
            Passing::Bytes(arrival, bytes) => {
                sleep_until(arrival).await;
                way.turn(bytes.len()).await;
                way.is_open().await;
                writer.write_all(&bytes).await?;
                way.passed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            Passing::End => {
                way.is_open().await;
                return writer.shutdown().await;
            }
            Passing::Broken(error) => {
                way.is_open().await;
                return Err(error);
            }
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
