//! What a session has of its groups.

use std::collections::VecDeque;
use std::sync::Arc;

use bifrust_dist::{Attendance, LiveMember, Publication};
use bifrust_model::{Qos, TopicFilter};

/// Room for messages in flight above which it is given back once nothing is in flight.
const OUT_KEPT: usize = 64;

/// A message for one member of a group.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) publication: Arc<Publication>,
    /// The group's whole filter.
    pub(crate) filter: TopicFilter,
    /// Members that could not take it.
    pub(crate) avoid: Vec<LiveMember>,
}

/// A session as a member of groups.
#[derive(Debug)]
pub(crate) struct Shares {
    attendance: Attendance,
    /// Messages of groups that were written and not acknowledged, in the order of their numbers. A
    /// persistent session's are in its queue.
    out: VecDeque<(u64, Qos, Shared)>,
}

impl Shares {
    pub(crate) fn new(attendance: Attendance) -> Self {
        Self {
            attendance,
            out: VecDeque::new(),
        }
    }

    /// Tells publishers how busy the session is.
    pub(crate) fn set_waiting(&self, waiting: usize) {
        self.attendance.set_waiting(waiting);
    }

    /// A message is written and its acknowledgement awaited.
    pub(crate) fn sent(&mut self, seq: u64, qos: Qos, shared: Shared) {
        self.out.push_back((seq, qos, shared));
    }

    /// The client has the message with this number, or does not want it.
    pub(crate) fn done(&mut self, seq: u64) {
        if let Ok(at) = self.out.binary_search_by_key(&seq, |(seq, ..)| *seq) {
            self.out.remove(at);
            if self.out.is_empty() && self.out.capacity() > OUT_KEPT {
                self.out = VecDeque::new();
            }
        }
    }

    /// What was written and never acknowledged, in order.
    pub(crate) fn take_out(&mut self) -> impl Iterator<Item = (Qos, Shared)> + use<> {
        let out = std::mem::take(&mut self.out);
        out.into_iter().map(|(_, qos, shared)| (qos, shared))
    }
}
