//! Servers made of words, on real sockets: they say what a test wants them to say, or nothing, and read or do not read.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use ringkeeper::core::Zxid;
use ringkeeper::wire::election::{ElectionAddress, Introduction, Notification, PeerState, frame_bytes};
use ringkeeper::wire::jute::Limits;
use ringkeeper::wire::quorum::{LearnerInfo, PROTOCOL_JAVA, Packet};
use tempfile::TempDir;

use super::harness::{PATIENCE, Server, Setup, free_port};

/// Who does his part has twenty seconds for it, also on a machine that stands still at times.
pub const TICKS: &str = "tickTime=100\ninitLimit=40\nsyncLimit=200\nmaxSessionTimeout=60000\n";

/// For those who wait for somebody to be given up.
pub const GIVEN_UP_SOON: &str = "syncLimit=40";

/// A member that runs, and where its ports are.
pub struct Member {
    pub server: Server,
    pub quorum: SocketAddr,
    pub election: SocketAddr,
}

/// Where a member's line says it is. Ports of a server of words are bound when it wants to be called.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub quorum: u16,
    pub election: u16,
}

impl Line {
    pub fn free() -> Line {
        Line { quorum: free_port(), election: free_port() }
    }

    pub fn text(self) -> String {
        format!("127.0.0.1:{}:{}", self.quorum, self.election)
    }
}

/// Server 1 runs; 2 and 3 vote, and 4 observes: at these lines.
pub fn member(own: Line, others: &[String], more: &str) -> Member {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    start(directory, &own.text(), own, others, more)
}

pub fn start(directory: Arc<TempDir>, own_text: &str, own: Line, others: &[String], more: &str) -> Member {
    let data = directory.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("myid"), "1\n").unwrap();
    let mut lines = format!("{TICKS}server.1={own_text}\n");
    for (id, line) in (2..).zip(others) {
        lines += &format!("server.{id}={line}\n");
    }
    let server = Setup::new(1).with(&lines).with(more).start_in(directory);
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    Member { server, quorum: at(own.quorum), election: at(own.election) }
}

impl Member {
    pub fn serves(&self) -> bool {
        self.server.word("srvr").contains("\nMode: ")
    }

