//! One node, its clients and its disk, all in the hands of a test.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ringkeeper::core::peer::MemberStart;
use ringkeeper::core::replay::{Recovered, Replay};
use ringkeeper::core::tree::MemorySnapshot;
use ringkeeper::core::{ConnectionId, Input, Node, Now, Output, SessionId, Settings, Zxid};
use ringkeeper::wire::client::{
    Acl, AclList, ConnectRequest, ConnectResponse, CreateRequest, OpCode, ReplyHeader, Request, Response, WatcherEvent,
    perms,
};
use ringkeeper::wire::frame::Frames;
use ringkeeper::wire::jute::{Limits, Reader};

pub struct Server {
    pub node: Node,
    pub now: Now,
    /// Everything handed to the log, in order.
    pub log: Vec<(Zxid, Bytes)>,
    pub durable: usize,
    /// Writes stay in flight until `disk_finishes`.
    pub slow_disk: bool,
    /// Clients that want another turn get it when the test says so.
    pub holds_turns: bool,
    sent: BTreeMap<ConnectionId, Vec<u8>>,
    pub closed: BTreeSet<ConnectionId>,
    pub paused: BTreeSet<ConnectionId>,
    /// Bytes a client was sent count as taken by it at once, unless it is deaf.
    pub deaf: BTreeSet<ConnectionId>,
    pub drained: bool,
    /// What a member says to its peers and its shell, for the ensemble to carry out.
    pub to_peers: Vec<Output>,
    /// What is said to operators.
    pub warned: Vec<String>,
    /// The newest snapshot that was begun, by its zxid.
    pub snapshot_begun: Option<Zxid>,
    member: bool,
    next_connection: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    pub connection: ConnectionId,
    pub session: SessionId,
    pub password: [u8; 16],
    pub timeout_ms: i32,
}

impl Client {
    /// Wants a new session of 10 s.
    pub const NOBODY: Client =
        Client { connection: ConnectionId(0), session: SessionId(0), password: [0; 16], timeout_ms: 10_000 };
}

/// A frame a client got, with the header taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub xid: i32,
    pub zxid: i64,
    pub err: i32,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn response(&self, asked: OpCode) -> Response<'_> {
        Response::decode(asked, &self.body).unwrap()
    }

    pub fn event(&self) -> WatcherEvent<'_> {
        assert_eq!(self.xid, -1, "{self:?} is no notification");
        WatcherEvent::decode(&self.body).unwrap()
    }
}

