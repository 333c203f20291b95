//! One client's socket, from the accepted descriptor to its close.
//!
//!   Opening --four-letter word--> Answering ----> Lingering --> over
//!      \------first length------> Serving --Close---^  (FIN, error, bad length: over at once)
//!
//! The same code serves on every executor: [`Upstream`] is either the pipeline itself, called directly, or the bridge to
//! it. Reading: whatever the socket has (up to 64 KiB) goes through one scratch buffer per executor, complete frames leave
//! as one slice, and only a cut frame stays behind, so an idle connection holds no buffer at all. Writing: replies are
//! tried at once with one send; only what the kernel does not take is kept, and the connection's own task sends it when the
//! socket is writable.
//!
//! Holds: a client's FIN is a full close (replies still pending are not delivered), except that a four-letter word is
//! always answered; a bad length closes at once without a byte; a connection without a session goes after
//! `nio.sessionlessCnxnTimeout`; a panic in here closes this one connection.
//! Not here, on purpose: what a frame means, when reading pauses, how much may be queued (the core decides from
//! `Input::Sent`). Java: `NIOServerCnxn`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::{Shutdown, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::future;
use futures_util::FutureExt;
use hashbrown::HashMap;
use smallvec::SmallVec;
use tracing::{debug, error, warn};

use crate::core::ConnectionId;
use crate::limits::CLIENT_READ_BYTES;
use crate::shell::bridge::AskedWord;
use crate::shell::client_listener::{AcceptedSocket, Permit};
use crate::shell::clock::Clock;
use crate::shell::io_executor::Uplink;
use crate::shell::logging::Throttle;
use crate::shell::pipeline::PipelineHandle;
use crate::shell::reactor::{Socket, next_turn, sleep};
use crate::wire::frame::{FirstBytes, FrameAssembler, LENGTH_BYTES, first_bytes, trace_mask};
use crate::wire::jute::Limits;

/// How long a connection that is being closed may take to accept what is queued for it.
const CLOSE_FLUSH_US: u64 = 10_000_000;

/// After the last byte, wait this long for the client's own FIN. A close with unread bytes in the socket would make the
/// kernel reset the connection, and the reset can destroy the answer on its way (a word followed by a newline).
const LINGER_US: u64 = 2_000_000;

/// Reads of one connection before the reactor has its turn; each is up to `CLIENT_READ_BYTES`.
const READS_A_TURN: usize = 8;

/// And then to flush and close the sockets: a client that does not read must not make a supervisor lose its patience, which
/// is ten seconds at times.
const STOP_FLUSH_PATIENCE: Duration = Duration::from_secs(3);

/// Replies up to this size are joined while they wait for the socket, so that one send carries many.
const JOIN_BYTES: usize = 64 * 1024;

/// Replies longer than this are sent by the connection's own task, which gives the reactor its turn after each such piece.
/// Else a client that asks for a thousand large nodes at once, and reads as fast as we send, has the pipeline to itself.
const SEND_AT_ONCE_BYTES: usize = 128 * 1024;

/// Where a connection's events go.
#[derive(Clone)]
pub enum Upstream {
    Pipeline(PipelineHandle),
    Bridge(Rc<Uplink>),
}

impl Upstream {
    fn connected(&self, connection: ConnectionId, peer: SocketAddr) {
        match self {
            Upstream::Pipeline(pipeline) => pipeline.borrow_mut().connected(connection, peer),
            Upstream::Bridge(uplink) => uplink.connected(connection, peer),
        }
    }

    fn received(&self, connection: ConnectionId, frames: &[u8]) {
        match self {
            Upstream::Pipeline(pipeline) => pipeline.borrow_mut().received(connection, frames),
            Upstream::Bridge(uplink) => uplink.received(connection, frames),
        }
    }

    fn sent(&self, connection: ConnectionId, bytes: usize) {
        match self {
            Upstream::Pipeline(pipeline) => pipeline.borrow_mut().sent(connection, bytes),
            Upstream::Bridge(uplink) => uplink.sent(connection, bytes),
        }
    }

    fn word(&self, asked: AskedWord) {
        match self {
            Upstream::Pipeline(pipeline) => pipeline.borrow_mut().word(asked),
            Upstream::Bridge(uplink) => uplink.word(asked),
        }
    }

