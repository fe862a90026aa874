//! A session while its client is connected: protocol state, without sockets and clocks.

pub(crate) mod acks;
pub(crate) mod aliases;
pub(crate) mod charge;
pub(crate) mod durable;
pub(crate) mod fifo;
pub(crate) mod filters;
pub(crate) mod inbound;
pub(crate) mod known_topics;
pub(crate) mod queue;
pub(crate) mod rate;
pub(crate) mod share;
pub(crate) mod window;

use std::rc::Rc;
use std::sync::Arc;

use bifrust_dist::Matched;
use bifrust_inbox::SessionRef;
use bifrust_model::{ClientInfo, SessionKey, Tenant, Topic};

use crate::connection::Exchange;
use crate::connection::subscribe::FilterRequest;
use crate::retained::Scans;
use crate::subscriptions::LocalMatch;
use acks::Acks;
use aliases::Aliases;
use durable::Durable;
use filters::Filters;
use inbound::Inbound;
use known_topics::KnownTopics;
use queue::Queue;
use share::Shares;
use window::Window;

/// Everything about one connected session.
pub(crate) struct Session {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) client: Arc<ClientInfo>,
    pub(crate) epoch: u64,
    /// Seconds it outlives its connection.
    pub(crate) expiry_seconds: u32,
    /// Whether the inbox service has to hear of its end.
    pub(crate) has_rows: bool,
    /// Bytes of the largest packet the client takes.
    pub(crate) client_packet_max: u32,

    /// Of a transient session; a persistent one's are in the inbox service.
    pub(crate) subscriptions: Filters,
    /// The SUBSCRIBE or UNSUBSCRIBE that is being answered; one at a time.
    pub(crate) filter_request: Option<Box<FilterRequest>>,
    /// Retained messages on their way.
    pub(crate) scans: Option<Box<Scans>>,

    /// Messages to the client that wait.
    pub(crate) queue: Queue,
    /// Messages to the client that are out.
    pub(crate) window: Window,
    /// The next number of a transient session's message.
    pub(crate) next_seq: u64,
    pub(crate) durable: Option<Box<Durable>>,
    /// Set once it has subscribed as a member of a group.
    pub(crate) shares: Option<Box<Shares>>,

    /// Answers to the client that wait.
    pub(crate) acks: Acks,
    /// Publishes of the client.
    pub(crate) inbound: Inbound,
    /// What is known of the topic published to last.
    pub(crate) memo: Option<Box<Memo>>,
    /// Whether acknowledgements of failures are explained.
    pub(crate) wants_explanations: bool,
    /// Of a client that named an authentication method.
    pub(crate) exchange: Option<Box<Exchange>>,
    /// Topics that the client has given numbers.
    pub(crate) topic_aliases: Option<Box<Aliases>>,
    /// The highest of these numbers.
    pub(crate) topic_alias_max: u16,
    /// An overflow is about to end it.
    pub(crate) is_doomed: bool,
}

/// Answers kept for the topic published to last.
pub(crate) struct Memo {
    pub(crate) topic: Topic,
    /// Version of the permission answers, and a bit per (QoS, RETAIN) that is allowed.
    pub(crate) access: (u64, u8),
    pub(crate) matched: Option<Arc<Matched>>,
    pub(crate) local: Option<Rc<LocalMatch>>,
}

impl Session {
    /// The topics that the client knows by number; `None` if it takes no aliases.
    pub(crate) fn known_topics(&mut self) -> Option<&mut KnownTopics> {
        self.topic_aliases.as_mut()?.to_client.as_mut()
    }

    pub(crate) fn key(&self) -> SessionKey {
        SessionKey {
            tenant: self.tenant.number,
            client: self.client.client.clone(),
        }
    }

    pub(crate) fn reference(&self) -> SessionRef {
        SessionRef {
            tenant: self.tenant.clone(),
            client: self.client.client.clone(),
            epoch: self.epoch,
        }
    }

    /// Tells publishers how busy the session is, if it is a member of a group.
    pub(crate) fn note_load(&self) {
        if let Some(shares) = &self.shares {
            let durable = self.durable.as_ref().map_or(0, |durable| durable.waiting());
            let in_flight = self.window.in_flight() as usize;
            shares.set_waiting(self.queue.len() + durable + in_flight);
        }
    }
}
