//! One of the two servers: its connections, and what it said to each step, as lines that can be compared.
//!
//! A step ends when the connection it is about has answered or was closed, so two servers that behave the same have
//! sent the same bytes on every connection by then: a notification for another connection was queued there before the
//! reply that ended the step, and is read in front of that connection's next reply (semantics 10.5).

use std::collections::BTreeMap;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::ask::{Ask, Body, opcode};
use super::show::{self, Eyes, Fields};
use super::words;
use crate::Result;
use crate::wire::Ticket;

/// Sessions take turns often enough that none of them ever comes near this.
pub const SESSION_TIMEOUT_MS: i32 = 600_000;
/// What a session of [`Step::Expire`] asks for.
const SHORT_TIMEOUT_MS: i32 = 4000;
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// More nodes than are ever removed in the end.
const REAPED_MAX: i64 = 10_000;
const EXPIRY_TIMEOUT: Duration = Duration::from_secs(60);
const FRAME_BYTES_MAX: usize = 64 << 20;
/// A longer frame is too long for some servers, and ends its connection.
const SHORT_FRAME_BYTES: usize = 380;

/// One thing that is done to both servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Requests sent in one go. The slot connects first if it has to: with its session if it has one.
    Ask { slot: usize, burst: Vec<Ask> },
    /// The client leaves without a word; its session stays.
    Drop { slot: usize },
    /// The session moves to a new connection while the old one is still open.
    TakeOver { slot: usize },
    /// Somebody who does not know the password wants the session. Only while it has no connection: D-001.
    WrongPassword { slot: usize },
    /// A new session with such a handshake, closed again at once.
    Handshake(Handshake),
    /// Both servers are killed and started again on what they wrote.
    Restart,
    /// The same, with a removal of containers and TTL nodes that does not let them wait; until nothing is removed any more.
    Reap,
    /// Several slots send at the same moment.
    Together(Vec<(usize, Vec<Ask>)>),
    /// A new session that asks for this, falls silent, and ends.
    Expire(Vec<Ask>),
    /// A four-letter word.
    Word(&'static str),
}

/// The parts of a handshake that may vary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    pub protocol_version: i32,
    /// Above the highest zxid that this side has shown; `None` is zero.
    pub zxid_ahead: Option<i64>,
    pub timeout_ms: i32,
    pub session_id: i64,
    pub password: Option<Vec<u8>>,
    pub read_only: Option<u8>,
}

/// What became of a step.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub lines: Vec<String>,
    /// For those who learn from the answers: index of the request, code, body.
    pub replies: Vec<(usize, i32, Vec<u8>)>,
}

/// Frames that a side was sent, handshakes apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heard {
    pub answers: usize,
    pub notifications: usize,
}

#[derive(Debug)]
pub struct Side {
    is_reference: bool,
    pub heard: Heard,
    address: SocketAddr,
    sessions: Vec<i64>,
    slots: Vec<Slot>,
    pub last_zxid: i64,
    /// The transactions that ended a session.
    endings: Vec<i64>,
    /// Zxids that the other server may have given to other writes, and the names of these: [`super::together`].
    pub zxids: BTreeMap<i64, String>,
    own_texts: Vec<String>,
    /// Steps so far.
    step_count: usize,
}

#[derive(Debug, Default)]
struct Slot {
    connection: Option<Connection>,
    session: Option<Ticket>,
}

#[derive(Debug)]
struct Connection(BufReader<TcpStream>);

enum Incoming {
    Frame(Vec<u8>),
    Closed,
    Silence,
}

impl Side {
    pub fn new(is_reference: bool, address: SocketAddr, own_texts: Vec<String>, slot_count: usize) -> Side {
        Side {
            is_reference,
            heard: Heard::default(),
            address,
            sessions: Vec::new(),
            slots: (0..slot_count).map(|_| Slot::default()).collect(),
            last_zxid: 0,
            endings: Vec::new(),
            zxids: BTreeMap::new(),
            own_texts,
            step_count: 0,
        }
    }

