//! Bytes on their way to a socket: encoded packets, and large payloads that are not copied.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use tokio::net::TcpStream;

/// Slices handed to one vectored write.
pub(super) const SLICES: usize = 16;

/// What is to be written, in order. Holds no memory while empty.
#[derive(Debug, Default)]
pub(crate) struct Out {
    /// Before `tail`; most connections never have it.
    front: Option<Box<Front>>,
    /// Packets are encoded to its end.
    pub(crate) tail: BytesMut,
}

#[derive(Debug, Default)]
struct Front {
    parts: VecDeque<Bytes>,
    len: usize,
}

impl Out {
    pub(crate) fn len(&self) -> usize {
        self.front.as_ref().map_or(0, |front| front.len) + self.tail.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends bytes without copying them.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        let head = self.tail.split().freeze();
        let front = self.front.get_or_insert_default();
        front.len += head.len() + bytes.len();
        if !head.is_empty() {
            front.parts.push_back(head);
        }
        front.parts.push_back(bytes);
    }

    /// Takes all there is, in order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Bytes> {
        let tail = std::mem::take(&mut self.tail).freeze();
        let front = self.front.take().map(|front| front.parts);
        front
            .unwrap_or_default()
            .into_iter()
            .chain(std::iter::once(tail))
            .filter(|bytes| !bytes.is_empty())
    }

    /// Writes as much as the socket takes; an error of kind `WouldBlock` leaves the rest here.
    pub(super) fn write_to(&mut self, stream: &TcpStream) -> io::Result<()> {
        while !self.is_empty() {
            let written = match &self.front {
                None => stream.try_write(&self.tail)?,
                Some(_) => {
                    let mut slices = [IoSlice::new(&[]); SLICES];
                    let used = self.fill(&mut slices);
                    stream.try_write_vectored(&slices[..used])?
                }
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.advance(written);
        }
        Ok(())
    }

    /// The beginning of what is there; returns how many slices it takes.
    pub(super) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut used = 0;
        if let Some(front) = &self.front {
            for bytes in front.parts.iter().take(SLICES - 1) {
                slices[used] = IoSlice::new(bytes);
                used += 1;
            }
            if front.parts.len() >= SLICES {
                return used;
            }
        }
        slices[used] = IoSlice::new(&self.tail);
        used + 1
    }

    pub(super) fn advance(&mut self, mut written: usize) {
        if let Some(front) = &mut self.front {
            while let Some(first) = front.parts.front_mut() {
                let step = first.len().min(written);
                first.advance(step);
                front.len -= step;
                written -= step;
                if !first.is_empty() {
                    return;
                }
                front.parts.pop_front();
            }
            self.front = None;
        }
        self.tail.advance(written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_around_bytes_that_are_not_copied() {
        let mut out = Out::default();
        out.tail.extend_from_slice(b"ab");
        out.push(Bytes::from_static(b"cd"));
        out.tail.extend_from_slice(b"ef");
        assert_eq!(out.len(), 6);
        out.advance(3);
        assert_eq!(out.len(), 3);
        out.advance(2);
        let rest: Vec<u8> = out.drain().flatten().collect();
        assert_eq!(rest, b"f");
        assert!(out.is_empty());
    }
}
