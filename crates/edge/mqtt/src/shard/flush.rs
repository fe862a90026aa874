//! The end of a turn: what gathered for sockets and for other shards goes out, one write each.

use std::io;
use std::num::NonZeroU64;
use std::task::Waker;

use bifrust_model::EventKind;
use bifrust_mqtt_codec::{Packet, ReasonCode, encode_within};

use super::{HANDSHAKES_PER_TURN, Shard};
use crate::connection::{Ending, LINGER_MS, Pause, Phase};
use crate::mailbox::Seat;
use crate::shard::timer::Timer;
use crate::transport::Out;

/// Buffers kept for the next turn.
const BUFFERS_MAX: usize = 1024;
/// Larger ones are given back.
const BUFFER_KEPT: usize = 32 << 10;
/// Answers that may wait for a client that does not read them, before nothing more is read from it.
const ANSWERS_MAX: usize = 256 << 10;

impl Shard {
    /// Writes to every connection that has something new, then posts to the other shards.
    pub(crate) fn flush(&mut self) {
        // What is marked while this runs is flushed in this run too, or wakes the flusher again.
        let dirty = std::mem::take(&mut self.dirty);
        for &slot in &dirty {
            self.flush_connection(slot);
        }
        if self.dirty.is_empty() {
            self.dirty = dirty;
            self.dirty.clear();
        }
        for shard in 0..self.outgoing.len() {
            self.post_outgoing(shard);
        }
        self.end_doomed();
        self.handshakes_left = HANDSHAKES_PER_TURN;
        for waiting in self.waiting_handshakes.drain(..) {
            waiting.wake();
        }
        self.next_round();
    }

    /// Whether a handshake may take a step now. If not, its connection is woken in the next turn.
    pub(crate) fn may_shake_hands(&mut self, waker: &Waker) -> bool {
        match self.handshakes_left.checked_sub(1) {
            Some(left) => {
                self.handshakes_left = left;
                true
            }
            None => {
                self.waiting_handshakes.push(waker.clone());
                self.wake_flusher();
                false
            }
        }
    }

    /// All that was ready has had its turn: those who wait for theirs are next.
    fn next_round(&mut self) {
        let mut called = Vec::new();
        if self.turns.next_round(&mut called) {
            self.wake_flusher();
        }
        for seat in called {
            self.resume(seat, Pause::Turn);
        }
    }

    /// Remembers that a connection has something to write.
    pub(crate) fn mark_dirty(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else {
            return;
        };
        if connection.is_dirty {
            return;
        }
        connection.is_dirty = true;
        self.dirty.push(slot);
        if self.dirty.len() == 1 {
            self.wake_flusher();
        }
    }

    pub(crate) fn wake_flusher(&self) {
        if let Some(waker) = &self.flusher {
            waker.wake_by_ref();
        }
    }

