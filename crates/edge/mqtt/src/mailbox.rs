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

/// Deliveries that the publishes of a tenant before a shard stand for, above which senders stop reading
/// from its clients. What a shard has taken and not yet handed on counts: it is what others wait for.
const CROWDED: usize = 32_768;

/// The same for all tenants together.
const FULL: usize = 4 * CROWDED;

/// The same for the bytes of publishes, where nothing else is said.
const CROWDED_BYTES: usize = 32 << 20;

/// Counters that tenants share by their numbers.
const TENANT_COUNTERS: usize = 64;

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
    /// The message, if this is one for clients of the shard.
    pub(crate) fn publication(&self) -> Option<&Publication> {
        match self {
            Self::Publish(publication) => Some(publication),
            Self::Share(handoff) => Some(&handoff.shared.publication),
            _ => None,
        }
    }
}

/// What a publish takes while it waits.
fn bytes_of(publication: &Publication) -> usize {
    publication.message.weight() + PUBLISH_BYTES
}

/// The mailboxes of all shards. They exist before the server runs, so that services can be bound
/// to them.
pub struct Mailboxes {
    boxes: Box<[Mailbox]>,
    bytes_max: usize,
}

struct Mailbox {
    inner: Mutex<Inner>,
    /// What is not handed on yet.
    all: Load,
    /// The same by tenant, as far as counters go.
    by_tenant: Box<[Load; TENANT_COUNTERS]>,
    /// Bytes of all of it.
    bytes: AtomicUsize,
    /// Shards with publishers that wait, a bit each.
    waiting: AtomicU64,
    connections: AtomicUsize,
}

/// Publishes that wait, read without the lock.
#[derive(Default)]
struct Load {
    publishes: AtomicUsize,
    /// Receivers that one of them had lately: the sender cannot know them.
    receivers: AtomicUsize,
}

impl Load {
    /// What its publishes stand for.
    fn deliveries(&self) -> usize {
        let publishes = self.publishes.load(Ordering::Relaxed);
        publishes.saturating_mul(self.receivers.load(Ordering::Relaxed).max(1))
    }

    fn handed_on(&self, handed: &Handed) {
        self.publishes
            .fetch_sub(handed.publishes, Ordering::Relaxed);
        let receivers = handed.receivers / handed.publishes.max(1);
        self.receivers.store(receivers, Ordering::Relaxed);
    }
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
                all: Load::default(),
                by_tenant: Box::new(std::array::from_fn(|_| Load::default())),
                bytes: AtomicUsize::new(0),
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
        mailbox.count(&mail);
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

    /// Hands over publishes in one go.
    pub(crate) fn post_publishes(&self, shard: usize, mails: &mut Vec<Mail>) {
        let Some(mailbox) = self.boxes.get(shard) else {
            return mails.clear();
        };
        for mail in &*mails {
            mailbox.count(mail);
        }
        self.post_all(shard, mails);
        mails.clear(); // it has closed
    }

    /// Whether publishers of this tenant have to wait before they publish more to this shard: it alone
    /// crowds it, or all together fill it. If so, the shard `from` is woken when that may have changed.
    pub(crate) fn must_wait(&self, shard: usize, tenant: TenantNumber, from: usize) -> bool {
        let mailbox = &self.boxes[shard];
        if !self.is_crowded(mailbox, tenant) {
            return false;
        }
        // Under the lock, as what is handed on: who hands on enough sees who waits.
        let _inner = mailbox.lock();
        let is_crowded = self.is_crowded(mailbox, tenant);
        if is_crowded {
            mailbox.waiting.fetch_or(1 << from, Ordering::Relaxed);
        }
        is_crowded
    }

