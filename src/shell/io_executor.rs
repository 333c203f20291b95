//! Executors 1 and up: client connections whose requests and replies cross the bridge to the pipeline in batches.
//!
//! Every connection of the executor appends to one outbox; after all connections that are ready have had their turn, the
//! outbox leaves as one batch. When the queue is full the outbox grows to its bound, and then connections are not read
//! until it has left. Holds: events of a connection arrive in the order in which they happened.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::core::ConnectionId;
use crate::limits::BRIDGE_OUTBOX_BYTES;
use crate::shell::bridge::{AskedWord, DownBatch, DownEvent, Receiver, Sender, UpBatch, UpEvent};
use crate::shell::client_connection::{self, Connections, Upstream};
use crate::shell::client_listener::{AcceptedSocket, ExecutorLoad};
use crate::shell::clock::Clock;
use crate::shell::flag::Flag;
use crate::shell::mailbox::Arrivals;
use crate::shell::placement::LoadMeter;
use crate::shell::reactor::{self, Share};
use crate::wire::jute::Limits;

/// Batches of the pipeline before the reactor has its turn.
const BATCHES_A_TURN: u32 = 16;

/// Connections begun before the reactor has its turn.
const ARRIVALS_A_TURN: u32 = 16;

/// The connections' way up to the pipeline.
#[derive(Default)]
pub struct Uplink {
    outbox: RefCell<UpBatch>,
    /// Raised when the outbox has something.
    filled: Flag,
    /// Connection tasks that wait for the outbox to leave.
    stalled: RefCell<Vec<Waker>>,
}

impl Uplink {
    pub fn connected(&self, connection: ConnectionId, peer: SocketAddr) {
        self.push(UpEvent::Connected { connection, peer });
    }

    pub fn received(&self, connection: ConnectionId, frames: &[u8]) {
        self.outbox.borrow_mut().frames.extend_from_slice(frames);
        self.push(UpEvent::Received { connection, bytes: frames.len() });
    }

    pub fn sent(&self, connection: ConnectionId, bytes: usize) {
        self.push(UpEvent::Sent { connection, bytes });
    }

    pub fn word(&self, asked: AskedWord) {
        self.push(UpEvent::Word(asked));
    }

    pub fn disconnected(&self, connection: ConnectionId) {
        self.push(UpEvent::Disconnected { connection });
    }

    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.outbox.borrow().frames.len() < BRIDGE_OUTBOX_BYTES {
            return Poll::Ready(());
        }
        self.stalled.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    }

    fn push(&self, event: UpEvent) {
        self.outbox.borrow_mut().events.push(event);
        self.filled.raise();
    }

    fn take(&self) -> UpBatch {
        std::mem::take(&mut *self.outbox.borrow_mut())
    }

    fn give_back(&self, batch: UpBatch) {
        *self.outbox.borrow_mut() = batch;
    }

    fn wake_stalled(&self) {
        for waker in self.stalled.borrow_mut().drain(..) {
            waker.wake();
        }
    }
}

/// What an io executor is given when it starts.
pub struct IoExecutor {
    pub up: Sender<UpBatch>,
    pub down: Receiver<DownBatch>,
    pub arrivals: Arrivals<AcceptedSocket>,
    pub load: Arc<ExecutorLoad>,
    pub limits: Limits,
    pub sessionless_timeout_ms: u64,
    pub tick: Duration,
    pub clock: Clock,
}

impl IoExecutor {
    /// Runs until the pipeline says stop, or is gone. Returns how many clients were not waited for.
    pub async fn run(self) -> usize {
        let connections = Connections::new(self.limits, self.sessionless_timeout_ms, self.clock);
        let uplink: Rc<Uplink> = Rc::default();
        let background = [
            reactor::spawn(send_batches(uplink.clone(), self.up)),
            reactor::spawn(take_arrivals(self.arrivals, connections.clone(), Upstream::Bridge(uplink.clone()))),
            reactor::spawn(tick(connections.clone(), self.load, self.tick)),
        ];
        take_batches(self.down, &connections, &uplink).await;
        connections.close_all();
        let left = connections.all_closed().await;
        for task in background {
            task.cancel().await;
        }
        left
    }
}

/// Turns arriving sockets into connection tasks until the accept thread ends.
pub async fn take_arrivals(mut arrivals: Arrivals<AcceptedSocket>, connections: Rc<Connections>, upstream: Upstream) {
    let mut share = Share::of(ARRIVALS_A_TURN);
    while let Some(socket) = poll_fn(|cx| arrivals.poll_next(cx)).await {
        reactor::spawn(client_connection::serve(socket, connections.clone(), upstream.clone())).detach();
        share.done_one().await;
    }
}

async fn send_batches(uplink: Rc<Uplink>, mut sender: Sender<UpBatch>) {
    loop {
        uplink.filled.lowered().await;
        // Everybody who is ready adds to the batch.
        futures_lite::future::yield_now().await;
        poll_fn(|cx| sender.poll_room(cx)).await;
        let batch = uplink.take();
        if batch.events.is_empty() {
            continue;
        }
        if let Err(batch) = sender.try_send(batch) {
            uplink.give_back(batch); // cannot be: nobody else sends
            uplink.filled.raise();
        }
        uplink.wake_stalled();
    }
}

async fn take_batches(mut receiver: Receiver<DownBatch>, connections: &Connections, uplink: &Uplink) {
    let mut share = Share::of(BATCHES_A_TURN);
    while let Some(batch) = poll_fn(|cx| receiver.poll_receive(cx)).await {
        for event in batch {
            match event {
                DownEvent::Send { connection, bytes } => {
                    let sent_bytes = connections.send(connection, bytes);
                    if sent_bytes > 0 {
                        uplink.sent(connection, sent_bytes);
                    }
                }
                DownEvent::Close { connection } => connections.close(connection),
                DownEvent::PauseReading { connection } => connections.pause_reading(connection),
                DownEvent::ResumeReading { connection } => connections.resume_reading(connection),
                DownEvent::Stop => return,
            }
        }
        share.done_one().await;
    }
}

async fn tick(connections: Rc<Connections>, load: Arc<ExecutorLoad>, period: Duration) {
    let mut meter = LoadMeter::start();
    loop {
        reactor::sleep(period).await;
        connections.tick();
        load.publish(meter.busy_permille(), connections.count() as u32);
    }
}
