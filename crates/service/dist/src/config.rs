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
    /// Bytes of the gaps between routes that are remembered, about 160 each: in which no topic leads
    /// anywhere. More saves reads for topics that are new and lead nowhere; 1 MiB to 64 MiB.
    pub gaps_bytes_max: usize,
}

impl Config {
    /// Matches and gaps of so many bytes.
    pub fn within(cache_bytes: usize, gaps_bytes: usize) -> Self {
        let positive = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            cache_entries_max: positive(cache_bytes / ENTRY_BYTES),
            cache_bytes_max: positive(cache_bytes),
            gaps_bytes_max: gaps_bytes,
        }
    }
}

/// The least that a kept match takes: with its place in the index and its names.
const ENTRY_BYTES: usize = 512;

impl Default for Config {
    fn default() -> Self {
        Self::within(64 << 20, 16 << 20)
    }
}
