//! A queue that costs one pointer until it is used: most connections idle.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

/// Entries whose memory is kept when the queue runs empty.
const KEPT: usize = 64;

/// First in, first out.
#[expect(
    clippy::box_collection,
    reason = "an empty VecDeque is four pointers in every idle connection"
)]
#[derive(Debug)]
pub(crate) struct Fifo<T>(Option<Box<VecDeque<T>>>);

impl<T> Fifo<T> {
    /// Gives memory back if the queue is empty.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            self.0 = None;
        }
    }

    /// Gives memory back if the queue was long and is empty now.
    pub(crate) fn trim(&mut self) {
        if self.is_empty() && self.capacity() > KEPT {
            self.0 = None;
        }
    }
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Deref for Fifo<T> {
    type Target = VecDeque<T>;

    fn deref(&self) -> &VecDeque<T> {
        match &self.0 {
            Some(queue) => queue,
            None => const { &VecDeque::new() },
        }
    }
}

impl<T> DerefMut for Fifo<T> {
    fn deref_mut(&mut self) -> &mut VecDeque<T> {
        self.0.get_or_insert_default()
    }
}
