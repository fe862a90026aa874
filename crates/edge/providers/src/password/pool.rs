//! Threads that check passwords, and the bounded queue before them.
//!
//! Each tenant has a lane, users that do not exist share one; lanes take turns, so that one
//! tenant's storm of wrong passwords delays itself. One lane may fill half of the queue.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash;
use bifrust_model::TenantName;
use bifrust_plugin_api::{AuthAnswer, AuthError, Granted, Refusal};
use bytes::Bytes;
use hashbrown::HashMap;

use super::table::Account;
use crate::later::{Answering, Waiting, later};

/// How much the hashing threads yield to all others, so that connections are served first.
const NICENESS: i32 = 10;

/// One password to check.
pub(super) struct Job {
    subject: Subject,
    password: Bytes,
}

enum Subject {
    Nobody(Box<PasswordHash>),
    User {
        account: Arc<Account>,
        fingerprint: blake3::Hash,
        granted: Granted,
    },
}

impl Job {
    pub(super) fn new(
        account: Arc<Account>,
        password: Bytes,
        fingerprint: blake3::Hash,
        granted: Granted,
    ) -> Self {
        let subject = Subject::User {
            account,
            fingerprint,
            granted,
        };
        Self { subject, password }
    }

    /// The same work, and always refused.
    pub(super) fn for_nobody(hash: PasswordHash, password: Bytes) -> Self {
        Self {
            subject: Subject::Nobody(Box::new(hash)),
            password,
        }
    }

    fn lane(&self) -> Option<TenantName> {
        match &self.subject {
            Subject::Nobody(_) => None,
            Subject::User { account, .. } => Some(account.tenant.clone()),
        }
    }

    fn run(self) -> AuthAnswer {
        match self.subject {
            Subject::Nobody(hash) => {
                let _ = is_right(&self.password, &hash); // only the time counts
                Ok(Err(Refusal::BadUserOrPassword))
            }
            Subject::User {
                account,
                fingerprint,
                granted,
            } => {
                // Another connection of this user may have been checked meanwhile.
                if account.is_verified(&fingerprint) {
                    return Ok(Ok(granted));
                }
                if !is_right(&self.password, &account.hash) {
                    return Ok(Err(Refusal::BadUserOrPassword));
                }
                account.set_verified(fingerprint);
                Ok(Ok(granted))
            }
        }
    }
}

fn is_right(password: &[u8], hash: &PasswordHash) -> bool {
    Argon2::default().verify_password(password, hash).is_ok()
}

#[derive(Default)]
struct Queue {
    lanes: HashMap<Option<TenantName>, VecDeque<(Job, Answering<AuthAnswer>)>>,
    turns: VecDeque<Option<TenantName>>,
    len: usize,
    is_stopped: bool,
}

impl Queue {
    fn next(&mut self) -> Option<(Job, Answering<AuthAnswer>)> {
        let lane = self.turns.pop_front()?;
        let jobs = self.lanes.get_mut(&lane)?;
        let job = jobs.pop_front();
        if jobs.is_empty() {
            self.lanes.remove(&lane);
        } else {
            self.turns.push_back(lane);
        }
        self.len -= usize::from(job.is_some());
        job
    }
}

struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
    queue_max: usize,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The threads.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

impl Pool {
    pub(super) fn start(threads: usize, queue_max: usize) -> io::Result<Self> {
        let pool = Self {
            shared: Arc::new(Shared {
                queue: Mutex::default(),
                ready: Condvar::new(),
                queue_max,
            }),
            threads: Mutex::default(),
        };
        for index in 0..threads {
            let shared = pool.shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("password-{index}"))
                .spawn(move || work(&shared))?;
            pool.threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(thread);
        }
        Ok(pool)
    }

    /// Queues a job; `None` if there is no room.
    pub(super) fn submit(&self, job: Job) -> Option<Waiting<AuthAnswer>> {
        let mut queue = self.shared.queue();
        if queue.is_stopped || queue.len >= self.shared.queue_max {
            return None;
        }
        let lane = job.lane();
        let waiting_in_lane = queue.lanes.get(&lane).map_or(0, VecDeque::len);
        if waiting_in_lane >= self.shared.queue_max.div_ceil(2) {
            return None;
        }
        let (answering, waiting) = later();
        if waiting_in_lane == 0 {
            queue.turns.push_back(lane.clone());
        }
        queue
            .lanes
            .entry(lane)
            .or_default()
            .push_back((job, answering));
        queue.len += 1;
        drop(queue);
        self.shared.ready.notify_one();
        Some(waiting)
    }

    pub(super) fn waiting(&self) -> usize {
        self.shared.queue().len
    }

    pub(super) fn stop(&self) {
        let left = {
            let mut queue = self.shared.queue();
            queue.is_stopped = true;
            queue.turns.clear();
            queue.len = 0;
            std::mem::take(&mut queue.lanes)
        };
        self.shared.ready.notify_all();
        for (_, answering) in left.into_values().flatten() {
            answering.answer(Err(AuthError::Busy));
        }
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.join(); // a panic was printed where it happened
        }
    }
}

fn work(shared: &Shared) {
    // Linux keeps niceness per thread; where this fails hashing is only less polite.
    let _ = rustix::process::setpriority_process(None, NICENESS);
    loop {
        let (job, answering) = {
            let mut queue = shared.queue();
            loop {
                if queue.is_stopped {
                    return;
                }
                if let Some(next) = queue.next() {
                    break next;
                }
                queue = shared
                    .ready
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        };
        // A client that has gone costs nothing more.
        if answering.is_awaited() {
            answering.answer(job.run());
        }
    }
}
