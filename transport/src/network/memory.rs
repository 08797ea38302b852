use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use gristmill_core::Address;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::{BoxFuture, Listener, Network, Stream};
use crate::sync::lock;

/// Bytes in flight per direction, at most: as much as a small socket buffer.
const CAPACITY: usize = 64 * 1024;

/// Connections that wait to be accepted, at most.
const BACKLOG: usize = 1024;

/// A network in memory, for tests: named hosts, whose ways can be cut and which can crash. A clone shares it.
///
/// A cut way behaves as a lost cable does: bytes stay in flight until it is healed, connecting waits, nothing fails by
/// itself. A crashed host resets its connections and frees its addresses, as the end of a process does; it may listen
/// and connect again at once.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// use gristmill_transport::{MemoryNetwork, Network};
///
/// let network = MemoryNetwork::new();
/// let mut listener = network.host("b").listen("b:0").await.unwrap();
/// let address = listener.local_address();
/// let a = network.host("a");
/// let (connected, accepted) = tokio::join!(a.connect(address.as_str()), listener.accept());
/// assert_eq!(connected.unwrap().remote, "b:1");
/// assert_eq!(accepted.unwrap().remote, "a");
/// # });
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemoryNetwork(Arc<Mutex<Hub>>);

#[derive(Debug, Default)]
struct Hub {
    listeners: BTreeMap<String, mpsc::Sender<Stream>>,
    last_port: u64,
    /// From, to.
    cuts: BTreeSet<(String, String)>,
    directions: Vec<Direction>,
    /// Who waits for a way to heal before connecting.
    healing: Vec<Waker>,
}

#[derive(Debug)]
struct Direction {
    from: String,
    to: String,
    gate: Weak<Gate>,
}

impl MemoryNetwork {
    /// A network without hosts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The network as the host `name` sees it. It listens at `name:port`.
    #[must_use]
    pub fn host(&self, name: &str) -> MemoryHost {
        MemoryHost { network: self.clone(), name: name.into() }
    }

    /// Stops what host `from` sends to host `to`; the other direction is not affected.
    pub fn cut(&self, from: &str, to: &str) {
        let mut hub = lock(&self.0);
        hub.cuts.insert((from.into(), to.into()));
        hub.set(|direction| direction.from == from && direction.to == to, Condition::Cut);
    }

    /// Stops both directions between two hosts.
    pub fn partition(&self, one: &str, other: &str) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Lets everything flow again.
    pub fn heal(&self) {
        let mut hub = lock(&self.0);
        hub.cuts.clear();
        hub.set(|_| true, Condition::Open);
        hub.healing.drain(..).for_each(Waker::wake);
    }

    /// Ends all connections of `host`, and its listeners.
    pub fn crash(&self, host: &str) {
        let mut hub = lock(&self.0);
        hub.listeners.retain(|address, _| host_of(address) != host);
        hub.set(|direction| direction.from == host || direction.to == host, Condition::Reset);
    }
}

impl Hub {
    fn set(&mut self, which: impl Fn(&Direction) -> bool, condition: Condition) {
        self.directions.retain(|direction| direction.gate.strong_count() > 0);
        for direction in self.directions.iter().filter(|direction| which(direction)) {
            if let Some(gate) = direction.gate.upgrade() {
                gate.set(condition);
            }
        }
    }

    fn gate(&mut self, from: &str, to: &str) -> Arc<Gate> {
        let condition = if self.is_cut(from, to) { Condition::Cut } else { Condition::Open };
        let gate = Arc::new(Gate(Mutex::new((condition, Vec::new()))));
        let direction = Direction { from: from.into(), to: to.into(), gate: Arc::downgrade(&gate) };
        self.directions.retain(|direction| direction.gate.strong_count() > 0);
        self.directions.push(direction);
        gate
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        self.cuts.contains(&(from.into(), to.into()))
    }
}

/// A [`MemoryNetwork`] as one of its hosts sees it.
#[derive(Debug, Clone)]
pub struct MemoryHost {
    network: MemoryNetwork,
    name: String,
}

