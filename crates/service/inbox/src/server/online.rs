//! Which connection owns which session, for what needs no row: QoS 0 to the session, pages of its
//! queue, hints about what its client has released.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::RandomState;
use bifrust_dist::RoutingKey;
use bifrust_model::{ClientId, SessionKey, TenantNumber};
use bifrust_session_dict::ConnectionRef;
use hashbrown::HashMap;

use crate::store::{Named, Ownership};

/// Locks that the sessions are spread over.
const SHARDS: usize = 64;

/// Connections that are attached here: those of durable sessions, and those of transient ones that
/// have a will.
#[derive(Debug)]
pub(crate) struct Online {
    shards: [Mutex<HashMap<SessionKey, Entry, RandomState>>; SHARDS],
    hasher: RandomState,
}

#[derive(Debug)]
struct Entry {
    epoch: u64,
    is_leaving: bool,
    /// `None`: a transient session; only its will is kept here.
    durable: Option<Durable>,
}

#[derive(Debug)]
struct Durable {
    incarnation: u64,
    owner: ConnectionRef,
    /// Entries below are durable and may be sent.
    durable_next: u64,
    sent_before: u64,
    /// The client has released every inbound generation below.
    floor: u64,
}

/// What a connection has of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) incarnation: u64,
    pub(crate) durable_next: u64,
    pub(crate) sent_before: u64,
}

