//! A small blocking MQTT client for `pub` and `sub`.
//!
//! ```text
//! reader thread: socket -> packets -> channel -> main thread -> socket
//!                          stdin, signals --^
//! ```
//!
//! The channel is bounded: a slow terminal slows the broker, nothing piles up here.

mod target;

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bifrust_mqtt_codec::{
    Ack, Connack, Disconnect, Packet, PacketId, Version, decode_owned, encode, peek,
};
use bytes::BytesMut;

use crate::carrier::Carrier;
use crate::endpoint::Route;

pub(crate) use self::target::{Target, parse_qos};

/// How long connecting and the answer to CONNECT may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Inputs that may wait for the main thread.
const INPUTS_MAX: usize = 256;
/// The longest packet that is taken, which is the longest the protocol has.
const PACKET_BYTES_MAX: usize = 256 << 20;

/// What the main thread wakes for.
#[derive(Debug)]
pub(crate) enum Input {
    /// The broker sent this.
    Packet(Packet),
    /// The connection is no more; why, unless the broker just closed it.
    Ended(Option<String>),
    /// A line from stdin, without its end.
    Line(Vec<u8>),
    /// There are no more lines.
    NoMoreLines,
    /// The user wants it to end.
    Interrupted,
}

/// A connection that was accepted.
pub(crate) struct Client {
    stream: TcpStream,
    /// `None` for plain TCP. Only the main thread writes, so what it seals goes out in order.
    carrier: Option<Arc<Mutex<Carrier>>>,
    version: Version,
    out: BytesMut,
    inputs: Receiver<Input>,
    sender: SyncSender<Input>,
    keep_alive: Option<Duration>,
    last_sent: Instant,
    pinged: Option<Instant>,
    last_id: u16,
    /// The answer to CONNECT.
    pub(crate) connack: Connack,
}

impl Client {
    /// Connects and waits for the broker's yes.
    pub(crate) fn connect(target: &Target) -> anyhow::Result<Self> {
        let connect = target.connect()?;
        let version = connect.version;
        let keep_alive = connect.keep_alive;
        let route = target.endpoint.route()?;
        let mut stream = open(&route)?;
        stream.set_read_timeout(Some(CONNECT_WITHIN))?;
        let mut carrier = route.carrier()?;
        let mut early = BytesMut::new();
        establish(&mut stream, &mut carrier, &mut early)?;
        let carrier = (!carrier.is_plain()).then(|| Arc::new(Mutex::new(carrier)));
        let mut out = BytesMut::new();
        encode(&Packet::Connect(Box::new(connect)), version, &mut out)?;
        write(&mut stream, carrier.as_deref(), &out)?;
        out.clear();
        let mut reader = Reader {
            stream: stream.try_clone()?,
            carrier: carrier.clone(),
            version,
            buffer: early,
        };
        let name = format!("{}:{}", route.host, route.port);
        let answer = reader
            .next()
            .with_context(|| format!("{name} does not answer as an MQTT broker does there"))?;
        let connack = match answer {
            Some(Packet::Connack(connack)) => connack,
            Some(other) => bail!("{name} answered CONNECT with {}", other.packet_type()),
            None => bail!("{name} closed the connection instead of answering CONNECT"),
        };
        ensure!(
            !connack.reason.is_error(),
            "the broker refused the connection: {}",
            reason(
                connack.reason.0,
                connack.reason.name(),
                explanation(&connack)
            )
        );
        stream.set_read_timeout(None)?;
        let server_keep_alive = connack
            .properties
            .as_ref()
            .and_then(|properties| properties.server_keep_alive);
        let keep_alive = Some(server_keep_alive.unwrap_or(keep_alive))
            .filter(|seconds| *seconds > 0)
            .map(|seconds| Duration::from_secs(seconds.into()));
        let (sender, inputs) = sync_channel(INPUTS_MAX);
        let packets = sender.clone();
        std::thread::Builder::new()
            .name("reader".to_owned())
            .spawn(move || reader.run(&packets))?;
        Ok(Self {
            stream,
            carrier,
            version,
            out,
            inputs,
            sender,
            keep_alive,
            last_sent: Instant::now(),
            pinged: None,
            last_id: 0,
            connack,
        })
    }

    /// Where other threads put what the main thread should wake for.
    pub(crate) fn sender(&self) -> SyncSender<Input> {
        self.sender.clone()
    }

    /// QoS 1 and 2 messages that the broker takes at once.
    pub(crate) fn window(&self) -> usize {
        let properties = self.connack.properties.as_ref();
        properties
            .and_then(|properties| properties.receive_maximum)
            .map_or(u16::MAX, std::num::NonZeroU16::get)
            .into()
    }

