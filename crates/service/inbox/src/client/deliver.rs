//! Publications enter the queues of persistent sessions, or go past them to connections that are
//! there.

use std::sync::{Arc, Mutex, PoisonError};

use bifrust_dist::{Deliverer, Matched, MemberId, Pick, Publication, PublishError};
use bifrust_kv::{ExecuteError, Then};
use bifrust_model::{
    ClientId, Event, EventKind, Message, Qos, SessionKey, SubscriptionOptions, TopicFilter,
};
use smallvec::SmallVec;

use super::{Inbox, acknowledged, bounds};
use crate::Delivery;
use crate::schema::{Body, EntryHeader, Prefix};
use crate::server::Pushes;
use crate::store::{Command, Insert, Keyed, Reply, Target};

impl Deliverer for Inbox {
    /// A command for a bounded number of sessions: the body once, then where it goes. `done` runs when all that is
    /// queued is as durable as the tenant asks.
    fn deliver(
        &self,
        publication: &Arc<Publication>,
        matched: &Arc<Matched>,
        picks: &[Pick],
        done: Then<Result<(), PublishError>>,
    ) {
        let settings = publication.tenant.settings.load();
        let fanout = settings.max_persistent_fanout as usize;
        let durability = settings.durability;
        drop(settings);
        let inboxes = &matched.inboxes[..matched.inboxes.len().min(fanout)];
        if inboxes.len() < matched.inboxes.len() {
            self.throttled(publication, fanout, matched.inboxes.len() - fanout);
        }
        let mut sorting = Sorting::new(self, publication);
        for target in inboxes {
            sorting.sort(
                &target.client,
                target.incarnation,
                &target.subscriptions,
                None,
            );
        }
        for pick in picks {
            let Some((group, member)) = matched.picked(*pick) else {
                continue;
            };
            if let MemberId::Inbox {
                client,
                incarnation,
            } = &member.id
            {
                let group = Some(group.filter.clone());
                sorting.sort(client, *incarnation, &[member.options], group);
            }
        }
        let Sorting {
            pushes,
            targets,
            message,
            ..
        } = sorting;
        self.hub().push(pushes.list);
        let Some(message) = message.filter(|_| !targets.is_empty()) else {
            return done(Ok(()));
        };
        self.insert(
            publication,
            message,
            targets,
            acknowledged(durability),
            done,
        );
    }
}

impl Inbox {
    fn insert(
        &self,
        publication: &Publication,
        message: Arc<Message>,
        mut targets: Vec<Target>,
        ack: bifrust_kv::Ack,
        done: Then<Result<(), PublishError>>,
    ) {
        let tenant = publication.tenant.number;
        let body = Body::new(message);
        let key = publication.key.map(|key| {
            let publisher = &publication.message.publisher;
            let floor = self.hub().online.floor(tenant, publisher, key);
            Keyed { key, floor }
        });
        let bounds = bounds(&publication.tenant);
        let config = &self.inner.config;
        let by_bytes = config.insert_bytes_max / body.bytes.len().max(1);
        let targets_max = by_bytes.clamp(1, config.targets_max.get());
        let parts = parts(&targets, targets_max);
        let mut answers = Parts::share(parts, done);
        while !targets.is_empty() {
            let rest = targets.split_off(part_end(&targets, targets_max));
            let part = std::mem::replace(&mut targets, rest);
            let (Some(answer), Some(first)) = (answers.pop(), part.first()) else {
                return;
            };
            let first = Prefix::new(&SessionKey {
                tenant,
                client: first.client.clone(),
            });
            let command = Command::Insert(Insert {
                tenant,
                body: body.clone(),
                key,
                bounds,
                targets: part,
            });
            (self.inner.client).execute(tenant, first.as_bytes(), command, ack, answer);
        }
    }

    fn throttled(&self, publication: &Publication, fanout: usize, left_out: usize) {
        let counter = &self.hub().reporting.metrics.fanout_throttled;
        counter.add(left_out as u64);
        let kind = EventKind::PersistentFanoutThrottled;
        self.hub().reporting.events.emit(kind, || {
            Event::new(kind, self.hub().clock.stamp())
                .tenant(&publication.tenant.name)
                .topic(&publication.message.topic)
                .detail(format!(
                    "{left_out} persistent sessions beyond {fanout} were left out"
                ))
        });
    }
}

/// Sorts sessions by what becomes of the message there.
struct Sorting<'a> {
    inbox: &'a Inbox,
    publication: &'a Publication,
    queues_qos0: bool,
    /// Shared by all that get it; made for the first of them.
    message: Option<Arc<Message>>,
    pushes: Pushes,
    targets: Vec<Target>,
}

impl<'a> Sorting<'a> {
    fn new(inbox: &'a Inbox, publication: &'a Publication) -> Self {
        Self {
            inbox,
            publication,
            queues_qos0: publication.tenant.settings.load().qos0_offline_queue,
            message: None,
            pushes: Pushes::default(),
            targets: Vec::new(),
        }
    }

