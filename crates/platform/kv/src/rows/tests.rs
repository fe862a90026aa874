use std::collections::BTreeMap;

use bifrust_storage::{Engine, open_memory};
use proptest::prelude::*;

use super::*;

const A: Keyspace = Keyspace("a");
const B: Keyspace = Keyspace("b");
const BOTH: &[Keyspace] = &[A, B];

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(0u8..3, 1..4)
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        key().prop_map(Bound::Included),
        key().prop_map(Bound::Excluded),
        Just(Bound::Unbounded),
    ]
}

fn as_slices(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

/// Writes to rows and model alike.
fn write(rows: &mut Rows<'_>, model: &mut Model, changes: &[(Vec<u8>, Option<u8>)]) {
    for (key, value) in changes {
        match value {
            Some(value) => {
                rows.put(A, key.clone(), vec![*value]);
                model.insert(key.clone(), vec![*value]);
            }
            None => {
                rows.delete(A, key.clone());
                model.remove(key);
            }
        }
    }
}

fn within(model: &Model, start: &Bound<Vec<u8>>, end: &Bound<Vec<u8>>) -> Vec<(Bytes, Bytes)> {
    let bounds = (as_slices(start), as_slices(end));
    let is_inside = |key: &[u8]| std::ops::RangeBounds::<[u8]>::contains(&bounds, key);
    model
        .iter()
        .filter(|(key, _)| is_inside(key))
        .map(|(key, value)| (key.clone().into(), value.clone().into()))
        .collect()
}

proptest! {
    #[test]
    fn overlay_and_engine_read_as_one(
        stored: Vec<(u8, u8)>,
        first in proptest::collection::vec((key(), proptest::option::of(0u8..9)), 0..20),
        second in proptest::collection::vec((key(), proptest::option::of(0u8..9)), 0..20),
        start in bound(), end in bound(),
    ) {
        let engine = open_memory(BOTH);
        let mut model = Model::new();
        let stored: Vec<_> = stored.iter().map(|(k, v)| (vec![k % 3], Some(*v))).collect();
        for changes in [stored, first, second] {
            let mut rows = Rows::new(&engine, BOTH);
            write(&mut rows, &mut model, &changes);
            let mut expected = within(&model, &start, &end);
            let walk = |direction| -> Vec<_> {
                rows.range(A, as_slices(&start), as_slices(&end), direction).collect()
            };
            prop_assert_eq!(&walk(Direction::Forward), &expected);
            expected.reverse();
            prop_assert_eq!(&walk(Direction::Backward), &expected);
            for key in [vec![0], vec![1, 2], vec![2, 2, 2]] {
                prop_assert_eq!(rows.get(A, &key), model.get(&key).cloned().map(Bytes::from));
                prop_assert_eq!(rows.get(B, &key), None);
            }
            let mut batch = WriteBatch::new();
            rows.finish(&mut batch).unwrap();
            engine.write(batch).unwrap();
        }
        let all = within(&model, &Bound::Unbounded, &Bound::Unbounded);
        let stored: Vec<_> = engine
            .range(A, Bound::Unbounded, Bound::Unbounded, Direction::Forward)
            .map(Result::unwrap)
            .collect();
        prop_assert_eq!(stored, all);
    }

    #[test]
    fn the_end_of_a_prefix_parts_what_starts_with_it_from_what_does_not(prefix: Vec<u8>, key: Vec<u8>) {
        let end = prefix_end(&prefix);
        let bounds = (Bound::Included(&prefix[..]), as_slices(&end));
        let is_inside = std::ops::RangeBounds::<[u8]>::contains(&bounds, &key[..]);
        prop_assert_eq!(is_inside, key.starts_with(&prefix));
    }
}

#[test]
fn the_end_of_a_prefix_carries_over() {
    assert_eq!(prefix_end(&[1, 2]), Bound::Excluded(vec![1, 3]));
    assert_eq!(prefix_end(&[1, 255, 255]), Bound::Excluded(vec![2]));
    assert_eq!(prefix_end(&[255]), Bound::Unbounded);
    assert_eq!(prefix_end(&[]), Bound::Unbounded);
}

#[test]
fn an_undeclared_keyspace_fails_the_batch() {
    let engine = open_memory(BOTH);
    let mut rows = Rows::new(&engine, &[A]);
    rows.put(B, vec![1], vec![1]);
    assert_eq!(
        rows.range(B, Bound::Unbounded, Bound::Unbounded, Direction::Forward)
            .count(),
        0
    );
    assert!(matches!(
        rows.finish(&mut WriteBatch::new()),
        Err(StorageError::UnknownKeyspace("b"))
    ));
}
