//! Notifications between electors, one connection a pair of servers: the one that the larger sid opened.
//!
//! ```text
//!  we call a smaller one    connect, introduce ourselves ----------------------> talk
//!  we call a larger one     connect, introduce ourselves, hang up: "call me" --> it calls
//!  a larger one called      read who it is ------------------------------------> talk, in place of an older connection
//!  a smaller one called     read who it is, hang up ---------------------------> we call it, where it says it is,
//!                                                                                and end an older connection
//! ```
//!
//! Every server has a [`Line`]: the newest notification that was not sent (a newer one takes its place), the last one that was
//! (it is sent again on a new connection: the other end may have lost it), and one task that does the calling and talking.
//! Nothing here repeats anything by a clock: the elector does, and each notification to an unreachable server is an attempt.
//! Java: `QuorumCnxManager`. Spec: quorum-protocol 3.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::TcpStream;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, select};
use tracing::{debug, info, warn};

use super::dial::Dials;
use super::peer_socket::{HangUpAfter, PeerSocket, PhoneLine, read_more};
use super::roll::Roll;
use crate::core::ServerId;
use crate::shell::flag::Flag;
use crate::shell::logging::Throttle;
use crate::shell::mailbox::Arrivals;
use crate::shell::pipeline::PipelineHandle;
use crate::shell::reactor::{self, Socket, next_turn};
use crate::shell::resolve::HostPort;
use crate::wire::election::{ElectionAddress, Introduction, Notification, frame_bytes};

/// Callers that have not said who they are. At the bound the oldest is hung up on: one that means it says so at once.
const STRANGERS: usize = 64;

/// Servers that are no members and have a line: they may be soon, and whoever can reach the port may invent some. At the
/// bound one that is not in use gives way; without one, nobody new of them is talked to. Members always have theirs.
const OUTSIDERS: usize = 64;

/// Where a caller can ask to be called. Nobody has more addresses.
const CALL_BACK_ADDRESSES: usize = 8;

/// Bytes read at a time: a notification is some hundred.
const READ_BYTES: usize = 4096;

#[derive(Clone, Debug)]
pub struct ElectionSettings {
    pub server: ServerId,
    /// `cnxTimeout`.
    pub connect_limit: Duration,
    /// `quorumCnxnTimeoutMs`, or syncLimit ticks: how long a caller may take to say who it is.
    pub introduction_limit: Duration,
    /// `tcpKeepAlive`.
    pub keep_alive: bool,
    pub multi_address: bool,
    /// How long a peer may take nothing of what is sent: syncLimit ticks.
    pub stall_limit: Duration,
}

pub struct ElectionPort {
    settings: ElectionSettings,
    roll: Rc<Roll>,
    dials: Rc<Dials>,
    lines: RefCell<BTreeMap<ServerId, Rc<Line>>>,
    /// Oldest first.
    strangers: RefCell<VecDeque<Rc<PhoneLine>>>,
    /// Lines that need a task; None: its task ends, it gave way.
    changes: RefCell<Vec<(ServerId, Option<Rc<Line>>)>>,
    /// Raised when there are.
    changed: Flag,
    /// How often lines were asked for.
    uses: Cell<u64>,
    failures: RefCell<Throttle>,
}

#[derive(Default)]
struct Line {
    /// Frames.
    unsent: RefCell<Option<Vec<u8>>>,
    last: RefCell<Option<Vec<u8>>>,
    /// It called us, and may.
    called: RefCell<Option<PeerSocket>>,
    /// It asked to be called, there.
    call_back: RefCell<Option<Vec<HostPort>>>,
    /// Why there is no connection, as of the last attempt or the end of the last one.
    trouble: RefCell<Option<String>>,
    /// Raised when any of these changes.
    work: Flag,
    /// Its task waits, and the flag is down.
    idle: Cell<bool>,
    /// The last of the port's uses that was of this one.
    used: Cell<u64>,
}

impl Line {
    fn wake(&self) {
        self.idle.set(false);
        self.work.raise();
    }

    async fn wait_for_work(&self) {
        self.idle.set(true);
        self.work.lowered().await;
        self.idle.set(false);
    }

    fn is_asked_to_call(&self) -> bool {
        self.unsent.borrow().is_some() || self.call_back.borrow().is_some()
    }

    /// The socket on which it called us. What else is new is for whoever waits for work next to find.
    fn poll_called(&self, cx: &mut Context<'_>) -> Poll<PeerSocket> {
        // Only a flag that is down wakes.
        while self.work.poll_lowered(cx).is_ready() {}
        self.called.take().map_or(Poll::Pending, Poll::Ready)
    }
}

