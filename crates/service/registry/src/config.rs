//! How much the service may keep.

use std::num::NonZeroU64;

/// Bounds of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Tenants that may get a number. Each costs about half a KiB of memory on every node, for good;
    /// 1 to 10,000,000.
    pub tenants_max: NonZeroU64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tenants_max: NonZeroU64::new(100_000).expect("the literal is above 0"),
        }
    }
}
