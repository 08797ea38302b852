//! One node in a process of its own, driven by lines. The end-to-end tests run clusters of these.
//!
//! ```text
//! node [--listen HOST:PORT] [--advertise HOST:PORT] [--seed HOST:PORT]… [--cluster NAME] [--secret TEXT]
//!      [--profile lan|fast|test] [--kind NAME]… [--client] [--rejoin]
//! ```
//!
//! A line on stdin is `TAG COMMAND`; its answer on stdout is `TAG ok …` or `TAG err …`. Commands run side by side, so
//! answers come in any order. Lines that begin with `*` come by themselves:
//!
//! | line | when |
//! | --- | --- |
//! | `* started ADDRESS ID` | it has joined; the address of a client is `-` |
//! | `* failed REASON` | it did not start |
//! | `* event WHAT …` | see [`line_of`] |
//! | `* saw OBSERVATION` | the same as an [`Observation`], where there is one |
//! | `* message TOPIC TEXT` | something was published to a topic that it subscribes to |
//! | `* napping IDENTITY` | a grain has begun to sleep |
//! | `* agreed HASH LOST` | after `agree`: all members go by this topology, or `-`; how often they have fallen out |
//!
//! | command | answer |
//! | --- | --- |
//! | `call KIND IDENTITY MILLISECONDS TEXT` | `MEMBER TURN TEXT`: the address and turn of the grain that echoed it |
//! | `nap KIND IDENTITY MILLISECONDS NAP` | the same, but the grain sleeps for `NAP` milliseconds first |
//! | `fill KIND IDENTITY MILLISECONDS BYTES` | `MEMBER TURN BYTES`: the same with a text of so many bytes, which comes back |
//! | `where KIND IDENTITY` | the address of the owner |
//! | `topology` | `HASH ADDRESS=ID…`, sorted |
//! | `members` | `ADDRESS=STATUS=ID…`, sorted; members that have left or died too |
//! | `kinds ADDRESS` | the kinds of a member of the topology, sorted |
//! | `count KIND` | `ADDRESS=GRAINS…`, sorted: what the members say of themselves |
//! | `metrics` | everything it has counted |
//! | `set KEY TEXT` | nothing; its own value of the key is the text |
//! | `get KEY` | `ID=TEXT…`, sorted: the value of each member |
//! | `agree` | `HASH`: the topology that all members go by; waits for it, and goes on to tell of changes |
//! | `explain ID` | `OUTCOME ACCUSER=EVIDENCE…`: how the latest suspicion of a member ended, and who accused it |
//! | `subscribe TOPIC` | nothing |
//! | `clock` | seconds since 1970, as this process sees it |
//! | `publish TOPIC TEXT` | `SENT DELIVERED`: numbers of subscribing nodes |
//! | `leave` | nothing; it has left in order, and its port is free |
//!
//! It ends when stdin is closed, and only then: also when it did not start, so that a test can look for what is left.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::BufRead as _;
use std::num::NonZeroUsize;
use std::time::Duration;

use gristmill::{
    Call, Cluster, ClusterActor, ClusterConfig, ClusterContext, ClusterEvent, Downing, EventStream, Grain,
    GrainContext, GrainError, Kind, Member, OnEviction, Reply, Shutdown, StartError, SuspicionOutcome, Timing,
    TransportConfig,
};
use gristmill_core::membership;
use gristmill_testkit::Observation;
use tokio::sync::mpsc;

/// Events that may wait to be printed.
const EVENTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1 << 16);