    /// Descriptors it has open.
    pub fn files(&self) -> usize {
        let pid = self.server.process.pid().as_raw_nonzero();
        std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

// --- election ---

/// A caller that has said who it is.
pub fn introduced(election: SocketAddr, id: i64) -> TcpStream {
    wants_to_be_called(election, id, 1)
}

/// The same, and where it can be called.
pub fn wants_to_be_called(election: SocketAddr, id: i64, port: u16) -> TcpStream {
    let mut socket = connect(election);
    let mut bytes = Vec::new();
    let address = ElectionAddress { host: "127.0.0.1".into(), port };
    Introduction { server: id, addresses: vec![address], multi_address: false }.encode(&mut bytes);
    socket.write_all(&bytes).unwrap();
    socket
}

/// An elector that finds everything right that server 1 says, or always says the same; in the background, until either end is gone.
pub fn elector(election: SocketAddr, id: i64, leads: Option<i64>) -> JoinHandle<()> {
    let mut socket = introduced(election, id);
    std::thread::spawn(move || while answer(&mut socket, leads).is_ok() {})
}

/// The two others want to be led by number 2.
pub fn electors_of_2(member: &Member) {
    elector(member.election, 2, Some(2));
    elector(member.election, 3, Some(2));
}

fn answer(socket: &mut TcpStream, leads: Option<i64>) -> io::Result<()> {
    let mut word = [0; 4];
    socket.read_exact(&mut word)?;
    let mut body = vec![0; frame_bytes(word).expect("a notification")];
    socket.read_exact(&mut body)?;
    let heard = Notification::decode(&body).expect("a notification");
    if heard.state != PeerState::Looking {
        return Ok(());
    }
    let said = match leads {
        None => Notification { state: PeerState::Looking, config: Bytes::new(), ..heard },
        Some(leader) => Notification { state: PeerState::Looking, leader, config: Bytes::new(), ..heard },
    };
    let mut bytes = Vec::new();
    said.encode(&mut bytes);
    socket.write_all(&bytes)
}

// --- a link ---

/// One end of a link between learner and leader, in packets.
pub struct Peer {
    pub socket: TcpStream,
    unread: Vec<u8>,
}

impl Peer {
    pub fn new(socket: TcpStream) -> Peer {
        Peer { socket, unread: Vec::new() }
    }

    /// Of whoever calls this server of words.
    pub fn called(listener: &TcpListener) -> Peer {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Peer::new(socket)
    }

    pub fn say(&mut self, packet: &Packet) -> io::Result<()> {
        let mut bytes = Vec::new();
        packet.encode(&mut bytes);
        self.socket.write_all(&bytes)
    }

    pub fn hear(&mut self) -> io::Result<Packet> {
        loop {
            if let Some(decoded) = Packet::decode(&self.unread, &Limits::FORMAT).expect("a packet") {
                self.unread.drain(..decoded.bytes);
                match decoded.packet {
                    Some(packet) => return Ok(packet),
                    None => continue,
                }
            }
            let mut chunk = [0; 4096];
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => self.unread.extend_from_slice(&chunk[..bytes]),
                // A read with a time limit is not taken up again by the kernel after a signal.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A learner with nothing, up to UPTODATE.
    pub fn joins(socket: TcpStream, id: i64, observer: bool) -> io::Result<Peer> {
        let mut peer = Peer::new(socket);
        let info = LearnerInfo { server: id, protocol: PROTOCOL_JAVA, config_version: 0 };
        peer.say(&match observer {
            false => Packet::FollowerInfo { accepted_epoch: 0, info },
            true => Packet::ObserverInfo { accepted_epoch: 0, info },
        })?;
        loop {
            match peer.hear()? {
                Packet::LeaderInfo { .. } => {
                    peer.say(&Packet::AckEpoch { last: Some(Zxid::ZERO), current_epoch: Some(0) })?;
                }
                Packet::NewLeader { zxid, .. } => peer.say(&Packet::Ack { zxid })?,
                Packet::UpToDate => return Ok(peer),
                _ => {}
            }
        }
    }

    /// In the background: a good follower.
    pub fn follows(self) -> JoinHandle<()> {
        self.follows_until(Arc::default())
    }

    /// From `silent` on it says nothing, and is still there.
    pub fn follows_until(mut self, silent: Arc<AtomicBool>) -> JoinHandle<()> {
        std::thread::spawn(move || {
            while let Ok(packet) = self.hear() {
                let answered = match packet {
                    _ if silent.load(Ordering::Relaxed) => Ok(()),
                    Packet::Proposal { zxid, .. } => self.say(&Packet::Ack { zxid }),
                    Packet::Ping { zxid, .. } => self.say(&Packet::Ping { zxid, touched: Some(Vec::new()) }),
                    _ => Ok(()),
                };
                if answered.is_err() {
                    return;
                }
            }
        })
    }

    /// In the background: says this again and again until `silent`, and reads nothing.
    pub fn says_until(mut self, silent: Arc<AtomicBool>, packet: fn() -> Packet) -> JoinHandle<Peer> {
        std::thread::spawn(move || {
            while !silent.load(Ordering::Relaxed) && self.say(&packet()).is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
            self
        })
    }

    /// A leader with nothing, up to UPTODATE.
    pub fn leads(&mut self) -> io::Result<()> {
        let (epoch, last) = self.discovers(1)?;
        self.say(&Packet::Diff { zxid: last.unwrap_or_default() })?;
        self.synchronises(epoch, Vec::new())
    }

    /// One that gives a recorded state away, and says NEWLEADER in the same breath, then nothing until it is answered.
    pub fn leads_by_snapshot(&mut self) -> io::Result<()> {
        let recorded =
            include_str!("../golden/snapshot-streams.txt").lines().find(|line| !line.starts_with('#')).unwrap();
        let words: Vec<&str> = recorded.split(' ').collect();
        let zxid = Zxid(u64::from_str_radix(words[1].trim_start_matches("0x"), 16).unwrap());
        let stream = [words[2], words[3]].concat();
        let stream =
            stream.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap());
        let (epoch, _) = self.discovers(zxid.epoch())?;
        let mut bytes = Vec::new();
        Packet::Snap { zxid }.encode(&mut bytes);
        bytes.extend(stream);
        self.synchronises(epoch, bytes)
    }

    /// An epoch from this one on, and what the learner has.
    fn discovers(&mut self, epoch: u32) -> io::Result<(u32, Option<Zxid>)> {
        let accepted = match self.hear()? {
            Packet::FollowerInfo { accepted_epoch, .. } => accepted_epoch,
            other => panic!("{other:?} of a follower"),
        };
        let epoch = epoch.max(accepted + 1);
        self.say(&Packet::LeaderInfo { epoch, protocol: PROTOCOL_JAVA })?;
        let Packet::AckEpoch { last, .. } = self.hear()? else { panic!("LEADERINFO is answered") };
        Ok((epoch, last))
    }

    fn synchronises(&mut self, epoch: u32, mut bytes: Vec<u8>) -> io::Result<()> {
        Packet::NewLeader { zxid: Zxid::new(epoch, 0), config: None }.encode(&mut bytes);
        self.socket.write_all(&bytes)?;
        let acknowledged = self.hear()?;
        assert_eq!(acknowledged, Packet::Ack { zxid: Zxid::new(epoch, 0) });
        self.say(&Packet::UpToDate)
    }
}

/// Server 1 leads servers of words; number 2 follows, in the background.
pub fn led_by_member(more: &str, others: usize) -> Member {
    let lines: Vec<String> =
        (0..others).map(|at| Line::free().text() + if at >= 2 { ":observer" } else { "" }).collect();
    let member = member(Line::free(), &lines, more);
    elector(member.election, 2, None);
    follower(&member).follows();
    member
}

/// Number 2, in step. It may call before server 1 knows that it leads.
pub fn follower(member: &Member) -> Peer {
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        if let Ok(peer) = Peer::joins(connect(member.quorum), 2, false) {
            return peer;
        }
        assert!(std::time::Instant::now() < until, "{}", member.server.process.log());
    }
}