    fn disconnected(&self, connection: ConnectionId) {
        match self {
            Upstream::Pipeline(pipeline) => pipeline.borrow_mut().disconnected(connection),
            Upstream::Bridge(uplink) => uplink.disconnected(connection),
        }
    }

    /// Pending while what was read earlier has not been taken yet.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Upstream::Pipeline(_) => Poll::Ready(()),
            Upstream::Bridge(uplink) => uplink.poll_room(cx),
        }
    }
}

/// The connections of one executor, and what they share.
pub struct Connections {
    by_id: RefCell<HashMap<ConnectionId, Rc<Connection>, foldhash::fast::RandomState>>,
    /// Those that end by themselves at some moment, in no order. Few: new ones and closing ones.
    timed: RefCell<Vec<Weak<Connection>>>,
    /// Every read of this executor goes through here; no read outlives a poll.
    scratch: RefCell<Box<[u8]>>,
    limits: Limits,
    sessionless_timeout_us: u64,
    clock: Clock,
    length_errors: RefCell<Throttle>,
    stopping: Cell<bool>,
    /// Waits for the last connection to end.
    emptied: RefCell<Option<Waker>>,
}

impl Connections {
    pub fn new(limits: Limits, sessionless_timeout_ms: u64, clock: Clock) -> Rc<Connections> {
        Rc::new(Connections {
            by_id: RefCell::default(),
            timed: RefCell::default(),
            scratch: RefCell::new(vec![0; CLIENT_READ_BYTES].into_boxed_slice()),
            limits,
            sessionless_timeout_us: sessionless_timeout_ms * 1000,
            clock,
            length_errors: RefCell::new(Throttle::new()),
            stopping: Cell::new(false),
            emptied: RefCell::default(),
        })
    }

    pub fn count(&self) -> usize {
        self.by_id.borrow().len()
    }

    /// Hands bytes to a connection; returns how many of all its waiting bytes the kernel took right away.
    pub fn send(&self, connection: ConnectionId, bytes: Vec<u8>) -> usize {
        // A connection may end on its own while bytes for it are on their way.
        self.get(connection).map_or(0, |connection| connection.send(bytes))
    }

    /// Closes after everything handed over before has been sent.
    pub fn close(&self, connection: ConnectionId) {
        if let Some(connection) = self.get(connection) {
            self.begin_close(&connection);
        }
    }

    /// The server stops: every connection is flushed and closed, and nobody waits for a client's farewell any more.
    pub fn close_all(&self) {
        self.stopping.set(true);
        for connection in self.by_id.borrow().values() {
            self.begin_close(connection);
            connection.wake();
        }
    }

    pub fn pause_reading(&self, connection: ConnectionId) {
        if let Some(connection) = self.get(connection) {
            connection.paused.set(true);
        }
    }

    pub fn resume_reading(&self, connection: ConnectionId) {
        if let Some(connection) = self.get(connection)
            && connection.paused.replace(false)
        {
            connection.wake();
        }
    }

    /// Ends connections whose time is up. Once a tick.
    pub fn tick(&self) {
        let now_us = self.clock.mono_us();
        self.timed.borrow_mut().retain(|connection| {
            let Some(connection) = connection.upgrade() else { return false };
            match connection.deadline_us.get() {
                Some(deadline_us) if deadline_us <= now_us => {
                    connection.out_of_time.set(true);
                    connection.wake();
                    false
                }
                deadline_us => deadline_us.is_some(),
            }
        });
    }

    /// After `close_all`: waits for every connection's end, and not for long. Returns how many were not waited for.
    pub async fn all_closed(&self) -> usize {
        let closed = async {
            poll_fn(|cx| self.poll_empty(cx)).await;
            0
        };
        let out_of_patience = async {
            sleep(STOP_FLUSH_PATIENCE).await;
            let left = self.count();
            warn!(
                "{left} clients have not taken their answers within {STOP_FLUSH_PATIENCE:?}; the stop does not wait for them"
            );
            left
        };
        future::or(closed, out_of_patience).await
    }

    fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.by_id.borrow().is_empty() {
            return Poll::Ready(());
        }
        *self.emptied.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    fn get(&self, connection: ConnectionId) -> Option<Rc<Connection>> {
        self.by_id.borrow().get(&connection).cloned()
    }

