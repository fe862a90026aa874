//! MQTT in WebSocket frames (section 6 of the standard): the protocol runs over memory, this file
//! moves the bytes.

use std::io;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::net::TcpStream;
use tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response, ServerHandshake};
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::http::{HeaderValue, StatusCode};
use tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tungstenite::{Error, WebSocket};

use super::{Out, Read, read_stream};

/// Paths that are served.
const PATHS: [&str; 2] = ["/mqtt", "/"];
/// Sub-protocols that are spoken (MQTT-6.0.0-3); the second is an old name of the first.
const PROTOCOLS: [&str; 3] = ["mqtt", "mqttv3.1.1", "mqttv3.1"];
/// The largest message before the client is let in.
const FIRST_MESSAGE_MAX: usize = 1 << 20;
/// What frames may add around a packet.
const FRAMING_ROOM: usize = 16;

/// One WebSocket, without its socket.
pub(super) struct Ws {
    state: State,
    /// MQTT bytes taken out of frames and not read yet.
    decoded: BytesMut,
    /// Bytes for the socket after the handshake failed.
    farewell: BytesMut,
}

enum State {
    Handshake(MidHandshake<ServerHandshake<Pipe, Check>>),
    Open(WebSocket<Pipe>),
    Ended,
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

/// Accepts a path and a sub-protocol.
struct Check;

impl Callback for Check {
    fn on_request(
        self,
        request: &Request,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        if !PATHS.contains(&request.uri().path()) {
            return Err(refusal(StatusCode::NOT_FOUND));
        }
        let offered = request
            .headers()
            .get_all("Sec-WebSocket-Protocol")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .find(|offered| PROTOCOLS.contains(offered));
        let Some(protocol) = offered else {
            return Err(refusal(StatusCode::BAD_REQUEST));
        };
        let Ok(protocol) = HeaderValue::from_str(protocol) else {
            return Err(refusal(StatusCode::BAD_REQUEST));
        };
        let headers = response.headers_mut();
        headers.insert("Sec-WebSocket-Protocol", protocol);
        Ok(response)
    }
}

fn refusal(status: StatusCode) -> ErrorResponse {
    let mut response = ErrorResponse::new(None);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("Connection", HeaderValue::from_static("close"));
    headers.insert("Content-Length", HeaderValue::from_static("0"));
    response
}

impl Ws {
    pub(super) fn new() -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(4096)
            .write_buffer_size(0)
            .max_message_size(Some(FIRST_MESSAGE_MAX + FRAMING_ROOM))
            .max_frame_size(Some(FIRST_MESSAGE_MAX + FRAMING_ROOM));
        let handshake = ServerHandshake::start(Pipe::default(), Check, Some(config));
        Self {
            state: State::Handshake(handshake),
            decoded: BytesMut::new(),
            farewell: BytesMut::new(),
        }
    }

    pub(super) fn limit(&mut self, max: usize) {
        if let State::Open(ws) = &mut self.state {
            ws.set_config(|config| {
                config.max_message_size = Some(max + FRAMING_ROOM);
                config.max_frame_size = Some(max + FRAMING_ROOM);
            });
        }
    }

    pub(super) fn unwritten(&self) -> usize {
        match &self.state {
            State::Handshake(handshake) => handshake.get_ref().get_ref().output.len(),
            State::Open(ws) => ws.get_ref().output.len(),
            State::Ended => self.farewell.len(),
        }
    }

    pub(super) fn poll_read(
        &mut self,
        stream: &mut TcpStream,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<Read>> {
        if self.decoded.is_empty() {
            if matches!(self.state, State::Ended) {
                return Poll::Ready(Ok(Read::End));
            }
            match read_stream(stream, context, buffer) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Read::End)),
                Poll::Ready(Ok(n)) => self.feed(&buffer[..n]),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        let n = buffer.len().min(self.decoded.len());
        self.decoded.copy_to_slice(&mut buffer[..n]);
        if self.decoded.is_empty() {
            self.decoded = BytesMut::new();
        }
        Poll::Ready(Ok(Read::Bytes(n)))
    }

    /// Bytes of the socket in, bytes of MQTT to `decoded`.
    fn feed(&mut self, bytes: &[u8]) {
        self.state = match std::mem::replace(&mut self.state, State::Ended) {
            State::Handshake(mut handshake) => {
                let input = &mut handshake.get_mut().get_mut().input;
                input.extend_from_slice(bytes);
                self.shake(handshake)
            }
            State::Open(mut ws) => {
                ws.get_mut().input.extend_from_slice(bytes);
                self.read_frames(ws)
            }
            State::Ended => State::Ended,
        };
    }

    fn shake(&mut self, handshake: MidHandshake<ServerHandshake<Pipe, Check>>) -> State {
        match handshake.handshake() {
            Ok(ws) => self.read_frames(ws),
            Err(HandshakeError::Interrupted(handshake)) => State::Handshake(handshake),
            Err(HandshakeError::Failure(error)) => {
                // The pipe is gone with the answer in it, so the answer is written here.
                let status = match error {
                    Error::Http(response) => response.status(),
                    _ => StatusCode::BAD_REQUEST,
                };
                let answer =
                    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                self.farewell.extend_from_slice(answer.as_bytes());
                State::Ended
            }
        }
    }

    fn read_frames(&mut self, mut ws: WebSocket<Pipe>) -> State {
        loop {
            match ws.read() {
                Ok(Message::Binary(bytes)) => self.decoded.extend_from_slice(&bytes),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return State::Open(ws);
                }
                // MQTT-6.0.0-1: anything but binary frames ends the connection.
                Ok(Message::Text(_) | Message::Close(_)) | Err(_) => {
                    // Nothing is to be saved if even that cannot be written to memory.
                    let _ = ws.close(None);
                    self.farewell = std::mem::take(&mut ws.get_mut().output);
                    return State::Ended;
                }
            }
        }
    }

    /// Frames what `out` holds and writes as much as the socket takes.
    pub(super) fn write(&mut self, stream: &TcpStream, out: &mut Out) -> io::Result<()> {
        self.write_output(stream)?;
        match &mut self.state {
            State::Open(ws) => {
                for bytes in out.drain() {
                    let written = ws.write(Message::Binary(bytes));
                    written.map_err(io::Error::other)?;
                }
            }
            // After a Close frame nothing may follow (RFC 6455, 5.5.1), and nothing goes before the
            // handshake: what is left has no way out, and would be tried for ever.
            State::Handshake(_) | State::Ended => out.drain().for_each(drop),
        }
        self.write_output(stream)
    }

    fn write_output(&mut self, stream: &TcpStream) -> io::Result<()> {
        let output = match &mut self.state {
            State::Handshake(handshake) => &mut handshake.get_mut().get_mut().output,
            State::Open(ws) => &mut ws.get_mut().output,
            State::Ended => &mut self.farewell,
        };
        while !output.is_empty() {
            let written = stream.try_write(output)?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            output.advance(written);
        }
        *output = BytesMut::new();
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
