//! The story of two nodes, told and asserted by the first of them; the second is another process.

use std::sync::Arc;
use std::time::Duration;

use gristmill::{ClusterActor, ClusterEvent, EventStream, TopologyUpdated};

use crate::Failure;
use crate::child::Other;
use crate::greeter::{GRACE, NAMES, News, TOPIC, config, greet, name_at};

pub(crate) async fn run() -> Result<(), Failure> {
    let config = config("127.0.0.1:0", None)?;
    let mut events = config.events();
    let (cluster, context) = ClusterActor::start_member(config).await?;
    let here = context.address().to_string();
    println!("node 1 is up: {here}");
    topology(&mut events).await?;

    // The second process joins through this one, and calls a greeter that lives here.
    let mut other = Other::start(&["--listen", "127.0.0.1:0", "--seed", &here])?;
    other.says("node 2 is up").await?;
    other.says(&format!("says the greeter at {here}")).await?;
    let updated = topology(&mut events).await?;
    let [joined] = &updated.joined[..] else { return Err(format!("one joins: {updated:?}").into()) };
    let there = joined.address.to_string();
    let count = context.topology().members().len();
    println!("node 1 sees {there} join; members: {count}");
    assert_eq!(count, 2);

    // And the other way round.
    let name = name_at(&context, &there, &NAMES).ok_or("node 2 owns no name")?;
    assert_eq!(greet(&context, name).await?, there);
    let lives = |name: &&str| context.owner(("greeter", *name)).map(|owner| format!("{name} at {}", owner.address));
    println!("where the greeters live: {}", NAMES.iter().filter_map(lives).collect::<Vec<_>>().join(", "));

    // What is published here is heard by both.
    other.says("node 2 listens").await?;
    let mut news = context.subscribe::<News>(TOPIC).await?;
    let receipt = context.publish(TOPIC, News { text: "the mill turns".into() }).await?;
    println!("node 1 publishes: taken by {} of {} nodes", receipt.delivered, receipt.accepted);
    assert_eq!((receipt.accepted, receipt.delivered), (2, 2));
    let heard = news.next().await.ok_or("the subscription has ended")??;
    println!("node 1 hears: {}", heard.text);
    other.says("node 2 hears: the mill turns").await?;

    // The second node leaves in order; its greeter lives here from now on.
    other.end().await?;
    let updated = topology(&mut events).await?;
    let count = updated.topology.members().len();
    println!("node 1 sees {there} leave; members: {count}");
    assert_eq!((count, updated.left.len(), updated.dead.len()), (1, 1, 0));
    assert_eq!(greet(&context, name).await?, here);

    cluster.shutdown(GRACE).await?;
    println!("ok: two_node");
    Ok(())
}

/// The next change of the topology, as this node sees it.
async fn topology(events: &mut EventStream) -> Result<Arc<TopologyUpdated>, Failure> {
    let wait = async {
        while let Some(event) = events.next().await {
            if let ClusterEvent::TopologyUpdated(updated) = event {
                return Ok(updated);
            }
        }
        Err("the node has ended".into())
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.map_err(|_| "the topology does not change")?
}
