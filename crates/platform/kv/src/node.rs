//! The ranges of this node: opens them, spreads them over workers, stops them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use bifrust_storage::{Store, WriteBatch};

use crate::client::{Client, Shared, Target};
use crate::intake::Intake;
use crate::lane::Usage;
use crate::meta::{self, Descriptor};
use crate::outbox::Outbox;
use crate::range::Range;
use crate::reader::Readers;
use crate::seat::{Queue, Seat};
use crate::worker::{Bell, Worker};
use crate::{Clock, Config, Coprocessor, OpenError};

/// Hosts ranges; cheap to clone. Ranges run until [`Node::stop`], or until the last clone is dropped.
#[derive(Clone)]
pub struct Node {
    owner: Arc<Owner>,
}

struct Owner {
    store: Store,
    config: Arc<Config>,
    clock: Clock,
    counters: Arc<Counters>,
    workers: Vec<Worker>,
    readers: Readers,
    hosting: Mutex<Hosting>,
}

#[derive(Default)]
struct Hosting {
    services: Vec<&'static str>,
    is_stopped: bool,
}

/// What the ranges of a node have done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands applied.
    pub commands: u64,
    /// Batches they were applied in.
    pub batches: u64,
    /// Commands refused, known not to be applied.
    pub refused: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    commands: AtomicU64,
    batches: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    pub(crate) fn batch(&self, commands: usize) {
        self.commands.fetch_add(commands as u64, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

impl Node {
    /// Starts the threads that will run ranges on `store`, which was opened with [`crate::keyspaces`]
    /// and those of all coprocessors.
    pub fn open(store: Store, config: Config, clock: Clock) -> Result<Self, OpenError> {
        let readers = Readers::start(&config, &store)?;
        let mut owner = Owner {
            store,
            config: Arc::new(config),
            clock,
            counters: Arc::default(),
            workers: Vec::new(),
            readers,
            hosting: Mutex::default(),
        };
        for number in 0..owner.config.workers.get() {
            owner.workers.push(Worker::start(number)?);
        }
        Ok(Self {
            owner: Arc::new(owner),
        })
    }

    /// Opens the ranges of a service and runs them. `effects` gets the effects of each batch, in order;
    /// it runs on a worker or on the storage's writer thread and must not block. Those of leading are
    /// given before this returns.
    pub fn host<C: Coprocessor>(
        &self,
        coprocessor: C,
        effects: impl Fn(Vec<C::Effect>) + Send + 'static,
    ) -> Result<Client<C>, OpenError> {
        let owner = &*self.owner;
        let mut hosting = owner.hosting();
        if hosting.is_stopped {
            return Err(OpenError::Stopping);
        }
        if hosting.services.contains(&C::NAME) {
            return Err(OpenError::AlreadyHosted(C::NAME));
        }
        let descriptor = owner.descriptor::<C>()?;
        let mut range = owner.recovered(&descriptor, coprocessor)?;
        let outbox = Arc::new(Outbox::new(effects));
        outbox.at_once(range.lead(&*owner.store.snapshot())?);
        let worker = &owner.workers[hosting.services.len() % owner.workers.len()];
        hosting.services.push(C::NAME);
        let target = owner.seat(worker, descriptor, range, outbox);
        Ok(Client::new(Shared {
            ranges: vec![target],
            store: owner.store.clone(),
            queries: owner.readers.queries.clone(),
            counters: owner.counters.clone(),
        }))
    }

    /// The clock that proposers stamp with.
    pub fn clock(&self) -> &Clock {
        &self.owner.clock
    }

    /// Where the rows are.
    pub fn store(&self) -> &Store {
        &self.owner.store
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        let counters = &self.owner.counters;
        Counts {
            commands: counters.commands.load(Ordering::Relaxed),
            batches: counters.batches.load(Ordering::Relaxed),
            refused: counters.refused.load(Ordering::Relaxed),
        }
    }

    /// Refuses new commands and queries, does those that wait, syncs, and ends the threads. Every
    /// callback has been called when this returns. Not to be called from a callback.
    pub fn stop(&self) {
        self.owner.stop();
        self.owner.workers.iter().for_each(Worker::join);
        self.owner.readers.join();
        self.owner.sync();
    }
}

impl Owner {
    fn hosting(&self) -> MutexGuard<'_, Hosting> {
        self.hosting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The range of a service; made if there is none.
    fn descriptor<C: Coprocessor>(&self) -> Result<Descriptor, OpenError> {
        for ks in C::KEYSPACES {
            self.store.read().get(*ks, b"is it there?")?;
        }
        let mut batch = WriteBatch::new();
        let node = self.store.manifest().node_id.0;
        let mut found = meta::ranges_of(self.store.read(), C::NAME, node, &mut batch)?;
        if !batch.is_empty() {
            // Durable before anything that relies on it: every sync covers all earlier writes.
            self.store.write_unsynced(batch)?;
        }
        match (found.pop(), found.len()) {
            (Some(descriptor), 0) => Ok(descriptor),
            (_, more) => Err(OpenError::Damaged(format!(
                "service {:?} has {} ranges, this program hosts one",
                C::NAME,
                more + 1
            ))),
        }
    }

    /// The range with all of its log applied.
    fn recovered<C: Coprocessor>(
        &self,
        descriptor: &Descriptor,
        coprocessor: C,
    ) -> Result<Range<C>, OpenError> {
        let read = self.store.read();
        let (mut range, unapplied) = Range::open(read, descriptor.id, coprocessor)?;
        let first = range.last_index() + 1 - unapplied.len() as u64;
        for (index, entry) in (first..).zip(unapplied) {
            let batch = range.recover(read, index, entry)?;
            self.store.write_unsynced(batch)?;
        }
        Ok(range)
    }

    fn seat<C: Coprocessor>(
        &self,
        worker: &Worker,
        descriptor: Descriptor,
        range: Range<C>,
        outbox: Arc<Outbox<C::Effect>>,
    ) -> Target<C> {
        let limit = Usage {
            items: self.config.queue_commands_max,
            bytes: self.config.queue_bytes_max,
        };
        let gather = Usage {
            items: self.config.gather_commands,
            bytes: self.config.batch_bytes_max / 4,
        };
        let intake = Arc::new(Intake::new(limit, gather));
        let make = |bell: Bell| Seat {
            range,
            intake: intake.clone(),
            outbox,
            store: self.store.clone(),
            bell,
            config: self.config.clone(),
            counters: self.counters.clone(),
            queue: Queue::new(),
            has_failed: false,
        };
        let bell = worker.host(|bell| Box::new(make(bell)));
        Target {
            start: descriptor.start,
            intake,
            bell,
        }
    }

    fn stop(&self) {
        self.hosting().is_stopped = true;
        self.workers.iter().for_each(Worker::stop);
        self.readers.stop();
    }

    /// Waits until all that was written is durable and reported.
    fn sync(&self) {
        let (tell, told) = mpsc::channel::<()>();
        let written = self
            .store
            .write(WriteBatch::new(), Box::new(move || drop(tell)));
        if written.is_ok() {
            let _ = told.recv(); // Ends when the sender goes, called or not.
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.stop(); // Without waiting: the last clone may go on any of these threads.
    }
}

#[cfg(test)]
mod tests;