impl ElectionPort {
    pub fn new(settings: ElectionSettings, roll: Rc<Roll>, dials: Rc<Dials>) -> ElectionPort {
        ElectionPort {
            settings,
            roll,
            dials,
            lines: RefCell::default(),
            strangers: RefCell::default(),
            changes: RefCell::default(),
            changed: Flag::default(),
            uses: Cell::default(),
            failures: RefCell::new(Throttle::new()),
        }
    }

    /// Takes the place of what has not been sent.
    pub fn notify(&self, to: ServerId, notification: &Notification) {
        let mut frame = Vec::new();
        notification.encode(&mut frame);
        if let Some(line) = self.line(to) {
            *line.unsent.borrow_mut() = Some(frame);
            line.wake();
        }
    }

    pub fn trouble(&self, server: ServerId) -> Option<String> {
        self.lines.borrow().get(&server)?.trouble.borrow().clone()
    }

    fn line(&self, of: ServerId) -> Option<Rc<Line>> {
        let mut lines = self.lines.borrow_mut();
        if !lines.contains_key(&of) {
            if !self.roll.is_member(of) && !self.make_room(&mut lines) {
                self.note(&format!(
                    "server {} is no member and not talked to: {OUTSIDERS} others that are none keep the election port busy; \
                     let only the ensemble's servers reach it",
                    of.0
                ));
                return None;
            }
            let line = Rc::<Line>::default();
            lines.insert(of, line.clone());
            self.changes.borrow_mut().push((of, Some(line)));
            self.changed.raise();
        }
        self.uses.set(self.uses.get() + 1);
        lines[&of].used.set(self.uses.get());
        Some(lines[&of].clone())
    }

    /// For one that is no member.
    fn make_room(&self, lines: &mut BTreeMap<ServerId, Rc<Line>>) -> bool {
        let outsiders = || lines.iter().filter(|(id, _)| !self.roll.is_member(**id));
        if outsiders().count() < OUTSIDERS {
            return true;
        }
        let oldest = outsiders().filter(|(_, line)| line.idle.get()).min_by_key(|(_, line)| line.used.get());
        let Some(oldest) = oldest.map(|(id, _)| *id) else { return false };
        lines.remove(&oldest);
        self.changes.borrow_mut().push((oldest, None));
        self.changed.raise();
        true
    }

    /// Gives every line its task, for as long as the executor runs.
    pub async fn run_lines(self: Rc<Self>, pipeline: PipelineHandle) {
        let mut tasks = BTreeMap::new(); // they end with this one
        loop {
            self.changed.lowered().await;
            for (peer, line) in self.changes.take() {
                let run = |line| reactor::spawn(self.clone().run_line(peer, line, pipeline.clone()));
                let ended = match line.map(run) {
                    Some(task) => tasks.insert(peer, task),
                    None => tasks.remove(&peer),
                };
                drop(ended); // it was idle
            }
        }
    }

    /// Answers callers until the accept threads end.
    pub async fn run_callers(self: Rc<Self>, mut arrivals: Arrivals<TcpStream>) {
        while let Some(socket) = poll_fn(|cx| arrivals.poll_next(cx)).await {
            match PeerSocket::new(socket, self.settings.keep_alive, self.settings.stall_limit) {
                Ok(socket) => drop(reactor::spawn(self.clone().meet(socket)).detach()),
                Err(error) => self.note(&format!("a call to the election port cannot be taken: {error}")),
            }
            next_turn().await;
        }
    }

    async fn meet(self: Rc<Self>, socket: PeerSocket) {
        let line = socket.line.clone();
        let oldest = {
            let mut strangers = self.strangers.borrow_mut();
            strangers.push_back(line.clone());
            if strangers.len() > STRANGERS { strangers.pop_front() } else { None }
        };
        if let Some(oldest) = oldest {
            oldest.hang_up(); // its own task finds out
        }
        if let Err(error) = self.answer(socket).await {
            self.note(&format!("a call to the election port came to nothing: {error}"));
        }
        self.strangers.borrow_mut().retain(|stranger| !Rc::ptr_eq(stranger, &line));
    }

    async fn answer(&self, mut socket: PeerSocket) -> io::Result<()> {
        let limit = HangUpAfter::new(&socket.line, self.settings.introduction_limit);
        let introduction = introduction_of(&mut socket).await;
        limit.cancel().await;
        let Introduction { server, addresses, .. } = introduction?;
        let caller = ServerId(server);
        if server == Introduction::ANONYMOUS {
            return Err(invalid(format!("{} does not say which server it is", socket.line.peer)));
        }
        if caller == self.settings.server {
            return Err(invalid(format!(
                "{} says it is server {server}, and so is this one: two servers have the same myid, or an address is this \
                 server's own",
                socket.line.peer
            )));
        }
        let Some(line) = self.line(caller) else { return Ok(()) };
        if caller > self.settings.server {
            debug!("server {server} called from {}", socket.line.peer);
            *line.called.borrow_mut() = Some(socket);
        } else {
            socket.line.hang_up();
            *line.call_back.borrow_mut() = Some(call_back_addresses(addresses));
        }
        line.wake();
        Ok(())
    }

