//! Mail between shards, and from the services to a shard: pushed in batches, taken all at once.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bifrust_dist::{
    Deliverer, LiveMember, MatchError, Matched, MemberId, Pick, Publication, PublishError,
    RouteError,
};
use bifrust_inbox::{Delivery, Fetched, InboundId, InboxError, Opened, Owner, Push, Subscribed};
use bifrust_model::{Tenant, TenantNumber, Topic};
use bifrust_plugin_api::{Access, AuthAnswer, ExchangeAnswer};
use bifrust_registry::RegistryError;
use bifrust_retain::{Page, RetainError};
use bifrust_session_dict::{Claim, ConnectionRef, Connections};

use crate::connection::publish::Orphan;
use crate::session::share::Shared;
use crate::shard::share::seat_of;

/// Called exactly once, on any thread; must not block.
pub(crate) type Then<T> = Box<dyn FnOnce(T) + Send>;

/// Most shards a node has: a route keeps one bit for each.
pub(crate) const SHARDS_MAX: usize = 64;

/// Deliveries that the publishes before a shard stand for, above which senders stop reading from
/// their clients. What a shard has taken and not yet handed on counts: it is what others wait for.
const CROWDED: usize = 65_536;

/// The same for the bytes of publishes, where nothing else is said.
const CROWDED_BYTES: usize = 32 << 20;

/// What a publish takes beside its topic, payload and properties.
const PUBLISH_BYTES: usize = 384;

/// A socket that came in.
pub(crate) struct Arrival {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    /// Index into the configured listeners.
    pub(crate) listener: usize,
}

/// Which connection is meant; a slot whose generation has moved on takes no more mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seat {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// A message for a member of a group.
pub(crate) struct Handoff {
    pub(crate) to: Seat,
    pub(crate) shared: Shared,
}

impl Handoff {
    pub(crate) fn mail(to: LiveMember, shared: Shared) -> Mail {
        let to = seat_of(to);
        Mail::Share(Box::new(Self { to, shared }))
    }
}

/// Something for a shard to do.
pub(crate) enum Mail {
    Arrived(Arrival),
    /// For this shard's live subscribers.
    Publish(Arc<Publication>),
    /// For the picked member of a group.
    Share(Box<Handoff>),
    /// The members for the first message that moves to another one are known again.
    Rematched {
        result: Result<Arc<Matched>, MatchError>,
    },
    /// A message that moved to a persistent member did not get there.
    Undelivered {
        shared: Box<Shared>,
        error: PublishError,
    },
    /// Messages of a persistent session.
    Push {
        to: Seat,
        epoch: u64,
        deliveries: Vec<Delivery>,
    },
    /// A newer connection wants the session.
    Kick {
        to: Seat,
    },
    Completed {
        to: Seat,
        what: Completion,
        /// Bytes that are no longer on their way to a durable store.
        bytes: usize,
    },
    /// A route was added or removed.
    Routed {
        tenant: TenantNumber,
        filter: usize,
        result: Result<(), RouteError>,
    },
    /// Wakes the shard, no more.
    Nothing,
    /// Close everything, at the latest at this moment.
    Stop {
        deadline: Instant,
    },
}

/// The answer to something that a connection asked a service.
pub(crate) enum Completion {
    Authenticated(Box<AuthAnswer>),
    Exchanged(Box<ExchangeAnswer>),
    Tenant(Result<Arc<Tenant>, RegistryError>),
    Claimed(Claim),
    Attached(Box<Result<Opened, InboxError>>),
    Detached(Result<(), InboxError>),
    /// A publish may or may not be done; the number is its place in the inbound pipeline.
    PublishAccess(u64, Access),
    /// One filter of a SUBSCRIBE or UNSUBSCRIBE may or may not be used.
    FilterAccess(usize, Access),
    Begun(u64, Result<InboundId, InboxError>),
    Retained(u64, Result<(), RetainError>),
    /// Of a QoS 0 message: its topic, whether it cleared what was there.
    RetainedUnasked(Topic, bool, Result<(), RetainError>),
    Matched(u64, Result<Arc<Matched>, MatchError>),
    /// Who was picked for a publish is durable, or not.
    Picked(u64, Option<Box<Orphan>>, Result<(), InboxError>),
    /// The number is the token of the waiting acknowledgement.
    Delivered(u64, Result<(), PublishError>),
    /// A QoS 0 publish reached its durable receivers or not.
    DeliveredUnasked(Result<(), PublishError>),
    Released(u64, u16, Result<(), InboxError>),
    Subscribed(Result<Vec<Subscribed>, InboxError>),
    Unsubscribed(Result<Vec<bool>, InboxError>),
    Fetched(Result<Fetched, InboxError>),
    Settled(Result<(), InboxError>),
    /// What a scan of retained messages waited for has arrived.
    ScanReady(u64),
    RetainedPage(u64, Result<Page, RetainError>),
    RetainedInserted(Result<usize, InboxError>),
}

