//! Gossip as it travels.

use super::*;

#[test]
fn golden_digests_never_change() {
    assert_eq!(digest(&[entry(ME, "build", 1, "1.4")]).get(), 0x11a2_ee63_d3df_5e8f);
    assert_eq!(digest(&[entry(ME, "build", 1, None)]).get(), 0x5833_88cc_8fb5_e97d);
    let both = digest(&[entry(ME, "build", 1, "1.4"), entry(PEER, "build", 1, None)]);
    assert_eq!(both, digest(&[entry(PEER, "build", 1, None), entry(ME, "build", 1, "1.4")]));
}

#[test]
fn a_delta_and_its_acknowledgement_survive_the_wire() {
    let entries = vec![entry(ME, "a", 3, "1"), entry(ME, "b", 4, None), entry(PEER, "a", i64::MAX as u64, "")];
    let delta = Delta { full_state_wanted: true, ..delta(ME, 5, entries) };
    let bytes = cluster::GossipRequest::from(delta.clone()).encode_to_vec();
    let wire = cluster::GossipRequest::decode(bytes.as_slice()).expect("decodes");
    let state = wire.state.as_ref().expect("a state");
    let any = state.members[&ME.to_string()].values["a"].value.as_ref().expect("a value");
    assert_eq!(any.type_url, "type.googleapis.com/test.Text");
    assert_eq!(Delta::try_from(wire), Ok(delta));

    let ack = DeltaAck { full_state_wanted: true, ..ack(DeltaId::new(5)) };
    assert_eq!(DeltaAck::from(&cluster::GossipResponse::from(ack)), ack);
}

#[test]
fn what_is_no_delta_is_refused_with_the_reason() {
    type Spoil = fn(&mut BTreeMap<String, cluster::GossipKeyValue>);
    let spoilt = |spoil: Spoil| {
        let mut wire = cluster::GossipRequest::from(delta(ME, 5, vec![entry(ME, "a", 3, "1")]));
        let members = &mut wire.state.as_mut().expect("a state").members;
        spoil(&mut members.get_mut(&ME.to_string()).expect("mine").values);
        Delta::try_from(wire).expect_err("spoilt")
    };
    assert_eq!(spoilt(|values| values.get_mut("a").expect("there").sequence_number = 0), InvalidGossip::Sequence(0));
    assert_eq!(spoilt(|values| values.get_mut("a").expect("there").sequence_number = -1), InvalidGossip::Sequence(-1));
    assert_eq!(
        spoilt(|values| drop(values.insert(String::new(), Default::default()))),
        InvalidGossip::KeyLength { bytes: 0 }
    );
    assert_eq!(
        spoilt(|values| drop(values.insert("k".repeat(257), values["a"].clone()))),
        InvalidGossip::KeyLength { bytes: 257 }
    );
    assert_eq!(
        spoilt(|values| {
            let any = values.get_mut("a").expect("there").value.as_mut().expect("a value");
            any.value = vec![0; GossipValue::MAX_BYTES];
        }),
        InvalidGossip::ValueTooLarge { bytes: GossipValue::MAX_BYTES + "test.Text".len() }
    );
    assert_eq!(
        spoilt(|values| {
            let value = values["a"].clone();
            values.extend((0..Delta::MAX_ENTRIES).map(|n| (n.to_string(), value.clone())));
        }),
        InvalidGossip::TooManyEntries { count: Delta::MAX_ENTRIES + 1 }
    );
    let mut wire = cluster::GossipRequest::from(delta(ME, 5, vec![]));
    wire.member_id.pop();
    assert!(matches!(Delta::try_from(wire), Err(InvalidGossip::Id(_))));
}