    fn begin_close(&self, connection: &Rc<Connection>) {
        if !connection.closing.replace(true) {
            self.end_after(connection, CLOSE_FLUSH_US);
            connection.wake();
        }
    }

    fn end_after(&self, connection: &Rc<Connection>, after_us: u64) {
        let already_timed = connection.deadline_us.replace(Some(self.clock.mono_us() + after_us)).is_some();
        if !already_timed {
            self.timed.borrow_mut().push(Rc::downgrade(connection));
        }
    }

    fn enter(&self, connection: &Rc<Connection>) {
        let earlier = self.by_id.borrow_mut().insert(connection.id, connection.clone());
        assert!(earlier.is_none(), "connection ids are never reused");
        self.end_after(connection, self.sessionless_timeout_us);
        if self.stopping.get() {
            self.begin_close(connection); // accepted before the stop, and come here after `close_all`
        }
    }

    fn leave(&self, connection: &Connection) {
        connection.over.set(true);
        let mut by_id = self.by_id.borrow_mut();
        by_id.remove(&connection.id);
        if by_id.is_empty()
            && let Some(waker) = self.emptied.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

struct Connection {
    id: ConnectionId,
    peer: SocketAddr,
    socket: Socket,
    input: RefCell<ConnectionInput>,
    output: RefCell<ConnectionOutput>,
    /// The connection's task, which is woken when there is something only it can do.
    waker: RefCell<Option<Waker>>,
    paused: Cell<bool>,
    closing: Cell<bool>,
    /// Reading or writing failed, or the client is gone.
    broken: Cell<bool>,
    /// Nobody is to hear of this connection any more; the socket waits for the client's FIN.
    lingering: Cell<bool>,
    deadline_us: Cell<Option<u64>>,
    out_of_time: Cell<bool>,
    over: Cell<bool>,
    permit: Permit,
}

#[derive(Default)]
struct ConnectionInput {
    stage: Stage,
    frames: FrameAssembler,
}

enum Stage {
    /// Fewer than four bytes came so far.
    Opening(SmallVec<[u8; 4]>),
    /// No complete frame yet, but not a word either.
    FirstFrame,
    Serving,
    /// A four-letter word came; nothing more is read.
    Answering,
}

impl Default for Stage {
    fn default() -> Stage {
        Stage::Opening(SmallVec::new())
    }
}

#[derive(Default)]
struct ConnectionOutput {
    waiting: VecDeque<Vec<u8>>,
    /// How much of the first one is sent.
    front_sent_bytes: usize,
}

/// Why a connection's serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Not ended: there may be more, but others and the disk have waited.
    Turn,
    /// The client closed.
    Dropped,
    /// Its socket failed.
    Gone,
    /// Closed by us, everything sent.
    Flushed,
    BadLength,
    /// No session in time, or too slow to take its last bytes.
    OutOfTime,
}

/// Serves one accepted socket until it is closed. Never fails and never panics.
pub async fn serve(accepted: AcceptedSocket, connections: Rc<Connections>, upstream: Upstream) {
    let AcceptedSocket { id, peer, stream, permit } = accepted;
    let socket = match Socket::new(stream) {
        Ok(socket) => socket,
        Err(error) => {
            return warn!(
                "/{peer}: cannot be served, the kernel watches no more sockets (fs.epoll.max_user_watches): {error}"
            );
        }
    };
    let connection = Rc::new(Connection {
        id,
        peer,
        socket,
        input: RefCell::default(),
        output: RefCell::default(),
        waker: RefCell::default(),
        paused: Cell::new(false),
        closing: Cell::new(false),
        broken: Cell::new(false),
        lingering: Cell::new(false),
        deadline_us: Cell::new(None),
        out_of_time: Cell::new(false),
        over: Cell::new(false),
        permit,
    });
    connections.enter(&connection);
    upstream.connected(id, peer);

    let serving = async {
        loop {
            match poll_fn(|cx| connection.poll_serve(cx, &connections, &upstream)).await {
                End::Turn => next_turn().await,
                end => return end,
            }
        }
    };
    let end = match AssertUnwindSafe(serving).catch_unwind().await {
        Ok(end) => {
            debug!("/{peer}: closed ({end:?})");
            end
        }
        Err(_) => {
            error!("/{peer}: the server failed on this connection (a fault of the server); it is closed");
            End::Gone
        }
    };
    upstream.disconnected(id);
    match end {
        End::Dropped => connection.permit.count_dropped(),
        End::OutOfTime if !connection.closing.get() => connection.permit.count_expired(),
        _ => {}
    }

    if end == End::Flushed {
        connection.lingering.set(true);
        connections.end_after(&connection, LINGER_US);
        connection.shutdown(Shutdown::Write);
        let lingering = async {
            while poll_fn(|cx| connection.poll_linger(cx, &connections)).await == End::Turn {
                next_turn().await;
            }
        };
        let _ = AssertUnwindSafe(lingering).catch_unwind().await;
    }
    connection.shutdown(Shutdown::Both);
    connections.leave(&connection);
}

impl Connection {
    /// Takes bytes for the client and tries to send; returns how many of the waiting bytes left.
    fn send(&self, bytes: Vec<u8>) -> usize {
        if self.broken.get() || self.lingering.get() || self.over.get() || bytes.is_empty() {
            return 0;
        }
        let idle = self.output.borrow().waiting.is_empty();
        let long = bytes.len() > SEND_AT_ONCE_BYTES;
        self.output.borrow_mut().push(bytes);
        if !idle {
            return 0; // the task is at it, or is told when the socket takes more
        }
        if long {
            self.wake();
            return 0;
        }
        // A write that has to wait leaves the task's waker with the socket.
        let waker = self.waker.borrow().clone();
        let mut cx = Context::from_waker(waker.as_ref().unwrap_or(Waker::noop()));
        self.flush(&mut cx)
    }

