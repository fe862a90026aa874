//! Peers that die, hang, leave and come back; more of them than there may be.

use std::time::{Duration, Instant};

use bifrust_rpc::hello::Reason;
use bifrust_rpc::{Body, CallError, Config, Outgoing, Priority};
use std::num::NonZeroU32;
use tokio::net::{TcpListener, TcpStream};

use super::harness::*;

#[tokio::test]
async fn a_peer_that_is_not_there_fails_calls_at_once() {
    let a = Member::start(identity(1), Config::default()).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let nobody = a.rpc.node(node(2, 1), address).expect("there is room");
    for _ in 0..3 {
        let failed = nobody.call(to(ECHO, "x"), LONG).await;
        assert_eq!(failed, Err(CallError::Unreachable));
    }
}

#[tokio::test]
async fn a_peer_that_never_says_hello_fails_calls_by_their_deadline() {
    let a = Member::start(identity(1), Config::default()).await;
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = mute.local_addr().unwrap();
    let nobody = a.rpc.node(node(2, 1), address).expect("there is room");
    let failed = nobody.call(to(ECHO, "x"), Duration::from_millis(50)).await;
    assert_eq!(failed, Err(CallError::NotSent));
}

/// Passes bytes on until it is ended.
async fn proxy(to: std::net::SocketAddr) -> (std::net::SocketAddr, tokio::task::AbortHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let passing = tokio::spawn(async move {
        loop {
            let (mut one, _) = listener.accept().await.unwrap();
            let mut other = TcpStream::connect(to).await.unwrap();
            let pair = tokio::io::copy_bidirectional(&mut one, &mut other);
            let _ = pair.await;
        }
    });
    let handle = passing.abort_handle();
    (address, handle)
}

#[tokio::test]
async fn a_peer_that_dies_fails_what_it_was_asked() {
    let (a, b) = pair(Config::default()).await;
    let (address, passing) = proxy(b.address).await;
    let call = a.rpc.node(b.id, address).expect("there is room");
    let waits = call.call(to(KEEP, "x"), LONG);
    let kept = until("it is kept", || !b.seen.kept.lock().unwrap().is_empty());
    let cut = async {
        kept.await;
        passing.abort(); // both connections break
    };
    let (lost, ()) = tokio::join!(waits, cut);
    assert_eq!(lost, Err(CallError::Lost));
    // The service sees that nobody waits.
    until("it is cancelled", || {
        !b.seen.kept.lock().unwrap()[0].is_wanted()
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_hangs_fails_calls_by_their_deadline() {
    let (a, b) = pair(Config::default()).await;
    let call = a.to(&b);
    call.call(to(ECHO, ""), LONG).await.expect("it lives");
    let began = Instant::now();
    let late = call.call(to(KEEP, "x"), Duration::from_millis(50)).await;
    assert_eq!(late, Err(CallError::Unknown));
    assert!(began.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn a_peer_that_comes_back_is_called_again() {
    let (a, b) = pair(Config::default()).await;
    let call = a.to(&b);
    call.call(to(ECHO, ""), LONG).await.expect("it lives");
    let (address, id) = (b.address, b.id);
    b.rpc.stop(Duration::ZERO).await;
    drop(b);
    let failed = call.call(to(ECHO, ""), LONG).await;
    assert!(failed.is_err());
    let again = Member::start_at(identity(2), Config::default(), address).await;
    assert_eq!(again.id, id);
    let began = Instant::now();
    while call.call(to(ECHO, ""), LONG).await.is_err() {
        assert!(began.elapsed() < LONG);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_node_that_stops_answers_what_it_was_asked() {
    let (a, b) = pair(Config::default()).await;
    let call = a.to(&b);
    let waits = call.call(to(KEEP, "x"), LONG);
    let seen = b.seen.clone();
    let stops = async {
        until("it is kept", || !seen.kept.lock().unwrap().is_empty()).await;
        let answers = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let reply = seen.kept.lock().unwrap().remove(0);
            reply.done(Body::payload("last"));
        };
        tokio::join!(b.rpc.stop(LONG), answers);
    };
    let (answer, ()) = tokio::join!(waits, stops);
    assert_eq!(answer, Ok(Body::payload("last")));
    let refused = call.call(to(ECHO, ""), LONG).await;
    assert!(refused.is_err());
    assert_eq!(b.numbers.gauge_of("bifrust_rpc_links accepted"), 0);
    // That was the peer's doing and in good order.
    assert_eq!(a.numbers.of("bifrust_rpc_link_faults"), 0);
}

#[tokio::test]
async fn only_so_many_links_and_handshakes_are_taken() {
    let config = Config {
        accepted_max: NonZeroU32::MIN,
        handshakes_max: NonZeroU32::new(2).unwrap(),
        ..Config::default()
    };
    let a = Member::start(identity(1), config).await;
    let b = Member::start(identity(2), Config::default()).await;
    let call = b.to(&a);
    assert!(call.call(to(ECHO, ""), LONG).await.is_ok());
    // Another link of the same peer is one too many.
    let urgent = Outgoing {
        priority: Priority::Consensus,
        ..to(ECHO, "")
    };
    assert_eq!(call.call(urgent, LONG).await, Err(CallError::Unreachable));
    assert_eq!(b.refusals()[0].reason(), Reason::Full);
    until("it is told", || !a.refusals().is_empty()).await;
    assert_eq!(a.refusals()[0].reason(), Reason::Full);
    // Those that say nothing are let go.
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(a.address).await.unwrap());
    }
    let full = "bifrust_rpc_refused full";
    until("they are counted", || a.numbers.of(full) >= 4).await;
}

#[tokio::test]
async fn a_hello_that_takes_too_long_is_ended() {
    let config = Config {
        hello_timeout: Duration::from_millis(50),
        ..Config::default()
    };
    let a = Member::start(identity(1), config).await;
    let _silent = TcpStream::connect(a.address).await.unwrap();
    let timeout = "bifrust_rpc_refused timeout";
    until("it is counted", || a.numbers.of(timeout) == 1).await;
}

#[tokio::test]
async fn a_node_that_is_forgotten_is_not_called() {
    let (a, b) = pair(Config::default()).await;
    let call = a.to(&b);
    call.call(to(ECHO, ""), LONG).await.expect("it lives");
    a.rpc.forget(b.id);
    let refused = call.call(to(ECHO, ""), LONG).await;
    assert_eq!(refused, Err(CallError::Unreachable));
    until("the link is gone", || {
        b.numbers.gauge_of("bifrust_rpc_links accepted") == 0
    })
    .await;
    // It may come again.
    assert!(a.to(&b).call(to(ECHO, ""), LONG).await.is_ok());
}
