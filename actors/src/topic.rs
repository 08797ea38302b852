//! The topic kind: one grain per topic, a ractor actor behind the grains' door.
pub(crate) const KIND: &str = "topic";
pub(crate) const RENEWAL: std::time::Duration = std::time::Duration::from_secs(10);
pub(crate) fn kind() -> crate::Kind { todo!() }
