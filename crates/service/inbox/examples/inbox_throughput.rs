//! QoS 1 messages through persistent sessions per CPU second, on disk.
//!
//! `cargo run --release -p bifrust-inbox --example inbox_throughput -- [sessions] [window] [messages per
//! session]`: first online (inserted, pushed, settled), then offline (inserted), then drained
//! (fetched, settled). The folder is `THROUGHPUT_DIR`, else the system's for temporary files.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use bifrust_dist::{Deliverer, Dist, InboxTarget, Matched, Publication, RoutingKey};
use bifrust_inbox::{
    Cause, Delivery, Detach, Fetched, Inbox, Open, Owner, PageLimit, SessionRef, Settle, Then,
    Will, WillSender,
};
use bifrust_kv::testing::wait;
use bifrust_kv::{Clock, Config, Node};
use bifrust_model::{
    ClientId, ClientInfo, Incarnation, Message, NodeId, NodeRef, Protocol, Qos,
    SubscriptionOptions, Tenant, TenantName, Topic,
};
use bifrust_plugin_api::{DefaultSettings, Events, NoMeters};
use bifrust_registry::Registry;
use bifrust_session_dict::ConnectionRef;
use smallvec::{SmallVec, smallvec};

/// What comes back to the thread that drives all sessions, as to a connection shard.
enum Event {
    Published(usize),
    Pushed(usize, u64),
    Settled(usize),
    Fetched(usize, Fetched),
}

struct Ends(Sender<Event>);

impl Owner for Ends {
    fn push(&self, to: ConnectionRef, _: u64, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            let _ = self.0.send(Event::Pushed(to.slot as usize, delivery.seq));
        }
    }
}

impl WillSender for Ends {
    fn send(&self, _: Arc<Tenant>, _: Will, _: RoutingKey, done: Then<bool>) {
        done(true);
    }
}

struct Client {
    session: SessionRef,
    matched: Arc<Matched>,
    left: usize,
    gathered: Vec<Settle>,
    is_settling: bool,
}

struct Bench {
    inbox: Inbox,
    deliverer: Arc<dyn Deliverer>,
    clock: Clock,
    tenant: Arc<Tenant>,
    node: NodeRef,
    events: Receiver<Event>,
    tell: Sender<Event>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<usize> = (std::env::args().skip(1))
        .flat_map(|text| text.parse())
        .collect();
    let number = |at: usize, default| numbers.get(at).copied().unwrap_or(default);
    let (sessions, window, messages) = (number(0, 100), number(1, 10), number(2, 2000));
    let folder = std::env::var_os("THROUGHPUT_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder)?;
    let keyspaces = [
        bifrust_kv::keyspaces(),
        bifrust_registry::keyspaces(),
        bifrust_dist::keyspaces(),
        bifrust_inbox::keyspaces(),
    ];
    let config = bifrust_storage::Config::new(folder.path());
    let store = bifrust_storage::Store::open(config, &keyspaces.concat())?;
    let clock = Clock::new();
    let kv = Node::open(store, Config::default(), clock.clone())?;
    let node = NodeRef {
        id: NodeId(1),
        incarnation: Incarnation(1),
    };
    let registry = Registry::open(&kv, Arc::new(DefaultSettings::default()))?;
    let dist = Dist::open(&kv, node, &NoMeters)?;
    let name = TenantName::new("bench")?;
    let tenant = wait(|done| registry.tenant(&name, done))?;
    let events = Events::new(Vec::new());
    let inbox = Inbox::open(
        &kv,
        dist,
        registry,
        clock.clone(),
        events,
        &NoMeters,
        bifrust_inbox::Config::default(),
    )?;
    let (tell, events) = channel();
    let ends = Arc::new(Ends(tell.clone()));
    inbox.bind(ends.clone(), ends);
    inbox.start();
    let bench = Bench {
        deliverer: inbox.deliverer(),
        inbox,
        clock,
        tenant,
        node,
        events,
        tell,
    };
    let mut clients: Vec<_> = (0..sessions)
        .map(|slot| bench.attach(slot, messages))
        .collect();
    let total = sessions * messages;
    timed("online", total, &kv, || bench.online(&mut clients, window));
    for client in &mut clients {
        bench.detach(client);
        client.left = messages;
    }
    timed("store", total, &kv, || bench.store(&mut clients, window));
    let mut clients: Vec<_> = (0..sessions)
        .map(|slot| bench.attach(slot, messages))
        .collect();
    timed("drain", total, &kv, || bench.drain(&mut clients));
    bench.inbox.stop();
    kv.stop();
    Ok(())
}

impl Bench {
    fn attach(&self, slot: usize, left: usize) -> Client {
        let client = ClientId::new(&format!("client-{slot:06}")).expect("a client id");
        let open = Open {
            tenant: self.tenant.clone(),
            client: Arc::new(ClientInfo {
                tenant: self.tenant.name.clone(),
                user: None,
                client: client.clone(),
                peer: None,
                protocol: Protocol::V5,
            }),
            owner: ConnectionRef {
                node: self.node,
                shard: 0,
                slot: u32::try_from(slot).expect("few sessions"),
                generation: 0,
            },
            clean_start: false,
            expiry_seconds: 3600,
            window: 100,
            will: None,
        };
        let opened = wait(|done| self.inbox.attach(open, done)).expect("attached");
        let options = SubscriptionOptions {
            qos: Qos::AtLeastOnce,
            ..SubscriptionOptions::default()
        };
        let target = InboxTarget {
            client: client.clone(),
            incarnation: opened.incarnation,
            subscriptions: smallvec![options],
        };
        let session = SessionRef {
            tenant: self.tenant.clone(),
            client,
            epoch: opened.epoch,
        };
        Client {
            session,
            matched: Arc::new(Matched::new(SmallVec::new(), vec![target])),
            left,
            gathered: Vec::new(),
            is_settling: false,
        }
    }

