use std::io;
use std::sync::Arc;
use std::time::Duration;

use gristmill_core::session::{Handshake, Peer, Refusal};
use gristmill_messages::MemberId;
use gristmill_messages::remote::Lane;

use crate::config::Local;
use crate::network::Network;
use crate::opening::{OpeningError, nonce, open};
use crate::{Connection, Handler};

/// Why there is no connection. Nothing is left of the attempt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody listens there, or the way there fails. Retry with backoff.
    #[error("{address} cannot be reached")]
    Unreachable {
        /// Where nobody was met.
        address: String,
        /// What the network says.
        source: io::Error,
    },
    /// Connecting and the handshake took too long. Retry with backoff.
    #[error("{address} did not answer within {after:?}")]
    TimedOut {
        /// Who did not answer.
        address: String,
        /// How long was waited.
        after: Duration,
    },
    /// The connection failed during the handshake. Retry with backoff.
    #[error("the connection to {address} failed during the handshake")]
    Lost {
        /// To whom.
        address: String,
        /// What the network says.
        source: io::Error,
    },
    /// Another member of the cluster than the expected one listens there, as it has proven. Permanent for this
    /// expectation.
    #[error("{address} is where {} listens", met.member)]
    MetAnother {
        /// Where.
        address: String,
        /// Who it is, and where it says that it listens: elsewhere, if the way to it was mistaken.
        met: Peer,
    },
    /// This side refuses the peer; the [`Refusal`] says whether a retry can help.
    #[error("{address} was refused: {refusal}")]
    Refused {
        /// Who was refused.
        address: String,
        /// Why.
        refusal: Refusal,
    },
    /// The peer refuses this side; the [`Refusal`] says whether a retry can help.
    #[error("{address} refused: {refusal}")]
    RefusedByPeer {
        /// Who refused.
        address: String,
        /// Why.
        refusal: Refusal,
    },
}

impl ConnectError {
    /// Whether a retry with the same configuration and the same `MemberId` is pointless.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Lost { .. } => false,
            Self::MetAnother { .. } => true,
            Self::Refused { refusal, .. } | Self::RefusedByPeer { refusal, .. } => refusal.kind.is_permanent(),
        }
    }
}

/// Connects to who listens at `address` and performs the handshake, within the configured time. `expected`: refuse any
/// other member. Dropping the future gives the attempt up.
///
/// # Errors
/// See [`ConnectError`].
pub async fn dial(
    network: &dyn Network,
    address: &str,
    lane: Lane,
    expected: Option<MemberId>,
    local: &Local,
    handler: Arc<dyn Handler>,
) -> Result<Connection, ConnectError> {
    let after = local.config().handshake_timeout;
    let attempt = async {
        let connected = network.connect(address).await;
        let mut stream =
            connected.map_err(|source| ConnectError::Unreachable { address: address.to_owned(), source })?;
        let handshake = Handshake::initiator(local.peer().clone(), lane, expected, nonce());
        let (peer, mut decoder) = open(&mut stream, handshake, |_| Ok(())).await.map_err(|error| {
            let address = address.to_owned();
            match error {
                OpeningError::Network(source) => ConnectError::Lost { address, source },
                OpeningError::Refused(refusal) => ConnectError::Refused { address, refusal },
                OpeningError::RefusedByPeer(refusal) => ConnectError::RefusedByPeer { address, refusal },
                OpeningError::MetAnother(met) => ConnectError::MetAnother { address, met },
            }
        })?;
        decoder.set_limit(local.config().frame_limit);
        Ok(Connection::start(peer, local, stream, decoder, handler))
    };
    let timed_out = |_| ConnectError::TimedOut { address: address.to_owned(), after };
    tokio::time::timeout(after, attempt).await.map_err(timed_out)?
}
