mod delivery;
mod groups;
mod sessions;
mod subscriptions;
mod wills;

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, MutexGuard};

use arc_swap::ArcSwap;
use bifrust_dist::{InboxTarget, Matched, Publication, PublishError, RoutingKey};
use bifrust_kv::Config;
use bifrust_kv::testing::wait;
use bifrust_model::{
    ClientId, ClientInfo, Event, EventKind, Hlc, Incarnation, Message, NodeId, NodeRef, Protocol,
    Qos, Settings, Subscription, SubscriptionOptions, TenantName, TenantNumber, Topic, TopicFilter,
};
use bifrust_plugin_api::{EventSet, EventSink, NoMeters};
use bifrust_session_dict::ConnectionRef;

use super::*;
use crate::server::RouteEnd;
use crate::{
    Cause, Delivery, Detach, Fetched, Open, Opened, PageLimit, Push, SessionRef, Settle,
    Subscribed, Will,
};

const ALL: PageLimit = PageLimit {
    messages: 100,
    bytes: usize::MAX,
};

/// Routes as a set; changing them can be made to fail, or to be cut off as in a crash.
#[derive(Default)]
struct FakeRoutes {
    stand: Mutex<HashSet<(String, u64, String)>>,
    refuses: Mutex<Option<InboxError>>,
    /// Changes until the process dies, and whether the last of them is still made.
    dies_after: Mutex<Option<(usize, bool)>>,
    changed: Mutex<Option<Sender<usize>>>,
    /// Client, group and text of what was passed on to another member.
    passed: Mutex<Vec<(String, String, String)>>,
}

impl FakeRoutes {
    fn stand(&self) -> MutexGuard<'_, HashSet<(String, u64, String)>> {
        self.stand.lock().unwrap()
    }

    /// Makes a change, unless the process is dead; whether anyone lives to hear of it.
    fn change(&self, make: impl FnOnce(&mut HashSet<(String, u64, String)>)) -> bool {
        let lives = match &mut *self.dies_after.lock().unwrap() {
            None => true,
            Some((0, _)) => return false,
            Some((left, makes_last)) => {
                *left -= 1;
                if *left == 0 && !*makes_last {
                    return false;
                }
                *left > 0
            }
        };
        let count = {
            let mut stand = self.stand();
            make(&mut stand);
            stand.len()
        };
        self.tell(count);
        lives
    }

    fn tell(&self, count: usize) {
        if let Some(changed) = &*self.changed.lock().unwrap() {
            let _ = changed.send(count); // Nobody listens any more.
        }
    }

    /// Tells how many routes stand after each change from now on.
    fn listen(&self) -> Receiver<usize> {
        let (tell, told) = mpsc::channel();
        *self.changed.lock().unwrap() = Some(tell);
        told
    }
}

impl Routes for FakeRoutes {
    fn add(&self, end: &RouteEnd, subscription: &Subscription, done: Then<Result<(), InboxError>>) {
        if let Some(error) = *self.refuses.lock().unwrap() {
            return done(Err(error));
        }
        let route = (
            end.client.to_string(),
            end.incarnation,
            subscription.filter.to_string(),
        );
        if self.change(|stand| {
            stand.insert(route);
        }) {
            done(Ok(()));
        }
    }

    fn join(
        &self,
        end: &RouteEnd,
        subscription: &Subscription,
        members_max: usize,
        done: Then<Result<bool, InboxError>>,
    ) {
        if members_max == 0 {
            return done(Ok(false));
        }
        self.add(
            end,
            subscription,
            Box::new(|added| done(added.map(|()| true))),
        );
    }

    fn remove(&self, end: &RouteEnd, filter: &TopicFilter, done: Then<Result<(), InboxError>>) {
        if let Some(error) = *self.refuses.lock().unwrap() {
            return done(Err(error));
        }
        let route = (end.client.to_string(), end.incarnation, filter.to_string());
        if self.change(|stand| {
            stand.remove(&route);
        }) {
            done(Ok(()));
        }
    }

