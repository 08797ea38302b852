//! Placement in the messages of the wire contract. What a peer sent is checked here before it is believed.

use alloc::string::{String, ToString};

use gristmill_messages::cluster::activation_failure::Reason;
use gristmill_messages::{ActivationEpoch, ActivationId, ClusterIdentity, InvalidId, TopologyHash, actor, cluster};

use super::{DeactivationReason, Location, Refusal};
use crate::{Address, KindName, Member};

impl Location {
    /// The activation with the address at which its member is reached.
    #[must_use]
    pub fn to_pid(&self, address: &Address) -> actor::Pid {
        actor::Pid {
            address: address.to_string(),
            id: self.activation.to_string(),
            request_id: 0,
            member_id: self.member.to_string(),
            activation_id: self.activation.get(),
            epoch: Some(self.epoch.into()),
        }
    }
}

impl TryFrom<&actor::Pid> for Location {
    type Error = InvalidId;

    fn try_from(pid: &actor::Pid) -> Result<Self, InvalidId> {
        Ok(Self {
            member: pid.member_id.parse()?,
            activation: ActivationId::try_from(pid.activation_id)?,
            epoch: pid.epoch.map(ActivationEpoch::from).ok_or_else(|| InvalidId::new("activation epoch", "nothing"))?,
        })
    }
}

impl From<&Refusal> for cluster::ActivationFailure {
    fn from(refusal: &Refusal) -> Self {
        let (reason, detail, owner) = match refusal {
            Refusal::UnknownKind { kind } => (Reason::UnknownKind, kind.to_string(), None),
            Refusal::NotOwner { owner } => (Reason::NotOwner, String::new(), owner.as_ref()),
            Refusal::Locked { holder } => (Reason::Locked, String::new(), Some(holder)),
            Refusal::ShuttingDown => (Reason::ShuttingDown, String::new(), None),
            Refusal::Failed(failure) => (Reason::ActivationFailed, failure.clone(), None),
            Refusal::NotStarted => (Reason::NotStarted, String::new(), None),
            Refusal::Overloaded => (Reason::Overloaded, String::new(), None),
        };
        Self { reason: reason.into(), detail, owner: owner.map(Into::into) }
    }
}

impl TryFrom<cluster::ActivationFailure> for Refusal {
    type Error = InvalidId;

    /// A reason that this release does not know is a failed activation.
    fn try_from(failure: cluster::ActivationFailure) -> Result<Self, InvalidId> {
        let reason = failure.reason();
        let cluster::ActivationFailure { detail, owner, .. } = failure;
        let owner = owner.map(Member::try_from).transpose()?;
        Ok(match reason {
            Reason::UnknownKind => Self::UnknownKind { kind: KindName::from(detail) },
            Reason::NotOwner => Self::NotOwner { owner },
            Reason::Locked => {
                Self::Locked { holder: owner.ok_or_else(|| InvalidId::new("holder of a lock", "nothing"))? }
            }
            Reason::ShuttingDown => Self::ShuttingDown,
            Reason::NotStarted => Self::NotStarted,
            Reason::Overloaded => Self::Overloaded,
            Reason::ActivationFailed | Reason::Unspecified => Self::Failed(detail),
        })
    }
}

/// The response to an `ActivationRequest`; `address` is where the answering member listens.
#[must_use]
pub fn to_response(
    answer: &Result<Location, Refusal>,
    address: &Address,
    topology: TopologyHash,
) -> cluster::ActivationResponse {
    let (pid, failure) = match answer {
        Ok(location) => (Some(location.to_pid(address)), None),
        Err(refusal) => (None, Some(refusal.into())),
    };
    cluster::ActivationResponse { failed: failure.is_some(), pid, topology_hash: topology.get(), failure }
}

/// What the response to an `ActivationRequest` says.
///
/// # Errors
/// Neither an activation nor a reason in it, or one of them malformed: the peer's fault.
pub fn from_response(response: cluster::ActivationResponse) -> Result<Result<Location, Refusal>, InvalidId> {
    match (response.pid, response.failure) {
        (_, Some(failure)) => Refusal::try_from(failure).map(Err),
        (Some(pid), None) if !response.failed => Location::try_from(&pid).map(Ok),
        (_, None) if response.failed => Ok(Err(Refusal::Failed(String::new()))),
        _ => Err(InvalidId::new("answer to an activation request", "nothing")),
    }
}

/// That an activation is no more, as its member announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminated {
    /// Which.
    pub location: Location,
    /// What it was.
    pub identity: ClusterIdentity,
    /// Why.
    pub reason: DeactivationReason,
}

