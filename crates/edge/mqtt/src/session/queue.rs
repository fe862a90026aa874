//! Messages that wait for room in the window or on the socket, within the session's bounds.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use bifrust_dist::Publication;
use bifrust_model::{Message, Qos, Settings};

use super::charge::Charge;
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

/// First in, first out, within `SessionInboxSize` and `SessionInboxBytes` and what its shard has left.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    items: Fifo<(Outgoing, Charge)>,
    bytes: u64,
}

impl Queue {
    pub(crate) fn offer(&mut self, item: Outgoing, charge: Charge, settings: &Settings) -> Offered {
        let weight = item.body.weight() as u64;
        let mut offered = Offered::Taken;
        if !self.has_room(weight, settings) || charge.is_too_much(self.bytes) {
            if item.qos != Qos::AtMostOnce {
                return Offered::Overflow;
            }
            let is_oldest_qos0 = self
                .items
                .front()
                .is_some_and(|(oldest, _)| oldest.qos == Qos::AtMostOnce);
            if !settings.qos0_drop_oldest || !is_oldest_qos0 {
                return Offered::DroppedNew;
            }
            self.pop();
            if !self.has_room(weight, settings) || charge.is_too_much(self.bytes) {
                return Offered::DroppedNew;
            }
            offered = Offered::DroppedOldest;
        }
        self.bytes += weight;
        self.items.push_back((item, charge));
        offered
    }

    pub(crate) fn has_room(&self, weight: u64, settings: &Settings) -> bool {
        self.items.len() < settings.session_inbox_size as usize
            && self.bytes + weight <= settings.session_inbox_bytes
    }

    pub(crate) fn front(&self) -> Option<&Outgoing> {
        self.items.front().map(|(item, _)| item)
    }

    pub(crate) fn pop(&mut self) -> Option<Outgoing> {
        let (item, _) = self.items.pop_front()?;
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

    use super::super::charge::Room;
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

    fn offer(queue: &mut Queue, item: Outgoing, settings: &Settings) -> Offered {
        let charge = Room::of(usize::MAX).charge(&item.body);
        queue.offer(item, charge, settings)
    }

    #[test]
    fn all_queues_together_are_bounded_and_the_largest_is_full_first() {
        let room = Room::of(64 * 1024);
        let settings = Settings::default();
        let (mut large, mut small) = (Queue::default(), Queue::default());
        let message = item(Qos::AtLeastOnce, &[0; 1000]);
        let mut offer = |queue: &mut Queue| {
            let charge = room.charge(&message.body);
            queue.offer(message.clone(), charge, &settings)
        };
        while offer(&mut large) == Offered::Taken {}
        assert_eq!(offer(&mut small), Offered::Taken);
        assert!((30..60).contains(&large.len()), "{}", large.len());
        let mut others: Vec<_> = (0..30).map(|_| Queue::default()).collect();
        let taken = others.iter_mut().map(&mut offer);
        let taken = taken.filter(|offered| *offered == Offered::Taken).count();
        assert!((5..20).contains(&taken), "{taken}");
        assert!(room.used() <= 64 * 1024 + 2000);
        drop((large, small, others));
        assert_eq!(room.used(), 0);
    }

    #[test]
    fn a_message_for_many_is_counted_once() {
        let room = Room::of(usize::MAX);
        let message = item(Qos::AtLeastOnce, &[0; 1000]);
        let charge = room.charge(&message.body);
        let before = room.used();
        let others: Vec<_> = (0..10).map(|_| charge.clone()).collect();
        assert!(room.used() - before < 1000);
        drop(charge);
        assert!(room.used() > 1000);
        drop(others);
        assert_eq!(room.used(), 0);
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
            offer(&mut queue, item(Qos::AtMostOnce, b"a"), &settings),
            Offered::Taken
        );
        assert_eq!(
            offer(&mut queue, item(Qos::AtMostOnce, b"b"), &settings),
            Offered::DroppedNew
        );
        assert_eq!(
            offer(&mut queue, item(Qos::AtLeastOnce, b"c"), &settings),
            Offered::Overflow
        );
        let drop_oldest = Settings {
            qos0_drop_oldest: true,
            ..settings
        };
        assert_eq!(
            offer(&mut queue, item(Qos::AtMostOnce, b"d"), &drop_oldest),
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
            offer(&mut queue, item(Qos::AtLeastOnce, b"12345"), &settings),
            Offered::Taken
        );
        assert_eq!(
            offer(&mut queue, item(Qos::AtLeastOnce, b""), &settings),
            Offered::Overflow
        );
    }
}
