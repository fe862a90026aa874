//! The live half of a persistent session: what was taken over from its queue, what has been sent,
//! what is to be settled there.

use std::collections::VecDeque;

use bifrust_inbox::{Delivery, SessionRef, Settle};

/// Messages held ready for the socket; the rest stays in the queue until there is room.
const READY_MAX: usize = 256;
/// Bytes of them.
const READY_BYTES_MAX: usize = 1 << 20;
/// Below this many the queue is asked for more.
const READY_LOW: usize = 64;

/// What the shell asks the queue for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) from: u64,
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// Deliveries in, settles out.
pub(crate) struct Durable {
    pub(crate) session: SessionRef,
    /// Which of the client's sessions it is.
    pub(crate) incarnation: u64,
    ready: VecDeque<Delivery>,
    ready_bytes: usize,
    /// The first entry not taken over yet.
    next: u64,
    /// The first entry not written to the socket.
    sent_before: u64,
    /// Entries from `next` on may exist.
    is_behind: bool,
    is_fetching: bool,
    gathered: Vec<Settle>,
    settling: Vec<Settle>,
}

impl Durable {
    pub(crate) fn new(session: SessionRef, incarnation: u64, next: u64) -> Self {
        Self {
            session,
            incarnation,
            ready: VecDeque::new(),
            ready_bytes: 0,
            next,
            sent_before: next,
            is_behind: true,
            is_fetching: false,
            gathered: Vec::new(),
            settling: Vec::new(),
        }
    }

    /// Takes pushed entries if they continue what is here; otherwise they are fetched later.
    pub(crate) fn take_push(&mut self, deliveries: impl Iterator<Item = Delivery>) {
        for delivery in deliveries {
            if delivery.seq < self.next {
                continue;
            }
            let is_next = delivery.seq == self.next && !self.is_fetching && !self.is_behind;
            if !is_next || !self.has_room() {
                self.is_behind = true;
                return;
            }
            self.next = delivery.seq + 1;
            self.push(delivery);
        }
    }

    fn has_room(&self) -> bool {
        self.ready.len() < READY_MAX && self.ready_bytes < READY_BYTES_MAX
    }

    fn push(&mut self, delivery: Delivery) {
        self.ready_bytes += delivery.message.weight();
        self.ready.push_back(delivery);
    }

    /// What to fetch now, if anything; at most one fetch is out at a time.
    pub(crate) fn start_fetch(&mut self) -> Option<Fetch> {
        let is_low = self.ready.len() < READY_LOW && self.ready_bytes < READY_BYTES_MAX / 2;
        if !self.is_behind || self.is_fetching || !is_low {
            return None;
        }
        self.is_fetching = true;
        self.is_behind = false;
        Some(Fetch {
            from: self.next,
            messages: READY_MAX - READY_LOW,
            bytes: READY_BYTES_MAX / 2,
        })
    }

    /// A fetch came back.
    pub(crate) fn take_fetched(&mut self, deliveries: Vec<Delivery>, next: u64, more: bool) {
        self.is_fetching = false;
        self.is_behind |= more;
        for delivery in deliveries {
            if delivery.seq >= self.next {
                self.push(delivery);
            }
        }
        self.next = self.next.max(next);
    }

    /// A fetch failed; it is tried again later.
    pub(crate) fn fetch_failed(&mut self) {
        self.is_fetching = false;
        self.is_behind = true;
    }

    pub(crate) fn front(&self) -> Option<&Delivery> {
        self.ready.front()
    }

    /// Entries that are known to wait for the socket.
    pub(crate) fn waiting(&self) -> usize {
        let behind = if self.is_behind || self.is_fetching {
            READY_MAX
        } else {
            0
        };
        self.ready.len() + behind
    }

