//! The bytes of each kind of frame, without the length before it. Changing one is a new protocol version.

use std::collections::BTreeMap;

use gristmill_messages::cluster::{GrainErrorResponse, GrainResponse};
use gristmill_messages::remote::frame::MessageType;
use gristmill_messages::remote::*;
use prost::Message;

fn check(message: MessageType, golden: &str) {
    let frame = Frame { message_type: Some(message) };
    let bytes = frame.encode_to_vec();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden.replace([' ', '\n'], ""), "{frame:?}");
    assert_eq!(Frame::decode(bytes.as_slice()), Ok(frame));
}

fn response(outcome: response::Outcome) -> MessageType {
    MessageType::Response(Response { request_id: 300, outcome: Some(outcome) })
}

#[test]
fn connect_request() {
    let request = ConnectRequest {
        cluster_name: "shop".into(),
        member_id: "0000000000000000000000000000000a".into(),
        address: "host:4020".into(),
        min_version: 1,
        max_version: 2,
        lane: Lane::Control.into(),
        nonce: (0..16).collect::<Vec<u8>>().into(),
        expected_member_id: "0000000000000000000000000000000b".into(),
    };
    check(
        MessageType::ConnectRequest(request),
        "1275a2060473686f70aa06203030303030303030303030303030303030303030303030303030303030303061b2060968 \
         6f73743a34303230b80601c00602c80601d20610000102030405060708090a0b0c0d0e0fda0620303030303030303030 \
         3030303030303030303030303030303030303030303062",
    );
}

#[test]
fn connect_response() {
    let accepted = ConnectResponse { member_id: "0b".into(), version: 1, ..ConnectResponse::default() };
    check(MessageType::ConnectResponse(accepted), "1a0712023062b00601");
    let refused = ConnectResponse {
        blocked: true,
        refusal: connect_response::Refusal::Blocked.into(),
        detail: "for 60 s".into(),
        ..ConnectResponse::default()
    };
    check(MessageType::ConnectResponse(refused), "1a101801a00604aa0608666f722036302073");
}

#[test]
fn connect_challenge() {
    let challenge = ConnectChallenge {
        nonce: vec![1, 2].into(),
        proof: vec![3, 4].into(),
        member_id: "0b".into(),
        address: "host:4021".into(),
        version: 1,
    };
    check(MessageType::ConnectChallenge(challenge), "a206190a020102120203041a0230622209686f73743a343032312801");
}

#[test]
fn connect_proof() {
    check(MessageType::ConnectProof(ConnectProof { proof: vec![5, 6].into() }), "aa06040a020506");
}

#[test]
fn disconnect_request() {
    check(MessageType::DisconnectRequest(DisconnectRequest { reason: "bye".into() }), "2206a20603627965");
}

#[test]
fn request_to_an_activation() {
    let request = Request {
        request_id: 300,
        activation_id: 7,
        system_actor: SystemActor::NoSystemActor.into(),
        message_type_name: "shop.Buy".into(),
        message_data: vec![0xca, 0xfe].into(),
        timeout_milliseconds: 5000,
        traceparent: "00-ab-cd-01".into(),
    };
    check(
        MessageType::Request(request),
        "b2062308ac021007220873686f702e4275792a02cafe3088273a0b30302d61622d63642d3031",
    );
}

#[test]
fn one_way_request_to_a_system_actor() {
    let request = Request {
        system_actor: SystemActor::Placement.into(),
        message_type_name: "cluster.ActivationTerminated".into(),
        ..Request::default()
    };
    check(MessageType::Request(request), "b206201803221c636c75737465722e41637469766174696f6e5465726d696e61746564");
}

#[test]
fn the_numbers_of_the_system_actors() {
    let actors = [
        SystemActor::NoSystemActor,
        SystemActor::MemberList,
        SystemActor::Gossip,
        SystemActor::Placement,
        SystemActor::PidCache,
        SystemActor::Delivery,
    ];
    assert_eq!(actors.map(i32::from), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn response_of_a_grain() {
    let answer = GrainResponse { message_data: vec![0xca, 0xfe].into(), message_type_name: "shop.Bought".into() };
    check(response(response::Outcome::Response(answer)), "ba061608ac0212110a02cafe120b73686f702e426f75676874");
}

#[test]
fn rejection() {
    let rejected = GrainErrorResponse {
        reason: "sold_out".into(),
        message: "no more".into(),
        metadata: BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]),
    };
    check(
        response(response::Outcome::Rejected(rejected)),
        "ba062808ac021a230a08736f6c645f6f757412076e6f206d6f72651a060a01611201311a060a0162120132",
    );
}

#[test]
fn not_delivered() {
    let outcome = NotDelivered { reason: not_delivered::Reason::Stopping.into(), detail: "idle".into() };
    check(response(response::Outcome::NotDelivered(outcome)), "ba060d08ac0222080802120469646c65");
}

#[test]
fn unknown_outcome() {
    check(response(response::Outcome::UnknownOutcome(UnknownOutcome { detail: "?".into() })), "ba060808ac022a030a013f");
}

#[test]
fn cancel_request() {
    check(MessageType::CancelRequest(CancelRequest { request_id: 300 }), "c2060308ac02");
}
