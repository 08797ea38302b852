//! Two nodes, each a process of its own, over TCP: join, calls in both directions, a topic, a graceful leave.
//!
//! One command shows it all. It starts a second process of itself, asserts what it sees, and fails if that is wrong:
//!
//! ```text
//! $ cargo run --example two_node
//! node 1 is up: 127.0.0.1:43001
//!     other process | node 2 is up: 127.0.0.1:43002, and sees 2 members
//!     other process | hello ada, says the greeter at 127.0.0.1:43001
//! node 1 sees 127.0.0.1:43002 join; members: 2
//! hello bob, says the greeter at 127.0.0.1:43002
//! where the greeters live: ada at 127.0.0.1:43001, bob at 127.0.0.1:43002, …
//!     other process | node 2 listens to the topic "news"
//! node 1 publishes: taken by 2 of 2 nodes
//! node 1 hears: the mill turns
//!     other process | node 2 hears: the mill turns
//!     other process | node 2 leaves
//!     other process | node 2 has left
//! node 1 sees 127.0.0.1:43002 leave; members: 1
//! hello bob, says the greeter at 127.0.0.1:43001
//! ok: two_node
//! ```
//!
//! The same by hand, in two terminals; each runs until Ctrl-C or the end of its stdin:
//!
//! ```text
//! $ cargo run --example two_node -- --listen 127.0.0.1:7701
//! $ cargo run --example two_node -- --listen 127.0.0.1:7702 --seed 127.0.0.1:7701
//! ```

#[path = "../support/child.rs"]
mod child;
mod greeter;
mod node;
mod tour;

type Failure = Box<dyn std::error::Error + Send + Sync>;

// proves TG-4
#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => tour::run().await,
        ["--listen", listen] => node::first(listen).await,
        ["--listen", listen, "--seed", seed] => node::second(listen, seed).await,
        _ => Err("usage: two_node [--listen HOST:PORT [--seed HOST:PORT]]".into()),
    }
}
