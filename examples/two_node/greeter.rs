//! What both nodes have in common: the messages, the grain, and the configuration.

use std::time::Duration;

use gristmill::{
    Call, ClusterConfig, ClusterContext, ConfigError, Grain, GrainContext, GrainError, Kind, Reply, RequestError,
    Shutdown,
};

pub(crate) const TOPIC: &str = "news";
pub(crate) const GRACE: Shutdown = Shutdown::graceful(Duration::from_secs(5));

/// A virtual actor: it exists by its name, on one of the members; nobody creates it.
#[derive(Default)]
struct Greeter;

impl Grain for Greeter {
    async fn receive(&mut self, call: Call<'_>, context: &GrainContext) -> Result<Reply, GrainError> {
        let _: Hello = call.decode()?;
        let name = context.identity().identity.clone();
        Reply::message(&Greeting { name, member: context.cluster().address().to_string() })
    }
}

/// A member that hosts greeters. Without a seed it forms a cluster of its own.
pub(crate) fn config(listen: &str, seed: Option<&str>) -> Result<ClusterConfig, ConfigError> {
    ClusterConfig::builder("two-node-example")
        .listen(listen)
        .seeds(seed)
        .kind(Kind::new("greeter", Greeter::default))
        .build()
}

/// Calls the greeter of this name, wherever it lives, and returns where that is.
pub(crate) async fn greet(cluster: &ClusterContext, name: &str) -> Result<String, RequestError> {
    let Greeting { name, member } = cluster.request(("greeter", name), Hello {}).await?;
    println!("hello {name}, says the greeter at {member}");
    Ok(member)
}

/// The first of these names whose greeter lives at `member`. Who owns a name follows from the members alone, so that
/// every node computes the same.
pub(crate) fn name_at<'a>(cluster: &ClusterContext, member: &str, names: &[&'a str]) -> Option<&'a str> {
    let lives_there =
        |name: &&&str| cluster.owner(("greeter", **name)).is_some_and(|owner| owner.address.as_str() == member);
    names.iter().find(lives_there).copied()
}

pub(crate) const NAMES: [&str; 16] = [
    "ada", "bob", "carl", "dora", "emil", "fay", "gus", "hal", "ida", "jon", "kim", "leo", "mia", "ned", "olga", "pia",
];

#[derive(Clone, PartialEq, prost::Message)]
struct Hello {}

#[derive(Clone, PartialEq, prost::Message)]
struct Greeting {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    member: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct News {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
}

macro_rules! name {
    ($($message:ident)*) => {$(
        impl prost::Name for $message {
            const PACKAGE: &'static str = "example";
            const NAME: &'static str = stringify!($message);
        }
    )*};
}

name! { Hello Greeting News }