/// For how long `agree` waits.
const AGREEMENT: Duration = Duration::from_secs(30);

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut commands = lines_of_stdin();
    let options = Options::parse(std::env::args().skip(1))?;
    let client = options.client;
    let config = options.config()?;
    tokio::spawn(tell(config.events()));
    match start(client, config).await {
        Ok((cluster, context)) => {
            let cluster = std::sync::Arc::new(cluster);
            let address = if client { "-" } else { context.address().as_str() };
            println!("* started {address} {}", context.id());
            while let Some(line) = commands.recv().await {
                let (cluster, context) = (std::sync::Arc::clone(&cluster), context.clone());
                tokio::spawn(async move {
                    let (tag, command) = line.split_once(' ').unwrap_or((&line, ""));
                    match obey(&cluster, &context, command).await {
                        Ok(answer) => println!("{tag} ok {answer}"),
                        Err(error) => println!("{tag} err {error}"),
                    }
                });
            }
        }
        Err(error) => {
            println!("* failed {error}");
            while commands.recv().await.is_some() {}
        }
    }
    Ok(())
}

async fn start(client: bool, config: ClusterConfig) -> Result<(Cluster, ClusterContext), StartError> {
    if client { ClusterActor::start_client(config).await } else { ClusterActor::start_member(config).await }
}

async fn obey(cluster: &Cluster, context: &ClusterContext, command: &str) -> Result<String, Failure> {
    let mut words = command.split(' ');
    let verb = words.next().unwrap_or_default();
    let mut word = || words.next().ok_or_else(|| format!("{command:?} is too short"));
    match verb {
        "call" => {
            let (kind, identity, timeout) = (word()?, word()?, Duration::from_millis(word()?.parse()?));
            let text = words.collect::<Vec<_>>().join(" ");
            say(context, (kind, identity), timeout, Say { text, nap_milliseconds: 0 }).await
        }
        "nap" => {
            let (kind, identity, timeout) = (word()?, word()?, Duration::from_millis(word()?.parse()?));
            let nap_milliseconds = word()?.parse()?;
            say(context, (kind, identity), timeout, Say { text: "slept".into(), nap_milliseconds }).await
        }
        "fill" => {
            let (kind, identity, timeout) = (word()?, word()?, Duration::from_millis(word()?.parse()?));
            let text = "x".repeat(word()?.parse()?);
            let said = echo(context, (kind, identity), timeout, Say { text, nap_milliseconds: 0 }).await?;
            Ok(format!("{} {} {}", said.member, said.turn, said.text.len()))
        }
        "where" => {
            let owner = context.owner((word()?, word()?)).ok_or("nobody")?;
            Ok(owner.address.to_string())
        }
        "topology" => {
            let topology = context.topology();
            let line = |member: &Member| format!("{}={}", member.address, member.id);
            Ok(format!("{} {}", topology.hash(), sorted(topology.members().iter().map(line))))
        }
        "members" => {
            let members = context.members().await?;
            let line =
                |info: &gristmill::MemberInfo| format!("{}={}={}", info.member.address, info.status, info.member.id);
            Ok(sorted(members.iter().map(line)))
        }
        "kinds" => {
            let (address, topology) = (word()?, context.topology());
            let member = topology.members().iter().find(|member| member.address.as_str() == address);
            Ok(sorted(member.ok_or("no such member")?.kinds.iter()))
        }
        "count" => {
            let (kind, topology, counts) = (word()?, context.topology(), context.grain_counts().await?);
            let count = |member: &Member| {
                let count = counts.get(&member.id).and_then(|counts| counts.get(kind));
                format!("{}={}", member.address, count.unwrap_or(&0))
            };
            Ok(sorted(topology.members().iter().map(count)))
        }
        "clock" => Ok(seconds_since_1970().to_string()),
        "metrics" => Ok(format!("{:?}", context.metrics()?)),
        "set" => {
            let (key, text) = (word()?, words.collect::<Vec<_>>().join(" "));
            context.gossip().set(key, &text).await?;
            Ok(String::new())
        }
        "get" => {
            let values = context.gossip().get::<String>(word()?).await?;
            Ok(sorted(values.iter().map(|(member, text)| format!("{member}={text}"))))
        }
        "agree" => {
            let mut handle = context.gossip().topology_consensus().await?;
            let hash = handle.wait(AGREEMENT).await?;
            tokio::spawn(async move {
                while let Ok(agreed) = handle.changed().await {
                    let hash = agreed.map_or_else(|| "-".to_owned(), |hash| hash.to_string());
                    println!("* agreed {hash} {}", handle.times_lost());
                }
            });
            Ok(hash.to_string())
        }
        "explain" => {
            let explanation = context.explain(word()?.parse()?).await?.ok_or("never suspected")?;
            let outcome = match explanation.outcome {
                None => "lasts",
                Some(SuspicionOutcome::Refuted { .. }) => "refuted",
                Some(SuspicionOutcome::Dead { .. }) => "dead",
                Some(SuspicionOutcome::Removed { .. }) => "removed",
            };
            let accusations = explanation.accusations.iter();
            Ok(format!("{outcome} {}", sorted(accusations.map(|it| format!("{}={:?}", it.by, it.evidence)))))
        }
        "subscribe" => {
            let topic = word()?.to_owned();
            let mut messages = context.subscribe::<Say>(&topic).await?;
            tokio::spawn(async move {
                while let Some(message) = messages.next().await {
                    match message {
                        Ok(message) => println!("* message {topic} {}", message.text),
                        Err(error) => println!("* message {topic} {error}"),
                    }
                }
            });
            Ok(String::new())
        }
        "publish" => {
            let (topic, text) = (word()?, words.collect::<Vec<_>>().join(" "));
            let receipt = context.publish(topic, Say { text, nap_milliseconds: 0 }).await?;
            Ok(format!("{} {}", receipt.accepted, receipt.delivered))
        }
        "leave" => {
            cluster.shutdown(Shutdown::graceful(Duration::from_secs(10))).await?;
            Ok(String::new())
        }
        _ => Err(format!("no such command: {command:?}").into()),
    }
}

