//! Acknowledgements, both ways.

use bifrust_inbox::{InboxError, Settle};
use bifrust_model::EventKind;
use bifrust_mqtt_codec::{Ack, Packet, PacketId, ReasonCode, Suback, Unsuback};
use bytes::BufMut;

use super::{Connection, Ending, Pause, explain, protocol_error};
use crate::fault::{Fault, planted};
use crate::mailbox::{Completion, Seat};
use crate::session::acks::{AckKind, Answer};
use crate::session::window::{Pubrec, WrongAck};
use crate::shard::Shard;
use crate::shard::timer::Timer;

/// Answers other than those to publishes that may wait.
const ANSWERS_EXTRA: usize = 4096;

impl Shard {
    pub(super) fn handle_puback(&mut self, seat: Seat, ack: &Ack) -> Result<(), Ending> {
        let Some(session) = self.session(seat) else {
            return Ok(());
        };
        let id = ack.packet_id.get();
        if let Some(seq) = session.window.puback(id).map_err(wrong)? {
            self.finish(seat, seq);
        }
        Ok(())
    }

    pub(super) fn handle_pubrec(&mut self, seat: Seat, ack: &Ack) -> Result<(), Ending> {
        let Some(session) = self.session(seat) else {
            return Ok(());
        };
        let id = ack.packet_id.get();
        if ack.reason.is_error() {
            if let Some(seq) = session.window.pubrec_failed(id).map_err(wrong)? {
                self.finish(seat, seq);
            }
            return Ok(());
        }
        match session.window.pubrec(id).map_err(wrong)? {
            Pubrec::New(seq) => match &mut session.durable {
                // PUBREL waits until this is durable.
                Some(durable) => {
                    durable.settle(Settle::Received(seq));
                    self.mark_dirty(seat.slot);
                }
                None => {
                    session.window.received(seq);
                    if let Some(shares) = &mut session.shares {
                        // The message is the client's now.
                        shares.done(seq);
                    }
                    self.send_pubrel(seat, id, ReasonCode::SUCCESS);
                }
            },
            Pubrec::Repeated => self.send_pubrel(seat, id, ReasonCode::SUCCESS),
            Pubrec::Pending => {}
            Pubrec::Unknown => self.send_pubrel(seat, id, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND),
        }
        Ok(())
    }

    pub(super) fn handle_pubcomp(&mut self, seat: Seat, ack: &Ack) -> Result<(), Ending> {
        let Some(session) = self.session(seat) else {
            return Ok(());
        };
        let id = ack.packet_id.get();
        if let Some(seq) = session.window.pubcomp(id).map_err(wrong)? {
            self.finish(seat, seq);
        }
        Ok(())
    }

    /// The client has finished a message.
    fn finish(&mut self, seat: Seat, seq: u64) {
        let Some(session) = self.session(seat) else {
            return;
        };
        match &mut session.durable {
            Some(durable) => durable.settle(Settle::Done(seq)),
            None => {
                session.window.done(seq);
                if let Some(shares) = &mut session.shares {
                    shares.done(seq);
                    session.note_load();
                }
                if session.queue.is_empty() && session.scans.is_none() {
                    return;
                }
            }
        }
        self.mark_dirty(seat.slot);
    }

    pub(super) fn handle_pubrel(&mut self, seat: Seat, ack: &Ack) -> Result<(), Ending> {
        let (now_ms, inbox) = (self.now_ms, self.edge.services.inbox.clone());
        let Some(session) = self.session(seat) else {
            return Ok(());
        };
        let id = ack.packet_id.get();
        let token = session.acks.wait(id, AckKind::Pubcomp, now_ms);
        let is_known = session.inbound.seen(id) != crate::session::inbound::Seen::New;
        if let (true, Some(durable)) = (is_known, &session.durable) {
            // The release is durable before PUBCOMP, so that the id's next use is a new message.
            let reference = durable.session.clone();
            let done = self.reply(seat, move |result| Completion::Released(token, id, result));
            inbox.release_inbound(&reference, id, done);
            self.watch_answers(seat);
            self.limit_reading(seat);
            return Ok(());
        }
        session.inbound.release(id);
        let reason = match is_known {
            true => ReasonCode::SUCCESS,
            false => ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
        };
        session.acks.ready(token, reason);
        self.release_acks(seat);
        Ok(())
    }

