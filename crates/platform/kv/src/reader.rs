//! Reader threads: run queries from a bounded queue, tenants taking turns.
//!
//! A turn is worth a time, not a number of queries: a tenant whose queries are slow gets fewer of them. And
//! since a query that runs cannot be put aside, one thread is always left to tenants whose queries are quick.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bifrust_model::TenantNumber;
use bifrust_storage::{Read, Store};

use crate::lane::{Lanes, Room, Usage};
use crate::worker::join;
use crate::{Config, Coprocessor, QueryError, Then};

mod pace;

#[cfg(test)]
mod tests;

use pace::Pace;

/// Queries that one thread takes at once, to read from one snapshot.
const TAKEN_MAX: usize = 16;

/// How long a thread goes on with what it took at once. The rest goes back into the queue.
const TAKEN_TIME: Duration = Duration::from_millis(1);

/// A query with its callback.
pub(crate) trait Job: Send {
    fn run(self: Box<Self>, read: &dyn Read);
    fn refuse(self: Box<Self>, error: QueryError);
}

pub(crate) struct QueryJob<C: Coprocessor> {
    pub(crate) query: C::Query,
    pub(crate) done: Then<Result<C::Answer, QueryError>>,
}

impl<C: Coprocessor> Job for QueryJob<C> {
    fn run(self: Box<Self>, read: &dyn Read) {
        let Self { query, done } = *self;
        let answer = catch_unwind(AssertUnwindSafe(|| C::query(read, query)));
        done(match answer {
            Ok(answer) => answer.map_err(QueryError::Storage),
            Err(_) => {
                tracing::error!(service = C::NAME, "a query panicked");
                Err(QueryError::Failed)
            }
        });
    }

    fn refuse(self: Box<Self>, error: QueryError) {
        (self.done)(Err(error));
    }
}

/// The queue between whoever asks and the reader threads.
pub(crate) struct Queries {
    state: Mutex<State>,
    work: Condvar,
    readers: usize,
    /// Threads that may run slow queries at a time.
    slow_max: usize,
}

type Queued = (TenantNumber, Box<dyn Job>);

struct State {
    lanes: Lanes<Queued>,
    /// Counts what waits and what runs.
    room: Room,
    pace: Pace,
    /// Threads that run a slow query.
    slow: usize,
    sleeping: usize,
    is_closed: bool,
}

/// What a thread has at hand.
#[derive(Default)]
struct Hand {
    jobs: VecDeque<Queued>,
    /// How long those took that it ran.
    ran: Vec<(TenantNumber, Duration)>,
    is_slow: bool,
}

impl Queries {
    fn new(config: &Config) -> Self {
        let limit = Usage {
            items: config.queries_max,
            bytes: usize::MAX,
        };
        let readers = config.readers.get();
        Self {
            state: Mutex::new(State {
                lanes: Lanes::new(),
                room: Room::new(limit),
                pace: Pace::default(),
                slow: 0,
                sleeping: 0,
                is_closed: false,
            }),
            work: Condvar::new(),
            readers,
            slow_max: (readers - 1).max(1),
        }
    }

    /// Queues a job, or refuses it.
    pub(crate) fn submit(&self, lane: TenantNumber, job: Box<dyn Job>) {
        let mut state = self.lock();
        let refusal = if state.is_closed {
            Some(QueryError::Stopping)
        } else if !state.room.take(lane, 0) {
            Some(QueryError::Busy)
        } else {
            None
        };
        if let Some(error) = refusal {
            drop(state);
            return job.refuse(error);
        }
        let bytes = state.pace.bytes(lane);
        state.lanes.push(lane, bytes, (lane, job));
        let wakes = state.sleeping > 0;
        drop(state);
        if wakes {
            self.work.notify_one();
        }
    }

    /// Takes this thread's share of what waits, for what it ran and did not run before; sleeps if there is
    /// nothing. False after the last.
    fn take(&self, hand: &mut Hand) -> bool {
        let mut state = self.lock();
        state.put_back(hand);
        loop {
            self.deal(&mut state, hand);
            if !hand.jobs.is_empty() {
                // What this thread had to leave may be for another one now.
                let wakes = state.sleeping > 0 && !state.lanes.is_empty();
                drop(state);
                if wakes {
                    self.work.notify_one();
                }
                return true;
            }
            if state.is_closed {
                return false;
            }
            state.sleeping += 1;
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.sleeping -= 1;
        }
    }

    /// Moves some quick queries to an empty hand, at most one slow one behind them.
    fn deal(&self, state: &mut State, hand: &mut Hand) {
        let share = state.lanes.len().div_ceil(self.readers).min(TAKEN_MAX);
        while hand.jobs.len() < share {
            let State {
                lanes,
                pace,
                slow,
                is_closed,
                ..
            } = state;
            let takes_slow = *slow < self.slow_max || *is_closed;
            let may = |lane| takes_slow || !pace.is_slow(lane);
            let Some((lane, job)) = lanes.pop_if(may) else {
                break;
            };
            hand.jobs.push_back((lane, job));
            if pace.is_slow(lane) {
                hand.is_slow = true;
                *slow += 1;
                break;
            }
        }
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.work.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Settles what a thread ran, and queues again what it did not come to.
    fn put_back(&mut self, hand: &mut Hand) {
        if std::mem::take(&mut hand.is_slow) {
            self.slow -= 1;
        }
        for (lane, took) in hand.ran.drain(..) {
            self.room.give(lane, Usage { items: 1, bytes: 0 });
            self.pace.ran(lane, took);
        }
        while let Some((lane, job)) = hand.jobs.pop_back() {
            let bytes = self.pace.bytes(lane);
            self.lanes.push_front(lane, bytes, (lane, job));
        }
    }
}

/// The threads.
pub(crate) struct Readers {
    pub(crate) queries: Arc<Queries>,
    threads: Vec<Mutex<Option<JoinHandle<()>>>>,
}

impl Readers {
    pub(crate) fn start(config: &Config, store: &Store) -> std::io::Result<Self> {
        let mut readers = Self {
            queries: Arc::new(Queries::new(config)),
            threads: Vec::new(),
        };
        for number in 0..config.readers.get() {
            let (queries, store) = (readers.queries.clone(), store.clone());
            let thread = thread::Builder::new()
                .name(format!("kv-reader-{number}"))
                .spawn(move || run(&queries, &store))?;
            readers.threads.push(Mutex::new(Some(thread)));
        }
        Ok(readers)
    }

    /// Asks them to answer what waits and end.
    pub(crate) fn stop(&self) {
        self.queries.close();
    }

    /// Waits for their end.
    pub(crate) fn join(&self) {
        self.threads.iter().for_each(join);
    }
}

fn run(queries: &Queries, store: &Store) {
    let mut hand = Hand::default();
    while queries.take(&mut hand) {
        // Taken after the jobs: each sees all that was visible when it was submitted.
        let snapshot = store.snapshot();
        let begun = Instant::now();
        let mut before = begun;
        while let Some((lane, job)) = hand.jobs.pop_front() {
            // A callback that panics is its owner's fault and costs the others nothing.
            if catch_unwind(AssertUnwindSafe(|| job.run(&*snapshot))).is_err() {
                tracing::error!("the callback of a query panicked");
            }
            let now = Instant::now();
            hand.ran.push((lane, now - before));
            before = now;
            if now - begun > TAKEN_TIME {
                break;
            }
        }
    }
}
