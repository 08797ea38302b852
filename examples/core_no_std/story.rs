//! What happens, and what must be true of it.

use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use gristmill_core::placement::Refusal;
use gristmill_messages::{ClusterIdentity, MemberId};

use crate::world::World;

/// Tells a cluster's life, a line at a time.
pub(crate) fn tell(say: impl FnMut(fmt::Arguments<'_>)) {
    let mut world = World::new(say);
    let loaves: Vec<ClusterIdentity> =
        ["rye", "wheat", "spelt", "oat", "barley", "millet", "corn", "rice", "emmer", "einkorn", "teff", "durum"]
            .map(|name| ClusterIdentity::new("loaf", name))
            .into();

    // The first seed of the list that finds no other forms the cluster; the others join through it.
    let ash = world.start("ash", "loaf", &[]);
    let (birch, cedar) = (world.start("birch", "loaf", &["ash"]), world.start("cedar", "loaf", &["ash"]));
    assert!(settles(&mut world, &[ash, birch, cedar]));
    assert!(world.now().since_origin() < Duration::from_secs(1), "a join is a matter of round trips");

    // The same members, so the same owners, computed by each node for itself.
    for loaf in &loaves {
        let owner = world.owner(ash, loaf);
        assert!(owner.is_some());
        assert!([birch, cedar].iter().all(|node| world.owner(*node, loaf) == owner), "all agree who owns {loaf}");
    }
    let owned_by = |world: &World<_>, owner: MemberId| -> Vec<ClusterIdentity> {
        loaves.iter().filter(|loaf| world.owner(ash, loaf) == Some(owner)).cloned().collect()
    };
    for node in [ash, birch, cedar] {
        let owned = owned_by(&world, node);
        let names: Vec<&str> = owned.iter().map(|loaf| loaf.identity.as_str()).collect();
        world.say(node, format_args!("owns {}", names.join(", ")));
    }
    let (of_birch, of_cedar) = (owned_by(&world, birch), owned_by(&world, cedar));
    let (Some(loaf_of_birch), Some(loaf_of_cedar)) = (of_birch.first(), of_cedar.first()) else {
        panic!("twelve loaves leave none of three members without one");
    };

    // Only its owner runs a grain, and only once. Any other node says who that is.
    let first = world.request(cedar, loaf_of_cedar);
    assert!(first.is_ok());
    assert_eq!(world.request(cedar, loaf_of_cedar), first, "the same activation");
    assert!(world.request(birch, loaf_of_birch).is_ok());
    match world.request(ash, loaf_of_cedar) {
        Err(refusal @ Refusal::NotOwner { .. }) => {
            world.say(ash, format_args!("refuses {loaf_of_cedar}: {refusal}"));
            assert!(matches!(refusal, Refusal::NotOwner { owner: Some(owner) } if owner.id == cedar));
        }
        other => panic!("ash does not own {loaf_of_cedar}: {other:?}"),
    }

    // A crash is noticed by probes, judged after a suspicion, and moves what cedar owned, nothing else.
    let crashed_at = world.now();
    world.crash(cedar);
    assert!(settles(&mut world, &[ash, birch]));
    let noticed_after = world.now().since(crashed_at);
    assert!(Duration::from_secs(4) < noticed_after && noticed_after < Duration::from_secs(10), "{noticed_after:?}");
    assert!(of_birch.iter().all(|loaf| world.owner(ash, loaf) == Some(birch)), "what birch owned stays there");
    assert_eq!(world.activations(birch), 1, "and runs on");
    let Some(heir) = world.owner(ash, loaf_of_cedar) else { panic!("somebody inherits {loaf_of_cedar}") };
    assert!(world.request(heir, loaf_of_cedar).is_ok(), "activated anew");

    // A leave is not a crash: it takes no suspicion, and the grains end before the member does.
    let left_at = world.now();
    world.leave(birch);
    assert_eq!(world.request(birch, loaf_of_birch), Err(Refusal::ShuttingDown));
    assert!(settles(&mut world, &[ash]));
    assert!(world.run_until(|world| world.has_left(birch)));
    assert!(world.now().since(left_at) < Duration::from_secs(3));
    assert_eq!(world.activations(birch), 0);
    assert!(world.request(ash, loaf_of_birch).is_ok());
    assert!(loaves.iter().all(|loaf| world.owner(ash, loaf) == Some(ash)), "who is alone owns everything");
}

/// Whether these nodes come to see the same topology, which is these nodes.
fn settles(world: &mut World<impl FnMut(fmt::Arguments<'_>)>, nodes: &[MemberId]) -> bool {
    world.run_until(|world| {
        let topologies = nodes.iter().map(|node| world.topology(*node));
        let hashes: Vec<_> = topologies.clone().map(|topology| topology.hash()).collect();
        let complete = |topology: &gristmill_core::topology::Topology| {
            topology.members().len() == nodes.len() && nodes.iter().all(|node| topology.member(*node).is_some())
        };
        topologies.clone().all(|topology| complete(&topology))
            && hashes.windows(2).all(|pair| pair.first() == pair.last())
    })
}
