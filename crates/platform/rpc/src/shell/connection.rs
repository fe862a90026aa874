//! One connection: its hello, and the turns of reading and writing after it.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bifrust_cluster::NodeRef;
use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::wire::{Read, Wire};
use super::{Shared, Surroundings, Waiter};
use crate::error::LinkError;
use crate::hello::{Handshake, Identity, NONCE_BYTES, Peer, Reason, Refusal, Role};
use crate::link::Effect;
use crate::tls;

/// Bytes that are taken out of a link for one turn of writing: what is urgent waits for no more.
const TURN: usize = 256 << 10;

/// What is read of a peer after the end, and for how long.
const DRAINED_MAX: usize = 1 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Turns before other tasks of the thread have theirs.
const TURNS: usize = 8;

pub(super) struct Connection {
    wire: Wire,
    input: BytesMut,
    out: VecDeque<Bytes>,
    timer: Pin<Box<Sleep>>,
    timer_ms: u64,
}

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// One of both sides closed it.
    Closed,
    /// It broke.
    Lost(io::Error),
    /// The peer broke a rule.
    Fault(LinkError),
}

impl Connection {
    pub(super) fn new(stream: TcpStream, tls: Option<rustls::Connection>) -> Self {
        Self {
            wire: Wire::new(stream, tls),
            input: BytesMut::new(),
            out: VecDeque::new(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            timer_ms: u64::MAX,
        }
    }

    /// Both ends say who they are. What is refused is told the peer before this returns.
    pub(super) async fn shake(&mut self, role: Role, identity: Identity) -> Result<Peer, Refusal> {
        self.shake_tls().await?;
        let binding = match self.wire.tls() {
            Some(connection) => Some(tls::binding(connection).map_err(refused_tls)?),
            None => None,
        };
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)
            .map_err(|error| Refusal::own(Reason::Malformed, format!("no nonce: {error}")))?;
        let mut handshake = Handshake::new(role, identity, nonce, binding);
        let mut said = BytesMut::new();
        handshake.start(&mut said);
        loop {
            let handled = handshake.handle(&mut self.input, &mut said);
            self.out.push_back(said.split().freeze());
            self.out.retain(|bytes| !bytes.is_empty());
            let written = self.flush().await;
            if let Some(peer) = handled? {
                written.map_err(refused_io)?;
                return Ok(peer);
            }
            written.map_err(refused_io)?;
            if self.read().await.map_err(refused_io)? == Read::End {
                return Err(Refusal::own(
                    Reason::Malformed,
                    "the peer hung up before it said who it is",
                ));
            }
        }
    }

    async fn shake_tls(&mut self) -> Result<(), Refusal> {
        while self.wire.is_handshaking() {
            self.flush().await.map_err(refused_tls)?;
            if !self.wire.is_handshaking() {
                break;
            }
            match self.read().await {
                Ok(Read::End) => return Err(refused_tls("the peer hung up")),
                Ok(_) => {}
                Err(error) => {
                    let _ = self.flush().await; // the alert
                    return Err(refused_tls(error));
                }
            }
        }
        self.flush().await.map_err(refused_tls)
    }