impl Mail {
    /// What a message for clients of the shard takes; 0 for other mail.
    pub(crate) fn publish_bytes(&self) -> usize {
        match self {
            Self::Publish(publication) => publication.message.weight() + PUBLISH_BYTES,
            Self::Share(handoff) => handoff.shared.publication.message.weight() + PUBLISH_BYTES,
            _ => 0,
        }
    }
}

/// The mailboxes of all shards. They exist before the server runs, so that services can be bound
/// to them.
pub struct Mailboxes {
    boxes: Box<[Mailbox]>,
    bytes_max: usize,
}

struct Mailbox {
    inner: Mutex<Inner>,
    /// Publishes that are not handed on yet, read without the lock.
    publishes: AtomicUsize,
    /// Their bytes.
    bytes: AtomicUsize,
    /// Receivers that one of them had lately, at least 1: the sender cannot know them.
    receivers: AtomicUsize,
    /// Shards to wake once this mailbox is no longer crowded, a bit each.
    waiting: AtomicU64,
    connections: AtomicUsize,
}

#[derive(Default)]
struct Inner {
    mails: Vec<Mail>,
    waker: Option<Waker>,
    /// Set once the shard has ended: mail is dropped.
    is_closed: bool,
}

impl Mailboxes {
    /// Mailboxes for `shards` shards, 1 to 64.
    pub fn new(shards: usize) -> Arc<Self> {
        Self::within(shards, CROWDED_BYTES)
    }

    /// The same, each crowded when publishes of so many bytes wait in it: then senders stop reading from
    /// their clients.
    pub fn within(shards: usize, bytes_max: usize) -> Arc<Self> {
        let shards = shards.clamp(1, SHARDS_MAX);
        let boxes = (0..shards)
            .map(|_| Mailbox {
                inner: Mutex::default(),
                publishes: AtomicUsize::new(0),
                bytes: AtomicUsize::new(0),
                receivers: AtomicUsize::new(1),
                waiting: AtomicU64::new(0),
                connections: AtomicUsize::new(0),
            })
            .collect();
        Arc::new(Self { boxes, bytes_max })
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.boxes.len()
    }

    /// Connections of all shards.
    pub(crate) fn connections(&self) -> usize {
        self.boxes
            .iter()
            .map(|mailbox| mailbox.connections.load(Ordering::Relaxed))
            .sum()
    }

    /// The shard with the fewest connections.
    pub(crate) fn emptiest(&self) -> usize {
        (0..self.boxes.len())
            .min_by_key(|&shard| self.boxes[shard].connections.load(Ordering::Relaxed))
            .unwrap_or(0)
    }

    /// Counts connections of a shard: they are counted when they are handed over.
    pub(crate) fn count_connections(&self, shard: usize, by: isize) {
        let connections = &self.boxes[shard].connections;
        if by >= 0 {
            connections.fetch_add(by.unsigned_abs(), Ordering::Relaxed);
        } else {
            connections.fetch_sub(by.unsigned_abs(), Ordering::Relaxed);
        }
    }

