//! A server with everything below it, and a client that sends and expects packets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bifrust_dist::{Deliverer, Dist, Matched, Pick, Publication, PublishError, Then};
use bifrust_inbox::Inbox;
use bifrust_kv::{Clock, Node};
use bifrust_model::{ClientInfo, EventKind, Incarnation, NodeId, NodeRef, Settings, TenantName};
use bifrust_mqtt::{Config, Listener, ListenerKind, Mailboxes, Server, Services};
use bifrust_mqtt_codec::{
    Ack, Connack, Connect, Packet, PacketId, Publish, PublishProperties, Qos, ReasonCode,
    Subscribe, Subscription, SubscriptionOptions, Version, decode, encode, peek,
};
use bifrust_plugin_api::{
    Access, Action, Answer, Auth, AuthAnswer, AuthRequest, Balancer, Events, Granted, NoMeters,
    NoRedirect, SettingsSource, Unlimited,
};
use bifrust_registry::{AlwaysHeld, Registry};
use bifrust_retain::Retain;
use bifrust_session_dict::Dict;
use bifrust_storage::Store;
use bytes::BytesMut;
use tokio::sync::Semaphore;

/// Lets everybody in; the user name is the tenant. Topics below `forbidden` are.
struct Everybody {
    /// What clients called `slow` wait for.
    gate: Arc<Semaphore>,
    /// How often they asked.
    asked: Arc<AtomicUsize>,
}

impl Auth for Everybody {
    fn authenticate(&self, request: AuthRequest) -> Answer<AuthAnswer> {
        let name = request
            .credentials
            .user_name
            .unwrap_or_else(|| "default".into());
        let granted = Granted {
            tenant: TenantName::new(&name).unwrap(),
            user: None,
        };
        if request.client_id.starts_with("slow") {
            return Answer::Later(Box::pin(async move { Ok(Ok(granted)) }));
        }
        Answer::Now(Ok(Ok(granted)))
    }

    fn access(&self, client: &Arc<ClientInfo>, action: Action<'_>) -> Answer<Access> {
        let topic = match action {
            Action::Publish { topic, .. } => topic,
            Action::Subscribe { filter, .. } | Action::Unsubscribe { filter } => filter,
        };
        let is_allowed = !topic.starts_with("forbidden");
        if client.client.as_str().starts_with("slow") {
            let gate = self.gate.clone();
            self.asked.fetch_add(1, Ordering::SeqCst);
            return Answer::Later(Box::pin(async move {
                // Closed while a test holds its only permit.
                let _open = gate.acquire().await;
                Ok(is_allowed)
            }));
        }
        Answer::Now(Ok(is_allowed))
    }

    fn version(&self) -> u64 {
        1
    }
}

/// Settings that a test changes.
struct Changing(Arc<ArcSwap<Settings>>);

impl SettingsSource for Changing {
    fn settings(&self, _tenant: &TenantName) -> Arc<Settings> {
        self.0.load_full()
    }

    fn version(&self) -> u64 {
        0
    }
}

/// Persistent sessions hold nothing of the topic `refused`.
struct Refusing(Arc<dyn Deliverer>);

impl Deliverer for Refusing {
    fn deliver(
        &self,
        publication: &Arc<Publication>,
        matched: &Arc<Matched>,
        picks: &[Pick],
        done: Then<Result<(), PublishError>>,
    ) {
        match publication.message.topic.as_str() {
            "refused" => done(Err(PublishError::Refused)),
            _ => self.0.deliver(publication, matched, picks, done),
        }
    }
}

/// What tests choose.
struct Parts {
    settings: Settings,
    shards: usize,
    balancer: Arc<dyn Balancer>,
    publish_timeout: Duration,
    ranges: bifrust_kv::Config,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            shards: 2,
            balancer: Arc::new(NoRedirect),
            publish_timeout: Duration::from_secs(10),
            ranges: bifrust_kv::Config::default(),
        }
    }
}

