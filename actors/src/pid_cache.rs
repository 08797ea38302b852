//! What this node remembers of where grains are.
//!
//! [`PidTable`] is read in place by every request. [`PidCacheActor`] writes it: it looks up what is missing, one lookup
//! for all that wait for the same identity, and forgets what has ended or whose member has left.

mod actor;
mod table;

pub(crate) use self::actor::{PidCacheActor, PidCacheMessage, resolve};
pub(crate) use self::table::{Pid, PidTable};
