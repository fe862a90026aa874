//! Effects leave a range in the order of its batches: those of a durable batch after its sync, those of
//! a batch that waits for no sync at once, unless older ones still wait.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

type Handler<E> = Box<dyn Fn(Vec<E>) + Send>;

pub(crate) struct Outbox<E> {
    state: Mutex<State<E>>,
}

struct State<E> {
    handler: Handler<E>,
    /// Effects of the batches whose sync is awaited, oldest first.
    unsynced: VecDeque<Vec<E>>,
    /// Whether the range wants to know when nothing is unsynced any more.
    is_gathering: bool,
}

/// What the range is told when a batch is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Synced {
    /// Nothing to do.
    Quiet,
    /// The range gathered until now: wake it.
    Wake,
}

impl<E> Outbox<E> {
    pub(crate) fn new(handler: impl Fn(Vec<E>) + Send + 'static) -> Self {
        Self {
            state: Mutex::new(State {
                handler: Box::new(handler),
                unsynced: VecDeque::new(),
                is_gathering: false,
            }),
        }
    }

    /// A durable batch is about to be written.
    pub(crate) fn begin(&self, effects: Vec<E>) {
        self.lock().unsynced.push_back(effects);
    }

    /// The oldest durable batch is synced.
    pub(crate) fn synced(&self) -> Synced {
        let mut state = self.lock();
        if let Some(effects) = state.unsynced.pop_front() {
            state.hand_over(effects);
        }
        if state.unsynced.is_empty() && std::mem::take(&mut state.is_gathering) {
            Synced::Wake
        } else {
            Synced::Quiet
        }
    }

    /// A durable batch will never be synced, and so no later one: their effects are void.
    pub(crate) fn lost(&self) {
        let lost = std::mem::take(&mut self.lock().unsynced);
        drop(lost);
    }

    /// A batch that waits for no sync is visible.
    pub(crate) fn at_once(&self, mut effects: Vec<E>) {
        if effects.is_empty() {
            return;
        }
        let mut state = self.lock();
        let is_next = state.unsynced.iter().all(Vec::is_empty);
        match state.unsynced.back_mut() {
            Some(last) if !is_next => last.append(&mut effects),
            _ => state.hand_over(effects),
        }
    }

    /// Whether a sync is awaited; if so, its end is told by [`Synced::Wake`].
    pub(crate) fn gather(&self) -> bool {
        let mut state = self.lock();
        state.is_gathering = !state.unsynced.is_empty();
        state.is_gathering
    }

    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E> State<E> {
    /// Under the lock, as it is what keeps the order between threads.
    fn hand_over(&self, effects: Vec<E>) {
        if !effects.is_empty() {
            (self.handler)(effects);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn outbox() -> (Outbox<u32>, Arc<Mutex<Vec<u32>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let outbox = Outbox::new(move |mut effects| sink.lock().unwrap().append(&mut effects));
        (outbox, seen)
    }

    #[test]
    fn effects_of_a_durable_batch_wait_and_later_ones_wait_behind_them() {
        let (outbox, seen) = outbox();
        outbox.begin(vec![1]);
        outbox.at_once(vec![2]);
        outbox.begin(vec![3]);
        outbox.at_once(vec![4]);
        assert!(seen.lock().unwrap().is_empty());
        outbox.synced();
        assert_eq!(*seen.lock().unwrap(), [1, 2]);
        outbox.synced();
        outbox.at_once(vec![5]);
        assert_eq!(*seen.lock().unwrap(), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn effects_do_not_wait_behind_batches_without_any() {
        let (outbox, seen) = outbox();
        outbox.begin(vec![]);
        outbox.at_once(vec![1]);
        assert_eq!(*seen.lock().unwrap(), [1]);
    }

    #[test]
    fn the_end_of_the_last_sync_is_told_once_to_who_gathers() {
        let (outbox, _) = outbox();
        assert!(!outbox.gather());
        outbox.begin(vec![]);
        outbox.begin(vec![]);
        assert!(outbox.gather());
        assert_eq!(outbox.synced(), Synced::Quiet);
        assert_eq!(outbox.synced(), Synced::Wake);
        outbox.begin(vec![]);
        assert_eq!(outbox.synced(), Synced::Quiet);
    }
}
