//! smoke
use gristmill::*;
use std::time::Duration;

#[derive(Clone, PartialEq, prost::Message)]
struct Hello {
    #[prost(string, tag = "1")]
    name: String,
}
impl prost::Name for Hello {
    const NAME: &'static str = "Hello";
    const PACKAGE: &'static str = "x";
}

#[derive(Default)]
struct Greeter(u64);
impl Grain for Greeter {
    async fn receive(&mut self, call: Call<'_>, ctx: &GrainContext) -> Result<Reply, GrainError> {
        let h = call.decode::<Hello>()?;
        self.0 += 1;
        Reply::message(&Hello { name: format!("hello {} #{} from {}", h.name, self.0, ctx.cluster().address()) })
    }
}
fn config(seeds: Vec<Address>) -> ClusterConfig {
    ClusterConfig::builder("x").seeds(seeds).kind(Kind::new("greeter", Greeter::default)).build().unwrap()
}
#[tokio::main]
async fn main() {
    let c1 = config(vec![]);
    let mut ev = c1.events();
    tokio::spawn(async move {
        while let Some(e) = ev.next().await {
            println!("1: {e:?}");
        }
    });
    let (a, actx) = ClusterActor::start_member(c1).await.unwrap();
    let r: Hello = actx.request(("greeter", "bob"), Hello { name: "bob".into() }).await.unwrap();
    println!("{r:?}");
    let c2 = config(vec![actx.address().clone()]);
    let t = std::time::Instant::now();
    let (b, bctx) = ClusterActor::start_member(c2).await.unwrap();
    println!("joined in {:?} {:?}", t.elapsed(), bctx.topology());
    tokio::time::sleep(Duration::from_millis(500)).await;
    println!("{:?}", actx.topology());
    for i in 0..6 {
        let r: Result<Hello, _> = bctx.request(("greeter", format!("bob{i}")), Hello { name: "bob".into() }).await;
        println!("{r:?}");
        let r: Result<Hello, _> = actx.request(("greeter", format!("bob{i}")), Hello { name: "bob".into() }).await;
        println!("{r:?}");
    }
    let mut s = bctx.subscribe::<Hello>("room").await.unwrap();
    println!("{:?}", actx.publish("room", Hello { name: "topic".into() }).await);
    println!("{:?}", s.next().await);
    tokio::time::sleep(Duration::from_millis(900)).await;
    println!("{:?}", actx.grain_counts().await);
    println!("{:?}", b.shutdown(Shutdown::graceful(Duration::from_secs(5))).await);
    println!("{:?}", actx.topology());
    println!("{:?}", actx.members().await);
    println!("{:?}", a.shutdown(Shutdown::graceful(Duration::from_secs(5))).await);
}
