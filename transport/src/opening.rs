use std::io;

use bytes::BytesMut;
use gristmill_core::Outbox;
use gristmill_core::session::{Effect, Event, Handshake, Input, MAX_FRAME, Nonce, Peer, Refusal, RefusalKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::frame::{Decoder, encode};
use crate::network::Stream;

/// Room for one read of a handshake.
const READ: usize = 1024;

/// How a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpeningError {
    /// The socket failed, or the peer hung up.
    #[error("the connection failed: {0}")]
    Network(#[from] io::Error),
    /// This side refused.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The peer refused.
    #[error("refused by the peer: {0}")]
    RefusedByPeer(Refusal),
    /// Another member than the expected one has proven that it is here.
    #[error("{} is here", .0.member)]
    MetAnother(Peer),
}

/// Random bytes for one handshake.
pub(crate) fn nonce() -> Nonce {
    Nonce::new(rand::random())
}

/// Performs a handshake. The decoder holds what came behind it.
pub(crate) async fn open(
    stream: &mut Stream,
    mut handshake: Handshake,
    mut admit: impl FnMut(&Peer) -> Result<(), Refusal>,
) -> Result<(Peer, Decoder), OpeningError> {
    let mut decoder = Decoder::new(MAX_FRAME);
    let mut out = Outbox::new();
    let mut input = Input::Start;
    loop {
        handshake.handle(input, &mut out);
        let mut answer = None;
        let mut bytes = BytesMut::new();
        for effect in out.drain_effects() {
            match effect {
                Effect::Send(message) => {
                    encode(message, MAX_FRAME, &mut bytes)
                        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                }
                Effect::Admit(peer) => answer = Some(Input::Admission(admit(&peer))),
            }
        }
        let written = stream.writer.write_all(&bytes).await;
        if let Some(event) = out.drain_events().next() {
            return match event {
                Event::Established(peer) => written.map(|()| (peer, decoder)).map_err(OpeningError::Network),
                Event::Refused(refusal) => Err(OpeningError::Refused(refusal)),
                Event::RefusedByPeer(refusal) => Err(OpeningError::RefusedByPeer(refusal)),
                Event::MetAnother(peer) => Err(OpeningError::MetAnother(peer)),
            };
        }
        written?;
        stream.writer.flush().await?;
        input = match answer {
            Some(answer) => answer,
            None => receive(stream, &mut decoder).await?,
        };
    }
}

async fn receive(stream: &mut Stream, decoder: &mut Decoder) -> io::Result<Input> {
    loop {
        match decoder.next_frame() {
            Ok(Some(frame)) => return Ok(Input::Received(frame.message_type)),
            Ok(None) => {}
            Err(error) => return Ok(Input::Refuse(Refusal::new(RefusalKind::Malformed, error))),
        }
        decoder.buffer().reserve(READ);
        if stream.reader.read_buf(decoder.buffer()).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
