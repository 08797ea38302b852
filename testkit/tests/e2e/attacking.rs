//! Strangers and broken peers at the port of a node: it lives, and its other peers do not notice.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use gristmill_core::Outbox;
use gristmill_core::session::{Effect, Event, Handshake, Input, LocalPeer, MAX_FRAME, Nonce, Secret};
use gristmill_messages::MemberId;
use gristmill_messages::cluster::{ActivationRequest, ActivationResponse, ClusterIdentity};
use gristmill_messages::remote::frame::MessageType;
use gristmill_messages::remote::{Lane, Request, Response, SystemActor, response};
use gristmill_transport::frame::{Decoder, encode};
use prost::Message as _;

use crate::process::{Node, PATIENCE};
use crate::traffic::Traffic;
use crate::{agree, cluster, identities_of, identity_of};

const MEBIBYTE: usize = 1024 * 1024;

const FRAME_LIMIT: usize = 16 * MEBIBYTE;

/// Far above what a node needs, its queues and read buffers full, and far below what these attacks ask it to keep.
const ENOUGH_MEMORY: usize = 160 * MEBIBYTE;

/// Attacks one of three members while another calls grains on it and on the third; no call may fail. What the attack
/// returns is held to the end, so that its connections stay open.
fn attack<T>(with: impl Fn(&str, &Node) -> T) {
    let mut nodes = cluster(3, &[]);
    let (target, host, caller) = (nodes.remove(2), nodes.remove(1), Arc::new(nodes.remove(0)));
    let grains = [identities_of(&host, &caller, 2), identities_of(&target, &caller, 2)].concat();
    let traffic = Traffic::start(&caller, grains, 10_000);
    traffic.goes_on_for(10);
    let attacker = with(&target.address(), &target);
    traffic.goes_on_for(100);
    drop(attacker);
    traffic.goes_on_for(10);
    let (failures, slowest) = traffic.stop();
    assert_eq!(failures, Vec::<String>::new(), "each was answered within its deadline");
    println!("the slowest call took {slowest:?}");
    assert!(target.runs());
    if let Some(peak) = target.peak_memory() {
        assert!(peak < ENOUGH_MEMORY, "the attack took {} MiB", peak / MEBIBYTE);
    }
    agree(&[&target, &host, &caller]);
    // Its gossip goes on as well.
    target.ask("set attacked and well").unwrap();
    host.eventually("get attacked", |seen| seen == format!("{}=and well", target.id()));
    let harms = |line: &String| {
        line.ends_with(" dead") || ["Evicted", "Fenced", "stderr:"].iter().any(|word| line.contains(word))
    };
    let noticed = |node: &Node| node.lines().into_iter().find(harms);
    assert_eq!([&target, &host, &caller].map(noticed), [const { None }; 3], "nobody died, nothing panicked");
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the node listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Waits until the node has hung up.
fn expect_hang_up(mut stream: TcpStream) {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert!(
            matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
            "the node keeps a connection that makes no sense: {error}"
        ),
    }
}

#[test]
fn a_node_lives_through_junk_on_its_port() {
    attack(|address, target| {
        let junk: Vec<u8> = (0_u32..4096).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for bytes in [&junk[..], http] {
            let mut stream = connect(address);
            // It may hang up before all is written.
            drop(stream.write_all(bytes));
            expect_hang_up(stream);
        }
        target.event("ConnectionRefused");
        // Many at once that say nothing, and are gone.
        drop((0..100).map(|_| connect(address)).collect::<Vec<_>>());
    });
}

#[test]
fn a_node_does_not_believe_the_length_of_a_frame() {
    attack(|address, _| {
        let two_gibibytes = 0x8000_0000_u32.to_be_bytes();
        let mut stranger = connect(address);
        stranger.write_all(&two_gibibytes).unwrap();
        expect_hang_up(stranger);
        // One that has proven itself is not believed either.
        let mut peer = Peer::connect(address, 1);
        peer.stream.write_all(&two_gibibytes).unwrap();
        expect_hang_up(peer.stream);
    });
}

// proves TG-2: no bad peer or message ends the loop of gossip
#[test]
fn a_node_answers_what_it_does_not_know() {
    attack(|address, _| {
        // A stranger's frame that decodes to nothing known.
        let mut stranger = connect(address);
        stranger.write_all(&frame_of(&[0xfa, 0x3f, 0x01, 0x00])).unwrap();
        expect_hang_up(stranger);
        // A peer's.
        let mut peer = Peer::connect(address, 2);
        peer.stream.write_all(&frame_of(&[0xfa, 0x3f, 0x01, 0x00])).unwrap();
        for (actor, activation) in
            [(SystemActor::MemberList, 0), (SystemActor::NoSystemActor, 0), (SystemActor::Gossip, 0)]
                .into_iter()
                .chain([(SystemActor::NoSystemActor, u64::MAX)])
        {
            let response = peer.call(request(actor, activation, "no.Such", b"\xff\xff\xff"));
            assert!(
                matches!(response.outcome, Some(response::Outcome::NotDelivered(_))),
                "{actor:?} {activation}: {response:?}"
            );
        }
        // An answer that nobody waits for.
        peer.send(MessageType::Response(Response { request_id: 77, outcome: None }));
        // Bytes that are no frame.
        peer.stream.write_all(&frame_of(&[0xff; 32])).unwrap();
        expect_hang_up(peer.stream);
    });
}

