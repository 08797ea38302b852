use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use gristmill_core::KindName;

use crate::grain::brief::Brief;
use crate::grain::cell::Cell;
use crate::grain::door::Door;
use crate::grain::hosted::{HostedCall, HostedDoor};
use crate::grain::{Grain, GrainContext};

/// Messages that may wait for one grain, unless its kind says otherwise. A guess: 8 KiB of small messages.
const DEFAULT_MAILBOX: usize = 1_000;

/// What happens to an activation whose grain panicked in a turn. The caller is answered in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnPanic {
    /// The activation ends without `on_deactivate`, since its state may be broken; the next message makes a new one.
    #[default]
    Deactivate,
    /// The activation goes on with the state that the panic left.
    Keep,
}

/// A kind of grain that a member hosts: its name, how an activation is made, and its limits.
#[derive(Clone)]
pub struct Kind {
    name: KindName,
    settings: KindSettings,
    open: Arc<Open>,
}

type Open = dyn Fn(Arc<KindSettings>, GrainContext) -> Arc<dyn Door> + Send + Sync;

/// The limits of a kind, shared by its activations.
#[derive(Debug, Clone)]
pub(crate) struct KindSettings {
    pub(crate) mailbox: usize,
    pub(crate) on_panic: OnPanic,
    pub(crate) idle_after: Option<Duration>,
    /// Of turns.
    pub(crate) brief: Arc<Brief>,
    /// Of activations.
    pub(crate) brief_start: Arc<Brief>,
}

impl KindSettings {
    /// Whether a grain that got nothing for `sweeps` sweeps is idle for too long.
    pub(crate) fn is_idle(&self, sweeps: u32, every: Duration) -> bool {
        // The first of them may have come right after a message.
        self.idle_after.is_some_and(|idle| every.saturating_mul(sweeps.saturating_sub(1)) >= idle)
    }
}

impl Kind {
    /// A kind whose activations are made by `factory`, one call each. Two activations of one identity may overlap on
    /// two members for a while: see [`Grain`].
    #[must_use]
    pub fn new<G: Grain>(name: impl Into<KindName>, factory: impl Fn() -> G + Send + Sync + 'static) -> Self {
        let make: Arc<dyn Fn() -> G + Send + Sync> = Arc::new(factory);
        Self::opened_by(name.into(), move |settings, context| Cell::new(settings, context, Arc::clone(&make)))
    }

    /// A kind whose activations are ractor actors, made by `factory`. Each gets its [`GrainContext`] as arguments, and
    /// every message as a [`HostedCall`]. One that panics, or returns an error, ends; events say
    /// [`DeactivationReason::Panicked`](crate::DeactivationReason::Panicked).
    ///
    /// An idle ractor actor takes about 7 KB, an idle [`Grain`] a tenth of that, and grains are activated one and a
    /// half times as fast: host an actor to reuse it, not to save work.
    #[must_use]
    pub fn actor<A>(name: impl Into<KindName>, factory: impl Fn() -> A + Send + Sync + 'static) -> Self
    where
        A: ractor::Actor<Arguments = Arc<GrainContext>>,
        A::Msg: From<HostedCall>,
    {
        Self::opened_by(name.into(), move |settings, context| HostedDoor::start(settings, context, factory()))
    }

    fn opened_by<D: Door + 'static>(
        name: KindName,
        open: impl Fn(Arc<KindSettings>, GrainContext) -> Arc<D> + Send + Sync + 'static,
    ) -> Self {
        let settings = KindSettings {
            mailbox: DEFAULT_MAILBOX,
            on_panic: OnPanic::default(),
            idle_after: Some(Duration::from_secs(60)),
            brief: Arc::default(),
            brief_start: Arc::default(),
        };
        Self { name, settings, open: Arc::new(move |settings, context| open(settings, context) as Arc<dyn Door>) }
    }

    /// How many messages may wait for one grain; default 1,000, a guess. The sender of one more waits with backoff
    /// until its deadline. More hides a slow grain for longer and costs memory; fewer refuses bursts.
    #[must_use]
    pub fn mailbox(mut self, messages: NonZeroUsize) -> Self {
        self.settings.mailbox = messages.get();
        self
    }

    /// What a panic does; default [`OnPanic::Deactivate`].
    #[must_use]
    pub fn on_panic(mut self, policy: OnPanic) -> Self {
        self.settings.on_panic = policy;
        self
    }

    /// Deactivates a grain that got no message for this long, give or take a sweep; default 60 s. `None`: never.
    ///
    /// An actor is not idle while it holds a [`HostedCall`] that it has not opened, or an [`Answer`](crate::Answer)
    /// that it has not given. What else it does is not seen: one that works on without either needs a longer time here,
    /// or none.
    #[must_use]
    pub fn idle_after(mut self, idle: impl Into<Option<Duration>>) -> Self {
        self.settings.idle_after = idle.into();
        self
    }

    /// The name of the kind.
    #[must_use]
    pub const fn name(&self) -> &KindName {
        &self.name
    }

    pub(crate) fn settings(&self) -> Arc<KindSettings> {
        Arc::new(self.settings.clone())
    }

    /// An activation that somebody has to [begin](Door::begin); the door reports through `context` when it is active,
    /// and when it has ended.
    pub(crate) fn open(&self, settings: Arc<KindSettings>, context: GrainContext) -> Arc<dyn Door> {
        (self.open)(settings, context)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind").field("name", &self.name).field("settings", &self.settings).finish_non_exhaustive()
    }
}
