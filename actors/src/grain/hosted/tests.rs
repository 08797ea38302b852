use std::num::NonZeroU64;

use gristmill_messages::{ActivationEpoch, ActivationId, ClusterIdentity, MessageName, TopologyVersion};
use ractor::ActorProcessingErr;
use tokio::sync::mpsc;

use super::*;
use crate::{ClusterActor, ClusterConfig, Kind, Shutdown, Timing};

/// Passes its calls on.
struct Keeper(mpsc::UnboundedSender<HostedCall>);

impl Actor for Keeper {
    type Msg = HostedCall;
    type State = ();
    type Arguments = Arc<GrainContext>;

    async fn pre_start(&self, _: ActorRef<HostedCall>, _: Arc<GrainContext>) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(&self, _: ActorRef<HostedCall>, call: HostedCall, (): &mut ()) -> Result<(), ActorProcessingErr> {
        drop(self.0.send(call));
        Ok(())
    }
}

#[tokio::test]
async fn a_hosted_actor_is_not_idle_while_it_has_a_call_to_answer() {
    let config = ClusterConfig::builder("hosted").timing(Timing::test()).build().unwrap();
    let (cluster, context) = ClusterActor::start_member(config).await.unwrap();
    let context = GrainContext {
        identity: Arc::new(ClusterIdentity::new("keeper", "a")),
        activation: ActivationId::new(NonZeroU64::MIN),
        epoch: ActivationEpoch { topology: TopologyVersion::new(1), sequence: 1 },
        cluster: context,
    };
    let (calls, mut kept) = mpsc::unbounded_channel();
    let other = calls.clone();
    let second = Duration::from_secs(1);
    let settings = Kind::actor("keeper", move || Keeper(other.clone())).idle_after(second).settings();
    let door = HostedDoor::start(settings, context, Keeper(calls));
    let sweeps = || [door.sweep(second), door.sweep(second), door.sweep(second)];
    assert_eq!(sweeps(), [false, true, true]);
    let deliver = || {
        let (message, reply) = (MessageName::of::<()>(), ReplyTo::nobody());
        door.deliver(Envelope { message, data: bytes::Bytes::new().into(), deadline: None, traceparent: None, reply })
            .unwrap();
    };

    deliver();
    let call = kept.recv().await.unwrap();
    assert_eq!(sweeps(), [false; 3], "it has not opened it");
    let answer = call.open(|_, answer| answer);
    assert_eq!(sweeps(), [false; 3], "it has not answered it");
    drop(answer);
    assert_eq!(sweeps(), [false, true, true]);

    deliver();
    drop(kept.recv().await.unwrap());
    assert_eq!(sweeps(), [false, true, true], "it was given back");
    cluster.shutdown(Shutdown::immediate()).await.unwrap();
}