impl Server {
    pub fn new() -> Server {
        Server::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Server {
        let fresh = Replay::empty(settings.tree_options()).finish();
        Server::on(settings, fresh)
    }

    pub fn on(settings: Settings, recovered: Recovered) -> Server {
        let now = Now { mono_us: 1_000_000, wall_ms: 1_795_000_000_000 };
        Server::of(Node::standalone(settings, recovered, now), now)
    }

    /// One of an ensemble, on a log that is on its disk.
    pub fn member(settings: Settings, start: MemberStart, log: Vec<(Zxid, Bytes)>, now: Now) -> Server {
        let mut said = Vec::new();
        let node = Node::member(settings, start, now, &mut said);
        let durable = log.len();
        Server { member: true, to_peers: said, log, durable, ..Server::of(node, now) }
    }

    fn of(node: Node, now: Now) -> Server {
        Server {
            node,
            now,
            log: Vec::new(),
            durable: 0,
            slow_disk: false,
            holds_turns: false,
            sent: BTreeMap::new(),
            closed: BTreeSet::new(),
            paused: BTreeSet::new(),
            deaf: BTreeSet::new(),
            drained: false,
            to_peers: Vec::new(),
            warned: Vec::new(),
            member: false,
            snapshot_begun: None,
            next_connection: 0,
        }
    }

    /// A server started on what this one's disk holds.
    pub fn restarted(&self, settings: Settings) -> Server {
        let mut replay = Replay::empty(settings.tree_options());
        for (_, bytes) in &self.log[..self.durable] {
            replay.apply(bytes).unwrap();
        }
        let recovered = replay.finish();
        assert_eq!(recovered.mismatches, []);
        Server::on(settings, recovered)
    }

    /// A snapshot of the present state.
    pub fn snapshot(&mut self) -> MemorySnapshot {
        let (mut header, mut images, mut out) = (None, Vec::new(), Vec::new());
        self.node.step(self.now, Input::SnapshotWanted, &mut out);
        while header.is_none() || self.node.snapshot_running() {
            for output in out.drain(..) {
                match output {
                    Output::SnapshotBegin(begun) => header = Some(*begun),
                    Output::SnapshotChunk(chunk) => images.extend(chunk.nodes),
                    Output::SnapshotFinish => self.step(Input::SnapshotEnded),
                    other => panic!("{other:?}"),
                }
            }
            self.node.step(self.now, Input::SnapshotRoom { chunks: 1 }, &mut out);
        }
        MemorySnapshot::new(header.expect("begun"), images)
    }

    /// A server started on a snapshot and what this one's log has behind it.
    pub fn restarted_on(&self, snapshot: MemorySnapshot, settings: Settings) -> Server {
        use ringkeeper_storage::SnapshotSource;
        let zxid = Zxid(snapshot.header().zxid);
        let mut replay = Replay::from_snapshot(Box::new(snapshot), settings.tree_options()).unwrap();
        for (_, bytes) in self.log[..self.durable].iter().filter(|(at, _)| *at > zxid) {
            replay.apply(bytes).unwrap();
        }
        let recovered = replay.finish();
        assert_eq!(recovered.mismatches, []);
        Server { now: self.now, ..Server::on(settings, recovered) }
    }

    pub fn step(&mut self, input: Input<'_>) {
        let mut out = Vec::new();
        self.node.step(self.now, input, &mut out);
        self.node.flush(&mut out);
        self.carry_out(out);
        if !self.slow_disk {
            self.disk_finishes();
        }
        if !self.holds_turns && self.node.wants_turn() {
            self.step(Input::NextTurn);
        }
    }

    pub fn disk_finishes(&mut self) {
        while self.durable < self.log.len() {
            self.durable = self.log.len();
            let through = self.log.last().unwrap().0;
            let mut out = Vec::new();
            self.node.step(self.now, Input::LogDurable { through }, &mut out);
            self.node.flush(&mut out);
            self.carry_out(out);
        }
    }

    /// The disk has `records` more of the log.
    pub fn disk_finishes_some(&mut self, records: usize) {
        let durable = (self.durable + records).min(self.log.len());
        if durable == self.durable {
            return;
        }
        self.durable = durable;
        let mut out = Vec::new();
        self.node.step(self.now, Input::LogDurable { through: self.log[durable - 1].0 }, &mut out);
        self.node.flush(&mut out);
        self.carry_out(out);
    }

    /// A client that was deaf takes everything it was sent.
    pub fn hears_again(&mut self, connection: ConnectionId) {
        if self.deaf.remove(&connection) {
            self.step(Input::Sent { connection, bytes: usize::MAX / 2 });
        }
    }

    fn carry_out(&mut self, mut out: Vec<Output>) {
        while !out.is_empty() {
            let mut more = Vec::new();
            for output in out {
                match output {
                    Output::Send { connection, bytes } => {
                        self.sent.entry(connection).or_default().extend(&bytes);
                        if !self.deaf.contains(&connection) {
                            let input = Input::Sent { connection, bytes: bytes.len() };
                            self.node.step(self.now, input, &mut more);
                        }
                    }
                    Output::Close { connection } => {
                        self.closed.insert(connection);
                        self.node.step(self.now, Input::Disconnected { connection }, &mut more);
                    }
                    Output::PauseReading { connection } => assert!(self.paused.insert(connection)),
                    Output::ResumeReading { connection } => assert!(self.paused.remove(&connection)),
                    Output::Log { zxid, txn } => self.log.push((zxid, txn)),
                    Output::Drained => self.drained = true,
                    Output::SnapshotBegin(begun) => self.snapshot_begun = Some(Zxid(begun.zxid)),
                    Output::SnapshotChunk(_) | Output::SnapshotFinish => {}
                    Output::SnapshotAbandon { .. } => {}
                    Output::Moved(moved) => assert_eq!(moved.contradiction, None),
                    Output::Warned(words) => self.warned.push(words),
                    other if self.member => self.to_peers.push(other),
                    other => unreachable!("a standalone server has no peers: {other:?}"),
                }
            }
            self.node.flush(&mut more);
            out = more;
        }
    }

    /// A disk snapshot is due: whether one begins, and of what.
    pub fn wants_snapshot(&mut self) -> Option<Zxid> {
        self.step(Input::SnapshotWanted);
        self.snapshot_begun
    }

    pub fn pass_ms(&mut self, ms: u64) {
        self.now.mono_us += ms * 1000;
        self.now.wall_ms += ms as i64;
        self.step(Input::Tick);
    }

    /// A connection that has said nothing yet.
    pub fn accept(&mut self) -> ConnectionId {
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        self.step(Input::Connected { connection, peer: "127.0.0.1:40000".parse().unwrap() });
        connection
    }

    pub fn bytes(&mut self, connection: ConnectionId, frames: &[u8]) {
        self.step(Input::Received { connection, frames });
    }

    /// What a client was sent since the last look, frame by frame.
    pub fn frames(&mut self, connection: ConnectionId) -> Vec<Vec<u8>> {
        let bytes = self.sent.remove(&connection).unwrap_or_default();
        let mut frames = Frames::new(&bytes);
        let payloads = frames.by_ref().map(<[u8]>::to_vec).collect();
        assert!(frames.rest().is_empty(), "half a frame was sent");
        payloads
    }

    pub fn replies(&mut self, client: impl Into<ConnectionId>) -> Vec<Reply> {
        let frames = self.frames(client.into());
        let parse = |frame: Vec<u8>| {
            let mut reader = Reader::new(&frame, &Limits::FORMAT);
            let header = ReplyHeader::decode(&mut reader).unwrap();
            Reply { xid: header.xid, zxid: header.zxid, err: header.err, body: reader.rest().to_vec() }
        };
        frames.into_iter().map(parse).collect()
    }

    pub fn connect_frame(session: SessionId, password: &[u8], timeout_ms: i32, last_zxid_seen: i64) -> Vec<u8> {
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen,
            timeout_ms,
            session_id: session.0,
            password: Some(password),
            read_only: Some(false),
        };
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        bytes
    }

