//! The way of one grain request, on the caller's side.
//!
//! [`GrainRef`] attempts a call until there is an answer or [`gristmill_core::request`] says that another attempt is of
//! no use. An attempt knows where the grain was (here, else in the table of the PID cache) or asks for it, hands the
//! message to the grain's door or to the connection of its member, and waits for the outcome.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use gristmill_core::placement::Location;
use gristmill_core::request::{
    AttemptFailure, Delivered, Effect, Input, NotDeliveredReason, Request, Unresolved, Verdict,
};
use gristmill_messages::{ActivationId, ClusterIdentity, MessageName};
use gristmill_transport::{CallError, Connection, Lane, Outcome, OutgoingRequest, PendingCall, Target};
use prost::{Message, Name};
use tokio::task::coop::poll_proceed;
use tokio::time::Instant;

use crate::config::OnEviction;
use crate::context::ClusterContext;
use crate::error::{RequestError, Undelivered};
use crate::grain::{Envelope, GrainError, Payload, Refused, Reply, ReplyTo};
use crate::pid_cache::{self, Pid};
use crate::remoting::Endpoint;
use crate::timer::deadline_in;

/// A grain by its name, with the options of calls to it. A cheap clone.
///
/// It remembers where the grain was, which keeps nothing there alive, and looks again when the grain has gone.
#[derive(Debug)]
pub struct GrainRef {
    cluster: ClusterContext,
    identity: Arc<ClusterIdentity>,
    hash: u64,
    timeout: Duration,
    idempotent: bool,
    traceparent: Option<String>,
    /// Where the grain was the last time, so that a loop of calls looks nothing up; forgotten when an attempt fails.
    kept: ArcSwapOption<Pid>,
    /// Not worth it for a single call.
    keeps: bool,
}

impl Clone for GrainRef {
    fn clone(&self) -> Self {
        Self {
            cluster: self.cluster.clone(),
            identity: Arc::clone(&self.identity),
            hash: self.hash,
            timeout: self.timeout,
            idempotent: self.idempotent,
            traceparent: self.traceparent.clone(),
            kept: ArcSwapOption::new(self.kept.load_full()),
            keeps: self.keeps,
        }
    }
}

impl GrainRef {
    pub(crate) fn for_many_calls(cluster: ClusterContext, identity: ClusterIdentity) -> Self {
        Self { keeps: true, ..Self::for_one_call(cluster, identity) }
    }

    pub(crate) fn for_one_call(cluster: ClusterContext, identity: ClusterIdentity) -> Self {
        Self {
            hash: identity.stable_hash(),
            identity: Arc::new(identity),
            timeout: cluster.node().config.request_timeout,
            idempotent: false,
            traceparent: None,
            cluster,
            kept: ArcSwapOption::empty(),
            keeps: false,
        }
    }