    pub(crate) fn released(
        &mut self,
        seat: Seat,
        token: u64,
        id: u16,
        result: Result<(), InboxError>,
    ) {
        let Some(session) = self.publisher(seat) else {
            return;
        };
        match result {
            Ok(()) => {
                session.inbound.release(id);
                session.acks.ready(token, ReasonCode::SUCCESS);
                self.release_acks(seat);
            }
            Err(error) => {
                session.acks.give_up(token);
                self.emit(seat, EventKind::InboxTransientError, |event| {
                    event.detail(error.to_string())
                });
                // PUBREL has no negative answer: the client repeats it on its next connection.
                self.pause(seat, Pause::Unknown);
                self.leave_if_done(seat);
            }
        }
    }

    /// Lets go the answers whose turn has come.
    pub(crate) fn release_acks(&mut self, seat: Seat) {
        if self.session(seat).is_none() {
            self.leave_if_done(seat);
            return;
        }
        self.lend_buffer(seat.slot);
        let mut has_sent = false;
        let mut is_waiting = false;
        while let Some(connection) = self.connection(seat) {
            let is_v5 = connection.is_v5();
            let Some(session) = connection.session() else {
                return;
            };
            let client_packet_max = session.client_packet_max;
            let Some(answer) = session.acks.pop() else {
                is_waiting = !session.acks.is_empty();
                break;
            };
            if is_answered(&answer, is_v5) {
                session.inbound.answered();
            }
            has_sent = true;
            match short(&answer, is_v5, client_packet_max) {
                Some((bytes, len)) => connection.out.tail.put_slice(&bytes[..len]),
                None => self.send_answer(seat, answer),
            }
        }
        if has_sent {
            self.mark_dirty(seat.slot);
        }
        if is_waiting {
            self.watch_answers(seat);
        }
        self.limit_reading(seat);
    }

    /// Stops reading while too much of what the client asked is unanswered.
    pub(super) fn limit_reading(&mut self, seat: Seat) {
        let now_ms = self.now_ms;
        let Some(connection) = self.connection(seat) else {
            return;
        };
        let is_v5 = connection.is_v5();
        let Some(session) = connection.session() else {
            return;
        };
        let max = session.tenant.settings.load().receiving_maximum;
        // v3 has no Receive Maximum to break: reading stops instead.
        let is_full = !is_v5 && session.inbound.unanswered() >= max;
        if is_full || session.acks.len() > max as usize + ANSWERS_EXTRA {
            connection.pause(Pause::Window, now_ms);
        } else {
            connection.resume(Pause::Window, now_ms);
        }
    }

    /// A ping is answered when all before it is.
    pub(super) fn handle_pingreq(&mut self, seat: Seat) {
        let now_ms = self.now_ms;
        let Some(session) = self.session(seat) else {
            return;
        };
        if planted(Fault::PingUnanswered) {
            return;
        }
        if session.acks.is_empty() {
            return self.send_packet(seat, &Packet::Pingresp);
        }
        let token = session.acks.wait(0, AckKind::Pingresp, now_ms);
        session.acks.ready(token, ReasonCode::SUCCESS);
        self.limit_reading(seat);
    }

