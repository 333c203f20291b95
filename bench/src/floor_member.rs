//! Who serves the floor's made-up replies: one alone, or three that pass each write around as an ensemble does.
//!
//!   client -> follower: request -> leader: proposals -> [each of the three: its blocks, O_DIRECT, flushed] -> acks
//!     -> two of the three have it: commits -> follower: reply -> client
//!
//! One thread a member, which knows nothing of sessions, znodes, elections or anybody's failure: the messages, as long as
//! the protocol's, as few as their batches allow, and the disk writes are all there is. A server has to beat one thing only: this one
//! does nothing else while it waits for its disk. On one CPU another of the three has it meanwhile.
//!
//!   a turn: read what is ready -> replies and messages that can leave do -> store what was proposed -> acks and commits leave

use std::collections::VecDeque;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use clap::Args;

use crate::floor::{Asked, Floor, Log};
use crate::net::{Inbox, Link, Poller, Received, each_frame, receive_frames};
use crate::server::Cpus;
use crate::{BenchError, Doing, Result};

#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// The members listen here and on the next two ports of 127.0.0.1; the last leads.
    #[arg(long)]
    port: u16,
    /// CPUs of all three.
    #[arg(long, default_value = "1")]
    cores: Cpus,
    /// Nothing is written to disk: messages alone.
    #[arg(long)]
    without_log: bool,
    /// Where the logs are made. Choose the disk you mean to measure.
    #[arg(long, default_value = ".")]
    data: PathBuf,
}

/// Serves until the process is ended.
pub fn serve_alone(address: SocketAddr, log: Option<&Path>) -> Result<()> {
    let log = log.map(Log::create).transpose()?;
    Member::new(listen(address)?, Vec::new(), LEADER, log)?.serve()
}

/// Three members. Serves until the process is ended, or one of them fails.
pub fn serve_ensemble(arguments: &Arguments) -> Result<()> {
    let logs = arguments.data.join(format!("floor-ensemble-{}", std::process::id()));
    fs::create_dir_all(&logs).doing(logs.display())?;
    let members = (0..3).map(|member| {
        let log = logs.join(format!("log-{member}"));
        Ok((
            listen(SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port + member)))?,
            if arguments.without_log { None } else { Some(Log::create(&log)?) },
        ))
    });
    let members = members.collect::<Result<Vec<_>>>();
    // Files that are open stay until the process ends, however it does.
    fs::remove_dir_all(&logs).doing(logs.display())?;
    let serving = start(members?, &arguments.cores)?;
    println!("serving on the ports {} to {}; the last leads", arguments.port, arguments.port + 2);
    for member in serving {
        member.join().map_err(|_| BenchError::new("a member panicked"))??;
    }
    Ok(())
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).doing(format_args!("listening on {address}"))
}

/// Two that follow and the last, which leads.
fn start(members: Vec<(TcpListener, Option<Log>)>, cores: &Cpus) -> Result<Vec<thread::JoinHandle<Result<()>>>> {
    let (first, second) = (pair()?, pair()?);
    let links = [vec![first.0], vec![second.0], vec![first.1, second.1]];
    let serving = members.into_iter().zip(links).zip(0u8..).map(|(((listener, log), links), id)| {
        let cores = cores.clone();
        thread::spawn(move || {
            cores.pin_this_thread()?;
            Member::new(listener, links, id, log)?.serve()
        })
    });
    Ok(serving.collect())
}

/// Two ends of a connection.
fn pair() -> Result<(TcpStream, TcpStream)> {
    let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let near = TcpStream::connect(listener.local_addr().doing("listening")?).doing("connecting")?;
    let (far, _) = listener.accept().doing("accepting")?;
    Ok((near, far))
}

/// The member that leads; the others are numbered from 0. Who is alone leads nobody.
const LEADER: u8 = 2;

/// Tokens of links to other members begin here; those of clients are below.
const LINKS: usize = ACCEPTING - 2;
const ACCEPTING: usize = usize::MAX;

