//! What the queues of a shard's transient sessions may take together.
//!
//! Every session's queue has bounds of its own, but many of them full at once would be more than the node
//! has. A message that waits for many sessions is in memory once, so it is charged once.

use std::cell::Cell;
use std::rc::Rc;

use bifrust_model::Message;

/// What an entry of a queue takes beside its message.
const ENTRY_BYTES: usize = 64;

/// What a message takes beside its topic, payload and properties.
const MESSAGE_BYTES: usize = 256;

/// While a quarter of the room is left, a queue with less than so manieth part of all is not full.
const SMALL_PART: usize = 64;

/// The room of one shard; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Room(Rc<Space>);

#[derive(Debug)]
struct Space {
    used: Cell<usize>,
    max: usize,
}

/// A place for a message in one queue; clones are places for the same message in other queues. What it
/// takes is given back with it.
#[derive(Debug)]
pub(crate) struct Charge(Rc<Charged>);

#[derive(Debug)]
struct Charged {
    room: Room,
    bytes: usize,
}

impl Room {
    pub(crate) fn of(max: usize) -> Self {
        Self(Rc::new(Space {
            used: Cell::new(0),
            max,
        }))
    }

    /// Takes a message in.
    pub(crate) fn charge(&self, message: &Message) -> Charge {
        let bytes = message.weight() + MESSAGE_BYTES;
        self.add(bytes + ENTRY_BYTES);
        Charge(Rc::new(Charged {
            room: self.clone(),
            bytes,
        }))
    }

    fn add(&self, bytes: usize) {
        self.0.used.set(self.0.used.get() + bytes);
    }

    fn subtract(&self, bytes: usize) {
        self.0.used.set(self.0.used.get() - bytes);
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.0.used.get()
    }
}

impl Charge {
    /// Whether there is too much for a queue that holds so many bytes already: the largest queues are
    /// full first.
    pub(crate) fn is_too_much(&self, queued: u64) -> bool {
        let Space { used, max } = &*self.0.room.0;
        let is_large = queued >= (max / SMALL_PART) as u64;
        used.get() > *max || (is_large && used.get() > max / 4 * 3)
    }
}

impl Clone for Charge {
    fn clone(&self) -> Self {
        self.0.room.add(ENTRY_BYTES);
        Self(self.0.clone())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.0.room.subtract(ENTRY_BYTES);
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.room.subtract(self.bytes);
    }
}
