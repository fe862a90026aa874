//! What one subscriber got against what was published: loss, duplicates, order.

use std::collections::{HashMap, HashSet};

use super::publisher::Expected;
use super::subscriber::Delivered;

/// The verdict on one subscriber's round.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) delivered: u64,
    pub(super) repeated: u64,
    pub(super) violations: Vec<String>,
}

/// Compares. `expected` holds messages that are all acknowledged by now.
pub(super) fn check(
    name: &str,
    granted: u8,
    log: Vec<Delivered>,
    expected: &[Expected],
) -> Outcome {
    let mut outcome = Outcome {
        delivered: log.len() as u64,
        ..Outcome::default()
    };
    let mut seen: HashSet<(u32, u64)> = HashSet::new();
    let mut last: HashMap<(u32, u8, u8), u64> = HashMap::new();
    let mut qualities: HashMap<(u32, u64), u8> = HashMap::new();
    for one in expected {
        qualities.extend(
            one.messages
                .iter()
                .map(|(number, qos)| ((one.publisher, *number), *qos)),
        );
    }
    for one in log {
        let key = (one.publisher, one.number);
        let Some(published) = qualities.get(&key) else {
            outcome
                .violations
                .push(format!("duplicate: {name} got {one:?} of an earlier round"));
            continue;
        };
        if one.qos != granted.min(*published) {
            outcome
                .violations
                .push(format!("quality: {name} got {one:?}"));
        }
        if !seen.insert(key) {
            if one.qos == 2 {
                outcome
                    .violations
                    .push(format!("duplicate: {name} got {one:?} twice"));
            }
            outcome.repeated += 1;
            continue;
        }
        // C6: first deliveries of one publisher, topic and delivery QoS.
        let before = last.insert((one.publisher, *published, one.qos), one.number);
        if before.is_some_and(|before| before > one.number) {
            outcome
                .violations
                .push(format!("order: {name} got {one:?} after {before:?}"));
        }
    }
    let mut lost: Vec<(u32, u64)> = qualities
        .keys()
        .filter(|key| !seen.contains(*key))
        .copied()
        .collect();
    lost.sort_unstable();
    if let (Some(first), Some(end)) = (lost.first(), lost.last()) {
        let count = lost.len();
        outcome
            .violations
            .push(format!("lost: {name} misses {count}, {first:?} to {end:?}"));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Vec<Expected> {
        vec![Expected {
            publisher: 1,
            messages: vec![(1, 2), (2, 1), (3, 2), (4, 1)],
        }]
    }

    fn got(numbers: &[(u64, u8)]) -> Vec<Delivered> {
        let one = |(number, qos): &(u64, u8)| Delivered {
            publisher: 1,
            number: *number,
            qos: *qos,
        };
        numbers.iter().map(one).collect()
    }

    #[test]
    fn what_is_right_passes() {
        let outcome = check(
            "s",
            2,
            got(&[(1, 2), (2, 1), (3, 2), (2, 1), (4, 1)]),
            &expected(),
        );
        assert_eq!(outcome.violations, [""; 0]);
        assert_eq!((outcome.delivered, outcome.repeated), (5, 1));
        // The two qualities are two topics: their order to each other is free.
        let outcome = check("s", 2, got(&[(2, 1), (4, 1), (1, 2), (3, 2)]), &expected());
        assert_eq!(outcome.violations, [""; 0]);
    }

    #[test]
    fn each_broken_promise_is_found() {
        let found = |log: &[(u64, u8)]| check("s", 2, got(log), &expected()).violations;
        let lost = found(&[(1, 2), (2, 1), (4, 1)]);
        assert!(lost.len() == 1 && lost[0].starts_with("lost"), "{lost:?}");
        let twice = found(&[(1, 2), (2, 1), (1, 2), (3, 2), (4, 1)]);
        assert!(
            twice.len() == 1 && twice[0].starts_with("duplicate"),
            "{twice:?}"
        );
        let order = found(&[(3, 2), (1, 2), (2, 1), (4, 1)]);
        assert!(
            order.len() == 1 && order[0].starts_with("order"),
            "{order:?}"
        );
        let quality = found(&[(1, 2), (2, 2), (3, 2), (4, 1)]);
        assert!(
            quality.len() == 1 && quality[0].starts_with("quality"),
            "{quality:?}"
        );
    }
}