impl Network for MemoryHost {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            if host_of(address) != self.name {
                let problem = format!("{address} is not an address of {}", self.name);
                return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, problem));
            }
            let mut hub = lock(&self.network.0);
            let address = if address.ends_with(":0") {
                hub.last_port += 1;
                format!("{}:{}", self.name, hub.last_port)
            } else {
                address.to_owned()
            };
            if hub.listeners.get(&address).is_some_and(|listener| !listener.is_closed()) {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, address));
            }
            let (connected, accepted) = mpsc::channel(BACKLOG);
            hub.listeners.insert(address.clone(), connected);
            Ok(Box::new(MemoryListener { address: address.into(), accepted }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let host = host_of(address);
            // Connecting takes a packet each way.
            std::future::poll_fn(|context| {
                let mut hub = lock(&self.network.0);
                if hub.is_cut(&self.name, host) || hub.is_cut(host, &self.name) {
                    hub.healing.push(context.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            let mut hub = lock(&self.network.0);
            let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, address);
            let listener = hub.listeners.get(address).ok_or_else(refused)?.clone();
            let (here, there) = tokio::io::duplex(CAPACITY);
            let (to, from) = (hub.gate(&self.name, host), hub.gate(host, &self.name));
            let here = stream(here, Arc::clone(&from), Arc::clone(&to), address);
            let there = stream(there, to, from, &self.name);
            listener.try_send(there).map_err(|_| refused())?;
            Ok(here)
        })
    }
}

struct MemoryListener {
    address: Address,
    accepted: mpsc::Receiver<Stream>,
}

impl Listener for MemoryListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            match self.accepted.recv().await {
                Some(stream) => Ok(stream),
                // The host crashed. Its process would be gone; what is left of it here accepts nothing more.
                None => std::future::pending().await,
            }
        })
    }

    fn local_address(&self) -> Address {
        self.address.clone()
    }
}

impl fmt::Debug for MemoryListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryListener").field("address", &self.address).finish_non_exhaustive()
    }
}

fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

fn stream(duplex: DuplexStream, incoming: Arc<Gate>, outgoing: Arc<Gate>, remote: &str) -> Stream {
    let (reader, writer) = tokio::io::split(duplex);
    Stream {
        reader: Box::new(GatedReader { reader, gate: incoming }),
        writer: Box::new(GatedWriter { writer, gate: outgoing }),
        remote: remote.into(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Open,
    Cut,
    Reset,
}

/// What one direction of one connection is up to, and who has to hear of a change.
#[derive(Debug)]
struct Gate(Mutex<(Condition, Vec<Waker>)>);

impl Gate {
    fn set(&self, condition: Condition) {
        let mut gate = lock(&self.0);
        if gate.0 != Condition::Reset {
            gate.0 = condition;
            gate.1.drain(..).for_each(Waker::wake);
        }
    }

    /// The condition, of whose change `context` will hear.
    fn watch(&self, context: &Context<'_>) -> Condition {
        let mut gate = lock(&self.0);
        if !gate.1.iter().any(|waker| waker.will_wake(context.waker())) {
            gate.1.push(context.waker().clone());
        }
        gate.0
    }
}

/// Holds bytes back while the direction is cut: they stay in flight.
struct GatedReader {
    reader: ReadHalf<DuplexStream>,
    gate: Arc<Gate>,
}

impl AsyncRead for GatedReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.gate.watch(context) {
            Condition::Open => Pin::new(&mut self.reader).poll_read(context, buffer),
            Condition::Cut => Poll::Pending,
            Condition::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

struct GatedWriter {
    writer: WriteHalf<DuplexStream>,
    gate: Arc<Gate>,
}

impl GatedWriter {
    fn check(&self, context: &Context<'_>) -> io::Result<()> {
        match self.gate.watch(context) {
            Condition::Open | Condition::Cut => Ok(()),
            Condition::Reset => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl AsyncWrite for GatedWriter {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.writer).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.writer).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.writer).poll_shutdown(context)
    }
}
