//! A range: batches of commands in; rows, a log entry, replies and effects out. No threads, no I/O but
//! reads.

use std::collections::VecDeque;

use bifrust_model::TenantNumber;
use bifrust_storage::{Read, StorageError, WriteBatch};
use bytes::Bytes;

use crate::lane::Usage;
use crate::log::{Entry, Log};
use crate::meta::{self, Progress, RangeId};
use crate::{Ack, Coprocessor, ExecuteError, KV_META, OpenError, Rows, Then, Wire};

/// A command on its way to a range.
pub(crate) struct Proposal<C: Coprocessor> {
    pub(crate) lane: TenantNumber,
    pub(crate) command: C::Command,
    /// The command as the log keeps it.
    pub(crate) bytes: Bytes,
    pub(crate) ack: Ack,
    pub(crate) done: Done<C>,
}

impl<C: Coprocessor> Proposal<C> {
    /// What it counts for in queues, batches and turns.
    pub(crate) fn size(&self) -> usize {
        /// A command costs work and memory, however short it is.
        const OVERHEAD_BYTES: usize = 128;
        self.bytes.len() + OVERHEAD_BYTES
    }
}

/// One replica of a range with what applies its commands.
pub(crate) struct Range<C> {
    id: RangeId,
    progress_key: Bytes,
    coprocessor: C,
    log: Log,
}

/// What a batch of commands led to.
pub(crate) struct Applied<C: Coprocessor> {
    /// Rows, log entry and progress.
    pub(crate) batch: WriteBatch,
    /// Given once the batch is visible.
    pub(crate) at_once: Replies<C>,
    /// Given once the batch is durable; if there are none, the batch needs no sync of its own.
    pub(crate) durable: Replies<C>,
    pub(crate) effects: Vec<C::Effect>,
}

impl<C: Coprocessor> Range<C> {
    /// Opens the replica at the end of its log. Entries beyond what was applied are applied into the
    /// batches that are returned: write them, in order, before anything is read or applied.
    pub(crate) fn open(
        read: &dyn Read,
        id: RangeId,
        coprocessor: C,
    ) -> Result<(Self, Vec<Entry>), OpenError> {
        let (log, unapplied) = Log::open(read, id, meta::progress(read, id)?)?;
        let range = Self {
            id,
            progress_key: meta::progress_key(id),
            coprocessor,
            log,
        };
        Ok((range, unapplied))
    }

    /// Applies an entry that the log holds already; what it does to the rows. Its proposers are gone,
    /// and leading rebuilds its effects.
    pub(crate) fn recover(
        &mut self,
        read: &dyn Read,
        index: u64,
        entry: Entry,
    ) -> Result<WriteBatch, OpenError> {
        let mut rows = Rows::new(read, C::KEYSPACES);
        let mut effects = Vec::new();
        for bytes in entry.commands {
            let command = C::Command::decode(bytes).map_err(|source| OpenError::Record {
                what: format!("a command in log entry {index} of range {}", self.id.0),
                source,
            })?;
            self.coprocessor.apply(&mut rows, command, &mut effects);
            effects.clear();
        }
        let mut batch = WriteBatch::new();
        rows.finish(&mut batch)?;
        self.note_progress(&mut batch, index);
        Ok(batch)
    }

    /// Index of the last log entry.
    pub(crate) fn last_index(&self) -> u64 {
        self.log.last()
    }

    /// Rebuilds what leader-only effects need.
    pub(crate) fn lead(&mut self, read: &dyn Read) -> Result<Vec<C::Effect>, StorageError> {
        let mut effects = Vec::new();
        self.coprocessor.lead(read, &mut effects)?;
        Ok(effects)
    }

    /// Takes proposals from the front, at least one, and applies them until there are none or they have
    /// written `enough`. After an error nothing may be written of it, its proposers have been told so, and the
    /// range must not be used again.
    pub(crate) fn apply(
        &mut self,
        read: &dyn Read,
        proposals: &mut VecDeque<Proposal<C>>,
        enough: Usage,
    ) -> Result<Applied<C>, StorageError> {
        let mut rows = Rows::new(read, C::KEYSPACES);
        let mut commands = Vec::with_capacity(proposals.len());
        let mut effects = Vec::new();
        let (mut at_once, mut durable) = (Replies::new(), Replies::new());
        while let Some(proposal) = proposals.pop_front() {
            commands.push(proposal.bytes);
            let reply = self
                .coprocessor
                .apply(&mut rows, proposal.command, &mut effects);
            match proposal.ack {
                Ack::Applied => at_once.0.push((proposal.done, reply)),
                Ack::Durable => durable.0.push((proposal.done, reply)),
            }
            if rows.written().items >= enough.items || rows.written().bytes >= enough.bytes {
                break;
            }
        }
        let mut batch = WriteBatch::new();
        if let Err(error) = rows.finish(&mut batch) {
            at_once.refuse(ExecuteError::Stopping);
            durable.refuse(ExecuteError::Stopping);
            return Err(error);
        }
        let index = self.log.append(&mut batch, commands);
        self.note_progress(&mut batch, index);
        Ok(Applied {
            batch,
            at_once,
            durable,
            effects,
        })
    }

    fn note_progress(&self, batch: &mut WriteBatch, applied: u64) {
        let progress = Progress {
            applied,
            term: self.log.term(),
            log_first: self.log.first(),
        };
        batch.put(KV_META, self.progress_key.clone(), progress.encode());
    }
}

/// A proposer's callback. Dropped uncalled, it says that the outcome is unknown.
pub(crate) struct Done<C: Coprocessor>(Option<Then<Outcome<C>>>);

type Outcome<C> = Result<<C as Coprocessor>::Reply, ExecuteError>;

impl<C: Coprocessor> Done<C> {
    pub(crate) fn new(done: Then<Outcome<C>>) -> Self {
        Self(Some(done))
    }

    pub(crate) fn call(mut self, outcome: Outcome<C>) {
        if let Some(done) = self.0.take() {
            done(outcome);
        }
    }
}

impl<C: Coprocessor> Drop for Done<C> {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err(ExecuteError::Unknown));
        }
    }
}

/// Replies that wait for their moment.
pub(crate) struct Replies<C: Coprocessor>(Vec<(Done<C>, C::Reply)>);

impl<C: Coprocessor> Replies<C> {
    fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives all in order.
    pub(crate) fn give(self) {
        for (done, reply) in self.0 {
            done.call(Ok(reply));
        }
    }

    /// Gives the error instead.
    fn refuse(self, error: ExecuteError) {
        for (done, _) in self.0 {
            done.call(Err(error));
        }
    }
}

#[cfg(test)]
mod tests;
