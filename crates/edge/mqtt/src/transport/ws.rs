//! MQTT in WebSocket frames (section 6 of the standard), without the socket: bytes in, bytes out.

mod upgrade;

use std::io;
use std::net::{IpAddr, SocketAddr};

use bifrust_model::EventKind;
use bytes::{Buf, BytesMut};
use tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tungstenite::{Error, WebSocket};

use self::upgrade::{Status, Upgrade};
use super::{Out, Refusal};
use crate::config::Listener;
use crate::fault::{Fault, planted};
use crate::metrics::Refused;

/// Bytes that go from memory to memory at once; an idle connection keeps room for as many.
const READ_STEP: usize = 256;
/// What frames may add around a packet.
const FRAMING_ROOM: usize = 16;

/// One WebSocket, without its socket.
pub(super) struct Ws {
    state: State,
    /// Bytes for the socket that no frame carries: answers of HTTP, the last Close frame.
    answer: BytesMut,
    /// The largest MQTT packet that the peer may send.
    packet_max: usize,
}

enum State {
    /// The request, as far as it has come.
    Request(BytesMut),
    Open(Box<WebSocket<Pipe>>),
    Ended,
}

/// What came of bytes that were fed.
pub(super) enum Fed {
    /// More may come. Perhaps a proxy has said who the client is.
    More(Option<SocketAddr>),
    /// The peer has closed the WebSocket.
    Closed,
    Refused(Refusal),
}

/// Both directions of the socket, in memory.
#[derive(Debug, Default)]
struct Pipe {
    input: BytesMut,
    output: BytesMut,
}

impl io::Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = buffer.len().min(self.input.len());
        self.input.copy_to_slice(&mut buffer[..n]);
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        Ok(n)
    }
}

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Ws {
    /// One whose first packet has `packet_max` bytes at most.
    pub(super) fn new(packet_max: usize) -> Self {
        Self {
            state: State::Request(BytesMut::new()),
            answer: BytesMut::new(),
            packet_max,
        }
    }

    pub(super) fn limit(&mut self, packet_max: usize) {
        self.packet_max = packet_max;
        if let State::Open(ws) = &mut self.state {
            ws.set_config(|config| *config = bounded(*config, packet_max));
        }
    }

    pub(super) fn unwritten(&self) -> usize {
        let framed = match &self.state {
            State::Open(ws) => ws.get_ref().output.len(),
            State::Request(_) | State::Ended => 0,
        };
        self.answer.len() + framed
    }

    /// What is to be written next.
    pub(super) fn output(&mut self) -> &mut BytesMut {
        match &mut self.state {
            State::Open(ws) if self.answer.is_empty() => &mut ws.get_mut().output,
            _ => &mut self.answer,
        }
    }

    /// Bytes of the socket in, bytes of MQTT to `decoded`.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        decoded: &mut BytesMut,
        listener: &Listener,
        peer: IpAddr,
    ) -> Fed {
        match &mut self.state {
            State::Request(request) => {
                request.extend_from_slice(bytes);
                match upgrade::judge(request, listener, peer) {
                    Upgrade::Partial => Fed::More(None),
                    Upgrade::Refused(status) => self.refuse(status),
                    Upgrade::Accepted {
                        len,
                        answer,
                        source,
                    } => {
                        let mut input = std::mem::take(request);
                        input.advance(len);
                        self.answer.extend_from_slice(answer.as_bytes());
                        self.open(input);
                        match self.read_frames(decoded) {
                            Fed::More(_) => Fed::More(source),
                            fed => fed,
                        }
                    }
                }
            }
            State::Open(ws) => {
                ws.get_mut().input.extend_from_slice(bytes);
                self.read_frames(decoded)
            }
            State::Ended => Fed::Closed,
        }
    }

    fn open(&mut self, input: BytesMut) {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_STEP)
            .write_buffer_size(0);
        let config = bounded(config, self.packet_max);
        let pipe = Pipe {
            input,
            output: BytesMut::new(),
        };
        let socket = WebSocket::from_raw_socket(pipe, Role::Server, Some(config));
        self.state = State::Open(Box::new(socket));
    }

    fn refuse(&mut self, status: Status) -> Fed {
        self.answer.extend_from_slice(status.answer().as_bytes());
        self.state = State::Ended;
        let (why, event) = match status {
            Status::Forbidden(_) => (Refused::Forbidden, EventKind::NotAuthorizedClient),
            _ => (Refused::Http, EventKind::ProtocolError),
        };
        Fed::Refused(Refusal {
            why,
            event,
            detail: status.detail().into(),
        })
    }

    fn read_frames(&mut self, decoded: &mut BytesMut) -> Fed {
        let State::Open(ws) = &mut self.state else {
            return Fed::Closed;
        };
        // RFC 6455, 7.4.1.
        let (code, detail) = loop {
            match ws.read() {
                Ok(Message::Binary(bytes)) if cfg!(planted_bugs) => {
                    *decoded = BytesMut::from(&bytes[..]);
                }
                Ok(Message::Binary(bytes)) => decoded.extend_from_slice(&bytes),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Fed::More(None);
                }
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                    // The answer to the peer's Close is in memory then, or was sent before.
                    let _ = ws.flush();
                    self.answer
                        .unsplit(std::mem::take(&mut ws.get_mut().output));
                    self.state = State::Ended;
                    return Fed::Closed;
                }
                Ok(Message::Text(text)) if planted(Fault::TextFrameTaken) => {
                    decoded.extend_from_slice(text.as_bytes());
                }
                // MQTT-6.0.0-1.
                Ok(Message::Text(_)) | Err(Error::Utf8(_)) => {
                    break (1003_u16, "a WebSocket text frame".to_owned());
                }
                Err(Error::Capacity(error)) => break (1009, error.to_string()),
                Err(error) => break (1002, error.to_string()),
            }
        };
        self.answer
            .unsplit(std::mem::take(&mut ws.get_mut().output));
        let [high, low] = code.to_be_bytes();
        self.answer.extend_from_slice(&[0x88, 2, high, low]);
        self.state = State::Ended;
        Fed::Refused(Refusal {
            why: Refused::WebSocket,
            event: EventKind::ProtocolViolation,
            detail: format!("WebSocket {code}: {detail}").into(),
        })
    }

    /// Frames what `out` holds.
    pub(super) fn frame(&mut self, out: &mut Out) -> io::Result<()> {
        match &mut self.state {
            State::Open(ws) => {
                for bytes in out.drain() {
                    let written = ws.write(Message::Binary(bytes));
                    written.map_err(io::Error::other)?;
                }
            }
            // After a Close frame nothing may follow (RFC 6455, 5.5.1), and nothing goes before the
            // handshake: what is left has no way out, and would be tried for ever.
            State::Request(_) | State::Ended => out.drain().for_each(drop),
        }
        Ok(())
    }

    /// Says why nothing more comes (RFC 6455, 7.4.1).
    pub(super) fn close(&mut self, code: u16) {
        if let State::Open(ws) = &mut self.state {
            let frame = CloseFrame {
                code: code.into(),
                reason: "".into(),
            };
            let _ = ws.close(Some(frame)); // the socket closes in any case
        }
    }
}