    /// How long each call may take, retries included.
    #[must_use]
    pub const fn deadline(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Calls may run twice without harm: one whose outcome is unknown is tried again until the deadline.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// The W3C trace context that travels with each call.
    #[must_use]
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// The name.
    #[must_use]
    pub fn identity(&self) -> &ClusterIdentity {
        &self.identity
    }

    /// As [`ClusterContext::request`].
    ///
    /// # Errors
    /// See [`RequestError`]; each variant says whether the grain may have run.
    pub async fn request<M, R>(&self, message: M) -> Result<R, RequestError>
    where
        M: Message + Name,
        R: Message + Name + Default,
    {
        let outcome = self.deliver(&MessageName::of::<M>(), || Payload::encode(&message), Expect::Reply).await?;
        let unexpected =
            |problem| RequestError::UnexpectedReply { expected: MessageName::of::<R>().to_string(), problem };
        if !outcome.message.is::<R>() {
            return Err(unexpected(format!("it is {}", outcome.message)));
        }
        R::decode(outcome.data).map_err(|error| unexpected(error.to_string()))
    }

    /// A call with an encoded message, given by its full name; the reply is not decoded either.
    ///
    /// # Errors
    /// See [`RequestError`]; each variant says whether the grain may have run.
    pub async fn request_encoded(&self, name: impl Into<String>, data: Bytes) -> Result<Reply, RequestError> {
        self.deliver(&MessageName::from(name.into()), || data.clone().into(), Expect::Reply).await
    }

    /// As [`ClusterContext::notify`].
    ///
    /// # Errors
    /// It surely was not sent, see [`RequestError`].
    pub async fn notify<M: Message + Name>(&self, message: M) -> Result<(), RequestError> {
        self.deliver(&MessageName::of::<M>(), || Payload::encode(&message), Expect::Nothing).await.map(drop)
    }

    /// Attempts until there is an answer, or the machine says that there is no point in another attempt. An attempt
    /// encodes the message anew, so that the first one, which mostly is the only one, neither keeps nor clones it.
    async fn deliver(
        &self,
        name: &MessageName,
        mut encode: impl FnMut() -> Payload + Send,
        expect: Expect,
    ) -> Result<Reply, RequestError> {
        self.identity.validate()?;
        let node = &**self.cluster.node();
        node.metrics.requests.add_one();
        let mut deadline = Deadline { timeout: self.timeout, at: None };
        let mut life: Option<Request> = None;
        loop {
            let mut tried = None;
            let failure = match self.attempt(name, &mut encode, expect, &mut deadline, &mut tried).await {
                Ok(reply) => return Ok(reply),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Attempt(failure)) => failure,
            };
            self.kept.store(None);
            if matches!(failure, Input::Failed(AttemptFailure::Unresolved(_))) {
                node.metrics.unresolved.add_one();
            }
            let life = life.get_or_insert_with(|| {
                Request::new(node.clock.at(deadline.get()), node.config.timing.retry, self.idempotent)
            });
            match life.handle(node.clock.now(), failure, rand::random()) {
                Effect::GiveUp(verdict) => return Err(self.error(verdict)),
                Effect::Retry { after, refresh } => {
                    node.metrics.retries.add_one();
                    if let (true, Some(tried)) = (refresh, tried) {
                        node.pids.remove(self.hash, tried);
                    }
                    if !after.is_zero() {
                        tokio::time::sleep(after).await;
                    }
                }
            }
        }
    }

    async fn attempt(
        &self,
        name: &MessageName,
        encode: &mut Encode<'_>,
        expect: Expect,
        deadline: &mut Deadline,
        tried: &mut Option<ActivationId>,
    ) -> Result<Reply, Failure> {
        let mut begin = |pid: &Pid, encode: &mut Encode<'_>, deadline: &mut Deadline, cx: &Context<'_>| {
            *tried = Some(pid.activation());
            self.begin(pid, name, encode, expect, deadline, cx.waker())
        };
        let known = poll_fn(|cx| {
            if matches!(expect, Expect::Reply) {
                // The grain may answer at once, and a loop of such calls would keep its worker to itself.
                ready!(poll_proceed(cx)).made_progress();
            }
            if let Some(pid) = &*self.kept.load() {
                return Poll::Ready(Some(begin(pid, encode, deadline, cx)));
            }
            // Cloned, since a turn may begin right here, and not under a lock of the table.
            Poll::Ready(self.cluster.node().pids.get(self.hash, &self.identity).map(|pid| {
                let begun = begin(&pid, encode, deadline, cx);
                self.keep(pid);
                begun
            }))
        });
        let begun = match known.await {
            Some(begun) => begun?,
            None => {
                let pid = self.resolve(deadline.get()).await?;
                let begun = poll_fn(|cx| Poll::Ready(begin(&pid, encode, deadline, cx))).await?;
                self.keep(pid);
                begun
            }
        };
        let (connection, activation) = match begun {
            Begun::Told => return told(),
            Begun::Replied(outcome) => return reply_of(outcome),
            Begun::Answered(answered) => {
                let expired = |_| Failure::Attempt(Input::DeadlinePassed { sent: true });
                return reply_of(answered.await.map_err(expired)?);
            }
            Begun::Connected(connection, activation) => (connection, activation),
            Begun::Disconnected(endpoint, activation) => {
                (endpoint.connection(Lane::Data, deadline.get()).await.map_err(Failure::unreachable)?, activation)
            }
        };
        let request = OutgoingRequest {
            target: Target::Activation(activation),
            message: name.clone(),
            data: encode().into_bytes(),
            traceparent: self.traceparent.clone(),
        };
        match expect {
            Expect::Reply => reply_of(connection.call(request, deadline.get()).await?),
            Expect::Nothing => {
                connection.notify(request, deadline.get()).await?;
                told()
            }
        }
    }

