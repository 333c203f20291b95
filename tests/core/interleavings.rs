//! Random interleavings of a few clients, a slow disk, deaf clients, disconnects, resumes, expiry and a full disk, from a
//! seed; a failure names it. What must hold whatever happens:
//!
//! * replies come once and in request order, and their zxids never go back; nothing but an end of the connection loses one
//! * a read of a node that only its own session writes shows that session's last write before it
//! * the log replays to the same tree, with every digest as foreseen, and to the same sessions
//! * ephemerals have a session; nobody stays paused when everything is answered

use std::collections::{BTreeSet, VecDeque};

use ringkeeper::core::node_view::Wanted;
use ringkeeper::core::{ConnectionId, Input, LogRoom, SessionId, Settings};
use ringkeeper::wire::client::{ConnectResponse, MultiOp, OpCode, ReplyHeader, Request, Response, xid as xids};
use ringkeeper::wire::jute::{Limits, Reader};

use crate::harness::*;

const SEEDS: u64 = 60;
const STEPS: usize = 400;
const PLAYERS: usize = 5;

const NODES: [&str; 6] = ["/a", "/a/b", "/a/c", "/d", "/d/e", "/a/b/f"];

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn node(&mut self) -> &'static str {
        NODES[self.below(NODES.len() as u64) as usize]
    }

    fn flags(&mut self) -> i32 {
        self.below(4) as i32
    }
}

/// What a request that waits for its answer is about.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    OwnSet(u32),
    OwnGet,
    Ping,
    Other,
}

#[derive(Default)]
struct Player {
    /// The session of its last handshake, to be resumed.
    known: Option<Client>,
    connection: Option<ConnectionId>,
    welcomed: bool,
    closing: bool,
    waiting: VecDeque<(i32, Asked)>,
    next: u32,
    last_zxid: i64,
    /// The last write to its own node that succeeded on this connection.
    own: Option<u32>,
}

impl Player {
    fn begin(&mut self, connection: ConnectionId) {
        *self = Player { known: self.known, connection: Some(connection), next: self.next, ..Player::default() };
    }
}

struct Game {
    server: Server,
    chance: Chance,
    players: Vec<Player>,
}

impl Game {
    fn new(seed: u64) -> Game {
        let mut server = Server::with(Settings { global_outstanding_limit: 8, ..Settings::default() });
        let founder = server.client();
        server.must(founder, &create("/big", &vec![b'x'; 300_000], PERSISTENT));
        for player in 0..PLAYERS {
            server.must(founder, &create(&format!("/own{player}"), b"", PERSISTENT));
        }
        server.must(founder, &Request::CloseSession);
        server.slow_disk = true;
        Game { server, chance: Chance(seed), players: (0..PLAYERS).map(|_| Player::default()).collect() }
    }

    fn play(&mut self) {
        for _ in 0..STEPS {
            let at = self.chance.below(PLAYERS as u64) as usize;
            match self.chance.below(20) {
                0..10 => self.ask(at),
                10..14 => {
                    let records = self.chance.below(6) as usize;
                    self.server.disk_finishes_some(records);
                }
                14 => self.server.disk_finishes(),
                15 => self.leave(at),
                16 => {
                    let ms = self.chance.below(4000);
                    self.server.pass_ms(ms);
                }
                17 | 18 => self.toggle_deaf(at),
                _ => {
                    let room = [LogRoom::Low, LogRoom::None, LogRoom::Ample, LogRoom::Ample];
                    self.server.step(Input::LogRoom(room[self.chance.below(4) as usize]));
                }
            }
            self.listen();
        }
        self.settle();
    }

    fn toggle_deaf(&mut self, at: usize) {
        let Some(connection) = self.players[at].connection else { return };
        if self.server.deaf.contains(&connection) {
            self.server.hears_again(connection);
        } else if self.players[at].welcomed {
            self.server.deaf.insert(connection);
        }
    }

    fn leave(&mut self, at: usize) {
        if let Some(connection) = self.players[at].connection.take() {
            self.server.step(Input::Disconnected { connection });
            self.server.paused.remove(&connection);
            self.server.frames(connection);
        }
    }

    fn connect(&mut self, at: usize) {
        let known = self.players[at].known.filter(|_| !self.chance.one_in(4));
        let (session, password) = known.map_or((SessionId(0), [0; 16]), |client| (client.session, client.password));
        let timeout_ms = if self.chance.one_in(2) { 10_000 } else { 4000 };
        let connection = self.server.accept();
        self.players[at].begin(connection);
        self.server.bytes(connection, &Server::connect_frame(session, &password, timeout_ms, 0));
    }

    /// One segment with a few requests; a new connection first if there is none. It need not be welcomed yet.
    fn ask(&mut self, at: usize) {
        if self.players[at].connection.is_none() {
            return self.connect(at);
        }
        if self.players[at].closing {
            return;
        }
        let mut bytes = Vec::new();
        for _ in 0..=self.chance.below(12) {
            self.encode_one(at, &mut bytes);
        }
        if self.chance.one_in(25) {
            let player = &mut self.players[at];
            Request::CloseSession.encode(1 << 20, &mut bytes);
            player.waiting.push_back((1 << 20, Asked::Other));
            player.closing = true;
        }
        let connection = self.players[at].connection.expect("looked at above");
        self.server.bytes(connection, &bytes);
    }

