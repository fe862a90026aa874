//! Answers to the client that wait for something. They leave in the order of arrival
//! (MQTT-4.6.0-2 to -4), however their reasons to wait end.

use bifrust_mqtt_codec::ReasonCode;

use super::fifo::Fifo;

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AckKind {
    Puback,
    Pubrec,
    Pubcomp,
    Suback(Vec<ReasonCode>),
    Unsuback(Vec<ReasonCode>),
    /// Not an acknowledgement; it keeps its place, so that a ping tells how far the server is.
    Pingresp,
}

/// An answer that may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) packet_id: u16,
    pub(crate) kind: AckKind,
    pub(crate) reason: ReasonCode,
}

#[derive(Debug)]
struct Entry {
    answer: Answer,
    state: State,
    since_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Ready,
    /// There will be no answer: what was asked may or may not be done.
    GivenUp,
}

/// Answers in order of arrival. A token names one until it has left.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    entries: Fifo<Entry>,
    first: u64,
}

impl Acks {
    /// Takes a place in the order.
    pub(crate) fn wait(&mut self, packet_id: u16, kind: AckKind, now_ms: u64) -> u64 {
        let token = self.first + self.entries.len() as u64;
        self.entries.push_back(Entry {
            answer: Answer {
                packet_id,
                kind,
                reason: ReasonCode::SUCCESS,
            },
            state: State::Waiting,
            since_ms: now_ms,
        });
        token
    }

    /// The answer is known. A token that has left is ignored.
    pub(crate) fn ready(&mut self, token: u64, reason: ReasonCode) {
        if let Some(entry) = self.entry(token) {
            entry.answer.reason = reason;
            entry.state = State::Ready;
        }
    }

    /// The answer is known, with codes of its own.
    pub(crate) fn ready_with(&mut self, token: u64, kind: AckKind) {
        if let Some(entry) = self.entry(token) {
            entry.answer.kind = kind;
            entry.state = State::Ready;
        }
    }

    /// No answer will come; those behind it never leave.
    pub(crate) fn give_up(&mut self, token: u64) {
        if let Some(entry) = self.entry(token) {
            entry.state = State::GivenUp;
        }
    }

    /// Drops the oldest answers up to one that is still to be decided.
    pub(crate) fn drop_decided(&mut self) {
        while let Some(entry) = self.entries.front()
            && entry.state != State::Waiting
        {
            self.first += 1;
            self.entries.pop_front();
        }
    }

    /// The packet identifier and kind that wait under this token.
    pub(crate) fn get(&self, token: u64) -> Option<&Answer> {
        let at = usize::try_from(token.checked_sub(self.first)?).ok()?;
        self.entries.get(at).map(|entry| &entry.answer)
    }

    fn entry(&mut self, token: u64) -> Option<&mut Entry> {
        let at = usize::try_from(token.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(at)
    }

    /// The next answer that may leave.
    pub(crate) fn pop(&mut self) -> Option<Answer> {
        if self.entries.front()?.state != State::Ready {
            return None;
        }
        self.first += 1;
        let entry = self.entries.pop_front()?;
        match entry.answer.kind {
            AckKind::Puback | AckKind::Pubrec | AckKind::Pubcomp => self.entries.trim(),
            // Nothing that idles between pings keeps room for more.
            AckKind::Suback(_) | AckKind::Unsuback(_) | AckKind::Pingresp => self.entries.release(),
        }
        Some(entry.answer)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Since when the oldest answer waits.
    pub(crate) fn oldest_ms(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.since_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_in_order_of_arrival() {
        let mut acks = Acks::default();
        let first = acks.wait(1, AckKind::Puback, 5);
        let second = acks.wait(2, AckKind::Pubrec, 6);
        acks.ready(second, ReasonCode::QUOTA_EXCEEDED);
        assert_eq!(acks.pop(), None);
        assert_eq!(acks.oldest_ms(), Some(5));
        acks.ready(first, ReasonCode::SUCCESS);
        assert_eq!(acks.pop().unwrap().packet_id, 1);
        let answer = acks.pop().unwrap();
        assert_eq!(
            (answer.packet_id, answer.reason),
            (2, ReasonCode::QUOTA_EXCEEDED)
        );
        assert!(acks.is_empty());
        acks.ready(first, ReasonCode::SUCCESS);
        assert_eq!(acks.wait(3, AckKind::Puback, 7), 2, "tokens go on");
    }

    #[test]
    fn an_answer_that_never_comes_holds_back_those_behind_it() {
        let mut acks = Acks::default();
        let lost = acks.wait(1, AckKind::Puback, 0);
        let known = acks.wait(2, AckKind::Puback, 0);
        let open = acks.wait(3, AckKind::Puback, 0);
        acks.give_up(lost);
        acks.ready(known, ReasonCode::SUCCESS);
        assert_eq!(acks.pop(), None);
        acks.drop_decided();
        assert_eq!(acks.get(open).unwrap().packet_id, 3);
        assert_eq!(acks.len(), 1);
    }
}
