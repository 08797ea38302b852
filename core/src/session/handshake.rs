use alloc::string::{String, ToString};

use gristmill_messages::MemberId;
use gristmill_messages::remote::frame::MessageType;
use gristmill_messages::remote::{ConnectChallenge, ConnectProof, ConnectRequest, ConnectResponse, Lane};

use super::refusal::refusal_of;
use super::transcript::{Prover, Transcript};
use super::{LocalPeer, Nonce, Peer, Refusal, RefusalKind, VERSION};
use crate::{Address, Outbox};

/// What reaches a handshake.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Begin. The initiator sends its request; the acceptor waits for one anyway.
    Start,
    /// A frame came; `None` when it holds nothing that this version knows.
    Received(Option<MessageType>),
    /// The answer to [`Effect::Admit`].
    Admission(Result<(), Refusal>),
    /// The shell gives up: bytes that are no frame, or a limit of its own. The peer is told.
    Refuse(Refusal),
}

/// What a handshake wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send this frame.
    Send(MessageType),
    /// Say whether this peer, which proved the secret, may come in.
    Admit(Peer),
}

/// How a handshake ended. Nothing follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The connection stands.
    Established(Peer),
    /// This side refuses the peer, and has told it.
    Refused(Refusal),
    /// The peer refuses this side.
    RefusedByPeer(Refusal),
    /// Another member of the cluster than the expected one listens here: it has proven the secret, and told who it is
    /// and where it listens. This side has refused it. Comes to initiators only.
    MetAnother(Peer),
}

/// One handshake, of either side.
#[derive(Debug)]
pub struct Handshake {
    local: LocalPeer,
    nonce: Nonce,
    state: State,
}

/// | state | legal next states |
/// | --- | --- |
/// | `Initiating` | `AwaitingChallenge`, `Ended` |
/// | `AwaitingChallenge` | `AwaitingResponse`, `Ended` |
/// | `AwaitingResponse` | `Ended` |
/// | `AwaitingRequest` | `AwaitingProof`, `Ended` |
/// | `AwaitingProof` | `AwaitingAdmission`, `Ended` |
/// | `AwaitingAdmission` | `Ended` |
/// | `Ended` | none |
#[derive(Debug)]
enum State {
    Initiating { lane: Lane, expected: Option<MemberId> },
    AwaitingChallenge { request: ConnectRequest, lane: Lane, expected: Option<MemberId> },
    AwaitingResponse { peer: Peer },
    AwaitingRequest,
    AwaitingProof { transcript: Transcript, peer: Peer, expected: Option<MemberId> },
    AwaitingAdmission { peer: Peer },
    Ended,
}

impl Handshake {
    /// The side that connects. `expected`: refuse any other member.
    #[must_use]
    pub const fn initiator(local: LocalPeer, lane: Lane, expected: Option<MemberId>, nonce: Nonce) -> Self {
        Self { local, nonce, state: State::Initiating { lane, expected } }
    }

    /// The side that was connected to.
    #[must_use]
    pub const fn acceptor(local: LocalPeer, nonce: Nonce) -> Self {
        Self { local, nonce, state: State::AwaitingRequest }
    }

    /// Takes one step. After the [`Event`], whatever comes is ignored.
    pub fn handle(&mut self, input: Input, out: &mut Outbox<Effect, Event>) {
        match self.step(input, out) {
            Ok(next) => self.state = next,
            Err(End::Established(peer)) => self.end(Event::Established(peer), out),
            Err(End::RefusedByPeer(refusal)) => self.end(Event::RefusedByPeer(refusal), out),
            Err(End::Refused(refusal)) => {
                Self::tell(&refusal, out);
                self.end(Event::Refused(refusal), out);
            }
            Err(End::MetAnother(peer)) => {
                let detail = alloc::format!("{} is not the one expected", peer.member);
                Self::tell(&Refusal::new(RefusalKind::WrongMember, detail), out);
                self.end(Event::MetAnother(peer), out);
            }
        }
    }

    fn tell(refusal: &Refusal, out: &mut Outbox<Effect, Event>) {
        out.effect(Effect::Send(MessageType::ConnectResponse(refusal.clone().into())));
    }

