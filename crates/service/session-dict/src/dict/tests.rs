use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;

use bifrust_model::{ClientId, Incarnation, NodeId, NodeRef, TenantNumber};
use proptest::prelude::*;

use super::*;

/// Notes who was kicked.
#[derive(Default)]
struct Kicks(Mutex<Vec<(ConnectionRef, Option<SocketAddr>)>>);

impl Connections for Kicks {
    fn kick(&self, connection: ConnectionRef, by: Option<SocketAddr>) {
        self.0.lock().unwrap().push((connection, by));
    }
}

struct Bed {
    dict: Dict,
    kicks: Arc<Kicks>,
    claims: Arc<Mutex<Vec<(u32, Claim)>>>,
}

impl Bed {
    fn new() -> Self {
        let dict = Dict::new();
        let kicks = Arc::new(Kicks::default());
        dict.bind(kicks.clone());
        Self {
            dict,
            kicks,
            claims: Arc::default(),
        }
    }

    fn claim(&self, slot: u32, user: Option<&str>) {
        let claims = self.claims.clone();
        self.dict.claim(
            key("c"),
            user.map(Arc::from),
            peer(),
            connection(slot),
            Box::new(move |claim| claims.lock().unwrap().push((slot, claim))),
        );
    }

    fn release(&self, slot: u32) {
        self.dict.release(&key("c"), connection(slot));
    }

    fn claims(&self) -> Vec<(u32, Claim)> {
        std::mem::take(&mut self.claims.lock().unwrap())
    }

    fn kicked(&self) -> Vec<u32> {
        let kicks = std::mem::take(&mut *self.kicks.0.lock().unwrap());
        kicks.into_iter().map(|(who, _)| who.slot).collect()
    }
}

fn key(client: &str) -> SessionKey {
    SessionKey {
        tenant: TenantNumber(1),
        client: ClientId::new(client).unwrap(),
    }
}

fn connection(slot: u32) -> ConnectionRef {
    ConnectionRef {
        node: NodeRef {
            id: NodeId(7),
            incarnation: Incarnation(1),
        },
        shard: 0,
        slot,
        generation: 1,
    }
}

fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4711))
}

const FIRST: Claim = Claim::Granted { took_over: false };
const TAKEN_OVER: Claim = Claim::Granted { took_over: true };

#[test]
fn free_session_is_granted_at_once() {
    let bed = Bed::new();
    bed.claim(1, None);
    assert_eq!(bed.claims(), [(1, FIRST)]);
    assert_eq!(bed.dict.owner(&key("c")), Some(connection(1)));
    assert_eq!(bed.dict.len(), 1);
    assert!(bed.kicked().is_empty());
}

#[test]
fn sessions_of_other_tenants_are_others() {
    let bed = Bed::new();
    bed.claim(1, None);
    let other = SessionKey {
        tenant: TenantNumber(2),
        client: ClientId::new("c").unwrap(),
    };
    assert_eq!(bed.dict.owner(&other), None);
}

#[test]
fn owner_is_kicked_and_claimant_waits_for_its_release() {
    let bed = Bed::new();
    bed.claim(1, Some("u"));
    bed.claims();
    bed.claim(2, Some("u"));
    assert!(bed.claims().is_empty());
    let kicks = bed.kicks.0.lock().unwrap().clone();
    assert_eq!(kicks, [(connection(1), Some(peer()))]);
    assert_eq!(bed.dict.owner(&key("c")), Some(connection(1)));
    bed.release(1);
    assert_eq!(bed.claims(), [(2, TAKEN_OVER)]);
    assert_eq!(bed.dict.owner(&key("c")), Some(connection(2)));
    bed.release(2);
    assert!(bed.dict.is_empty());
}

#[test]
fn newer_claim_supersedes_the_newest_and_not_whose_turn_it_is() {
    let bed = Bed::new();
    bed.claim(1, None);
    bed.claim(2, None);
    bed.claim(3, None);
    bed.claims();
    bed.claim(4, None);
    assert_eq!(bed.claims(), [(3, Claim::Superseded)]);
    bed.release(3);
    assert!(bed.claims().is_empty());
    assert_eq!(bed.kicked(), [1, 1, 1]);
    bed.release(1);
    assert_eq!(bed.claims(), [(2, TAKEN_OVER)]);
    assert_eq!(bed.kicked(), [2], "on behalf of the one that waits");
    bed.release(2);
    assert_eq!(bed.claims(), [(4, TAKEN_OVER)]);
    assert!(bed.kicked().is_empty());
    bed.release(4);
    assert!(bed.dict.is_empty());
}

#[test]
fn two_that_fight_take_turns() {
    let bed = Bed::new();
    bed.claim(0, None);
    for slot in 0..20 {
        // Whoever is kicked comes back before its release has arrived.
        bed.claim(slot + 1, None);
        bed.claim(slot + 2, None);
        bed.claims();
        bed.release(slot);
        assert_eq!(bed.claims(), [(slot + 1, TAKEN_OVER)]);
        bed.release(slot + 2);
        bed.claims();
    }
}

#[test]
fn withdrawn_claim_gives_its_place_to_the_newest() {
    let bed = Bed::new();
    for slot in 1..=3 {
        bed.claim(slot, None);
    }
    bed.claims();
    bed.release(2);
    assert_eq!(bed.claims(), [(2, Claim::Superseded)]);
    bed.release(1);
    assert_eq!(bed.claims(), [(3, TAKEN_OVER)]);
}