struct Member {
    floor: Floor,
    writes: Writes,
    log: Option<Log>,
    poller: Poller,
    inbox: Inbox,
    listener: TcpListener,
    /// A token is never used twice, so that a write whose client has gone is nobody else's.
    connections: Vec<Option<Connection>>,
    /// Connections with replies that may be able to leave.
    answering: Vec<usize>,
    /// To the leader, or to each follower.
    links: Vec<Link>,
}

struct Connection {
    link: Link,
    /// Had its connect request.
    greeted: bool,
    /// Asked to be closed, and is once that is answered.
    closing: bool,
    out: Vec<u8>,
    sent_bytes: usize,
    /// Where the reply of each write that is not committed begins, counted from the connection's first byte.
    held: VecDeque<usize>,
}

impl Member {
    fn new(listener: TcpListener, peers: Vec<TcpStream>, id: u8, log: Option<Log>) -> Result<Member> {
        let poller = Poller::new()?;
        poller.add_listener(&listener, ACCEPTING)?;
        let links = peers.into_iter().enumerate().map(|(at, stream)| Link::over(&poller, stream, LINKS + at));
        let links = links.collect::<Result<Vec<_>>>()?;
        Ok(Member {
            floor: Floor::default(),
            writes: Writes::new(id, links.len()),
            log,
            poller,
            inbox: Inbox::default(),
            listener,
            connections: Vec::new(),
            answering: Vec::new(),
            links,
        })
    }

