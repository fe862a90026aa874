//! How much the service may keep.

use std::num::NonZeroUsize;

/// Bounds of the match cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Topics whose matches are kept. More saves reads of routes, at about half a KiB each; 1,000 to
    /// 1,000,000.
    pub cache_entries_max: NonZeroUsize,
    /// Bytes of the matches that are kept. A match that alone is larger is read for each publish; 1 MiB
    /// to 1 GiB.
    pub cache_bytes_max: NonZeroUsize,
}

impl Default for Config {
    fn default() -> Self {
        let positive = |n| NonZeroUsize::new(n).expect("the literals are above 0");
        Self {
            cache_entries_max: positive(100_000),
            cache_bytes_max: positive(64 << 20),
        }
    }
}