    async fn run_line(self: Rc<Self>, peer: ServerId, line: Rc<Line>, pipeline: PipelineHandle) {
        loop {
            line.wait_for_work().await;
            // Bound to its own statement: what is borrowed must not be while others run.
            let called = line.called.take();
            let socket = match called {
                Some(socket) => Some(socket),
                None if line.is_asked_to_call() => {
                    let answered = self.call(peer, &line).await;
                    if answered.is_none() && (line.called.borrow().is_some() || line.call_back.borrow().is_some()) {
                        line.work.raise(); // it called meanwhile
                    }
                    answered
                }
                None => None,
            };
            if let Some(socket) = socket {
                self.talk(peer, &line, socket, &pipeline).await;
                // A message may have come while the connection broke.
                line.work.raise();
                next_turn().await;
            }
        }
    }

    /// Calls unless it calls first. None: it could not be reached, or calls back.
    async fn call(&self, peer: ServerId, line: &Line) -> Option<PeerSocket> {
        let known = self.roll.election_addresses(peer);
        let mut told = line.call_back.take().unwrap_or_default();
        told.retain(|address| !known.contains(address));
        let dialling = std::pin::pin!(self.dials.dial(&known, &told, self.settings.connect_limit));
        let called = std::pin::pin!(poll_fn(|cx| line.poll_called(cx)));
        let dialled = match select(dialling, called).await {
            Either::Left((dialled, _)) => dialled,
            Either::Right((socket, _)) => return Some(socket),
        };
        let introduced = async {
            let socket = PeerSocket::new(dialled?, self.settings.keep_alive, self.settings.stall_limit)?;
            let mut introduction = Vec::new();
            self.introduction().encode(&mut introduction);
            socket.line.write_all(&introduction).await?;
            Ok::<_, io::Error>(socket)
        };
        match introduced.await {
            Ok(socket) if peer < self.settings.server => {
                line.call_back.take(); // what it wished for meanwhile
                Some(socket)
            }
            Ok(socket) => {
                *line.trouble.borrow_mut() = None;
                socket.line.end_writing(); // it reads who we are, then the end, and calls
                None
            }
            Err(error) => {
                *line.trouble.borrow_mut() = Some(error.to_string());
                self.note(&format!("Cannot open channel to {} at election address {error}", peer.0));
                None
            }
        }
    }

    fn introduction(&self) -> Introduction {
        let addresses = self.roll.election_addresses(self.settings.server);
        let address = |(host, port)| ElectionAddress { host, port };
        Introduction {
            server: self.settings.server.0,
            addresses: addresses.into_iter().map(address).collect(),
            multi_address: self.settings.multi_address,
        }
    }

    /// Until the connection ends, or another takes its place.
    async fn talk(&self, peer: ServerId, line: &Line, socket: PeerSocket, pipeline: &PipelineHandle) {
        let PeerSocket { line: phone, unread } = socket;
        *line.trouble.borrow_mut() = None;
        if line.unsent.borrow().is_none() {
            let last = line.last.borrow().clone();
            *line.unsent.borrow_mut() = last;
        }
        line.work.raise();
        let hearing = reactor::spawn({
            let (pipeline, phone) = (pipeline.clone(), phone.clone());
            async move {
                let ended = hear(peer, &phone.socket, unread, &pipeline).await;
                phone.hang_up();
                ended
            }
        });
        let speaking = async {
            loop {
                line.work.lowered().await;
                // A newer connection, or its wish for one. It would have no use for one as long as it has this: its end is gone,
                // and we were not told (while a link is down, the kernel gives up an end without a word to the other).
                if line.called.borrow().is_some() || line.call_back.borrow().is_some() {
                    return Ok(());
                }
                let Some(frame) = line.unsent.take() else { continue };
                phone.write_all(&frame).await?;
                *line.last.borrow_mut() = Some(frame);
            }
        };
        let spoken: io::Result<()> = match select(std::pin::pin!(speaking), hearing).await {
            Either::Left((spoken, hearing)) => {
                phone.hang_up();
                hearing.await;
                spoken
            }
            Either::Right((_, _)) => Ok(()),
        };
        let ended =
            if line.called.borrow().is_none() { Some("its election connection ended".to_owned()) } else { None };
        *line.trouble.borrow_mut() = ended;
        match spoken {
            Ok(()) => debug!("the connection with server {} on the election port is over", peer.0),
            Err(error) => debug!("the connection with server {} on the election port broke: {error}", peer.0),
        }
    }