/// A message may hold a packet of this size, and hardly more.
fn bounded(config: WebSocketConfig, packet_max: usize) -> WebSocketConfig {
    let most = Some(packet_max + FRAMING_ROOM);
    config.max_message_size(most).max_frame_size(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListenerKind;

    const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    fn fed(ws: &mut Ws, bytes: &[u8]) -> Fed {
        let peer = IpAddr::from([127, 0, 0, 1]);
        let listener = Listener::new(ListenerKind::Ws, (peer, 0).into());
        ws.feed(bytes, &mut BytesMut::new(), &listener, peer)
    }

    #[test]
    fn a_frame_is_as_large_as_the_packet_may_be_from_the_first_one_on() {
        let frame = |len: usize| [&[0x82, 0x80 | len as u8][..], &[0; 4], &vec![1; len]].concat();
        // Two halves of a message are no better.
        let half = |first: u8, len: usize| {
            let mut frame = frame(len);
            frame[0] = first;
            frame
        };
        let halves = [half(0x02, 60), half(0x80, 57)].concat();
        for (bytes, is_taken) in [
            (frame(100 + FRAMING_ROOM), true),
            (frame(101 + FRAMING_ROOM), false),
            (frame(101 + FRAMING_ROOM)[..2].to_vec(), true),
            (frame(101 + FRAMING_ROOM)[..6].to_vec(), false),
            (halves, false),
        ] {
            for with_request in [true, false] {
                let mut ws = Ws::new(100);
                let fed = match with_request {
                    true => fed(&mut ws, &[REQUEST, &bytes].concat()),
                    false => {
                        assert!(matches!(fed(&mut ws, REQUEST), Fed::More(_)));
                        fed(&mut ws, &bytes)
                    }
                };
                assert_eq!(matches!(fed, Fed::More(_)), is_taken, "{bytes:02x?}");
                assert_eq!(matches!(fed, Fed::Refused(_)), !is_taken, "{bytes:02x?}");
            }
        }
    }

    #[test]
    fn a_close_right_behind_the_request_is_answered_behind_the_handshake() {
        let mut bytes = REQUEST.to_vec();
        bytes.extend([0x88, 0x80, 1, 2, 3, 4]);
        let mut ws = Ws::new(1 << 20);
        assert!(matches!(fed(&mut ws, &bytes), Fed::Closed));
        let answer = ws.output();
        assert!(answer.starts_with(b"HTTP/1.1 101 ") && answer.ends_with(&[0x88, 0]));
    }
}