async fn say(
    context: &ClusterContext,
    grain: (&str, &str),
    timeout: Duration,
    message: Say,
) -> Result<String, Failure> {
    let said = echo(context, grain, timeout, message).await?;
    Ok(format!("{} {} {}", said.member, said.turn, said.text))
}

/// Errors are told by their variant, as `Debug` writes it, which is what tests ask for.
async fn echo(context: &ClusterContext, grain: (&str, &str), timeout: Duration, message: Say) -> Result<Said, Failure> {
    let asked = context.grain(grain).deadline(timeout).request(message).await;
    Ok(asked.map_err(|error| format!("{error:?}"))?)
}

async fn tell(mut events: EventStream) {
    while let Some(event) = events.next().await {
        println!("* event {}", line_of(&event));
        if let Some(seen) = Observation::of(&event) {
            println!("* saw {seen}");
        }
    }
}

/// Members by their addresses, which tests know, blocked ones by their ids; other events as `Debug` writes them.
fn line_of(event: &ClusterEvent) -> String {
    match event {
        ClusterEvent::TopologyUpdated(updated) => {
            let addresses = |members: &[Member]| sorted(members.iter().map(|member| &member.address));
            let (members, joined) = (addresses(updated.topology.members()), addresses(&updated.joined));
            let (left, dead) = (addresses(&updated.left), addresses(&updated.dead));
            let blocked = sorted(updated.blocked.iter());
            format!("topology members [{members}] joined [{joined}] left [{left}] dead [{dead}] blocked [{blocked}]")
        }
        ClusterEvent::BlockListApplied { entries, blocked } => {
            format!("applied {entries} blocked [{}]", sorted(blocked.iter()))
        }
        ClusterEvent::PidCacheCleared { member, entries } => format!("cleared {entries} of {member}"),
        ClusterEvent::MemberStatusChanged { member, from, to, .. } => {
            let from = from.map_or_else(|| "unknown".to_owned(), |from| from.to_string());
            format!("status {} {from} {to}", member.address)
        }
        ClusterEvent::MemberQuarantined { member, reason, .. } => format!("quarantined {} {reason}", member.address),
        other => format!("{other:?}"),
    }
}

