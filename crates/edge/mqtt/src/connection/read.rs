//! From readiness to packets.
//!
//! Bytes land in the shard's buffer. What is complete is handled there; only the beginning of an
//! incomplete packet, or what arrived before a pause, is kept with the connection.

use std::task::{Context, Poll};

use bifrust_mqtt_codec::{DecodeError, Frame, Packet, PacketType, ReasonCode, decode, peek};
use bytes::{Buf, Bytes, BytesMut};

use super::{Connection, Ending, Pause, Phase};
use crate::fault::{Fault, planted};
use crate::mailbox::Seat;
use crate::shard::timer::Timer;
use crate::shard::turns::PACKET_WORK;
use crate::shard::{READ_BUFFER, Shard};
use crate::transport::{Read, Transport};

/// Work done for one connection before others have their turn.
const WORK_PER_TURN: u64 = 4 * READ_BUFFER as u64;
/// Packets taken from one buffer before others have their turn.
const PACKETS_PER_TURN: usize = 2048;
/// Packets above this size are gathered in memory of their own, and their payload is not copied
/// again.
const LARGE: usize = 16 << 10;
/// This many bytes of a packet that is still arriving count as a sign of life.
const SIGN_OF_LIFE: u32 = 1000;

/// How far a buffer was consumed, and why no further.
struct Consumed {
    used: usize,
    stop: Stop,
}

enum Stop {
    /// The rest is the beginning of a packet, of this length if that is known (0 if not).
    Incomplete(usize),
    /// The connection is paused or has had its turn; the rest may hold whole packets.
    Held,
    /// The connection takes no more packets.
    Ended,
}

impl Shard {
    /// What the connection's task does whenever it is woken.
    pub(crate) fn poll_connection(&mut self, seat: Seat, context: &mut Context<'_>) -> Poll<()> {
        self.refresh_clock();
        let Some(connection) = self.connection(seat) else {
            return Poll::Ready(());
        };
        match &mut connection.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => connection.waker = Some(context.waker().clone()),
        }
        if connection.is_write_blocked {
            let ready = match &connection.transport {
                Some(transport) => transport.poll_write_ready(context),
                None => Poll::Pending,
            };
            if ready.is_ready() {
                connection.is_write_blocked = false;
                self.flush_connection(seat.slot);
            }
        }
        self.read_turn(seat, context);
        self.end_doomed();
        if self.connection(seat).is_none() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Takes what has arrived before the connection is ended from this side: acknowledgements in
    /// it need not be asked for again.
    pub(crate) fn read_last(&mut self, seat: Seat) {
        let waker = self
            .connection(seat)
            .and_then(|connection| connection.waker.clone());
        if let Some(waker) = waker {
            self.resume(seat, Pause::Turn);
            self.read_some(seat, &mut Context::from_waker(&waker));
        }
    }

    /// Reads if it is the tenant's turn.
    fn read_turn(&mut self, seat: Seat, context: &mut Context<'_>) {
        let Some(connection) = self.connection(seat) else {
            return;
        };
        let is_reading = connection.pauses.is_empty();
        let tenant = match connection.session() {
            Some(session) if is_reading => session.tenant.number,
            // Who it belongs to is not known yet, or nothing is read but to be thrown away.
            _ => return self.read_some(seat, context),
        };
        if !self.turns.begin(tenant, seat) {
            self.pause(seat, Pause::Turn);
            self.wake_flusher();
            return;
        }
        let before = self.work;
        self.read_some(seat, context);
        if let Some(next) = self.turns.end(tenant, self.work - before) {
            self.resume(next, Pause::Turn);
        }
    }

    fn read_some(&mut self, seat: Seat, context: &mut Context<'_>) {
        let begun = self.work;
        while self.work - begun < WORK_PER_TURN {
            let Some(connection) = self.connection(seat) else {
                return;
            };
            match connection.phase {
                Phase::Closing(_) => return self.discard(seat, context),
                _ if !connection.pauses.is_empty() => return,
                _ => {}
            }
            if connection.is_held {
                self.work += 1;
                self.consume_held(seat);
                continue;
            }
            let is_handshaking = connection
                .transport
                .as_ref()
                .is_some_and(Transport::is_handshaking);
            if is_handshaking && !self.may_shake_hands(context.waker()) {
                return;
            }
            match self.read_once(seat, context) {
                Some(n) => self.work += n as u64,
                None => return,
            }
        }
        // Others first; then this one goes on.
        context.waker().wake_by_ref();
    }

    /// Reads into the shard's buffer and handles what is there. `None` if there was nothing.
    fn read_once(&mut self, seat: Seat, context: &mut Context<'_>) -> Option<usize> {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let read = self.read_into(seat, context, &mut buffer);
        self.read_buffer = buffer;
        read
    }

