//! Bytes to frames. Nothing is copied and nothing allocated: a frame's bytes are slices.

use bytes::{Buf, Bytes, BytesMut};

use super::{
    ANSWERING, Answer, Call, FRAME_MAX, Frame, FrameError, HEAD, Kind, MAY_SKIP, PAYLOAD_MAX,
    PRIORITY_BITS, Priority, Side, Start,
};

/// The fields that follow the length.
struct Head {
    number: u8,
    kind: Kind,
    flags: u8,
    id: u64,
}

/// Takes the first frame out of `buffer`; `None` if the rest of it is still to come. Frames of
/// unknown kinds that may be skipped are.
pub fn read(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    loop {
        let Some(len) = buffer.first_chunk::<4>().copied().map(u32::from_le_bytes) else {
            return Ok(None);
        };
        let whole = usize::try_from(len).unwrap_or(usize::MAX);
        let whole = whole.saturating_add(4);
        if !(HEAD..=FRAME_MAX).contains(&whole) {
            return Err(FrameError::Length(len));
        }
        if buffer.len() < whole {
            return Ok(None);
        }
        let mut rest = buffer.split_to(whole).freeze();
        rest.advance(4);
        if let Some(frame) = read_whole(rest)? {
            return Ok(Some(frame));
        }
    }
}

/// A frame without its length; `None` if it is to be skipped.
#[inline]
fn read_whole(mut rest: Bytes) -> Result<Option<Frame>, FrameError> {
    let [number, flags, fixed, reserved] = rest.get_u32_le().to_le_bytes();
    let id = rest.get_u64_le();
    let kind = match Kind::of(number) {
        Some(kind) => kind,
        None if number & MAY_SKIP != 0 => return Ok(None),
        None => return Err(FrameError::Kind(number)),
    };
    let head = Head {
        number,
        kind,
        flags,
        id,
    };
    if flags & !(PRIORITY_BITS | ANSWERING) != 0 || reserved != 0 {
        return Err(FrameError::Flags(number));
    }
    let fixed = usize::from(fixed);
    if fixed < kind.fixed() || (rest.len() < fixed && !cfg!(planted_bugs)) {
        return Err(FrameError::Short(number));
    }
    // The fields of this version; what a newer one added behind them is stepped over.
    let mut fields = [0; 22];
    let fields = &mut fields[..kind.fixed()];
    fields.copy_from_slice(&rest[..kind.fixed()]);
    rest.advance(fixed);
    let frame = read_body(&head, fields, rest)?;
    check(&head, &frame)?;
    Ok(Some(frame))
}

fn read_body(head: &Head, mut fields: &[u8], mut rest: Bytes) -> Result<Frame, FrameError> {
    let id = head.id;
    Ok(match head.kind {
        Kind::Request => Frame::Call(read_call(head, Start::Request, fields, rest)?),
        Kind::OneWay => Frame::Call(read_call(head, Start::OneWay, fields, rest)?),
        Kind::Open => Frame::Call(read_call(head, Start::Open, fields, rest)?),
        Kind::Answer => {
            let status = fields.get_u16_le();
            let header_len = fields.get_u16_le();
            let total = fields.get_u32_le();
            if head.side() != Side::Answering {
                return Err(FrameError::Flags(head.number));
            }
            Frame::Answer(Answer {
                id,
                priority: head.priority()?,
                status,
                total,
                header: take_header(head, &mut rest, header_len)?,
                payload: rest,
            })
        }
        Kind::Part => Frame::Part {
            id,
            side: head.side_alone()?,
            payload: rest,
        },
        Kind::Item => Frame::Item {
            id,
            side: head.side_alone()?,
            header: take_header(head, &mut rest, fields.get_u16_le())?,
            payload: rest,
        },
        Kind::End => {
            let status = fields.get_u16_le();
            let header = take_header(head, &mut rest, fields.get_u16_le())?;
            let side = head.side_alone()?;
            head.nothing_behind(&rest)?;
            Frame::End {
                id,
                side,
                status,
                header,
            }
        }
        Kind::Cancel => {
            head.nothing_behind(&rest)?;
            Frame::Cancel {
                id,
                side: head.side_alone()?,
                status: fields.get_u16_le(),
            }
        }
        Kind::Credit => {
            head.nothing_behind(&rest)?;
            Frame::Credit {
                id,
                side: head.side(),
                priority: head.priority()?,
                bytes: fields.get_u32_le(),
            }
        }
        Kind::Ping | Kind::Pong | Kind::Leave => {
            head.nothing_behind(&rest)?;
            head.no_flags()?;
            match head.kind {
                Kind::Ping => Frame::Ping { id },
                Kind::Pong => Frame::Pong { id },
                _ => Frame::Leave,
            }
        }
    })
}