    /// The same trouble at each attempt is told once in a while.
    fn note(&self, trouble: &str) {
        let mut failures = self.failures.borrow_mut();
        if let Some(left_out) = failures.pass() {
            warn!("{trouble}{left_out}");
        } else {
            debug!("{trouble}");
        }
    }
}

/// Hands every notification to the core, until the connection ends.
async fn hear(peer: ServerId, socket: &Socket, mut buffer: Vec<u8>, pipeline: &PipelineHandle) {
    let mut nonsense = Throttle::new();
    loop {
        let mut taken = 0;
        while let Some((word, rest)) = buffer[taken..].split_first_chunk() {
            let bytes = match frame_bytes(*word) {
                Ok(bytes) => bytes,
                Err(error) => return info!("server {} says what makes no sense on the election port: {error}", peer.0),
            };
            let Some(body) = rest.get(..bytes) else { break };
            match Notification::decode(body) {
                Ok(notification) => pipeline.borrow_mut().notified(peer, notification),
                Err(error) => {
                    if let Some(left_out) = nonsense.pass() {
                        info!("a notification of server {} makes no sense and is not heard: {error}{left_out}", peer.0);
                    }
                }
            }
            taken += word.len() + bytes;
        }
        buffer.drain(..taken);
        match read_more(socket, &mut buffer, READ_BYTES).await {
            Ok(true) => next_turn().await,
            Ok(false) | Err(_) => return,
        }
    }
}

async fn introduction_of(socket: &mut PeerSocket) -> io::Result<Introduction> {
    let mut buffer = Vec::new();
    loop {
        let told = Introduction::decode(&buffer).map_err(|error| invalid(format!("{}: {error}", socket.line.peer)))?;
        if let Some((introduction, bytes)) = told {
            socket.unread = buffer.split_off(bytes);
            return Ok(introduction);
        }
        if !read_more(&socket.line.socket, &mut buffer, READ_BYTES).await? {
            return Err(invalid(format!("{} hung up, or was too slow to say who it is", socket.line.peer)));
        }
    }
}

fn call_back_addresses(told: Vec<ElectionAddress>) -> Vec<HostPort> {
    told.into_iter().take(CALL_BACK_ADDRESSES).map(|address| (address.host, address.port)).collect()
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Wake, Waker};

    use super::*;
    use crate::core::zab::membership::{Configurations, Membership};

    #[test]
    fn invented_servers_leave_members_their_lines_and_make_room_for_each_other() {
        let settings = ElectionSettings {
            server: ServerId(1),
            connect_limit: Duration::ZERO,
            introduction_limit: Duration::ZERO,
            keep_alive: false,
            multi_address: false,
            stall_limit: Duration::ZERO,
        };
        let port = ElectionPort::new(
            settings,
            Rc::new(Roll::new(ServerId(1), Configurations::settled(Membership::of(3, 0)), None)),
            Rc::default(),
        );
        let has_line = |id| port.lines.borrow().contains_key(&ServerId(id));
        assert!((1000..2000).filter(|id| port.line(ServerId(*id)).is_some()).count() == OUTSIDERS);
        assert!(port.line(ServerId(2)).is_some() && port.line(ServerId(3)).is_some(), "members");
        // In this order they are used last.
        for id in [1007, 1003] {
            port.line(ServerId(id)).unwrap().idle.set(true);
        }
        port.changes.take();
        assert!(port.line(ServerId(5000)).is_some());
        assert!(
            !has_line(1007) && has_line(1003) && has_line(1000),
            "the oldest of those that are not in use gave way"
        );
        let changes: Vec<_> = port.changes.take().into_iter().map(|(id, line)| (id.0, line.is_some())).collect();
        assert_eq!(changes, [(1007, false), (5000, true)]);
        port.line(ServerId(1003)).unwrap().wake();
        assert!(port.line(ServerId(5001)).is_none(), "work waits for it");
    }

    #[test]
    fn a_caller_is_called_back_at_a_few_addresses_only() {
        let told = (1..=500).map(|port| ElectionAddress { host: "h".into(), port }).collect();
        let called: Vec<u16> = call_back_addresses(told).into_iter().map(|(_, port)| port).collect();
        assert_eq!(called, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_call_that_comes_behind_other_work_wakes_who_waits_for_it() {
        let (line, woken) = (Line::default(), Arc::<Woken>::default());
        let waker = Waker::from(woken.clone());
        line.work.raise(); // a notification to send
        assert!(line.poll_called(&mut Context::from_waker(&waker)).is_pending());
        line.work.raise(); // the call
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }
}
