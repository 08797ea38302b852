//! How long it takes to find owners: 10,000 identities over 128 and over 1,000 members, and a table of activations
//! under a topology that changes.

#![allow(missing_docs, clippy::expect_used)]

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gristmill_core::placement::Rendezvous;
use gristmill_core::placement::activations::{Activations, Config, Effect, Input};
use gristmill_core::topology::Topology;
use gristmill_core::{KindName, Member, Outbox, RequestId, Timestamp};
use gristmill_messages::{ClusterIdentity, MemberId, TopologyVersion};

const IDENTITIES: u32 = 10_000;

fn topology(version: u64, members: u32, weighted: bool) -> Arc<Topology> {
    let member = |number: u32| {
        let id = MemberId::new(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        let mut member = Member::new(id, format!("10.0.0.1:{number}"), [KindName::from("greeter")]);
        if weighted {
            member.weight = NonZeroU32::MIN.saturating_add(number % 3);
        }
        member
    };
    Arc::new(Topology::new(TopologyVersion::new(version), (1..=members).map(member).collect(), vec![]))
}

fn identities() -> Vec<ClusterIdentity> {
    (0..IDENTITIES).map(|number| ClusterIdentity::new("greeter", number.to_string())).collect()
}

fn owners(criterion: &mut Criterion) {
    let identities = identities();
    let mut group = criterion.benchmark_group("owners of 10,000 identities");
    group.throughput(Throughput::Elements(IDENTITIES.into())).sample_size(20);
    for (members, weighted) in [(128, false), (1_000, false), (128, true)] {
        let rendezvous = Rendezvous::new(topology(1, members, weighted));
        let name = format!("{members} members{}", if weighted { ", weighted" } else { "" });
        group.bench_function(name, |bencher| {
            bencher.iter(|| identities.iter().filter_map(|identity| rendezvous.owner(black_box(identity))).count());
        });
    }
    group.finish();
    criterion.bench_function("candidates of 128 members", |bencher| {
        let topology = topology(1, 128, false);
        bencher.iter(|| Rendezvous::new(Arc::clone(black_box(&topology))));
    });
}

fn activated(identities: &[ClusterIdentity]) -> Activations {
    let topology = topology(1, 127, false);
    let me = topology.members().first().expect("127 members").id;
    let rendezvous = Arc::new(Rendezvous::new(topology));
    let mine = |identity: &&ClusterIdentity| rendezvous.owner(identity).is_some_and(|owner| owner.id == me);
    let mut activations = Activations::new(Config::lan(), me);
    let (now, mut out) = (Timestamp::ZERO, Outbox::new());
    activations.handle(now, Input::TopologyChanged { rendezvous: Arc::clone(&rendezvous) }, &mut out);
    for (request, identity) in (1..).zip(identities.iter().filter(mine)) {
        let requested = Input::Requested { request: RequestId::new(request), identity: identity.clone().into() };
        activations.handle(now, requested, &mut out);
        let spawned: Vec<_> = out.drain_effects().collect();
        for effect in spawned {
            if let Effect::Spawn { activation, .. } = effect {
                activations.handle(now, Input::Activated { activation }, &mut out);
            }
        }
        out.drain_effects().for_each(drop);
        out.drain_events().for_each(drop);
    }
    activations
}

fn table(criterion: &mut Criterion) {
    // Of these, one in 127 is this node's.
    let identities: Vec<_> =
        (0..1_270_000).map(|number: u32| ClusterIdentity::new("greeter", number.to_string())).collect();
    let joined = Arc::new(Rendezvous::new(topology(2, 128, false)));
    let mut group = criterion.benchmark_group("activations");
    group.sample_size(10);
    group.bench_function("10,000 activations when a member joins 127", |bencher| {
        bencher.iter_batched(
            || activated(&identities),
            |mut activations| {
                let mut out = Outbox::new();
                let changed = Input::TopologyChanged { rendezvous: Arc::clone(&joined) };
                activations.handle(Timestamp::ZERO, changed, &mut out);
                (activations, out)
            },
            BatchSize::PerIteration,
        );
    });
    let alone = topology(1, 1, false);
    let me = alone.members().first().expect("one member").id;
    let alone = Arc::new(Rendezvous::new(alone));
    let some: Vec<_> = identities.into_iter().take(100_000).collect();
    group.throughput(Throughput::Elements(100_000));
    group.bench_function("100,000 identities activated", |bencher| {
        bencher.iter_batched(
            || some.clone(),
            |identities| {
                let mut activations = Activations::new(Config::lan(), me);
                let (now, mut out) = (Timestamp::ZERO, Outbox::new());
                activations.handle(now, Input::TopologyChanged { rendezvous: Arc::clone(&alone) }, &mut out);
                for (request, identity) in (1..).zip(identities) {
                    let request = RequestId::new(request);
                    activations.handle(now, Input::Requested { request, identity: identity.into() }, &mut out);
                    let spawned = out.drain_effects().find_map(|effect| match effect {
                        Effect::Spawn { activation, .. } => Some(activation),
                        _ => None,
                    });
                    let activation = spawned.expect("it owns everything");
                    activations.handle(now, Input::Activated { activation }, &mut out);
                    out.drain_effects().for_each(drop);
                    out.drain_events().for_each(drop);
                }
                activations
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, owners, table);
criterion_main!(benches);