pub(crate) struct Broker {
    server: Option<Server>,
    node: Node,
    inbox: Inbox,
    /// Take its permit to hold the permission answers of clients called `slow`.
    pub(crate) gate: Arc<Semaphore>,
    asked: Arc<AtomicUsize>,
    pub(crate) events: Events,
    settings: Arc<ArcSwap<Settings>>,
    registry: Registry,
    pub(crate) tcp: SocketAddr,
    pub(crate) ws: SocketAddr,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::with(Settings::default(), 2)
    }

    pub(crate) fn with(settings: Settings, shards: usize) -> Self {
        Self::balanced(settings, shards, Arc::new(NoRedirect))
    }

    /// With a balancer that is asked about connected clients all the time.
    pub(crate) fn balanced(settings: Settings, shards: usize, balancer: Arc<dyn Balancer>) -> Self {
        Self::assemble(Parts {
            settings,
            shards,
            balancer,
            ..Parts::default()
        })
    }

    /// One that closes publishers who would wait longer for an answer.
    pub(crate) fn giving_up_after(publish_timeout: Duration) -> Self {
        Self::assemble(Parts {
            publish_timeout,
            ..Parts::default()
        })
    }

    /// With ranges that let only so many commands wait.
    pub(crate) fn narrow(queue_commands_max: usize) -> Self {
        Self::assemble(Parts {
            ranges: bifrust_kv::Config {
                queue_commands_max,
                ..bifrust_kv::Config::default()
            },
            ..Parts::default()
        })
    }

    fn assemble(parts: Parts) -> Self {
        let Parts {
            settings,
            shards,
            balancer,
            publish_timeout,
            ranges,
        } = parts;
        let mut keyspaces = Vec::new();
        for of_one in [
            bifrust_kv::keyspaces(),
            bifrust_registry::keyspaces(),
            bifrust_dist::keyspaces(),
            bifrust_retain::keyspaces(),
            bifrust_inbox::keyspaces(),
        ] {
            keyspaces.extend_from_slice(of_one);
        }
        let clock = Clock::new();
        let store = Store::memory(&keyspaces);
        let node = Node::open(store, ranges, clock.clone()).unwrap();
        let this = NodeRef {
            id: NodeId(1),
            incarnation: Incarnation(1),
        };
        let events = Events::new(Vec::new());
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let source = Arc::new(Changing(settings.clone()));
        let registry = Registry::open(&node, source).unwrap();
        let dist = Dist::open(&node, this, &NoMeters).unwrap();
        let retain = Retain::open(&node, &NoMeters).unwrap();
        let inbox = Inbox::open(
            &node,
            dist.clone(),
            registry.clone(),
            clock.clone(),
            events.clone(),
            &NoMeters,
            bifrust_inbox::Config::default(),
        )
        .unwrap();
        let dict = Dict::new();
        let gate = Arc::new(Semaphore::new(1));
        let asked = Arc::new(AtomicUsize::new(0));
        let mailboxes = Mailboxes::new(shards);
        let services = Services {
            auth: Arc::new(Everybody {
                gate: gate.clone(),
                asked: asked.clone(),
            }),
            balancer,
            quotas: Arc::new(Unlimited),
            registry: registry.clone(),
            dict: dict.clone(),
            dist: dist.clone(),
            inbox: inbox.clone(),
            retain,
            clock,
            events: events.clone(),
            meters: Arc::new(NoMeters),
            node: this,
            lease: Arc::new(AlwaysHeld),
        };
        dict.bind(mailboxes.clone());
        dist.bind(mailboxes.clone(), Arc::new(Refusing(inbox.deliverer())));
        inbox.bind(
            mailboxes.clone(),
            bifrust_mqtt::will_sender(services.clone()),
        );
        inbox.start();
        let listener = |kind| Listener::new(kind, ([127, 0, 0, 1], 0).into());
        let config = Config {
            listeners: vec![listener(ListenerKind::Tcp), listener(ListenerKind::Ws)],
            connect_timeout: Duration::from_secs(2),
            publish_timeout,
            stall_after: Duration::from_millis(500),
            redirect_check: Duration::from_millis(1),
            ..Config::default()
        };
        let server = bifrust_mqtt::start(config, services, mailboxes).unwrap();
        let (tcp, ws) = (server.addresses()[0].address, server.addresses()[1].address);
        Self {
            server: Some(server),
            node,
            inbox,
            gate,
            asked,
            events,
            settings,
            registry,
            tcp,
            ws,
        }
    }

    pub(crate) fn client(&self, version: Version, id: &str) -> Client {
        self.connect(Connect::new(version, id.to_owned())).0
    }

    pub(crate) fn connect(&self, connect: Connect) -> (Client, Connack) {
        let mut client = self.raw(connect.version);
        client.send(&Packet::Connect(Box::new(connect)));
        match client.read() {
            Packet::Connack(connack) => (client, connack),
            other => panic!("{other:?} instead of CONNACK"),
        }
    }

    /// Only a socket.
    pub(crate) fn raw(&self, version: Version) -> Client {
        Client::new(TcpStream::connect(self.tcp).unwrap(), version)
    }

    pub(crate) fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop(Duration::from_secs(5));
        }
    }

    /// Gives all tenants these settings from now on.
    pub(crate) fn change(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
        self.registry.refresh_settings();
    }

    /// Waits until this has happened at least so often.
    pub(crate) fn await_event(&self, kind: EventKind, count: u64) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.events.count(kind) < count {
            assert!(Instant::now() < deadline, "{kind} did not happen");
            std::thread::yield_now();
        }
    }

    /// Waits until clients called `slow` have asked for this many permissions.
    pub(crate) fn await_asked(&self, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.asked.load(Ordering::SeqCst) < count {
            assert!(Instant::now() < deadline, "nobody asked");
            std::thread::yield_now();
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.server.as_ref().map_or(0, Server::connections)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
        self.inbox.stop();
        self.node.stop();
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    version: Version,
    buffer: BytesMut,
}

impl Client {
    pub(crate) fn new(stream: TcpStream, version: Version) -> Self {
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            version,
            buffer: BytesMut::new(),
        }
    }

    pub(crate) fn send(&mut self, packet: &Packet) {
        let mut out = BytesMut::new();
        encode(packet, self.version, &mut out).unwrap();
        self.stream.write_all(&out).unwrap();
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next packet; `None` at the end of the stream.
    pub(crate) fn try_read(&mut self) -> Option<Packet> {
        loop {
            if let Some(frame) = peek(&self.buffer).unwrap()
                && self.buffer.len() >= frame.total_len()
            {
                let packet = self.buffer.split_to(frame.total_len());
                let body = &packet[frame.header_len..];
                return Some(decode(self.version, frame.first, body).unwrap());
            }
            let mut chunk = [0; 65_536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    pub(crate) fn read(&mut self) -> Packet {
        self.try_read().expect("the connection is open")
    }

    /// Reads to the end of the stream and returns the DISCONNECT before it, if there is one.
    pub(crate) fn read_end(&mut self) -> Option<ReasonCode> {
        let mut reason = None;
        while let Some(packet) = self.try_read() {
            if let Packet::Disconnect(disconnect) = packet {
                reason = Some(disconnect.reason);
            }
        }
        reason
    }

    pub(crate) fn publish(&mut self, topic: &str, qos: Qos, id: u16, payload: &str) {
        self.send(&Packet::Publish(publish(topic, qos, id, payload)));
    }

    /// Publishes and waits for what comes back.
    pub(crate) fn publish_acked(&mut self, topic: &str, qos: Qos, id: u16, payload: &str) {
        self.publish(topic, qos, id, payload);
        match qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => match self.read() {
                Packet::Puback(ack) => assert!(ack.packet_id.get() == id && is_taken(&ack)),
                other => panic!("{other:?} instead of PUBACK {id}"),
            },
            Qos::ExactlyOnce => {
                match self.read() {
                    Packet::Pubrec(ack) => assert!(ack.packet_id.get() == id && is_taken(&ack)),
                    other => panic!("{other:?} instead of PUBREC {id}"),
                }
                self.send(&Packet::Pubrel(ack(id)));
                assert_eq!(self.read(), Packet::Pubcomp(ack(id)));
            }
        }
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: Qos) -> ReasonCode {
        self.subscribe_with(filter, SubscriptionOptions::with_qos(qos), None)
    }

    pub(crate) fn subscribe_with(
        &mut self,
        filter: &str,
        options: SubscriptionOptions,
        subscription_id: Option<u32>,
    ) -> ReasonCode {
        self.send(&Packet::Subscribe(Subscribe {
            packet_id: packet_id(77),
            subscriptions: vec![Subscription {
                filter: filter.to_owned().into(),
                options,
            }],
            subscription_id,
            user_properties: Default::default(),
        }));
        match self.read() {
            Packet::Suback(suback) => suback.reasons[0],
            other => panic!("{other:?} instead of SUBACK"),
        }
    }

    /// Expects a message and answers it as its QoS asks.
    pub(crate) fn expect(&mut self, topic: &str, payload: &str) -> Publish {
        let publish = match self.read_completing() {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?} instead of {topic}: {payload}"),
        };
        assert_eq!(
            (&*publish.topic, &*publish.payload),
            (topic, payload.as_bytes())
        );
        match publish.qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => {
                let id = publish.packet_id.unwrap();
                self.send(&Packet::Puback(Ack::success(id)));
            }
            Qos::ExactlyOnce => {
                let id = publish.packet_id.unwrap();
                self.send(&Packet::Pubrec(Ack::success(id)));
            }
        }
        publish
    }

    /// The next packet; PUBRELs before it are answered.
    fn read_completing(&mut self) -> Packet {
        loop {
            match self.read() {
                Packet::Pubrel(ack) => self.send(&Packet::Pubcomp(ack)),
                packet => return packet,
            }
        }
    }

    /// Nothing but the answer to a ping is there.
    pub(crate) fn expect_nothing(&mut self) {
        self.send(&Packet::Pingreq);
        assert_eq!(self.read_completing(), Packet::Pingresp);
    }
}

pub(crate) fn packet_id(id: u16) -> PacketId {
    PacketId::from(NonZeroU16::new(id).unwrap())
}

pub(crate) fn ack(id: u16) -> Ack {
    Ack::success(packet_id(id))
}

fn is_taken(ack: &Ack) -> bool {
    !ack.reason.is_error()
}

/// An acknowledgement that tells that nobody was there.
pub(crate) fn unmatched(id: u16) -> Ack {
    Ack::with_reason(packet_id(id), ReasonCode::NO_MATCHING_SUBSCRIBERS)
}

pub(crate) fn publish(topic: &str, qos: Qos, id: u16, payload: &str) -> Publish {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: topic.to_owned().into(),
        packet_id: (qos != Qos::AtMostOnce).then(|| packet_id(id)),
        payload: payload.to_owned().into(),
        properties: PublishProperties::default(),
    }
}

/// A client whose session stays.
pub(crate) fn staying(version: Version, id: &str) -> Connect {
    let mut connect = Connect::new(version, id.to_owned());
    connect.clean_start = false;
    if version == Version::V5 {
        connect.properties.session_expiry = Some(3600);
    }
    connect
}