impl Terminated {
    /// The announcement, from the member that listens at `address`.
    #[must_use]
    pub fn to_message(&self, address: &Address) -> cluster::ActivationTerminated {
        cluster::ActivationTerminated {
            pid: Some(self.location.to_pid(address)),
            cluster_identity: Some(self.identity.clone()),
            reason: self.reason.to_string(),
        }
    }
}

impl TryFrom<cluster::ActivationTerminated> for Terminated {
    type Error = InvalidId;

    fn try_from(message: cluster::ActivationTerminated) -> Result<Self, InvalidId> {
        let pid = message.pid.ok_or_else(|| InvalidId::new("terminated activation", "nothing"))?;
        let identity = message.cluster_identity.unwrap_or_default();
        identity.validate().map_err(|invalid| InvalidId::new("cluster identity", invalid))?;
        let reason = DeactivationReason::ALL.into_iter().find(|reason| reason.as_str() == message.reason);
        let reason = reason.unwrap_or(DeactivationReason::Unspecified);
        Ok(Self { location: Location::try_from(&pid)?, identity, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_messages::{MemberId, TopologyVersion};
    use prost::Message;

    fn location() -> Location {
        let epoch = ActivationEpoch { topology: TopologyVersion::new(3), sequence: 9 };
        Location { member: MemberId::new(0xabc), activation: ActivationId::try_from(9).unwrap(), epoch }
    }

    fn sent(answer: &Result<Location, Refusal>) -> Result<Result<Location, Refusal>, InvalidId> {
        let bytes = to_response(answer, &"127.0.0.1:7701".into(), TopologyHash::new(5)).encode_to_vec();
        from_response(cluster::ActivationResponse::decode(bytes.as_slice()).unwrap())
    }

    // proves VA-2.2
    #[test]
    fn every_answer_survives_the_wire() {
        let member = Member::new(MemberId::new(7), "127.0.0.1:7702", [KindName::from("greeter")]);
        let answers = [
            Ok(location()),
            Err(Refusal::UnknownKind { kind: "printer".into() }),
            Err(Refusal::NotOwner { owner: None }),
            Err(Refusal::NotOwner { owner: Some(member.clone()) }),
            Err(Refusal::Locked { holder: member }),
            Err(Refusal::ShuttingDown),
            Err(Refusal::Failed("no disk".into())),
            Err(Refusal::NotStarted),
            Err(Refusal::Overloaded),
        ];
        for answer in answers {
            assert_eq!(sent(&answer), Ok(answer));
        }
    }

    #[test]
    fn what_a_peer_garbles_is_an_error_and_an_unknown_reason_a_failure() {
        assert!(from_response(cluster::ActivationResponse::default()).is_err());
        let failed = cluster::ActivationResponse { failed: true, ..Default::default() };
        assert_eq!(from_response(failed), Ok(Err(Refusal::Failed(String::new()))));
        let unknown = cluster::ActivationFailure { reason: 99, detail: "new".into(), owner: None };
        assert_eq!(Refusal::try_from(unknown), Ok(Refusal::Failed("new".into())));
        let locked = cluster::ActivationFailure { reason: Reason::Locked.into(), ..Default::default() };
        assert!(Refusal::try_from(locked).is_err());
        let pid = location().to_pid(&"127.0.0.1:7701".into());
        for pid in [
            actor::Pid { activation_id: 0, ..pid.clone() },
            actor::Pid { member_id: "me".into(), ..pid.clone() },
            actor::Pid { epoch: None, ..pid },
        ] {
            assert!(Location::try_from(&pid).is_err());
        }
    }

    #[test]
    fn an_announcement_survives_the_wire_with_every_reason() {
        for reason in DeactivationReason::ALL {
            let terminated =
                Terminated { location: location(), identity: ClusterIdentity::new("greeter", "alice"), reason };
            let message = terminated.to_message(&"127.0.0.1:7701".into());
            assert_eq!(Terminated::try_from(message.clone()), Ok(terminated.clone()));
            let nameless = cluster::ActivationTerminated { cluster_identity: None, ..message };
            assert!(Terminated::try_from(nameless).is_err());
        }
    }

    #[test]
    fn a_reason_of_a_later_release_is_unspecified() {
        let message = cluster::ActivationTerminated {
            pid: Some(location().to_pid(&"127.0.0.1:7701".into())),
            cluster_identity: Some(ClusterIdentity::new("greeter", "alice")),
            reason: "evicted".into(),
        };
        assert_eq!(Terminated::try_from(message).unwrap().reason, DeactivationReason::Unspecified);
    }
}
