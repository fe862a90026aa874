//! The dictionary itself.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ahash::RandomState;
use bifrust_model::SessionKey;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::{ConnectionRef, Connections};

#[cfg(test)]
mod tests;

/// Called exactly once, on any thread; must not block.
pub type Then<T> = Box<dyn FnOnce(T) + Send>;

/// Locks the sessions are spread over: enough that shards seldom meet at one.
const SHARDS: usize = 64;

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The claimant owns the session.
    Granted {
        /// Whether an older connection gave it up for this one.
        took_over: bool,
    },
    /// The session is owned by another user, who keeps it.
    OtherUser,
    /// A newer claim came before this one was granted, or it was withdrawn.
    Superseded,
}

/// Who owns which session; clones share it.
///
/// It holds an entry per connected client, so what bounds the connections bounds it.
#[derive(Clone)]
pub struct Dict(Arc<Inner>);

struct Inner {
    shards: Vec<Mutex<Owners>>,
    hasher: RandomState,
    connections: OnceLock<Arc<dyn Connections>>,
}

type Owners = HashMap<SessionKey, Owner, RandomState>;

struct Owner {
    connection: ConnectionRef,
    user: Option<Arc<str>>,
    /// Who comes next: the owner was kicked for this one. Proved to be the same user, as is the one
    /// below. Boxed both, as hardly a session has them.
    next: Option<Box<Claimant>>,
    /// Who comes after that, until somebody newer comes.
    newest: Option<Box<Claimant>>,
}

struct Claimant {
    connection: ConnectionRef,
    peer: SocketAddr,
    done: Then<Claim>,
}

/// What to do once the lock is given up.
enum Turn {
    Answer(Then<Claim>, Claim),
    Kick {
        owner: ConnectionRef,
        by: SocketAddr,
        superseded: Option<Box<Claimant>>,
    },
    /// The claimant owns the session now, and is asked for it at once if somebody else waits.
    Grant {
        claimant: Box<Claimant>,
        waiting: Option<SocketAddr>,
    },
    Nothing,
}

impl Default for Dict {
    fn default() -> Self {
        Self::new()
    }
}

impl Dict {
    /// An empty dictionary.
    pub fn new() -> Self {
        let hasher = RandomState::new();
        let shards = (0..SHARDS)
            .map(|_| Mutex::new(HashMap::with_hasher(hasher.clone())))
            .collect();
        Self(Arc::new(Inner {
            shards,
            hasher,
            connections: OnceLock::new(),
        }))
    }

    /// Says where connections are reached. To be called once, before the first claim.
    pub fn bind(&self, connections: Arc<dyn Connections>) {
        if self.0.connections.set(connections).is_err() {
            tracing::warn!("connections were bound a second time; the first ones stay");
        }
    }

    /// Claims the session for `me`. An older owner is kicked; `done` runs when it released. Two may
    /// wait per key: the one that the owner was kicked for, whose turn is next, and the newest, which
    /// an even newer one supersedes. So clients that fight for a session are served in turns.
    pub fn claim(
        &self,
        key: SessionKey,
        user: Option<Arc<str>>,
        peer: SocketAddr,
        me: ConnectionRef,
        done: Then<Claim>,
    ) {
        let claimant = Claimant {
            connection: me,
            peer,
            done,
        };
        let turn = enter(&mut self.owners(&key), key, user, claimant);
        self.end(turn);
    }

    /// Gives the session up, or withdraws a waiting claim. A connection that has neither changes
    /// nothing.
    pub fn release(&self, key: &SessionKey, me: ConnectionRef) {
        let turn = leave(&mut self.owners(key), key, me);
        self.end(turn);
    }

    fn end(&self, turn: Turn) {
        match turn {
            Turn::Answer(done, claim) => done(claim),
            Turn::Kick {
                owner,
                by,
                superseded,
            } => {
                if let Some(claimant) = superseded {
                    (claimant.done)(Claim::Superseded);
                }
                self.kick(owner, by);
            }
            Turn::Grant { claimant, waiting } => {
                (claimant.done)(Claim::Granted { took_over: true });
                if let Some(by) = waiting {
                    self.kick(claimant.connection, by);
                }
            }
            Turn::Nothing => {}
        }
    }

    /// The owner may have released meanwhile: its generation makes a late kick harmless.
    fn kick(&self, owner: ConnectionRef, by: SocketAddr) {
        match self.0.connections.get() {
            Some(connections) => connections.kick(owner, Some(by)),
            None => tracing::error!("no connections are bound: the owner cannot be kicked"),
        }
    }

    /// The connection that owns the session.
    pub fn owner(&self, key: &SessionKey) -> Option<ConnectionRef> {
        self.owners(key).get(key).map(|owner| owner.connection)
    }

    /// Sessions that are owned.
    pub fn len(&self) -> usize {
        let shards = self.0.shards.iter();
        shards.map(|shard| lock(shard).len()).sum()
    }

    /// Whether no session is owned.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn owners(&self, key: &SessionKey) -> MutexGuard<'_, Owners> {
        // The high bits: the low ones place the key within the shard's own table.
        let shard = (self.0.hasher.hash_one(key) >> 32) as usize % SHARDS;
        lock(&self.0.shards[shard])
    }
}

fn lock(shard: &Mutex<Owners>) -> MutexGuard<'_, Owners> {
    // Nothing that can panic leaves an entry half changed.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn enter(owners: &mut Owners, key: SessionKey, user: Option<Arc<str>>, claimant: Claimant) -> Turn {
    let entry = match owners.entry(key) {
        Entry::Vacant(vacant) => {
            vacant.insert(Owner {
                connection: claimant.connection,
                user,
                next: None,
                newest: None,
            });
            return Turn::Answer(claimant.done, Claim::Granted { took_over: false });
        }
        Entry::Occupied(occupied) => occupied.into_mut(),
    };
    if entry.user != user {
        return Turn::Answer(claimant.done, Claim::OtherUser);
    }
    if entry.connection == claimant.connection {
        return Turn::Answer(claimant.done, Claim::Granted { took_over: false });
    }
    let by = claimant.peer;
    let place = match entry.next {
        None => &mut entry.next,
        Some(_) => &mut entry.newest,
    };
    Turn::Kick {
        owner: entry.connection,
        by,
        superseded: place.replace(Box::new(claimant)),
    }
}

fn leave(owners: &mut Owners, key: &SessionKey, me: ConnectionRef) -> Turn {
    let Some(entry) = owners.get_mut(key) else {
        return Turn::Nothing;
    };
    let is_mine = |claimant: &mut Box<Claimant>| claimant.connection == me;
    if entry.connection == me {
        let Some(claimant) = entry.next.take() else {
            owners.remove(key);
            return Turn::Nothing;
        };
        entry.connection = claimant.connection;
        entry.next = entry.newest.take();
        let waiting = entry.next.as_ref().map(|next| next.peer);
        return Turn::Grant { claimant, waiting };
    }
    let withdrawn = match entry.next.take_if(is_mine) {
        Some(claimant) => {
            entry.next = entry.newest.take();
            Some(claimant)
        }
        None => entry.newest.take_if(is_mine),
    };
    withdrawn.map_or(Turn::Nothing, |claimant| {
        Turn::Answer(claimant.done, Claim::Superseded)
    })
}
