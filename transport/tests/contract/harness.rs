//! Two nodes on either network, and a peer that speaks the wire by hand.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gristmill_core::Outbox;
use gristmill_core::session::{Effect, Event, Handshake, Input, LocalPeer, Nonce, Secret};
use gristmill_messages::remote::frame::MessageType;
use gristmill_messages::remote::{Frame, Lane, SystemActor};
use gristmill_messages::{MemberId, MessageName};
use gristmill_transport::frame::{Decoder, encode};
use gristmill_transport::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout};

pub(crate) const ALICE: MemberId = MemberId::new(0xa);
pub(crate) const BOB: MemberId = MemberId::new(0xb);

/// Longer than anything here takes; a test that waits for it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub(crate) enum Net {
    Tcp,
    Memory(MemoryNetwork),
}

impl Net {
    pub(crate) fn host(&self, name: &str) -> Box<dyn Network> {
        match self {
            Self::Tcp => Box::new(TcpNetwork::new()),
            Self::Memory(network) => Box::new(network.host(name)),
        }
    }

    pub(crate) fn any_port(&self, name: &str) -> String {
        match self {
            Self::Tcp => "127.0.0.1:0".into(),
            Self::Memory(_) => format!("{name}:0"),
        }
    }
}

pub(crate) fn soon() -> Instant {
    Instant::now() + PATIENCE
}

pub(crate) fn within(milliseconds: u64) -> Instant {
    Instant::now() + Duration::from_millis(milliseconds)
}

pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it takes too long")
}

pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "it never came that {what}");
}

pub(crate) fn request(message: &str, data: impl Into<Bytes>) -> OutgoingRequest {
    OutgoingRequest {
        target: Target::System(SystemActor::Gossip),
        message: MessageName::from(message.to_owned()),
        data: data.into(),
        traceparent: None,
    }
}

/// What happened at a node.
#[derive(Debug)]
pub(crate) enum Seen {
    Connected(Connection),
    Request { message: String, data: Bytes },
    Held(IncomingRequest),
    Disconnected(CloseReason),
}

/// Does what the name of a message says, and tells the test.
pub(crate) struct Script(mpsc::UnboundedSender<Seen>);

impl Handler for Script {
    fn request(&self, _: &Peer, request: IncomingRequest) {
        let message = request.message.to_string();
        match message.as_str() {
            "hold" => return drop(self.0.send(Seen::Held(request))),
            "panic" => panic!("as the test wants"),
            _ => {}
        }
        let IncomingRequest { message: name, data, responder, .. } = request;
        let _ = self.0.send(Seen::Request { message: message.clone(), data: data.clone() });
        match message.as_str() {
            "echo" => responder.respond(Outcome::Response { message: name, data }),
            "drop" => drop(responder),
            "grow" => {
                let size = String::from_utf8(data.to_vec()).unwrap().parse().unwrap();
                responder.respond(Outcome::Response { message: name, data: vec![7; size].into() });
            }
            "reject" => {
                let message = String::from_utf8(data.to_vec()).unwrap();
                responder.respond(Outcome::Rejected { code: "no".into(), message, details: [].into() });
            }
            _ => {}
        }
    }

    fn connected(&self, connection: &Connection) {
        let _ = self.0.send(Seen::Connected(connection.clone()));
    }

    fn disconnected(&self, _: &Peer, reason: &CloseReason) {
        let _ = self.0.send(Seen::Disconnected(reason.clone()));
    }
}

/// What a test sees of a node.
pub(crate) struct Watch(Mutex<mpsc::UnboundedReceiver<Seen>>);

impl Watch {
    pub(crate) async fn next(&self) -> Seen {
        in_time(self.0.lock().await.recv()).await.expect("the node is gone")
    }

    pub(crate) async fn connected(&self) -> Connection {
        loop {
            if let Seen::Connected(connection) = self.next().await {
                return connection;
            }
        }
    }

    pub(crate) async fn held(&self) -> IncomingRequest {
        loop {
            if let Seen::Held(request) = self.next().await {
                return request;
            }
        }
    }

    pub(crate) async fn disconnected(&self) -> CloseReason {
        loop {
            if let Seen::Disconnected(reason) = self.next().await {
                return reason;
            }
        }
    }

