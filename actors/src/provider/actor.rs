use std::sync::Arc;
use std::time::Duration;

use gristmill_core::Address;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

use crate::member_list::MemberListMessage;
use crate::node::{Node, Role};
use crate::provider::{ClusterProvider, Discovery, ProviderError};

/// How long a provider may take to start and to find its first addresses, and to stop. A guess.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the provider and tells the member list what it finds: at once, and again from time to time, so that a
/// cluster that fell apart finds itself again.
pub(crate) struct ProviderActor;

pub(crate) struct ProviderArguments {
    pub(crate) node: Arc<Node>,
    /// What was found first.
    pub(crate) found: oneshot::Sender<Vec<Address>>,
}

pub(crate) enum ProviderMessage {
    /// Tell the member list again.
    Rediscover,
    /// Stop the provider, then the actor.
    Shutdown { graceful: bool },
}

pub(crate) struct ProviderState {
    node: Arc<Node>,
    provider: Arc<dyn ClusterProvider>,
    found: watch::Receiver<Option<Vec<Address>>>,
    graceful: bool,
    pump: AbortHandle,
}

/// A provider that nobody has waited for to start: it is shut down again.
struct Starting(Option<Arc<dyn ClusterProvider>>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take() {
            tokio::spawn(async move { drop(provider.shutdown(false).await) });
        }
    }
}

impl Actor for ProviderActor {
    type Msg = ProviderMessage;
    type State = ProviderState;
    type Arguments = ProviderArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ProviderMessage>,
        ProviderArguments { node, found: first }: ProviderArguments,
    ) -> Result<ProviderState, ActorProcessingErr> {
        let provider = Arc::clone(&node.config.provider);
        let (discovery, mut found) = Discovery::new();
        let mut starting = Starting(Some(Arc::clone(&provider)));
        let started = async {
            match node.role {
                Role::Member => provider.start_member(&node.me, discovery).await?,
                Role::Client => provider.start_client(discovery).await?,
            }
            let addresses =
                found.wait_for(Option::is_some).await.map(|addresses| addresses.clone().unwrap_or_default());
            addresses.map_err(|_| ProviderError::Backend("it stopped before it reported".into()))
        };
        let late = |_| ProviderError::Backend(format!("nothing reported within {PATIENCE:?}"));
        let addresses = match tokio::time::timeout(PATIENCE, started).await.map_err(late) {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) | Err(error) => {
                starting.0 = None;
                drop(provider.shutdown(false).await);
                return Err(error.into());
            }
        };
        drop(first.send(addresses));
        let (mut changes, pump) = (found.clone(), myself.clone());
        starting.0 = None;
        let pumping = tokio::spawn(async move {
            while changes.changed().await.is_ok() && pump.cast(ProviderMessage::Rediscover).is_ok() {}
        });
        myself.send_interval(node.config.timing.rediscovery, || ProviderMessage::Rediscover);
        Ok(ProviderState { node, provider, found, graceful: false, pump: pumping.abort_handle() })
    }

    async fn handle(
        &self,
        myself: ActorRef<ProviderMessage>,
        message: ProviderMessage,
        state: &mut ProviderState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ProviderMessage::Rediscover => {
                let addresses = state.found.borrow().clone().unwrap_or_default();
                if let Some(parts) = state.node.parts() {
                    parts.member_list.send(MemberListMessage::Discovered(addresses));
                }
            }
            ProviderMessage::Shutdown { graceful } => {
                state.graceful = graceful;
                myself.stop(None);
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<ProviderMessage>,
        state: &mut ProviderState,
    ) -> Result<(), ActorProcessingErr> {
        state.pump.abort();
        let shutdown = tokio::time::timeout(PATIENCE, state.provider.shutdown(state.graceful)).await;
        if !matches!(shutdown, Ok(Ok(()))) {
            tracing::warn!(?shutdown, "the provider did not shut down in order");
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<ProviderMessage>,
        _: SupervisionEvent,
        _: &mut ProviderState,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}
