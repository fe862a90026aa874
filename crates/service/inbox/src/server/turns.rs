//! One change of a session's routes at a time: what adds a route and what removes it would cross
//! otherwise.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::RouteEnd;

type Job = Box<dyn FnOnce(Turn) + Send>;

/// Sessions whose routes are being changed, each with those who wait to change them too. A connection
/// has one change under way, so what bounds the connections bounds it.
#[derive(Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<Waiting>>);

type Waiting = HashMap<RouteEnd, VecDeque<Job>, RandomState>;

/// The right to change a session's routes; given up when it is dropped.
pub(crate) struct Turn {
    turns: Turns,
    end: RouteEnd,
}

impl Turns {
    /// Runs `job` when all who came before have given up their turns: at once if there is none.
    pub(crate) fn take(&self, end: RouteEnd, job: impl FnOnce(Turn) + Send + 'static) {
        let turn_end = end.clone();
        match self.lock().entry(end) {
            Entry::Occupied(mut waiting) => {
                waiting.get_mut().push_back(Box::new(job));
                return;
            }
            Entry::Vacant(nobody) => {
                nobody.insert(VecDeque::new());
            }
        }
        job(Turn {
            turns: self.clone(),
            end: turn_end,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut waiting = self.turns.lock();
        let next = waiting.get_mut(&self.end).and_then(VecDeque::pop_front);
        if next.is_none() {
            waiting.remove(&self.end);
        }
        drop(waiting);
        if let Some(job) = next {
            job(Self {
                turns: self.turns.clone(),
                end: self.end.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use bifrust_model::{ClientId, TenantNumber};

    use super::*;

    fn end(incarnation: u64) -> RouteEnd {
        RouteEnd {
            tenant: TenantNumber(1),
            client: ClientId::new("c").unwrap(),
            incarnation,
        }
    }

    #[test]
    fn changes_of_one_session_come_one_after_the_other() {
        let turns = Turns::default();
        let log: Arc<Mutex<Vec<u32>>> = Arc::default();
        let held: Arc<Mutex<Vec<Turn>>> = Arc::default();
        let take = |number, incarnation| {
            let (log, held) = (log.clone(), held.clone());
            turns.take(end(incarnation), move |turn| {
                log.lock().unwrap().push(number);
                held.lock().unwrap().push(turn);
            });
        };
        take(1, 7);
        take(2, 7);
        take(3, 7);
        take(4, 8);
        assert_eq!(
            *log.lock().unwrap(),
            [1, 4],
            "another session does not wait"
        );
        for so_far in [&[1, 4, 2][..], &[1, 4, 2, 3], &[1, 4, 2, 3]] {
            let first = held
                .lock()
                .unwrap()
                .extract_if(.., |turn| turn.end == end(7))
                .next();
            drop(first);
            assert_eq!(*log.lock().unwrap(), so_far);
        }
        held.lock().unwrap().clear();
        assert!(turns.lock().is_empty());
    }

    #[test]
    fn a_job_that_is_dropped_gives_up_its_turn() {
        let turns = Turns::default();
        turns.take(end(7), drop);
        let log: Arc<Mutex<Vec<u32>>> = Arc::default();
        let told = log.clone();
        turns.take(end(7), move |_turn| told.lock().unwrap().push(1));
        assert_eq!(*log.lock().unwrap(), [1]);
    }
}