    fn pass_on(
        &self,
        end: &RouteEnd,
        publication: Arc<Publication>,
        group: TopicFilter,
        done: Then<Result<bool, InboxError>>,
    ) {
        if let Some(error) = *self.refuses.lock().unwrap() {
            return done(Err(error));
        }
        let text = String::from_utf8_lossy(&publication.message.payload).into_owned();
        let passed = (end.client.to_string(), group.to_string(), text);
        let count = {
            let mut all = self.passed.lock().unwrap();
            all.push(passed);
            all.len()
        };
        self.tell(count);
        done(Ok(true));
    }
}

/// Events as they come.
struct Told(Mutex<Sender<Event>>);

impl EventSink for Told {
    fn interests(&self) -> EventSet {
        EventSet::ALL
    }

    fn accept(&self, event: &Event) {
        let _ = self.0.lock().unwrap().send(event.clone()); // Nobody listens any more.
    }
}

struct OneTenant(Arc<Tenant>);

impl Tenants for OneTenant {
    fn tenant(&self, number: TenantNumber) -> Option<Arc<Tenant>> {
        (number == self.0.number).then(|| self.0.clone())
    }
}

/// Pushes and wills as they come.
struct Ends {
    pushes: Mutex<Sender<Push>>,
    wills: Mutex<Sender<(Will, RoutingKey, Then<bool>)>>,
}

impl Owner for Ends {
    fn push(&self, to: ConnectionRef, epoch: u64, deliveries: Vec<Delivery>) {
        let push = Push {
            to,
            epoch,
            deliveries,
        };
        self.pushes.lock().unwrap().send(push).unwrap();
    }
}

impl WillSender for Ends {
    fn send(&self, _tenant: Arc<Tenant>, will: Will, key: RoutingKey, done: Then<bool>) {
        self.wills.lock().unwrap().send((will, key, done)).unwrap();
    }
}

/// A node's inbox over a store that outlives it.
struct Bed {
    store: bifrust_storage::Store,
    node: Node,
    inbox: Inbox,
    routes: Arc<FakeRoutes>,
    tenant: Arc<Tenant>,
    incarnation: u64,
    pushes: Receiver<Push>,
    events: Receiver<Event>,
    wills: Receiver<(Will, RoutingKey, Then<bool>)>,
}

