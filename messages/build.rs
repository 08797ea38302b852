//! Compiles `proto/` with protox, so that no `protoc` is needed.
#![allow(clippy::expect_used)] // a build script reports by failing

const FILES: [&str; 7] =
    ["actor.proto", "cluster.proto", "gossip.proto", "grain.proto", "membership.proto", "pubsub.proto", "remote.proto"];

fn main() {
    println!("cargo::rerun-if-changed=../proto");
    let descriptors = protox::compile(FILES, ["../proto"]).expect("proto/ compiles");
    prost_build::Config::new()
        .bytes(["."])
        .btree_map(["."])
        .enable_type_names()
        .compile_fds(descriptors)
        .expect("generated code can be written");
}
