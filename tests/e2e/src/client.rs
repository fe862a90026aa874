//! A blocking client of raw packets. Its methods panic with what came instead.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::carrier::Carrier;
use crate::wire::{
    self, Ack, AckKind, Connect, Filter, PINGREQ, Packet, Properties, Publish, Version,
};

/// How long an expected packet may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long a packet that must not come is waited for.
pub const SILENCE: Duration = Duration::from_millis(200);

/// Bytes to and from a broker.
pub trait Transport: Send {
    /// Sends all bytes.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Reads at least one byte before the deadline; 0 at the end.
    fn receive(&mut self, into: &mut [u8], deadline: Instant) -> io::Result<usize>;
    /// The socket below.
    fn socket(&self) -> &TcpStream;
}

impl Transport for TcpStream {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn receive(&mut self, into: &mut [u8], deadline: Instant) -> io::Result<usize> {
        read_before(self, into, deadline)
    }

    fn socket(&self) -> &TcpStream {
        self
    }
}

/// Reads from a socket until a deadline; an expired one is `TimedOut`.
pub fn read_before(
    stream: &mut TcpStream,
    into: &mut [u8],
    deadline: Instant,
) -> io::Result<usize> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    stream.read(into).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    })
}

/// What a wait ended with.
#[derive(Debug)]
pub enum Received {
    /// A packet.
    Packet(Packet),
    /// The end of the connection.
    Closed,
    /// The deadline.
    TimedOut,
}

/// A connection to a broker.
pub struct Client {
    transport: Box<dyn Transport>,
    version: Version,
    buffer: Vec<u8>,
    waiting: VecDeque<Publish>,
    next_id: u16,
    /// CONNACK's Session Present.
    pub is_present: bool,
    /// CONNACK's properties.
    pub connack: Properties,
}

impl Client {
    /// Over any transport, nothing sent yet.
    pub fn over(transport: Box<dyn Transport>, version: Version) -> Self {
        Self {
            transport,
            version,
            buffer: Vec::new(),
            waiting: VecDeque::new(),
            next_id: 0,
            is_present: false,
            connack: Properties::default(),
        }
    }

    /// A connection over the transport under test, nothing sent yet.
    pub fn dial(address: SocketAddr, version: Version) -> Self {
        Self::over(Carrier::under_test().dial(address), version)
    }

    /// A connection with CONNECT sent, accepted.
    pub fn connect(address: SocketAddr, connect: &Connect) -> Self {
        let mut client = Self::dial(address, connect.version);
        let code = client.greet(connect);
        assert_eq!(
            code, 0,
            "CONNACK of {}: {:?}",
            connect.client_id, client.connack
        );
        client
    }

    /// Sends CONNECT and gives CONNACK's code.
    pub fn greet(&mut self, connect: &Connect) -> u8 {
        self.send(&connect.encode());
        match self.next_packet() {
            Packet::Connack {
                is_present,
                code,
                properties,
            } => {
                self.is_present = is_present;
                self.connack = properties;
                code
            }
            other => panic!("CONNACK expected, got {other:?}"),
        }
    }