#[test]
fn a_peer_that_stops_reading_is_felt_by_nobody_else() {
    attack(|address, target| {
        let identity = identity_of(target, target);
        let mut peer = Peer::connect(address, 3);
        let activation = peer.activate(&identity);
        // Answers of a quarter of a mebibyte, never read: the sockets' buffers are full soon, then the node's queue.
        let text = vec![b'x'; 256 * 1024];
        let said = [&[0x0a, 0x80, 0x80, 0x10][..], &text].concat();
        let begun = Instant::now();
        let mut sent = 0_u32;
        while begun.elapsed() < PATIENCE && sent < 2_000 {
            let patience = if sent > 8 { Duration::from_millis(200) } else { PATIENCE };
            peer.stream.set_write_timeout(Some(patience)).unwrap();
            let mut bytes = BytesMut::new();
            let call = Request {
                request_id: 100 + u64::from(sent),
                ..request(SystemActor::NoSystemActor, activation, "e2e.Say", &said)
            };
            encode(MessageType::Request(call), FRAME_LIMIT, &mut bytes).unwrap();
            // A node that no longer reads, or has hung up, has had enough.
            if peer.stream.write_all(&bytes).is_err() {
                break;
            }
            sent += 1;
        }
        assert!(sent > 8, "{sent} requests of 256 KiB were taken");
        assert!(target.ask(&format!("call echo {identity} 10000 hello")).is_ok());
        peer
    });
}

fn frame_of(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

fn request(actor: SystemActor, activation_id: u64, name: &str, data: &[u8]) -> Request {
    Request {
        request_id: 1,
        activation_id,
        system_actor: actor.into(),
        message_type_name: name.into(),
        message_data: data.to_vec().into(),
        timeout_milliseconds: 20_000,
        traceparent: String::new(),
    }
}

/// A client of the cluster that knows its protocol, and does as it likes.
struct Peer {
    stream: TcpStream,
    decoder: Decoder,
}

impl Peer {
    /// Connects and proves itself.
    fn connect(address: &str, id: u128) -> Self {
        let local =
            LocalPeer { cluster: "e2e".into(), member: MemberId::new(id), address: None, secret: Secret::default() };
        let mut handshake = Handshake::initiator(local, Lane::Data, None, Nonce::new([7; 16]));
        let mut peer = Self { stream: connect(address), decoder: Decoder::new(FRAME_LIMIT) };
        let (mut out, mut input) = (Outbox::new(), Input::Start);
        loop {
            handshake.handle(input, &mut out);
            for effect in out.drain_effects() {
                match effect {
                    Effect::Send(message) => {
                        let mut bytes = BytesMut::new();
                        encode(message, MAX_FRAME, &mut bytes).unwrap();
                        peer.stream.write_all(&bytes).unwrap();
                    }
                    Effect::Admit(other) => panic!("an initiator admits nobody: {other:?}"),
                }
            }
            match out.drain_events().next() {
                Some(Event::Established(_)) => return peer,
                Some(refused) => panic!("{refused:?}"),
                None => input = Input::Received(peer.receive()),
            }
        }
    }

    fn receive(&mut self) -> Option<MessageType> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return frame.message_type;
            }
            let mut bytes = [0; 4096];
            let read = self.stream.read(&mut bytes).expect("the node answers");
            assert_ne!(read, 0, "the node has hung up");
            self.decoder.buffer().extend_from_slice(&bytes[..read]);
        }
    }

    fn send(&mut self, message: MessageType) {
        let mut bytes = BytesMut::new();
        encode(message, FRAME_LIMIT, &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    /// Calls, and waits for the answer.
    fn call(&mut self, request: Request) -> Response {
        self.send(MessageType::Request(request));
        loop {
            if let Some(MessageType::Response(response)) = self.receive() {
                return response;
            }
        }
    }

    /// Has a grain of the kind `echo` activated, and returns its name on that member.
    fn activate(&mut self, identity: &str) -> u64 {
        let wanted = ActivationRequest {
            cluster_identity: Some(ClusterIdentity::new("echo", identity)),
            request_id: String::new(),
            topology_hash: 0,
        };
        let data = wanted.encode_to_vec();
        let answer = self.call(request(SystemActor::Placement, 0, "cluster.ActivationRequest", &data));
        let Some(response::Outcome::Response(answer)) = answer.outcome else { panic!("{answer:?}") };
        ActivationResponse::decode(answer.message_data).unwrap().pid.unwrap().activation_id
    }
}
