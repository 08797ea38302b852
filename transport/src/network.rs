//! What connections run on: TCP, or memory.

mod memory;
mod tcp;

pub use memory::{MemoryHost, MemoryNetwork};
pub use tcp::TcpNetwork;

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;

use gristmill_core::Address;
use tokio::io::{AsyncRead, AsyncWrite};

/// A future in a box, so that the traits here can be objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Opens connections, and waits for them.
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// Begins to accept connections at `address`, as `host:port`; port 0 chooses one.
    ///
    /// # Errors
    /// The address is in use, or none of this host. Nothing is bound then.
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;

    /// Connects to who listens at `address`. Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// Nobody listens there, or the way there is cut. A retry may help.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Stream>>;
}

/// Accepts connections until it is dropped, which frees its address.
pub trait Listener: fmt::Debug + Send + Sync + 'static {
    /// The next connection. Dropping the future loses none.
    ///
    /// # Errors
    /// Nothing that a peer can cause: the process has too many files open, or the like. A later attempt may succeed.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>>;

    /// Where it listens, with the port that was chosen.
    fn local_address(&self) -> Address;
}

/// A connected pair of byte streams.
pub struct Stream {
    /// What the peer sends.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What the peer will read.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Where the peer is, for logs.
    pub remote: String,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("remote", &self.remote).finish_non_exhaustive()
    }
}