/// By the wall clock, which tests turn and nothing else looks at.
fn seconds_since_1970() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn sorted(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
}

/// The lines of stdin. They are read by a thread that nothing waits for, so that an end of `main` ends the process.
fn lines_of_stdin() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

struct Options {
    listen: String,
    advertise: Option<String>,
    seeds: Vec<String>,
    cluster: String,
    secret: Option<String>,
    profile: String,
    kinds: Vec<String>,
    client: bool,
    rejoin: bool,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = Self {
            listen: "127.0.0.1:0".into(),
            advertise: None,
            seeds: Vec::new(),
            cluster: "e2e".into(),
            secret: None,
            profile: "lan".into(),
            kinds: Vec::new(),
            client: false,
            rejoin: false,
        };
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--listen" => options.listen = value()?,
                "--advertise" => options.advertise = Some(value()?),
                "--seed" => options.seeds.push(value()?),
                "--cluster" => options.cluster = value()?,
                "--secret" => options.secret = Some(value()?),
                "--profile" => options.profile = value()?,
                "--kind" => options.kinds.push(value()?),
                "--client" => options.client = true,
                "--rejoin" => options.rejoin = true,
                _ => return Err(format!("no such flag: {flag}").into()),
            }
        }
        Ok(options)
    }

    fn config(self) -> Result<ClusterConfig, Failure> {
        let (timing, transport) = match self.profile.as_str() {
            "lan" => (Timing::lan(), TransportConfig::lan()),
            "fast" => (fast(), TransportConfig::lan()),
            "test" => (Timing::test(), TransportConfig::test()),
            other => return Err(format!("no such profile: {other}").into()),
        };
        let mut builder = ClusterConfig::builder(self.cluster)
            .listen(self.listen)
            .seeds(self.seeds)
            .timing(timing)
            .event_buffer(EVENTS)
            .transport(transport);
        if self.profile == "fast" {
            // As long as with the others: what a machine under load costs does not depend on the timing.
            builder = builder.downing(Downing::keep_majority().margin(Duration::from_millis(2500)));
        }
        if let Some(address) = self.advertise {
            builder = builder.advertise(address);
        }
        if self.rejoin {
            builder = builder.on_eviction(OnEviction::Rejoin);
        }
        if let Some(secret) = self.secret {
            builder = builder.secret(secret);
        }
        for kind in self.kinds {
            builder = builder.kind(Kind::new(kind, Echo::default).idle_after(None));
        }
        Ok(builder.build()?)
    }
}

/// Fast to notice, but on a network and for processes that may be slow for a moment. Partitions heal as fast as tests
/// want it.
fn fast() -> Timing {
    let membership = membership::Config { contact_interval: Duration::from_secs(1), ..membership::Config::fast_lan() };
    Timing { membership, rediscovery: Duration::from_secs(1), ..Timing::lan() }
}

/// Counts its turns, so that a test sees whether it is still the same activation.
#[derive(Debug, Default)]
struct Echo {
    turns: u64,
}

impl Grain for Echo {
    async fn receive(&mut self, call: Call<'_>, context: &GrainContext) -> Result<Reply, GrainError> {
        let Say { text, nap_milliseconds } = call.decode()?;
        if nap_milliseconds > 0 {
            println!("* napping {}", context.identity().identity);
            tokio::time::sleep(Duration::from_millis(nap_milliseconds)).await;
        }
        self.turns += 1;
        Reply::message(&Said { text, member: context.cluster().address().to_string(), turn: self.turns })
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Say {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(uint64, tag = "2")]
    nap_milliseconds: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Said {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(string, tag = "2")]
    member: String,
    #[prost(uint64, tag = "3")]
    turn: u64,
}

impl prost::Name for Say {
    const NAME: &'static str = "Say";
    const PACKAGE: &'static str = "e2e";
}

impl prost::Name for Said {
    const NAME: &'static str = "Said";
    const PACKAGE: &'static str = "e2e";
}
