//! One node that stays until it is told to end: what runs in each of two terminals.

use gristmill::{ClusterActor, ClusterContext, ClusterEvent, EventStream};

use crate::Failure;
use crate::child::until_told_to_end;
use crate::greeter::{GRACE, NAMES, News, TOPIC, config, greet, name_at};

/// Forms a cluster, and shows who joins and leaves.
pub(crate) async fn first(listen: &str) -> Result<(), Failure> {
    let config = config(listen, None)?;
    tokio::spawn(show_members(config.events()));
    let (cluster, context) = ClusterActor::start_member(config).await?;
    println!("node 1 is up: {}", context.address());
    until_told_to_end().await;
    Ok(cluster.shutdown(GRACE).await?)
}

/// Joins, calls a greeter that lives elsewhere, listens to the news, and leaves in order.
pub(crate) async fn second(listen: &str, seed: &str) -> Result<(), Failure> {
    let (cluster, context) = ClusterActor::start_member(config(listen, Some(seed))?).await?;
    let members = context.topology().members().len();
    println!("node 2 is up: {}, and sees {members} members", context.address());
    assert!(members >= 2, "who has joined knows the others");

    let name = name_at(&context, seed, &NAMES).ok_or("the seed owns no name")?;
    assert_eq!(greet(&context, name).await?, seed);

    show_news(&context).await?;
    until_told_to_end().await;
    println!("node 2 leaves");
    cluster.shutdown(GRACE).await?;
    println!("node 2 has left");
    Ok(())
}

async fn show_news(context: &ClusterContext) -> Result<(), Failure> {
    let mut news = context.subscribe::<News>(TOPIC).await?;
    println!("node 2 listens to the topic {TOPIC:?}");
    tokio::spawn(async move {
        while let Some(Ok(News { text })) = news.next().await {
            println!("node 2 hears: {text}");
        }
    });
    Ok(())
}

async fn show_members(mut events: EventStream) {
    while let Some(event) = events.next().await {
        if let ClusterEvent::TopologyUpdated(updated) = event {
            let count = updated.topology.members().len();
            updated.joined.iter().for_each(|member| println!("{} joins; members: {count}", member.address));
            updated.left.iter().for_each(|member| println!("{} leaves; members: {count}", member.address));
            updated.dead.iter().for_each(|member| println!("{} has died; members: {count}", member.address));
        }
    }
}
