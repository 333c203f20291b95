//! Connections between learners and their master: packets, and a snapshot's stream among them.
//!
//! What the core says is encoded as it is said, and leaves when everybody who was ready has had their turn: one send a link for
//! the requests of many clients, and one wake-up of the server at the other end. What the kernel does not take at once is sent by
//! the link's own writer. A reader task decodes whole packets and hands over everything it has in one turn. Holds: messages of a
//! link arrive in their order; after `LinkClose` the core hears nothing more of it, and what was said before still leaves, as far
//! as the other end takes it soon; a link that ends by itself is told of once; of those that called and have not said a word there
//! are at most [`STRANGERS`], and a newer one takes the place of the oldest.
//! Not here, on purpose: how much may wait for a link (the core counts what `LinkSent` has not given back), and what a packet
//! means. Java: `LearnerHandler`, `Learner`, `QuorumPacket`. Spec: quorum-protocol 5, 7.6.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::inbox::{Arrival, Inbox};
use super::peer_socket::{HangUpAfter, PeerSocket, PhoneLine};
use crate::core::{LinkId, LinkMessage, Zxid};
use crate::shell::flag::Flag;
use crate::shell::pipeline::PipelineHandle;
use crate::shell::reactor::{self, Share, next_turn};
use crate::snapshot_stream::{Form, SnapshotDecoder, SnapshotEncoder};
use crate::wire::jute::Limits;
use crate::wire::quorum::{PROTOCOL_RINGKEEPER, Packet};

/// Reads of one link that had not to be waited for, before the reactor has its turn.
const READS_A_TURN: u32 = 8;

/// Flushes in a row before the reactor has its turn.
const FLUSHES_A_TURN: u32 = 64;

/// How long a reader waits for room before it looks whether its link is still wanted.
const ROOM_LOOK: Duration = Duration::from_millis(100);

/// How long a link that is being closed may take to accept what was said before.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Callers that have not said a word.
const STRANGERS: usize = 64;

/// Written before the core is told that they have left.
const PIECE_BYTES: usize = 256 * 1024;

/// An outgoing buffer is kept between turns up to this.
const KEPT_BYTES: usize = 1024 * 1024;

#[derive(Clone, Debug)]
pub struct LinkSettings {
    pub limits: Limits,
    /// `tcpKeepAlive`.
    pub keep_alive: bool,
    /// How long a peer may take nothing of what is sent: initLimit ticks (or syncLimit's, if these are more) while one is brought
    /// up to the other's history, syncLimit ticks then.
    pub init_stall: Duration,
    pub sync_stall: Duration,
}

pub struct Links {
    settings: LinkSettings,
    by_id: RefCell<BTreeMap<LinkId, Rc<Link>>>,
    last_id: Cell<u64>,
    /// Links that have something to send since the last flush.
    dirty: RefCell<Vec<Rc<Link>>>,
    /// Raised when there are some.
    said: Flag,
    /// Oldest first.
    strangers: RefCell<VecDeque<Rc<Link>>>,
}

struct Link {
    id: LinkId,
    line: Rc<PhoneLine>,
    outgoing: RefCell<Outgoing>,
    /// The writer is at it: nobody else sends.
    writing: Cell<bool>,
    /// Raised when the writer has something to do.
    work: Flag,
    /// The core hears no more of it.
    closed: Cell<bool>,
    /// The stream has ended.
    over: Cell<bool>,
    /// It said something.
    heard: Cell<bool>,
    /// It was told something.
    spoken: Cell<bool>,
    /// From UPTODATE on.
    sync_stall: Duration,
    /// What each end has said it speaks.
    ours_is_ringkeeper: Cell<bool>,
    theirs_is_ringkeeper: Cell<bool>,
    /// Who a learner said it is.
    learner: Cell<Option<i64>>,
}

impl Link {
    /// For people.
    fn peer(&self) -> String {
        match self.learner.get() {
            Some(server) => format!("server {server} at {}", self.line.peer),
            None => self.line.peer.to_string(),
        }
    }
}

#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    /// What these bytes were said to cost.
    cost: usize,
    snapshot: Option<SnapshotEncoder>,
}

impl Outgoing {
    /// What may cost something and say nothing: parts of a snapshot without nodes, in Java's form. It is told of all the same, or
    /// nothing more would come.
    fn take(&mut self) -> Option<Waiting> {
        let (bytes, cost) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.cost));
        (!bytes.is_empty() || cost > 0).then_some(Waiting { bytes, cost, written: 0 })
    }
}

/// What the writer is at.
struct Waiting {
    bytes: Vec<u8>,
    written: usize,
    /// Of what is not written.
    cost: usize,
}