    pub(crate) fn post(&self, shard: usize, mail: Mail) {
        let Some(mailbox) = self.boxes.get(shard) else {
            return;
        };
        let bytes = mail.publish_bytes();
        if bytes > 0 {
            mailbox.publishes.fetch_add(1, Ordering::Relaxed);
            mailbox.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        let mut inner = mailbox.lock();
        if inner.is_closed {
            return;
        }
        inner.mails.push(mail);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Hands over several at once.
    pub(crate) fn post_all(&self, shard: usize, mails: &mut Vec<Mail>) {
        if mails.is_empty() {
            return;
        }
        let mut inner = self.boxes[shard].lock();
        if inner.is_closed {
            return;
        }
        inner.mails.append(mails);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Hands over publishes in one go. True if the mailbox is crowded and `from` should wait.
    pub(crate) fn post_publishes(&self, shard: usize, from: usize, mails: &mut Vec<Mail>) -> bool {
        let Some(mailbox) = self.boxes.get(shard) else {
            mails.clear();
            return false;
        };
        mailbox.publishes.fetch_add(mails.len(), Ordering::Relaxed);
        let bytes = mails.iter().map(Mail::publish_bytes).sum();
        mailbox.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut inner = mailbox.lock();
        if inner.is_closed {
            mails.clear();
            return false;
        }
        inner.mails.append(mails);
        // Under the lock, as is the receiver's count: one that has handed on enough sees who waits.
        let is_crowded = mailbox.is_above(CROWDED, self.bytes_max);
        if is_crowded {
            mailbox.waiting.fetch_or(1 << from, Ordering::Relaxed);
        }
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        is_crowded
    }

    /// Whether publishes for this shard have to wait.
    pub(crate) fn is_crowded(&self, shard: usize) -> bool {
        self.boxes[shard].is_above(CROWDED, self.bytes_max)
    }

    /// Takes all that is there into `mails`, which is empty; pending while there is nothing.
    pub(crate) fn poll_take(
        &self,
        shard: usize,
        context: &Context<'_>,
        mails: &mut Vec<Mail>,
    ) -> Poll<()> {
        let mailbox = &self.boxes[shard];
        let mut inner = mailbox.lock();
        if inner.mails.is_empty() {
            inner.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        std::mem::swap(&mut inner.mails, mails);
        Poll::Ready(())
    }

    /// A shard has handed on so many publishes that it had taken, to so many receivers in all.
    pub(crate) fn handed_on(&self, shard: usize, publishes: usize, receivers: usize, bytes: usize) {
        if publishes == 0 {
            return;
        }
        let mailbox = &self.boxes[shard];
        let inner = mailbox.lock();
        mailbox.publishes.fetch_sub(publishes, Ordering::Relaxed);
        mailbox.bytes.fetch_sub(bytes, Ordering::Relaxed);
        mailbox
            .receivers
            .store((receivers / publishes).max(1), Ordering::Relaxed);
        let waiting = match mailbox.is_above(CROWDED / 2, self.bytes_max / 2) {
            true => 0,
            false => mailbox.waiting.swap(0, Ordering::Relaxed),
        };
        drop(inner);
        self.wake(waiting);
    }

    fn wake(&self, shards: u64) {
        for (shard, mailbox) in self.boxes.iter().enumerate() {
            if shards >> shard & 1 == 1 {
                let waker = mailbox.lock().waker.take();
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        }
    }

    /// Drops what is there and what will come.
    pub(crate) fn close(&self, shard: usize) {
        let mut inner = self.boxes[shard].lock();
        inner.is_closed = true;
        let mails = std::mem::take(&mut inner.mails);
        drop(inner);
        drop(mails);
    }
}

impl Mailbox {
    fn is_above(&self, deliveries: usize, bytes: usize) -> bool {
        self.deliveries() > deliveries || self.bytes.load(Ordering::Relaxed) > bytes
    }

    /// What its publishes stand for.
    fn deliveries(&self) -> usize {
        let publishes = self.publishes.load(Ordering::Relaxed);
        publishes.saturating_mul(self.receivers.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held; if it did, the mails would still be whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owner for Mailboxes {
    fn push(&self, to: ConnectionRef, epoch: u64, deliveries: Vec<Delivery>) {
        let mail = Mail::Push {
            to: seat(to),
            epoch,
            deliveries,
        };
        self.post(usize::from(to.shard), mail);
    }

    fn push_all(&self, pushes: Vec<Push>) {
        let mut by_shard: Vec<Vec<Mail>> = self.boxes.iter().map(|_| Vec::new()).collect();
        for push in pushes {
            if let Some(mails) = by_shard.get_mut(usize::from(push.to.shard)) {
                mails.push(Mail::Push {
                    to: seat(push.to),
                    epoch: push.epoch,
                    deliveries: push.deliveries,
                });
            }
        }
        for (shard, mut mails) in by_shard.into_iter().enumerate() {
            self.post_all(shard, &mut mails);
        }
    }
}

impl Connections for Mailboxes {
    fn kick(&self, connection: ConnectionRef, _by: Option<SocketAddr>) {
        let to = seat(connection);
        self.post(usize::from(connection.shard), Mail::Kick { to });
    }
}

/// Hands publications of others than connections (wills, the API) to the shards they match.
impl Deliverer for Mailboxes {
    fn deliver(
        &self,
        publication: &Arc<Publication>,
        matched: &Arc<Matched>,
        picks: &[Pick],
        done: Then<Result<(), PublishError>>,
    ) {
        // One node: every live target is this one.
        let shards = matched.live.iter().fold(0, |all, live| all | live.shards);
        for shard in 0..self.boxes.len() {
            if shards >> shard & 1 == 1 {
                self.post(shard, Mail::Publish(publication.clone()));
            }
        }
        for pick in picks {
            if let Some((group, member)) = matched.picked(*pick)
                && let MemberId::Live(live) = member.id
            {
                let shared = Shared {
                    publication: publication.clone(),
                    filter: group.filter.clone(),
                    avoid: Vec::new(),
                };
                self.post(usize::from(live.shard), Handoff::mail(live, shared));
            }
        }
        done(Ok(()));
    }
}

fn seat(connection: ConnectionRef) -> Seat {
    Seat {
        slot: connection.slot,
        generation: connection.generation,
    }
}

impl fmt::Debug for Mailboxes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailboxes")
            .field("shards", &self.shards())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bifrust_model::{ClientId, Hlc, Message, Qos, Settings, TenantName};
    use bytes::Bytes;

    use super::*;

    fn publishes(n: usize) -> Vec<Mail> {
        let publication = Arc::new(Publication {
            tenant: Arc::new(Tenant {
                number: TenantNumber(1),
                name: TenantName::new("t").unwrap(),
                settings: Arc::new(Settings::default()).into(),
            }),
            message: Message {
                topic: Topic::new("t".into()).unwrap(),
                payload: Bytes::new(),
                qos: Qos::AtMostOnce,
                retain: false,
                stamp: Hlc::default(),
                expiry_seconds: None,
                properties: Bytes::new(),
                publisher: ClientId::new("p").unwrap(),
            },
            key: None,
        });
        (0..n).map(|_| Mail::Publish(publication.clone())).collect()
    }

    fn take(mailboxes: &Mailboxes) -> Vec<Mail> {
        let mut mails = Vec::new();
        let context = Context::from_waker(Waker::noop());
        let _ = mailboxes.poll_take(0, &context, &mut mails);
        mails
    }

    #[test]
    fn a_mailbox_is_crowded_until_what_was_taken_is_handed_on() {
        let mailboxes = Mailboxes::new(2);
        assert!(mailboxes.post_publishes(0, 1, &mut publishes(CROWDED + 1)));
        let taken = take(&mailboxes).len();
        assert!(mailboxes.is_crowded(0));
        mailboxes.handed_on(0, taken, taken, taken * (1 + PUBLISH_BYTES));
        assert!(!mailboxes.is_crowded(0));
    }

    #[test]
    fn the_more_receivers_publishes_have_the_fewer_wait() {
        let mailboxes = Mailboxes::new(2);
        assert!(!mailboxes.post_publishes(0, 1, &mut publishes(101)));
        mailboxes.handed_on(0, 1, CROWDED / 100, 1 + PUBLISH_BYTES);
        assert!(!mailboxes.is_crowded(0));
        assert!(mailboxes.post_publishes(0, 1, &mut publishes(10)));
        mailboxes.handed_on(0, 1, 1, 1 + PUBLISH_BYTES);
        assert!(!mailboxes.is_crowded(0));
    }

    #[test]
    fn large_publishes_crowd_it_by_their_bytes() {
        let mailboxes = Mailboxes::within(2, 10 * PUBLISH_BYTES);
        assert!(!mailboxes.post_publishes(0, 1, &mut publishes(9)));
        assert!(mailboxes.post_publishes(0, 1, &mut publishes(1)));
        mailboxes.handed_on(0, 5, 5, 5 * (1 + PUBLISH_BYTES));
        assert!(!mailboxes.is_crowded(0));
    }
}