    /// Fills the socket's buffer from the queues and writes, until the socket is full or nothing
    /// is left.
    pub(crate) fn flush_connection(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else {
            return;
        };
        connection.is_dirty = false;
        if connection.is_deaf {
            connection.out = Out::default();
            return;
        }
        let now_ms = self.now_ms;
        loop {
            self.fill(slot);
            let Some(connection) = self.connections.get_mut(slot as usize) else {
                return;
            };
            let pending = connection.pending();
            let is_silent = connection
                .rate
                .as_ref()
                .is_some_and(|rate| rate.silent_until_ms > now_ms);
            if pending == 0 || connection.is_write_blocked || is_silent {
                break;
            }
            let Some(transport) = &mut connection.transport else {
                break;
            };
            let result = transport.write(&mut connection.out);
            let written = pending.saturating_sub(connection.pending());
            let silent_until = connection
                .rate
                .as_mut()
                .and_then(|rate| rate.wrote(written, now_ms));
            if let Some(until_ms) = silent_until {
                let generation = connection.generation;
                self.wheel
                    .arm(until_ms, Seat { slot, generation }, Timer::Rate);
            }
            self.metrics.bytes_sent(written);
            if written > 0 {
                connection.stalled_ms = None;
                connection.is_stalled = false;
            }
            match result {
                // More may have waited for this room.
                Ok(()) => self.return_buffer(slot),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    connection.is_write_blocked = true;
                    connection.wake();
                    self.watch_stall(slot);
                    break;
                }
                Err(error) => {
                    self.write_failed(slot, &error);
                    return;
                }
            }
        }
        self.after_flush(slot);
    }

    /// Has a timer look after a socket that takes nothing.
    fn watch_stall(&mut self, slot: u32) {
        let now_ms = self.now_ms;
        let Some(seat) = self.seat(slot) else {
            return;
        };
        let Some(connection) = self.connection(seat) else {
            return;
        };
        let since = NonZeroU64::new(now_ms).unwrap_or(NonZeroU64::MIN);
        connection.stalled_ms.get_or_insert(since);
        if !std::mem::replace(&mut connection.is_stall_timed, true) {
            let due = now_ms + self.stall_after_ms();
            self.wheel.arm(due, seat, Timer::Stall);
        }
    }

    /// A socket has been full for a while: the subscriber is told of once, until it reads again. It
    /// is not disconnected; its queue has bounds of its own.
    pub(super) fn check_stall(&mut self, seat: Seat) {
        let (now_ms, after_ms) = (self.now_ms, self.stall_after_ms());
        let Some(connection) = self.connection(seat) else {
            return;
        };
        let Some(since) = connection.stalled_ms else {
            connection.is_stall_timed = false;
            return;
        };
        if since.get() + after_ms > now_ms {
            self.wheel.arm(since.get() + after_ms, seat, Timer::Stall);
            return;
        }
        let is_told = std::mem::replace(&mut connection.is_stalled, true);
        let pending = connection.pending();
        let Some(session) = connection.session() else {
            return;
        };
        let (unacknowledged, queued) = (session.window.in_flight(), session.queue.len());
        // It goes on, so that the next stall is seen after this one's end.
        self.wheel.arm(now_ms + after_ms, seat, Timer::Stall);
        if is_told {
            return;
        }
        self.metrics.stalled();
        self.emit(seat, EventKind::SubStalled, |event| {
            event.detail(format!(
                "{pending} bytes wait for the socket, {unacknowledged} messages are \
                 unacknowledged, {queued} queued"
            ))
        });
    }

    fn stall_after_ms(&self) -> u64 {
        u64::try_from(self.edge.config.stall_after.as_millis()).unwrap_or(u64::MAX)
    }

    fn after_flush(&mut self, slot: u32) {
        let now_ms = self.now_ms;
        let Some(connection) = self.connections.get_mut(slot as usize) else {
            return;
        };
        let pending = connection.pending();
        if let Phase::Closing(_) = connection.phase {
            if pending == 0 {
                self.say_no_more(slot);
            }
            return;
        }
        if pending > ANSWERS_MAX {
            connection.pause(Pause::Output, now_ms);
        } else if pending < ANSWERS_MAX / 2 {
            connection.resume(Pause::Output, now_ms);
        }
        self.pump_durable(slot);
        self.pump_scans(slot);
        self.note_load(slot);
    }

    fn write_failed(&mut self, slot: u32, error: &io::Error) {
        let now_ms = self.now_ms;
        let Some(seat) = self.seat(slot) else {
            return;
        };
        let Some(connection) = self.connection(seat) else {
            return;
        };
        if let Phase::Closing(_) = connection.phase {
            self.leave_socket(seat);
            return;
        }
        tracing::debug!(%error, "the client takes no more");
        connection.is_deaf = true;
        connection.out = Out::default();
        connection.resume(Pause::Output, now_ms);
        connection.wake();
        self.wheel.arm(now_ms + LINGER_MS, seat, Timer::Linger);
    }

    fn return_buffer(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else {
            return;
        };
        if !connection.out.is_empty() {
            return;
        }
        let mut buffer = std::mem::take(&mut connection.out.tail);
        buffer.clear();
        if buffer.capacity() > 0
            && buffer.capacity() <= BUFFER_KEPT
            && self.buffers.len() < BUFFERS_MAX
        {
            self.buffers.push(buffer);
        }
    }

    /// Writes a packet of our own. One that the client would not take even without its explanation
    /// is left out.
    pub(crate) fn send_packet(&mut self, seat: Seat, packet: &Packet) {
        if let Some(connection) = self.connection(seat) {
            let max = connection.client_packet_max();
            self.send_packet_within(seat, packet, max);
        }
    }

    /// The same with the client's bound in bytes, for one whose session is closing.
    pub(crate) fn send_packet_within(&mut self, seat: Seat, packet: &Packet, max: u32) {
        self.lend_buffer(seat.slot);
        let Some(connection) = self.connection(seat) else {
            return;
        };
        let version = connection.version;
        let out = &mut connection.out.tail;
        if let Err(error) = encode_within(packet, version, max, out) {
            // MQTT-3.1.2-24. Whoever waits for an answer that it does not take waits for ever.
            let ending = Ending::of(
                EventKind::OversizePacketDropped,
                ReasonCode::PACKET_TOO_LARGE,
                format!("{}: {error}", packet.packet_type()),
            );
            self.doom(seat, ending);
        }
        self.mark_dirty(seat.slot);
    }
}