    async fn read(&mut self) -> io::Result<Read> {
        poll_fn(|context| self.wire.poll_read(context, &mut self.input)).await
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|context| self.wire.poll_write(context, &mut self.out)).await
    }

    /// Tells the peer why it is not let in.
    pub(super) async fn refuse(&mut self, reason: Reason, text: &str) {
        let mut said = BytesMut::new();
        crate::hello::refuse(reason, text, &mut said);
        self.out.push_back(said.freeze());
        let _ = self.flush().await; // it may be gone
    }

    /// Tells the peer that nobody is let in.
    pub(super) async fn refuse_all(&mut self, text: &str) -> Result<Peer, Refusal> {
        self.shake_tls().await?;
        self.refuse(Reason::Full, text).await;
        Err(Refusal::own(Reason::Full, text))
    }

    /// Ends in good order: what the peer sends still is read and forgotten for a while, since the
    /// system would take back what was written to a peer otherwise.
    pub(super) async fn close(&mut self) {
        self.wire.close();
        if self.wire.shutdown().await.is_err() {
            return;
        }
        let drained = async {
            let mut left = DRAINED_MAX;
            while left > 0 {
                match self.read().await {
                    Ok(Read::End) | Err(_) => return,
                    Ok(_) => left = left.saturating_sub(self.input.len()),
                }
                self.input.clear();
            }
        };
        let _ = tokio::time::timeout(DRAIN_TIME, drained).await;
    }

    /// Serves a link until the connection ends.
    pub(super) async fn serve(
        &mut self,
        shared: &Arc<Shared>,
        around: &Surroundings,
        peer: NodeRef,
    ) -> Ended {
        let mut effects = Vec::new();
        poll_fn(|context| self.poll_serve(context, shared, around, peer, &mut effects)).await
    }

    fn poll_serve(
        &mut self,
        context: &mut Context<'_>,
        shared: &Arc<Shared>,
        around: &Surroundings,
        peer: NodeRef,
        effects: &mut Vec<Effect<Waiter>>,
    ) -> Poll<Ended> {
        for _ in 0..TURNS {
            let is_idle = match self.poll_input(context) {
                Ok(is_idle) => is_idle,
                Err(ended) => return Poll::Ready(ended),
            };
            let now_ms = shared.clock.now_ms();
            let mut done = [0; 3];
            // At first also without a read: the hello's last read may have brought frames.
            if !self.input.is_empty() {
                let input = &mut self.input;
                let received = shared.within(|core| {
                    // Awake: the turn ends with a look at what is to be written.
                    core.sleeper = None;
                    core.link.receive(now_ms, input, effects)
                });
                around.perform(shared, peer, effects, &mut done);
                if let Err(error) = received {
                    return Poll::Ready(Ended::Fault(error));
                }
            }
            let ticked = self.take(context, shared, now_ms, is_idle, done, effects);
            if !effects.is_empty() {
                let mut done = [0; 3];
                around.perform(shared, peer, effects, &mut done);
            }
            let (wants_close, due_ms) = match ticked {
                Ok(taken) => taken,
                Err(error) => return Poll::Ready(Ended::Fault(error)),
            };
            self.set_timer(context, shared, due_ms);
            let has_out = !self.out.is_empty();
            match self.wire.poll_write(context, &mut self.out) {
                Poll::Ready(Err(error)) => return Poll::Ready(Ended::Lost(error)),
                Poll::Ready(Ok(())) if wants_close => return Poll::Ready(Ended::Closed),
                Poll::Ready(Ok(())) if !has_out && is_idle => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                // The socket is full; what is read meanwhile wakes the task too.
                Poll::Pending if is_idle => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads what is there. True if that is all for now, which wakes the task when more comes.
    fn poll_input(&mut self, context: &mut Context<'_>) -> Result<bool, Ended> {
        for has_read in [false, true] {
            match self.wire.poll_read(context, &mut self.input) {
                // What came before the end counts; the end is read again.
                Poll::Ready(Ok(Read::End)) if has_read => return Ok(false),
                Poll::Ready(Ok(Read::End)) => return Err(Ended::Closed),
                Poll::Ready(Ok(Read::Bytes)) => return Ok(false),
                // Asking again costs no call: the runtime knows that there is no more.
                Poll::Ready(Ok(Read::Last)) => {}
                Poll::Ready(Err(error)) => return Err(Ended::Lost(error)),
                Poll::Pending => return Ok(true),
            }
        }
        Ok(false)
    }

    /// One turn with the link: what is done goes back, what is to be written comes out. Whether the
    /// connection shall end, and when to look again.
    fn take(
        &mut self,
        context: &Context<'_>,
        shared: &Shared,
        now_ms: u64,
        is_idle: bool,
        done: [u32; 3],
        effects: &mut Vec<Effect<Waiter>>,
    ) -> Result<(bool, u64), LinkError> {
        shared.within(|core| {
            core.link.calls_done(done);
            if now_ms >= core.link.next_due_ms() {
                core.link.tick(now_ms, effects)?;
            }
            if self.out.is_empty() && core.link.has_output() {
                core.link.take(TURN, &mut self.out);
            }
            if core.is_closing {
                core.link.leave();
            }
            let ends = core.is_closing || core.link.peer_is_leaving();
            let wants_close = ends && core.link.is_drained();
            if is_idle && (self.out.is_empty() || !core.link.has_output()) {
                core.sleep(context.waker());
            }
            Ok((wants_close, core.link.next_due_ms()))
        })
    }

    fn set_timer(&mut self, context: &mut Context<'_>, shared: &Shared, due_ms: u64) {
        let is_elapsed = self.timer.is_elapsed();
        if is_elapsed && self.input.is_empty() {
            self.input = BytesMut::new(); // an idle link holds no buffer
        }
        if due_ms < self.timer_ms || is_elapsed {
            self.timer_ms = due_ms.min(shared.clock.now_ms() + 60_000);
            let at = Instant::from_std(shared.clock.at_ms(self.timer_ms));
            self.timer.as_mut().reset(at);
            if self.timer.as_mut().poll(context).is_ready() {
                context.waker().wake_by_ref();
            }
        }
    }
}

/// Runs `future`, and meanwhile the link without a connection: what is over its deadline fails.
pub(super) async fn meanwhile<T>(
    shared: &Arc<Shared>,
    around: &Surroundings,
    peer: NodeRef,
    future: impl Future<Output = T>,
) -> T {
    let mut future = std::pin::pin!(future);
    let mut timer = Box::pin(tokio::time::sleep(Duration::ZERO));
    let mut effects = Vec::new();
    poll_fn(|context| {
        loop {
            if let Poll::Ready(result) = future.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            let now_ms = shared.clock.now_ms();
            let due_ms = shared.within(|core| {
                // Without a connection a tick finds no fault.
                let _ = core.link.tick(now_ms, &mut effects);
                core.sleep(context.waker());
                core.link.next_due_ms()
            });
            around.perform(shared, peer, &mut effects, &mut [0; 3]);
            let at_ms = due_ms.min(now_ms + 60_000);
            let at = Instant::from_std(shared.clock.at_ms(at_ms));
            timer.as_mut().reset(at);
            ready!(timer.as_mut().poll(context));
        }
    })
    .await
}

fn refused_tls(error: impl std::fmt::Display) -> Refusal {
    Refusal::own(Reason::Tls, format!("TLS failed: {error}"))
}

fn refused_io(error: io::Error) -> Refusal {
    Refusal::own(Reason::Malformed, format!("the connection broke: {error}"))
}
