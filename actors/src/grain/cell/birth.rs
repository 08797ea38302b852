//! From a name to an active grain.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::lending::Lent;
use super::mailbox::drop_quietly;
use super::{Active, Cell, End, Inner, Life, Order, Task};
use crate::grain::brief::Nested;
use crate::grain::kind::KindSettings;
use crate::grain::{ErrorCode, Grain, GrainContext, GrainError};

/// Makes a grain, or several: the factory of its kind.
pub(in crate::grain) type Make<G> = Arc<dyn Fn() -> G + Send + Sync>;

type Activation<G> = BoxFuture<'static, Result<Box<Active<G>>, GrainError>>;

impl<G: Grain> Cell<G> {
    /// A cell whose grain is made when somebody [begins](crate::grain::Door::begin).
    pub(in crate::grain) fn new(settings: Arc<KindSettings>, context: GrainContext, make: Make<G>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            context: Arc::new(context),
            settings,
            inner: Mutex::new(Inner {
                queue: VecDeque::new(),
                life: Life::Unborn(make),
                order: Order::Cool,
                task: None,
                activated: false,
                stopped: false,
                lives: 0,
                bursts: 1,
            }),
            taken: AtomicUsize::new(0),
            idle_sweeps: AtomicU32::new(0),
        })
    }

    /// Activates the grain in the caller's task, as far as that goes without waiting, if its kind does that in a
    /// moment, and too many calls and activations do not run inside each other already; the rest in a task. Whether it
    /// is active.
    pub(super) fn begin_here(self: &Arc<Self>) -> bool {
        let nested = if self.settings.brief_start.holds() { Nested::enter() } else { None };
        let Some(_nested) = nested else {
            self.begin_in_task();
            return false;
        };
        // What it spawns belongs to the node, whichever runtime the caller is on.
        let _on_the_nodes_runtime = self.context.cluster.node().runtime.enter();
        let Some(activation) = self.activation(Life::Lent) else { return false };
        let lent = Lent(self);
        // Moved, so that it is dropped first.
        let mut activation = activation;
        // Whatever it waits for is told of the real waker when its task polls it again, at once.
        let polled = activation.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        lent.returned();
        let Poll::Ready(activated) = polled else {
            let mut inner = self.lock();
            if inner.stopped {
                drop(inner);
                drop_quietly(activation);
                self.release(End::Cut, true);
            } else {
                inner.life = Life::Working;
                inner.task = Some(Task::default());
                drop(inner);
                self.finish_in_task(activation);
            }
            return false;
        };
        let end = match activated {
            Ok(active) => self.settle(active),
            Err(error) => End::Failed(error),
        };
        let is_active = matches!(end, End::Rest);
        if !is_active {
            self.release(end, true);
        }
        is_active
    }

    /// Activates the grain in a task of its own.
    pub(super) fn begin_in_task(self: &Arc<Self>) {
        if let Some(activation) = self.activation(Life::Working) {
            self.finish_in_task(activation);
        }
    }

    fn finish_in_task(self: &Arc<Self>, activation: Activation<G>) {
        let cell = Arc::clone(self);
        self.spawn(0, async move {
            match activation.await {
                Ok(active) => {
                    cell.lock().activated = true;
                    cell.context.cluster.activated(cell.context.activation);
                    cell.settle(active)
                }
                Err(error) => End::Failed(error),
            }
        });
    }

    /// The activation, for whoever begins first; `life` says who that is.
    fn activation(&self, life: Life<G>) -> Option<Activation<G>> {
        let mut inner = self.lock();
        let make = match std::mem::replace(&mut inner.life, life) {
            Life::Unborn(make) => make,
            other => {
                inner.life = other;
                return None;
            }
        };
        if matches!(inner.life, Life::Working) {
            inner.task = Some(Task::default());
        }
        drop(inner);
        let (context, settings) = (Arc::clone(&self.context), Arc::clone(&self.settings));
        Some(Box::pin(async move {
            let start = Arc::clone(&settings);
            let began = start.brief_start.sample();
            let active = async {
                let mut active = Box::new(Active { grain: make(), context, settings });
                active.grain.on_activate(&active.context).await.map(|()| active)
            };
            let activated = AssertUnwindSafe(active).catch_unwind().await;
            start.brief_start.took(began);
            activated.unwrap_or_else(|_| Err(GrainError::new(ErrorCode::Panicked, "the activation panicked")))
        }))
    }

    /// Puts the activated grain to rest. If there is work already it gets another task: that one is large, and this one
    /// is small, because most grains are activated more often than they are busy.
    fn settle(&self, active: Box<Active<G>>) -> End {
        let mut inner = self.lock();
        if inner.stopped {
            drop(inner);
            drop_quietly(active);
            return End::Cut;
        }
        inner.activated = true;
        inner.life = Life::Resting(active);
        inner.task = None;
        self.wake_for_work(inner);
        End::Rest
    }
}
