use bifrust_model::Incarnation;
use proptest::prelude::*;

use super::*;
use crate::{RowKind, RowName};

const BOUNDS: Bounds = Bounds {
    rows_max: 8,
    bytes_max: 2_000,
    tombstones_max: 3,
    owners_max: 4,
};

fn node(id: u128, incarnation: u64) -> NodeRef {
    NodeRef {
        id: NodeId(id),
        incarnation: Incarnation(incarnation),
    }
}

fn key(name: &str) -> RowKey {
    RowKey {
        kind: RowKind::Topology,
        name: RowName::new(name).unwrap(),
    }
}

fn replica(id: u128) -> Replica {
    Replica::new(node(id, 1), BOUNDS)
}

fn live(replica: &Replica, owner: NodeRef) -> Vec<(String, Bytes)> {
    let rows = replica.rows(owner);
    rows.map(|(key, _, value)| (key.name.as_str().to_owned(), value.clone()))
        .collect()
}

/// What `to` lacks of `owner`, taken from `from`.
fn sync(from: &Replica, to: &mut Replica, owner: NodeId) -> Option<Applied> {
    let delta = from.delta(owner, to.version(owner))?;
    Some(to.apply(delta))
}

#[test]
fn rows_pass_from_hand_to_hand_and_stop_when_all_is_known() {
    let (mut a, mut b, mut c) = (replica(1), replica(2), replica(3));
    a.put(key("x"), Bytes::from("1")).unwrap();
    a.put(key("y"), Bytes::from("2")).unwrap();
    assert_eq!(sync(&a, &mut b, NodeId(1)), Some(Applied::From(0)));
    a.remove(key("x"));
    assert_eq!(sync(&a, &mut b, NodeId(1)), Some(Applied::From(2)));
    assert_eq!(sync(&b, &mut c, NodeId(1)), Some(Applied::From(0)));
    assert_eq!(live(&c, node(1, 1)), [("y".to_owned(), Bytes::from("2"))]);
    assert_eq!(sync(&a, &mut c, NodeId(1)), None);
}

#[test]
fn a_write_of_the_same_value_is_none() {
    let mut a = replica(1);
    assert_eq!(a.put(key("x"), Bytes::from("1")), Ok(Some(0)));
    assert_eq!(a.put(key("x"), Bytes::from("1")), Ok(None));
    assert_eq!(a.remove(key("z")), None);
}

#[test]
fn a_delta_beyond_what_is_known_is_a_gap() {
    let (mut a, mut b) = (replica(1), replica(2));
    a.put(key("x"), Bytes::from("1")).unwrap();
    let known = a.version(NodeId(1));
    a.put(key("y"), Bytes::from("1")).unwrap();
    let delta = a.delta(NodeId(1), known).unwrap();
    assert_eq!(b.apply(delta), Applied::Gap);
    assert_eq!(b.version(NodeId(1)), None);
}

#[test]
fn a_replica_below_the_floor_gets_all_rows_and_loses_what_was_removed() {
    let (mut a, mut b) = (replica(1), replica(2));
    a.put(key("old"), Bytes::from("1")).unwrap();
    sync(&a, &mut b, NodeId(1));
    a.remove(key("old"));
    for round in 0..10 {
        let name = format!("r{round}");
        a.put(key(&name), Bytes::new()).unwrap();
        a.remove(key(&name));
    }
    let delta = a.delta(NodeId(1), b.version(NodeId(1))).unwrap();
    assert_eq!(delta.base, 0);
    b.apply(delta);
    assert_eq!(live(&b, node(1, 1)), []);
}

#[test]
fn the_next_start_replaces_the_rows_of_the_one_before() {
    let (mut a, mut b) = (replica(1), replica(2));
    a.put(key("x"), Bytes::from("1")).unwrap();
    sync(&a, &mut b, NodeId(1));
    let mut again = Replica::new(node(1, 2), BOUNDS);
    again.put(key("y"), Bytes::from("2")).unwrap();
    assert_eq!(sync(&again, &mut b, NodeId(1)), Some(Applied::From(0)));
    assert_eq!(live(&b, node(1, 1)), []);
    assert_eq!(live(&b, node(1, 2)).len(), 1);
    // What is told of the start before comes too late.
    let late = a.delta(NodeId(1), None).unwrap();
    assert_eq!(b.apply(late), Applied::Stale);
}

