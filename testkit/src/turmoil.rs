//! The simulated network of the `turmoil` crate, for whole nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use ::turmoil::net::{TcpListener, TcpStream};
use gristmill::{Address, Network};
use gristmill_transport::{Listener, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// As long as sent data may stay unacknowledged in [`TcpNetwork`](gristmill::TcpNetwork).
const SILENCE: Duration = Duration::from_secs(5);

/// The hosts of one simulation, as nodes on them see the network: give [`host`](Self::host) to
/// [`ClusterConfigBuilder::network`](gristmill::ClusterConfigBuilder::network) inside of the host. A clone shares it.
///
/// Turmoil sends no segment twice, and refuses a connection whose first segment was dropped; a system's TCP does
/// neither. So a cut has to be made by this instead of by the simulation: a connection over a way that was cut hangs
/// and fails after 5 s, as it does after [`TcpNetwork`](gristmill::TcpNetwork)'s `TCP_USER_TIMEOUT`, and connecting
/// over one waits. What differs from TCP: a connection over a way that was cut fails even when the way heals before.
#[derive(Debug, Clone, Default)]
pub struct TurmoilNetwork(Arc<Mutex<Ways>>);

#[derive(Debug, Default)]
struct Ways {
    /// From, to.
    cut: BTreeSet<(String, String)>,
    /// How often a way between two hosts was cut, in either direction; the lesser name is first.
    cuts: BTreeMap<(String, String), watch::Sender<u64>>,
    /// Whose process is gone while the host answers.
    refusing: BTreeSet<String>,
}

impl TurmoilNetwork {
    /// One in which nothing is cut.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The network as the simulated host `name` sees it. It listens at `name:port`.
    #[must_use]
    pub fn host(&self, name: &str) -> TurmoilHost {
        TurmoilHost { network: self.clone(), name: name.into() }
    }

    /// Drops what `from` sends to `to`.
    pub fn cut(&self, simulation: &::turmoil::Sim<'_>, from: &str, to: &str) {
        simulation.partition_oneway(from, to);
        let mut ways = self.ways();
        ways.cut.insert((from.into(), to.into()));
        ways.cuts_between(from, to).send_modify(|cuts| *cuts += 1);
    }

    /// Cuts both directions between each of these and each of those.
    pub fn partition(&self, simulation: &::turmoil::Sim<'_>, these: &[&str], those: &[&str]) {
        for (one, other) in these.iter().flat_map(|one| those.iter().map(move |other| (one, other))) {
            self.cut(simulation, one, other);
            self.cut(simulation, other, one);
        }
    }

    /// Lets everything through again.
    pub fn heal(&self, simulation: &::turmoil::Sim<'_>) {
        for (from, to) in std::mem::take(&mut self.ways().cut) {
            simulation.repair_oneway(from, to);
        }
    }

    /// Ends what runs on a host, but not the host: it refuses connections from now on.
    pub fn kill(&self, simulation: &mut ::turmoil::Sim<'_>, host: &str) {
        self.ways().refusing.insert(host.into());
        simulation.crash(host);
    }

    /// Ends what runs on a host, and the host: nobody answers there any more.
    pub fn crash(&self, simulation: &mut ::turmoil::Sim<'_>, host: &str) {
        simulation.crash(host);
    }

    /// Starts a host anew.
    pub fn bounce(&self, simulation: &mut ::turmoil::Sim<'_>, host: &str) {
        self.ways().refusing.remove(host);
        simulation.bounce(host);
    }

    fn ways(&self) -> MutexGuard<'_, Ways> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ways {
    fn cuts_between(&mut self, one: &str, other: &str) -> &watch::Sender<u64> {
        let (one, other) = (one.min(other), one.max(other));
        self.cuts.entry((one.into(), other.into())).or_insert_with(|| watch::Sender::new(0))
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        self.cut.contains(&(from.into(), to.into()))
    }
}

/// A [`TurmoilNetwork`] as one of its hosts sees it. To be used on that host only.
#[derive(Debug, Clone)]
pub struct TurmoilHost {
    network: TurmoilNetwork,
    name: String,
}

impl TurmoilHost {
    fn stream(&self, stream: TcpStream, peer: &str, remote: String) -> Stream {
        let cuts = self.network.ways().cuts_between(&self.name, peer).subscribe();
        let (reader, writer) = stream.into_split();
        Stream {
            reader: Box::new(Cuttable::new(reader, cuts.clone())),
            writer: Box::new(Cuttable::new(writer, cuts)),
            remote,
        }
    }
}

impl Network for TurmoilHost {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
            let port: u16 = port.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            if host != self.name {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            let listener = TcpListener::bind(("0.0.0.0", port)).await?;
            let address = format!("{host}:{}", listener.local_addr()?.port()).into();
            Ok(Box::new(TurmoilListener { listener, address, host: self.clone() }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            let answers = {
                let ways = self.network.ways();
                !ways.is_cut(&self.name, host) && !ways.is_cut(host, &self.name)
            };
            if !answers {
                // The attempts of a system's TCP last longer than anybody here waits.
                return std::future::pending().await;
            }
            if self.network.ways().refusing.contains(host) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let stream = TcpStream::connect(address).await?;
            Ok(self.stream(stream, host, address.to_owned()))
        })
    }
}

struct TurmoilListener {
    listener: TcpListener,
    address: Address,
    host: TurmoilHost,
}

impl Listener for TurmoilListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            let (stream, remote) = self.listener.accept().await?;
            let peer = ::turmoil::reverse_lookup(remote.ip()).unwrap_or_else(|| remote.ip().to_string());
            Ok(self.host.stream(stream, &peer, remote.to_string()))
        })
    }

    fn local_address(&self) -> Address {
        self.address.clone()
    }
}

impl fmt::Debug for TurmoilListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurmoilListener").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Half of a connection, which fails some time after its way was cut.
struct Cuttable<T> {
    half: T,
    /// None once it is over.
    failure: Option<BoxFuture<'static, ()>>,
}

impl<T> Cuttable<T> {
    fn new(half: T, mut cuts: watch::Receiver<u64>) -> Self {
        let failure = async move {
            match cuts.changed().await {
                Ok(()) => tokio::time::sleep(SILENCE).await,
                // There is no network any more that could be cut.
                Err(_) => std::future::pending().await,
            }
        };
        Self { half, failure: Some(Box::pin(failure)) }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let over = self.failure.as_mut().is_none_or(|failure| failure.as_mut().poll(context).is_ready());
        if over {
            self.failure = None;
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Cuttable<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.half).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Cuttable<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.half).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.half).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.half).poll_shutdown(context)
    }
}