    fn detach(&self, client: &Client) {
        let how = Detach {
            cause: Cause::Normal,
            expiry_seconds: None,
            sent_before: 0,
            routed: Vec::new(),
        };
        wait(|done| self.inbox.detach(&client.session, how, done)).expect("detached");
    }

    fn publish(&self, slot: usize, client: &mut Client) {
        if client.left == 0 {
            return;
        }
        client.left -= 1;
        let publication = Arc::new(Publication {
            tenant: self.tenant.clone(),
            message: Message {
                topic: Topic::new(format!("bench/topic/{slot}").into()).expect("a topic"),
                payload: vec![b'x'; 64].into(),
                qos: Qos::AtLeastOnce,
                retain: false,
                stamp: self.clock.stamp(),
                expiry_seconds: None,
                properties: bytes::Bytes::new(),
                publisher: client.session.client.clone(),
            },
            key: None,
        });
        let tell = self.tell.clone();
        let done = move |result: Result<(), _>| {
            result.expect("published");
            let _ = tell.send(Event::Published(slot));
        };
        self.deliverer
            .deliver(&publication, &client.matched, &[], Box::new(done));
    }

    fn settle(&self, slot: usize, client: &mut Client) {
        if client.is_settling || client.gathered.is_empty() {
            return;
        }
        client.is_settling = true;
        let tell = self.tell.clone();
        let done = move |result: Result<(), _>| {
            result.expect("settled");
            let _ = tell.send(Event::Settled(slot));
        };
        let settled = std::mem::take(&mut client.gathered);
        self.inbox.settle(&client.session, settled, Box::new(done));
    }

    /// Every message is pushed and settled.
    fn online(&self, clients: &mut [Client], window: usize) {
        let mut left: usize = clients.iter().map(|client| client.left * 2).sum();
        for (slot, client) in clients.iter_mut().enumerate() {
            (0..window).for_each(|_| self.publish(slot, client));
        }
        let mut settling = 0;
        while left > 0 || settling > 0 {
            match self.events.recv().expect("we hold a sender") {
                Event::Published(slot) => {
                    left -= 1;
                    self.publish(slot, &mut clients[slot]);
                }
                Event::Pushed(slot, seq) => {
                    left -= 1;
                    settling += 1;
                    clients[slot].gathered.push(Settle::Done(seq));
                    self.settle_counted(slot, clients, &mut settling);
                }
                Event::Settled(slot) => {
                    clients[slot].is_settling = false;
                    self.settle_counted(slot, clients, &mut settling);
                }
                Event::Fetched(..) => {}
            }
        }
        while clients.iter().any(|client| client.is_settling) {
            if let Event::Settled(slot) = self.events.recv().expect("we hold a sender") {
                clients[slot].is_settling = false;
            }
        }
    }

    fn settle_counted(&self, slot: usize, clients: &mut [Client], settling: &mut usize) {
        let client = &mut clients[slot];
        if !client.is_settling {
            *settling -= client.gathered.len();
        }
        self.settle(slot, client);
    }

    /// Every message is queued.
    fn store(&self, clients: &mut [Client], window: usize) {
        let mut left: usize = clients.iter().map(|client| client.left).sum();
        for (slot, client) in clients.iter_mut().enumerate() {
            (0..window).for_each(|_| self.publish(slot, client));
        }
        while left > 0 {
            if let Event::Published(slot) = self.events.recv().expect("we hold a sender") {
                left -= 1;
                self.publish(slot, &mut clients[slot]);
            }
        }
    }

    /// Every message is fetched and settled, a page at a time.
    fn drain(&self, clients: &mut [Client]) {
        let mut left: usize = clients.iter().map(|client| client.left).sum();
        for (slot, client) in clients.iter().enumerate() {
            self.fetch(slot, client, 1);
        }
        let mut next = vec![1; clients.len()];
        while left > 0 {
            match self.events.recv().expect("we hold a sender") {
                Event::Fetched(slot, page) => {
                    left -= page.deliveries.len();
                    let settled = page.deliveries.iter();
                    let settled = settled.map(|delivery| Settle::Done(delivery.seq));
                    clients[slot].gathered.extend(settled);
                    next[slot] = page.next;
                    self.settle(slot, &mut clients[slot]);
                }
                Event::Settled(slot) => {
                    clients[slot].is_settling = false;
                    self.fetch(slot, &clients[slot], next[slot]);
                }
                Event::Published(_) | Event::Pushed(..) => {}
            }
        }
    }

    fn fetch(&self, slot: usize, client: &Client, from: u64) {
        let limit = PageLimit {
            messages: 100,
            bytes: 1 << 20,
        };
        let tell = self.tell.clone();
        let done = move |result: Result<Fetched, _>| {
            let _ = tell.send(Event::Fetched(slot, result.expect("fetched")));
        };
        self.inbox
            .fetch(&client.session, from, limit, Box::new(done));
    }
}

fn timed(what: &str, messages: usize, kv: &Node, run: impl FnOnce()) {
    let before = (Instant::now(), cpu_seconds(), kv.counts());
    run();
    let (wall, cpu) = (before.0.elapsed().as_secs_f64(), cpu_seconds() - before.1);
    let counts = kv.counts();
    let commands = counts.commands - before.2.commands;
    let batches = counts.batches - before.2.batches;
    println!(
        "{what}: {messages} messages, {:.0}/s, {:.1} us of CPU each; {commands} commands in {batches} batches",
        messages as f64 / wall,
        cpu * 1e6 / messages as f64,
    );
}

/// CPU time of this process, all threads.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |at| {
        let field = after_name.split_whitespace().nth(at);
        field
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}
