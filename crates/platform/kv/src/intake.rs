//! Where commands arrive: bounded, and quiet towards the worker until it wants to hear.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bifrust_model::TenantNumber;

use crate::lane::{Room, Usage};
use crate::range::Proposal;
use crate::{Ack, Coprocessor, ExecuteError};

/// The queue between proposers and the worker of a range.
pub(crate) struct Intake<C: Coprocessor> {
    state: Mutex<State<C>>,
    gather_commands: usize,
    gather_bytes: usize,
}

struct State<C: Coprocessor> {
    arrivals: VecDeque<Proposal<C>>,
    /// Counts what arrived and what waits in lanes.
    room: Room,
    /// What makes the worker be told of arrivals.
    tell: Tell,
    is_closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tell {
    /// Of the next one.
    Any,
    /// When enough wait, or one that waits for no sync.
    Enough,
    /// Nothing: it knows that there is something.
    Known,
}

/// What the proposer does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// Nothing.
    Queued,
    /// Tell the worker.
    Wake,
}

/// What the worker does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    /// Nothing waits: it is told of the next arrival.
    Nothing,
    /// Not enough waits: it is told once there is enough.
    TooFew,
    /// Take them.
    Enough,
}

impl<C: Coprocessor> Intake<C> {
    pub(crate) fn new(limit: Usage, gather: Usage) -> Self {
        Self {
            state: Mutex::new(State {
                arrivals: VecDeque::new(),
                room: Room::new(limit),
                tell: Tell::Any,
                is_closed: false,
            }),
            gather_commands: gather.items,
            gather_bytes: gather.bytes,
        }
    }

    /// Queues a proposal, or gives it back with the reason.
    pub(crate) fn offer(
        &self,
        proposal: Proposal<C>,
    ) -> Result<Offered, (Proposal<C>, ExecuteError)> {
        let mut state = self.lock();
        if state.is_closed {
            return Err((proposal, ExecuteError::Stopping));
        }
        if !state.room.take(proposal.lane, proposal.size()) {
            return Err((proposal, ExecuteError::Busy));
        }
        let wakes = match state.tell {
            Tell::Any => true,
            Tell::Enough => proposal.ack == Ack::Applied || self.is_enough(state.room.used()),
            Tell::Known => false,
        };
        state.arrivals.push_back(proposal);
        if wakes {
            state.tell = Tell::Known;
            Ok(Offered::Wake)
        } else {
            Ok(Offered::Queued)
        }
    }

    /// What waits, for a worker that would rather gather.
    pub(crate) fn pending(&self) -> Pending {
        let mut state = self.lock();
        let used = state.room.used();
        if used.items == 0 {
            state.tell = Tell::Any;
            return Pending::Nothing;
        }
        let is_urgent = state.arrivals.iter().any(|one| one.ack == Ack::Applied);
        if is_urgent || self.is_enough(used) {
            return Pending::Enough;
        }
        state.tell = Tell::Enough;
        Pending::TooFew
    }

    /// Moves all arrivals to `into`, which is empty. The next one is told.
    pub(crate) fn take(&self, into: &mut VecDeque<Proposal<C>>) {
        let mut state = self.lock();
        std::mem::swap(&mut state.arrivals, into);
        state.tell = Tell::Any;
    }

    /// Gives back the room of what left the queue.
    pub(crate) fn release(&self, freed: impl Iterator<Item = (TenantNumber, Usage)>) {
        let mut state = self.lock();
        for (lane, usage) in freed {
            state.room.give(lane, usage);
        }
    }

    /// Refuses everything from now on.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
    }

    fn is_enough(&self, used: Usage) -> bool {
        used.items >= self.gather_commands || used.bytes >= self.gather_bytes
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
