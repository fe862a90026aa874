//! Messages that wait for room in the window or on the socket, within the session's bounds.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use bifrust_dist::Publication;
use bifrust_model::{Message, Qos, Settings};

use super::fifo::Fifo;
use super::share::Shared;

/// A message, however it came here.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// Just published.
    Live(Arc<Publication>),
    /// Just published, and for this member of a group.
    Shared(Box<Shared>),
    /// From the retained store or a persistent queue.
    Stored(Arc<Message>),
}

impl Deref for Body {
    type Target = Message;

    fn deref(&self) -> &Message {
        match self {
            Self::Live(publication) => &publication.message,
            Self::Shared(shared) => &shared.publication.message,
            Self::Stored(message) => message,
        }
    }
}

/// A message as this session is to get it.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) body: Body,
    /// QoS to deliver with.
    pub(crate) qos: Qos,
    /// RETAIN flag to send.
    pub(crate) retain: bool,
    /// Identifiers of the subscriptions that matched.
    pub(crate) ids: Option<Rc<[u32]>>,
}

/// What became of a message offered to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    Taken,
    /// QoS 0 over the bound: the new one is dropped.
    DroppedNew,
    /// QoS 0 over the bound: the oldest was dropped for it.
    DroppedOldest,
    /// QoS 1 or 2 over the bound: the session cannot go on, since nothing of it may be lost
    /// silently.
    Overflow,
}

/// First in, first out, within `SessionInboxSize` and `SessionInboxBytes`.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    items: Fifo<Outgoing>,
    bytes: u64,
}

impl Queue {
    pub(crate) fn offer(&mut self, item: Outgoing, settings: &Settings) -> Offered {
        let weight = item.body.weight() as u64;
        let mut offered = Offered::Taken;
        if !self.has_room(weight, settings) {
            if item.qos != Qos::AtMostOnce {
                return Offered::Overflow;
            }
            let is_oldest_qos0 = self
                .items
                .front()
                .is_some_and(|oldest| oldest.qos == Qos::AtMostOnce);
            if !settings.qos0_drop_oldest || !is_oldest_qos0 {
                return Offered::DroppedNew;
            }
            self.pop();
            if !self.has_room(weight, settings) {
                return Offered::DroppedNew;
            }
            offered = Offered::DroppedOldest;
        }
        self.bytes += weight;
        self.items.push_back(item);
        offered
    }

    pub(crate) fn has_room(&self, weight: u64, settings: &Settings) -> bool {
        self.items.len() < settings.session_inbox_size as usize
            && self.bytes + weight <= settings.session_inbox_bytes
    }

    pub(crate) fn front(&self) -> Option<&Outgoing> {
        self.items.front()
    }

    pub(crate) fn pop(&mut self) -> Option<Outgoing> {
        let item = self.items.pop_front()?;
        self.bytes -= item.body.weight() as u64;
        self.items.trim();
        Some(item)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }
}

#[cfg(test)]
mod tests {
    use bifrust_model::{ClientId, Hlc, Topic};

    use super::*;

    fn item(qos: Qos, payload: &'static [u8]) -> Outgoing {
        let message = Message {
            topic: Topic::new("t".into()).unwrap(),
            payload: payload.into(),
            qos,
            retain: false,
            stamp: Hlc::default(),
            expiry_seconds: None,
            properties: Default::default(),
            publisher: ClientId::new("p").unwrap(),
        };
        Outgoing {
            body: Body::Stored(Arc::new(message)),
            qos,
            retain: false,
            ids: None,
        }
    }

    #[test]
    fn qos0_is_dropped_and_higher_qos_overflows_at_the_bound() {
        let settings = Settings {
            session_inbox_size: 1,
            qos0_drop_oldest: false,
            ..Settings::default()
        };
        let mut queue = Queue::default();
        assert_eq!(
            queue.offer(item(Qos::AtMostOnce, b"a"), &settings),
            Offered::Taken
        );
        assert_eq!(
            queue.offer(item(Qos::AtMostOnce, b"b"), &settings),
            Offered::DroppedNew
        );
        assert_eq!(
            queue.offer(item(Qos::AtLeastOnce, b"c"), &settings),
            Offered::Overflow
        );
        let drop_oldest = Settings {
            qos0_drop_oldest: true,
            ..settings
        };
        assert_eq!(
            queue.offer(item(Qos::AtMostOnce, b"d"), &drop_oldest),
            Offered::DroppedOldest
        );
        assert_eq!(&*queue.pop().unwrap().body.payload, b"d");
        assert_eq!((queue.len(), queue.bytes), (0, 0));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let settings = Settings {
            session_inbox_bytes: 6,
            ..Settings::default()
        };
        let mut queue = Queue::default();
        assert_eq!(
            queue.offer(item(Qos::AtLeastOnce, b"12345"), &settings),
            Offered::Taken
        );
        assert_eq!(
            queue.offer(item(Qos::AtLeastOnce, b""), &settings),
            Offered::Overflow
        );
    }
}
