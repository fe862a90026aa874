//! One client connection.

use std::io;
use std::time::Duration;

use anyhow::{Context, bail};
use bifrust_mqtt_codec::{
    Ack, Connack, Connect, Packet, PacketId, PublishHead, Qos, Subscribe, Subscription,
    SubscriptionOptions, Version, decode, encode, encode_publish, peek,
};
use bytes::{Buf, Bytes, BytesMut};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

use super::arguments::Arguments;
use crate::carrier::Carrier;
use crate::endpoint::Route;

const HANDSHAKE_SECONDS: u64 = 30;
/// What the kernel holds for a client that does not read, instead of megabytes.
const NARROW_BYTES: u32 = 4096;
const READ_BYTES: usize = 64 << 10;
/// Larger than any packet this program causes.
const PACKET_BYTES_MAX: usize = 300 << 20;

/// A connected client: bytes in, packets out, and back.
pub(super) struct Link {
    stream: TcpStream,
    carrier: Carrier,
    /// Bytes for the socket, where the carrier adds something.
    wire: BytesMut,
    input: BytesMut,
    output: BytesMut,
    version: Version,
    next_id: u16,
    is_closed: bool,
    /// How many QoS 1 and 2 publishes the server takes at a time.
    pub(super) receive_maximum: usize,
    /// Whether the server had a session.
    pub(super) session_present: bool,
}

/// How a client introduces itself.
pub(super) struct Hello {
    /// Its client id.
    pub(super) client_id: String,
    /// Which user, see [`Arguments::user_of`].
    pub(super) user: Option<String>,
    /// Whether its session outlives the connection.
    pub(super) is_persistent: bool,
    /// Whether an older session is thrown away.
    pub(super) clean_start: bool,
    /// Whether it is to take few bytes that it does not read.
    pub(super) is_narrow: bool,
}

impl Hello {
    /// A client whose session ends with its connection.
    pub(super) fn transient(arguments: &Arguments, role: &str, index: usize) -> Self {
        Self {
            client_id: format!("{}-{role}-{index}", arguments.prefix),
            user: arguments.user_of(index),
            is_persistent: false,
            clean_start: true,
            is_narrow: false,
        }
    }

    /// A client whose session stays for an hour.
    pub(super) fn persistent(arguments: &Arguments, role: &str, index: usize) -> Self {
        Self {
            is_persistent: true,
            ..Self::transient(arguments, role, index)
        }
    }
}

impl Link {
    /// Connects, sends CONNECT and waits for a CONNACK that lets it in.
    pub(super) async fn connect(arguments: &Arguments, hello: Hello) -> anyhow::Result<Self> {
        let id = hello.client_id.clone();
        timeout(
            Duration::from_secs(HANDSHAKE_SECONDS),
            Self::handshake(arguments, hello),
        )
        .await
        .with_context(|| format!("client {id}: no CONNACK in {HANDSHAKE_SECONDS} s"))?
        .with_context(|| format!("client {id} cannot connect"))
    }

    async fn handshake(arguments: &Arguments, hello: Hello) -> anyhow::Result<Self> {
        let stream = dial(arguments, hello.is_narrow).await?;
        stream.set_nodelay(true)?;
        let mut link = Self {
            stream,
            carrier: route(arguments)?.carrier()?,
            wire: BytesMut::new(),
            input: BytesMut::new(),
            output: BytesMut::new(),
            version: arguments.mqtt_version,
            next_id: 0,
            is_closed: false,
            receive_maximum: usize::from(u16::MAX),
            session_present: false,
        };
        while !link.carrier.is_open() {
            link.flush().await?;
            if !link.carrier.is_open() {
                link.readable().await?;
            }
        }
        let connect = connect_packet(arguments, hello);
        link.push(&connect)?;
        let Packet::Connack(connack) = link.receive().await? else {
            bail!("the first packet of the server is no CONNACK");
        };
        link.accept(&connack)?;
        Ok(link)
    }

    fn accept(&mut self, connack: &Connack) -> anyhow::Result<()> {
        if connack.reason.is_error() {
            bail!("refused with {:?}", connack.reason);
        }
        self.session_present = connack.session_present;
        if let Some(maximum) = connack.properties.as_ref().and_then(|p| p.receive_maximum) {
            self.receive_maximum = usize::from(maximum.get());
        }
        Ok(())
    }

    /// Subscribes and waits for the grant; packets that arrive before it stay readable.
    pub(super) async fn subscribe(&mut self, filter: String, qos: Qos) -> anyhow::Result<()> {
        self.subscribe_all(vec![filter], qos).await
    }

    /// The same for several filters in one packet.
    pub(super) async fn subscribe_all(
        &mut self,
        filters: Vec<String>,
        qos: Qos,
    ) -> anyhow::Result<()> {
        let packet_id = self.take_id();
        let subscriptions = filters.iter().map(|filter| Subscription {
            filter: filter.clone().into(),
            options: SubscriptionOptions::with_qos(qos),
        });
        self.push(&Packet::Subscribe(Subscribe {
            packet_id,
            subscriptions: subscriptions.collect(),
            subscription_id: None,
            user_properties: Default::default(),
        }))?;
        match timeout(Duration::from_secs(HANDSHAKE_SECONDS), self.receive()).await?? {
            Packet::Suback(suback) => {
                if suback.reasons.len() != filters.len() {
                    bail!("SUBACK answers another number of filters");
                }
                let mut answered = filters.iter().zip(&suback.reasons);
                match answered.find(|(_, reason)| reason.is_error()) {
                    None => Ok(()),
                    Some((filter, reason)) => {
                        bail!("subscription to {filter} refused: {reason:?}")
                    }
                }
            }
            other => bail!("{} instead of SUBACK", other.packet_type()),
        }
    }