    fn end(&mut self, event: Event, out: &mut Outbox<Effect, Event>) {
        self.state = State::Ended;
        out.event(event);
    }

    fn step(&mut self, input: Input, out: &mut Outbox<Effect, Event>) -> Result<State, End> {
        let state = core::mem::replace(&mut self.state, State::Ended);
        match (state, input) {
            (State::Ended, _) => Ok(State::Ended),
            (_, Input::Refuse(refusal)) => Err(End::Refused(refusal)),
            (State::Initiating { lane, expected }, Input::Start) => Ok(self.request(lane, expected, out)),
            (State::AwaitingAdmission { peer }, Input::Admission(admission)) => {
                admission.map_err(End::Refused)?;
                out.effect(Effect::Send(MessageType::ConnectResponse(ConnectResponse {
                    member_id: self.local.member.to_string(),
                    version: peer.version,
                    ..ConnectResponse::default()
                })));
                Err(End::Established(peer))
            }
            // Not this state's: a start of the acceptor, an admission that nobody asked for.
            (state, Input::Start | Input::Admission(_)) => Ok(state),
            (state, Input::Received(frame)) => self.received(state, frame, out),
        }
    }

    fn received(
        &self,
        state: State,
        frame: Option<MessageType>,
        out: &mut Outbox<Effect, Event>,
    ) -> Result<State, End> {
        match (state, frame) {
            (State::AwaitingResponse { peer }, Some(MessageType::ConnectResponse(response))) => {
                match refusal_of(&response) {
                    Some(refusal) => Err(End::RefusedByPeer(refusal)),
                    None => Err(End::Established(peer)),
                }
            }
            (_, Some(MessageType::ConnectResponse(response))) => match refusal_of(&response) {
                // It may end the life of who is told, so a stranger does not say it.
                Some(refusal) if refusal.kind == RefusalKind::Blocked => {
                    Err(malformed("blocked before anything was proven"))
                }
                Some(refusal) => Err(End::RefusedByPeer(refusal)),
                None => Err(malformed("accepted before anything was proven")),
            },
            (State::AwaitingChallenge { request, lane, expected }, Some(MessageType::ConnectChallenge(challenge))) => {
                self.challenged(&request, lane, expected, &challenge, out)
            }
            (State::AwaitingRequest, Some(MessageType::ConnectRequest(request))) => self.requested(&request, out),
            (State::AwaitingProof { transcript, peer, expected }, Some(MessageType::ConnectProof(proof))) => {
                if !transcript.verify(Prover::Initiator, &self.local.secret, &proof.proof) {
                    return Err(refused(RefusalKind::Secret, "the initiator's proof does not fit"));
                }
                if expected.is_some_and(|expected| expected != self.local.member) {
                    return Err(refused(RefusalKind::WrongMember, alloc::format!("this is {}", self.local.member)));
                }
                out.effect(Effect::Admit(peer.clone()));
                Ok(State::AwaitingAdmission { peer })
            }
            (State::AwaitingAdmission { .. }, _) => Err(malformed("a frame before the answer")),
            (_, frame) => Err(malformed(alloc::format!("{} is out of turn", name(frame.as_ref())))),
        }
    }

    fn request(&self, lane: Lane, expected: Option<MemberId>, out: &mut Outbox<Effect, Event>) -> State {
        let request = ConnectRequest {
            cluster_name: self.local.cluster.clone(),
            member_id: self.local.member.to_string(),
            address: self.address(),
            min_version: VERSION,
            max_version: VERSION,
            lane: lane.into(),
            nonce: self.nonce.bytes().to_vec().into(),
            expected_member_id: expected.map(|member| member.to_string()).unwrap_or_default(),
        };
        out.effect(Effect::Send(MessageType::ConnectRequest(request.clone())));
        State::AwaitingChallenge { request, lane, expected }
    }

