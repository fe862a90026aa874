//! Retained messages at subscribe time (contract C3): read page by page after the route is in, as
//! fast as the client takes them.
//!
//! While a scan runs, live publishes with RETAIN reach the session too. Their stamps are noted, so
//! that an older retained value never follows a newer live one.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::RandomState;
use bifrust_inbox::InboxError;
use bifrust_model::{
    EventKind, Hlc, Message, RetainHandling, SubscriptionOptions, Topic, TopicFilter,
};
use bifrust_mqtt_codec::ReasonCode;
use bifrust_retain::{Cursor, Page, PageLimit, RetainError};
use hashbrown::HashMap;

use crate::connection::Ending;
use crate::mailbox::{Completion, Seat};
use crate::session::queue::{Body, Outgoing};
use crate::shard::Shard;
use crate::shard::timer::Timer;

/// Messages and bytes of one page.
const PAGE_MESSAGES: usize = 128;
const PAGE_BYTES: usize = 256 << 10;
/// The next page is read once fewer messages than this wait for the client.
const QUEUE_LOW: usize = 64;
/// Live topics noted during scans; beyond it the session cannot keep its promise and ends.
const LIVE_MAX: usize = 65_536;
/// How long until a refused page is asked for again.
const RETRY_MS: u64 = 250;

/// One subscription's retained messages.
struct Scan {
    filter: TopicFilter,
    options: SubscriptionOptions,
    cursor: Option<Cursor>,
    /// Messages that may still be sent.
    left: u32,
    /// Whether all it has to find is in the store.
    is_ready: bool,
}

/// All retained messages a session still has to get, subscription by subscription.
pub(crate) struct Scans {
    /// By number, in the order of the subscriptions: an answer for a cancelled one is recognised.
    waiting: BTreeMap<u64, Scan>,
    /// Their numbers. A client may subscribe to far more filters than are read in that time.
    by_filter: HashMap<TopicFilter, u64, RandomState>,
    numbers: u64,
    is_reading: bool,
    /// Stamps of what came live meanwhile.
    live: HashMap<Topic, Hlc, RandomState>,
    /// Read and not taken by a persistent session yet.
    held: Vec<(Message, SubscriptionOptions)>,
    is_inserting: bool,
    is_waiting: bool,
}

impl Scans {
    fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            by_filter: HashMap::default(),
            numbers: 0,
            is_reading: false,
            live: HashMap::default(),
            held: Vec::new(),
            is_inserting: false,
            is_waiting: false,
        }
    }

    /// A publish with RETAIN reached the session live.
    pub(crate) fn note_live(&mut self, topic: &Topic, stamp: Hlc) {
        let noted = self.live.entry_ref(topic).or_insert(stamp);
        *noted = stamp.max(*noted);
    }

    /// Puts a subscription behind the others. The number names it.
    fn add(&mut self, scan: Scan) -> u64 {
        self.numbers += 1;
        self.by_filter.insert(scan.filter.clone(), self.numbers);
        self.waiting.insert(self.numbers, scan);
        self.numbers
    }

    /// The subscription is gone: no more of its messages.
    pub(crate) fn cancel(&mut self, filter: &TopicFilter) {
        if let Some(number) = self.by_filter.remove(filter) {
            self.is_reading &= !self.is_at_front(number);
            self.waiting.remove(&number);
        }
    }

    /// All of the first subscription's messages are read.
    fn finish_front(&mut self) {
        if let Some((_, scan)) = self.waiting.pop_first() {
            self.by_filter.remove(&scan.filter);
        }
    }

    fn is_at_front(&self, number: u64) -> bool {
        let front = self.waiting.first_key_value();
        front.is_some_and(|(first, _)| *first == number)
    }

    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.held.is_empty() && !self.is_inserting
    }

    /// Whether this retained value may still be sent.
    fn is_current(&self, message: &Message) -> bool {
        self.live
            .get(&message.topic)
            .is_none_or(|live| *live < message.stamp)
    }
}