    fn send_answer(&mut self, seat: Seat, answer: Answer) {
        if answer.kind == AckKind::Pingresp {
            return self.send_packet(seat, &Packet::Pingresp);
        }
        let Some(packet_id) = PacketId::new(answer.packet_id) else {
            return;
        };
        let wants = self
            .connection(seat)
            .filter(|connection| connection.is_v5())
            .and_then(Connection::session)
            .is_some_and(|session| session.wants_explanations);
        let properties = wants
            .then(|| explain::properties(&answer.kind, answer.reason))
            .flatten();
        let ack = |properties| Ack {
            properties,
            ..Ack::with_reason(packet_id, answer.reason)
        };
        let packet = match answer.kind {
            AckKind::Puback => Packet::Puback(ack(properties)),
            AckKind::Pubrec => Packet::Pubrec(ack(properties)),
            AckKind::Pubcomp => Packet::Pubcomp(ack(properties)),
            AckKind::Suback(reasons) => Packet::Suback(Suback {
                packet_id,
                reasons,
                properties,
            }),
            AckKind::Unsuback(reasons) => Packet::Unsuback(Unsuback {
                packet_id,
                reasons,
                properties,
            }),
            AckKind::Pingresp => return,
        };
        self.send_packet(seat, &packet);
    }

    /// Has a timer look after the oldest waiting answer.
    pub(crate) fn watch_answers(&mut self, seat: Seat) {
        let now_ms = self.now_ms;
        let timeout = self.publish_timeout_ms();
        let Some(connection) = self.connection(seat) else {
            return;
        };
        if connection.is_publish_timed {
            return;
        }
        connection.is_publish_timed = true;
        let since = connection
            .session()
            .and_then(|session| session.acks.oldest_ms())
            .unwrap_or(now_ms);
        self.wheel.arm(since + timeout, seat, Timer::Publish);
    }

    /// The oldest waiting answer may have waited too long.
    pub(crate) fn check_answers(&mut self, seat: Seat) {
        let (now_ms, timeout) = (self.now_ms, self.publish_timeout_ms());
        let Some(connection) = self.connection(seat) else {
            return;
        };
        connection.is_publish_timed = false;
        let oldest = connection
            .session()
            .and_then(|session| session.acks.oldest_ms());
        match oldest {
            Some(since) if since + timeout <= now_ms => {
                self.end(
                    seat,
                    Ending::of(
                        EventKind::ServerBusy,
                        ReasonCode::SERVER_BUSY,
                        "an acknowledgement took too long",
                    ),
                );
            }
            Some(_) => self.watch_answers(seat),
            None => {}
        }
    }

    pub(super) fn publish_timeout_ms(&self) -> u64 {
        u64::try_from(self.edge.config.publish_timeout.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Whether a publish stops counting against the Receive Maximum with this answer.
fn is_answered(answer: &Answer, is_v5: bool) -> bool {
    match answer.kind {
        AckKind::Puback => true,
        // 5.0, 4.9: the quota comes back with PUBCOMP, or with a refusal.
        AckKind::Pubrec => !is_v5 || answer.reason.is_error(),
        AckKind::Pubcomp => is_v5 && !answer.reason.is_error(),
        AckKind::Suback(_) | AckKind::Unsuback(_) | AckKind::Pingresp => false,
    }
}

/// The bytes of an acknowledgement that says success, and how many they are: the same four in all
/// versions, or five if v5 is told that nobody was there.
fn short(answer: &Answer, is_v5: bool, client_packet_max: u32) -> Option<([u8; 5], usize)> {
    let first = match answer.kind {
        AckKind::Puback => 0x40,
        AckKind::Pubrec => 0x50,
        AckKind::Pubcomp => 0x70,
        AckKind::Suback(_) | AckKind::Unsuback(_) | AckKind::Pingresp => return None,
    };
    let off = u16::from(planted(Fault::PubackIdentifier));
    let [high, low] = answer.packet_id.wrapping_add(off).to_be_bytes();
    match answer.reason {
        ReasonCode::NO_MATCHING_SUBSCRIBERS if is_v5 && client_packet_max >= 5 => {
            Some(([first, 3, high, low, answer.reason.0], 5))
        }
        ReasonCode::SUCCESS | ReasonCode::NO_MATCHING_SUBSCRIBERS => {
            Some(([first, 2, high, low, 0], 4))
        }
        _ => None,
    }
}

fn wrong(_: WrongAck) -> Ending {
    protocol_error("an acknowledgement of another kind than its message")
}