    /// The protocol level of this connection.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Sends these exact bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the connection takes bytes");
    }

    /// Sends these exact bytes if the connection still stands.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.transport.send(bytes)
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        self.transport.socket()
    }

    /// The next packet of any kind before a deadline.
    pub fn poll(&mut self, deadline: Instant) -> Received {
        if let Some(publish) = self.waiting.pop_front() {
            return Received::Packet(Packet::Publish(publish));
        }
        self.poll_wire(deadline)
    }

    fn poll_wire(&mut self, deadline: Instant) -> Received {
        loop {
            match wire::split(&mut self.buffer, self.version) {
                Ok(Some(packet)) => return Received::Packet(packet),
                Ok(None) => {}
                Err(error) => panic!("{error}"),
            }
            let mut chunk = [0; 64 * 1024];
            match self.transport.receive(&mut chunk, deadline) {
                Ok(0) => return Received::Closed,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::TimedOut => return Received::TimedOut,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Received::Closed,
            }
        }
    }

    /// The next packet of any kind.
    pub fn next_packet(&mut self) -> Packet {
        match self.poll(Instant::now() + PATIENCE) {
            Received::Packet(packet) => packet,
            other => panic!("a packet expected: {other:?}"),
        }
    }

    /// The next packet that is no PUBLISH; those before it wait for [`Self::next_packet`].
    pub fn next_answer(&mut self) -> Packet {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.poll_wire(deadline) {
                Received::Packet(Packet::Publish(publish)) => self.waiting.push_back(publish),
                Received::Packet(packet) => return packet,
                other => panic!(
                    "an answer expected: {other:?}; before it {:?}",
                    self.waiting
                ),
            }
        }
    }

    /// The next packet, which is a PUBLISH.
    pub fn next_publish(&mut self) -> Publish {
        match self.next_packet() {
            Packet::Publish(publish) => publish,
            other => panic!("PUBLISH expected, got {other:?}"),
        }
    }

    /// The next PUBLISH, acknowledged to the end of its handshake.
    pub fn receive(&mut self) -> Publish {
        let publish = self.next_publish();
        self.acknowledge(&publish);
        publish
    }

    /// The next `count` messages as text, each acknowledged.
    pub fn receive_texts(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.receive().text()).collect()
    }

    /// Acknowledges a PUBLISH to the end of its handshake.
    pub fn acknowledge(&mut self, publish: &Publish) {
        match publish.qos {
            1 => self.send(&wire::ack(AckKind::Puback, publish.id)),
            2 => {
                self.send(&wire::ack(AckKind::Pubrec, publish.id));
                self.expect_ack(AckKind::Pubrel, publish.id);
                self.send(&wire::ack(AckKind::Pubcomp, publish.id));
            }
            _ => {}
        }
    }

    /// Waits for this acknowledgement with a code below 0x80.
    pub fn expect_ack(&mut self, kind: AckKind, id: u16) -> Ack {
        let ack = self.next_ack();
        assert!(
            ack.kind == kind && ack.id == id && ack.code < 0x80,
            "{kind:?} {id}: {ack:?}"
        );
        ack
    }

    /// Waits for any acknowledgement.
    pub fn next_ack(&mut self) -> Ack {
        match self.next_answer() {
            Packet::Ack(ack) => ack,
            other => panic!("an acknowledgement expected, got {other:?}"),
        }
    }

    /// A packet identifier not used by this connection's last requests.
    pub fn take_id(&mut self) -> u16 {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.next_id
    }

    /// Sends a PUBLISH (with an identifier of its own if it needs one) and waits for nothing.
    pub fn send_publish(&mut self, publish: &Publish) -> u16 {
        let mut publish = publish.clone();
        if publish.qos > 0 && publish.id == 0 {
            publish.id = self.take_id();
        }
        self.send(&publish.encode(self.version));
        publish.id
    }

    /// Publishes to the end of the handshake and gives the first acknowledgement's code.
    pub fn publish(&mut self, publish: &Publish) -> u8 {
        let id = self.send_publish(publish);
        match publish.qos {
            1 => {
                let ack = self.next_ack();
                assert!(
                    ack.kind == AckKind::Puback && ack.id == id,
                    "PUBACK {id}: {ack:?}"
                );
                ack.code
            }
            2 => {
                let ack = self.next_ack();
                assert!(
                    ack.kind == AckKind::Pubrec && ack.id == id,
                    "PUBREC {id}: {ack:?}"
                );
                if ack.code < 0x80 {
                    self.send(&wire::ack(AckKind::Pubrel, id));
                    self.expect_ack(AckKind::Pubcomp, id);
                }
                ack.code
            }
            _ => 0,
        }
    }

    /// Subscribes to one filter, which must be granted at this QoS.
    pub fn subscribe(&mut self, filter: &str, qos: u8) {
        let codes = self.subscribe_all(&[Filter::new(filter, qos)]);
        assert_eq!(codes, [qos], "SUBACK for {filter}");
    }

    /// Subscribes and gives SUBACK's codes.
    pub fn subscribe_all(&mut self, filters: &[Filter]) -> Vec<u8> {
        self.subscribe_with(filters, &Properties::default())
    }

    /// Subscribes with properties and gives SUBACK's codes.
    pub fn subscribe_with(&mut self, filters: &[Filter], properties: &Properties) -> Vec<u8> {
        let id = self.take_id();
        self.send(&wire::subscribe(self.version, id, filters, properties));
        match self.next_answer() {
            Packet::Suback {
                id: acked, codes, ..
            } if acked == id => codes,
            other => panic!("SUBACK {id} expected, got {other:?}"),
        }
    }

    /// Unsubscribes and gives UNSUBACK's codes (none at v3).
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Vec<u8> {
        let id = self.take_id();
        self.send(&wire::unsubscribe(self.version, id, filters));
        match self.next_answer() {
            Packet::Unsuback {
                id: acked, codes, ..
            } if acked == id => codes,
            other => panic!("UNSUBACK {id} expected, got {other:?}"),
        }
    }

    /// Sends PINGREQ and waits for PINGRESP.
    pub fn ping(&mut self) {
        self.send(PINGREQ);
        match self.next_answer() {
            Packet::Pingresp => {}
            other => panic!("PINGRESP expected, got {other:?}"),
        }
    }

    /// Nothing comes but the answer to a ping.
    pub fn expect_silence(&mut self) {
        self.ping();
        match self.poll(Instant::now() + SILENCE) {
            Received::TimedOut => {}
            other => panic!("nothing expected, got {other:?}"),
        }
    }

    /// The broker closes without a further packet.
    pub fn expect_closed(&mut self) {
        match self.poll(Instant::now() + PATIENCE) {
            Received::Closed => {}
            other => panic!("the end of the connection expected, got {other:?}"),
        }
    }

    /// The broker closes, at v5 after a DISCONNECT with this reason.
    pub fn expect_disconnect(&mut self, reason: u8) {
        if self.version == Version::V5 {
            match self.next_answer() {
                Packet::Disconnect { code, properties } => {
                    assert_eq!(code, reason, "DISCONNECT's reason; {properties:?}");
                }
                other => panic!("DISCONNECT {reason:#04x} expected, got {other:?}"),
            }
        }
        self.expect_closed();
    }

    /// The broker refuses what was sent instead of CONNECT or as it: CONNACK's code if it sent one,
    /// then the end.
    pub fn expect_refusal(&mut self) -> Option<u8> {
        match self.poll(Instant::now() + PATIENCE) {
            Received::Closed => None,
            Received::Packet(Packet::Connack {
                is_present: false,
                code,
                ..
            }) if code != 0 => {
                self.expect_closed();
                Some(code)
            }
            other => panic!("a refusal expected, got {other:?}"),
        }
    }

    /// Says goodbye and waits until the broker closed.
    pub fn disconnect(self) {
        self.disconnect_with(0, Properties::default());
    }

    /// Says goodbye with a reason and waits until the broker closed.
    pub fn disconnect_with(mut self, code: u8, properties: Properties) {
        let version = self.version;
        self.send(&wire::disconnect(version, code, &properties));
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.poll(deadline) {
                Received::Closed => return,
                Received::Packet(Packet::Publish(_) | Packet::Ack(_)) => {}
                other => panic!("the end of the connection expected, got {other:?}"),
            }
        }
    }

    /// Ends the connection as a failing network would: no DISCONNECT.
    pub fn cut(self) {
        let _ = self.socket().shutdown(Shutdown::Both); // already closed is as good
    }
}
