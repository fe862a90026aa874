//! Nodes on loopback, and a service that does what the method says.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bifrust_cluster::{ClusterId, ClusterKey, Incarnation, NodeId, NodeRef};
use bifrust_plugin_api::{Counter, Gauge, Histogram, Meter, Meters};
use bifrust_rpc::hello::{Identity, Versions};
use bifrust_rpc::{
    Body, Config, Event, Held, Hold, Limits, Node, Observer, Outgoing, Reply, Request, Rpc,
    Service, Setup, Status, Stream, Target,
};

/// The number of the test's service.
pub(crate) const SERVICE: u16 = 7;

/// Answers what it was asked.
pub(crate) const ECHO: u16 = 1;
/// Keeps the way back.
pub(crate) const KEEP: u16 = 2;
/// Drops the way back.
pub(crate) const DROP: u16 = 3;
/// Fails with a status of its own.
pub(crate) const FAIL: u16 = 4;
/// One-way: takes room until the test gives it back.
pub(crate) const HOLD: u16 = 5;

pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) fn node(id: u128, incarnation: u64) -> NodeRef {
    NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(incarnation),
    }
}

pub(crate) fn identity(id: u128) -> Identity {
    Identity {
        node: node(id, 1),
        cluster: ClusterId::new(42),
        versions: Versions::OWN,
        limits: Limits::default(),
        key: ClusterKey::new("the key of all these nodes").expect("it is long"),
    }
}

/// What the service of a node has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) kept: Mutex<Vec<Reply>>,
    pub(crate) told: Mutex<Vec<Body>>,
    pub(crate) held: Mutex<Vec<Held>>,
    pub(crate) streams: Mutex<Vec<Stream>>,
    pub(crate) peers: Mutex<Vec<NodeRef>>,
}

impl Service for Seen {
    fn request(&self, request: Request, reply: Reply) {
        self.peers.lock().unwrap().push(request.peer);
        match request.target.method {
            ECHO => reply.done(request.body),
            KEEP => self.kept.lock().unwrap().push(reply),
            FAIL => reply.fail(Status(300), Body::header("no")),
            _ => drop(reply),
        }
    }

    fn one_way(&self, message: Request, hold: &mut Hold<'_>) {
        if message.target.method == HOLD {
            self.held.lock().unwrap().push(hold.take());
        }
        self.told.lock().unwrap().push(message.body);
    }

    fn stream(&self, _request: Request, stream: Stream) {
        self.streams.lock().unwrap().push(stream);
    }
}

#[derive(Default)]
pub(crate) struct Numbers(
    Mutex<HashMap<String, Counter>>,
    Mutex<HashMap<String, Gauge>>,
);

impl Meters for Numbers {
    fn counter(&self, meter: Meter) -> Counter {
        let name = name_of(&meter);
        self.0.lock().unwrap().entry(name).or_default().clone()
    }

    fn gauge(&self, meter: Meter) -> Gauge {
        let name = name_of(&meter);
        self.1.lock().unwrap().entry(name).or_default().clone()
    }

    fn histogram(&self, _meter: Meter) -> Histogram {
        Histogram::default()
    }
}

fn name_of(meter: &Meter) -> String {
    let labels = meter.labels.iter().map(|(_, value)| format!(" {value}"));
    format!("{}{}", meter.name, labels.collect::<String>())
}

impl Numbers {
    pub(crate) fn of(&self, name: &str) -> u64 {
        let counters = self.0.lock().unwrap();
        counters.get(name).map_or(0, Counter::value)
    }

    pub(crate) fn gauge_of(&self, name: &str) -> i64 {
        self.1.lock().unwrap().get(name).map_or(0, Gauge::value)
    }
}

#[derive(Default)]
pub(crate) struct Events(pub(crate) Mutex<Vec<Event>>);

impl Observer for Events {
    fn observe(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

/// A node with one service that listens on loopback.
pub(crate) struct Member {
    pub(crate) rpc: Rpc,
    pub(crate) id: NodeRef,
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    pub(crate) events: Arc<Events>,
    pub(crate) numbers: Arc<Numbers>,
}

impl Member {
    pub(crate) async fn start(identity: Identity, config: Config) -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        Self::start_at(identity, config, any).await
    }

    pub(crate) async fn start_at(identity: Identity, config: Config, at: SocketAddr) -> Self {
        let (events, numbers) = (Arc::new(Events::default()), Arc::new(Numbers::default()));
        let id = identity.node;
        let setup = Setup {
            config,
            identity,
            meters: numbers.clone(),
            observer: events.clone(),
            runtime: tokio::runtime::Handle::current(),
        };
        let rpc = Rpc::new(setup).expect("the config is fine");
        let seen = Arc::new(Seen::default());
        rpc.register(SERVICE, 0, seen.clone());
        let mut listened = rpc.listen(at).await;
        // A port that was free a moment ago may be somebody's for another moment.
        for _ in 0..100 {
            if listened.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            listened = rpc.listen(at).await;
        }
        let address = listened.expect("loopback has a port");
        Self {
            rpc,
            id,
            address,
            seen,
            events,
            numbers,
        }
    }

    /// Another member, as this one calls it.
    pub(crate) fn to(&self, other: &Self) -> Node {
        self.rpc
            .node(other.id, other.address)
            .expect("there is room")
    }

    pub(crate) fn refusals(&self) -> Vec<bifrust_rpc::hello::Refusal> {
        let events = self.events.0.lock().unwrap();
        let refusal = |event: &Event| match event {
            Event::Refused { refusal, .. } => Some(refusal.clone()),
            _ => None,
        };
        events.iter().filter_map(refusal).collect()
    }
}

pub(crate) async fn pair(config: Config) -> (Member, Member) {
    let a = Member::start(identity(1), config.clone()).await;
    let b = Member::start(identity(2), config).await;
    (a, b)
}

pub(crate) fn to(method: u16, payload: impl Into<bytes::Bytes>) -> Outgoing {
    Outgoing {
        target: Target {
            service: SERVICE,
            instance: 0,
            method,
        },
        body: Body::payload(payload),
        ..Outgoing::default()
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LONG, "{what} did not come to pass");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
