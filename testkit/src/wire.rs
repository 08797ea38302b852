use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gristmill::{MemoryHost, Network};
use gristmill_transport::{Listener, Stream};

/// One host's way into the network in memory, which it loses for good when it crashes: what still runs of it in this
/// process reaches nobody.
#[derive(Debug)]
pub(crate) struct Wire {
    host: MemoryHost,
    unplugged: AtomicBool,
}

impl Wire {
    pub(crate) fn new(host: MemoryHost) -> Arc<Self> {
        Arc::new(Self { host, unplugged: AtomicBool::new(false) })
    }

    pub(crate) fn unplug(&self) {
        self.unplugged.store(true, Ordering::Release);
    }

    fn check(&self) -> io::Result<()> {
        if self.unplugged.load(Ordering::Acquire) { Err(io::ErrorKind::NetworkDown.into()) } else { Ok(()) }
    }
}

impl Network for Wire {
    fn listen<'a>(
        &'a self,
        address: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Listener>>> + Send + 'a>> {
        Box::pin(async move {
            self.check()?;
            self.host.listen(address).await
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> Pin<Box<dyn Future<Output = io::Result<Stream>> + Send + 'a>> {
        Box::pin(async move {
            self.check()?;
            let stream = self.host.connect(address).await?;
            // It may have been waiting for a way to heal.
            self.check()?;
            Ok(stream)
        })
    }
}
