use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use gristmill_messages::MemberId;
use gristmill_messages::remote::frame::MessageType;
use gristmill_messages::remote::{
    CancelRequest, ConnectChallenge, ConnectProof, ConnectRequest, ConnectResponse, Lane,
};
use proptest::prelude::*;

use super::*;
use crate::Outbox;

const ALICE: MemberId = MemberId::new(0xa);
const BOB: MemberId = MemberId::new(0xb);

fn local(member: MemberId) -> LocalPeer {
    let address = (member == BOB).then(|| "bob:1".into());
    LocalPeer { cluster: "shop".into(), member, address, secret: Secret::new(b"mellon") }
}

fn initiator(local: LocalPeer) -> Handshake {
    Handshake::initiator(local, Lane::Control, None, Nonce::new([1; 16]))
}

fn acceptor(local: LocalPeer) -> Handshake {
    Handshake::acceptor(local, Nonce::new([2; 16]))
}

fn step(side: &mut Handshake, input: Input) -> (Vec<Effect>, Vec<Event>) {
    let mut out = Outbox::new();
    side.handle(input, &mut out);
    let effects = out.drain_effects().collect();
    (effects, out.drain_events().collect())
}

/// The one frame that the step sends.
fn sent(side: &mut Handshake, input: Input) -> MessageType {
    match step(side, input) {
        (effects, events) if events.is_empty() => match <[Effect; 1]>::try_from(effects).unwrap() {
            [Effect::Send(frame)] => frame,
            [other] => panic!("{other:?}"),
        },
        (_, events) => panic!("{events:?}"),
    }
}

fn received(frame: MessageType) -> Input {
    Input::Received(Some(frame))
}

/// How both sides end when every frame passes through `tamper`, which drops what it makes `None`.
fn run(
    one: &mut Handshake,
    other: &mut Handshake,
    admission: &Result<(), Refusal>,
    mut tamper: impl FnMut(MessageType) -> Option<MessageType>,
) -> [Vec<Event>; 2] {
    let mut events = [Vec::new(), Vec::new()];
    let mut inputs = VecDeque::from([(0, Input::Start)]);
    while let Some((side, input)) = inputs.pop_front() {
        let (effects, ended) = step(if side == 0 { one } else { other }, input);
        events[side].extend(ended);
        for effect in effects {
            match effect {
                Effect::Send(frame) => inputs.extend(tamper(frame).map(|frame| (1 - side, received(frame)))),
                Effect::Admit(_) => inputs.push_back((side, Input::Admission(admission.clone()))),
            }
        }
    }
    events
}

fn run_untampered(one: LocalPeer, other: LocalPeer) -> [Vec<Event>; 2] {
    run(&mut initiator(one), &mut acceptor(other), &Ok(()), Some)
}

fn refused_as(events: [Vec<Event>; 2]) -> [Option<(bool, RefusalKind)>; 2] {
    events.map(|events| match events.as_slice() {
        [Event::Refused(refusal)] => Some((true, refusal.kind)),
        [Event::RefusedByPeer(refusal)] => Some((false, refusal.kind)),
        _ => None,
    })
}

#[test]
fn both_sides_learn_who_the_other_is() {
    let alice = Peer { member: ALICE, address: None, lane: Lane::Control, version: 1 };
    let bob = Peer { member: BOB, address: Some("bob:1".into()), lane: Lane::Control, version: 1 };
    let events = run_untampered(local(ALICE), local(BOB));
    assert_eq!(events, [vec![Event::Established(bob)], vec![Event::Established(alice)]]);
}

#[test]
fn without_a_secret_the_flow_is_the_same() {
    let open = |member| LocalPeer { secret: Secret::default(), ..local(member) };
    let events = run_untampered(open(ALICE), open(BOB));
    assert!(events.iter().all(|events| matches!(events.as_slice(), [Event::Established(_)])));
}