impl Shard {
    /// A filter was granted: its retained messages follow, if it asks for them.
    pub(crate) fn start_scan(
        &mut self,
        seat: Seat,
        filter: TopicFilter,
        options: SubscriptionOptions,
        is_new: bool,
    ) {
        let wants = match options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        let Some(session) = self.session(seat) else {
            return;
        };
        let settings = session.tenant.settings.load();
        if !wants || filter.is_shared() || !settings.retain_enabled {
            return;
        }
        let left = settings.retain_message_match_limit.unwrap_or(u32::MAX);
        drop(settings);
        let scans = session.scans.get_or_insert_with(|| Box::new(Scans::new()));
        // A repeated SUBSCRIBE sends all again; the scan that still runs is not needed then.
        scans.cancel(&filter);
        let number = scans.add(Scan {
            filter,
            options,
            cursor: None,
            left,
            is_ready: false,
        });
        let tenant = session.tenant.number;
        let done = self.reply(seat, move |()| Completion::ScanReady(number));
        if !self.edge.copies.wait(tenant, done) {
            self.scan_ready(seat, number);
        }
    }

    /// Everything this scan has to find is in the store.
    pub(crate) fn scan_ready(&mut self, seat: Seat, number: u64) {
        let Some(scans) = self
            .session(seat)
            .and_then(|session| session.scans.as_mut())
        else {
            return;
        };
        if let Some(scan) = scans.waiting.get_mut(&number) {
            scan.is_ready = true;
        }
        self.pump_scans(seat.slot);
    }

    /// Reads the next page if the client has room for it.
    pub(crate) fn pump_scans(&mut self, slot: u32) {
        let retain = self.edge.services.retain.clone();
        let now_ms = self.edge.services.clock.now_ms();
        let Some(seat) = self.seat(slot) else {
            return;
        };
        let Some(session) = self.session(seat) else {
            return;
        };
        let tenant = session.tenant.number;
        let has_room = session.queue.len() < QUEUE_LOW;
        let Some(scans) = &mut session.scans else {
            return;
        };
        if scans.is_done() {
            session.scans = None;
            return;
        }
        if scans.live.len() > LIVE_MAX {
            let ending = Ending::of(
                EventKind::Overflowed,
                ReasonCode::QUOTA_EXCEEDED,
                "too many live changes while retained messages are sent",
            );
            return self.doom(seat, ending);
        }
        let is_busy = scans.is_reading || scans.is_inserting || scans.is_waiting;
        if is_busy || !scans.held.is_empty() || !has_room {
            return;
        }
        let Some(mut front) = scans.waiting.first_entry() else {
            return;
        };
        let number = *front.key();
        let scan = front.get_mut();
        if !scan.is_ready {
            return;
        }
        let limit = PageLimit {
            messages: PAGE_MESSAGES.min(scan.left as usize),
            bytes: PAGE_BYTES,
        };
        let (filter, cursor) = (scan.filter.clone(), scan.cursor.take());
        scans.is_reading = true;
        let done = self.reply(seat, move |result| Completion::RetainedPage(number, result));
        retain.scan(tenant, &filter, cursor, limit, now_ms, done);
    }

    pub(crate) fn retained_page(
        &mut self,
        seat: Seat,
        number: u64,
        result: Result<Page, RetainError>,
    ) {
        let Some(session) = self.session(seat) else {
            return;
        };
        let is_durable = session.durable.is_some();
        let client = session.client.clone();
        let Some(scans) = &mut session.scans else {
            return;
        };
        if !scans.is_at_front(number) {
            return;
        }
        scans.is_reading = false;
        let page = match result {
            Ok(page) => page,
            Err(error) => {
                // The promise stands: read again, from the start of the subscription if need be.
                self.emit(seat, EventKind::MatchRetainError, |event| {
                    event.detail(error.to_string())
                });
                return self.wait_with_scans(seat);
            }
        };
        let Some(scan) = scans.waiting.get_mut(&number) else {
            return;
        };
        let options = scan.options;
        let count = u32::try_from(page.messages.len()).unwrap_or(u32::MAX);
        scan.left = scan.left.saturating_sub(count);
        scan.cursor = page.next;
        if scan.cursor.is_none() || scan.left == 0 {
            scans.finish_front();
        }
        let mut messages = page.messages;
        messages.retain(|message| {
            let is_own = options.no_local && message.publisher == client.client;
            scans.is_current(message) && !is_own
        });
        if is_durable {
            scans.held = messages
                .into_iter()
                .map(|message| (message, options))
                .collect();
            self.insert_held(seat);
        } else {
            for message in messages {
                self.offer(seat.slot, retained(message, options));
            }
        }
        self.mark_dirty(seat.slot);
        self.pump_scans(seat.slot);
    }

