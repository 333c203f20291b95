//! The network between members, and the one that needs no rights and no kernel's help: every connection goes through a listener of ours, one for each way from one server to
//! another, and what passes there can be held up, slowed down and cut; in one direction, if need be.
//!
//! ```text
//!  member 1 -- "server 2 is at this port" --> listener 1>2 -- real port --> member 2
//!                                             |  1>2: what 1 says, on whatever connection, whoever opened it
//!                                             |  2>1: what 2 says
//! ```
//!
//! Nothing is ever lost out of the middle: a connection of ours is TCP, as theirs is. A way that is held is a network that
//! drops packets, seen from above; a way that is cut is one that resets connections.
//!
//! On the election port a caller says where it can be called back. That is its real port, so it is put right on the way.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Result;
use crate::ensemble::Ports;

/// How soon a change of a way is noticed.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CHUNK_BYTES: usize = 64 << 10;
/// Version, server, and the length of what follows.
const INTRODUCTION_HEAD_BYTES: usize = 20;
const INTRODUCTION_BYTES_MAX: usize = 4096;

/// What happens to bytes on their way from one server to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Passage {
    Open,
    /// Nothing arrives until it is open again. Nobody is told.
    Held,
    /// Connections break, and none is made.
    Cut,
}

/// What can go wrong between members. They count from 0.
pub trait Network {
    /// What becomes of what `from` says to `to`.
    fn set(&self, from: usize, to: usize, passage: Passage) -> Result<()>;
    /// Nobody hears the member, and it hears nobody.
    fn unplug(&self, member: usize) -> Result<()>;
    /// Everything that it says takes so much longer, or whatever is slow in this network.
    fn slow(&self, member: usize, by: Duration) -> Result<()>;
    /// All is well again.
    fn heal(&self) -> Result<()>;
    /// For people: what it is made of.
    fn text(&self) -> String;
}

#[derive(Debug, Default)]
struct Way {
    passage: AtomicU8,
    delay_ms: AtomicU64,
}

impl Way {
    fn passage(&self) -> Passage {
        match self.passage.load(Ordering::SeqCst) {
            0 => Passage::Open,
            1 => Passage::Held,
            _ => Passage::Cut,
        }
    }
}

/// All ways among so many servers.
#[derive(Debug)]
pub struct Proxies {
    count: usize,
    ways: Vec<Arc<Way>>,
    is_over: Arc<AtomicBool>,
}

impl Proxies {
    /// `told(from, to)`: where `from` is told that `to` is; `real(to)`: where it is. Numbers count from 0.
    pub fn new(count: usize, told: impl Fn(usize, usize) -> Ports, real: impl Fn(usize) -> Ports) -> Result<Proxies> {
        let bind = |port: u16| {
            let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            TcpListener::bind(at).map_err(|error| format!("port {port}: {error}"))
        };
        Proxies::on(count, told, real, |ours| Ok([bind(ours.quorum)?, bind(ours.election)?]))
    }

    /// `bound`: the listeners of two ports of ours.
    fn on(
        count: usize,
        told: impl Fn(usize, usize) -> Ports,
        real: impl Fn(usize) -> Ports,
        mut bound: impl FnMut(Ports) -> Result<[TcpListener; 2]>,
    ) -> Result<Proxies> {
        let ways = (0..count * count).map(|_| Arc::<Way>::default()).collect();
        let network = Proxies { count, ways, is_over: Arc::default() };
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                let (ours, theirs) = (told(from, to), real(to));
                let [quorum, election] = bound(ours)?;
                network.listen(from, to, quorum, theirs.quorum, None)?;
                let call_back = (real(from).election, told(to, from).election);
                network.listen(from, to, election, theirs.election, Some(call_back))?;
            }
        }
        Ok(network)
    }

    fn way(&self, from: usize, to: usize) -> &Arc<Way> {
        &self.ways[from * self.count + to]
    }

    fn listen(
        &self,
        from: usize,
        to: usize,
        listener: TcpListener,
        theirs: u16,
        call_back: Option<(u16, u16)>,
    ) -> Result<()> {
        listener.set_nonblocking(true)?;
        let (there, back) = (self.way(from, to).clone(), self.way(to, from).clone());
        let is_over = self.is_over.clone();
        let accept = move || {
            while !is_over.load(Ordering::SeqCst) {
                // A call that is not taken waits, as one whose first packet is lost does.
                let is_held = [&there, &back].iter().any(|way| way.passage() == Passage::Held);
                let called = if is_held { None } else { listener.accept().ok() };
                let Some((caller, _)) = called else {
                    std::thread::sleep(LOOK_INTERVAL);
                    continue;
                };
                let call = Call { caller, there: there.clone(), back: back.clone(), is_over: is_over.clone() };
                std::thread::spawn(move || call.connect(theirs, call_back));
            }
        };
        std::thread::spawn(accept);
        Ok(())
    }
}

impl Network for Proxies {
    fn set(&self, from: usize, to: usize, passage: Passage) -> Result<()> {
        self.way(from, to).passage.store(passage as u8, Ordering::SeqCst);
        Ok(())
    }