    /// In which order servers remove what has had its time is their own business, so which zxid a parent got by that is, too.
    pub fn let_zxids_differ(&mut self) {
        for zxid in self.last_zxid + 1..self.last_zxid + REAPED_MAX {
            self.zxids.insert(zxid, "later".into());
        }
    }

    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    pub fn eyes(&self) -> Eyes<'_> {
        Eyes { sessions: &self.sessions, zxids: &self.zxids, own_texts: &self.own_texts }
    }

    /// Does the first half of a step. Both sides begin before either is waited for.
    pub fn begin(&mut self, step: &Step, said: &mut Said) -> Result<()> {
        match step {
            Step::Ask { slot, burst } => {
                let bytes: Vec<u8> = burst.iter().flat_map(Ask::frame).collect();
                // The reference closes a connection with whatever is still on its way to it.
                if burst.iter().any(|ask| ask.is_answered_at_once() || ask.frame().len() > SHORT_FRAME_BYTES) {
                    self.settle(*slot, said)?;
                }
                // One request waits for the handshake, several do not: both have to work.
                let (behind, later) = if burst.len() > 1 { (&bytes[..], &[][..]) } else { (&[][..], &bytes[..]) };
                let later = if self.ensure_connected(*slot, behind, said)? { later } else { &bytes };
                self.send(*slot, later);
            }
            Step::Together(bursts) => self.begin_together(bursts, said)?,
            _ => {}
        }
        Ok(())
    }

    /// A connection that the server has closed shows when it is read.
    pub fn send(&mut self, slot: usize, bytes: &[u8]) {
        if let Some(connection) = &mut self.slots[slot].connection {
            let _ = connection.0.get_mut().write_all(bytes);
        }
    }

    /// Does the rest of it.
    pub fn finish(&mut self, step: &Step, said: &mut Said) -> Result<()> {
        self.step_count += 1;
        match step {
            Step::Ask { slot, burst } => self.read_replies(*slot, burst, said),
            Step::Drop { slot } => {
                self.settle(*slot, said)?;
                self.slots[*slot].connection = None;
            }
            Step::TakeOver { slot } => {
                self.settle(*slot, said)?;
                let former = self.slots[*slot].connection.take();
                self.ensure_connected(*slot, &[], said)?;
                if let Some(mut former) = former {
                    said.lines.push(format!("former connection: {}", former.end()));
                }
            }
            Step::WrongPassword { slot } => {
                self.settle(*slot, said)?;
                self.slots[*slot].connection = None;
                if let Some(Ticket { id, password }) = self.slots[*slot].session {
                    let password = Some(password.map(|byte| !byte).to_vec());
                    let handshake = Handshake { session_id: id, password, ..Handshake::standard() };
                    let (mut connection, line, _) = self.connect(&handshake, &[])?;
                    said.lines.push(format!("wrong password: {line}, then {}", connection.end()));
                }
            }
            Step::Handshake(handshake) => {
                let (mut connection, line, _) = self.connect(handshake, &[])?;
                said.lines.push(line);
                let close = Ask { xid: 77, ..Ask::new(opcode::CLOSE_SESSION, "", Body::default()) };
                let _ = connection.0.get_mut().write_all(&close.frame());
                if let Incoming::Frame(payload) = connection.frame() {
                    said.lines.push(self.show(opcode::CLOSE_SESSION, &payload).0);
                }
                said.lines.push(format!("then {}", connection.end()));
            }
            Step::Restart | Step::Reap => self.slots.iter_mut().for_each(|slot| slot.connection = None),
            Step::Together(bursts) => self.finish_together(self.step_count, bursts, said)?,
            Step::Expire(burst) => self.expire(burst, said)?,
            Step::Word(word) => {
                let answer = words::ask(self.address, word)?;
                let mut lines = self.eyes().word(word, &answer);
                if self.is_reference {
                    self.forget_the_closed(&mut lines);
                }
                said.lines.append(&mut lines);
            }
        }
        Ok(())
    }

    /// In `dump` of the reference a connection may stay behind that is closed by another thread while it is read from: D-094.
    fn forget_the_closed(&self, lines: &mut Vec<String>) {
        let connected = self.slots.iter().filter(|slot| slot.connection.is_some()).filter_map(|slot| slot.session);
        let mut open: Vec<String> =
            connected.map(|ticket| format!("dump: connection of {}", self.eyes().session(ticket.id))).collect();
        lines.retain(|line| {
            let at = open.iter().position(|open| open == line);
            at.map(|at| open.swap_remove(at)).is_some() || !line.starts_with("dump: connection of ")
        });
    }

    /// The session is this step's alone; that it has ended shows in the server's own count.
    fn expire(&mut self, burst: &[Ask], said: &mut Said) -> Result<()> {
        let before = words::session_count(self.address)?;
        let bytes: Vec<u8> = burst.iter().flat_map(Ask::frame).collect();
        let handshake = Handshake { timeout_ms: SHORT_TIMEOUT_MS, ..Handshake::standard() };
        let (connection, line, session) = self.connect(&handshake, &bytes)?;
        said.lines.push(line);
        self.slots.push(Slot { connection: session.is_some().then_some(connection), session });
        self.read_replies(self.slots.len() - 1, burst, said);
        self.slots.pop();
        let deadline = Instant::now() + EXPIRY_TIMEOUT;
        while words::session_count(self.address)? > before {
            if Instant::now() > deadline {
                said.lines.push("a silent session does not end".into());
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.endings.push(self.last_zxid + 1);
        Ok(())
    }

    /// The end of a session removes its ephemerals in no promised order, and notifications tell of it: D-016.
    pub fn settle_order(&self, lines: &mut [String]) {
        let ending = |line: &String| self.endings.iter().find(|zxid| line.starts_with(&format!("event zxid {zxid} ")));
        for group in lines.chunk_by_mut(|one, other| ending(one).is_some() && ending(one) == ending(other)) {
            group.sort();
        }
    }

    /// Reads what is still on its way to this slot.
    pub fn settle(&mut self, slot: usize, said: &mut Said) -> Result<()> {
        if self.slots[slot].connection.is_some() {
            let ping = Ask { xid: -2, ..Ask::new(opcode::PING, "", Body::default()) };
            let ping = Step::Ask { slot, burst: vec![ping] };
            self.begin(&ping, said)?;
            self.finish(&ping, said)?;
        }
        Ok(())
    }

    /// Connects a slot that has no connection and sends `behind` right behind the handshake; false if it has one.
    pub fn ensure_connected(&mut self, slot: usize, behind: &[u8], said: &mut Said) -> Result<bool> {
        if self.slots[slot].connection.is_some() {
            return Ok(false);
        }
        let mut handshake = Handshake::standard();
        if let Some(Ticket { id, password }) = self.slots[slot].session {
            handshake = Handshake { session_id: id, password: Some(password.to_vec()), ..handshake };
        }
        let (connection, line, session) = self.connect(&handshake, behind)?;
        said.lines.push(format!("slot {slot} {line}"));
        self.slots[slot].connection = session.is_some().then_some(connection);
        self.slots[slot].session = session;
        Ok(true)
    }

    fn connect(&mut self, handshake: &Handshake, behind: &[u8]) -> Result<(Connection, String, Option<Ticket>)> {
        let socket = TcpStream::connect_timeout(&self.address, READ_TIMEOUT)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(READ_TIMEOUT))?;
        let mut connection = Connection(BufReader::with_capacity(1 << 16, socket));
        connection.0.get_mut().write_all(&[&handshake.frame(self.last_zxid), behind].concat())?;
        let payload = match connection.frame() {
            Incoming::Frame(payload) => payload,
            Incoming::Closed => return Ok((connection, "no handshake, closed".into(), None)),
            Incoming::Silence => return Ok((connection, "no handshake, silence".into(), None)),
        };
        let mut fields = Fields(&payload);
        let decoded = (|| {
            let (version, timeout_ms, id) = (fields.int()?, fields.int()?, fields.long()?);
            Some((version, timeout_ms, id, <[u8; 16]>::try_from(fields.bytes()??).ok()?))
        })();
        let Some((version, timeout_ms, id, password)) = decoded else {
            return Ok((connection, format!("undecodable handshake {}", show::hex(&payload)), None));
        };
        if id != 0 && !self.sessions.contains(&id) {
            self.sessions.push(id);
        }
        let verdict = if password == password_of(id) {
            "right password"
        } else if password == [0; 16] {
            "no password"
        } else {
            "odd password"
        };
        let who = self.eyes().session(id);
        let line =
            format!("handshake version {version} timeout {timeout_ms} {who} {verdict} rest {}", show::hex(fields.0));
        Ok((connection, line, (id != 0).then_some(Ticket { id, password })))
    }

    fn read_replies(&mut self, slot: usize, burst: &[Ask], said: &mut Said) {
        for (index, ask) in burst.iter().enumerate() {
            loop {
                let Some(connection) = &mut self.slots[slot].connection else { return };
                let payload = match connection.frame() {
                    Incoming::Frame(payload) => payload,
                    Incoming::Closed => {
                        said.lines.push("closed".into());
                        self.slots[slot].connection = None;
                        return;
                    }
                    Incoming::Silence => {
                        said.lines.push(format!("silence instead of the reply to {}", ask.text));
                        self.slots[slot].connection = None;
                        return;
                    }
                };
                let (line, header) = self.show(ask.opcode, &payload);
                said.lines.push(line);
                let Some((xid, code)) = header else { continue };
                if xid != -1 {
                    said.replies.push((index, code, payload[16..].to_vec()));
                    self.expect_end(slot, ask, code, said);
                    break;
                }
            }
        }
    }

    /// What comes up to the reply to `ask`, as it is.
    pub fn take_frames(&mut self, slot: usize, ask: &Ask, frames: &mut Vec<(i32, Vec<u8>)>, said: &mut Said) {
        while let Some(connection) = &mut self.slots[slot].connection {
            match connection.frame() {
                Incoming::Frame(payload) => {
                    let is_event = show::split(&payload).is_some_and(|(header, _)| header.xid == -1);
                    self.heard.count(is_event);
                    frames.push((ask.opcode, payload));
                    if !is_event {
                        return;
                    }
                }
                Incoming::Closed | Incoming::Silence => {
                    said.lines.push(format!("slot {slot} closed or silent"));
                    self.slots[slot].connection = None;
                }
            }
        }
    }

    /// Some replies are the last thing a connection hears.
    fn expect_end(&mut self, slot: usize, ask: &Ask, code: i32, said: &mut Said) {
        let closes_session = ask.opcode == opcode::CLOSE_SESSION && code == 0;
        let is_refused = matches!(ask.opcode, opcode::AUTH | opcode::SASL) && code != 0;
        if closes_session || is_refused || code == -124 || (code == -6 && ask.is_answered_at_once()) {
            let slot = &mut self.slots[slot];
            let end = slot.connection.take().map(|mut connection| connection.end());
            said.lines.push(format!("then {}", end.unwrap_or_default()));
            if closes_session {
                slot.session = None;
            }
        }
    }

    /// The text of a frame behind the handshake; its xid and code.
    fn show(&mut self, asked: i32, payload: &[u8]) -> (String, Option<(i32, i32)>) {
        let Some((header, body)) = show::split(payload) else {
            return (format!("no header: {}", show::hex(payload)), None);
        };
        self.heard.count(header.xid == -1);
        self.last_zxid = self.last_zxid.max(header.zxid);
        if asked == opcode::CLOSE_SESSION && header.xid != -1 {
            self.endings.push(header.zxid);
        }
        let eyes = self.eyes();
        let line = if header.xid == -1 { eyes.event(&header, body) } else { eyes.reply(asked, &header, body) };
        (line, Some((header.xid, header.code)))
    }
}

