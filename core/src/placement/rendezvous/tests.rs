use super::*;
use alloc::format;
use alloc::string::String;
use alloc::string::ToString;
use alloc::vec;
use gristmill_messages::TopologyVersion;
use proptest::prelude::*;

const KIND: &str = "greeter";

/// The member that listens on a port of this host, with an id as random as a seeded one can be.
fn member(port: u64) -> Member {
    let id = MemberId::new((u128::from(mix(port)) << 64) | u128::from(mix(!port)));
    Member::new(id, format!("127.0.0.1:{port}"), [KindName::from(KIND)])
}

fn members(count: u64) -> Vec<Member> {
    (8001..8001 + count).map(member).collect()
}

fn rendezvous(members: Vec<Member>) -> Rendezvous {
    Rendezvous::new(Arc::new(Topology::new(TopologyVersion::new(1), members, vec![])))
}

fn key(number: u64) -> ClusterIdentity {
    ClusterIdentity::new(KIND, number.to_string())
}

fn weighing(mut member: Member, weight: u32) -> Member {
    member.weight = NonZeroU32::new(weight).unwrap();
    member
}

/// Owners of `keys` by the definition: every member scored for every key with no shortcut.
fn reference<'a>(members: &'a [Member], identity: &ClusterIdentity) -> Option<&'a Member> {
    let hosting = members.iter().filter(|member| member.kinds.contains(identity.kind.as_str()));
    hosting.max_by(|a, b| {
        let [x, y] = [a, b].map(|member| {
            let score = mix(identity.stable_hash() ^ member_hash(member.id));
            weighted(score, member.weight)
        });
        x.total_cmp(&y).then(b.id.cmp(&a.id))
    })
}

#[test]
fn golden_scores_never_change() {
    assert_eq!(mix(0), 0);
    // The first two outputs of SplitMix64 with seed 0.
    assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0xe220_a839_7b1d_cdaf);
    assert_eq!(mix(0x3c6e_f372_fe94_f82a), 0x6e78_9e6a_a1b9_65f4);
    assert_eq!(member_hash(MemberId::new(1)), 0x1af7_b85a_5eef_58e4);
    assert_eq!(member_hash(MemberId::new(u128::MAX)), 0xbe9b_b220_6637_5ef1);
    assert_eq!(
        mix(ClusterIdentity::new("greeter", "alice").stable_hash() ^ 0x1af7_b85a_5eef_58e4),
        0xd8d5_d3a5_c00f_9c1e
    );
}

// proves VA-1.1
#[test]
fn golden_owners_never_change() {
    let of_three = (1..=3).map(|id| Member::new(MemberId::new(id), "h:1", [KindName::from(KIND), "account".into()]));
    let equal = rendezvous(of_three.clone().collect());
    let uneven = rendezvous(
        of_three
            .map(|m| {
                let weight = m.id.bits() as u32;
                weighing(m, weight)
            })
            .collect(),
    );
    let owners = |rendezvous: &Rendezvous| {
        let identities =
            [(KIND, "alice"), (KIND, "bob"), (KIND, "carol"), (KIND, "dave"), ("account", "1"), ("account", "2")];
        identities.map(|identity| rendezvous.owner(&identity.into()).unwrap().id.bits())
    };
    assert_eq!(owners(&equal), [1, 1, 1, 2, 3, 3]);
    assert_eq!(owners(&uneven), [1, 2, 3, 2, 3, 3]);
}

#[test]
fn the_greatest_and_the_least_score_have_a_weight() {
    for score in [0, u64::MAX] {
        let weighted = weighted(score, NonZeroU32::MIN);
        assert!(weighted.is_finite() && weighted > 0.0, "{score}: {weighted}");
    }
}

/// The shares of 2 to 1,000 members of 100,000 keys. A share is a binomial count with mean m = keys / members and a
/// standard deviation of at most sqrt(m); of the half a million shares that are checked here, one beyond five
/// deviations is expected with a probability of about 0.15, so five above the tenth that is allowed means that the
/// scores are not even.
#[test]
fn no_member_of_2_to_1000_owns_more_than_a_tenth_above_its_share_beyond_sampling_noise() {
    const KEYS: u64 = 100_000;
    let keys: Vec<u64> = (0..KEYS).map(|number| key(number).stable_hash()).collect();
    let hashes: Vec<u64> = members(1_000).iter().map(|member| member_hash(member.id)).collect();
    // Members come one by one: a key moves to the newcomer or stays, so that each count costs one score per key.
    let mut best = vec![(0_u64, 0_usize); keys.len()];
    let mut shares = vec![0_u64; hashes.len()];
    for (newcomer, hash) in hashes.iter().enumerate() {
        for (key, best) in keys.iter().zip(&mut best) {
            let score = mix(key ^ hash);
            if newcomer == 0 || score > best.0 {
                if newcomer > 0 {
                    shares[best.1] -= 1;
                }
                *best = (score, newcomer);
                shares[newcomer] += 1;
            }
        }
        let mean = KEYS as f64 / (newcomer + 1) as f64;
        let limit = 1.1 * mean + 5.0 * libm::sqrt(mean);
        let most = *shares.iter().max().unwrap();
        assert!(most as f64 <= limit, "{most} of {KEYS} keys with {} members, at most {limit}", newcomer + 1);
    }
    let rendezvous = rendezvous(members(1_000));
    let addresses: Vec<String> = (8001..9001).map(|port| format!("127.0.0.1:{port}")).collect();
    for number in (0..KEYS).step_by(997) {
        let owner = rendezvous.owner(&key(number)).unwrap();
        assert_eq!(owner.address.as_str(), addresses[best[number as usize].1], "the table agrees with the definition");
    }
}