    fn is_crowded(&self, mailbox: &Mailbox, tenant: TenantNumber) -> bool {
        mailbox.of(tenant).deliveries() > CROWDED
            || mailbox.all.deliveries() > FULL
            || mailbox.bytes.load(Ordering::Relaxed) > self.bytes_max
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

    /// Takes what is there into `mails`, which is empty.
    pub(crate) fn take(&self, shard: usize, mails: &mut Vec<Mail>) {
        std::mem::swap(&mut self.boxes[shard].lock().mails, mails);
    }

    /// A shard has handed on publishes of a tenant that it had taken.
    pub(crate) fn handed_on(&self, shard: usize, tenant: TenantNumber, handed: &Handed) {
        let mailbox = &self.boxes[shard];
        let own = mailbox.of(tenant);
        let inner = mailbox.lock();
        mailbox.all.handed_on(handed);
        own.handed_on(handed);
        let before = mailbox.bytes.fetch_sub(handed.bytes, Ordering::Relaxed);
        let has_room = own.deliveries() <= CROWDED / 2
            && mailbox.all.deliveries() <= FULL / 2
            && before - handed.bytes <= self.bytes_max / 2;
        let waiting = match has_room {
            true => mailbox.waiting.swap(0, Ordering::Relaxed),
            false => 0,
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

/// What a shard has handed on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Handed {
    pub(crate) publishes: usize,
    /// Clients that they went to, in all.
    pub(crate) receivers: usize,
    pub(crate) bytes: usize,
}

impl Handed {
    pub(crate) fn add(&mut self, publication: &Publication, receivers: usize) {
        self.publishes += 1;
        self.receivers += receivers;
        self.bytes += bytes_of(publication);
    }
}

impl Mailbox {
    fn count(&self, mail: &Mail) {
        if let Some(publication) = mail.publication() {
            let own = self.of(publication.tenant.number);
            for load in [own, &self.all] {
                load.publishes.fetch_add(1, Ordering::Relaxed);
            }
            self.bytes
                .fetch_add(bytes_of(publication), Ordering::Relaxed);
        }
    }

    fn of(&self, tenant: TenantNumber) -> &Load {
        &self.by_tenant[tenant.0 as usize % TENANT_COUNTERS]
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

    const FLOODING: TenantNumber = TenantNumber(1);
    const QUIET: TenantNumber = TenantNumber(2);

    fn publishes(tenant: TenantNumber, n: usize) -> Vec<Mail> {
        let publication = Arc::new(Publication {
            tenant: Arc::new(Tenant {
                number: tenant,
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

    fn post(mailboxes: &Mailboxes, tenant: TenantNumber, n: usize) {
        mailboxes.post_publishes(0, &mut publishes(tenant, n));
    }

    fn hand_on(mailboxes: &Mailboxes, tenant: TenantNumber, n: usize, receivers: usize) {
        let mut handed = Handed::default();
        for mail in publishes(tenant, n) {
            handed.add(mail.publication().expect("a publish"), receivers);
        }
        mailboxes.handed_on(0, tenant, &handed);
    }

    #[test]
    fn a_tenant_waits_until_what_was_taken_is_handed_on() {
        let mailboxes = Mailboxes::new(2);
        post(&mailboxes, FLOODING, CROWDED + 1);
        assert!(mailboxes.must_wait(0, FLOODING, 1));
        let mut mails = Vec::new();
        mailboxes.take(0, &mut mails);
        assert!(mailboxes.must_wait(0, FLOODING, 1));
        hand_on(&mailboxes, FLOODING, mails.len(), 1);
        assert!(!mailboxes.must_wait(0, FLOODING, 1));
    }

    #[test]
    fn the_more_receivers_publishes_have_the_fewer_wait() {
        let mailboxes = Mailboxes::new(2);
        post(&mailboxes, FLOODING, 101);
        assert!(!mailboxes.must_wait(0, FLOODING, 1));
        hand_on(&mailboxes, FLOODING, 1, CROWDED / 50);
        assert!(mailboxes.must_wait(0, FLOODING, 1));
        hand_on(&mailboxes, FLOODING, 1, 1);
        assert!(!mailboxes.must_wait(0, FLOODING, 1));
    }

    #[test]
    fn who_crowds_a_shard_waits_alone_until_it_is_full() {
        let mailboxes = Mailboxes::new(2);
        post(&mailboxes, FLOODING, CROWDED + 1);
        post(&mailboxes, QUIET, 1);
        assert!(mailboxes.must_wait(0, FLOODING, 1));
        assert!(!mailboxes.must_wait(0, QUIET, 1));
        post(&mailboxes, FLOODING, FULL);
        assert!(mailboxes.must_wait(0, QUIET, 1));
    }

    #[test]
    fn large_publishes_crowd_it_by_their_bytes() {
        let mailboxes = Mailboxes::within(2, 10 * PUBLISH_BYTES);
        post(&mailboxes, FLOODING, 9);
        assert!(!mailboxes.must_wait(0, FLOODING, 1));
        post(&mailboxes, FLOODING, 1);
        assert!(mailboxes.must_wait(0, FLOODING, 1));
        hand_on(&mailboxes, FLOODING, 5, 1);
        assert!(!mailboxes.must_wait(0, FLOODING, 1));
    }

    #[test]
    fn whoever_waits_is_woken_when_there_is_room() {
        use std::sync::atomic::AtomicBool;
        use std::task::Wake;

        #[derive(Default)]
        struct Woken(AtomicBool);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }

        let mailboxes = Mailboxes::new(2);
        let woken = Arc::new(Woken::default());
        let waker = woken.clone().into();
        let mut nothing = Vec::new();
        let taken = mailboxes.poll_take(1, &Context::from_waker(&waker), &mut nothing);
        assert!(taken.is_pending());
        post(&mailboxes, FLOODING, CROWDED + 1);
        assert!(mailboxes.must_wait(0, FLOODING, 1));
        hand_on(&mailboxes, FLOODING, CROWDED / 2, 1);
        assert!(!woken.0.load(Ordering::Relaxed));
        hand_on(&mailboxes, FLOODING, 1, 1);
        assert!(woken.0.load(Ordering::Relaxed));
    }
}