impl Heard {
    fn count(&mut self, is_notification: bool) {
        *(if is_notification { &mut self.notifications } else { &mut self.answers }) += 1;
    }
}

impl Handshake {
    pub fn standard() -> Handshake {
        Handshake {
            protocol_version: 0,
            zxid_ahead: None,
            timeout_ms: SESSION_TIMEOUT_MS,
            session_id: 0,
            password: Some(vec![0; 16]),
            read_only: Some(0),
        }
    }

    /// What a client sends that knows nothing yet.
    pub fn first_frame(&self) -> Vec<u8> {
        self.frame(0)
    }

    fn frame(&self, last_zxid: i64) -> Vec<u8> {
        let seen = self.zxid_ahead.map_or(0, |ahead| last_zxid.saturating_add(ahead));
        let body = Body::default().int(self.protocol_version).long(seen).int(self.timeout_ms).long(self.session_id);
        let body = body.bytes(&self.password);
        let body = self.read_only.map_or(body.clone(), |read_only| body.byte(read_only));
        [&(body.0.len() as i32).to_be_bytes()[..], &body.0].concat()
    }
}

impl Connection {
    fn frame(&mut self) -> Incoming {
        let mut length = [0; 4];
        let payload = self.0.read_exact(&mut length).and_then(|()| {
            let length = usize::try_from(i32::from_be_bytes(length)).ok().filter(|bytes| *bytes <= FRAME_BYTES_MAX);
            let mut payload = vec![0; length.ok_or(io::Error::from(ErrorKind::InvalidData))?];
            self.0.read_exact(&mut payload).map(|()| payload)
        });
        match payload {
            Ok(payload) => Incoming::Frame(payload),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Incoming::Silence,
            Err(_) => Incoming::Closed,
        }
    }

    /// What comes when nothing should come any more.
    fn end(&mut self) -> String {
        match self.frame() {
            Incoming::Closed => "closed".into(),
            Incoming::Silence => "still open".into(),
            Incoming::Frame(payload) => format!("another frame: {}", show::hex(&payload)),
        }
    }
}

/// The password of a session (client-protocol 5.6). Java: `SessionTrackerImpl`, `ZooKeeperServer.generatePasswd`.
fn password_of(session_id: i64) -> [u8; 16] {
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let mut state = (session_id as u64 ^ 0xB341_5C00 ^ MULTIPLIER) & MASK;
    let mut password = [0; 16];
    for word in password.chunks_exact_mut(4) {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        word.copy_from_slice(&((state >> 16) as u32).to_le_bytes());
    }
    password
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_that_of_the_specification() {
        assert_eq!(show::hex(&password_of(0x0100_000c_a8fe_002c)), "e84f6bf32b557307a436047d9edabb4f");
        assert_eq!(show::hex(&password_of(-1)), "20f62cb5648dc2d771471c8a2486a9ee");
    }
}