    pub(crate) async fn request(&self) -> (String, Bytes) {
        loop {
            if let Seen::Request { message, data } = self.next().await {
                return (message, data);
            }
        }
    }
}

pub(crate) fn script() -> (Arc<Script>, Watch) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Arc::new(Script(sender)), Watch(Mutex::new(receiver)))
}

pub(crate) fn peer(member: MemberId) -> LocalPeer {
    LocalPeer { cluster: "shop".into(), member, address: None, secret: Secret::new(b"mellon") }
}

pub(crate) fn local(member: MemberId, config: &TransportConfig) -> Local {
    Local::new(peer(member), config.clone()).unwrap()
}

/// Bob, who listens.
pub(crate) struct Bob {
    pub(crate) net: Net,
    pub(crate) acceptor: Acceptor,
    pub(crate) address: String,
    pub(crate) watch: Watch,
    pub(crate) config: TransportConfig,
}

impl Bob {
    pub(crate) async fn start(net: &Net, config: TransportConfig) -> Self {
        Self::admitting(net, config, Arc::new(AdmitAll)).await
    }

    pub(crate) async fn admitting(net: &Net, config: TransportConfig, admission: Arc<dyn Admission>) -> Self {
        let listener = net.host("bob").listen(&net.any_port("bob")).await.unwrap();
        let (handler, watch) = script();
        let acceptor = Acceptor::start(listener, local(BOB, &config), admission, handler);
        let address = acceptor.address().to_string();
        Self { net: net.clone(), acceptor, address, watch, config }
    }

    pub(crate) async fn dial_as(&self, local: &Local) -> (Result<Connection, ConnectError>, Watch) {
        let (handler, watch) = script();
        let network = self.net.host("alice");
        (in_time(dial(&*network, &self.address, Lane::Data, None, local, handler)).await, watch)
    }

    pub(crate) async fn dial(&self) -> (Connection, Watch) {
        let (connection, watch) = self.dial_as(&local(ALICE, &self.config)).await;
        (connection.unwrap(), watch)
    }

    /// A second connection still works.
    pub(crate) async fn assert_serves(&self) {
        let (connection, _watch) = self.dial().await;
        assert_echoes(&connection).await;
        connection.close("done");
        connection.closed().await;
    }

    pub(crate) async fn raw(&self) -> Raw {
        Raw(in_time(self.net.host("alice").connect(&self.address)).await.unwrap(), Decoder::new(1 << 24))
    }
}

pub(crate) async fn assert_echoes(connection: &Connection) {
    let outcome = in_time(connection.call(request("echo", "ping"), soon())).await.unwrap();
    assert!(matches!(&outcome, Outcome::Response { data, .. } if data == "ping"), "{outcome:?}");
}

/// A peer that does what no node does.
pub(crate) struct Raw(Stream, Decoder);

impl Raw {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        in_time(self.0.writer.write_all(bytes)).await
    }

    pub(crate) async fn send(&mut self, message: MessageType) -> std::io::Result<()> {
        let mut bytes = BytesMut::new();
        encode(message, 1 << 24, &mut bytes).unwrap();
        self.write(&bytes).await
    }

    /// `None` at the end of the stream, by whatever way.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.1.next_frame().unwrap() {
                return Some(frame);
            }
            match in_time(self.0.reader.read_buf(self.1.buffer())).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub(crate) async fn message(&mut self) -> Option<MessageType> {
        self.frame().await.map(|frame| frame.message_type.unwrap())
    }

    /// Performs an honest handshake.
    pub(crate) async fn shake_hands(&mut self) {
        let mut handshake = Handshake::initiator(peer(ALICE), Lane::Data, None, Nonce::new([7; 16]));
        let mut out = Outbox::new();
        let mut input = Input::Start;
        loop {
            handshake.handle(input, &mut out);
            for effect in out.drain_effects() {
                let Effect::Send(message) = effect else { panic!("{effect:?}") };
                self.send(message).await.unwrap();
            }
            match out.drain_events().next() {
                Some(Event::Established(_)) => return,
                Some(event) => panic!("{event:?}"),
                None => {}
            }
            input = Input::Received(Some(self.message().await.unwrap()));
        }
    }
}
