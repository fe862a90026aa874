//! Reader threads: run queries from a bounded queue, tenants taking turns.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use bifrust_model::TenantNumber;
use bifrust_storage::{Read, Store};

use crate::lane::{Lanes, Room, Usage};
use crate::worker::join;
use crate::{Config, Coprocessor, QueryError, Then};

/// Queries that one thread takes at once, to read from one snapshot.
const TAKEN_MAX: usize = 16;

/// What a query counts for in turns, so that a tenant's turn is a handful of them.
const QUERY_BYTES: usize = 4 * 1024;

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
}

struct State {
    lanes: Lanes<(TenantNumber, Box<dyn Job>)>,
    room: Room,
    sleeping: usize,
    is_closed: bool,
}

impl Queries {
    fn new(config: &Config) -> Self {
        let limit = Usage {
            items: config.queries_max,
            bytes: usize::MAX,
        };
        Self {
            state: Mutex::new(State {
                lanes: Lanes::new(),
                room: Room::new(limit),
                sleeping: 0,
                is_closed: false,
            }),
            work: Condvar::new(),
            readers: config.readers.get(),
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
        state.lanes.push(lane, QUERY_BYTES, (lane, job));
        let wakes = state.sleeping > 0;
        drop(state);
        if wakes {
            self.work.notify_one();
        }
    }

    /// Takes this thread's share of what waits; sleeps if there is nothing. False after the last.
    fn take(&self, into: &mut Vec<Box<dyn Job>>) -> bool {
        let mut state = self.lock();
        while state.lanes.is_empty() {
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
        let share = state.lanes.len().div_ceil(self.readers).min(TAKEN_MAX);
        for _ in 0..share {
            let Some((lane, job)) = state.lanes.pop() else {
                break;
            };
            state.room.give(lane, Usage { items: 1, bytes: 0 });
            into.push(job);
        }
        true
    }

    fn close(&self) {
        self.lock().is_closed = true;
        self.work.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
    let mut jobs = Vec::new();
    while queries.take(&mut jobs) {
        // Taken after the jobs: each sees all that was visible when it was submitted.
        let snapshot = store.snapshot();
        for job in jobs.drain(..) {
            // A callback that panics is its owner's fault and costs the others nothing.
            if catch_unwind(AssertUnwindSafe(|| job.run(&*snapshot))).is_err() {
                tracing::error!("the callback of a query panicked");
            }
        }
    }
}