#[test]
fn eight_neighbouring_ports_share_evenly() {
    for ids in ["random", "neighbouring"] {
        let mut eight = members(8);
        if ids == "neighbouring" {
            eight.iter_mut().zip(1..).for_each(|(member, id)| member.id = MemberId::new(id));
        }
        let rendezvous = rendezvous(eight.clone());
        for member in &eight {
            let share = (0..20_000).filter(|number| rendezvous.owner(&key(*number)) == Some(member)).count();
            // 2,500 is even; its standard deviation is 47.
            assert!((2_300..2_700).contains(&share), "{ids} ids: {} owns {share}", member.address);
        }
    }
}

#[test]
fn weights_are_honoured() {
    let four: Vec<Member> = members(4).into_iter().zip(1..).map(|(member, weight)| weighing(member, weight)).collect();
    let rendezvous = rendezvous(four.clone());
    for member in four {
        let share = (0..20_000).filter(|number| rendezvous.owner(&key(*number)) == Some(&member)).count() as f64;
        let fair = 2_000.0 * f64::from(member.weight.get());
        assert!((share - fair).abs() < 5.0 * libm::sqrt(fair), "weight {} owns {share}", member.weight);
    }
}

#[test]
fn a_member_that_comes_takes_about_its_share_and_nobody_elses() {
    let before = rendezvous(members(10));
    let after = rendezvous(members(11));
    let newcomer = member(8011);
    let mut moved = 0;
    for number in 0..11_000 {
        let (was, is) = (before.owner(&key(number)).unwrap(), after.owner(&key(number)).unwrap());
        if was != is {
            assert_eq!(is.id, newcomer.id);
            moved += 1;
        }
    }
    assert!((840..1_160).contains(&moved), "1,000 of 11,000 are due, with a deviation of 30: {moved}");
}

#[test]
fn only_members_that_host_the_kind_own_it() {
    let [mut a, b, mut c] = [1, 2, 3].map(member);
    a.kinds = Arc::new([KindName::from("printer")].into());
    c.kinds = Arc::new([].into());
    let rendezvous = rendezvous(vec![a.clone(), b.clone(), c]);
    for number in 0..100 {
        assert_eq!(rendezvous.owner(&key(number)), Some(&b));
        assert_eq!(rendezvous.owner(&ClusterIdentity::new("printer", number.to_string())), Some(&a));
        assert_eq!(rendezvous.owner(&ClusterIdentity::new("account", number.to_string())), None);
    }
}

#[test]
fn of_equal_scores_the_lower_id_owns() {
    let mut candidates = Candidates::of(Candidate { index: 3, hash: 42, weight: NonZeroU32::MIN });
    candidates.add(Candidate { index: 5, hash: 42, weight: NonZeroU32::MIN });
    assert_eq!(candidates.winner(7), Some(3));
    candidates.equal = false;
    assert_eq!(candidates.winner(7), Some(3));
}

fn cluster() -> impl Strategy<Value = Vec<Member>> {
    let parts = (0_u64..12, 1_u32..4, any::<bool>(), any::<bool>());
    proptest::collection::vec(parts, 0..10).prop_map(|members| {
        let of = |(port, weight, greets, prints): (u64, u32, bool, bool)| {
            let mut member = weighing(member(port), weight);
            let kinds = [(greets, KIND), (prints, "printer")];
            member.kinds = Arc::new(kinds.iter().filter(|(hosts, _)| *hosts).map(|(_, kind)| (*kind).into()).collect());
            member
        };
        members.into_iter().map(of).collect()
    })
}

proptest! {
    // proves VA-1.1
    #[test]
    fn the_owner_is_that_of_the_definition_in_whatever_order_members_come(cluster in cluster(), keys in any::<[u16; 8]>()) {
        let mut reversed = cluster.clone();
        reversed.reverse();
        let (one, other) = (rendezvous(cluster), rendezvous(reversed));
        for identity in keys.map(|number| key(number.into())) {
            prop_assert_eq!(one.owner(&identity), reference(one.topology().members(), &identity));
            prop_assert_eq!(one.owner(&identity), other.owner(&identity));
        }
    }

    #[test]
    fn a_member_that_goes_moves_only_its_own_keys(cluster in cluster(), keys in any::<[u16; 16]>()) {
        let before = rendezvous(cluster);
        let Some(leaver) = before.topology().members().first().cloned() else { return Ok(()) };
        let after = rendezvous(before.topology().members()[1..].to_vec());
        for identity in keys.map(|number| key(number.into())) {
            let owner = before.owner(&identity);
            if owner.is_some_and(|owner| owner.id != leaver.id) {
                prop_assert_eq!(owner, after.owner(&identity));
            }
        }
    }

    #[test]
    fn losses_are_what_the_owners_say(
        before in cluster(), others in cluster(), stay in any::<bool>(), keys in any::<[u16; 16]>(),
    ) {
        // Either two clusters of their own, or one in which some members have come or changed.
        let mut after = others;
        if stay {
            let unchanged = before.iter().filter(|member| after.iter().all(|other| other.id != member.id));
            after.extend(unchanged.cloned().collect::<Vec<_>>());
        }
        let (before, after) = (rendezvous(before), rendezvous(after));
        for kind in [KIND, "printer"] {
            for identity in keys.map(|number| ClusterIdentity::new(kind, number.to_string())) {
                let Some(owner) = before.owner(&identity) else { continue };
                let losses = after.losses(&before, kind, owner.id);
                let lost = after.owner(&identity).is_none_or(|now| now.id != owner.id);
                prop_assert_eq!(losses.contains(identity.stable_hash()), lost);
                prop_assert!(!(lost && losses.is_none()));
            }
        }
    }
}