    /// A client with a new session of 10 s.
    pub fn client(&mut self) -> Client {
        let connection = self.accept();
        self.bytes(connection, &Server::connect_frame(SessionId(0), &[0; 16], 10_000, 0));
        self.welcomed(connection).expect("a new session")
    }

    pub fn resume(&mut self, client: &Client) -> Option<Client> {
        let connection = self.accept();
        self.bytes(connection, &Server::connect_frame(client.session, &client.password, client.timeout_ms, 0));
        self.welcomed(connection)
    }

    /// The client of a connection whose handshake was answered; `None` for a refusal.
    pub fn welcomed(&mut self, connection: ConnectionId) -> Option<Client> {
        self.welcomed_in_mode(connection).map(|(client, _)| client)
    }

    /// The same, and whether the server says it is in read-only mode.
    pub fn welcomed_in_mode(&mut self, connection: ConnectionId) -> Option<(Client, bool)> {
        let frames = self.frames(connection);
        let response = ConnectResponse::decode(frames.first()?).unwrap();
        assert_eq!(frames.len(), 1, "the handshake has one answer");
        let client = Client {
            connection,
            session: SessionId(response.session_id),
            password: response.password,
            timeout_ms: response.timeout_ms,
        };
        (response.session_id != 0).then_some((client, response.read_only == Some(true)))
    }

    /// Whether the handshake of this connection was answered with zeros, by nothing else, and then it was closed.
    pub fn is_refused(&mut self, connection: ConnectionId) -> bool {
        let frames = self.frames(connection);
        let Some(response) = frames.first().map(|frame| ConnectResponse::decode(frame).unwrap()) else { return false };
        let zeros = (response.timeout_ms, response.session_id, response.password) == (0, 0, [0; 16]);
        zeros && frames.len() == 1 && self.closed.contains(&connection)
    }

    pub fn send(&mut self, client: impl Into<ConnectionId>, xid: i32, request: &Request<'_>) {
        let mut bytes = Vec::new();
        request.encode(xid, &mut bytes);
        self.bytes(client.into(), &bytes);
    }

    /// Sends one request and expects exactly one answer, notifications aside (they stay unread).
    pub fn ask(&mut self, client: impl Into<ConnectionId>, request: &Request<'_>) -> Reply {
        let connection = client.into();
        self.send(connection, 77, request);
        let replies = self.replies(connection);
        let mut answers: Vec<Reply> = replies.into_iter().filter(|reply| reply.xid == 77).collect();
        assert_eq!(answers.len(), 1, "{request:?}");
        answers.remove(0)
    }

    /// The error number of the answer.
    pub fn err(&mut self, client: impl Into<ConnectionId>, request: &Request<'_>) -> i32 {
        self.ask(client, request).err
    }

    pub fn must(&mut self, client: impl Into<ConnectionId>, request: &Request<'_>) -> Reply {
        let reply = self.ask(client, request);
        assert_eq!(reply.err, 0, "{request:?}");
        reply
    }
}

impl From<Client> for ConnectionId {
    fn from(client: Client) -> ConnectionId {
        client.connection
    }
}

impl From<&Client> for ConnectionId {
    fn from(client: &Client) -> ConnectionId {
        client.connection
    }
}

pub fn open_acl() -> AclList<'static> {
    acl(perms::ALL, "world", "anyone")
}

pub fn acl(perms: i32, scheme: &'static str, id: &'static str) -> AclList<'static> {
    [Acl { perms, scheme: Some(scheme.into()), id: Some(id.into()) }].into_iter().collect()
}

/// Flags of `create`.
pub const PERSISTENT: i32 = 0;
pub const EPHEMERAL: i32 = 1;
pub const SEQUENTIAL: i32 = 2;

pub fn create_request<'a>(path: &'a str, data: &'a [u8], flags: i32) -> CreateRequest<'a> {
    CreateRequest { path: Some(path.into()), data: Some(data), acl: Some(open_acl()), flags }
}

pub fn create<'a>(path: &'a str, data: &'a [u8], flags: i32) -> Request<'a> {
    Request::Create(create_request(path, data, flags))
}

pub fn delete(path: &str, version: i32) -> Request<'_> {
    Request::Delete { path: Some(path.into()), version }
}

pub fn set<'a>(path: &'a str, data: &'a [u8], version: i32) -> Request<'a> {
    Request::SetData { path: Some(path.into()), data: Some(data), version }
}

pub fn get(path: &str, watch: bool) -> Request<'_> {
    Request::GetData { path: Some(path.into()), watch }
}

pub fn exists(path: &str, watch: bool) -> Request<'_> {
    Request::Exists { path: Some(path.into()), watch }
}

pub fn children(path: &str, watch: bool) -> Request<'_> {
    Request::GetChildren { path: Some(path.into()), watch }
}
