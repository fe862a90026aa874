//! What must hold for any bytes: the checks of the fuzzer.

use bytes::BytesMut;

use crate::frame::{self, FRAME_MAX, Frame, FrameError};

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