    /// Sends what the socket takes; returns how many bytes that was. A failure is remembered and wakes the task.
    fn flush(&self, cx: &mut Context<'_>) -> usize {
        let mut output = self.output.borrow_mut();
        let mut sent_bytes = 0;
        while let Some(front) = output.front() {
            match self.socket.poll_send(cx, front) {
                Poll::Ready(Ok(bytes)) => {
                    sent_bytes += bytes;
                    output.advance(bytes);
                }
                Poll::Ready(Err(_)) => {
                    output.clear();
                    self.broken.set(true);
                    self.wake();
                }
                Poll::Pending => break,
            }
        }
        sent_bytes
    }

    fn poll_serve(&self, cx: &mut Context<'_>, connections: &Connections, upstream: &Upstream) -> Poll<End> {
        self.remember(cx.waker());
        for _ in 0..READS_A_TURN {
            let sent_bytes = self.flush(cx);
            if sent_bytes > 0 {
                upstream.sent(self.id, sent_bytes);
            }
            if self.broken.get() {
                return Poll::Ready(End::Gone);
            }
            if self.out_of_time.get() {
                return Poll::Ready(End::OutOfTime);
            }
            if self.closing.get() {
                return if self.output.borrow().waiting.is_empty() { Poll::Ready(End::Flushed) } else { Poll::Pending };
            }
            if sent_bytes > SEND_AT_ONCE_BYTES {
                return Poll::Ready(End::Turn);
            }
            if self.paused.get() || matches!(self.input.borrow().stage, Stage::Answering) {
                return Poll::Pending;
            }
            if upstream.poll_room(cx).is_pending() {
                return Poll::Pending;
            }
            let mut scratch = connections.scratch.borrow_mut();
            let read = self.socket.poll_recv(cx, &mut scratch);
            match read {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(End::Dropped),
                Poll::Ready(Ok(bytes)) => {
                    if let Err(end) = self.take_input(&scratch[..bytes], connections, upstream) {
                        return Poll::Ready(end);
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(End::Gone),
            }
        }
        Poll::Ready(End::Turn)
    }

    /// Reads and forgets until the client closes too or its time is up.
    fn poll_linger(&self, cx: &mut Context<'_>, connections: &Connections) -> Poll<End> {
        self.remember(cx.waker());
        for _ in 0..READS_A_TURN {
            if self.out_of_time.get() || connections.stopping.get() {
                return Poll::Ready(End::OutOfTime);
            }
            let mut scratch = connections.scratch.borrow_mut();
            match self.socket.poll_recv(cx, &mut scratch) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(bytes)) if bytes > 0 => {}
                Poll::Ready(_) => return Poll::Ready(End::Gone),
            }
        }
        Poll::Ready(End::Turn)
    }