#[test]
fn the_frames_are_these_and_the_proofs_are_pinned() {
    let (mut alice, mut bob) = (initiator(local(ALICE)), acceptor(local(BOB)));
    let request = sent(&mut alice, Input::Start);
    let expected = ConnectRequest {
        cluster_name: "shop".into(),
        member_id: "0000000000000000000000000000000a".into(),
        address: "".into(),
        min_version: 1,
        max_version: 1,
        lane: Lane::Control.into(),
        nonce: vec![1; 16].into(),
        expected_member_id: "".into(),
    };
    assert_eq!(request, MessageType::ConnectRequest(expected));
    let MessageType::ConnectChallenge(challenge) = sent(&mut bob, received(request)) else { panic!() };
    assert_eq!(hex(&challenge.proof), "c8fc0ac4282f0f4bfb526f720b4063f6825505f74de6931bbeb14d6edcd8cb45");
    let MessageType::ConnectProof(proof) = sent(&mut alice, received(MessageType::ConnectChallenge(challenge))) else {
        panic!()
    };
    assert_eq!(hex(&proof.proof), "fa0fa5bd38272e3c3a76751f005d7d9b8e1b90d47b575c9b708740ded3ed7aef");
}

#[test]
fn another_secret_is_found_out_by_the_initiator_before_it_proves_anything() {
    let other = LocalPeer { secret: Secret::new(b"sesame"), ..local(BOB) };
    let mut proofs = 0;
    let events = run(&mut initiator(local(ALICE)), &mut acceptor(other), &Ok(()), |frame| {
        proofs += usize::from(matches!(frame, MessageType::ConnectProof(_)));
        Some(frame)
    });
    assert_eq!(refused_as(events), [Some((true, RefusalKind::Secret)), Some((false, RefusalKind::Secret))]);
    assert_eq!(proofs, 0);
}

#[test]
fn an_initiator_without_the_secret_is_refused_and_never_asked_to_be_admitted() {
    for proof in [vec![], vec![0; 32]] {
        let mut bob = acceptor(local(BOB));
        let request = sent(&mut initiator(local(ALICE)), Input::Start);
        let _ = sent(&mut bob, received(request));
        let proof = received(MessageType::ConnectProof(ConnectProof { proof: proof.into() }));
        let (effects, events) = step(&mut bob, proof.clone());
        assert!(matches!(events.as_slice(), [Event::Refused(refusal)] if refusal.kind == RefusalKind::Secret));
        assert!(matches!(effects.as_slice(), [Effect::Send(MessageType::ConnectResponse(_))]));
        // The handshake has ended: what follows is ignored.
        assert_eq!(step(&mut bob, proof), (vec![], vec![]));
    }
}

#[test]
fn the_acceptors_own_proof_sent_back_proves_nothing() {
    let mut bob = acceptor(local(BOB));
    let request = sent(&mut initiator(local(ALICE)), Input::Start);
    let MessageType::ConnectChallenge(ConnectChallenge { proof, .. }) = sent(&mut bob, received(request)) else {
        panic!()
    };
    let (_, events) = step(&mut bob, received(MessageType::ConnectProof(ConnectProof { proof })));
    assert!(matches!(events.as_slice(), [Event::Refused(refusal)] if refusal.kind == RefusalKind::Secret));
}

#[test]
fn a_proof_is_worth_nothing_in_another_handshake() {
    let (mut alice, mut bob) = (initiator(local(ALICE)), acceptor(local(BOB)));
    let request = sent(&mut alice, Input::Start);
    let challenge = sent(&mut bob, received(request.clone()));
    let proof = sent(&mut alice, received(challenge));
    let mut again = Handshake::acceptor(local(BOB), Nonce::new([3; 16]));
    let _ = sent(&mut again, received(request));
    let (_, events) = step(&mut again, received(proof));
    assert!(matches!(events.as_slice(), [Event::Refused(refusal)] if refusal.kind == RefusalKind::Secret));
}

#[test]
fn another_cluster_is_refused_by_name() {
    let other = LocalPeer { cluster: "bank".into(), ..local(BOB) };
    let [alice, bob] = run_untampered(local(ALICE), other);
    let refusal = Refusal::new(RefusalKind::ClusterName, "this is \"bank\"");
    assert_eq!(alice, [Event::RefusedByPeer(refusal.clone())]);
    assert_eq!(bob, [Event::Refused(refusal)]);
}

#[test]
fn no_version_in_common_is_refused_whatever_else_the_request_says() {
    let later = ConnectRequest { min_version: 2, max_version: 9, member_id: "?".into(), ..ConnectRequest::default() };
    let (_, events) = step(&mut acceptor(local(BOB)), received(MessageType::ConnectRequest(later)));
    let refusal = Refusal::new(RefusalKind::Version, "1 is spoken here, 2 to 9 there");
    assert_eq!(events, [Event::Refused(refusal)]);
}