    /// Puts what was read into a persistent session's queue, as far as it has room.
    fn insert_held(&mut self, seat: Seat) {
        let inbox = self.edge.services.inbox.clone();
        let Some(session) = self.session(seat) else {
            return;
        };
        let reference = session.reference();
        let Some(scans) = &mut session.scans else {
            return;
        };
        if scans.held.is_empty() || scans.is_inserting {
            return;
        }
        scans.is_inserting = true;
        let messages = scans.held.clone();
        let done = self.reply(seat, Completion::RetainedInserted);
        inbox.insert_retained(&reference, messages, done);
    }

    pub(crate) fn retained_inserted(&mut self, seat: Seat, result: Result<usize, InboxError>) {
        let Some(scans) = self
            .session(seat)
            .and_then(|session| session.scans.as_mut())
        else {
            return;
        };
        scans.is_inserting = false;
        match result {
            Ok(taken) => {
                scans.held.drain(..taken.min(scans.held.len()));
                // What a live publish has overtaken meanwhile is not sent any more.
                let held = std::mem::take(&mut scans.held);
                let current = held.into_iter().filter(|(held, _)| scans.is_current(held));
                scans.held = current.collect();
                if scans.held.is_empty() {
                    self.pump_scans(seat.slot);
                } else {
                    self.wait_with_scans(seat);
                }
            }
            Err(InboxError::Refused | InboxError::Unknown) => self.wait_with_scans(seat),
            Err(error) => self.inbox_failed(seat, error),
        }
    }

    fn wait_with_scans(&mut self, seat: Seat) {
        let due = self.now_ms + RETRY_MS;
        if let Some(scans) = self
            .session(seat)
            .and_then(|session| session.scans.as_mut())
            && !std::mem::replace(&mut scans.is_waiting, true)
        {
            self.wheel.arm(due, seat, Timer::Retry);
        }
    }

    /// Time has passed: what was refused is tried again.
    pub(crate) fn retry_scans(&mut self, seat: Seat) {
        let Some(scans) = self
            .session(seat)
            .and_then(|session| session.scans.as_mut())
        else {
            return;
        };
        scans.is_waiting = false;
        self.insert_held(seat);
        self.pump_scans(seat.slot);
    }
}

fn retained(message: Message, options: SubscriptionOptions) -> Outgoing {
    Outgoing {
        qos: message.qos.min(options.qos),
        // MQTT-3.3.1-8.
        retain: true,
        ids: options.id.map(|id| [id.get()].as_slice().into()),
        body: Body::Stored(Arc::new(message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(filter: &str) -> Scan {
        Scan {
            filter: TopicFilter::new(filter.to_owned().into()).unwrap(),
            options: SubscriptionOptions::default(),
            cursor: None,
            left: 1,
            is_ready: true,
        }
    }

    #[test]
    fn scans_keep_the_order_of_subscriptions_and_a_cancelled_one_is_no_longer_read() {
        let mut scans = Scans::new();
        let [a, b, c] = ["a", "b", "c"].map(|filter| scans.add(scan(filter)));
        scans.is_reading = true;
        scans.cancel(&scan("b").filter);
        assert!(scans.is_reading && scans.is_at_front(a));
        scans.cancel(&scan("a").filter);
        assert!(!scans.is_reading && scans.is_at_front(c));
        let again = scans.add(scan("a"));
        assert!(![a, b, c].contains(&again));
        scans.finish_front();
        assert!(scans.is_at_front(again) && scans.by_filter.len() == 1);
        scans.finish_front();
        assert!(scans.is_done() && scans.by_filter.is_empty());
    }
}
