//! A range at its worker: takes what arrived, lets lanes take turns, writes one batch, hands on replies
//! and effects.

use std::sync::Arc;

use bifrust_model::TenantNumber;
use bifrust_storage::{Store, WriteBatch};

use crate::intake::{Intake, Pending};
use crate::lane::{Lanes, Usage};
use crate::node::Counters;
use crate::outbox::{Outbox, Synced};
use crate::range::{Proposal, Range, Replies};
use crate::worker::{Bell, Hosted, Pace, Turn};
use crate::{Config, Coprocessor, ExecuteError};

pub(crate) struct Seat<C: Coprocessor> {
    pub(crate) range: Range<C>,
    pub(crate) intake: Arc<Intake<C>>,
    pub(crate) outbox: Arc<Outbox<C::Effect>>,
    pub(crate) store: Store,
    pub(crate) bell: Bell,
    pub(crate) config: Arc<Config>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) queue: Queue<C>,
    pub(crate) has_failed: bool,
}

/// What the worker has taken over and not yet applied.
pub(crate) struct Queue<C: Coprocessor> {
    arrivals: Vec<Proposal<C>>,
    lanes: Lanes<Proposal<C>>,
    batch: Vec<Proposal<C>>,
    freed: Vec<(TenantNumber, Usage)>,
}

impl<C: Coprocessor> Hosted for Seat<C> {
    fn turn(&mut self, pace: Pace) -> Turn {
        if pace == Pace::Gather && self.queue.lanes.is_empty() && self.outbox.gather() {
            match self.intake.pending() {
                Pending::Nothing | Pending::TooFew => return Turn::Idle,
                Pending::Enough => {}
            }
        }
        self.intake.take(&mut self.queue.arrivals);
        self.queue
            .build(self.config.batch_commands_max, self.config.batch_bytes_max);
        if self.queue.batch.is_empty() {
            return Turn::Idle;
        }
        self.intake.release(self.queue.freed.drain(..));
        if self.has_failed {
            for proposal in self.queue.batch.drain(..) {
                proposal.done.call(Err(ExecuteError::Stopping));
            }
        } else {
            self.apply();
        }
        if self.queue.lanes.is_empty() {
            Turn::Idle
        } else {
            Turn::More
        }
    }

    fn close(&mut self) {
        self.intake.close();
    }

    fn fail(&mut self, what: &str) {
        self.has_failed = true;
        self.intake.close();
        (self.config.on_fatal)(&format!("service {:?}: {what}", C::NAME));
        while self.turn(Pace::Drain) == Turn::More {}
    }
}

impl<C: Coprocessor> Seat<C> {
    fn apply(&mut self) {
        self.counters.batch(self.queue.batch.len());
        let applied = match self.range.apply(self.store.read(), &mut self.queue.batch) {
            Ok(applied) => applied,
            Err(error) => return self.fail(&format!("rows could not be read: {error}")),
        };
        let written = if applied.durable.is_empty() {
            self.store.write_unsynced(applied.batch).map(|()| {
                self.outbox.at_once(applied.effects);
            })
        } else {
            self.outbox.begin(applied.effects);
            self.write_durable(applied.batch, applied.durable)
        };
        match written {
            Ok(()) => applied.at_once.give(),
            Err(error) => {
                drop(applied.at_once); // The outcome is unknown, and said to be.
                self.fail(&format!("a batch could not be written: {error}"));
            }
        }
    }

    fn write_durable(
        &self,
        batch: WriteBatch,
        replies: Replies<C>,
    ) -> Result<(), bifrust_storage::StorageError> {
        let (outbox, bell) = (self.outbox.clone(), self.bell.clone());
        let done = move || {
            if outbox.synced() == Synced::Wake {
                bell.ring(); // Early: the next batch is built while the replies run.
            }
            replies.give();
        };
        self.store.write(batch, Box::new(done))
    }
}

impl<C: Coprocessor> Queue<C> {
    pub(crate) fn new() -> Self {
        Self {
            arrivals: Vec::new(),
            lanes: Lanes::new(),
            batch: Vec::new(),
            freed: Vec::new(),
        }
    }

    /// Moves what is next to `batch`, which is empty, and notes whose room that frees.
    fn build(&mut self, commands_max: usize, bytes_max: usize) {
        let fits = self.lanes.is_empty()
            && self.arrivals.len() <= commands_max
            && self.arrivals.iter().map(Proposal::size).sum::<usize>() <= bytes_max;
        if fits {
            // Everyone gets all of it now: turns would change nothing.
            std::mem::swap(&mut self.batch, &mut self.arrivals);
        } else {
            for proposal in self.arrivals.drain(..) {
                let (lane, bytes) = (proposal.lane, proposal.size());
                self.lanes.push(lane, bytes, proposal);
            }
            let mut bytes = 0;
            while self.batch.len() < commands_max && bytes < bytes_max {
                let Some(proposal) = self.lanes.pop() else {
                    break;
                };
                bytes += proposal.size();
                self.batch.push(proposal);
            }
        }
        for proposal in &self.batch {
            let one = Usage {
                items: 1,
                bytes: proposal.size(),
            };
            match self.freed.last_mut() {
                Some((lane, usage)) if *lane == proposal.lane => usage.add(one),
                _ => self.freed.push((proposal.lane, one)),
            }
        }
    }
}
