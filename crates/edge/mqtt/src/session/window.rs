//! QoS 1 and 2 messages on their way to the client.
//!
//! Each has a sequence number; its packet identifier follows from it, so that a persistent
//! session's identifiers survive restarts without being written: `(seq - 1) % 65535 + 1`.

use bifrust_model::Qos;

use super::fifo::Fifo;

/// Packet identifiers there are, and so the widest span of sequence numbers in flight.
const SPAN: u64 = 65_535;

/// The packet identifier that goes with a sequence number.
pub(crate) fn packet_id(seq: u64) -> u16 {
    // Below 65,536 by the modulus, and above 0.
    (seq.saturating_sub(1) % SPAN + 1) as u16
}

/// How far the client has come with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// QoS 1, sent.
    AwaitPuback,
    /// QoS 2, sent.
    AwaitPubrec,
    /// PUBREC is being made durable; PUBREL follows.
    Receiving,
    /// PUBREL sent.
    AwaitPubcomp,
    /// Finished by the client, being made durable.
    Finishing,
    /// Nothing left to do; kept until those before it are gone too.
    Free,
}

/// What is out and not finished, in the order of sending.
#[derive(Debug)]
pub(crate) struct Window {
    entries: Fifo<(u64, Progress)>,
    in_flight: u32,
    limit: u16,
}

/// An acknowledgement that does not fit the message it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrongAck;

/// What a PUBREC asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pubrec {
    /// The first one for this message.
    New(u64),
    /// PUBREL is out already and goes out again.
    Repeated,
    /// Its durable row is on its way; PUBREL will follow.
    Pending,
    /// No such message.
    Unknown,
}

impl Window {
    pub(crate) fn new(limit: u16) -> Self {
        Self {
            entries: Fifo::default(),
            in_flight: 0,
            limit,
        }
    }

    /// Whether a message with this sequence number may be sent now.
    pub(crate) fn has_room(&self, seq: u64) -> bool {
        let is_id_free = self
            .entries
            .front()
            .is_none_or(|(first, _)| seq.saturating_sub(*first) < SPAN);
        self.in_flight < u32::from(self.limit) && is_id_free
    }

    /// Messages that take a place of the client's Receive Maximum.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// A message is sent. QoS 0 does not come here.
    pub(crate) fn sent(&mut self, seq: u64, qos: Qos) {
        let progress = match qos {
            Qos::ExactlyOnce => Progress::AwaitPubrec,
            _ => Progress::AwaitPuback,
        };
        self.insert(seq, progress);
    }

    /// A message of an earlier connection, whose PUBREL goes out again.
    pub(crate) fn released(&mut self, seq: u64) {
        self.insert(seq, Progress::AwaitPubcomp);
    }

    fn insert(&mut self, seq: u64, progress: Progress) {
        self.in_flight += 1;
        if self.entries.back().is_none_or(|(last, _)| *last < seq) {
            self.entries.push_back((seq, progress));
            return;
        }
        let at = self.entries.partition_point(|(other, _)| *other < seq);
        self.entries.insert(at, (seq, progress));
    }

    /// PUBACK: the message's number, `None` if there is none with this identifier.
    pub(crate) fn puback(&mut self, id: u16) -> Result<Option<u64>, WrongAck> {
        self.step(id, Progress::AwaitPuback, Progress::Finishing)
    }

    pub(crate) fn pubrec(&mut self, id: u16) -> Result<Pubrec, WrongAck> {
        let Some(at) = self.find(id) else {
            return Ok(Pubrec::Unknown);
        };
        let (seq, progress) = &mut self.entries[at];
        match progress {
            Progress::AwaitPubrec => {
                *progress = Progress::Receiving;
                Ok(Pubrec::New(*seq))
            }
            Progress::AwaitPubcomp => Ok(Pubrec::Repeated),
            Progress::Receiving => Ok(Pubrec::Pending),
            Progress::Finishing | Progress::Free => Ok(Pubrec::Unknown),
            Progress::AwaitPuback => Err(WrongAck),
        }
    }

    /// PUBREC is recorded: PUBREL may go out. False if the message is gone.
    pub(crate) fn received(&mut self, seq: u64) -> bool {
        match self.position(seq) {
            Some(at) if self.entries[at].1 == Progress::Receiving => {
                self.entries[at].1 = Progress::AwaitPubcomp;
                true
            }
            _ => false,
        }
    }

    /// PUBREC with a failure: the client wants no more of the message.
    pub(crate) fn pubrec_failed(&mut self, id: u16) -> Result<Option<u64>, WrongAck> {
        self.step(id, Progress::AwaitPubrec, Progress::Finishing)
    }

