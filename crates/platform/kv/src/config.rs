//! Settings of a node's ranges.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// Settings of a node's ranges. None of them can change live.
#[derive(Clone)]
pub struct Config {
    /// Threads that apply commands; ranges are spread over them. More than there are ranges or cores
    /// is waste; 1 to 8.
    pub workers: NonZeroUsize,
    /// Threads that run queries. More lets slow scans hold up fewer quick ones; 1 to 8.
    pub readers: NonZeroUsize,
    /// Commands that may wait in one range; a single lane gets at most half. More rides out longer
    /// syncs, less bounds delay and memory; 1,000 to 1,000,000.
    pub queue_commands_max: usize,
    /// Bytes of commands that may wait in one range; a single lane gets at most half.
    pub queue_bytes_max: usize,
    /// Commands in one batch. More is cheaper under load, less is fairer to small lanes; 64 to 4,096.
    pub batch_commands_max: usize,
    /// Bytes of commands in one batch, exceeded by at most one command; 64 KiB to 16 MiB. They may write
    /// four times as much, before the rest of them becomes the next batch.
    pub batch_bytes_max: usize,
    /// Rows written in one batch, exceeded by at most one command; 1,000 to 100,000.
    pub batch_rows_max: usize,
    /// While a sync runs, a range waits for its end or for this many commands before it builds the next
    /// batch. More is cheaper per command, 1 never waits; 1 to 256.
    pub gather_commands: usize,
    /// Queries that may wait; those of a single tenant get at most half.
    pub queries_max: usize,
    /// Called when rows cannot be read or written any more; it ends the process by default. If it
    /// returns, the range that met the failure refuses everything.
    pub on_fatal: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Default for Config {
    fn default() -> Self {
        const TWO: NonZeroUsize = NonZeroUsize::new(2).expect("2 is not 0");
        Self {
            workers: TWO,
            readers: TWO,
            queue_commands_max: 65_536,
            queue_bytes_max: 128 * 1024 * 1024,
            batch_commands_max: 1_024,
            batch_bytes_max: 1024 * 1024,
            batch_rows_max: 16_384,
            gather_commands: 64,
            queries_max: 16_384,
            on_fatal: Arc::new(|message| {
                // Straight to stderr: the log may be buffered, and nothing runs after this.
                eprintln!("bifrust: fatal failure of a range: {message}");
                std::process::exit(1);
            }),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("workers", &self.workers)
            .field("readers", &self.readers)
            .field("queue_commands_max", &self.queue_commands_max)
            .field("queue_bytes_max", &self.queue_bytes_max)
            .field("batch_commands_max", &self.batch_commands_max)
            .field("batch_bytes_max", &self.batch_bytes_max)
            .field("batch_rows_max", &self.batch_rows_max)
            .field("gather_commands", &self.gather_commands)
            .field("queries_max", &self.queries_max)
            .finish_non_exhaustive()
    }
}