impl Waiting {
    /// The next bytes to write, and the cost of these.
    fn next_piece(&mut self) -> Option<(&[u8], usize)> {
        if self.written == self.bytes.len() && self.cost == 0 {
            return None;
        }
        let begin = self.written;
        self.written = self.bytes.len().min(begin + PIECE_BYTES);
        let is_last = self.written == self.bytes.len();
        let cost = if is_last { self.cost } else { self.cost.min(self.written - begin) };
        self.cost -= cost;
        Some((&self.bytes[begin..self.written], cost))
    }
}

impl Link {
    /// How a snapshot looks on this link.
    fn form(&self) -> Form {
        match self.ours_is_ringkeeper.get() && self.theirs_is_ringkeeper.get() {
            true => Form::Native,
            false => Form::Java,
        }
    }

    fn encode(&self, message: LinkMessage) {
        self.spoken.set(true);
        let mut outgoing = self.outgoing.borrow_mut();
        let Outgoing { bytes, cost, snapshot } = &mut *outgoing;
        *cost += message.cost_bytes();
        match message {
            LinkMessage::Packet(packet) => {
                if let Some(protocol) = packet.protocol() {
                    self.ours_is_ringkeeper.set(protocol == PROTOCOL_RINGKEEPER);
                }
                if matches!(packet, Packet::UpToDate) {
                    self.line.limit_stall(self.sync_stall);
                }
                packet.encode(bytes);
            }
            part => {
                let is_end = matches!(part, LinkMessage::SnapshotEnd);
                let encoder = snapshot.get_or_insert_with(|| SnapshotEncoder::new(self.form()));
                if let Err(error) = encoder.message(part, bytes) {
                    warn!("a snapshot cannot be sent to {}: {error}", self.peer());
                    self.line.hang_up(); // the reader finds out, and tells
                }
                if is_end {
                    *snapshot = None;
                }
            }
        }
    }
}

impl Links {
    pub fn new(settings: LinkSettings) -> Links {
        Links {
            settings,
            by_id: RefCell::default(),
            last_id: Cell::new(0),
            dirty: RefCell::default(),
            said: Flag::default(),
            strangers: RefCell::default(),
        }
    }

    /// Takes a connected socket over. `pipeline` hears of it by this id.
    pub fn enter(self: &Rc<Self>, socket: TcpStream) -> io::Result<NewLink> {
        let PeerSocket { line, .. } = PeerSocket::new(socket, self.settings.keep_alive, self.settings.init_stall)?;
        let id = LinkId(self.last_id.get() + 1);
        self.last_id.set(id.0);
        let link = Rc::new(Link {
            id,
            line,
            outgoing: RefCell::default(),
            writing: Cell::new(false),
            work: Flag::default(),
            closed: Cell::new(false),
            over: Cell::new(false),
            heard: Cell::new(false),
            spoken: Cell::new(false),
            sync_stall: self.settings.sync_stall,
            ours_is_ringkeeper: Cell::new(false),
            theirs_is_ringkeeper: Cell::new(false),
            learner: Cell::new(None),
        });
        self.by_id.borrow_mut().insert(id, link.clone());
        Ok(NewLink { link, links: self.clone() })
    }

    pub fn send(&self, link: LinkId, message: LinkMessage) {
        // It may have ended on its own meanwhile; the core is about to hear of that.
        let by_id = self.by_id.borrow();
        let Some(link) = by_id.get(&link) else { return };
        // With something to send it is among them already, or its writer is at it.
        if link.outgoing.borrow().bytes.is_empty() {
            self.note_dirty(link.clone());
        }
        link.encode(message);
    }

    /// Sends what was said before, then ends it.
    pub fn close(&self, link: LinkId, why: &str) {
        let Some(link) = self.by_id.borrow_mut().remove(&link) else { return };
        info!("closing the link with {}: {why}", link.peer());
        link.closed.set(true);
        if link.spoken.get() {
            HangUpAfter::new(&link.line, CLOSE_LIMIT).detach();
        } else {
            link.line.hang_up(); // nothing is on its way that the other end should read
        }
        self.note_dirty(link);
    }

    fn note_dirty(&self, link: Rc<Link>) {
        self.dirty.borrow_mut().push(link);
        self.said.raise();
    }

    /// Sends what turns have said. Woken by the first of them, this task is behind all others that were ready then.
    pub async fn run_flush(self: Rc<Self>, pipeline: PipelineHandle) {
        let mut share = Share::of(FLUSHES_A_TURN);
        loop {
            self.said.lowered().await;
            pipeline.borrow_mut().flush_links();
            share.done_one().await;
        }
    }