    /// The next entry leaves for the socket, or is dropped on the way there.
    pub(crate) fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.ready.pop_front()?;
        self.ready_bytes -= delivery.message.weight();
        self.sent_before = self.sent_before.max(delivery.seq + 1);
        if self.ready.is_empty() {
            self.ready = VecDeque::new();
        }
        Some(delivery)
    }

    /// The first entry not written to the socket.
    pub(crate) fn sent_before(&self) -> u64 {
        self.sent_before
    }

    /// Something has to become durable.
    pub(crate) fn settle(&mut self, settle: Settle) {
        self.gathered.push(settle);
    }

    /// What to settle now; at most one call is out at a time, the next takes all that gathered.
    pub(crate) fn start_settle(&mut self) -> Option<Vec<Settle>> {
        if self.gathered.is_empty() || !self.settling.is_empty() {
            return None;
        }
        self.settling = std::mem::take(&mut self.gathered);
        Some(self.settling.clone())
    }

    /// What has gathered and is not out, when the connection ends.
    pub(crate) fn last_settles(&mut self) -> Vec<Settle> {
        std::mem::take(&mut self.gathered)
    }

    /// The settle call is durable: what it settled.
    pub(crate) fn settled(&mut self) -> Vec<Settle> {
        std::mem::take(&mut self.settling)
    }

    /// The settle call was not done; the same goes out again first.
    pub(crate) fn settle_failed(&mut self) {
        let mut again = std::mem::take(&mut self.settling);
        again.append(&mut self.gathered);
        self.gathered = again;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bifrust_model::{ClientId, Hlc, Message, Qos, Tenant, TenantName, TenantNumber, Topic};

    use super::*;

    fn delivery(seq: u64) -> Delivery {
        let message = Message {
            topic: Topic::new("t".into()).unwrap(),
            payload: Default::default(),
            qos: Qos::AtLeastOnce,
            retain: false,
            stamp: Hlc::default(),
            expiry_seconds: None,
            properties: Default::default(),
            publisher: ClientId::new("p").unwrap(),
        };
        Delivery {
            seq,
            qos: Qos::AtLeastOnce,
            retain: false,
            subscription_ids: Default::default(),
            message: Arc::new(message),
            possibly_sent: false,
        }
    }

    fn durable(next: u64) -> Durable {
        let tenant = Tenant {
            number: TenantNumber(1),
            name: TenantName::new("t").unwrap(),
            settings: Arc::new(bifrust_model::Settings::default()).into(),
        };
        let session = SessionRef {
            tenant: Arc::new(tenant),
            client: ClientId::new("c").unwrap(),
            epoch: 1,
        };
        Durable::new(session, 1, next)
    }

    fn seqs(durable: &mut Durable) -> Vec<u64> {
        std::iter::from_fn(|| durable.pop())
            .map(|d| d.seq)
            .collect()
    }

    #[test]
    fn what_was_pushed_during_a_fetch_is_fetched_after_it() {
        let mut durable = durable(5);
        assert_eq!(durable.start_fetch().unwrap().from, 5);
        durable.take_push([delivery(7)].into_iter());
        assert_eq!(durable.start_fetch(), None, "one at a time");
        durable.take_fetched(vec![delivery(5), delivery(6)], 7, false);
        assert_eq!(durable.start_fetch().unwrap().from, 7);
        durable.take_fetched(vec![delivery(7)], 8, false);
        assert_eq!(durable.start_fetch(), None);
        durable.take_push([delivery(7), delivery(8)].into_iter());
        assert_eq!(seqs(&mut durable), [5, 6, 7, 8]);
        assert_eq!(durable.sent_before(), 9);
    }

    #[test]
    fn a_gap_in_pushes_is_filled_by_a_fetch() {
        let mut durable = durable(1);
        durable.start_fetch();
        durable.take_fetched(vec![], 1, false);
        durable.take_push([delivery(2), delivery(3)].into_iter());
        assert_eq!(durable.front().map(|d| d.seq), None);
        assert_eq!(durable.start_fetch().unwrap().from, 1);
    }

    #[test]
    fn settles_gather_while_one_call_is_out() {
        let mut durable = durable(1);
        durable.settle(Settle::Done(1));
        assert_eq!(durable.start_settle().unwrap().len(), 1);
        durable.settle(Settle::Done(2));
        durable.settle(Settle::Done(3));
        assert!(durable.start_settle().is_none());
        durable.settle_failed();
        assert_eq!(durable.start_settle().unwrap().len(), 3);
        assert_eq!(durable.settled().len(), 3);
        assert!(durable.start_settle().is_none());
    }
}
