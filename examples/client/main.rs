//! A client: it calls grains, publishes and subscribes, but is no member, hosts nothing and needs no port.
//!
//! One command shows it all. It starts a member in a second process of itself, asserts what it sees, and fails if that
//! is wrong:
//!
//! ```text
//! $ cargo run --example client
//!     other process | member is up: 127.0.0.1:43001
//! the client sees 1 member, at 127.0.0.1:43001
//! tally "apples": 3
//! tally "apples": 5
//! tally "pears": 1
//! tally "apples" rejects -1000000: FAILED_PRECONDITION: there are only 5
//! nobody hosts the kind "oracle"
//! tally "apples": 7
//! the client hears: apples: 7
//! the client has left; a call through it says: this node is not running
//!     other process | member saw 1 topology, and no other member
//! ok: client
//! ```
//!
//! The same by hand, in two terminals; the member runs until Ctrl-C or the end of its stdin:
//!
//! ```text
//! $ cargo run --example client -- --member 127.0.0.1:7701
//! $ cargo run --example client -- --seed 127.0.0.1:7701
//! ```

#[path = "../support/child.rs"]
mod child;
mod tally;

use std::time::Duration;

use gristmill::{ClusterActor, ClusterConfig, ClusterEvent, RequestError, Shutdown};

use crate::child::{Other, until_told_to_end};
use crate::tally::{Add, Total};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const CLUSTER: &str = "client-example";
const TOPIC: &str = "totals";
const GRACE: Shutdown = Shutdown::graceful(Duration::from_secs(5));

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => {
            let mut other = Other::start(&["--member", "127.0.0.1:0"])?;
            let up = other.says("member is up: ").await?;
            client(up.trim_start_matches("member is up: ")).await?;
            other.end().await?;
        }
        ["--member", listen] => return member(listen).await,
        ["--seed", seed] => client(seed).await?,
        _ => return Err("usage: client [--member HOST:PORT | --seed HOST:PORT]".into()),
    }
    println!("ok: client");
    Ok(())
}

/// Everything that a client does.
async fn client(member: &str) -> Result<(), Failure> {
    let config = ClusterConfig::builder(CLUSTER).seeds([member]).build()?;
    let (client, context) = ClusterActor::start_client(config).await?;
    let topology = context.topology();
    let [seen] = topology.members() else { return Err(format!("one member: {topology:?}").into()) };
    println!("the client sees 1 member, at {}", seen.address);
    assert_eq!(seen.address.as_str(), member);

    // Calls. A tally is made by its first message, and keeps its sum between them.
    let add = async |name: &str, amount| {
        let Total { sum } = context.request(("tally", name), Add { amount }).await?;
        println!("tally {name:?}: {sum}");
        Ok::<_, RequestError>(sum)
    };
    let before = add("apples", 3).await?;
    assert_eq!(add("apples", 2).await?, before + 2);
    add("pears", 1).await?;

    // A grain's "no" is an answer, and says why. Nothing is tried again.
    match context.request::<_, Total>(("tally", "apples"), Add { amount: -1_000_000 }).await {
        Err(RequestError::Rejected(error)) => println!("tally \"apples\" rejects -1000000: {error}"),
        other => return Err(format!("it takes what is not there: {other:?}").into()),
    }
    match context.request::<_, Total>(("oracle", "delphi"), Add { amount: 1 }).await {
        Err(RequestError::UnknownKind { kind }) => println!("nobody hosts the kind \"{kind}\""),
        other => return Err(format!("there is no oracle: {other:?}").into()),
    }

    // A topic: what the tally publishes reaches the client, which listens on no port.
    let mut totals = context.subscribe::<Total>(TOPIC).await?;
    let sum = add("apples", 2).await?;
    let heard = tokio::time::timeout(Duration::from_secs(20), totals.next()).await.map_err(|_| "it hears nothing")?;
    let heard = heard.ok_or("the subscription has ended")??;
    println!("the client hears: apples: {}", heard.sum);
    assert_eq!(heard.sum, sum);

    client.shutdown(GRACE).await?;
    let late = context.request::<_, Total>(("tally", "apples"), Add { amount: 1 }).await;
    assert_eq!(late, Err(RequestError::NotRunning));
    println!("the client has left; a call through it says: {}", RequestError::NotRunning);
    Ok(())
}

/// The member that the client calls. It never sees the client as a member.
async fn member(listen: &str) -> Result<(), Failure> {
    let config = ClusterConfig::builder(CLUSTER).listen(listen).kind(tally::kind()).build()?;
    let mut events = config.events();
    let (member, context) = ClusterActor::start_member(config).await?;
    println!("member is up: {}", context.address());
    until_told_to_end().await;
    member.shutdown(GRACE).await?;

    let mut topologies = 0;
    while let Some(event) = events.next().await {
        match event {
            ClusterEvent::TopologyUpdated(updated) => {
                topologies += 1;
                assert_eq!(updated.topology.members().len(), 1, "a client is no member");
            }
            ClusterEvent::Shutdown | ClusterEvent::ShutdownFailed { .. } => break,
            _ => {}
        }
    }
    println!("member saw {topologies} topology, and no other member");
    Ok(())
}