    fn keep(&self, pid: Pid) {
        if self.keeps {
            self.kept.store(Some(Arc::new(pid)));
        }
    }

    /// What can be done without waiting: all of it, for a grain of this node.
    fn begin(
        &self,
        pid: &Pid,
        name: &MessageName,
        encode: &mut Encode<'_>,
        expect: Expect,
        deadline: &mut Deadline,
        waker: &Waker,
    ) -> Result<Begun<'_>, Failure> {
        match (pid, expect) {
            (Pid::Local { door, .. }, Expect::Reply) => {
                let calls = &self.cluster.node().local_calls;
                let mut waiting = None;
                let replied = door.call(self.envelope(name, encode()), &mut || {
                    let (_, answered) = calls.register_for(deadline.get(), waker);
                    ReplyTo::local(waiting.insert(answered).completer())
                })?;
                match (replied, waiting) {
                    (Some(outcome), _) => Ok(Begun::Replied(outcome)),
                    (None, Some(answered)) => Ok(Begun::Answered(answered)),
                    (None, None) => unreachable!("a door neither answered nor took a way back"),
                }
            }
            (Pid::Local { door, .. }, Expect::Nothing) => {
                door.deliver(self.envelope(name, encode()))?;
                Ok(Begun::Told)
            }
            (Pid::Remote { endpoint, activation }, _) => Ok(match endpoint.connected(Lane::Data) {
                Some(connection) => Begun::Connected(connection, *activation),
                None => Begun::Disconnected(Arc::clone(endpoint), *activation),
            }),
        }
    }

    /// For a grain of this node.
    fn envelope(&self, name: &MessageName, data: Payload) -> Envelope {
        let traceparent = self.traceparent.clone();
        Envelope { message: name.clone(), data, deadline: None, traceparent, reply: ReplyTo::nobody() }
    }

    /// Asks where the grain is: this node's placement if it owns it, else the PID cache, which asks the owner.
    async fn resolve(&self, deadline: Instant) -> Result<Pid, Failure> {
        let node = self.cluster.node();
        let parts = node.parts().ok_or(Failure::Final(RequestError::NotRunning))?;
        let identity = Arc::clone(&self.identity);
        let asked = async {
            if node.view.load().owner(&identity).is_some_and(|owner| owner.id == node.me.id) {
                let located = parts.directory.locate(node, identity).await?;
                // Not there any more: as stale as any other reference.
                let pid = |location: Location| node.local_pid(location.activation).ok_or(Unresolved::NotOwner);
                Some(located.map_err(Unresolved::from).and_then(pid))
            } else {
                pid_cache::resolve(node, identity).await
            }
        };
        match tokio::time::timeout_at(deadline, asked).await {
            Ok(Some(Ok(pid))) => Ok(pid),
            Ok(Some(Err(unresolved))) => Err(Failure::Attempt(Input::Failed(AttemptFailure::Unresolved(unresolved)))),
            // It may have another life before the deadline.
            Ok(None) if node.is_fenced() && node.config.on_eviction == OnEviction::Rejoin => {
                Err(Failure::unreachable("this node was cut off and is about to rejoin"))
            }
            Ok(None) => Err(Failure::Final(RequestError::NotRunning)),
            Err(_) => Err(Failure::Attempt(Input::DeadlinePassed { sent: false })),
        }
    }

    fn error(&self, verdict: Verdict) -> RequestError {
        match verdict {
            Verdict::NotDelivered { reason, detail, attempts } => {
                RequestError::NotDelivered { reason: Undelivered::Refused { reason, detail }, attempts }
            }
            Verdict::Unresolved { reason: Unresolved::UnknownKind, .. } => {
                RequestError::UnknownKind { kind: self.identity.kind.as_str().into() }
            }
            Verdict::Unresolved { reason, attempts } => {
                RequestError::NotDelivered { reason: Undelivered::Unresolved(reason), attempts }
            }
            Verdict::Overloaded { .. } => RequestError::Overloaded { after: self.timeout },
            Verdict::Rejected { .. } => RequestError::Rejected(GrainError::internal("rejected")),
            Verdict::UnknownOutcome { detail, .. } => RequestError::UnknownOutcome { detail },
            Verdict::DeadlineExceeded { delivered: Delivered::Maybe, .. } => {
                RequestError::DeadlineExceeded { after: self.timeout }
            }
            Verdict::DeadlineExceeded { delivered: Delivered::No, attempts } => {
                RequestError::NotDelivered { reason: Undelivered::DeadlinePassed { after: self.timeout }, attempts }
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Expect {
    Reply,
    Nothing,
}

/// Encodes the message, for one attempt.
type Encode<'a> = dyn FnMut() -> Payload + Send + 'a;

/// When a call ends, at the latest. The clock is read when that is first asked for: a call that is answered at once
/// needs no clock.
struct Deadline {
    timeout: Duration,
    at: Option<Instant>,
}

impl Deadline {
    fn get(&mut self) -> Instant {
        *self.at.get_or_insert_with(|| deadline_in(self.timeout))
    }
}

/// How far an attempt got in place, without waiting.
enum Begun<'a> {
    Told,
    Replied(Outcome),
    Answered(PendingCall<'a, Outcome>),
    Connected(Arc<Connection>, ActivationId),
    Disconnected(Arc<Endpoint>, ActivationId),
}

/// What a one-way message brings.
fn told() -> Result<Reply, Failure> {
    Ok(Reply { message: MessageName::of::<()>(), data: Bytes::new() })
}

/// Why an attempt brought no reply.
enum Failure {
    /// The machine decides what follows.
    Attempt(Input),
    /// Nothing follows.
    Final(RequestError),
}

impl Failure {
    fn not_delivered(reason: NotDeliveredReason, detail: String) -> Self {
        Self::Attempt(Input::Failed(AttemptFailure::NotDelivered { reason, detail }))
    }

    fn unreachable(why: impl ToString) -> Self {
        Self::not_delivered(NotDeliveredReason::Unreachable, why.to_string())
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent { .. } => Self::unreachable(error),
            CallError::ConnectionLost { .. } => {
                Self::Attempt(Input::Failed(AttemptFailure::UnknownOutcome(error.to_string())))
            }
            CallError::Expired { sent } => Self::Attempt(Input::DeadlinePassed { sent }),
            CallError::TooLarge { bytes, limit } => Self::Final(RequestError::TooLarge { bytes, limit }),
            CallError::Overloaded => Self::not_delivered(NotDeliveredReason::Overloaded, String::new()),
            other => Self::Attempt(Input::Failed(AttemptFailure::UnknownOutcome(other.to_string()))),
        }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::not_delivered(refused.reason, String::new())
    }
}

fn reply_of(outcome: Outcome) -> Result<Reply, Failure> {
    match outcome {
        Outcome::Response { message, data } => Ok(Reply { message, data }),
        Outcome::Rejected { code, message, details } => {
            let error = GrainError { code: code.into(), message, details };
            Err(Failure::Final(RequestError::Rejected(error)))
        }
        Outcome::NotDelivered { reason, detail } => Err(Failure::not_delivered(reason.into(), detail)),
        Outcome::UnknownOutcome { detail } => {
            Err(Failure::Attempt(Input::Failed(AttemptFailure::UnknownOutcome(detail))))
        }
    }
}

impl From<GrainError> for Outcome {
    fn from(error: GrainError) -> Self {
        Self::Rejected { code: error.code.as_str().into(), message: error.message, details: error.details }
    }
}