    fn requested(&self, request: &ConnectRequest, out: &mut Outbox<Effect, Event>) -> Result<State, End> {
        // The version first: what a later version says besides may mean something else.
        if !(request.min_version..=request.max_version).contains(&VERSION) {
            let (min, max) = (request.min_version, request.max_version);
            return Err(refused(
                RefusalKind::Version,
                alloc::format!("{VERSION} is spoken here, {min} to {max} there"),
            ));
        }
        let member = parse_member(&request.member_id)?;
        check_nonce(&request.nonce)?;
        let lane = Lane::try_from(request.lane).map_err(|_| malformed("no such lane"))?;
        if request.cluster_name != self.local.cluster {
            return Err(refused(RefusalKind::ClusterName, alloc::format!("this is {:?}", self.local.cluster)));
        }
        if member == self.local.member {
            return Err(refused(RefusalKind::WrongMember, "the node called itself"));
        }
        // Who expects another one gets the challenge all the same: it is to learn from a proof who is here.
        let expected = Some(request.expected_member_id.as_str()).filter(|expected| !expected.is_empty());
        let expected = expected.map(parse_member).transpose()?;
        let mut challenge = ConnectChallenge {
            nonce: self.nonce.bytes().to_vec().into(),
            member_id: self.local.member.to_string(),
            address: self.address(),
            version: VERSION,
            ..ConnectChallenge::default()
        };
        let transcript = Transcript::new(request, &challenge);
        challenge.proof = transcript.proof(Prover::Acceptor, &self.local.secret).into();
        out.effect(Effect::Send(MessageType::ConnectChallenge(challenge)));
        let peer = Peer { member, address: parse_address(&request.address), lane, version: VERSION };
        Ok(State::AwaitingProof { transcript, peer, expected })
    }

    fn challenged(
        &self,
        request: &ConnectRequest,
        lane: Lane,
        expected: Option<MemberId>,
        challenge: &ConnectChallenge,
        out: &mut Outbox<Effect, Event>,
    ) -> Result<State, End> {
        check_nonce(&challenge.nonce)?;
        let member = parse_member(&challenge.member_id)?;
        if challenge.version != VERSION {
            return Err(refused(RefusalKind::Version, alloc::format!("{} was not offered", challenge.version)));
        }
        let transcript = Transcript::new(request, challenge);
        if !transcript.verify(Prover::Acceptor, &self.local.secret, &challenge.proof) {
            return Err(refused(RefusalKind::Secret, "the acceptor's proof does not fit"));
        }
        let peer = Peer { member, address: parse_address(&challenge.address), lane, version: challenge.version };
        if expected.is_some_and(|expected| expected != member) {
            return Err(End::MetAnother(peer));
        }
        let proof = transcript.proof(Prover::Initiator, &self.local.secret).into();
        out.effect(Effect::Send(MessageType::ConnectProof(ConnectProof { proof })));
        Ok(State::AwaitingResponse { peer })
    }

    fn address(&self) -> String {
        self.local.address.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}

enum End {
    Established(Peer),
    Refused(Refusal),
    RefusedByPeer(Refusal),
    MetAnother(Peer),
}

fn refused(kind: RefusalKind, detail: impl core::fmt::Display) -> End {
    End::Refused(Refusal::new(kind, detail))
}

fn malformed(detail: impl core::fmt::Display) -> End {
    refused(RefusalKind::Malformed, detail)
}

fn parse_member(text: &str) -> Result<MemberId, End> {
    text.parse().map_err(malformed)
}

fn parse_address(text: &str) -> Option<Address> {
    (!text.is_empty()).then(|| text.into())
}

fn check_nonce(nonce: &[u8]) -> Result<(), End> {
    if nonce.len() == 16 { Ok(()) } else { Err(malformed(alloc::format!("a nonce of {} bytes", nonce.len()))) }
}

const fn name(frame: Option<&MessageType>) -> &'static str {
    match frame {
        None => "a frame of nothing known",
        Some(MessageType::ConnectRequest(_)) => "ConnectRequest",
        Some(MessageType::ConnectResponse(_)) => "ConnectResponse",
        Some(MessageType::DisconnectRequest(_)) => "DisconnectRequest",
        Some(MessageType::ConnectChallenge(_)) => "ConnectChallenge",
        Some(MessageType::ConnectProof(_)) => "ConnectProof",
        Some(MessageType::Request(_)) => "Request",
        Some(MessageType::Response(_)) => "Response",
        Some(MessageType::CancelRequest(_)) => "CancelRequest",
    }
}