    fn read_into(
        &mut self,
        seat: Seat,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Option<usize> {
        let connection = self.connection(seat)?;
        let is_large = connection.tail_packet > LARGE;
        let (from, to) = if is_large {
            // Exactly up to the end of the packet, so that its memory holds nothing else.
            let missing = connection.tail_packet.saturating_sub(connection.tail.len());
            (0, missing.min(buffer.len()))
        } else {
            let held = connection.tail.len();
            buffer[..held].copy_from_slice(&connection.tail);
            (held, buffer.len())
        };
        let transport = connection.transport.as_mut()?;
        let n = match transport.poll_read(context, &mut buffer[from..to]) {
            Poll::Ready(Ok(Read::Bytes(n))) => n,
            Poll::Ready(Ok(Read::End)) => {
                // What the carrier has to say goes out before the end.
                self.mark_dirty(seat.slot);
                self.end(seat, Ending::lost("the client closed the connection"));
                return None;
            }
            Poll::Ready(Ok(Read::Refused(refusal))) => {
                self.metrics.refused(refusal.why);
                self.end(seat, Ending::silent(refusal.event, refusal.detail));
                return None;
            }
            Poll::Ready(Err(error)) => {
                self.end(seat, Ending::lost(error.to_string()));
                return None;
            }
            Poll::Pending => return None,
        };
        if transport.unwritten() > 0 {
            self.mark_dirty(seat.slot);
        }
        self.metrics.bytes_received(n);
        let now_ms = self.now_ms;
        let connection = self.connection(seat)?;
        count_partial(connection, n, now_ms);
        let slow_until = connection
            .rate
            .as_mut()
            .and_then(|rate| rate.read(n, now_ms));
        self.slow_down(seat, slow_until);
        if is_large {
            let connection = self.connection(seat)?;
            connection.tail.extend_from_slice(&buffer[..n]);
            if connection.tail.len() >= connection.tail_packet {
                self.take_large(seat);
            }
        } else {
            if let Some(connection) = self.connection(seat) {
                connection.tail = BytesMut::new();
            }
            let filled = &buffer[..from + n];
            let consumed = self.consume(seat, filled);
            self.keep_rest(seat, &filled[consumed.used..], consumed.stop);
        }
        Some(n.max(1))
    }

    /// Reads nothing until this moment.
    pub(super) fn slow_down(&mut self, seat: Seat, until_ms: Option<u64>) {
        if let Some(until_ms) = until_ms {
            self.pause(seat, Pause::Rate);
            self.wheel.arm(until_ms, seat, Timer::Rate);
        }
    }

    /// Handles what was read before a pause.
    fn consume_held(&mut self, seat: Seat) {
        let Some(connection) = self.connection(seat) else {
            return;
        };
        connection.is_held = false;
        let mut tail = std::mem::take(&mut connection.tail);
        let consumed = self.consume(seat, &tail);
        let Some(connection) = self.connection(seat) else {
            return;
        };
        match consumed.stop {
            Stop::Held => {
                tail.advance(consumed.used);
                connection.tail = tail;
                connection.is_held = true;
            }
            stop => self.keep_rest(seat, &tail[consumed.used..], stop),
        }
    }

    /// Keeps what could not be handled yet.
    fn keep_rest(&mut self, seat: Seat, rest: &[u8], stop: Stop) {
        let Some(connection) = self.connection(seat) else {
            return;
        };
        match stop {
            Stop::Ended => {}
            Stop::Held => {
                connection.is_held = true;
                connection.tail = BytesMut::from(rest);
            }
            Stop::Incomplete(total) => {
                connection.tail_packet = total;
                if !rest.is_empty() {
                    connection.tail = BytesMut::from(rest);
                }
            }
        }
    }

    /// A packet with memory of its own is complete.
    fn take_large(&mut self, seat: Seat) {
        let Some(connection) = self.connection(seat) else {
            return;
        };
        let mut packet = std::mem::take(&mut connection.tail).freeze();
        connection.tail_packet = 0;
        let Ok(Some(frame)) = peek(&packet) else {
            return;
        };
        packet.advance(frame.header_len);
        self.heard(seat);
        self.handle(seat, frame, Body::Owned(packet));
    }

    /// Handles whole packets until something says stop.
    fn consume(&mut self, seat: Seat, buffer: &[u8]) -> Consumed {
        let mut used = 0;
        for _ in 0..PACKETS_PER_TURN {
            let Some(connection) = self.connection(seat) else {
                return Consumed {
                    used,
                    stop: Stop::Ended,
                };
            };
            let stop = if matches!(connection.phase, Phase::Closing(_)) {
                Stop::Ended
            } else if !connection.pauses.is_empty() {
                Stop::Held
            } else {
                match next_frame(connection, &buffer[used..]) {
                    Ok(Next::Whole(frame)) => {
                        let start = used + frame.header_len;
                        used += frame.total_len();
                        self.heard(seat);
                        self.work += PACKET_WORK;
                        self.handle(seat, frame, Body::Borrowed(&buffer[start..used]));
                        continue;
                    }
                    Ok(Next::Part(total)) => Stop::Incomplete(total),
                    Err(ending) => {
                        self.end(seat, ending);
                        Stop::Ended
                    }
                }
            };
            return Consumed { used, stop };
        }
        Consumed {
            used,
            stop: Stop::Held,
        }
    }

    /// A complete packet has come (3.1.2.10).
    fn heard(&mut self, seat: Seat) {
        let now_ms = self.now_ms;
        if let Some(connection) = self.connection(seat) {
            connection.heard_ms = now_ms;
            connection.partial = 0;
        }
    }

    fn handle(&mut self, seat: Seat, frame: Frame, body: Body<'_>) {
        let Some(connection) = self.connection(seat) else {
            return;
        };
        let result = match connection.phase {
            Phase::Fresh => self.handle_connect(seat, frame, body.as_slice()),
            Phase::Serving(_) => {
                let version = connection.version;
                let decoded = match body {
                    Body::Borrowed(body) => decode(version, frame.first, body),
                    Body::Owned(body) => {
                        bifrust_mqtt_codec::decode_owned(version, frame.first, body)
                    }
                };
                match decoded {
                    Ok(packet) => self.handle_packet(seat, packet),
                    Err(error) => Err(malformed(&error)),
                }
            }
            Phase::Connecting(_) => self.handle_exchange(seat, frame, body.as_slice()),
            Phase::Closing(_) => Ok(()),
        };
        if let Err(ending) = result {
            self.end(seat, ending);
        }
    }

    fn handle_packet(&mut self, seat: Seat, packet: Packet) -> Result<(), Ending> {
        match packet {
            Packet::Publish(publish) => self.handle_publish(seat, publish),
            Packet::Puback(ack) => self.handle_puback(seat, &ack),
            Packet::Pubrec(ack) => self.handle_pubrec(seat, &ack),
            Packet::Pubrel(ack) => self.handle_pubrel(seat, &ack),
            Packet::Pubcomp(ack) => self.handle_pubcomp(seat, &ack),
            Packet::Subscribe(subscribe) => self.handle_subscribe(seat, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.handle_unsubscribe(seat, unsubscribe),
            Packet::Pingreq => {
                self.handle_pingreq(seat);
                Ok(())
            }
            Packet::Disconnect(disconnect) => self.handle_disconnect(seat, &disconnect),
            Packet::Connect(_) if planted(Fault::SecondConnect) => Ok(()),
            // MQTT-3.1.0-2.
            Packet::Connect(_) => Err(super::protocol_error("a second CONNECT")),
            Packet::Auth(auth) => self.handle_auth(seat, auth),
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                Err(super::protocol_error("a packet only servers send"))
            }
        }
    }

    /// Reads and forgets what a peer sends that has been told to go.
    fn discard(&mut self, seat: Seat, context: &mut Context<'_>) {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        for _ in 0..8 {
            let transport = match self.connection(seat) {
                Some(connection) => connection.transport.as_mut(),
                None => None,
            };
            let Some(transport) = transport else {
                break;
            };
            match transport.poll_read(context, &mut buffer) {
                Poll::Ready(Ok(Read::Bytes(_) | Read::Refused(_))) => {}
                Poll::Ready(Ok(Read::End) | Err(_)) => {
                    self.leave_socket(seat);
                    break;
                }
                Poll::Pending => break,
            }
        }
        self.read_buffer = buffer;
    }
}