impl Bed {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let keyspaces = [bifrust_kv::keyspaces(), crate::keyspaces()].concat();
        let store = bifrust_storage::Store::memory(&keyspaces);
        let tenant = Arc::new(Tenant {
            number: TenantNumber(3),
            name: TenantName::new("acme").unwrap(),
            settings: ArcSwap::from_pointee(settings),
        });
        Self::over(store, tenant, Arc::default(), 1)
    }

    fn over(
        store: bifrust_storage::Store,
        tenant: Arc<Tenant>,
        routes: Arc<FakeRoutes>,
        incarnation: u64,
    ) -> Self {
        let clock = Clock::new();
        let node = Node::open(store.clone(), Config::default(), clock.clone()).unwrap();
        let (tell, events) = mpsc::channel();
        let inbox = Inbox::open_with(
            &node,
            routes.clone(),
            Arc::new(OneTenant(tenant.clone())),
            clock,
            Reporting {
                events: Events::new(vec![Box::new(Told(Mutex::new(tell)))]),
                metrics: Metrics::new(&NoMeters),
            },
            crate::Config::default(),
        )
        .unwrap();
        let (push, pushes) = mpsc::channel();
        let (will, wills) = mpsc::channel();
        let ends = Arc::new(Ends {
            pushes: Mutex::new(push),
            wills: Mutex::new(will),
        });
        inbox.bind(ends.clone(), ends);
        inbox.start();
        Self {
            store,
            node,
            inbox,
            routes,
            tenant,
            incarnation,
            pushes,
            wills,
            events,
        }
    }

    /// The process ends without a word, and starts again.
    fn restart(self) -> Self {
        self.inbox.stop();
        self.node.stop();
        Self::over(self.store, self.tenant, self.routes, self.incarnation + 1)
    }

    fn open(&self, client: &str) -> Open {
        let client = ClientInfo {
            tenant: self.tenant.name.clone(),
            user: None,
            client: ClientId::new(client).unwrap(),
            peer: None,
            protocol: Protocol::V5,
        };
        let node = NodeRef {
            id: NodeId(1),
            incarnation: Incarnation(self.incarnation),
        };
        Open {
            tenant: self.tenant.clone(),
            client: Arc::new(client),
            owner: ConnectionRef {
                node,
                shard: 0,
                slot: 1,
                generation: 2,
            },
            clean_start: false,
            expiry_seconds: 1000,
            window: 10,
            will: None,
        }
    }

    fn attach(&self, open: Open) -> (SessionRef, Opened) {
        let client = open.client.client.clone();
        let opened = wait(|done| self.inbox.attach(open, done)).unwrap();
        let session = SessionRef {
            tenant: self.tenant.clone(),
            client,
            epoch: opened.epoch,
        };
        (session, opened)
    }

    fn detach(&self, session: &SessionRef, cause: Cause, expiry_seconds: Option<u32>) {
        let how = Detach {
            cause,
            expiry_seconds,
            sent_before: 0,
            routed: Vec::new(),
        };
        wait(|done| self.inbox.detach(session, how, done)).unwrap();
    }

    fn subscribe(&self, session: &SessionRef, filter: &str) -> Vec<Subscribed> {
        wait(|done| self.begin_subscribe(session, &[filter], done)).unwrap()
    }

    fn begin_subscribe(
        &self,
        session: &SessionRef,
        names: &[&str],
        done: Then<Result<Vec<Subscribed>, InboxError>>,
    ) {
        let subscriptions = filters(names).into_iter().map(|filter| Subscription {
            filter,
            options: options(1),
        });
        let subscriptions = subscriptions.collect();
        self.inbox.subscribe(session, subscriptions, 10, done);
    }

    fn publish(&self, message: Message, targets: Vec<InboxTarget>) {
        self.publish_keyed(message, targets, None).unwrap();
    }

    fn publish_keyed(
        &self,
        message: Message,
        targets: Vec<InboxTarget>,
        key: Option<RoutingKey>,
    ) -> Result<(), PublishError> {
        let publication = Arc::new(Publication {
            tenant: self.tenant.clone(),
            message,
            key,
        });
        let matched = Arc::new(Matched::new(smallvec::SmallVec::new(), targets));
        wait(|done| {
            self.inbox
                .deliverer()
                .deliver(&publication, &matched, &[], done)
        })
    }

    fn fetch(&self, session: &SessionRef, from: u64, limit: PageLimit) -> Fetched {
        wait(|done| self.inbox.fetch(session, from, limit, done)).unwrap()
    }
}

fn filters(names: &[&str]) -> Vec<TopicFilter> {
    let names = names.iter();
    names
        .map(|name| TopicFilter::new((*name).to_owned().into()).unwrap())
        .collect()
}

fn options(level: u8) -> SubscriptionOptions {
    SubscriptionOptions {
        qos: Qos::from_level(level).unwrap(),
        ..SubscriptionOptions::default()
    }
}

fn target(client: &str, incarnation: u64, subscriptions: &[SubscriptionOptions]) -> InboxTarget {
    InboxTarget {
        client: ClientId::new(client).unwrap(),
        incarnation,
        subscriptions: subscriptions.into(),
    }
}

fn message(text: &str, level: u8) -> Message {
    Message {
        topic: Topic::new("t".into()).unwrap(),
        payload: text.to_owned().into(),
        qos: Qos::from_level(level).unwrap(),
        retain: false,
        stamp: Hlc::from_millis(1),
        expiry_seconds: None,
        properties: bytes::Bytes::new(),
        publisher: ClientId::new("p").unwrap(),
    }
}

fn texts(deliveries: &[Delivery]) -> Vec<&str> {
    let payloads = deliveries.iter().map(|delivery| &delivery.message.payload);
    payloads
        .map(|payload| std::str::from_utf8(payload).unwrap())
        .collect()
}

fn will(open: &Open, delay_seconds: u32) -> Option<Will> {
    Some(Will {
        message: message("will", 1),
        delay_seconds,
        client: open.client.clone(),
    })
}