    /// The one that just called: others that have not said a word by now give way.
    fn bound_strangers(&self, link: &Rc<Link>) {
        let mut strangers = self.strangers.borrow_mut();
        strangers.retain(|stranger| !stranger.heard.get() && !stranger.over.get());
        if strangers.len() == STRANGERS
            && let Some(oldest) = strangers.pop_front()
        {
            info!("the link with {} gives way to newer ones: it has said nothing yet", oldest.line.peer);
            oldest.line.hang_up(); // the reader finds out, and tells
        }
        strangers.push_back(link.clone());
    }

    /// Everything said leaves, as far as the kernel takes it. Tells what it took.
    pub fn flush(&self, sent: &mut Vec<(LinkId, usize)>) {
        for link in self.dirty.borrow_mut().drain(..) {
            if link.writing.get() || link.over.get() {
                continue;
            }
            let mut outgoing = link.outgoing.borrow_mut();
            let taken = if outgoing.bytes.is_empty() { Ok(0) } else { link.line.socket.send_now(&outgoing.bytes) };
            match taken {
                Ok(taken) if taken == outgoing.bytes.len() => {
                    if outgoing.cost > 0 && !link.closed.get() {
                        sent.push((link.id, outgoing.cost));
                    }
                    outgoing.cost = 0;
                    outgoing.bytes.clear();
                    outgoing.bytes.shrink_to(KEPT_BYTES);
                    if !link.closed.get() {
                        continue;
                    }
                }
                Ok(taken) => drop(outgoing.bytes.drain(..taken)),
                Err(_) => link.line.hang_up(), // the reader finds out, and tells
            }
            link.writing.set(true);
            link.work.raise();
        }
    }

    /// Ends all of them, without a word to anybody.
    pub fn hang_up_all(&self) {
        for link in self.by_id.borrow().values() {
            link.line.hang_up();
        }
    }
}

/// A link whose tasks have not begun.
pub struct NewLink {
    link: Rc<Link>,
    links: Rc<Links>,
}

impl NewLink {
    pub fn id(&self) -> LinkId {
        self.link.id
    }

    pub fn peer(&self) -> std::net::SocketAddr {
        self.link.line.peer
    }

    /// It called, and has to say who it is.
    pub fn is_stranger(&self) {
        self.links.bound_strangers(&self.link);
    }

    /// Serves it in the background until it ends.
    pub fn serve(self, pipeline: PipelineHandle) {
        let NewLink { link, links } = self;
        reactor::spawn(write(link.clone(), pipeline.clone())).detach();
        reactor::spawn(async move {
            let ended = read(&link, &pipeline, &links.settings.limits).await;
            link.line.hang_up();
            link.over.set(true);
            link.work.raise(); // the writer ends, too
            if link.closed.replace(true) {
                return;
            }
            match ended {
                Ok(()) => info!("the link with {} has ended", link.peer()),
                Err(error) => info!("the link with {} broke: {error}", link.peer()),
            }
            links.by_id.borrow_mut().remove(&link.id);
            pipeline.borrow_mut().link_closed(link.id);
        })
        .detach();
    }
}

/// Sends what the kernel did not take at once.
async fn write(link: Rc<Link>, pipeline: PipelineHandle) {
    loop {
        link.work.lowered().await;
        while !link.over.get() {
            let Some(mut waiting) = link.outgoing.borrow_mut().take() else { break };
            // In pieces: whoever takes them slowly is not taken for one that takes nothing.
            while let Some((piece, cost)) = waiting.next_piece() {
                if let Err(error) = link.line.write_all(piece).await {
                    debug!("the link with {} takes nothing more: {error}", link.peer());
                    link.line.hang_up();
                    return;
                }
                if !link.closed.get() {
                    pipeline.borrow_mut().link_sent(link.id, cost);
                }
            }
            next_turn().await; // there was nothing to wait for where all of it says nothing
        }
        if link.over.get() {
            return;
        }
        if link.closed.get() {
            // The other end reads what is left, and then the end. A close with unread bytes here would take that from it.
            return link.line.end_writing();
        }
        link.writing.set(false);
    }
}

