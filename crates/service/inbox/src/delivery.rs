//! Messages on their way from an inbox to the connection that owns the session.

use std::sync::Arc;

use bifrust_model::{Message, Qos};
use bifrust_session_dict::ConnectionRef;
use smallvec::SmallVec;

/// A message for one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its place in the session's queue, from 1 without gaps; 0 for a QoS 0 message that was never
    /// queued and need not be settled.
    pub seq: u64,
    /// The QoS to deliver with.
    pub qos: Qos,
    /// The RETAIN flag to send.
    pub retain: bool,
    /// Identifiers of the subscriptions that matched.
    pub subscription_ids: SmallVec<[u32; 1]>,
    /// The message.
    pub message: Arc<Message>,
    /// Whether an earlier connection may have sent it: the DUP flag.
    pub possibly_sent: bool,
}

impl Delivery {
    /// The packet id to send it with: bound to the entry, so that it survives a restart. Of no
    /// meaning for QoS 0.
    pub fn packet_id(&self) -> u16 {
        packet_id(self.seq)
    }
}

/// The packet id of the entry with this sequence number.
pub fn packet_id(seq: u64) -> u16 {
    let id = seq.wrapping_sub(1) % u64::from(u16::MAX) + 1;
    u16::try_from(id).expect("the remainder of 65535 plus one fits")
}

/// How much one page may hold. At least one message is given, whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit {
    /// Messages.
    pub messages: usize,
    /// Bytes of topics, payloads and properties.
    pub bytes: usize,
}

/// A page of a session's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Entries in order; expired ones are left out and settled.
    pub deliveries: Vec<Delivery>,
    /// Where the next page starts.
    pub next: u64,
    /// Whether entries from `next` on are already there.
    pub more: bool,
}

/// Where entries of online sessions go as soon as they are durable.
///
/// A connection that cannot take a push ignores it and notes that there is more: after its next
/// fetch it fetches again, since the answer of a fetch and a push may cross.
pub trait Owner: Send + Sync {
    /// Entries of one session in order, without gaps among those with a sequence number. Must not
    /// block.
    fn push(&self, to: ConnectionRef, epoch: u64, deliveries: Vec<Delivery>);

    /// Pushes to several sessions at once; an owner that wakes threads may do so once for all.
    fn push_all(&self, pushes: Vec<Push>) {
        for push in pushes {
            self.push(push.to, push.epoch, push.deliveries);
        }
    }
}

/// Entries for one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// The connection that owns the session.
    pub to: ConnectionRef,
    /// That connection's number within the session.
    pub epoch: u64,
    /// The entries.
    pub deliveries: Vec<Delivery>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_ids_run_from_1_to_65535_and_start_over() {
        assert_eq!(packet_id(1), 1);
        assert_eq!(packet_id(65_535), 65_535);
        assert_eq!(packet_id(65_536), 1);
        assert_ne!(packet_id(u64::MAX), 0);
        assert_ne!(packet_id(0), 0);
    }
}