impl Online {
    pub(crate) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
        }
    }

    /// A durable session has an owner; told twice, by the effect and by the reply. True if it is new.
    pub(crate) fn attach(&self, ownership: &Ownership) -> bool {
        let session = &ownership.session;
        let mut shard = self.shard(named(session));
        let before = shard.get(session).map_or(0, |entry| entry.epoch);
        if before >= ownership.epoch {
            return false;
        }
        let durable = Durable {
            incarnation: ownership.incarnation,
            owner: ownership.owner,
            durable_next: ownership.next_seq,
            sent_before: ownership.sent_before,
            floor: ownership.floor,
        };
        let entry = Entry {
            epoch: ownership.epoch,
            is_leaving: false,
            durable: Some(durable),
        };
        let replaced = shard.insert(session.clone(), entry);
        replaced.is_none_or(|entry| entry.durable.is_none())
    }

    /// A transient session has a will.
    pub(crate) fn attach_transient(&self, session: SessionKey, epoch: u64) {
        let entry = Entry {
            epoch,
            is_leaving: false,
            durable: None,
        };
        self.shard(named(&session)).insert(session, entry);
    }

    /// Whether anything of the session is known here.
    pub(crate) fn contains(&self, session: &SessionKey) -> bool {
        self.shard(named(session)).contains_key(session)
    }

    /// The connection is about to give the session up: nothing more is pushed past the queue.
    pub(crate) fn leave(&self, session: &SessionKey, epoch: u64) {
        let mut shard = self.shard(named(session));
        if let Some(entry) = shard.get_mut(session).filter(|entry| entry.epoch == epoch) {
            entry.is_leaving = true;
        }
    }

    /// The connection has given the session up. True if that was a durable one.
    pub(crate) fn remove(&self, session: &SessionKey, epoch: u64) -> bool {
        let mut shard = self.shard(named(session));
        if shard.get(session).is_none_or(|entry| entry.epoch != epoch) {
            return false;
        }
        let removed = shard.remove(session);
        removed.is_some_and(|entry| entry.durable.is_some())
    }

    /// Who takes a message for the session that is never queued.
    pub(crate) fn receiver(
        &self,
        tenant: TenantNumber,
        client: &ClientId,
        incarnation: u64,
    ) -> Option<(ConnectionRef, u64)> {
        let named = Named { tenant, client };
        let shard = self.shard(named);
        let entry = shard.get(&named).filter(|entry| !entry.is_leaving)?;
        let durable = entry.durable.as_ref()?;
        (durable.incarnation == incarnation).then_some((durable.owner, entry.epoch))
    }

    /// Entries below `next` are durable.
    pub(crate) fn note_durable(&self, session: &SessionKey, epoch: u64, next: u64) {
        let mut shard = self.shard(named(session));
        let entry = shard.get_mut(session).filter(|entry| entry.epoch == epoch);
        if let Some(durable) = entry.and_then(|entry| entry.durable.as_mut()) {
            durable.durable_next = durable.durable_next.max(next);
        }
    }

    /// What the connection has of the session; `None` if it is not its owner.
    pub(crate) fn standing(&self, session: &SessionKey, epoch: u64) -> Option<Standing> {
        let shard = self.shard(named(session));
        let entry = shard.get(session).filter(|entry| entry.epoch == epoch)?;
        let durable = entry.durable.as_ref()?;
        Some(Standing {
            incarnation: durable.incarnation,
            durable_next: durable.durable_next,
            sent_before: durable.sent_before,
        })
    }

    /// The client has released everything below `floor`.
    pub(crate) fn raise_floor(&self, session: &SessionKey, epoch: u64, floor: u64) {
        let mut shard = self.shard(named(session));
        let entry = shard.get_mut(session).filter(|entry| entry.epoch == epoch);
        if let Some(durable) = entry.and_then(|entry| entry.durable.as_mut()) {
            durable.floor = durable.floor.max(floor);
        }
    }

    /// What is known to be released of the publisher's session; 0 if nothing is.
    pub(crate) fn floor(&self, tenant: TenantNumber, client: &ClientId, key: RoutingKey) -> u64 {
        let named = Named { tenant, client };
        let shard = self.shard(named);
        let durable = shard.get(&named).and_then(|entry| entry.durable.as_ref());
        durable
            .filter(|durable| durable.incarnation == key.session)
            .map_or(0, |durable| durable.floor)
    }

    fn shard(&self, named: Named<'_>) -> MutexGuard<'_, HashMap<SessionKey, Entry, RandomState>> {
        let hash = self.hasher.hash_one(named);
        let shard = &self.shards[hash as usize % SHARDS];
        // Nothing that can panic runs under this lock.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn named(session: &SessionKey) -> Named<'_> {
    Named {
        tenant: session.tenant,
        client: &session.client,
    }
}

#[cfg(test)]
mod tests {
    use bifrust_model::{Incarnation, NodeId, NodeRef};

    use super::*;

    fn ownership(epoch: u64, next_seq: u64) -> Ownership {
        let node = NodeRef {
            id: NodeId(1),
            incarnation: Incarnation(1),
        };
        Ownership {
            session: SessionKey {
                tenant: TenantNumber(1),
                client: ClientId::new("c").unwrap(),
            },
            incarnation: 5,
            epoch,
            owner: ConnectionRef {
                node,
                shard: 0,
                slot: 0,
                generation: 0,
            },
            next_seq,
            sent_before: 1,
            floor: 0,
        }
    }

    #[test]
    fn what_became_durable_before_the_reply_stays_known() {
        let online = Online::new();
        let attached = ownership(3, 7);
        assert!(online.attach(&attached));
        online.note_durable(&attached.session, 3, 9);
        assert!(!online.attach(&attached), "the reply tells it again");
        let standing = online.standing(&attached.session, 3).unwrap();
        assert_eq!(standing.durable_next, 9);
    }

    #[test]
    fn an_older_connection_has_no_say() {
        let online = Online::new();
        let newer = ownership(4, 1);
        online.attach(&newer);
        assert!(!online.attach(&ownership(3, 1)));
        online.leave(&newer.session, 3);
        assert!(!online.remove(&newer.session, 3));
        assert_eq!(online.standing(&newer.session, 3), None);
        let client = &newer.session.client;
        let receiver = online.receiver(TenantNumber(1), client, 5);
        assert_eq!(receiver, Some((newer.owner, 4)));
        assert_eq!(
            online.receiver(TenantNumber(1), client, 6),
            None,
            "another session"
        );
        online.leave(&newer.session, 4);
        assert_eq!(online.receiver(TenantNumber(1), client, 5), None);
        assert!(online.remove(&newer.session, 4));
    }
}
