use core::fmt;
use core::hash::Hasher;

/// FNV-1a, 64 bits, over bytes in a fixed order: the same value on every member, platform and release.
///
/// Only explicit writes exist, because `core::hash::Hash` does not promise its byte order. Variable-length fields are
/// preceded by their length, so that `("a.b", "c")` and `("a", "b.c")` never meet.
pub struct StableHasher(fnv::FnvHasher);

impl StableHasher {
    /// Starts at the FNV offset basis.
    #[must_use]
    pub fn new() -> Self {
        Self(fnv::FnvHasher::default())
    }

    /// Adds one number, big-endian.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.0.write(&value.to_be_bytes());
        self
    }

    /// Adds one number, big-endian.
    #[must_use]
    pub fn u128(mut self, value: u128) -> Self {
        self.0.write(&value.to_be_bytes());
        self
    }

    /// Adds a field of variable length: its length, then its bytes.
    #[must_use]
    pub fn field(self, bytes: &[u8]) -> Self {
        let mut this = self.u64(bytes.len() as u64);
        this.0.write(bytes);
        this
    }

    /// The hash of what was added so far.
    #[must_use]
    pub fn finish(&self) -> u64 {
        self.0.finish()
    }
}

impl fmt::Debug for StableHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StableHasher({:016x})", self.finish())
    }
}

impl Default for StableHasher {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_values_never_change() {
        assert_eq!(StableHasher::new().finish(), 0xcbf2_9ce4_8422_2325);
        assert_eq!(StableHasher::new().field(b"a").field(b"bc").finish(), 0xe6b0_607a_8812_0c30);
    }

    #[test]
    fn fields_of_variable_length_do_not_run_together() {
        let one = StableHasher::new().field(b"a.b").field(b"c").finish();
        let other = StableHasher::new().field(b"a").field(b"b.c").finish();
        assert_ne!(one, other);
    }
}