#[test]
fn a_range_around_this_version_is_fine() {
    let widen = |frame| match frame {
        MessageType::ConnectRequest(request) => {
            Some(MessageType::ConnectRequest(ConnectRequest { min_version: 0, max_version: 9, ..request }))
        }
        frame => Some(frame),
    };
    // It reaches the comparison of the proofs, where the changed range is found out.
    let events = run(&mut initiator(local(ALICE)), &mut acceptor(local(BOB)), &Ok(()), widen);
    assert_eq!(refused_as(events)[0], Some((true, RefusalKind::Secret)));
}

fn expecting(member: MemberId) -> Handshake {
    Handshake::initiator(local(ALICE), Lane::Data, Some(member), Nonce::new([1; 16]))
}

#[test]
fn an_initiator_that_meets_another_member_learns_from_its_proof_who_that_is_and_proves_nothing_itself() {
    let mut proofs = 0;
    let events = run(&mut expecting(MemberId::new(0xc)), &mut acceptor(local(BOB)), &Ok(()), |frame| {
        proofs += usize::from(matches!(frame, MessageType::ConnectProof(_)));
        Some(frame)
    });
    let bob = Peer { member: BOB, address: Some("bob:1".into()), lane: Lane::Data, version: 1 };
    assert_eq!(events[0], [Event::MetAnother(bob)]);
    assert_eq!(refused_as(events)[1], Some((false, RefusalKind::WrongMember)));
    assert_eq!(proofs, 0);

    let events = run(&mut expecting(BOB), &mut acceptor(local(BOB)), &Ok(()), Some);
    assert!(matches!(events[0].as_slice(), [Event::Established(_)]));
}

#[test]
fn who_only_says_that_it_is_another_member_is_not_met() {
    // With another secret, with something changed on the way, or by a refusal before any proof.
    let liar = LocalPeer { secret: Secret::new(b"sesame"), ..local(BOB) };
    let [alice, _] = run(&mut expecting(MemberId::new(0xc)), &mut acceptor(liar), &Ok(()), Some);
    assert!(matches!(alice.as_slice(), [Event::Refused(refusal)] if refusal.kind == RefusalKind::Secret));
    for which in 0..=10 {
        let tamper = |frame| Some(tampered(frame, which));
        let [alice, _] = run(&mut expecting(MemberId::new(0xc)), &mut acceptor(local(BOB)), &Ok(()), tamper);
        let untouched = which == 3 || which == 10;
        assert_eq!(matches!(alice.as_slice(), [Event::MetAnother(_)]), untouched, "change {which}: {alice:?}");
    }
    let mut alice = expecting(MemberId::new(0xc));
    let _ = step(&mut alice, Input::Start);
    let refusal = Refusal::new(RefusalKind::WrongMember, alloc::format!("this is {BOB}"));
    let (_, events) = step(&mut alice, received(MessageType::ConnectResponse(refusal.clone().into())));
    assert_eq!(events, [Event::RefusedByPeer(refusal)]);
}

#[test]
fn an_acceptor_refuses_who_proves_the_secret_and_expects_another_member() {
    let expects_another = |frame| match frame {
        MessageType::ConnectRequest(request) => {
            let expected_member_id = MemberId::new(0xc).to_string();
            Some(MessageType::ConnectRequest(ConnectRequest { expected_member_id, ..request }))
        }
        frame => Some(frame),
    };
    let mut bob = acceptor(local(BOB));
    let Some(request) = expects_another(sent(&mut initiator(local(ALICE)), Input::Start)) else { panic!() };
    let MessageType::ConnectRequest(asked) = request.clone() else { panic!() };
    let MessageType::ConnectChallenge(challenge) = sent(&mut bob, received(request)) else { panic!() };
    let transcript = transcript::Transcript::new(&asked, &challenge);
    let proof = transcript.proof(transcript::Prover::Initiator, &local(ALICE).secret).into();
    let (_, events) = step(&mut bob, received(MessageType::ConnectProof(ConnectProof { proof })));
    assert!(matches!(events.as_slice(), [Event::Refused(refusal)] if refusal.kind == RefusalKind::WrongMember));
}