    fn encode_one(&mut self, at: usize, bytes: &mut Vec<u8>) {
        let chance = &mut self.chance;
        let player = &mut self.players[at];
        player.next += 1;
        let xid = player.next as i32;
        let own = format!("/own{at}");
        let value = player.next.to_be_bytes();
        let (path, other, flags, watch) = (chance.node(), chance.node(), chance.flags(), chance.one_in(2));
        let mut asked = Asked::Other;
        let request = match chance.below(16) {
            0 | 1 => create(path, b"data", flags),
            2 => delete(path, -1),
            3 => set(path, &value, if watch { -1 } else { 0 }),
            4 | 5 => Request::Multi(vec![
                MultiOp::Create(create_request(path, b"m", flags)),
                MultiOp::Create(create_request("/seq-", b"m", EPHEMERAL | SEQUENTIAL)),
                MultiOp::SetData { path: Some(other.into()), data: Some(b"s"), version: -1 },
                MultiOp::Delete { path: Some(path.into()), version: -1 },
            ]),
            6 => Request::Multi(vec![
                MultiOp::Delete { path: Some(path.into()), version: -1 },
                MultiOp::Create(create_request(path, b"again", flags)),
                MultiOp::Check { path: Some(other.into()), version: -1 },
            ]),
            7 => exists(path, watch),
            8 => children(path, watch),
            9 => get(path, watch),
            10 | 11 => get("/big", watch),
            12 => Request::Sync { path: Some(path.into()) },
            13 => {
                asked = Asked::Ping;
                Request::Ping
            }
            14 => {
                asked = Asked::OwnSet(player.next);
                set(&own, &value, -1)
            }
            _ => {
                asked = Asked::OwnGet;
                get(&own, false)
            }
        };
        request.encode(xid, bytes);
        player.waiting.push_back((xid, asked));
    }

    /// Every client looks at what it was sent.
    fn listen(&mut self) {
        for at in 0..PLAYERS {
            let Some(connection) = self.players[at].connection else { continue };
            for frame in self.server.frames(connection) {
                self.hear(at, connection, &frame);
            }
            if self.server.closed.contains(&connection) {
                self.server.paused.remove(&connection);
                self.players[at].connection = None;
            }
        }
    }

    fn hear(&mut self, at: usize, connection: ConnectionId, frame: &[u8]) {
        let player = &mut self.players[at];
        if !player.welcomed {
            let answer = ConnectResponse::decode(frame).unwrap();
            player.welcomed = true;
            player.known = (answer.session_id != 0).then_some(Client {
                connection,
                session: SessionId(answer.session_id),
                password: answer.password,
                timeout_ms: answer.timeout_ms,
            });
            return;
        }
        let mut reader = Reader::new(frame, &Limits::FORMAT);
        let header = ReplyHeader::decode(&mut reader).unwrap();
        assert!(header.zxid >= player.last_zxid, "player {at}: {header:?} after {:#x}", player.last_zxid);
        player.last_zxid = header.zxid;
        if header.xid == -1 {
            return;
        }
        let (sent, asked) = player.waiting.pop_front().expect("an answer to a question");
        let xid = if matches!(asked, Asked::Ping) && header.err == 0 { xids::PING } else { sent };
        assert_eq!(header.xid, xid, "player {at}: answers come in request order");
        match asked {
            Asked::OwnSet(value) if header.err == 0 => player.own = Some(value),
            Asked::OwnGet if header.err == 0 => {
                let Response::Data { data, .. } = Response::decode(OpCode::GetData, reader.rest()).unwrap() else {
                    panic!("data was asked for")
                };
                if let Some(own) = player.own {
                    assert_eq!(data, Some(&own.to_be_bytes()[..]), "player {at}: a read shows its session's writes");
                }
            }
            _ => {}
        }
    }

    /// The disk is well, everybody listens, nobody asks: what must be true then.
    fn settle(&mut self) {
        self.server.step(Input::LogRoom(LogRoom::Ample));
        self.server.slow_disk = false;
        for connection in std::mem::take(&mut self.server.deaf) {
            self.server.step(Input::Sent { connection, bytes: usize::MAX / 2 });
        }
        self.server.disk_finishes();
        self.listen();
        for (at, player) in self.players.iter().enumerate() {
            if player.connection.is_some() {
                assert_eq!(player.waiting.len(), 0, "player {at} waits for {:?}", player.waiting);
            }
        }
        assert!(self.server.paused.is_empty(), "{:?} are paused for ever", self.server.paused);
        assert_eq!(self.server.node.in_flight(), 0);
        let (sessions, owners, outstanding) = sessions_and_owners(&self.server);
        assert_eq!(outstanding, 0);
        assert!(owners.is_subset(&sessions), "{owners:?} own ephemerals, {sessions:?} live");
        let again = self.server.restarted(Settings::default());
        assert_eq!(again.node.tree().digest(), self.server.node.tree().digest());
        assert_eq!(sessions_and_owners(&again), (sessions, owners, 0));

        self.server.pass_ms(60_000);
        let (sessions, owners, _) = sessions_and_owners(&self.server);
        assert_eq!((sessions.len(), owners.len()), (0, 0), "all sessions end, and their ephemerals with them");
    }
}

fn sessions_and_owners(server: &Server) -> (BTreeSet<SessionId>, BTreeSet<SessionId>, u64) {
    let wanted = Wanted { expiry: true, ..Wanted::default() };
    let view = server.node.view(server.now, ConnectionId(0), wanted);
    let sessions = view.sessions_by_expiry.0.iter().flat_map(|(_, sessions)| sessions.iter().copied()).collect();
    (sessions, view.ephemerals.iter().map(|(owner, _)| *owner).collect(), view.outstanding)
}

#[test]
fn whatever_the_order_of_things_the_promises_hold() {
    for seed in 0..SEEDS {
        let played = std::panic::catch_unwind(|| Game::new(seed).play());
        assert!(played.is_ok(), "seed {seed}");
    }
}
