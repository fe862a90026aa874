//! Frames written and read.

use bytes::{BufMut as _, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn blob(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn side() -> impl Strategy<Value = Side> {
    select(&[Side::Asking, Side::Answering][..])
}

fn priority() -> impl Strategy<Value = Priority> {
    select(&Priority::ALL[..])
}

fn call() -> impl Strategy<Value = Frame> {
    (
        select(&[Start::Request, Start::OneWay, Start::Open][..]),
        1..u64::MAX,
        priority(),
        any::<(u16, u32, u16)>(),
        any::<(u32, u32)>(),
        blob(40),
        blob(300),
    )
        .prop_map(|(start, id, priority, target, numbers, header, payload)| {
            let (service, instance, method) = target;
            let (timeout_ms, lane) = numbers;
            Frame::Call(Call {
                start,
                id,
                priority,
                target: Target {
                    service,
                    instance,
                    method,
                },
                timeout_ms,
                lane,
                total: u32::try_from(payload.len()).unwrap(),
                header,
                payload,
            })
        })
}

fn frame() -> impl Strategy<Value = Frame> {
    let answer = (1..u64::MAX, priority(), any::<u16>(), blob(40), blob(300)).prop_map(
        |(id, priority, status, header, payload)| {
            Frame::Answer(Answer {
                id,
                priority,
                status,
                total: u32::try_from(payload.len()).unwrap(),
                header,
                payload,
            })
        },
    );
    let part = (1..u64::MAX, side(), vec(any::<u8>(), 1..300)).prop_map(|(id, side, payload)| {
        Frame::Part {
            id,
            side,
            payload: payload.into(),
        }
    });
    let item =
        (1..u64::MAX, side(), blob(40), blob(300)).prop_map(|(id, side, header, payload)| {
            Frame::Item {
                id,
                side,
                header,
                payload,
            }
        });
    let end =
        (1..u64::MAX, side(), any::<u16>(), blob(40)).prop_map(|(id, side, status, header)| {
            Frame::End {
                id,
                side,
                status,
                header,
            }
        });
    let cancel = (1..u64::MAX, side(), any::<u16>()).prop_map(|(id, side, status)| Frame::Cancel {
        id,
        side,
        status,
    });
    let credit =
        (any::<u64>(), side(), priority(), 1..u32::MAX).prop_map(|(id, side, priority, bytes)| {
            Frame::Credit {
                id,
                side,
                priority,
                bytes,
            }
        });
    prop_oneof![
        call(),
        answer,
        part,
        item,
        end,
        cancel,
        credit,
        any::<u64>().prop_map(|id| Frame::Ping { id }),
        any::<u64>().prop_map(|id| Frame::Pong { id }),
        Just(Frame::Leave),
    ]
}

/// As version 1 writes it.
pub(super) fn bytes_of(frame: &Frame) -> BytesMut {
    let mut bytes = BytesMut::new();
    frame.write(&mut bytes);
    bytes
}

/// As a newer version would write it: with `extra` behind the fixed fields.
fn newer(frame: &Frame, extra: &[u8]) -> BytesMut {
    let bytes = bytes_of(frame);
    let fixed = frame.kind().fixed();
    let mut newer = BytesMut::new();
    newer.put_u32_le(u32::try_from(bytes.len() - 4 + extra.len()).unwrap());
    newer.extend_from_slice(&bytes[4..6]);
    newer.put_u8(u8::try_from(fixed + extra.len()).unwrap());
    newer.extend_from_slice(&bytes[7..HEAD + fixed]);
    newer.extend_from_slice(extra);
    newer.extend_from_slice(&bytes[HEAD + fixed..]);
    newer
}

fn read_all(mut bytes: BytesMut) -> Result<Vec<Frame>, FrameError> {
    let mut frames = Vec::new();
    while let Some(frame) = read(&mut bytes)? {
        frames.push(frame);
    }
    assert!(bytes.is_empty(), "{} bytes are left", bytes.len());
    Ok(frames)
}

proptest! {
    #[test]
    fn what_is_written_is_read(frames in vec(frame(), 0..8)) {
        let mut bytes = BytesMut::new();
        for frame in &frames {
            frame.write(&mut bytes);
        }
        prop_assert_eq!(read_all(bytes), Ok(frames));
    }

    #[test]
    fn a_frame_waits_for_its_last_byte(frame in frame()) {
        let bytes = bytes_of(&frame);
        for len in 0..bytes.len() {
            prop_assert_eq!(read(&mut BytesMut::from(&bytes[..len])), Ok(None));
        }
    }

    #[test]
    fn a_newer_version_is_read_by_this_one(
        frames in vec(frame(), 1..5),
        extra in vec(any::<u8>(), 0..40),
        unknown in MAY_SKIP..=u8::MAX,
    ) {
        let mut bytes = BytesMut::new();
        for frame in &frames {
            bytes.extend_from_slice(&newer(frame, &extra));
            // A kind that came later, with flags that came later.
            let mut later = newer(frame, &extra);
            later[4] = unknown;
            later[5] = 0xff;
            bytes.extend_from_slice(&later);
        }
        prop_assert_eq!(read_all(bytes), Ok(frames));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        crate::fuzz::check_frames(&bytes);
    }

    #[test]
    fn frames_with_a_wrong_byte_are_read_or_refused(
        frames in vec(frame(), 1..4),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = BytesMut::new();
        for frame in &frames {
            frame.write(&mut bytes);
        }
        let place = place.index(bytes.len());
        bytes[place] = byte;
        crate::fuzz::check_frames(&bytes);
    }
}

/// A small call, as bytes to spoil.
fn sample() -> BytesMut {
    bytes_of(&Frame::Call(Call {
        start: Start::Request,
        id: 7,
        priority: Priority::Data,
        target: Target::default(),
        timeout_ms: 100,
        lane: 0,
        total: 3,
        header: Bytes::from_static(b"head"),
        payload: Bytes::from_static(b"abc"),
    }))
}

fn spoilt(place: usize, byte: u8) -> Result<Option<Frame>, FrameError> {
    let mut bytes = sample();
    bytes[place] = byte;
    read(&mut bytes)
}

#[test]
fn what_is_wrong_is_named() {
    assert_eq!(spoilt(3, 1), Err(FrameError::Length(0x0100_0000 + 41)));
    let mut short = BytesMut::from(&11_u32.to_le_bytes()[..]);
    assert_eq!(read(&mut short), Err(FrameError::Length(11)));
    assert_eq!(spoilt(4, 0), Err(FrameError::Kind(0)));
    assert_eq!(spoilt(4, 13), Err(FrameError::Kind(13)));
    assert_eq!(spoilt(4, 200), Ok(None));
    assert_eq!(spoilt(5, 0b1000), Err(FrameError::Flags(1)));
    assert_eq!(spoilt(5, 0b100), Err(FrameError::Flags(1)));
    assert_eq!(spoilt(5, 0b11), Err(FrameError::Priority));
    assert_eq!(spoilt(6, 21), Err(FrameError::Short(1)));
    assert_eq!(spoilt(6, 255), Err(FrameError::Short(1)));
    assert_eq!(spoilt(7, 1), Err(FrameError::Flags(1)));
    assert_eq!(spoilt(8, 0), Err(FrameError::Id(1)));
    assert_eq!(spoilt(HEAD + 8, 8), Err(FrameError::Short(1)));
    assert_eq!(spoilt(HEAD + 18, 4), Err(FrameError::Room(1)));
    assert_eq!(spoilt(HEAD + 18, 2), Err(FrameError::Total(3, 2)));
}

#[test]
fn kinds_without_a_payload_have_none() {
    for frame in [
        Frame::Ping { id: 1 },
        Frame::Leave,
        Frame::Cancel {
            id: 1,
            side: Side::Asking,
            status: 0,
        },
        Frame::Credit {
            id: 0,
            side: Side::Asking,
            priority: Priority::Bulk,
            bytes: 1,
        },
        Frame::End {
            id: 1,
            side: Side::Answering,
            status: 0,
            header: Bytes::new(),
        },
    ] {
        let mut bytes = bytes_of(&frame);
        bytes[0] += 1;
        bytes.put_u8(0);
        let kind = frame.kind() as u8;
        assert_eq!(read(&mut bytes), Err(FrameError::Long(kind)));
    }
}

#[test]
fn one_frame_carries_so_much_and_no_more() {
    let mut frame = Frame::Part {
        id: 1,
        side: Side::Asking,
        payload: vec![1; PAYLOAD_MAX].into(),
    };
    assert_eq!(read_all(bytes_of(&frame)), Ok(vec![frame.clone()]));
    if let Frame::Part { payload, .. } = &mut frame {
        *payload = vec![1; PAYLOAD_MAX + 1].into();
    }
    let refused = Err(FrameError::Payload(PAYLOAD_MAX + 1));
    assert_eq!(read(&mut bytes_of(&frame)), refused);
}

#[test]
fn only_full_frames_are_followed_by_parts() {
    let answer = |len: usize| {
        Frame::Answer(Answer {
            id: 1,
            priority: Priority::Bulk,
            status: 0,
            total: 100_000,
            header: Bytes::new(),
            payload: vec![1; len].into(),
        })
    };
    let full = answer(PAYLOAD_MAX);
    assert_eq!(read_all(bytes_of(&full)), Ok(vec![full]));
    let refused = Err(FrameError::Room(Kind::Answer as u8));
    assert_eq!(read(&mut bytes_of(&answer(PAYLOAD_MAX - 1))), refused);
}
