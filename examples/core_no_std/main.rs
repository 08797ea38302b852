//! The decisions of a cluster without anything around them: no runtime, no socket, no thread, no clock, no std.
//!
//! ```text
//! $ cargo run --example core_no_std
//!      0 ms  ash    is up
//!      0 ms  ash    sees a topology of 1: ash
//!      2 ms  birch  is up
//!      …
//!    307 ms  cedar  crashes
//!   1500 ms  ash    knows: cedar was up, is suspect
//!      …
//!   6810 ms  ash    runs loaf/rye
//! ok: core_no_std
//! ```
//!
//! `gristmill_core` is made of state machines: an input goes in, effects and events come out, and time is an argument.
//! Here three nodes live through a start, two joins, a crash and a leave. [`world`] performs the effects of their
//! machines by hand, in virtual time: the seven seconds of this story take a few milliseconds. [`story`] says what
//! happens, and asserts it.
//!
//! To learn how a real node does the same, read `actors/src/member_list/actor.rs` and `actors/src/placement/actor.rs`.
#![no_std]

extern crate alloc;
// For one line of output at a time, and for `main`.
extern crate std;

mod story;
mod world;

fn main() {
    story::tell(|line| std::println!("{line}"));
    std::println!("ok: core_no_std");
}
