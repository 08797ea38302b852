//! Membership messages across the wire, as bytes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use gristmill_core::Member;
use gristmill_core::membership::{
    Buckets, JoinAnswer, Message, PingOutcome, ProbeSequence, Record, Stage, TableDigest, Verdict, WireError,
    WireMessage,
};
use gristmill_messages::membership as wire;
use gristmill_messages::{Incarnation, MemberId};
use proptest::prelude::*;
use prost::Message as _;

fn record() -> impl Strategy<Value = Record> {
    let stage = prop_oneof![Just(Stage::Joining), Just(Stage::Up), Just(Stage::Leaving), Just(Stage::Removed)];
    let verdict = prop_oneof![Just(Verdict::Suspect), Just(Verdict::Dead), Just(Verdict::Removed)];
    let claim = proptest::option::of((verdict, proptest::collection::vec(any::<u128>(), 1..6)));
    let kinds = proptest::collection::btree_set("[a-z]{1,8}", 0..4);
    (any::<u128>(), "[a-z]{1,9}:[1-9][0-9]{0,3}", kinds, 1..9_u32, any::<u64>(), stage, claim).prop_map(
        |(id, address, kinds, weight, incarnation, stage, claim)| {
            let mut member = Member::new(MemberId::new(id), address, kinds.into_iter().map(Into::into));
            member.weight = weight.try_into().unwrap();
            let own = Record::new(member, Incarnation::new(incarnation), stage);
            let (verdict, authors) = claim.unwrap_or((Verdict::Suspect, Vec::new()));
            authors.into_iter().fold(own, |record, by| record.claimed(verdict, MemberId::new(by)))
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let records = proptest::collection::vec(record().prop_map(Arc::new), 0..6);
    (0..9, any::<u64>(), any::<u64>(), any::<u128>(), records, any::<bool>()).prop_map(
        |(kind, sequence, digest, target, records, flag)| {
            let (sequence, digest) = (ProbeSequence::new(sequence), TableDigest::new(digest));
            let target = MemberId::new(target);
            let report = |outcome, updates| Message::PingReport { sequence, target, outcome, updates, digest };
            match kind {
                4 => Message::PingRequest { sequence, target, refused: flag, updates: records, digest },
                5 => report(PingOutcome::Reached, records),
                6 => report(PingOutcome::Silent, records),
                7 => report(PingOutcome::Refused, records),
                0 => Message::Ping { sequence, updates: records, digest },
                1 => Message::PingAck { sequence, updates: records, digest },
                2 => Message::Gossip { updates: records, digest },
                3 => Message::Compare { updates: records, buckets: vec![digest; 1 << (digest.get() % 9)] },
                _ => {
                    let numbers = (0..16).filter(|bit| digest.get() >> bit & 1 == 1).collect();
                    let complete = if flag { Buckets::new(16, numbers).unwrap() } else { Buckets::default() };
                    Message::Sync { records, complete }
                }
            }
        },
    )
}

fn through_bytes(message: &Message) -> Result<Message, WireError> {
    match WireMessage::from(message) {
        WireMessage::Ping(ping) => wire::Ping::decode(ping.encode_to_vec().as_slice()).unwrap().try_into(),
        WireMessage::PingAck(ack) => wire::PingAck::decode(ack.encode_to_vec().as_slice()).unwrap().try_into(),
        WireMessage::PingRequest(request) => {
            wire::PingRequest::decode(request.encode_to_vec().as_slice()).unwrap().try_into()
        }
        WireMessage::PingReport(report) => {
            wire::PingReport::decode(report.encode_to_vec().as_slice()).unwrap().try_into()
        }
        WireMessage::Gossip(gossip) => {
            wire::MembershipGossip::decode(gossip.encode_to_vec().as_slice()).unwrap().try_into()
        }
        WireMessage::Compare(compare) => {
            wire::MembershipCompare::decode(compare.encode_to_vec().as_slice()).unwrap().try_into()
        }
        WireMessage::Sync(sync) => wire::MembershipSync::decode(sync.encode_to_vec().as_slice()).unwrap().try_into(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_survives_the_wire(message in message()) {
        prop_assert_eq!(through_bytes(&message), Ok(message));
    }

    #[test]
    fn every_join_answer_survives_the_wire(
        records in proptest::collection::vec(record().prop_map(Arc::new), 0..6),
        millis in any::<u32>(),
    ) {
        let retry_after = Duration::from_millis(millis.into());
        let settled = vec![MemberId::new(3), MemberId::new(u128::MAX - 7)];
        let returning = JoinAnswer::Returning { was: MemberId::new(u128::MAX - 7), settled };
        let blocked = JoinAnswer::Blocked { reason: "dead".into(), retry_after };
        for answer in [JoinAnswer::Accepted { records }, JoinAnswer::NotReady, returning, JoinAnswer::ShuttingDown, blocked] {
            let response = wire::JoinResponse::from(&answer);
            prop_assert_eq!(JoinAnswer::try_from(response), Ok(answer));
        }
    }

    #[test]
    fn a_joiner_survives_the_wire_without_what_others_claim(joiner in record()) {
        prop_assert_eq!(Record::try_from(wire::JoinRequest::from(&joiner)), Ok(joiner.own_part()));
    }

    #[test]
    fn junk_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(sync) = wire::MembershipSync::decode(bytes.as_slice()) {
            let _ = Message::try_from(sync);
        }
        if let Ok(compare) = wire::MembershipCompare::decode(bytes.as_slice()) {
            let _ = Message::try_from(compare);
        }
        if let Ok(response) = wire::JoinResponse::decode(bytes.as_slice()) {
            let _ = JoinAnswer::try_from(response);
        }
    }
}

fn statement() -> wire::MemberRecord {
    wire::MemberRecord {
        member_id: MemberId::new(1).to_bytes().to_vec().into(),
        address: "a:1".into(),
        kinds: vec!["cart".into()],
        weight: 1,
        incarnation: 3,
        status: wire::MemberStatus::Up.into(),
        ..wire::MemberRecord::default()
    }
}

fn decoded(records: Vec<wire::MemberRecord>) -> Result<Message, WireError> {
    wire::MembershipSync { records, ..wire::MembershipSync::default() }.try_into()
}

#[test]
fn a_suspect_travels_as_its_own_statement_and_the_claim_about_it() {
    let own = Record::new(Member::new(MemberId::new(1), "a:1", ["cart".into()]), Incarnation::new(3), Stage::Up);
    let suspect = own.claimed(Verdict::Suspect, MemberId::new(2));
    let message = Message::Sync { records: vec![Arc::new(suspect)], complete: Buckets::default() };
    let WireMessage::Sync(sync) = WireMessage::from(&message) else { panic!("{message:?}") };
    assert_eq!(sync.records, [claimed(wire::MemberStatus::Suspect, &MemberId::new(2).to_bytes())]);
}

fn claimed(verdict: wire::MemberStatus, by: &[u8]) -> wire::MemberRecord {
    wire::MemberRecord { asserted_by: by.to_vec().into(), verdict: verdict.into(), ..statement() }
}

#[test]
fn buckets_that_no_table_has_are_refused() {
    let sync = |bucket_count, buckets| {
        Message::try_from(wire::MembershipSync { bucket_count, buckets, ..wire::MembershipSync::default() })
    };
    let refused = |count| Err(WireError::Buckets { count });
    assert!(sync(4, vec![0, 3]).is_ok());
    assert_eq!(sync(4, vec![4]), refused(4));
    assert_eq!(sync(4, vec![2, 1]), refused(4));
    assert_eq!(sync(3, vec![1]), refused(3));
    assert_eq!(sync(512, vec![1]), refused(512));
    assert_eq!(sync(0, vec![0]), refused(0));
    let many = sync(256, vec![0; 257]);
    assert_eq!(many, Err(WireError::TooLong { field: "buckets", length: 257, limit: 256 }));
    let compare = |count| {
        Message::try_from(wire::MembershipCompare { buckets: vec![7; count], ..wire::MembershipCompare::default() })
    };
    assert!(compare(256).is_ok());
    for count in [0, 3, 257, 512] {
        assert_eq!(compare(count), refused(count));
    }
}

#[test]
fn what_no_member_writes_is_refused_with_its_reason() {
    let with = |change: fn(&mut wire::MemberRecord)| {
        let mut changed = statement();
        change(&mut changed);
        decoded(vec![changed]).unwrap_err()
    };
    let asserted = |verdict| decoded(vec![claimed(verdict, &MemberId::new(2).to_bytes())]);
    assert!(decoded(vec![statement()]).is_ok());
    assert!(matches!(with(|record| record.member_id = vec![1; 15].into()), WireError::Id(_)));
    let nowhere = |address: &str| WireError::Address(address.into());
    assert_eq!(with(|record| record.address.clear()), nowhere(""));
    for address in ["host", ":7", "host:", "host:007", "host:+7", "host:65536"] {
        assert_eq!(decoded(vec![wire::MemberRecord { address: address.into(), ..statement() }]), Err(nowhere(address)));
    }
    let too_long = |field, length, limit| WireError::TooLong { field, length, limit };
    assert_eq!(with(|record| record.address = "a".repeat(513)), too_long("address", 513, 512));
    assert_eq!(with(|record| record.kinds = vec!["a".into(); 1025]), too_long("kinds", 1025, 1024));
    assert_eq!(with(|record| record.kinds = vec!["a".repeat(257)]), too_long("kind", 257, 256));
    for status in [wire::MemberStatus::Unknown, wire::MemberStatus::Suspect, wire::MemberStatus::Dead] {
        let refused = decoded(vec![wire::MemberRecord { status: status.into(), ..statement() }]);
        assert_eq!(refused, Err(WireError::Status { status: status.into(), asserted: false }));
    }
    assert!(asserted(wire::MemberStatus::Dead).is_ok());
    let suspected_by = |by: &[u8]| decoded(vec![claimed(wire::MemberStatus::Suspect, by)]);
    assert_eq!(suspected_by(&[2; 80]), Err(too_long("asserted_by", 80, 64)));
    assert!(matches!(suspected_by(&[2; 24]), Err(WireError::Id(_))));
    assert_eq!(suspected_by(&[]), Err(WireError::NoAuthor { member: MemberId::new(1) }));
    let unspecified = wire::PingReport { target: vec![1; 16].into(), ..wire::PingReport::default() };
    assert_eq!(Message::try_from(unspecified), Err(WireError::Outcome(0)));
    let up = wire::MemberStatus::Up;
    assert_eq!(asserted(up), Err(WireError::Status { status: up.into(), asserted: true }));
    let nothing = with(|record| record.asserted_by = vec![2; 16].into());
    assert_eq!(nothing, WireError::Status { status: 0, asserted: true });
    assert_eq!(Record::try_from(wire::JoinRequest::default()), Err(WireError::NoJoiner));
    assert_eq!(JoinAnswer::try_from(wire::JoinResponse::default()), Err(WireError::Answer(0)));
}

/// A member as in a large cluster: a name of a host in some domain, two dozen kinds, an id that begins with its time.
fn described(number: u128) -> Member {
    let address = format!("worker-{number:05}.grains.svc.production.cluster.local:7700");
    let kinds = (0..24).map(|kind| format!("warehouse.inventory.shelf-{kind:02}").into());
    Member::new(MemberId::new((1_790_000_000_000 + number) << 80 | number), address, kinds)
}

/// The default limit of a frame, and of what may wait for one peer, in the transport.
const FRAME: usize = 16 << 20;

#[test]
fn the_answer_to_a_join_that_has_ten_thousand_members_is_half_a_frame() {
    // Each is suspected by as many as a record can name, which is the most that is said of anybody.
    let record = |number| {
        let own = Record::new(described(number), Incarnation::new(1 << 40), Stage::Up);
        let accusers = (1..=Record::MOST_ACCUSERS as u128).map(MemberId::new);
        Arc::new(accusers.fold(own, |record, by| record.claimed(Verdict::Suspect, by)))
    };
    let answer = JoinAnswer::Accepted { records: (0..10_000).map(record).collect() };
    let bytes = wire::JoinResponse::from(&answer).encode_to_vec();
    println!("{} bytes", bytes.len());
    assert!(bytes.len() < FRAME * 6 / 10, "{} bytes", bytes.len());
    let decoded = wire::JoinResponse::decode(bytes.as_slice()).unwrap();
    assert_eq!(JoinAnswer::try_from(decoded), Ok(answer));
}