/// Hands over what comes until the stream ends.
async fn read(link: &Link, pipeline: &PipelineHandle, limits: &Limits) -> io::Result<()> {
    let mut inbox = Inbox::default();
    let mut messages = Vec::new();
    let mut reads = 0;
    // What came with the end of a snapshot, and may be all that comes for long.
    let mut has_unread = false;
    loop {
        if !std::mem::take(&mut has_unread) {
            reads = match inbox.read_more(&mut &link.line.socket).await? {
                Arrival::EndOfStream => return Ok(()),
                Arrival::Awaited => 0,
                Arrival::AtOnce => reads + 1,
            };
        }
        if reads == READS_A_TURN {
            reads = 0;
            next_turn().await;
        }
        if link.closed.get() {
            inbox.take_all();
            continue;
        }
        let mut taken = 0;
        let mut snapshot = None;
        let unread = inbox.unread_to_keep();
        let keep = |part: &[u8]| unread.keep(part);
        let fault = loop {
            match Packet::decode_keeping(&unread.bytes[taken..], limits, &keep) {
                Ok(Some(decoded)) => {
                    taken += decoded.bytes;
                    let Some(packet) = decoded.packet else { continue };
                    if let Some(protocol) = packet.protocol() {
                        link.theirs_is_ringkeeper.set(protocol == PROTOCOL_RINGKEEPER);
                    }
                    link.learner.set(packet.learner().or(link.learner.get()));
                    if matches!(packet, Packet::UpToDate) {
                        link.line.limit_stall(link.sync_stall);
                    }
                    if let Packet::Snap { zxid } = packet {
                        snapshot = Some(zxid);
                    }
                    messages.push(LinkMessage::Packet(packet));
                    if snapshot.is_some() {
                        break None;
                    }
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        inbox.take(taken);
        // What is passed over says nothing.
        link.heard.set(link.heard.get() || !messages.is_empty());
        hand_over(link, pipeline, &mut messages);
        if let Some(error) = fault {
            return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string()));
        }
        if let Some(zxid) = snapshot.filter(|_| !link.closed.get()) {
            read_snapshot(link, &mut inbox, zxid, pipeline, limits).await?;
            has_unread = true;
        }
    }
}

/// The stream behind a SNAP, at the pace at which the disk takes it. What follows it stays in the buffer.
async fn read_snapshot(
    link: &Link,
    inbox: &mut Inbox,
    zxid: Zxid,
    pipeline: &PipelineHandle,
    limits: &Limits,
) -> io::Result<()> {
    let mut decoder = SnapshotDecoder::new(link.form(), zxid, *limits);
    let mut messages = Vec::new();
    while !link.closed.get() {
        let taken = decoder
            .push(inbox.unread())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        inbox.take(taken);
        let mut stands_still = taken == 0;
        while let Some(message) = decoder.take() {
            stands_still = false;
            messages.push(message);
            hand_over(link, pipeline, &mut messages);
            if link.closed.get() {
                return Ok(());
            }
            let room = pipeline.borrow().install_room();
            while pipeline.borrow().is_install_behind() && !link.closed.get() {
                // Now and then: the role may be over, and another link's reader wait in this one's place.
                futures_lite::future::or(room.lowered(), reactor::sleep(ROOM_LOOK)).await;
            }
            next_turn().await; // a tree that was decoded whole comes in one go
        }
        if decoder.is_over() {
            return Ok(());
        }
        next_turn().await;
        if stands_still && inbox.read_more(&mut &link.line.socket).await? == Arrival::EndOfStream {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

fn hand_over(link: &Link, pipeline: &PipelineHandle, messages: &mut Vec<LinkMessage>) {
    if !link.closed.get() && !messages.is_empty() {
        pipeline.borrow_mut().link_received(link.id, messages);
    }
    messages.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: usize, cost: usize) -> Vec<(usize, usize)> {
        let mut outgoing = Outgoing { bytes: vec![0; bytes], cost, snapshot: None };
        let mut pieces = Vec::new();
        while let Some(mut waiting) = outgoing.take() {
            while let Some((piece, cost)) = waiting.next_piece() {
                pieces.push((piece.len(), cost));
            }
        }
        pieces
    }

    #[test]
    fn what_was_said_to_cost_something_is_told_of_whatever_it_says() {
        assert_eq!(pieces(0, 0), []);
        assert_eq!(pieces(0, 1024), [(0, 1024)]);
        assert_eq!(pieces(10, 0), [(10, 0)]);
        assert_eq!(pieces(10, 64), [(10, 64)]);
    }

    #[test]
    fn much_leaves_in_pieces_with_the_cost_of_each() {
        let (piece, more) = (PIECE_BYTES, PIECE_BYTES / 2);
        assert_eq!(pieces(2 * piece + more, 3 * piece), [(piece, piece), (piece, piece), (more, piece)]);
        assert_eq!(pieces(2 * piece, more), [(piece, more), (piece, 0)]);
    }
}
