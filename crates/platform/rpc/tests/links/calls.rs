//! Requests and one-way messages between nodes, and within one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bifrust_rpc::{Body, CallError, Config, Encryption, Outgoing, Priority, Status};

use super::harness::*;
use super::hello;

fn encrypted() -> Config {
    Config {
        encryption: Encryption::Always,
        ..Config::default()
    }
}

async fn calls_work(a: &Member, b: &Member) {
    for payload in [vec![], vec![1; 256], vec![2; 1_000_000]] {
        let answer = a.to(b).call(to(ECHO, payload.clone()), LONG).await;
        let events = a.events.0.lock().unwrap().clone();
        assert!(answer == Ok(Body::payload(payload)), "{events:?}");
    }
    assert_eq!(b.seen.peers.lock().unwrap()[0], a.id);
    let failed = a.to(b).call(to(FAIL, "x"), LONG).await;
    let header = bytes::Bytes::from("no");
    let status = Status(300);
    assert_eq!(failed, Err(CallError::Refused { status, header }));
    let dropped = a.to(b).call(to(DROP, "x"), LONG).await;
    assert!(matches!(
        dropped,
        Err(CallError::Refused {
            status: Status::DROPPED,
            ..
        })
    ));
    let mut nowhere = to(ECHO, "x");
    nowhere.target.instance = 9;
    let none = a.to(b).call(nowhere, LONG).await;
    assert!(matches!(
        none,
        Err(CallError::Refused {
            status: Status::NO_SERVICE,
            ..
        })
    ));
}

#[tokio::test]
async fn calls_work_over_plain_links() {
    let (a, b) = pair(Config::default()).await;
    calls_work(&a, &b).await;
    calls_work(&b, &a).await;
}

#[tokio::test]
async fn calls_work_over_tls_with_certificates_made_at_start() {
    let (a, b) = pair(encrypted()).await;
    calls_work(&a, &b).await;
}

#[tokio::test]
async fn calls_work_over_tls_with_the_operators_certificates() {
    let authority = hello::Authority::new();
    let config = |name: &str| Config {
        certificates: Some(authority.issue(name)),
        ..encrypted()
    };
    let a = Member::start(identity(1), config("nodes.test")).await;
    let b = Member::start(identity(2), config("nodes.test")).await;
    calls_work(&a, &b).await;
}

#[tokio::test]
async fn a_call_to_this_node_is_a_function_call() {
    let a = Member::start(identity(1), Config::default()).await;
    let here = a.to(&a);
    assert_eq!(here.id(), a.id);
    let count = std::sync::Arc::new(AtomicU32::new(0));
    let counted = count.clone();
    let deadline = Instant::now() + LONG;
    here.request(to(ECHO, "x"), deadline, move |result| {
        assert_eq!(result, Ok(Body::payload("x")));
        counted.fetch_add(1, Ordering::SeqCst);
    });
    // It has been called when `request` returns.
    assert_eq!(count.load(Ordering::SeqCst), 1);
    calls_work(&a, &a).await;
    here.one_way(to(0, "told")).expect("it is here");
    assert_eq!(a.seen.told.lock().unwrap().len(), 1);
    let late = here
        .call(to(KEEP, "x"), std::time::Duration::from_millis(20))
        .await;
    assert_eq!(late, Err(CallError::Unknown));
    assert!(!a.seen.kept.lock().unwrap()[0].is_wanted());
}

#[tokio::test]
async fn one_way_messages_arrive_in_order_on_a_lane() {
    let (a, b) = pair(Config::default()).await;
    let mut batch: VecDeque<Outgoing> = (0..1000_u32)
        .map(|i| {
            let len = if i % 100 == 0 { 200_000 } else { 4 };
            let mut payload = i.to_le_bytes().to_vec();
            payload.resize(len, 0);
            Outgoing {
                lane: 1,
                ..to(0, payload)
            }
        })
        .collect();
    a.to(&b).one_way_batch(&mut batch).expect("there is room");
    until("all arrived", || b.seen.told.lock().unwrap().len() == 1000).await;
    let told = b.seen.told.lock().unwrap();
    for (i, body) in told.iter().enumerate() {
        assert_eq!(body.payload[..4], u32::try_from(i).unwrap().to_le_bytes());
    }
}

#[tokio::test]
async fn what_nobody_waits_for_is_told_the_service() {
    let (a, b) = pair(Config::default()).await;
    let call = a.to(&b);
    tokio::select! {
        answer = call.call(to(KEEP, "x"), LONG) => panic!("{answer:?}"),
        () = until("it is kept", || !b.seen.kept.lock().unwrap().is_empty()) => {}
    }
    until("it is cancelled", || {
        !b.seen.kept.lock().unwrap()[0].is_wanted()
    })
    .await;
}

#[tokio::test]
async fn slow_requests_are_in_nobodys_way() {
    let (a, b) = pair(Config::default()).await;
    let call = a.to(&b);
    for _ in 0..100 {
        call.request(to(KEEP, "slow"), Instant::now() + LONG, |_| {});
    }
    until("all are kept", || b.seen.kept.lock().unwrap().len() == 100).await;
    for _ in 0..100 {
        let answer = call.call(to(ECHO, "quick"), LONG).await;
        assert!(answer.is_ok());
    }
    for priority in Priority::ALL {
        let outgoing = Outgoing {
            priority,
            ..to(ECHO, "any")
        };
        assert!(call.call(outgoing, LONG).await.is_ok());
    }
}

#[tokio::test]
async fn a_peer_that_floods_is_held() {
    let (a, b) = pair(Config::default()).await;
    let call = a.to(&b);
    let message = to(HOLD, vec![0; 4000]);
    // Connected before, so that nothing waits for that.
    call.call(to(ECHO, ""), LONG).await.expect("it lives");
    let mut sent = 0_u64;
    let bounds = Config::default().bounds;
    let window = u64::from(bounds.limits.windows[Priority::Data.index()]);
    loop {
        match call.one_way(message.clone()) {
            Ok(()) => sent += 4000,
            Err(error) => {
                assert_eq!(error, CallError::Full);
                break;
            }
        }
        assert!(sent < 10 * window);
        tokio::task::yield_now().await;
    }
    // What is not within the window waits here.
    assert!(sent <= window + bounds.waiting_bytes as u64);
    let taken = || b.seen.told.lock().unwrap().len() as u64 * 4000;
    until("the window is full", || taken() > window * 9 / 10).await;
    assert!(taken() <= window);
    // Others still get through, by the credit of another priority.
    let urgent = Outgoing {
        priority: Priority::Consensus,
        ..to(ECHO, "urgent")
    };
    assert!(call.call(urgent, LONG).await.is_ok());
    b.seen.held.lock().unwrap().clear();
    until("the rest arrives", || {
        taken() == sent || {
            b.seen.held.lock().unwrap().clear();
            false
        }
    })
    .await;
}
