//! Frames, connections, handshake and networks.
//!
//! To learn how bytes become frames, read [`frame`]; what a connection promises, [`connection`]; how it is opened,
//! [`dial`] and [`Acceptor`], whose rules are in `gristmill_core::session`; what it runs on, [`network`]; how a call
//! finds its result, [`pending`].
//!
//! ```
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use gristmill_core::session::{LocalPeer, Secret};
//! use gristmill_messages::{MemberId, MessageName, remote::{Lane, SystemActor}};
//! use gristmill_transport::*;
//! use tokio::time::Instant;
//!
//! struct Echo;
//! impl Handler for Echo {
//!     fn request(&self, _: &Peer, request: IncomingRequest) {
//!         let IncomingRequest { message, data, responder, .. } = request;
//!         responder.respond(Outcome::Response { message, data });
//!     }
//! }
//!
//! let network = MemoryNetwork::new();
//! let (alice, bob) = (network.host("alice"), network.host("bob"));
//! let local = |id| {
//!     let (cluster, secret) = ("shop".into(), Secret::default());
//!     let peer = LocalPeer { cluster, member: MemberId::new(id), address: None, secret };
//!     Local::new(peer, TransportConfig::test()).unwrap()
//! };
//!
//! let listener = bob.listen("bob:0").await.unwrap();
//! let acceptor = Acceptor::start(listener, local(2), Arc::new(AdmitAll), Arc::new(Echo));
//! let address = acceptor.address();
//! let connection = dial(&alice, address.as_str(), Lane::Data, None, &local(1), Arc::new(Echo)).await.unwrap();
//!
//! let request = OutgoingRequest {
//!     target: Target::System(SystemActor::Gossip),
//!     message: MessageName::from(String::from("shop.Hello")),
//!     data: "hello".into(),
//!     traceparent: None,
//! };
//! let outcome = connection.call(request, Instant::now() + Duration::from_secs(5)).await.unwrap();
//! assert!(matches!(outcome, Outcome::Response { data, .. } if data == "hello"));
//! acceptor.shutdown("the example is over").await;
//! # });
//! ```

pub mod backoff;
pub mod connection;
pub mod frame;
pub mod network;
pub mod pending;

mod acceptor;
mod config;
mod dial;
mod opening;
mod outcome;
mod request;
mod sync;

pub use acceptor::{Acceptor, Admission, AdmitAll};
pub use backoff::Backoff;
pub use config::{InvalidConfig, Local, TransportConfig};
pub use connection::{CallError, CloseReason, Connection, ConnectionStats};
pub use dial::{ConnectError, dial};
pub use gristmill_core::session::{LocalPeer, Peer, Refusal, RefusalKind, Secret};
pub use gristmill_messages::remote::Lane;
pub use network::{Listener, MemoryHost, MemoryNetwork, Network, Stream, TcpNetwork};
pub use outcome::Outcome;
pub use pending::{CallKey, Completer, Expired, PendingCall, PendingCalls};
pub use request::{Handler, IncomingRequest, OutgoingRequest, Responder, Target};