#[test]
fn every_bound_answers() {
    let mut a = replica(1);
    assert_eq!(
        a.put(key("x"), vec![0; ROW_VALUE_BYTES_MAX + 1].into()),
        Err(RowError::TooLarge)
    );
    assert_eq!(a.put(key("x"), vec![0; 2_000].into()), Err(RowError::Full));
    for row in 0..8 {
        a.put(key(&row.to_string()), Bytes::new()).unwrap();
    }
    assert_eq!(a.put(key("8"), Bytes::new()), Err(RowError::Full));
    assert_eq!(a.put(key("7"), Bytes::from("new")), Ok(Some(8)));

    // A peer that does not keep to the bounds.
    let mut b = replica(2);
    let write = |sequence: u64| Write {
        key: key(&sequence.to_string()),
        sequence,
        value: Some(Bytes::new()),
    };
    let delta = |base: u64, count: u64| Delta {
        owner: node(1, 1),
        base,
        sequence: base + count,
        floor: 0,
        writes: (base + 1..=base + count).map(write).collect(),
    };
    assert_eq!(b.apply(delta(0, 9)), Applied::Refused);
    assert_eq!(b.apply(delta(0, 8)), Applied::From(0));
    assert_eq!(b.apply(delta(8, 1)), Applied::Refused);
    for owner in 3..=4 {
        let owner = node(owner, 1);
        assert_eq!(
            b.apply(Delta {
                owner,
                ..delta(0, 1)
            }),
            Applied::From(0)
        );
    }
    let owner = node(5, 1);
    assert_eq!(
        b.apply(Delta {
            owner,
            ..delta(0, 1)
        }),
        Applied::Refused
    );
}

#[test]
fn nobody_else_writes_own_rows() {
    let mut a = replica(1);
    let forged = Delta {
        owner: node(1, 7),
        base: 0,
        sequence: 9,
        floor: 0,
        writes: Vec::new(),
    };
    assert_eq!(a.apply(forged), Applied::Refused);
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Remove(u8),
    Sync(usize, usize),
    /// A delta is made, and given to somebody later.
    Keep(usize, usize),
    Late(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..6u8, any::<u8>()).prop_map(|(row, value)| Step::Put(row, value)),
        2 => (0..6u8).prop_map(Step::Remove),
        3 => (0..3usize, 0..3usize).prop_map(|(from, to)| Step::Sync(from, to)),
        1 => (0..3usize, 0..3usize).prop_map(|(from, to)| Step::Keep(from, to)),
        1 => (any::<usize>(), 0..3usize).prop_map(|(which, to)| Step::Late(which, to)),
    ]
}

proptest! {
    /// However deltas are exchanged, lost, delayed and repeated: replicas at one version are equal to
    /// what the owner had there, and in the end all are equal to the owner.
    #[test]
    fn a_version_says_which_rows_there_are(steps in proptest::collection::vec(step(), 1..80)) {
        let owner = node(1, 1);
        let mut replicas = [replica(1), replica(2), replica(3)];
        let mut history = BTreeMap::from([(0, Vec::new())]);
        let mut kept = Vec::new();
        for step in steps {
            match step {
                Step::Put(row, value) => {
                    let value = Bytes::from(vec![value]);
                    replicas[0].put(key(&row.to_string()), value).unwrap();
                }
                Step::Remove(row) => {
                    replicas[0].remove(key(&row.to_string()));
                }
                Step::Sync(from, to) => {
                    let known = replicas[to].version(owner.id);
                    if let Some(delta) = replicas[from].delta(owner.id, known) {
                        replicas[to].apply(delta);
                    }
                }
                Step::Keep(from, to) => {
                    let known = replicas[to].version(owner.id);
                    kept.extend(replicas[from].delta(owner.id, known));
                }
                Step::Late(which, to) if !kept.is_empty() => {
                    replicas[to].apply(kept[which % kept.len()].clone());
                }
                Step::Late(..) => {}
            }
            let version = replicas[0].version(owner.id).unwrap();
            history.insert(version.sequence, live(&replicas[0], owner));
            for other in &replicas[1..] {
                let sequence = other.version(owner.id).map_or(0, |known| known.sequence);
                prop_assert_eq!(&live(other, owner), &history[&sequence]);
            }
        }
        for to in 1..3 {
            let known = replicas[to].version(owner.id);
            if let Some(delta) = replicas[0].delta(owner.id, known) {
                replicas[to].apply(delta);
            }
            prop_assert_eq!(live(&replicas[to], owner), live(&replicas[0], owner));
        }
    }
}
