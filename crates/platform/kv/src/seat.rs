//! A range at its worker: takes what arrived, lets lanes take turns, writes one batch, hands on replies
//! and effects.

use std::collections::VecDeque;
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
    arrivals: VecDeque<Proposal<C>>,
    lanes: Lanes<Proposal<C>>,
    batch: VecDeque<Proposal<C>>,
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
        while !self.has_failed && !self.queue.batch.is_empty() {
            self.apply();
        }
        for proposal in self.queue.batch.drain(..) {
            proposal.done.call(Err(ExecuteError::Stopping));
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
        let enough = Usage {
            items: self.config.batch_rows_max,
            bytes: self.config.batch_bytes_max.saturating_mul(4),
        };
        let waiting = self.queue.batch.len();
        let applied = self
            .range
            .apply(self.store.read(), &mut self.queue.batch, enough);
        self.counters.batch(waiting - self.queue.batch.len());
        let applied = match applied {
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
        let unsynced = Unsynced {
            outbox: self.outbox.clone(),
            bell: self.bell.clone(),
            has_synced: false,
        };
        let done = move || {
            unsynced.synced(); // Early: the next batch is built while the replies run.
            replies.give();
        };
        self.store.write(batch, Box::new(done))
    }
}

/// A batch whose sync is awaited.
struct Unsynced<E> {
    outbox: Arc<Outbox<E>>,
    bell: Bell,
    has_synced: bool,
}

impl<E> Unsynced<E> {
    fn synced(mut self) {
        self.has_synced = true;
        if self.outbox.synced() == Synced::Wake {
            self.bell.ring();
        }
    }
}

impl<E> Drop for Unsynced<E> {
    /// The store failed first: the range must not wait for this sync, but meet the failure itself.
    fn drop(&mut self) {
        if !self.has_synced {
            self.outbox.lost();
            self.bell.ring();
        }
    }
}

impl<C: Coprocessor> Queue<C> {
    pub(crate) fn new() -> Self {
        Self {
            arrivals: VecDeque::new(),
            lanes: Lanes::new(),
            batch: VecDeque::new(),
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
            while self.batch.len() < commands_max.max(1) && bytes < bytes_max.max(1) {
                let Some(proposal) = self.lanes.pop() else {
                    break;
                };
                bytes += proposal.size();
                self.batch.push_back(proposal);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::Done;
    use crate::toy::{Text, Toy};
    use crate::{Ack, Wire};

    fn arrive(queue: &mut Queue<Toy>, tenant: u64, commands: usize) {
        for n in 0..commands {
            let command = Text(format!("+{tenant} {n}"));
            queue.arrivals.push_back(Proposal {
                lane: TenantNumber(tenant),
                bytes: command.encode(),
                command,
                ack: Ack::Durable,
                done: Done::new(Box::new(|_| {})),
            });
        }
    }

    fn of(queue: &Queue<Toy>, tenant: u64) -> usize {
        let lanes = queue.batch.iter().map(|proposal| proposal.lane);
        lanes.filter(|lane| lane.0 == tenant).count()
    }

    #[test]
    fn a_tenant_that_floods_does_not_keep_others_out_of_the_next_batch() {
        let mut queue = Queue::new();
        arrive(&mut queue, 1, 10_000);
        arrive(&mut queue, 2, 10);
        queue.build(500, usize::MAX);
        assert_eq!((of(&queue, 1), of(&queue, 2)), (490, 10));
        let freed = queue.freed.iter().map(|(_, usage)| usage.items);
        assert_eq!(freed.sum::<usize>(), 500);
    }

    #[test]
    fn what_fits_goes_into_one_batch_in_the_order_of_arrival() {
        let mut queue = Queue::new();
        for tenant in [3, 1, 2, 1] {
            arrive(&mut queue, tenant, 1);
        }
        queue.build(500, usize::MAX);
        let lanes: Vec<_> = queue.batch.iter().map(|one| one.lane.0).collect();
        assert_eq!(lanes, [3, 1, 2, 1]);
        assert!(queue.lanes.is_empty());
    }
}