#[test]
fn a_node_that_calls_itself_is_refused() {
    let events = run_untampered(local(BOB), local(BOB));
    assert_eq!(refused_as(events)[1], Some((true, RefusalKind::WrongMember)));
}

#[test]
fn who_is_not_admitted_is_told_why() {
    for kind in [RefusalKind::Blocked, RefusalKind::Superseded, RefusalKind::ShuttingDown, RefusalKind::Overloaded] {
        let refusal = Refusal::new(kind, "not now");
        let events = run(&mut initiator(local(ALICE)), &mut acceptor(local(BOB)), &Err(refusal.clone()), Some);
        assert_eq!(events, [vec![Event::RefusedByPeer(refusal.clone())], vec![Event::Refused(refusal)]]);
    }
}

#[test]
fn a_stranger_does_not_tell_that_somebody_is_blocked() {
    let mut side = initiator(local(ALICE));
    let _ = step(&mut side, Input::Start);
    let refusal = Refusal::new(RefusalKind::Blocked, "by nobody");
    let (_, events) = step(&mut side, Input::Received(Some(MessageType::ConnectResponse(refusal.into()))));
    assert!(matches!(events.as_slice(), [Event::Refused(refusal)] if refusal.kind == RefusalKind::Malformed));
}

#[test]
fn what_is_out_of_turn_or_nothing_known_is_malformed() {
    let cancel = || MessageType::CancelRequest(CancelRequest { request_id: 1 });
    let proof = || MessageType::ConnectProof(ConnectProof::default());
    for frame in [None, Some(cancel()), Some(proof())] {
        for mut side in [initiator(local(ALICE)), acceptor(local(BOB))] {
            let _ = step(&mut side, Input::Start);
            let (effects, events) = step(&mut side, Input::Received(frame.clone()));
            assert!(matches!(events.as_slice(), [Event::Refused(refusal)] if refusal.kind == RefusalKind::Malformed));
            assert!(matches!(effects.as_slice(), [Effect::Send(MessageType::ConnectResponse(_))]));
        }
    }
}

#[test]
fn an_acceptance_before_any_proof_is_malformed() {
    let mut alice = initiator(local(ALICE));
    let _ = step(&mut alice, Input::Start);
    let (_, events) = step(&mut alice, received(MessageType::ConnectResponse(ConnectResponse::default())));
    assert!(matches!(events.as_slice(), [Event::Refused(refusal)] if refusal.kind == RefusalKind::Malformed));
}

#[test]
fn a_frame_that_overtakes_the_admission_is_malformed() {
    let (mut alice, mut bob) = (initiator(local(ALICE)), acceptor(local(BOB)));
    let request = sent(&mut alice, Input::Start);
    let challenge = sent(&mut bob, received(request));
    let proof = sent(&mut alice, received(challenge));
    let (effects, _) = step(&mut bob, received(proof.clone()));
    assert!(matches!(effects.as_slice(), [Effect::Admit(_)]));
    let (_, events) = step(&mut bob, received(proof));
    assert!(matches!(events.as_slice(), [Event::Refused(refusal)] if refusal.kind == RefusalKind::Malformed));
}

#[test]
fn a_shell_that_gives_up_tells_the_peer() {
    let refusal = Refusal::new(RefusalKind::Malformed, "no frame");
    let (effects, events) = step(&mut acceptor(local(BOB)), Input::Refuse(refusal.clone()));
    assert_eq!(effects, [Effect::Send(MessageType::ConnectResponse(refusal.clone().into()))]);
    assert_eq!(events, [Event::Refused(refusal)]);
}

#[test]
fn a_refusal_of_a_later_version_and_its_long_detail_are_understood() {
    let mut alice = initiator(local(ALICE));
    let _ = step(&mut alice, Input::Start);
    let detail = core::iter::repeat_n('é', 1000).collect();
    let response = ConnectResponse { refusal: 77, detail, ..ConnectResponse::default() };
    let (_, events) = step(&mut alice, received(MessageType::ConnectResponse(response)));
    let [Event::RefusedByPeer(refusal)] = events.as_slice() else { panic!() };
    assert_eq!((refusal.kind, refusal.detail.chars().count()), (RefusalKind::Other, 256));
    assert!(!refusal.kind.is_permanent());
}

