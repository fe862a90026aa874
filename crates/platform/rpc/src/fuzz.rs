//! What must hold for any bytes: the checks of the fuzzer.

use std::collections::VecDeque;

use bifrust_cluster::{ClusterKey, Incarnation, NodeId, NodeRef};
use bytes::BytesMut;

use crate::error::Status;
use crate::frame::{self, FRAME_MAX, Frame, FrameError};
use crate::hello::{self, Handshake, Identity, Role, Versions};
use crate::link::{Body, Bounds, Effect, Limits, Link, Outgoing};

/// Frames are the same however the bytes are cut into pieces, and what is read is written and read
/// again to the same.
pub fn check_frames(bytes: &[u8]) {
    let (frames, end) = read_all(bytes, bytes.len().max(1));
    let piece = bytes.first().map_or(1, |first| usize::from(*first) + 1);
    assert_eq!(read_all(bytes, piece), (frames.clone(), end));
    let mut written = BytesMut::new();
    for frame in &frames {
        frame.write(&mut written);
    }
    // A newer version's fields and frames are left out, so it may be shorter.
    assert!(written.len() <= bytes.len());
    let (again, end) = read_all(&written, written.len().max(1));
    assert_eq!((again, end), (frames, None));
}

fn read_all(bytes: &[u8], piece: usize) -> (Vec<Frame>, Option<FrameError>) {
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match frame::read(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(buffer.len() < FRAME_MAX);
    }
    (frames, None)
}

/// Whatever a peer sends, a link holds no more than it said it takes.
pub fn check_link(bytes: &[u8]) {
    let limits = Limits {
        requests: 4,
        streams: 2,
        ..Limits::default()
    };
    let bounds = Bounds {
        limits,
        ..Bounds::default()
    };
    let mut link = Link::new(bounds);
    let mut effects = Vec::new();
    link.connect(0, &limits, &mut effects);
    // Things that the peer can speak of.
    let _ = link.request(0, 1_000, Outgoing::default(), 1);
    let _ = link.open(0, Outgoing::default());
    let mut buffer = BytesMut::from(bytes);
    let received = link.receive(1, &mut buffer, &mut effects);
    assert!(link.held_bytes() <= limits.memory_max());
    for effect in effects {
        if let Effect::Request(asked) = effect {
            let body = Body::default();
            link.answer(asked.id, asked.priority, asked.cost, Status::DONE, body);
        }
    }
    let mut out = VecDeque::new();
    while link.has_output() {
        link.take(1 << 16, &mut out);
    }
    if received.is_err() {
        link.disconnect(&mut Vec::new());
    }
    let mut ended = Vec::new();
    let _ = link.tick(2_000, &mut ended);
}

/// Whatever is said first, nobody is let in by it, and nothing beyond it is read.
pub fn check_hello(bytes: &[u8]) {
    for role in [Role::Listener, Role::Dialler(None)] {
        let identity = Identity {
            node: NodeRef {
                id: NodeId(1),
                incarnation: Incarnation(1),
            },
            cluster: None,
            versions: Versions::OWN,
            limits: Limits::default(),
            key: ClusterKey::new("0123456789abcdef").expect("it is long enough"),
        };
        hello::check(bytes, Handshake::new(role, identity, [7; 32], None));
    }
}