    fn take_input(&self, chunk: &[u8], connections: &Connections, upstream: &Upstream) -> Result<(), End> {
        let mut input = self.input.borrow_mut();
        if let Stage::Opening(begun) = &mut input.stage {
            if begun.is_empty() && chunk.len() >= LENGTH_BYTES {
                return self.take_opening(&mut input, chunk, connections, upstream);
            }
            // Rare: the first four bytes came in pieces.
            begun.extend_from_slice(chunk);
            let opening = std::mem::take(begun);
            return self.take_opening(&mut input, &opening, connections, upstream);
        }
        self.take_frames(&mut input, chunk, connections, upstream)
    }

    fn take_opening(
        &self,
        input: &mut ConnectionInput,
        bytes: &[u8],
        connections: &Connections,
        upstream: &Upstream,
    ) -> Result<(), End> {
        match first_bytes(bytes) {
            FirstBytes::TooFew => {
                input.stage = Stage::Opening(bytes.into());
                Ok(())
            }
            FirstBytes::Word(word) => {
                input.stage = Stage::Answering;
                debug!("Processing {} command from /{}", word.name(), self.peer);
                upstream.word(AskedWord { connection: self.id, word, trace_mask: trace_mask(bytes) });
                Ok(())
            }
            FirstBytes::Frames => {
                input.stage = Stage::FirstFrame;
                self.take_frames(input, bytes, connections, upstream)
            }
        }
    }

    fn take_frames(
        &self,
        input: &mut ConnectionInput,
        chunk: &[u8],
        connections: &Connections,
        upstream: &Upstream,
    ) -> Result<(), End> {
        let mut delivered = false;
        let checked = input.frames.push(chunk, &connections.limits, |frames| {
            delivered = true;
            upstream.received(self.id, frames);
        });
        if delivered && matches!(input.stage, Stage::FirstFrame) {
            input.stage = Stage::Serving;
            if !self.closing.get() {
                // From here on the core decides how long this connection lives.
                self.deadline_us.set(None);
            }
        }
        checked.map_err(|error| {
            if let Some(suppressed) = connections.length_errors.borrow_mut().pass() {
                warn!(
                    "Len error. A message from /{} with advertised length of {} is either a malformed message or too \
                     large to process (length is greater than jute.maxbuffer={}){suppressed}",
                    self.peer, error.length, error.max_bytes
                );
            }
            End::BadLength
        })
    }

    fn remember(&self, waker: &Waker) {
        let mut remembered = self.waker.borrow_mut();
        if !remembered.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *remembered = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn shutdown(&self, how: Shutdown) {
        self.socket.shutdown(how);
    }
}

impl ConnectionOutput {
    fn push(&mut self, bytes: Vec<u8>) {
        match self.waiting.back_mut() {
            Some(back) if back.len() + bytes.len() <= JOIN_BYTES => back.extend_from_slice(&bytes),
            _ => self.waiting.push_back(bytes),
        }
    }

    /// The unsent part of the oldest bytes.
    fn front(&self) -> Option<&[u8]> {
        self.waiting.front().map(|front| &front[self.front_sent_bytes..])
    }

    fn advance(&mut self, bytes: usize) {
        self.front_sent_bytes += bytes;
        if self.waiting.front().is_some_and(|front| front.len() == self.front_sent_bytes) {
            self.waiting.pop_front();
            self.front_sent_bytes = 0;
        }
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new(); // an idle connection holds no memory
        }
    }

    fn clear(&mut self) {
        *self = ConnectionOutput::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_replies_join_until_one_send_is_full_and_leave_in_order() {
        let mut output = ConnectionOutput::default();
        output.push(vec![1; 10]);
        output.push(vec![2; 20]);
        output.push(vec![3; JOIN_BYTES]);
        assert_eq!(output.waiting.len(), 2);
        assert_eq!(output.front().unwrap().len(), 30);
        output.advance(29);
        assert_eq!(output.front(), Some(&[2][..]));
        output.advance(1);
        assert_eq!(output.front().unwrap().len(), JOIN_BYTES);
        output.advance(JOIN_BYTES);
        assert_eq!(output.front(), None);
        assert_eq!(output.waiting.capacity(), 0);
    }
}