enum Body<'a> {
    Borrowed(&'a [u8]),
    Owned(Bytes),
}

impl Body<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(body) => body,
            Self::Owned(body) => body,
        }
    }
}

enum Next {
    Whole(Frame),
    /// Not all of it is there; its length if the header says it.
    Part(usize),
}

/// Looks at the packet at the start of `buffer`. Its size is judged before its body is there.
fn next_frame(connection: &Connection, buffer: &[u8]) -> Result<Next, Ending> {
    let Some(frame) = peek(buffer).map_err(|error| malformed(&error))? else {
        if matches!(connection.phase, Phase::Fresh) && !starts_connect(buffer) {
            return Err(not_connect());
        }
        return Ok(Next::Part(0));
    };
    if matches!(connection.phase, Phase::Fresh) && !starts_connect(buffer) {
        return Err(not_connect());
    }
    let total = frame.total_len();
    if total > connection.packet_max {
        let detail = format!("{total} bytes, {} are allowed", connection.packet_max);
        return Err(Ending::violation(ReasonCode::PACKET_TOO_LARGE, detail));
    }
    if buffer.len() < total {
        return Ok(Next::Part(total));
    }
    Ok(Next::Whole(frame))
}

/// MQTT-3.1.0-1. Nothing else is waited for.
fn starts_connect(buffer: &[u8]) -> bool {
    buffer
        .first()
        .is_none_or(|first| first >> 4 == PacketType::Connect as u8)
}

fn not_connect() -> Ending {
    Ending::violation(
        ReasonCode::PROTOCOL_ERROR,
        "the first packet is not CONNECT",
    )
}

pub(super) fn malformed(error: &DecodeError) -> Ending {
    Ending::bad_packet(error.reason(), error.to_string())
}

/// Bytes of a packet that takes long are a sign of life too.
fn count_partial(connection: &mut Connection, n: usize, now_ms: u64) {
    let partial = connection
        .partial
        .saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
    if partial >= SIGN_OF_LIFE {
        connection.heard_ms = now_ms;
        connection.partial = 0;
    } else {
        connection.partial = partial;
    }
}
