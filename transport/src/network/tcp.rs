use std::io;
use std::time::Duration;

use gristmill_core::Address;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

use super::{BoxFuture, Listener, Network, Stream};

/// How long sent data may stay unacknowledged, on Linux, and how long an idle peer may be silent before it is asked.
const SILENCE: Duration = Duration::from_secs(5);

/// Connections that wait to be accepted, at most.
const BACKLOG: u32 = 1024;

/// TCP, with Nagle's algorithm off and half-open connections noticed.
///
/// The system's default would notice a vanished peer after a quarter of an hour; here unacknowledged data fails a
/// connection after 5 s (`TCP_USER_TIMEOUT`, Linux), and an idle one is probed after as long (keep-alive).
///
/// Of few packets the first six repetitions wait equally long, instead of twice as long each time
/// (`TCP_THIN_LINEAR_TIMEOUTS`, Linux): frames are small, and a network that loses a fifth of all packets would else
/// fail a connection now and then whose peer lives.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpNetwork {
    _private: (),
}

impl TcpNetwork {
    /// The network of this machine.
    #[must_use]
    pub const fn new() -> Self {
        Self { _private: () }
    }
}

impl Network for TcpNetwork {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
            for address in lookup_host(address).await? {
                match bind(address) {
                    Ok(listener) => return Ok(Box::new(listener) as Box<dyn Listener>),
                    Err(error) => failure = error,
                }
            }
            Err(failure)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move { split(TcpStream::connect(address).await?) })
    }
}

#[derive(Debug)]
struct Tcp {
    listener: TcpListener,
    address: Address,
}

impl Listener for Tcp {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            loop {
                match self.listener.accept().await {
                    // A peer that is gone already is no failure of the listener.
                    Ok((stream, _)) => match split(stream) {
                        Ok(stream) => return Ok(stream),
                        Err(error) => tracing::debug!(%error, "accepted what was gone"),
                    },
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        })
    }

    fn local_address(&self) -> Address {
        self.address.clone()
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn bind(address: std::net::SocketAddr) -> io::Result<Tcp> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // On Windows it would let two processes share the port; elsewhere it spares a restarted one the wait.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?.to_string().into();
    Ok(Tcp { listener, address })
}

fn split(stream: TcpStream) -> io::Result<Stream> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        socket.set_tcp_user_timeout(Some(SILENCE))?;
        socket.set_tcp_thin_linear_timeouts(true)?;
    }
    let remote = stream.peer_addr()?.to_string();
    let (reader, writer) = stream.into_split();
    Ok(Stream { reader: Box::new(reader), writer: Box::new(writer), remote })
}
