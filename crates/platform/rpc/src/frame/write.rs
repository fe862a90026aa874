//! Frames to bytes.

use bytes::{BufMut, Bytes, BytesMut};

use super::{ANSWERING, Answer, Call, Frame, HEAD, HEADER_MAX, Kind, Priority, Side};

impl Call {
    /// Bytes that [`write_head`](Self::write_head) appends.
    pub fn head_len(&self) -> usize {
        HEAD + Kind::Request.fixed() + self.header.len()
    }

    /// Appends all but the payload.
    #[inline]
    pub fn write_head(&self, out: &mut BytesMut) {
        let kind = self.start.kind();
        let rest = self.header.len() + self.payload.len();
        put_head(out, kind, self.priority as u8, self.id, rest);
        out.put_u32_le(self.target.instance);
        out.put_u16_le(self.target.service);
        out.put_u16_le(self.target.method);
        put_header_len(out, &self.header);
        out.put_u32_le(self.timeout_ms);
        out.put_u32_le(self.lane);
        out.put_u32_le(self.total);
        out.extend_from_slice(&self.header);
    }
}

impl Answer {
    /// Bytes that [`write_head`](Self::write_head) appends.
    pub fn head_len(&self) -> usize {
        HEAD + Kind::Answer.fixed() + self.header.len()
    }

    /// Appends all but the payload.
    #[inline]
    pub fn write_head(&self, out: &mut BytesMut) {
        let rest = self.header.len() + self.payload.len();
        let flags = self.priority as u8 | ANSWERING;
        put_head(out, Kind::Answer, flags, self.id, rest);
        out.put_u16_le(self.status);
        put_header_len(out, &self.header);
        out.put_u32_le(self.total);
        out.extend_from_slice(&self.header);
    }
}

impl Frame {
    /// Appends all but the payload. The header has at most [`HEADER_MAX`] bytes and the payload at
    /// most [`PAYLOAD_MAX`](super::PAYLOAD_MAX).
    pub fn write_head(&self, out: &mut BytesMut) {
        let kind = self.kind();
        match self {
            Self::Call(call) => call.write_head(out),
            Self::Answer(answer) => answer.write_head(out),
            Self::Part { id, side, payload } => {
                put_head(out, kind, side_flag(*side), *id, payload.len());
            }
            Self::Item {
                id,
                side,
                header,
                payload,
            } => {
                let rest = header.len() + payload.len();
                put_head(out, kind, side_flag(*side), *id, rest);
                put_header_len(out, header);
                out.extend_from_slice(header);
            }
            Self::End {
                id,
                side,
                status,
                header,
            } => {
                put_head(out, kind, side_flag(*side), *id, header.len());
                out.put_u16_le(*status);
                put_header_len(out, header);
                out.extend_from_slice(header);
            }
            Self::Cancel { id, side, status } => {
                put_head(out, kind, side_flag(*side), *id, 0);
                out.put_u16_le(*status);
            }
            Self::Credit {
                id,
                side,
                priority,
                bytes,
            } => {
                let flags = side_flag(*side) | *priority as u8;
                put_head(out, kind, flags, *id, 0);
                out.put_u32_le(*bytes);
            }
            Self::Ping { id } | Self::Pong { id } => put_head(out, kind, 0, *id, 0),
            Self::Leave => put_head(out, kind, 0, 0, 0),
        }
    }

    /// Appends the whole frame.
    pub fn write(&self, out: &mut BytesMut) {
        self.write_head(out);
        if let Some(payload) = self.payload() {
            out.extend_from_slice(payload);
        }
    }
}

fn side_flag(side: Side) -> u8 {
    match side {
        Side::Asking => Priority::Consensus as u8,
        Side::Answering => ANSWERING,
    }
}

#[inline]
fn put_head(out: &mut BytesMut, kind: Kind, flags: u8, id: u64, rest: usize) {
    let fixed = kind.fixed();
    out.reserve(HEAD + fixed + rest);
    let len = HEAD - 4 + fixed + rest;
    out.put_u32_le(u32::try_from(len).expect("frames are shorter than 4 GiB"));
    out.put_slice(&[kind as u8, flags, fixed as u8, 0]);
    out.put_u64_le(id);
}

fn put_header_len(out: &mut BytesMut, header: &Bytes) {
    debug_assert!(header.len() <= HEADER_MAX);
    out.put_u16_le(
        u16::try_from(header.len()).expect("headers are bounded by those who make them"),
    );
}
