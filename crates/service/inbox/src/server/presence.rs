//! Whether a client may have a durable session: mostly no, known without a look at the rows.

use std::ops::Bound;
use std::sync::atomic::{AtomicU32, Ordering};

use ahash::RandomState;
use bifrust_model::SessionKey;
use bifrust_storage::{Direction, Read, StorageError};

use super::RouteEnd;
use crate::schema::{DEADLINE, DeadlineKey, SessionDeadline, parse_deadline};

/// Counts that sessions are spread over: 256 KiB.
const BUCKETS: usize = 1 << 16;

/// How many durable sessions there are, by a hash of their names.
pub(crate) struct Presence {
    buckets: Box<[AtomicU32]>,
    hasher: RandomState,
}

impl Presence {
    pub(crate) fn new() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Counts the sessions that are stored; answers those whose routes may differ from their
    /// subscriptions.
    pub(crate) fn count(&self, read: &dyn Read) -> Result<Vec<RouteEnd>, StorageError> {
        let mut in_doubt = Vec::new();
        let all = (Bound::Unbounded, Bound::Unbounded);
        for row in read.range(DEADLINE, all.0, all.1, Direction::Forward) {
            let (key, value) = row?;
            let Some((session, DeadlineKey::Session)) = parse_deadline(&key) else {
                continue;
            };
            self.begun(&session);
            let deadline = SessionDeadline::decode(value)
                .map_err(|error| StorageError::Engine(format!("a session's deadline: {error}")))?;
            if deadline.is_unrouted {
                in_doubt.push(RouteEnd::of(&session, deadline.incarnation));
            }
        }
        Ok(in_doubt)
    }

    /// A session has begun; told before its connection hears of it.
    pub(crate) fn begun(&self, session: &SessionKey) {
        self.bucket(session).fetch_add(1, Ordering::Relaxed);
    }

    /// A session has ended.
    pub(crate) fn ended(&self, session: &SessionKey) {
        let before = self.bucket(session).fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "only what has begun ends");
    }

    /// False: there is certainly none.
    pub(crate) fn may_exist(&self, session: &SessionKey) -> bool {
        self.bucket(session).load(Ordering::Relaxed) > 0
    }

    fn bucket(&self, session: &SessionKey) -> &AtomicU32 {
        let hash = self.hasher.hash_one(session);
        &self.buckets[hash as usize % BUCKETS]
    }
}
