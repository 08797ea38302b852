use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gristmill_core::Address;
use gristmill_core::session::{Handshake, Peer, Refusal, RefusalKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::config::Local;
use crate::network::{Listener, Stream};
use crate::opening::{nonce, open};
use crate::{Connection, Handler};

/// Waits after a failed accept: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Decides which members may connect.
pub trait Admission: Send + Sync + 'static {
    /// Asked of each peer that has proven the secret, from a task of its own; must not block.
    ///
    /// # Errors
    /// What the peer is told.
    fn admit(&self, peer: &Peer) -> Result<(), Refusal>;
}

/// Lets every member in.
#[derive(Debug, Clone, Copy, Default)]
pub struct AdmitAll;

impl Admission for AdmitAll {
    fn admit(&self, _: &Peer) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Accepts connections until it is shut down or dropped.
///
/// A bad peer costs itself its connection and nobody else anything: each handshake runs in a task of its own, with a
/// deadline and 4 KiB, and only so many at the same time. A failing accept, as when the process has too many files
/// open, is tried again after a pause.
pub struct Acceptor {
    address: Address,
    stop: watch::Sender<Option<String>>,
    task: JoinHandle<()>,
}

impl Acceptor {
    /// Begins to accept. Each peer that is admitted gets a connection with `handler`.
    #[must_use]
    pub fn start(
        listener: Box<dyn Listener>,
        local: Local,
        admission: Arc<dyn Admission>,
        handler: Arc<dyn Handler>,
    ) -> Self {
        let address = listener.local_address();
        let (stop, stopped) = watch::channel(None);
        let connections = Arc::new(Semaphore::new(local.config().max_connections));
        let door = Door { local, admission, handler, connections, stopped };
        Self { address, stop, task: tokio::spawn(accept(listener, door)) }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Frees the address, gives handshakes up, closes all accepted connections, and waits until they have ended, which
    /// takes the linger time at most. Dropping the future does the same without waiting.
    pub async fn shutdown(mut self, reason: &str) {
        self.stop.send_replace(Some(reason.into()));
        // It ends by itself, or was aborted with its runtime.
        let _ = (&mut self.task).await;
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("address", &self.address).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Door {
    local: Local,
    admission: Arc<dyn Admission>,
    handler: Arc<dyn Handler>,
    connections: Arc<Semaphore>,
    stopped: watch::Receiver<Option<String>>,
}

impl Door {
    /// Waits for the end, and says why.
    async fn stopped(&mut self) -> String {
        match self.stopped.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => String::from("the acceptor was dropped"),
        }
    }
}

async fn accept(mut listener: Box<dyn Listener>, mut door: Door) {
    let handshakes = Arc::new(Semaphore::new(door.local.config().max_handshakes));
    let mut peers = JoinSet::new();
    let mut pause = PAUSES.0;
    loop {
        while peers.try_join_next().is_some() {}
        let next = async {
            let permit = Arc::clone(&handshakes).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            _ = door.stopped() => break,
            next = next => next,
        };
        match (permit, accepted) {
            (Ok(permit), Ok(stream)) => {
                pause = PAUSES.0;
                peers.spawn(receive(stream, door.clone(), permit));
            }
            (_, Err(error)) => {
                if pause == PAUSES.0 {
                    tracing::warn!(address = %listener.local_address(), %error, "accepting fails, trying again");
                }
                tokio::select! {
                    _ = door.stopped() => break,
                    () = sleep(pause) => pause = (pause * 2).min(PAUSES.1),
                }
            }
            // Nobody closes the semaphore.
            (Err(_), Ok(_)) => break,
        }
    }
    drop(listener);
    while peers.join_next().await.is_some() {}
}

/// One peer, from its handshake to its end.
async fn receive(mut stream: Stream, mut door: Door, handshake: OwnedSemaphorePermit) {
    let mut place = None;
    let opening = async {
        let machine = Handshake::acceptor(door.local.peer().clone(), nonce());
        open(&mut stream, machine, |peer| {
            door.admission.admit(peer)?;
            let full = |_| Refusal::new(RefusalKind::Overloaded, "too many connections");
            place = Some(Arc::clone(&door.connections).try_acquire_owned().map_err(full)?);
            Ok(())
        })
        .await
    };
    let mut stopping = door.clone();
    let opened = tokio::select! {
        _ = stopping.stopped() => return,
        opened = timeout(door.local.config().handshake_timeout, opening) => opened,
    };
    drop(handshake);
    let (peer, mut decoder) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return door.handler.refused(&stream.remote, &error.to_string()),
        Err(_) => return door.handler.refused(&stream.remote, "the handshake took too long"),
    };
    decoder.set_limit(door.local.config().frame_limit);
    let connection = Connection::start(peer, &door.local, stream, decoder, Arc::clone(&door.handler));
    tokio::select! {
        reason = door.stopped() => {
            connection.close(reason);
            connection.closed().await;
        }
        _ = connection.closed() => {}
    }
    drop(place);
}
