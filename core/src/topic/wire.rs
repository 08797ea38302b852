use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use gristmill_messages::cluster::subscriber_identity::Identity;
use gristmill_messages::{InvalidId, cluster};

use super::{DeliveryStatus, PublishReceipt, Subscriber};

impl From<&Subscriber> for cluster::SubscriberIdentity {
    fn from(subscriber: &Subscriber) -> Self {
        let identity = match subscriber {
            Subscriber::Member(member) => Identity::MemberId(member.to_string()),
            Subscriber::Grain(identity) => Identity::ClusterIdentity((**identity).clone()),
        };
        Self { identity: Some(identity) }
    }
}

impl TryFrom<cluster::SubscriberIdentity> for Subscriber {
    type Error = InvalidId;

    /// A single actor of another node is no subscriber: its node's delivery is, under the member id.
    fn try_from(subscriber: cluster::SubscriberIdentity) -> Result<Self, InvalidId> {
        match subscriber.identity {
            Some(Identity::MemberId(member)) => Ok(Self::Member(member.parse()?)),
            Some(Identity::ClusterIdentity(identity)) => {
                identity.validate().map_err(|invalid| InvalidId::new("cluster identity", invalid))?;
                Ok(Self::Grain(Arc::new(identity)))
            }
            Some(Identity::Pid(pid)) => Err(InvalidId::new("member id or cluster identity", pid.id)),
            None => Err(InvalidId::new("subscriber", "nothing")),
        }
    }
}

impl From<DeliveryStatus> for cluster::DeliveryStatus {
    fn from(status: DeliveryStatus) -> Self {
        match status {
            DeliveryStatus::Delivered => Self::Delivered,
            DeliveryStatus::NoLongerReachable => Self::SubscriberNoLongerReachable,
            DeliveryStatus::Timeout => Self::Timeout,
            DeliveryStatus::Overloaded | DeliveryStatus::Failed => Self::OtherError,
        }
    }
}

impl From<cluster::DeliveryStatus> for DeliveryStatus {
    fn from(status: cluster::DeliveryStatus) -> Self {
        match status {
            cluster::DeliveryStatus::Delivered => Self::Delivered,
            cluster::DeliveryStatus::SubscriberNoLongerReachable => Self::NoLongerReachable,
            cluster::DeliveryStatus::Timeout => Self::Timeout,
            cluster::DeliveryStatus::OtherError => Self::Failed,
        }
    }
}

impl From<&PublishReceipt> for cluster::PublishResponse {
    /// A receipt is a publication that went through, whoever did not get it.
    fn from(receipt: &PublishReceipt) -> Self {
        let report = |(subscriber, status): &(Subscriber, DeliveryStatus)| cluster::SubscriberDeliveryReport {
            subscriber: Some(subscriber.into()),
            status: cluster::DeliveryStatus::from(*status).into(),
        };
        Self {
            status: cluster::PublishStatus::Ok.into(),
            accepted: receipt.accepted,
            delivered: receipt.delivered,
            failed: receipt.failed.iter().map(report).collect(),
        }
    }
}

impl TryFrom<cluster::PublishResponse> for PublishReceipt {
    type Error = InvalidId;

    /// A status that this release does not know is [`DeliveryStatus::Failed`].
    fn try_from(response: cluster::PublishResponse) -> Result<Self, InvalidId> {
        let failed = response.failed.into_iter().map(|report| {
            let status = cluster::DeliveryStatus::try_from(report.status);
            let status = status.map_or(DeliveryStatus::Failed, DeliveryStatus::from);
            Ok((Subscriber::try_from(report.subscriber.unwrap_or_default())?, status))
        });
        let failed = failed.collect::<Result<Vec<_>, InvalidId>>()?;
        Ok(Self { accepted: response.accepted, delivered: response.delivered, failed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_messages::{ClusterIdentity, MemberId, actor};

    #[test]
    fn a_receipt_survives_the_wire_but_for_what_the_wire_cannot_say() {
        let member = Subscriber::Member(MemberId::new(1));
        let grain = Subscriber::Grain(Arc::new(ClusterIdentity::new("archivist", "rust")));
        let failed = |last| {
            let statuses = [DeliveryStatus::NoLongerReachable, DeliveryStatus::Timeout, DeliveryStatus::Failed, last];
            statuses.map(|status| [(member.clone(), status), (grain.clone(), status)]).concat()
        };
        let receipt = PublishReceipt { accepted: 9, delivered: 1, failed: failed(DeliveryStatus::Overloaded) };
        let received = PublishReceipt::try_from(cluster::PublishResponse::from(&receipt));
        assert_eq!(received, Ok(PublishReceipt { failed: failed(DeliveryStatus::Failed), ..receipt }));
    }

    #[test]
    fn what_is_no_subscriber_is_refused() {
        let garbled = [
            None,
            Some(Identity::Pid(actor::Pid::default())),
            Some(Identity::MemberId("me".into())),
            Some(Identity::ClusterIdentity(ClusterIdentity::new("archivist", ""))),
        ];
        for identity in garbled {
            assert!(Subscriber::try_from(cluster::SubscriberIdentity { identity }).is_err());
        }
    }
}
