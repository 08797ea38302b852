//! What may be written, and what is read from it.

use super::*;

#[test]
fn what_cannot_be_sent_is_not_written() {
    let mut node = Node::new(&[PEER]);
    let mut refused =
        |key: &str, value: GossipValue| match node.handle(Input::Set { key: key.into(), value }).1.remove(0) {
            Event::SetRefused { reason, .. } => reason,
            other => panic!("{other:?}"),
        };
    assert_eq!(refused("", text("1")), SetRefusal::KeyLength { bytes: 0 });
    assert_eq!(refused(&"k".repeat(251), text("1")), SetRefusal::KeyLength { bytes: 251 });
    let large = GossipValue { type_name: "t".into(), data: vec![0; GossipValue::MAX_BYTES].into() };
    assert_eq!(refused("k", large), SetRefusal::ValueTooLarge { bytes: GossipValue::MAX_BYTES + 1 });
    assert_eq!(node.gossip.digest(), StateDigest::default());

    for n in 0..Gossip::MAX_KEYS {
        node.set(&n.to_string(), "1");
    }
    let reason = SetRefusal::TooManyKeys;
    assert_eq!(node.set("one more", "1"), [Event::SetRefused { key: "one more".into(), reason }]);
    assert_eq!(node.set("0", "2").len(), 1, "what is there can still be changed");
    assert_eq!(reason.to_string(), "256 keys at most");
}

#[test]
fn removed_keys_make_room_for_others() {
    let mut node = Node::new(&[PEER]);
    for n in 0..1_000 {
        let key = n.to_string();
        assert!(node.set(&key, "1").contains(&updated(ME, &key, node.gossip.sequence.get(), "1")), "key {key}");
        node.handle(Input::Remove { key: key.as_str().into() });
    }
    node.set("last", "1");
    assert!(node.gossip.state.size().0 <= 1 + Gossip::MAX_KEYS);
    let mut longest = Node::new(&[PEER]);
    for n in 0..Gossip::MAX_KEYS {
        longest.set(&format!("{n:0>width$}", width = GossipKey::MAX_BYTES), "1");
    }
    let list = longest.gossip.state.own_keys(ME);
    assert!(list.len() <= GossipValue::MAX_BYTES, "{} bytes", list.len());
}

// proves MG-2.4
#[test]
fn consensus_is_when_all_members_have_the_same_value() {
    let mut node = Node::new(&[PEER, THIRD]);
    node.learn(delta(PEER, 1, vec![entry(PEER, "topology", 1, "x")]));
    node.learn(delta(THIRD, 1, vec![entry(THIRD, "topology", 5, "x")]));
    assert_eq!(node.gossip.consensus("topology"), None, "we have not said ours");
    node.set("topology", "x");
    assert_eq!(node.gossip.consensus("topology"), Some(&text("x")));
    node.learn(delta(THIRD, 2, vec![entry(THIRD, "topology", 6, "y")]));
    assert_eq!(node.gossip.consensus("topology"), None);
    node.members(&[PEER]);
    assert_eq!(node.gossip.consensus("topology"), Some(&text("x")), "who is gone has no say");
}

// proves MG-5.4
#[test]
fn a_heartbeat_tells_how_many_grains_of_each_kind_a_member_runs() {
    let counts = [("greeter".to_string(), 3_i64), ("account".to_string(), 40)];
    let heartbeat =
        cluster::MemberHeartbeat { actor_statistics: Some(cluster::ActorStatistics { actor_count: counts.into() }) };
    let mut node = Node::new(&[PEER]);
    let value = GossipValue::of(&heartbeat);
    let told = GossipEntry { member: PEER, key: HEARTBEAT.into(), sequence: Sequence::new(1), value: Some(value) };
    let wire = cluster::GossipRequest::from(delta(PEER, 1, vec![told]));
    node.learn(Delta::try_from(wire).expect("valid"));
    let (member, value) = node.gossip.get(HEARTBEAT).next().expect("told");
    assert_eq!(member, PEER);
    assert_eq!(value.decode::<cluster::MemberHeartbeat>(), Some(Ok(heartbeat)));
    assert!(value.decode::<cluster::GossipState>().is_none());
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    for config in [Config::lan(), Config::wan(), Config::test(), Config::default()] {
        assert_eq!(config.validate(), Ok(()));
    }
    let lan = Config::lan();
    let error = Config { interval: Duration::ZERO, ..lan.clone() }.validate();
    assert_eq!(error, Err(InvalidConfig::Zero { field: "interval" }));
    let error = Config { request_timeout: Duration::ZERO, ..lan.clone() }.validate();
    assert_eq!(error, Err(InvalidConfig::Zero { field: "request_timeout" }));
    assert_eq!(tiny(10_001).validate(), Err(InvalidConfig::TooManyEntries { entries: 10_001 }));
    let bytes = Delta::MIN_BYTES - 1;
    let error = Config { max_bytes_per_message: bytes, ..lan }.validate();
    assert_eq!(error, Err(InvalidConfig::TooFewBytes { bytes }));
}
