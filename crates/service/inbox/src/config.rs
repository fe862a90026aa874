//! How much the service may keep and do at once.

use std::num::NonZeroUsize;
use std::time::Duration;

/// Bounds of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Memory for what is known of sessions in use, about half a KiB each and 4 bytes per queued
    /// message. Less means that sessions used again after a while are read again; 8 MiB to 4 GiB.
    pub heads_bytes_max: usize,
    /// Sessions in one insert. More makes batches that others wait for, less repeats the message in
    /// more commands; 16 to 4,096.
    pub targets_max: NonZeroUsize,
    /// Bytes that one insert may write, exceeded only by a single message; 1 MiB to 64 MiB.
    pub insert_bytes_max: usize,
    /// Wills, expiries and sweeps under way at once. More ends a restart's work sooner and leaves
    /// less to clients meanwhile; 16 to 4,096.
    pub chores_max: NonZeroUsize,
    /// How often rows are searched for what comes due. More often bounds memory, less often saves
    /// reads; 1 to 60 minutes.
    pub scan_every: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let positive = |n| NonZeroUsize::new(n).expect("the literals are above 0");
        Self {
            heads_bytes_max: 64 << 20,
            targets_max: positive(512),
            insert_bytes_max: 8 << 20,
            chores_max: positive(256),
            scan_every: Duration::from_secs(600),
        }
    }
}