    pub(crate) fn next_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(id) = PacketId::new(self.last_id) {
                return id;
            }
        }
    }

    pub(crate) fn send(&mut self, packet: &Packet) -> anyhow::Result<()> {
        self.out.clear();
        encode(packet, self.version, &mut self.out)?;
        write(&mut self.stream, self.carrier.as_deref(), &self.out).context("cannot send")?;
        self.last_sent = Instant::now();
        Ok(())
    }

    /// The next input; `None` if there is none until `deadline`. Keeps the connection alive.
    pub(crate) fn next(&mut self, deadline: Option<Instant>) -> anyhow::Result<Option<Input>> {
        loop {
            let ping_at = self.keep_alive.map(|after| match self.pinged {
                Some(pinged) => pinged + after,
                None => self.last_sent + after,
            });
            let wake_at = [ping_at, deadline].into_iter().flatten().min();
            let received = match wake_at {
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    self.inputs.recv_timeout(left)
                }
                None => self
                    .inputs
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
            };
            match received {
                Ok(Input::Packet(Packet::Pingresp)) => self.pinged = None,
                Ok(Input::Packet(Packet::Disconnect(disconnect))) => {
                    let text = disconnect
                        .properties
                        .as_ref()
                        .and_then(|properties| properties.reason_string.as_deref());
                    let code = disconnect.reason;
                    bail!(
                        "the broker disconnected: {}",
                        reason(code.0, code.name(), text)
                    );
                }
                Ok(input) => return Ok(Some(input)),
                // Cannot come: the client holds a sender itself.
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {
                    let now = Instant::now();
                    if deadline.is_some_and(|deadline| deadline <= now) {
                        return Ok(None);
                    }
                    ensure!(self.pinged.is_none(), "the broker does not answer PINGREQ");
                    self.send(&Packet::Pingreq)?;
                    self.pinged = Some(now);
                }
            }
        }
    }

    /// Leaves; the will is not sent.
    pub(crate) fn disconnect(mut self) -> anyhow::Result<()> {
        self.send(&Packet::Disconnect(Disconnect::default()))?;
        if let Some(carrier) = &self.carrier {
            let mut wire = BytesMut::new();
            let mut carrier = lock(carrier);
            carrier.close();
            carrier.output(&mut wire)?;
            self.stream.write_all(&wire)?;
        }
        // What is on the way goes first; a broker that has gone already is as good.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        Ok(())
    }
}

/// An acknowledgement in words, if it says no.
pub(crate) fn refusal(ack: &Ack) -> Option<String> {
    let text = ack
        .properties
        .as_ref()
        .and_then(|properties| properties.reason_string.as_deref());
    ack.reason
        .is_error()
        .then(|| reason(ack.reason.0, ack.reason.name(), text))
}

fn explanation(connack: &Connack) -> Option<&str> {
    connack.properties.as_ref()?.reason_string.as_deref()
}

/// A reason code in words.
pub(crate) fn reason(code: u8, name: &str, text: Option<&str>) -> String {
    match text {
        Some(text) => format!("{name} (0x{code:02x}): {text}"),
        None => format!("{name} (0x{code:02x})"),
    }
}

fn open(route: &Route) -> anyhow::Result<TcpStream> {
    let name = format!("{}:{}", route.host, route.port);
    let addresses = (route.host.as_str(), route.port)
        .to_socket_addrs()
        .with_context(|| name.clone())?;
    let mut failure = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) => Err(error).with_context(|| format!("cannot connect to {name}")),
        None => bail!("{name} has no address"),
    }
}

/// Goes through what carriers have to agree on.
fn establish(
    stream: &mut TcpStream,
    carrier: &mut Carrier,
    early: &mut BytesMut,
) -> anyhow::Result<()> {
    let mut wire = BytesMut::new();
    loop {
        carrier.output(&mut wire)?;
        stream.write_all(&wire)?;
        wire.clear();
        if carrier.is_open() {
            return Ok(());
        }
        let mut chunk = [0; 4 << 10];
        let read = stream.read(&mut chunk)?;
        ensure!(read > 0, "the broker closed the connection");
        carrier.feed(chunk.get(..read).unwrap_or_default(), early)?;
    }
}

/// Writes all of it. The carrier is not held meanwhile: a broker that does not read until we do
/// would wait for ever.
fn write(
    stream: &mut TcpStream,
    carrier: Option<&Mutex<Carrier>>,
    plain: &[u8],
) -> anyhow::Result<()> {
    let Some(carrier) = carrier else {
        return Ok(stream.write_all(plain)?);
    };
    let mut wire = BytesMut::new();
    {
        let mut carrier = lock(carrier);
        carrier.send(plain)?;
        carrier.output(&mut wire)?;
    }
    Ok(stream.write_all(&wire)?)
}

fn lock(carrier: &Mutex<Carrier>) -> MutexGuard<'_, Carrier> {
    carrier.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes to packets.
struct Reader {
    stream: TcpStream,
    carrier: Option<Arc<Mutex<Carrier>>>,
    version: Version,
    buffer: BytesMut,
}

impl Reader {
    fn run(mut self, packets: &SyncSender<Input>) {
        loop {
            let input = match self.next() {
                Ok(Some(packet)) => Input::Packet(packet),
                Ok(None) => Input::Ended(None),
                Err(error) => Input::Ended(Some(format!("{error:#}"))),
            };
            let is_end = matches!(input, Input::Ended(_));
            if packets.send(input).is_err() || is_end {
                return;
            }
        }
    }

    /// The next packet; `None` at the end of the stream.
    fn next(&mut self) -> anyhow::Result<Option<Packet>> {
        let mut is_over = false;
        loop {
            if let Some(frame) = peek(&self.buffer)? {
                ensure!(
                    frame.total_len() <= PACKET_BYTES_MAX,
                    "a packet is too large"
                );
                if self.buffer.len() >= frame.total_len() {
                    let mut packet = self.buffer.split_to(frame.total_len()).freeze();
                    let body = packet.split_off(frame.header_len);
                    return Ok(Some(decode_owned(self.version, frame.first, body)?));
                }
            }
            if is_over {
                return Ok(None);
            }
            let mut chunk = [0; 16 << 10];
            let read = self.stream.read(&mut chunk)?;
            if read == 0 {
                return Ok(None);
            }
            let chunk = chunk.get(..read).unwrap_or_default();
            match &self.carrier {
                None => self.buffer.extend_from_slice(chunk),
                Some(carrier) => {
                    let mut carrier = lock(carrier);
                    carrier.feed(chunk, &mut self.buffer)?;
                    is_over = carrier.is_closed();
                }
            }
        }
    }
}