#[inline]
fn read_call(
    head: &Head,
    start: Start,
    mut fields: &[u8],
    mut rest: Bytes,
) -> Result<Call, FrameError> {
    let target = super::Target {
        instance: fields.get_u32_le(),
        service: fields.get_u16_le(),
        method: fields.get_u16_le(),
    };
    let header_len = fields.get_u16_le();
    if head.side() != Side::Asking {
        return Err(FrameError::Flags(head.number));
    }
    Ok(Call {
        start,
        id: head.id,
        priority: head.priority()?,
        target,
        timeout_ms: fields.get_u32_le(),
        lane: fields.get_u32_le(),
        total: fields.get_u32_le(),
        header: take_header(head, &mut rest, header_len)?,
        payload: rest,
    })
}

/// What holds between the fields of a frame.
fn check(head: &Head, frame: &Frame) -> Result<(), FrameError> {
    let payload = frame.payload().map_or(0, Bytes::len);
    if payload > PAYLOAD_MAX {
        return Err(FrameError::Payload(payload));
    }
    let total = match frame {
        Frame::Call(call) => Some(call.total),
        Frame::Answer(answer) => Some(answer.total),
        _ => None,
    };
    let missing = match total {
        Some(total) => u64::from(total).checked_sub(payload as u64),
        None => Some(0),
    };
    let Some(missing) = missing else {
        return Err(FrameError::Total(payload, total.unwrap_or_default()));
    };
    let has_parts = missing > 0;
    if has_parts && payload < PAYLOAD_MAX {
        return Err(FrameError::Room(head.number));
    }
    let is_named = match frame {
        Frame::Call(call) => call.start != Start::OneWay || has_parts,
        Frame::Credit { .. } | Frame::Ping { .. } | Frame::Pong { .. } | Frame::Leave => false,
        _ => true,
    };
    if is_named && head.id == 0 {
        return Err(FrameError::Id(head.number));
    }
    match frame {
        Frame::Part { payload, .. } if payload.is_empty() => Err(FrameError::Empty(head.number)),
        Frame::Credit { bytes: 0, .. } => Err(FrameError::Empty(head.number)),
        _ => Ok(()),
    }
}

impl Head {
    #[inline]
    fn priority(&self) -> Result<Priority, FrameError> {
        let index = usize::from(self.flags & PRIORITY_BITS);
        Priority::ALL
            .get(index)
            .copied()
            .ok_or(FrameError::Priority)
    }

    fn side(&self) -> Side {
        match self.flags & ANSWERING {
            0 => Side::Asking,
            _ => Side::Answering,
        }
    }

    /// For kinds without a priority.
    fn side_alone(&self) -> Result<Side, FrameError> {
        match self.flags & PRIORITY_BITS {
            0 => Ok(self.side()),
            _ => Err(FrameError::Flags(self.number)),
        }
    }

    fn no_flags(&self) -> Result<(), FrameError> {
        match self.flags {
            0 => Ok(()),
            _ => Err(FrameError::Flags(self.number)),
        }
    }

    fn nothing_behind(&self, rest: &Bytes) -> Result<(), FrameError> {
        match rest.is_empty() {
            true => Ok(()),
            false => Err(FrameError::Long(self.number)),
        }
    }
}

#[inline]
fn take_header(head: &Head, rest: &mut Bytes, len: u16) -> Result<Bytes, FrameError> {
    let len = usize::from(len);
    if rest.len() < len {
        return Err(FrameError::Short(head.number));
    }
    if len == 0 {
        return Ok(Bytes::new());
    }
    Ok(rest.split_to(len))
}
