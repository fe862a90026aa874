//! How a service reaches its ranges.

use std::sync::Arc;

use bifrust_model::TenantNumber;
use bifrust_storage::Store;
use bytes::Bytes;

use crate::intake::{Intake, Offered};
use crate::node::Counters;
use crate::range::{Done, Proposal};
use crate::reader::{Queries, QueryJob};
use crate::worker::Bell;
use crate::{Ack, Coprocessor, ExecuteError, QueryError, Then, Wire};

/// Proposes commands to the ranges of one service and queries them; cheap to clone.
pub struct Client<C: Coprocessor> {
    shared: Arc<Shared<C>>,
}

pub(crate) struct Shared<C: Coprocessor> {
    /// By first key; they cover all keys.
    pub(crate) ranges: Vec<Target<C>>,
    pub(crate) store: Store,
    pub(crate) queries: Arc<Queries>,
    pub(crate) counters: Arc<Counters>,
}

/// Where a range takes commands.
pub(crate) struct Target<C: Coprocessor> {
    pub(crate) start: Bytes,
    pub(crate) intake: Arc<Intake<C>>,
    pub(crate) bell: Bell,
}

impl<C: Coprocessor> Clone for Client<C> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<C: Coprocessor> Client<C> {
    pub(crate) fn new(shared: Shared<C>) -> Self {
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Proposes a command to the range that holds `key`. Never blocks. Commands of one lane (the
    /// tenant's) to one range are applied in the order of the calls.
    ///
    /// `done` is called on a worker or on the storage's writer thread, or here if the command is refused.
    pub fn execute(
        &self,
        lane: TenantNumber,
        key: &[u8],
        command: C::Command,
        ack: Ack,
        done: Then<Result<C::Reply, ExecuteError>>,
    ) {
        if !self.shared.store.admits_writes() && !C::frees_space(&command) {
            self.shared.counters.refused();
            return done(Err(ExecuteError::Full));
        }
        let target = self.target(key);
        let proposal = Proposal {
            lane,
            bytes: command.encode(),
            command,
            ack,
            done: Done::new(done),
        };
        match target.intake.offer(proposal) {
            Ok(Offered::Queued) => {}
            Ok(Offered::Wake) => target.bell.ring(),
            Err((proposal, error)) => {
                self.shared.counters.refused();
                proposal.done.call(Err(error));
            }
        }
    }

    /// Asks the range that holds `key`. Never blocks. The answer sees every command whose reply was
    /// given before the call.
    ///
    /// `done` is called on a reader thread, or here if the query is refused.
    pub fn query(&self, key: &[u8], query: C::Query, done: Then<Result<C::Answer, QueryError>>) {
        let job = QueryJob::<C> { query, done };
        self.shared.queries.submit(lane_of(key), Box::new(job));
    }

    fn target(&self, key: &[u8]) -> &Target<C> {
        let ranges = &self.shared.ranges;
        let after = ranges.partition_point(|range| range.start[..] <= *key);
        &ranges[after.saturating_sub(1)]
    }
}

/// Keys start with the number of their tenant.
fn lane_of(key: &[u8]) -> TenantNumber {
    let mut number = [0; 8];
    let len = key.len().min(number.len());
    number[..len].copy_from_slice(&key[..len]);
    TenantNumber(u64::from_be_bytes(number))
}