    fn serve(mut self) -> Result<()> {
        loop {
            for index in 0..self.poller.wait(None)? {
                let event = self.poller.ready(index);
                match event.token {
                    ACCEPTING => self.accept()?,
                    LINKS.. => self.hear_peer(event.token - LINKS, event.writable)?,
                    client => self.hear_client(client, event.writable),
                }
            }
            self.send()?;
            if let Some(bytes) = self.writes.begin_to_store() {
                if let Some(log) = &mut self.log {
                    log.flush(bytes)?;
                }
                self.writes.all_is_stored();
                self.send()?;
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        while let Ok((stream, _)) = self.listener.accept() {
            self.connections.push(Some(Connection {
                link: Link::over(&self.poller, stream, self.connections.len())?,
                greeted: false,
                closing: false,
                out: Vec::new(),
                sent_bytes: 0,
                held: VecDeque::new(),
            }));
        }
        Ok(())
    }

    /// Clients come and go; a floor does not mind.
    fn hear_client(&mut self, client: usize, writable: bool) {
        let Some(connection) = self.connections[client].as_mut() else { return };
        let gone = writable && connection.link.flush(&self.poller).is_err();
        let bytes = match connection.link.receive(&mut self.inbox) {
            Ok(Received::Bytes(bytes)) if !gone => bytes,
            Ok(Received::Nothing) if !gone => return,
            _ => return self.connections[client] = None,
        };
        let Connection { link, greeted, closing, out, sent_bytes, held } = connection;
        let heard = each_frame(link, &self.inbox, bytes, |frame| {
            let begins = *sent_bytes + out.len();
            match self.floor.answer(frame, greeted, out) {
                Asked::Nothing => {}
                Asked::Close => *closing = true,
                Asked::Write => {
                    held.push_back(begins);
                    self.writes.ask(client, frame);
                }
            }
            Ok(())
        });
        match heard {
            Ok(()) => self.answering.push(client),
            Err(_) => self.connections[client] = None,
        }
    }

    fn hear_peer(&mut self, at: usize, writable: bool) -> Result<()> {
        if writable {
            self.links[at].flush(&self.poller)?;
        }
        receive_frames(&mut self.links[at], &mut self.inbox, |message| {
            self.writes.hear(at, message, &mut self.floor);
            Ok(())
        })
    }

    /// Replies first: somebody waits for them.
    fn send(&mut self) -> Result<()> {
        while let Some(client) = self.writes.next_committed() {
            if let Some(connection) = self.connections[client].as_mut() {
                connection.held.pop_front();
                self.answering.push(client);
            }
        }
        for client in self.answering.drain(..) {
            let Some(connection) = self.connections[client].as_mut() else { continue };
            let Connection { link, closing, out, sent_bytes, held, .. } = connection;
            let free = held.front().map_or(out.len(), |begins| begins - *sent_bytes);
            if free > 0 && link.send(&self.poller, &out[..free]).is_err() || *closing && held.is_empty() {
                self.connections[client] = None;
                continue;
            }
            out.drain(..free);
            *sent_bytes += free;
        }
        for (link, out) in self.links.iter_mut().zip(&mut self.writes.out) {
            if !out.is_empty() {
                link.send(&self.poller, out)?;
                out.clear();
            }
        }
        Ok(())
    }
}

/// What members tell each other: frames that begin with one of these.
const FORWARDED: u8 = 1; // and the request
const PROPOSAL: u8 = 2; // and who asked, and the request
const ACK: u8 = 3; // and how many proposals are stored
const COMMIT: u8 = 4; // and how many proposals are committed

/// What the protocol puts around a request: packet and session; packet, transaction header and digest.
const FORWARDED_AROUND: &[u8] = &[0; 48];
const PROPOSAL_AROUND: &[u8] = &[0; 88];

/// The writes that are on their way, as one member knows them.
struct Writes {
    id: u8,
    /// Messages for the leader, or for each follower.
    out: Vec<Vec<u8>>,
    unstored_bytes: usize,
    /// How many proposals there are, of everybody; how many of them are stored here, by each follower, by a quorum.
    proposed: u64,
    stored: u64,
    acked: Vec<u64>,
    committed: u64,
    /// Whose writes the leader was asked for and has not proposed, in their order.
    forwarded: VecDeque<usize>,
    /// Whose writes are proposed and not answered, with the proposal's number.
    waiting: VecDeque<(u64, usize)>,
}

impl Writes {
    fn new(id: u8, links: usize) -> Writes {
        Writes {
            id,
            out: vec![Vec::new(); links],
            unstored_bytes: 0,
            proposed: 0,
            stored: 0,
            acked: vec![0; links],
            committed: 0,
            forwarded: VecDeque::new(),
            waiting: VecDeque::new(),
        }
    }

    /// A client wants this written.
    fn ask(&mut self, client: usize, request: &[u8]) {
        self.forwarded.push_back(client);
        if self.id == LEADER {
            self.propose(LEADER, request);
        } else {
            put(&mut self.out[0], FORWARDED, &[FORWARDED_AROUND, request]);
        }
    }

    fn propose(&mut self, asker: u8, request: &[u8]) {
        for out in &mut self.out {
            put(out, PROPOSAL, &[&[asker], PROPOSAL_AROUND, request]);
        }
        self.proposed(asker, request);
    }

    fn proposed(&mut self, asker: u8, request: &[u8]) {
        self.proposed += 1;
        self.unstored_bytes += PROPOSAL_AROUND.len() + request.len();
        if asker == self.id {
            let client = self.forwarded.pop_front().expect("who asked is known");
            self.waiting.push_back((self.proposed, client));
        }
    }

    fn hear(&mut self, from: usize, message: &[u8], floor: &mut Floor) {
        let (kind, rest) = message.split_first().expect("members send no empty frames");
        let count = |rest: &[u8]| u64::from_le_bytes(rest.try_into().expect("a count"));
        match *kind {
            FORWARDED => {
                let request = &rest[FORWARDED_AROUND.len()..];
                floor.learn(request);
                self.propose(from as u8, request);
            }
            PROPOSAL => {
                let request = &rest[1 + PROPOSAL_AROUND.len()..];
                floor.learn(request);
                self.proposed(rest[0], request);
            }
            ACK => {
                self.acked[from] = count(rest);
                self.commit();
            }
            COMMIT => self.committed = count(rest),
            kind => unreachable!("members send no {kind}"),
        }
    }

    /// How many bytes have to be stored now, if there are proposals that are not.
    fn begin_to_store(&mut self) -> Option<usize> {
        (self.stored < self.proposed).then(|| std::mem::take(&mut self.unstored_bytes))
    }

    fn all_is_stored(&mut self) {
        self.stored = self.proposed;
        if self.id == LEADER {
            self.commit();
        } else {
            put(&mut self.out[0], ACK, &[&self.stored.to_le_bytes()]);
        }
    }

    /// What a quorum has stored is committed. The leader's.
    fn commit(&mut self) {
        let mut stored = self.acked.clone();
        stored.push(self.stored);
        stored.sort_unstable();
        let by_quorum = stored[stored.len() / 2];
        if by_quorum > self.committed {
            self.committed = by_quorum;
            for out in &mut self.out {
                put(out, COMMIT, &[&by_quorum.to_le_bytes()]);
            }
        }
    }

    /// The next client of this member whose write is committed.
    fn next_committed(&mut self) -> Option<usize> {
        let (_, client) = self.waiting.pop_front_if(|(proposal, _)| *proposal <= self.committed)?;
        Some(client)
    }
}

fn put(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let bytes = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
    out.extend_from_slice(&(bytes as u32).to_be_bytes());
    out.push(kind);
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::wire;

    #[test]
    fn a_write_is_answered_when_two_of_three_have_stored_it() {
        let [mut first, mut second, mut leader] = [Writes::new(0, 1), Writes::new(1, 1), Writes::new(LEADER, 2)];
        let mut floor = Floor::default();
        let mut pass = |from: &mut Writes, at: usize, to: &mut Writes, as_: usize| {
            let sent = std::mem::take(&mut from.out[at]);
            let mut rest = &sent[..];
            while let Some((message, tail)) = wire::next_frame(rest).unwrap() {
                to.hear(as_, message, &mut floor);
                rest = tail;
            }
        };
        first.ask(7, &wire::set_data("/a", b"value")[4..]);
        pass(&mut first, 0, &mut leader, 0);
        pass(&mut leader, 0, &mut first, 0);
        pass(&mut leader, 1, &mut second, 0);
        for member in [&mut first, &mut second] {
            assert!(member.begin_to_store().is_some_and(|bytes| bytes > PROPOSAL_AROUND.len()));
            member.all_is_stored();
        }
        pass(&mut first, 0, &mut leader, 0);
        pass(&mut leader, 0, &mut first, 0);
        assert_eq!(first.next_committed(), None, "one of three has it");
        pass(&mut second, 0, &mut leader, 1);
        pass(&mut leader, 0, &mut first, 0);
        assert_eq!(first.next_committed(), Some(7));
        assert_eq!(first.next_committed(), None);
        assert_eq!((leader.next_committed(), second.next_committed()), (None, None), "it was the first's client");
    }

    #[test]
    fn each_of_three_answers_its_clients_and_reads_what_others_wrote() {
        let members = (0..3).map(|_| (listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap(), None));
        let members = members.collect::<Vec<_>>();
        let addresses: Vec<_> = members.iter().map(|(listener, _)| listener.local_addr().unwrap()).collect();
        start(members, &Cpus(vec![0])).unwrap();
        let mut clients: Vec<_> = addresses.iter().map(|server| Client::connect(*server).unwrap()).collect();
        for (at, client) in clients.iter_mut().enumerate() {
            for write in 0..50u8 {
                client.call(wire::set_data("/a", &[at as u8, write])).unwrap();
            }
        }
        for client in &mut clients {
            client.call(wire::set_data("/b", &[9])).unwrap();
        }
        for client in &mut clients {
            let got = client.call(wire::get_data("/b", false)).unwrap();
            assert_eq!(wire::buffer(&got.body).unwrap().0, [9]);
        }
    }
}
