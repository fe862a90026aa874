//! What a topic leads to.

use std::mem::size_of;
use std::sync::atomic::{AtomicBool, Ordering};

use bifrust_model::{ClientId, NodeRef, SubscriptionOptions};
use smallvec::SmallVec;

use crate::Group;

/// A persistent session that a topic leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxTarget {
    /// Its client.
    pub client: ClientId,
    /// Which of the client's sessions.
    pub incarnation: u64,
    /// All its subscriptions that match.
    pub subscriptions: SmallVec<[SubscriptionOptions; 1]>,
}

/// A node whose live sessions a topic leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveTarget {
    /// The node in its incarnation.
    pub node: NodeRef,
    /// Bit `n`: connection shard `n` has sessions that match.
    pub shards: u64,
}

/// Everything that one topic leads to, as of one moment.
#[derive(Debug, Default)]
pub struct Matched {
    /// Nodes with live sessions.
    pub live: SmallVec<[LiveTarget; 1]>,
    /// Persistent sessions, each once.
    pub inboxes: Vec<InboxTarget>,
    /// Groups of which one member gets each message.
    pub groups: Vec<Group>,
    is_stale: AtomicBool,
    /// Asked for since the cache last looked for something to give up.
    was_used: AtomicBool,
}

impl Matched {
    /// A fresh match of these targets.
    pub fn new(live: SmallVec<[LiveTarget; 1]>, inboxes: Vec<InboxTarget>) -> Self {
        Self {
            live,
            inboxes,
            groups: Vec::new(),
            is_stale: AtomicBool::new(false),
            was_used: AtomicBool::new(true),
        }
    }

    /// The same with groups.
    pub fn with_groups(self, groups: Vec<Group>) -> Self {
        Self { groups, ..self }
    }

    /// Whether a route of this topic has changed since, or the cache has given the match up: whoever
    /// keeps it has to match again. To be asked before each use.
    pub fn is_stale(&self) -> bool {
        self.note_use();
        self.is_stale.load(Ordering::Acquire)
    }

    /// Whether the topic leads nowhere.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.inboxes.is_empty() && self.groups.is_empty()
    }

    pub(crate) fn set_stale(&self) {
        self.is_stale.store(true, Ordering::Release);
    }

    /// Read before written: the line stays shared between the cores that publish.
    pub(crate) fn note_use(&self) {
        if !self.was_used.load(Ordering::Relaxed) {
            self.was_used.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn take_use(&self) -> bool {
        self.was_used.swap(false, Ordering::Relaxed)
    }

    /// Bytes it occupies, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let spilled = |inbox: &InboxTarget| match inbox.subscriptions.spilled() {
            true => inbox.subscriptions.capacity() * size_of::<SubscriptionOptions>(),
            false => 0,
        };
        // A client id is shared by all of a session's targets at best, so it is counted in full.
        let inboxes = self.inboxes.iter();
        let inboxes = inboxes.map(|inbox| {
            size_of::<InboxTarget>() + 16 + inbox.client.as_str().len() + spilled(inbox)
        });
        let live = match self.live.spilled() {
            true => self.live.capacity() * size_of::<LiveTarget>(),
            false => 0,
        };
        let groups = self.groups.iter().map(Group::bytes);
        size_of::<Self>() + live + inboxes.sum::<usize>() + groups.sum::<usize>()
    }
}
