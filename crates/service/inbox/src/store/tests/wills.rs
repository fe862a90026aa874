//! Wills: when they wait, when they go, what stops them.

use bifrust_model::{ClientInfo, Protocol, TenantName};

use super::*;
use crate::Will;

pub(super) fn will(delay_seconds: u32) -> Will {
    Will {
        message: (*message("will", Qos::AtLeastOnce)).clone(),
        delay_seconds,
        client: Arc::new(ClientInfo {
            tenant: TenantName::new("acme").unwrap(),
            user: None,
            client: client(),
            peer: None,
            protocol: Protocol::V5,
        }),
    }
}

fn will_times(bed: &Bed<Store>) -> Vec<(u64, Option<u64>)> {
    let Answer::Deadlines { found, .. } = bed.query(Query::Deadlines {
        after: None,
        limit: 99,
    }) else {
        panic!("not deadlines");
    };
    let wills = found.into_iter().filter_map(|(_, due)| match due {
        Due::Will { epoch, deadline } => Some((epoch, deadline.due_ms)),
        Due::Session(_) | Due::Sweep { .. } => None,
    });
    wills.collect()
}

#[test]
fn wills_wait_go_or_are_stopped() {
    // (transient, delay, how the connection ends, when the will is due)
    let cases = [
        (true, 0, WillFate::Due, Some(20)),
        (true, 50, WillFate::Due, Some(20)),
        (false, 0, WillFate::Due, Some(20)),
        (false, 50, WillFate::Due, Some(50_020)),
        (false, 500, WillFate::Due, Some(100_020)),
        (false, 50, WillFate::Dropped, None),
        (true, 0, WillFate::Dropped, None),
    ];
    for (transient, delay, fate, due) in cases {
        let mut bed = Bed::new(Store::default());
        let attach = Attach {
            will: Some(will(delay)),
            expiry_seconds: if transient { 0 } else { 100 },
            ..attach_at(10)
        };
        let opened = attached(bed.apply_twice(Command::Attach(Box::new(attach))).0);
        assert_eq!(will_times(&bed), [(opened.epoch, None)]);
        let detach = Detach {
            will: fate,
            ..detach_at(20, opened.epoch)
        };
        let ((reply, effects), _) = bed.apply_twice(Command::Detach(Box::new(detach)));
        assert_eq!(reply, Reply::Done);
        let times: Vec<_> = due
            .map(|due| (opened.epoch, Some(due)))
            .into_iter()
            .collect();
        assert_eq!(will_times(&bed), times);
        let told = effects.iter().find_map(|effect| match effect {
            Effect::WillDue { at_ms, .. } => Some(*at_ms),
            _ => None,
        });
        assert_eq!(told, due);
        let epoch = opened.epoch;
        bed.apply_twice(Command::WillSent(WillSent {
            session: session(),
            epoch,
        }));
        assert_eq!(will_times(&bed), []);
    }
}

#[test]
fn a_client_that_comes_back_in_time_stops_its_will() {
    for (back_at, clean_start, left) in [
        (30, false, None),
        (60_000, false, Some(50_020)),
        (30, true, Some(30)),
    ] {
        let mut bed = Bed::new(Store::default());
        let attach = Attach {
            will: Some(will(50)),
            ..attach_at(10)
        };
        let opened = attached(bed.apply(Command::Attach(Box::new(attach))));
        bed.apply(Command::Detach(Box::new(detach_at(20, opened.epoch))));
        let back = Attach {
            clean_start,
            ..attach_at(back_at)
        };
        bed.apply_twice(Command::Attach(Box::new(back)));
        let times: Vec<_> = left
            .map(|due| (opened.epoch, Some(due)))
            .into_iter()
            .collect();
        assert_eq!(will_times(&bed), times);
    }
}

#[test]
fn an_attach_that_finds_a_silent_owner_treats_its_will_as_if_it_had_just_gone() {
    for (delay, left) in [(0, vec![Some(30)]), (50, vec![])] {
        let mut bed = Bed::new(Store::default());
        let attach = Attach {
            will: Some(will(delay)),
            ..attach_at(10)
        };
        bed.apply(Command::Attach(Box::new(attach)));
        bed.apply(Command::Attach(Box::new(attach_at(30))));
        let times: Vec<_> = will_times(&bed).into_iter().map(|(_, due)| due).collect();
        assert_eq!(times, left);
    }
}
