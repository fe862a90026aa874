//! Streams between nodes, and within one.

use bifrust_rpc::{Body, CallError, Config, Status, Stream};
use bytes::Bytes;

use super::harness::*;

async fn opened(a: &Member, b: &Member) -> (Stream, Stream) {
    let own = a.to(b).open(to(0, "open")).expect("there is room");
    until("it is open", || !b.seen.streams.lock().unwrap().is_empty()).await;
    let theirs = b.seen.streams.lock().unwrap().remove(0);
    (own, theirs)
}

async fn streams_work(a: &Member, b: &Member) {
    let (own, theirs) = opened(a, b).await;
    let sends = async {
        for i in 0..200_u32 {
            let mut item = i.to_le_bytes().to_vec();
            item.resize(40_000, 7);
            own.send(Body::payload(item)).await.expect("it is open");
        }
        own.end(Status::DONE, Bytes::new()).await;
        own.next().await
    };
    let takes = async {
        let mut next = 0_u32;
        while let Some(item) = theirs.next().await.expect("it is open") {
            assert_eq!(item.payload[..4], next.to_le_bytes());
            assert_eq!(item.payload.len(), 40_000);
            next += 1;
        }
        theirs
            .send(Body::payload(next.to_le_bytes().to_vec()))
            .await
            .expect("half is open");
        theirs.end(Status::DONE, Bytes::new()).await;
    };
    let (answer, ()) = tokio::join!(sends, takes);
    assert_eq!(
        answer,
        Ok(Some(Body::payload(200_u32.to_le_bytes().to_vec())))
    );
    assert_eq!(own.next().await, Ok(None));
}

#[tokio::test]
async fn items_of_a_stream_arrive_in_order_and_it_ends() {
    let (a, b) = pair(Config::default()).await;
    streams_work(&a, &b).await;
    streams_work(&a, &a).await;
}

#[tokio::test]
async fn a_writer_waits_for_its_reader() {
    let (a, b) = pair(Config::default()).await;
    for other in [&b, &a] {
        let (own, theirs) = opened(&a, other).await;
        let mut sent = 0;
        let item = Body::payload(vec![1; 50_000]);
        let pause = std::time::Duration::from_millis(300);
        while tokio::time::timeout(pause, own.send(item.clone()))
            .await
            .is_ok()
        {
            sent += 1;
            assert!(sent < 100);
        }
        assert!(sent > 0);
        theirs.next().await.expect("it is open");
        let rest = async {
            for _ in 1..sent {
                theirs.next().await.expect("it is open");
            }
        };
        let (sent, ()) = tokio::join!(own.send(item), rest);
        assert_eq!(sent, Ok(()));
    }
}

#[tokio::test]
async fn who_drops_a_stream_ends_it_for_both() {
    let (a, b) = pair(Config::default()).await;
    for other in [&b, &a] {
        let (own, theirs) = opened(&a, other).await;
        drop(theirs);
        assert!(own.next().await.is_err());
        let (own, theirs) = opened(&a, other).await;
        drop(own);
        assert!(theirs.next().await.is_err());
    }
}

#[tokio::test]
async fn a_stream_to_no_service_says_so() {
    let (a, b) = pair(Config::default()).await;
    let mut nowhere = to(0, "open");
    nowhere.target.service = 99;
    let stream = a.to(&b).open(nowhere).expect("there is room");
    let status = Status::NO_SERVICE;
    let header = Bytes::new();
    assert_eq!(
        stream.next().await,
        Err(CallError::Refused { status, header })
    );
}