#[test]
fn withdrawn_claim_is_answered_and_the_owner_leaves_alone() {
    let bed = Bed::new();
    bed.claim(1, None);
    bed.claim(2, None);
    bed.claims();
    bed.release(2);
    assert_eq!(bed.claims(), [(2, Claim::Superseded)]);
    assert_eq!(bed.dict.owner(&key("c")), Some(connection(1)));
    bed.release(1);
    assert!(bed.claims().is_empty());
    assert!(bed.dict.is_empty());
}

#[test]
fn other_user_is_refused_and_disturbs_nobody() {
    let bed = Bed::new();
    bed.claim(1, Some("a"));
    bed.claim(2, Some("a"));
    bed.claims();
    bed.kicked();
    bed.claim(3, Some("b"));
    bed.claim(4, None);
    assert_eq!(bed.claims(), [(3, Claim::OtherUser), (4, Claim::OtherUser)]);
    assert!(bed.kicked().is_empty());
    bed.release(1);
    assert_eq!(bed.claims(), [(2, TAKEN_OVER)]);
    bed.claim(5, Some("b"));
    assert_eq!(bed.claims(), [(5, Claim::OtherUser)]);
}

#[test]
fn release_by_a_stranger_changes_nothing() {
    let bed = Bed::new();
    bed.release(1);
    bed.claim(1, None);
    bed.claims();
    bed.release(2);
    let mut earlier = connection(1);
    earlier.generation = 0;
    bed.dict.release(&key("c"), earlier);
    assert_eq!(bed.dict.owner(&key("c")), Some(connection(1)));
}

#[test]
fn claiming_what_one_owns_is_granted_again() {
    let bed = Bed::new();
    bed.claim(1, None);
    bed.claim(1, None);
    assert_eq!(bed.claims(), [(1, FIRST), (1, FIRST)]);
    assert!(bed.kicked().is_empty());
}

#[test]
fn racing_claims_are_each_answered_once_and_never_overlap() {
    const PLAYERS: u16 = 4;
    const ROUNDS: u32 = 500;
    let dict = Dict::new();
    dict.bind(Arc::new(Kicks::default()));
    let owners = Arc::new(AtomicU32::new(0));
    let granted = Arc::new(AtomicU32::new(0));
    thread::scope(|scope| {
        for shard in 0..PLAYERS {
            let (dict, owners, granted) = (dict.clone(), owners.clone(), granted.clone());
            scope.spawn(move || {
                for slot in 0..ROUNDS {
                    let me = ConnectionRef {
                        shard,
                        ..connection(slot)
                    };
                    let (answer, answered) = mpsc::channel();
                    let done = Box::new(move |claim| answer.send(claim).unwrap());
                    dict.claim(key("c"), None, peer(), me, done);
                    match answered.recv().unwrap() {
                        Claim::Granted { .. } => {
                            assert_eq!(owners.fetch_add(1, Ordering::SeqCst), 0);
                            granted.fetch_add(1, Ordering::SeqCst);
                            // Some leave before anybody else comes, some are kicked.
                            for _ in 0..slot % 8 {
                                thread::yield_now();
                            }
                            assert_eq!(owners.fetch_sub(1, Ordering::SeqCst), 1);
                            dict.release(&key("c"), me);
                        }
                        Claim::Superseded => dict.release(&key("c"), me),
                        Claim::OtherUser => panic!("all players are one user"),
                    }
                    assert!(answered.recv().is_err(), "answered once, then dropped");
                }
            });
        }
    });
    assert!(granted.load(Ordering::SeqCst) > 0);
    assert!(dict.is_empty());
}

proptest! {
    /// Against the rule itself: whoever was granted last and has not released owns the session.
    #[test]
    fn any_sequence_keeps_one_owner(steps in prop::collection::vec((any::<bool>(), 0u32..6), 0..60)) {
        let bed = Bed::new();
        let mut owner: Option<u32> = None;
        let mut waiting: Vec<u32> = Vec::new();
        for (is_claim, slot) in steps {
            let mut expected = Vec::new();
            if is_claim {
                match owner {
                    None => {
                        owner = Some(slot);
                        expected.push((slot, FIRST));
                    }
                    Some(current) if current == slot => expected.push((slot, FIRST)),
                    Some(_) => {
                        if waiting.len() == 2 {
                            expected.extend(waiting.pop().map(|old| (old, Claim::Superseded)));
                        }
                        waiting.push(slot);
                    }
                }
                bed.claim(slot, Some("u"));
            } else {
                if owner == Some(slot) {
                    owner = (!waiting.is_empty()).then(|| waiting.remove(0));
                    expected.extend(owner.map(|next| (next, TAKEN_OVER)));
                } else if let Some(at) = waiting.iter().position(|who| *who == slot) {
                    waiting.remove(at);
                    expected.push((slot, Claim::Superseded));
                }
                bed.release(slot);
            }
            prop_assert_eq!(bed.claims(), expected);
            prop_assert_eq!(bed.dict.owner(&key("c")), owner.map(connection));
            prop_assert_eq!(bed.dict.len(), usize::from(owner.is_some()));
        }
    }
}