#[test]
fn a_secret_shows_nothing() {
    assert_eq!(alloc::format!("{:?}", Secret::new(b"mellon")), "Secret(..)");
    assert!(!alloc::format!("{:?}", local(BOB)).contains("mellon"));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| alloc::format!("{byte:02x}")).collect()
}

/// Changes one thing that a man in the middle could change.
fn tampered(frame: MessageType, which: u8) -> MessageType {
    let flip = |bytes: &bytes::Bytes| {
        let mut bytes = bytes.to_vec();
        bytes[0] ^= 1;
        bytes::Bytes::from(bytes)
    };
    match frame {
        MessageType::ConnectRequest(mut request) => {
            match which {
                0 => request.member_id = MemberId::new(0xbad).to_string(),
                1 => request.address = "evil:1".into(),
                2 => request.max_version = 2,
                3 => request.lane = Lane::Data.into(),
                4 => request.nonce = flip(&request.nonce),
                5 => request.expected_member_id = BOB.to_string(),
                _ => {}
            }
            MessageType::ConnectRequest(request)
        }
        MessageType::ConnectChallenge(mut challenge) => {
            match which {
                6 => challenge.nonce = flip(&challenge.nonce),
                7 => challenge.proof = flip(&challenge.proof),
                8 => challenge.member_id = MemberId::new(0xbad).to_string(),
                9 => challenge.address = "evil:1".into(),
                _ => {}
            }
            MessageType::ConnectChallenge(challenge)
        }
        MessageType::ConnectProof(mut proof) if which == 10 => {
            proof.proof = flip(&proof.proof);
            MessageType::ConnectProof(proof)
        }
        frame => frame,
    }
}

#[test]
fn whatever_is_changed_on_the_way_neither_side_is_established() {
    for which in 0..=10 {
        let events =
            run(&mut initiator(local(ALICE)), &mut acceptor(local(BOB)), &Ok(()), |frame| Some(tampered(frame, which)));
        assert!(!events.iter().flatten().any(|event| matches!(event, Event::Established(_))), "change {which}");
        assert!(events.iter().flatten().any(|event| matches!(event, Event::Refused(_))), "change {which}");
    }
}

fn any_frame() -> impl Strategy<Value = Option<MessageType>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40).prop_map(bytes::Bytes::from);
    let id = || prop_oneof![Just(ALICE.to_string()), Just(BOB.to_string()), ".{0,40}".prop_map(String::from)];
    prop_oneof![
        Just(None),
        (id(), id(), bytes(), 0..3_u32, any::<i32>()).prop_map(
            |(member_id, expected_member_id, nonce, version, lane)| {
                Some(MessageType::ConnectRequest(ConnectRequest {
                    cluster_name: "shop".into(),
                    member_id,
                    expected_member_id,
                    nonce,
                    min_version: version,
                    max_version: 1,
                    lane: lane % 3,
                    ..ConnectRequest::default()
                }))
            }
        ),
        (id(), bytes(), bytes(), 0..3_u32).prop_map(|(member_id, nonce, proof, version)| {
            let address = String::new();
            Some(MessageType::ConnectChallenge(ConnectChallenge { nonce, proof, member_id, address, version }))
        }),
        bytes().prop_map(|proof| Some(MessageType::ConnectProof(ConnectProof { proof }))),
        any::<i32>().prop_map(|refusal| Some(MessageType::ConnectResponse(ConnectResponse {
            refusal: refusal % 12,
            ..ConnectResponse::default()
        }))),
        any::<u64>().prop_map(|request_id| Some(MessageType::CancelRequest(CancelRequest { request_id }))),
    ]
}

proptest! {
    #[test]
    fn no_guess_establishes_a_connection_and_every_handshake_ends_once(
        frames in proptest::collection::vec(any_frame(), 0..6),
        accepting in any::<bool>(),
    ) {
        let mut side = if accepting { acceptor(local(BOB)) } else { initiator(local(ALICE)) };
        let mut events = step(&mut side, Input::Start).1;
        for frame in frames {
            events.extend(step(&mut side, Input::Received(frame)).1);
        }
        prop_assert!(events.len() <= 1);
        prop_assert!(!matches!(events.as_slice(), [Event::Established(_)]));
    }
}