    pub(crate) fn pubcomp(&mut self, id: u16) -> Result<Option<u64>, WrongAck> {
        self.step(id, Progress::AwaitPubcomp, Progress::Finishing)
    }

    fn step(&mut self, id: u16, from: Progress, to: Progress) -> Result<Option<u64>, WrongAck> {
        let Some(at) = self.find(id) else {
            return Ok(None);
        };
        let (seq, progress) = &mut self.entries[at];
        match *progress {
            found if found == from => {
                *progress = to;
                Ok(Some(*seq))
            }
            // A second answer to one message.
            Progress::Finishing | Progress::Free => Ok(None),
            _ => Err(WrongAck),
        }
    }

    /// The message is done for good: its place and identifier are free.
    pub(crate) fn done(&mut self, seq: u64) {
        let Some(at) = self.position(seq) else {
            return;
        };
        if self.entries[at].1 != Progress::Free {
            self.entries[at].1 = Progress::Free;
            self.in_flight -= 1;
        }
        while let Some((_, Progress::Free)) = self.entries.front() {
            self.entries.pop_front();
        }
        self.entries.trim();
    }

    fn find(&self, id: u16) -> Option<usize> {
        let (first, _) = self.entries.front()?;
        // All are within one span, so the identifier says how far behind the first it is.
        let ahead = (u64::from(id) + SPAN - u64::from(packet_id(*first))) % SPAN;
        if id == 0 {
            return None;
        }
        self.position(first + ahead)
    }

    fn position(&self, seq: u64) -> Option<usize> {
        let (first, _) = self.entries.front()?;
        let guess = usize::try_from(seq.checked_sub(*first)?).ok()?;
        // Without gaps the distance is the place.
        if self.entries.get(guess).is_some_and(|(at, _)| *at == seq) {
            return Some(guess);
        }
        let at = self.entries.partition_point(|(other, _)| *other < seq);
        (self.entries.get(at)?.0 == seq).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_follow_the_numbers_and_skip_zero() {
        assert_eq!(packet_id(1), 1);
        assert_eq!(packet_id(65_535), 65_535);
        assert_eq!(packet_id(65_536), 1);
    }

    #[test]
    fn a_place_is_free_only_once_the_message_is_done() {
        let mut window = Window::new(1);
        window.sent(7, Qos::AtLeastOnce);
        assert!(!window.has_room(8));
        assert_eq!(window.puback(7), Ok(Some(7)));
        assert!(!window.has_room(8), "not durable yet");
        window.done(7);
        assert!(window.has_room(8));
        assert_eq!(window.puback(7), Ok(None), "a late repetition");
    }

    #[test]
    fn exactly_once_takes_its_three_steps() {
        let mut window = Window::new(10);
        window.sent(1, Qos::ExactlyOnce);
        assert_eq!(window.puback(1), Err(WrongAck));
        assert_eq!(window.pubrec(1), Ok(Pubrec::New(1)));
        assert_eq!(window.pubrec(1), Ok(Pubrec::Pending));
        assert!(window.received(1));
        assert_eq!(window.pubrec(1), Ok(Pubrec::Repeated));
        assert_eq!(window.pubcomp(1), Ok(Some(1)));
        window.done(1);
        assert_eq!(window.in_flight(), 0);
        assert_eq!(window.pubrec(1), Ok(Pubrec::Unknown));
    }

    #[test]
    fn answers_out_of_order_and_gaps_find_their_message() {
        let mut window = Window::new(100);
        window.released(11);
        for seq in [10, 12, 20] {
            window.sent(seq, Qos::AtLeastOnce);
        }
        assert_eq!(window.puback(20), Ok(Some(20)));
        assert_eq!(window.puback(12), Ok(Some(12)));
        assert_eq!(window.pubcomp(11), Ok(Some(11)));
        assert_eq!(window.puback(13), Ok(None));
        for seq in [20, 12, 11] {
            window.done(seq);
        }
        assert_eq!(window.in_flight(), 1);
        assert_eq!(window.puback(10), Ok(Some(10)));
    }

    #[test]
    fn an_identifier_in_use_is_not_given_again() {
        let mut window = Window::new(u16::MAX);
        window.sent(1, Qos::ExactlyOnce);
        assert!(window.has_room(65_535));
        assert!(!window.has_room(65_536), "identifier 1 is still out");
        window.sent(65_535, Qos::AtLeastOnce);
        assert_eq!(window.puback(65_535), Ok(Some(65_535)));
        assert_eq!(window.pubrec(1), Ok(Pubrec::New(1)));
    }
}
