//! What a service brings along to be hosted.

use bifrust_storage::{Keyspace, Read, StorageError};

use crate::{Rows, Wire};

/// Called exactly once, on any thread, also before the call that it was given to returns. It must not
/// block.
pub type Then<T> = Box<dyn FnOnce(T) + Send>;

/// The deterministic part of a service: what commands do to rows, and what rows answer.
///
/// Every command is idempotent in its own domain: applied again, also late, it changes nothing more.
pub trait Coprocessor: Send + 'static {
    /// Goes to the range's log and is applied deterministically.
    type Command: Wire;
    /// What the proposer hears.
    type Reply: Send + 'static;
    /// A consequence that only the leader acts on.
    type Effect: Send + 'static;
    /// What can be asked.
    type Query: Send + 'static;
    /// What is answered.
    type Answer: Send + 'static;

    /// Name of the service: "dist", "inbox", "retain", "registry". Stored, so it stays as it is.
    const NAME: &'static str;

    /// Where its rows are. No other service writes there.
    const KEYSPACES: &'static [Keyspace];

    /// Changes rows. It reads rows and the command (stamps inside), no clock and no random source, and
    /// may keep caches that are derived from rows only.
    ///
    /// Keys must not be empty nor exceed `KEY_BYTES_MAX` of the storage: that stops the range.
    fn apply(
        &mut self,
        rows: &mut Rows<'_>,
        command: Self::Command,
        effects: &mut Vec<Self::Effect>,
    ) -> Self::Reply;

    /// Reads rows, all as of one point in time, on a reader thread.
    fn query(read: &dyn Read, query: Self::Query) -> Result<Self::Answer, StorageError>;

    /// The largest key at or below `key` at which the range may be split.
    fn align_split(key: &[u8]) -> Vec<u8>;

    /// Called once when this replica becomes leader (for one voter: when it is opened), before any
    /// command: rebuilds what leader-only effects need.
    fn lead(
        &mut self,
        read: &dyn Read,
        effects: &mut Vec<Self::Effect>,
    ) -> Result<(), StorageError> {
        let _ = (read, effects);
        Ok(())
    }

    /// Whether the command makes room, so that it is taken below the free-space floor as well.
    fn frees_space(command: &Self::Command) -> bool {
        let _ = command;
        false
    }
}

/// When the reply is given.
///
/// Effects of a command are handed over before its `Durable` reply. An `Applied` reply may come before
/// the effects of its command, when older effects of the range still wait for their sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// After the sync that covers it.
    Durable,
    /// Once every later read and query sees it; it may be lost with the node.
    Applied,
}