    /// The next packet id in turn.
    pub(super) fn take_id(&mut self) -> PacketId {
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            if let Some(id) = PacketId::new(self.next_id) {
                return id;
            }
        }
    }

    /// Appends a packet to what goes out next.
    pub(super) fn push(&mut self, packet: &Packet) -> anyhow::Result<()> {
        Ok(encode(packet, self.version, &mut self.output)?)
    }

    /// Appends a PUBLISH to what goes out next; its packet id where it has one.
    pub(super) fn push_publish(
        &mut self,
        topic: &str,
        payload: &Bytes,
        qos: Qos,
        retain: bool,
    ) -> anyhow::Result<Option<PacketId>> {
        let id = (qos != Qos::AtMostOnce).then(|| self.take_id());
        let head = PublishHead::new(self.version, qos, retain, topic);
        encode_publish(&head, false, id, payload, &mut self.output)?;
        Ok(id)
    }

    /// Answers a packet as a receiver or sender of QoS 1 and 2 has to. Whether a publish of ours
    /// is complete.
    pub(super) fn answer(&mut self, packet: &Packet) -> anyhow::Result<bool> {
        match packet {
            Packet::Publish(publish) => {
                if let Some(id) = publish.packet_id {
                    let ack = Ack::success(id);
                    self.push(&match publish.qos {
                        Qos::ExactlyOnce => Packet::Pubrec(ack),
                        _ => Packet::Puback(ack),
                    })?;
                }
            }
            Packet::Pubrel(ack) => self.push(&Packet::Pubcomp(Ack::success(ack.packet_id)))?,
            Packet::Pubrec(ack) if !ack.reason.is_error() => {
                self.push(&Packet::Pubrel(Ack::success(ack.packet_id)))?;
            }
            Packet::Puback(ack) | Packet::Pubcomp(ack) | Packet::Pubrec(ack) => {
                if ack.reason.is_error() {
                    bail!("publish refused with {:?}", ack.reason);
                }
                return Ok(true);
            }
            Packet::Disconnect(disconnect) => bail!("disconnected with {:?}", disconnect.reason),
            _ => {}
        }
        Ok(false)
    }

    /// The next packet that has arrived as a whole.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Packet>> {
        let Some(frame) = peek(&self.input)? else {
            return Ok(None);
        };
        let total = frame.total_len();
        if total > PACKET_BYTES_MAX {
            bail!("the server announces a packet of {total} bytes");
        }
        if self.input.len() < total {
            return Ok(None);
        }
        let packet = decode(
            self.version,
            frame.first,
            &self.input[frame.header_len..total],
        )?;
        self.input.advance(total);
        Ok(Some(packet))
    }

    /// Waits until bytes can be read, and reads what is there.
    pub(super) async fn readable(&mut self) -> anyhow::Result<()> {
        self.stream.readable().await?;
        let read = if self.carrier.is_plain() {
            self.input.reserve(READ_BYTES);
            self.stream.try_read_buf(&mut self.input)
        } else {
            let mut wire = BytesMut::with_capacity(READ_BYTES);
            let read = self.stream.try_read_buf(&mut wire);
            self.carrier.feed(&wire, &mut self.input)?;
            match self.carrier.is_closed() && self.input.is_empty() {
                true => Ok(0),
                false => read,
            }
        };
        match read {
            Ok(0) => {
                self.is_closed = true;
                bail!("the server closed the connection")
            }
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Writes all that was pushed.
    pub(super) async fn flush(&mut self) -> anyhow::Result<()> {
        if !self.carrier.is_plain() {
            if !self.output.is_empty() {
                self.carrier.send(&self.output)?;
                self.output.clear();
            }
            self.carrier.output(&mut self.wire)?;
        }
        let out = match self.carrier.is_plain() {
            true => &mut self.output,
            false => &mut self.wire,
        };
        while !out.is_empty() {
            match self.stream.try_write(out) {
                Ok(written) => out.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.writable().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits for one packet.
    pub(super) async fn receive(&mut self) -> anyhow::Result<Packet> {
        self.flush().await?;
        loop {
            if let Some(packet) = self.next()? {
                return Ok(packet);
            }
            self.readable().await?;
        }
    }

    /// Says DISCONNECT and closes.
    pub(super) async fn disconnect(mut self) -> anyhow::Result<()> {
        self.push(&Packet::Disconnect(Default::default()))?;
        self.flush().await
    }
}

fn route(arguments: &Arguments) -> anyhow::Result<&Route> {
    arguments
        .route
        .as_ref()
        .context("the endpoint is read first")
}

async fn dial(arguments: &Arguments, is_narrow: bool) -> anyhow::Result<TcpStream> {
    let route = route(arguments)?;
    let target = (route.host.as_str(), route.port);
    if !is_narrow {
        return Ok(TcpStream::connect(target).await?);
    }
    let address = lookup_host(target)
        .await?
        .next()
        .context("the host has no address")?;
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_recv_buffer_size(NARROW_BYTES)?;
    Ok(socket.connect(address).await?)
}

fn connect_packet(arguments: &Arguments, hello: Hello) -> Packet {
    let mut connect = Connect::new(arguments.mqtt_version, hello.client_id);
    connect.keep_alive = arguments.keep_alive;
    connect.clean_start = match arguments.mqtt_version {
        Version::V5 => hello.clean_start,
        // Before 5.0 one flag says both.
        _ => !hello.is_persistent,
    };
    if hello.is_persistent && arguments.mqtt_version == Version::V5 {
        connect.properties.session_expiry = Some(3600);
    }
    connect.user_name = hello.user.map(Into::into);
    connect.password = arguments.password.clone().map(Into::into);
    Packet::Connect(Box::new(connect))
}