    fn unplug(&self, member: usize) -> Result<()> {
        (0..self.count).try_for_each(|other| {
            self.set(member, other, Passage::Cut)?;
            self.set(other, member, Passage::Cut)
        })
    }

    fn slow(&self, member: usize, by: Duration) -> Result<()> {
        for to in 0..self.count {
            self.way(member, to).delay_ms.store(by.as_millis() as u64, Ordering::SeqCst);
        }
        Ok(())
    }

    fn heal(&self) -> Result<()> {
        for way in &self.ways {
            way.passage.store(Passage::Open as u8, Ordering::SeqCst);
            way.delay_ms.store(0, Ordering::SeqCst);
        }
        Ok(())
    }

    fn text(&self) -> String {
        "a proxy for each link".to_owned()
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

/// A connection, from the moment it was taken.
struct Call {
    caller: TcpStream,
    there: Arc<Way>,
    back: Arc<Way>,
    is_over: Arc<AtomicBool>,
}

impl Call {
    /// An error ends the connection, and that is all anybody hears of it.
    fn connect(self, port: u16, call_back: Option<(u16, u16)>) {
        let _ = self.caller.set_nonblocking(false);
        if [&self.there, &self.back].iter().any(|way| way.passage() == Passage::Cut) || has_left(&self.caller) {
            return;
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let Ok(called) = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) else { return };
        let both = [self.caller.try_clone(), called.try_clone()];
        let [Ok(caller), Ok(answering)] = both else { return };
        let is_over = self.is_over.clone();
        let back = std::thread::spawn(move || pass(answering, caller, &self.back, &is_over, None));
        pass(self.caller, called, &self.there, &self.is_over, call_back);
        let _ = back.join();
    }
}

/// Whoever called has given up while it waited.
fn has_left(socket: &TcpStream) -> bool {
    let mut sockets = [PollFd::new(socket, PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut sockets, Some(&at_once)).is_ok_and(|_| sockets[0].revents().contains(PollFlags::HUP))
}

/// One direction of a connection, until its end, which is passed on.
fn pass(mut from: TcpStream, mut to: TcpStream, way: &Way, is_over: &AtomicBool, call_back: Option<(u16, u16)>) {
    let ended = (|| {
        for socket in [&from, &to] {
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(LOOK_INTERVAL))?;
            socket.set_write_timeout(Some(LOOK_INTERVAL))?;
        }
        if let Some((real, told)) = call_back {
            let introduction = introduction(&mut from, way, is_over, real, told)?;
            write(&mut to, &introduction, way, is_over)?;
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let bytes = read(&mut from, &mut chunk, way, is_over)?;
            if bytes == 0 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(way.delay_ms.load(Ordering::SeqCst)));
            write(&mut to, &chunk[..bytes], way, is_over)?;
        }
    })();
    // Who has said everything may still listen. What is broken is broken for both.
    let how: (Shutdown, Option<Shutdown>) = match ended {
        Ok(()) => (Shutdown::Write, None),
        Err::<(), io::Error>(_) => (Shutdown::Both, Some(Shutdown::Both)),
    };
    let _ = to.shutdown(how.0);
    how.1.map(|how| from.shutdown(how));
}

/// Waits where the way is held; whether it goes on.
fn may_pass(way: &Way, is_over: &AtomicBool) -> io::Result<()> {
    loop {
        match way.passage() {
            _ if is_over.load(Ordering::SeqCst) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Passage::Cut => return Err(io::ErrorKind::ConnectionAborted.into()),
            Passage::Open => return Ok(()),
            Passage::Held => std::thread::sleep(LOOK_INTERVAL),
        }
    }
}

fn read(from: &mut TcpStream, into: &mut [u8], way: &Way, is_over: &AtomicBool) -> io::Result<usize> {
    loop {
        may_pass(way, is_over)?;
        match from.read(into) {
            Err(error) if is_patience(&error) => {}
            other => return other,
        }
    }
}

fn write(to: &mut TcpStream, mut bytes: &[u8], way: &Way, is_over: &AtomicBool) -> io::Result<()> {
    while !bytes.is_empty() {
        may_pass(way, is_over)?;
        match to.write(bytes) {
            Err(error) if is_patience(&error) => {}
            other => bytes = &bytes[other?..],
        }
    }
    Ok(())
}

fn is_patience(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// Who calls, and where it is to be called back: through us. Spec: quorum-protocol 3.
fn introduction(from: &mut TcpStream, way: &Way, is_over: &AtomicBool, real: u16, told: u16) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fill(from, &mut bytes, INTRODUCTION_HEAD_BYTES, way, is_over)?;
    let length = i32::from_be_bytes(bytes[16..INTRODUCTION_HEAD_BYTES].try_into().expect("four bytes"));
    let length = usize::try_from(length).ok().filter(|length| *length <= INTRODUCTION_BYTES_MAX);
    fill(from, &mut bytes, INTRODUCTION_HEAD_BYTES + length.ok_or(io::ErrorKind::InvalidData)?, way, is_over)?;
    let addresses =
        String::from_utf8_lossy(&bytes[INTRODUCTION_HEAD_BYTES..]).replace(&real.to_string(), &told.to_string());
    bytes.truncate(16);
    bytes.extend((addresses.len() as i32).to_be_bytes());
    bytes.extend(addresses.as_bytes());
    Ok(bytes)
}

fn fill(from: &mut TcpStream, into: &mut Vec<u8>, to: usize, way: &Way, is_over: &AtomicBool) -> io::Result<()> {
    while into.len() < to {
        let at = into.len();
        into.resize(to, 0);
        let bytes = read(from, &mut into[at..], way, is_over)?;
        into.truncate(at + bytes);
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Two servers whose ports the kernel chose, each with what a caller hears there.
    struct Pair {
        network: Proxies,
        told: Ports,
        quorum: TcpListener,
        election: TcpListener,
    }

    fn free() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    fn port(listener: &TcpListener) -> u16 {
        listener.local_addr().unwrap().port()
    }

    fn pair() -> Pair {
        let (quorum, election) = (free(), free());
        let real = Ports { address: Ipv4Addr::LOCALHOST, quorum: port(&quorum), election: port(&election) };
        let mut ours: BTreeMap<u16, TcpListener> = (0..4).map(|_| free()).map(|ours| (port(&ours), ours)).collect();
        let told: Vec<u16> = ours.keys().copied().collect();
        let ports =
            |from: usize| Ports { address: Ipv4Addr::LOCALHOST, quorum: told[from * 2], election: told[from * 2 + 1] };
        let mut take = |port: u16| ours.remove(&port).unwrap();
        let bound = |ours: Ports| Ok([take(ours.quorum), take(ours.election)]);
        let network = Proxies::on(2, |from, _| ports(from), |_| real, bound).unwrap();
        Pair { network, told: ports(0), quorum, election }
    }

    fn dial(port: u16) -> TcpStream {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        socket
    }

    #[test]
    fn what_is_held_arrives_when_it_is_not_and_the_other_direction_is_free() {
        let pair = pair();
        let mut caller = dial(pair.told.quorum);
        let (mut called, _) = pair.quorum.accept().unwrap();
        pair.network.set(0, 1, Passage::Held).unwrap();
        caller.write_all(b"there").unwrap();
        called.write_all(b"back").unwrap();
        let mut heard = [0; 4];
        caller.set_read_timeout(None).unwrap();
        caller.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"back");
        called.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut there = [0; 5];
        assert!(is_patience(&called.read(&mut there).unwrap_err()), "it is held");
        pair.network.heal().unwrap();
        called.set_read_timeout(None).unwrap();
        called.read_exact(&mut there).unwrap();
        assert_eq!(&there, b"there");
    }

    #[test]
    fn a_cut_breaks_connections_and_lets_none_be_made() {
        let pair = pair();
        let mut caller = dial(pair.told.quorum);
        let (mut called, _) = pair.quorum.accept().unwrap();
        pair.network.set(1, 0, Passage::Cut).unwrap();
        called.set_read_timeout(None).unwrap();
        assert_eq!(called.read(&mut [0]).unwrap_or(0), 0, "the end");
        caller.set_read_timeout(None).unwrap();
        assert_eq!(caller.read(&mut [0]).unwrap_or(0), 0, "the end");
        let mut again = dial(pair.told.quorum);
        again.set_read_timeout(None).unwrap();
        assert_eq!(again.read(&mut [0]).unwrap_or(0), 0, "the end");
    }

    #[test]
    fn the_end_of_one_direction_is_not_the_end_of_the_other() {
        let pair = pair();
        let mut caller = dial(pair.told.quorum);
        let (mut called, _) = pair.quorum.accept().unwrap();
        caller.shutdown(Shutdown::Write).unwrap();
        assert_eq!(called.read(&mut [0]).unwrap(), 0);
        called.write_all(b"x").unwrap();
        caller.set_read_timeout(None).unwrap();
        caller.read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn a_caller_is_called_back_through_us() {
        let pair = pair();
        let mut caller = dial(pair.told.election);
        let (mut called, _) = pair.election.accept().unwrap();
        let real = format!("127.0.0.1:{}", port(&pair.election));
        let said = [&(-65536i64).to_be_bytes()[..], &1i64.to_be_bytes(), &(real.len() as i32).to_be_bytes()].concat();
        caller.write_all(&[&said[..], real.as_bytes(), b"more"].concat()).unwrap();
        caller.shutdown(Shutdown::Write).unwrap();
        let mut heard = Vec::new();
        called.read_to_end(&mut heard).unwrap();
        let heard = String::from_utf8_lossy(&heard[INTRODUCTION_HEAD_BYTES..]).into_owned();
        let (address, more) = heard.split_at(heard.len() - 4);
        assert_eq!(more, "more");
        assert!(address.starts_with("127.0.0.1:") && address != real, "{address}");
    }
}
