use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gristmill::{
    Call, ClusterIdentity, DeactivationReason, ErrorCode, Grain, GrainContext, GrainError, Kind, Reply, RequestError,
};
use tokio::sync::Semaphore;

use crate::message::{Add, Fail, Forward, Panic, Said, Say, Stop, Total, Wait};

/// Makes kinds of [`TestGrain`]s and knows what all of their grains did, on whatever node. A clone shares it.
#[derive(Debug, Clone)]
pub struct Probe(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Permits for those that [`Wait`], and for activations of held kinds.
    gate: Semaphore,
    records: Mutex<HashMap<ClusterIdentity, Record>>,
}

/// What is known of one identity's grains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Record {
    activations: u64,
    alive: u64,
    most_alive: u64,
    turns: u64,
    waiting: u64,
    deactivations: Vec<DeactivationReason>,
}

#[derive(Debug, Clone, Copy)]
enum Activation {
    Succeeds,
    Fails,
    Panics,
    Held,
}

impl Probe {
    /// One that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Shared { gate: Semaphore::new(0), records: Mutex::default() }))
    }

    /// A kind whose grains activate at once.
    #[must_use]
    pub fn kind(&self, name: &str) -> Kind {
        self.make(name, Activation::Succeeds)
    }

    /// A kind whose grains refuse to activate.
    #[must_use]
    pub fn failing_kind(&self, name: &str) -> Kind {
        self.make(name, Activation::Fails)
    }

    /// A kind whose grains panic when they are activated.
    #[must_use]
    pub fn panicking_kind(&self, name: &str) -> Kind {
        self.make(name, Activation::Panics)
    }

    /// A kind whose grains, to be activated, wait for one [`release`](Self::release) each.
    #[must_use]
    pub fn held_kind(&self, name: &str) -> Kind {
        self.make(name, Activation::Held)
    }

    fn make(&self, name: &str, activation: Activation) -> Kind {
        let probe = self.clone();
        Kind::new(name, move || TestGrain { probe: probe.clone(), activation, alive: None, turns: 0, sum: 0 })
    }

    /// Lets this many of those that wait go on, now or later.
    pub fn release(&self, waiting: usize) {
        self.0.gate.add_permits(waiting);
    }

    /// How often the identity was activated.
    #[must_use]
    pub fn activations(&self, identity: impl Into<ClusterIdentity>) -> u64 {
        self.record(identity).activations
    }

    /// How many activations of the identity exist now, on all nodes.
    #[must_use]
    pub fn alive(&self, identity: impl Into<ClusterIdentity>) -> u64 {
        self.record(identity).alive
    }

    /// The most activations of the identity that ever existed at once, on all nodes.
    #[must_use]
    pub fn most_alive(&self, identity: impl Into<ClusterIdentity>) -> u64 {
        self.record(identity).most_alive
    }

    /// Messages that activations of the identity began to handle.
    #[must_use]
    pub fn turns(&self, identity: impl Into<ClusterIdentity>) -> u64 {
        self.record(identity).turns
    }

    /// How many activations of the identity are in a [`Wait`], or held in their activation.
    #[must_use]
    pub fn waiting(&self, identity: impl Into<ClusterIdentity>) -> u64 {
        self.record(identity).waiting
    }

    /// The reasons that activations of the identity were given in `on_deactivate`, in their order.
    #[must_use]
    pub fn deactivations(&self, identity: impl Into<ClusterIdentity>) -> Vec<DeactivationReason> {
        self.record(identity).deactivations
    }

    fn record(&self, identity: impl Into<ClusterIdentity>) -> Record {
        self.records().get(&identity.into()).cloned().unwrap_or_default()
    }

    fn note(&self, identity: &ClusterIdentity, change: impl FnOnce(&mut Record)) {
        change(self.records().entry(identity.clone()).or_default());
    }

    fn records(&self) -> MutexGuard<'_, HashMap<ClusterIdentity, Record>> {
        self.0.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass(&self, identity: &ClusterIdentity) {
        self.note(identity, |record| record.waiting += 1);
        let left = Left(|| self.note(identity, |record| record.waiting -= 1));
        if let Ok(permit) = self.0.gate.acquire().await {
            permit.forget();
        }
        drop(left);
    }
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs when it is dropped: also when the future around it is.
struct Left<F: Fn()>(F);

impl<F: Fn()> Drop for Left<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A grain that does what its messages say, see [`Say`] and the others. Made by a [`Probe`].
#[derive(Debug)]
pub struct TestGrain {
    probe: Probe,
    activation: Activation,
    alive: Option<ClusterIdentity>,
    turns: u64,
    sum: i64,
}

impl TestGrain {
    fn said(&self, text: String, context: &GrainContext) -> Result<Reply, GrainError> {
        Reply::message(&Said {
            text,
            member: context.cluster().id().to_string(),
            activation: context.activation().to_string(),
            turn: self.turns,
        })
    }
}

impl Grain for TestGrain {
    async fn on_activate(&mut self, context: &GrainContext) -> Result<(), GrainError> {
        match self.activation {
            Activation::Succeeds => {}
            Activation::Fails => {
                return Err(GrainError::new(ErrorCode::FailedPrecondition, "told not to activate"));
            }
            Activation::Panics => panic!("told to panic"),
            Activation::Held => self.probe.pass(context.identity()).await,
        }
        self.alive = Some(context.identity().clone());
        self.probe.note(context.identity(), |record| {
            record.activations += 1;
            record.alive += 1;
            record.most_alive = record.most_alive.max(record.alive);
        });
        Ok(())
    }

    async fn receive(&mut self, call: Call<'_>, context: &GrainContext) -> Result<Reply, GrainError> {
        self.turns += 1;
        self.probe.note(context.identity(), |record| record.turns += 1);
        if call.is::<Add>() {
            self.sum += call.decode::<Add>()?.amount;
            Reply::message(&Total { value: self.sum })
        } else if call.is::<Wait>() {
            self.probe.pass(context.identity()).await;
            self.said(String::new(), context)
        } else if call.is::<Fail>() {
            Err(GrainError::new(ErrorCode::FailedPrecondition, call.decode::<Fail>()?.text))
        } else if call.is::<Panic>() {
            panic!("told to panic");
        } else if call.is::<Stop>() {
            context.stop();
            self.said(String::new(), context)
        } else if call.is::<Forward>() {
            let Forward { kind, identity, text } = call.decode::<Forward>()?;
            let said = context.cluster().request::<_, Said>((kind, identity), Say { text }).await;
            Reply::message(&said.map_err(|error: RequestError| GrainError::internal(error))?)
        } else {
            let Say { text } = call.decode::<Say>()?;
            self.said(text, context)
        }
    }

    async fn on_deactivate(&mut self, reason: DeactivationReason, context: &GrainContext) {
        self.probe.note(context.identity(), |record| record.deactivations.push(reason));
    }
}

impl Drop for TestGrain {
    fn drop(&mut self) {
        if let Some(identity) = self.alive.take() {
            self.probe.note(&identity, |record| record.alive -= 1);
        }
    }
}
