use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::outbound::Batch;
use super::{CloseReason, Shared};

/// Writes until the connection ends, and says why it did.
pub(super) async fn write(shared: Arc<Shared>, mut writer: Box<dyn AsyncWrite + Send + Unpin>) -> CloseReason {
    let stall_timeout = shared.local.config().stall_timeout;
    let mut batch = Batch::default();
    while shared.outbound.next(&mut batch).await {
        if let Err(reason) = write_all(&mut *writer, &batch.bytes, stall_timeout).await {
            return reason;
        }
        let counters = &shared.counters;
        counters.frames_out.fetch_add(batch.frames as u64, Ordering::Relaxed);
        counters.bytes_out.fetch_add(batch.bytes.len() as u64, Ordering::Relaxed);
        counters.writes.fetch_add(1, Ordering::Relaxed);
        shared.outbound.written(&mut batch);
    }
    let _ = timeout(stall_timeout, writer.shutdown()).await;
    shared.reason()
}

/// Each part of a write has the stall timeout for itself: a slow peer is no dead one.
async fn write_all(
    writer: &mut (dyn AsyncWrite + Send + Unpin),
    mut bytes: &[u8],
    stall_timeout: Duration,
) -> Result<(), CloseReason> {
    let stalled = |_| CloseReason::Stalled(stall_timeout);
    let failed = |error: io::Error| CloseReason::Network(error.kind());
    while !bytes.is_empty() {
        let written = timeout(stall_timeout, writer.write(bytes)).await.map_err(stalled)?.map_err(failed)?;
        bytes = match bytes.get(written..) {
            Some(rest) if written > 0 => rest,
            _ => return Err(CloseReason::Network(io::ErrorKind::WriteZero)),
        };
    }
    timeout(stall_timeout, writer.flush()).await.map_err(stalled)?.map_err(failed)
}
