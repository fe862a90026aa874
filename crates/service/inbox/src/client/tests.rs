use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, MutexGuard};

use arc_swap::ArcSwap;
use bifrust_dist::{InboxTarget, Matched, Publication, PublishError, RoutingKey};
use bifrust_kv::Config;
use bifrust_kv::testing::wait;
use bifrust_model::{
    ClientId, ClientInfo, Hlc, Incarnation, Message, NodeId, NodeRef, Protocol, Qos, Settings,
    Subscription, SubscriptionOptions, TenantName, TenantNumber, Topic, TopicFilter,
};
use bifrust_plugin_api::NoMeters;
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

/// Routes as a set; adding can be made to fail, or to be forgotten as in a crash.
#[derive(Default)]
struct FakeRoutes {
    stand: Mutex<HashSet<(String, u64, String)>>,
    refuses: Mutex<Option<InboxError>>,
    forgets: Mutex<bool>,
    changed: Mutex<Option<Sender<usize>>>,
}

impl FakeRoutes {
    fn stand(&self) -> MutexGuard<'_, HashSet<(String, u64, String)>> {
        self.stand.lock().unwrap()
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
        if *self.forgets.lock().unwrap() {
            return; // The process dies here.
        }
        if let Some(error) = *self.refuses.lock().unwrap() {
            return done(Err(error));
        }
        let route = (
            end.client.to_string(),
            end.incarnation,
            subscription.filter.to_string(),
        );
        let count = {
            let mut stand = self.stand();
            stand.insert(route);
            stand.len()
        };
        self.tell(count);
        done(Ok(()));
    }

    fn remove(&self, end: &RouteEnd, filter: &TopicFilter, done: Then<Result<(), InboxError>>) {
        let route = (end.client.to_string(), end.incarnation, filter.to_string());
        let count = {
            let mut stand = self.stand();
            stand.remove(&route);
            stand.len()
        };
        self.tell(count);
        done(Ok(()));
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
    wills: Mutex<Sender<(Will, Then<bool>)>>,
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
    fn send(&self, _tenant: Arc<Tenant>, will: Will, done: Then<bool>) {
        self.wills.lock().unwrap().send((will, done)).unwrap();
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
    wills: Receiver<(Will, Then<bool>)>,
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
        let inbox = Inbox::open_with(
            &node,
            routes.clone(),
            Arc::new(OneTenant(tenant.clone())),
            clock,
            Reporting {
                events: Events::new(Vec::new()),
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
        let subscription = Subscription {
            filter: TopicFilter::new(filter.to_owned().into()).unwrap(),
            options: options(1),
        };
        wait(|done| self.inbox.subscribe(session, vec![subscription], 10, done)).unwrap()
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
        wait(|done| self.inbox.deliverer().deliver(&publication, &matched, done))
    }

    fn fetch(&self, session: &SessionRef, from: u64, limit: PageLimit) -> Fetched {
        wait(|done| self.inbox.fetch(session, from, limit, done)).unwrap()
    }
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

#[test]
fn an_online_session_is_pushed_to_and_settles() {
    let bed = Bed::new();
    let (session, opened) = bed.attach(bed.open("a"));
    for text in ["1", "2"] {
        bed.publish(
            message(text, 1),
            vec![target("a", opened.incarnation, &[options(2)])],
        );
        let push = bed.pushes.recv().unwrap();
        assert_eq!(
            (push.epoch, texts(&push.deliveries)),
            (session.epoch, vec![text])
        );
        assert_eq!(push.deliveries[0].qos, Qos::AtLeastOnce);
    }
    let first = PageLimit { messages: 1, ..ALL };
    let fetched = bed.fetch(&session, opened.next_seq, first);
    assert_eq!(
        (texts(&fetched.deliveries), fetched.next, fetched.more),
        (vec!["1"], 2, true)
    );
    let settled = vec![Settle::Done(1), Settle::Done(2)];
    wait(|done| bed.inbox.settle(&session, settled, done)).unwrap();
    let fetched = bed.fetch(&session, opened.next_seq, ALL);
    assert_eq!(
        (fetched.deliveries.len(), fetched.next, fetched.more),
        (0, 3, false)
    );
}

#[test]
fn an_offline_queue_waits_across_restarts() {
    let bed = Bed::new();
    let (session, opened) = bed.attach(bed.open("a"));
    bed.subscribe(&session, "t");
    bed.detach(&session, Cause::Normal, None);
    for text in ["1", "2", "3"] {
        bed.publish(
            message(text, 1),
            vec![target("a", opened.incarnation, &[options(1)])],
        );
    }
    let bed = bed.restart();
    let (again, reopened) = bed.attach(bed.open("a"));
    assert!(reopened.session_present && again.epoch > session.epoch);
    assert_eq!(reopened.subscriptions.len(), 1);
    let fetched = bed.fetch(&again, reopened.next_seq, ALL);
    assert_eq!(texts(&fetched.deliveries), ["1", "2", "3"]);
    assert!(
        fetched
            .deliveries
            .iter()
            .all(|delivery| !delivery.possibly_sent)
    );
}

#[test]
fn qos0_goes_past_the_queue_while_the_session_is_online() {
    let bed = Bed::with(Settings {
        qos0_offline_queue: true,
        ..Settings::default()
    });
    let (session, opened) = bed.attach(bed.open("a"));
    let targets = vec![target("a", opened.incarnation, &[options(2)])];
    bed.publish(message("1", 0), targets.clone());
    let push = bed.pushes.recv().unwrap();
    assert_eq!(
        (push.deliveries[0].seq, texts(&push.deliveries)),
        (0, vec!["1"])
    );
    bed.detach(&session, Cause::Normal, None);
    bed.publish(message("2", 0), targets);
    let (again, reopened) = bed.attach(bed.open("a"));
    let fetched = bed.fetch(&again, reopened.next_seq, ALL);
    assert_eq!(texts(&fetched.deliveries), ["2"]);
}

#[test]
fn overlapping_subscriptions_make_one_copy_with_the_highest_qos_and_all_identifiers() {
    let bed = Bed::new();
    let (_, opened) = bed.attach(bed.open("p"));
    let own = SubscriptionOptions {
        no_local: true,
        id: NonZeroU32::new(1),
        ..options(2)
    };
    let keeping = SubscriptionOptions {
        retain_as_published: true,
        id: NonZeroU32::new(2),
        ..options(0)
    };
    let other = SubscriptionOptions {
        id: NonZeroU32::new(3),
        ..options(1)
    };
    let retained = Message {
        retain: true,
        ..message("m", 2)
    };
    let of = |subscriptions: &[SubscriptionOptions]| {
        vec![target("p", opened.incarnation, subscriptions)]
    };
    bed.publish(retained.clone(), of(&[own]));
    bed.publish(retained.clone(), of(&[own, keeping, other]));
    let delivery = bed.pushes.recv().unwrap().deliveries.remove(0);
    assert_eq!((delivery.qos, delivery.retain), (Qos::AtLeastOnce, true));
    assert_eq!(delivery.subscription_ids.as_slice(), [2, 3]);
    bed.publish(retained, of(&[other]));
    assert!(!bed.pushes.recv().unwrap().deliveries[0].retain);
}

#[test]
fn a_transient_client_leaves_no_rows() {
    let bed = Bed::new();
    let open = Open {
        expiry_seconds: 0,
        ..bed.open("a")
    };
    let (session, opened) = bed.attach(open);
    assert!(!opened.is_durable && !opened.session_present);
    bed.detach(&session, Cause::Lost, None);
    let commands = bed.node.counts().commands;
    assert_eq!(commands, 0);
}

#[test]
fn a_transient_client_finds_its_durable_session_also_after_a_restart() {
    let bed = Bed::new();
    let (session, _) = bed.attach(bed.open("a"));
    bed.detach(&session, Cause::Normal, None);
    let bed = bed.restart();
    let transient = |bed: &Bed| Open {
        expiry_seconds: 0,
        ..bed.open("a")
    };
    let (session, opened) = bed.attach(transient(&bed));
    assert!(opened.session_present && opened.is_durable);
    bed.detach(&session, Cause::Lost, None);
    let (_, opened) = bed.attach(transient(&bed));
    assert!(!opened.session_present && !opened.is_durable);
    let commands = bed.node.counts().commands;
    let (_, opened) = bed.attach(transient(&bed));
    assert!(!opened.is_durable);
    // The sweep of the ended session may go on meanwhile.
    assert!(bed.node.counts().commands <= commands + 1);
}

#[test]
fn a_fenced_connection_has_no_say() {
    let bed = Bed::new();
    let (old, _) = bed.attach(bed.open("a"));
    let (new, _) = bed.attach(bed.open("a"));
    let fenced = Err(InboxError::Fenced);
    assert_eq!(
        wait(|done| bed.inbox.settle(&old, vec![Settle::Done(1)], done)),
        fenced
    );
    assert_eq!(
        wait(|done| bed.inbox.release_inbound(&old, 1, done)),
        fenced
    );
    let fetched = wait(|done| bed.inbox.fetch(&old, 1, ALL, done));
    assert_eq!(fetched, Err(InboxError::Fenced));
    let filter = TopicFilter::new("t".into()).unwrap();
    let removed = wait(|done| bed.inbox.unsubscribe(&old, vec![filter], done));
    assert_eq!(removed, Err(InboxError::Fenced));
    assert!(wait(|done| bed.inbox.fetch(&new, 1, ALL, done)).is_ok());
}

#[test]
fn a_repeated_qos2_publish_is_taken_once_and_its_id_survives_a_restart() {
    let bed = Bed::new();
    let (receiver, opened) = bed.attach(bed.open("a"));
    let (publisher, _) = bed.attach(bed.open("p"));
    let begun = wait(|done| bed.inbox.begin_inbound(&publisher, 7, done)).unwrap();
    let again = wait(|done| bed.inbox.begin_inbound(&publisher, 7, done)).unwrap();
    assert_eq!(begun, again);
    let targets = vec![target("a", opened.incarnation, &[options(2)])];
    for _ in 0..2 {
        let (message, targets) = (message("m", 2), targets.clone());
        bed.publish_keyed(message, targets, Some(begun.key))
            .unwrap();
    }
    assert_eq!(bed.fetch(&receiver, 1, ALL).deliveries.len(), 1);
    let bed = bed.restart();
    let (publisher, reopened) = bed.attach(bed.open("p"));
    assert_eq!(reopened.inbound, [begun]);
    bed.publish_keyed(message("m", 2), targets.clone(), Some(begun.key))
        .unwrap();
    wait(|done| bed.inbox.release_inbound(&publisher, 7, done)).unwrap();
    let next = wait(|done| bed.inbox.begin_inbound(&publisher, 7, done)).unwrap();
    assert!(next.key.generation > begun.key.generation);
    bed.publish_keyed(message("n", 2), targets, Some(next.key))
        .unwrap();
    let (receiver, _) = bed.attach(bed.open("a"));
    assert_eq!(texts(&bed.fetch(&receiver, 1, ALL).deliveries), ["m", "n"]);
}

#[test]
fn received_entries_are_released_after_a_restart() {
    let bed = Bed::new();
    let (session, opened) = bed.attach(bed.open("a"));
    for text in ["1", "2"] {
        bed.publish(
            message(text, 2),
            vec![target("a", opened.incarnation, &[options(2)])],
        );
    }
    wait(|done| bed.inbox.settle(&session, vec![Settle::Received(1)], done)).unwrap();
    let bed = bed.restart();
    let (session, reopened) = bed.attach(bed.open("a"));
    assert_eq!((reopened.released, reopened.next_seq), (vec![1], 2));
    let fetched = bed.fetch(&session, 2, ALL);
    assert!(
        fetched.deliveries[0].possibly_sent,
        "within the window of a lost connection"
    );
}

#[test]
fn subscriptions_have_routes_before_the_answer_and_lose_them_first() {
    let bed = Bed::new();
    let (session, opened) = bed.attach(bed.open("a"));
    assert_eq!(bed.subscribe(&session, "t"), [Subscribed::New]);
    let route = ("a".to_owned(), opened.incarnation, "t".to_owned());
    assert!(bed.routes.stand().contains(&route));
    assert_eq!(bed.subscribe(&session, "t"), [Subscribed::Replaced]);
    let filters = ["t", "u"].map(|filter| TopicFilter::new(filter.into()).unwrap());
    let existed = wait(|done| bed.inbox.unsubscribe(&session, filters.into(), done));
    assert_eq!(existed, Ok(vec![true, false]));
    assert!(bed.routes.stand().is_empty());
}

#[test]
fn a_subscription_without_a_route_is_not_there() {
    let bed = Bed::new();
    let (session, _) = bed.attach(bed.open("a"));
    *bed.routes.refuses.lock().unwrap() = Some(InboxError::Refused);
    assert_eq!(bed.subscribe(&session, "t"), [Subscribed::Failed]);
    *bed.routes.refuses.lock().unwrap() = None;
    assert_eq!(bed.subscribe(&session, "t"), [Subscribed::New]);
}

#[test]
fn a_crash_between_row_and_route_is_mended_at_the_next_start() {
    let bed = Bed::new();
    let (session, opened) = bed.attach(bed.open("a"));
    *bed.routes.forgets.lock().unwrap() = true;
    let subscription = Subscription {
        filter: TopicFilter::new("t".into()).unwrap(),
        options: options(1),
    };
    bed.inbox
        .subscribe(&session, vec![subscription], 10, Box::new(|_| {}));
    // Lanes are in order: the row is there when this has its answer.
    wait(|done| bed.inbox.settle(&session, Vec::new(), done)).unwrap();
    assert!(bed.routes.stand().is_empty());
    *bed.routes.forgets.lock().unwrap() = false;
    let changes = bed.routes.listen();
    let bed = bed.restart();
    changes.recv().unwrap();
    let route = ("a".to_owned(), opened.incarnation, "t".to_owned());
    assert!(bed.routes.stand().contains(&route));
}

#[test]
fn an_ended_session_loses_its_routes_and_its_rows() {
    let bed = Bed::new();
    let (session, _) = bed.attach(bed.open("a"));
    bed.subscribe(&session, "t");
    let changes = bed.routes.listen();
    let clean = Open {
        clean_start: true,
        ..bed.open("a")
    };
    let (_, opened) = bed.attach(clean);
    assert!(!opened.session_present && opened.subscriptions.is_empty());
    assert_eq!(changes.recv().unwrap(), 0);
}

#[test]
fn a_will_is_sent_until_its_sender_is_done_with_it() {
    let bed = Bed::new();
    let open = Open {
        expiry_seconds: 0,
        ..bed.open("a")
    };
    let open = Open {
        will: will(&open, 30),
        ..open
    };
    let (session, opened) = bed.attach(open);
    assert!(!opened.is_durable);
    bed.detach(&session, Cause::Lost, None);
    let (sent, done) = bed.wills.recv().unwrap();
    assert_eq!(&sent.message.payload[..], b"will");
    done(false);
    let (_, done) = bed.wills.recv().unwrap();
    done(true);
    let bed = bed.restart();
    let (session, _) = bed.attach(bed.open("b"));
    bed.detach(&session, Cause::Normal, Some(0));
    assert!(bed.wills.try_recv().is_err());
}

#[test]
fn wills_of_connections_that_ended_with_the_process_are_sent() {
    let bed = Bed::new();
    for (client, expiry_seconds) in [("transient", 0), ("durable", 1000)] {
        let open = bed.open(client);
        bed.attach(Open {
            will: will(&open, 0),
            expiry_seconds,
            ..open
        });
    }
    let late = bed.open("late");
    bed.attach(Open {
        will: will(&late, 600),
        ..late
    });
    let bed = bed.restart();
    let mut clients = [(); 2].map(|()| {
        let (will, done) = bed.wills.recv().unwrap();
        done(true);
        will.client.client.to_string()
    });
    clients.sort_unstable();
    assert_eq!(clients, ["durable", "transient"]);
    let (_, reopened) = bed.attach(bed.open("durable"));
    assert!(reopened.session_present);
}

#[test]
fn a_normal_end_drops_the_will() {
    let bed = Bed::new();
    let open = bed.open("a");
    let (session, _) = bed.attach(Open {
        will: will(&open, 0),
        ..open
    });
    bed.detach(&session, Cause::Normal, None);
    let open = bed.open("b");
    let (session, _) = bed.attach(Open {
        will: will(&open, 0),
        ..open
    });
    bed.detach(&session, Cause::WithWill, None);
    let (sent, done) = bed.wills.recv().unwrap();
    done(true);
    assert_eq!(sent.client.client.as_str(), "b");
}

#[test]
fn expired_entries_are_left_out_and_settled() {
    let bed = Bed::new();
    let (session, opened) = bed.attach(bed.open("a"));
    let short = Message {
        expiry_seconds: Some(1),
        ..message("old", 1)
    };
    let targets = vec![target("a", opened.incarnation, &[options(1)])];
    bed.publish(short, targets.clone());
    bed.publish(message("new", 1), targets);
    let fetched = bed.fetch(&session, 1, ALL);
    assert_eq!(texts(&fetched.deliveries), ["new"]);
    bed.detach(&session, Cause::Lost, None);
    let (_, reopened) = bed.attach(bed.open("a"));
    assert_eq!(reopened.next_seq, 2);
}

#[test]
fn retained_messages_fill_the_queue_and_no_further() {
    let settings = Settings {
        session_inbox_size: 2,
        ..Settings::default()
    };
    let bed = Bed::with(settings);
    let (session, _) = bed.attach(bed.open("a"));
    let messages = ["1", "2", "3"].map(|text| (message(text, 1), options(1)));
    let taken = wait(|done| bed.inbox.insert_retained(&session, messages.into(), done));
    assert_eq!(taken, Ok(2));
    let fetched = bed.fetch(&session, 1, ALL);
    assert!(fetched.deliveries.iter().all(|delivery| delivery.retain));
    assert_eq!(texts(&fetched.deliveries), ["1", "2"]);
}

#[test]
fn a_large_fan_out_reaches_everybody_in_order() {
    let bed = Bed::new();
    let sessions: Vec<_> = (0..600)
        .map(|n| {
            let client = format!("c{n}");
            let (session, opened) = bed.attach(bed.open(&client));
            (session, target(&client, opened.incarnation, &[options(1)]))
        })
        .collect();
    let targets: Vec<_> = sessions.iter().map(|(_, target)| target.clone()).collect();
    for text in ["1", "2", "3"] {
        bed.publish(message(text, 1), targets.clone());
    }
    for (session, _) in sessions {
        assert_eq!(
            texts(&bed.fetch(&session, 1, ALL).deliveries),
            ["1", "2", "3"]
        );
    }
}