    /// One copy for a session: of its plain subscriptions, or as a member of a group.
    fn sort(
        &mut self,
        client: &ClientId,
        incarnation: u64,
        subscriptions: &[SubscriptionOptions],
        group: Option<TopicFilter>,
    ) {
        let Some(header) = header(&self.publication.message, client, subscriptions) else {
            return;
        };
        let header = EntryHeader { group, ..header };
        if header.qos == Qos::AtMostOnce {
            let hub = self.inbox.hub();
            let tenant = self.publication.tenant.number;
            let receiver = hub.online.receiver(tenant, client, incarnation);
            if let Some((to, epoch)) = receiver {
                let message = self.message().clone();
                self.pushes.add(to, epoch, unqueued(header, message));
                return;
            }
            if !self.queues_qos0 {
                hub.reporting.metrics.unqueued.add(1);
                return;
            }
        }
        self.message();
        // Copies for one session stand together, so that all of them are taken or none.
        let before = match self.publication.key {
            Some(_) => (self.targets.iter())
                .rposition(|other| other.client == *client && other.incarnation == incarnation),
            None => None,
        };
        let at = before.map_or(self.targets.len(), |before| before + 1);
        let target = Target {
            client: client.clone(),
            incarnation,
            header,
        };
        self.targets.insert(at, target);
    }

    fn message(&mut self) -> &Arc<Message> {
        let message = &self.publication.message;
        self.message
            .get_or_insert_with(|| Arc::new(message.clone()))
    }
}

/// How a session gets a message, of all its subscriptions that match: one copy with the highest QoS
/// granted and every identifier (MQTT-3.3.4-2, -3). `None`: it published the message itself and wants
/// none of its own.
fn header(
    message: &Message,
    client: &ClientId,
    subscriptions: &[SubscriptionOptions],
) -> Option<EntryHeader> {
    let is_own = message.publisher == *client;
    let mut granted = None;
    let mut keeps_retain = false;
    let mut ids = SmallVec::new();
    for options in subscriptions {
        if options.no_local && is_own {
            continue; // MQTT-3.8.3-3
        }
        granted = granted.max(Some(options.qos));
        keeps_retain |= options.retain_as_published;
        ids.extend(options.id.map(u32::from));
    }
    Some(EntryHeader {
        qos: message.qos.min(granted?),
        retain: message.retain && keeps_retain,
        ids,
        group: None,
    })
}

/// How many of the first targets one command takes: `targets_max`, and whatever belongs to the last
/// one's session.
fn part_end(targets: &[Target], targets_max: usize) -> usize {
    let mut end = targets.len().min(targets_max);
    while let (Some(last), Some(next)) = (targets.get(end - 1), targets.get(end))
        && last.client == next.client
    {
        end += 1;
    }
    end
}

fn parts(mut targets: &[Target], targets_max: usize) -> usize {
    let mut parts = 0;
    while !targets.is_empty() {
        targets = &targets[part_end(targets, targets_max)..];
        parts += 1;
    }
    parts
}

fn unqueued(header: EntryHeader, message: Arc<Message>) -> Delivery {
    Delivery {
        seq: 0,
        qos: header.qos,
        retain: header.retain,
        subscription_ids: header.ids,
        message,
        possibly_sent: false,
    }
}

/// The answers of several commands made one.
struct Parts {
    left: usize,
    applied: usize,
    refused: usize,
    unknown: usize,
    done: Option<Then<Result<(), PublishError>>>,
}

type Replied = Then<Result<Reply, ExecuteError>>;

impl Parts {
    /// As many callbacks as there are parts.
    fn share(parts: usize, done: Then<Result<(), PublishError>>) -> Vec<Replied> {
        if parts == 1 {
            return vec![Box::new(move |result| done(published(result)))];
        }
        let shared = Arc::new(Mutex::new(Self {
            left: parts,
            applied: 0,
            refused: 0,
            unknown: 0,
            done: Some(done),
        }));
        let part = |_| -> Replied {
            let shared = shared.clone();
            Box::new(move |result| Self::take(&shared, published(result)))
        };
        (0..parts).map(part).collect()
    }

    fn take(shared: &Mutex<Self>, result: Result<(), PublishError>) {
        let finished = {
            let mut parts = shared.lock().unwrap_or_else(PoisonError::into_inner);
            parts.left -= 1;
            match result {
                Ok(()) => parts.applied += 1,
                Err(PublishError::Refused) => parts.refused += 1,
                Err(PublishError::Unknown) => parts.unknown += 1,
            }
            let is_last = parts.left == 0;
            let done = is_last.then(|| parts.done.take()).flatten();
            done.map(|done| (done, parts.answer()))
        };
        if let Some((done, answer)) = finished {
            done(answer);
        }
    }

    /// Refused means that no part was taken: nothing else is known not to be applied.
    fn answer(&self) -> Result<(), PublishError> {
        match (self.applied, self.refused, self.unknown) {
            (_, 0, 0) => Ok(()),
            (0, _, 0) => Err(PublishError::Refused),
            _ => Err(PublishError::Unknown),
        }
    }
}

fn published(result: Result<Reply, ExecuteError>) -> Result<(), PublishError> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.is_known_not_applied() => Err(PublishError::Refused),
        Err(_) => Err(PublishError::Unknown),
    }
}
