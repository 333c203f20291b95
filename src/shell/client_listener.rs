//! The client port: a plain blocking accept thread, the limits per address, and which executor gets the connection.
//!
//! Why a thread and not glommio's listener: `docs/decisions/0002-accept-thread.md`. Holds: an address never has more than
//! `maxClientCnxns` connections, counted before they are handed over, so a burst cannot slip through (Java counts after
//! registering and lets it). A refused connection is accepted and closed at once, without a byte.
//! Java: `NIOServerCnxnFactory.AcceptThread`.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tracing::{error, info, warn};

use crate::core::ConnectionId;
use crate::limits::EXECUTORS_MAX;
use crate::shell::cpus::leave_executors_cpu;
use crate::shell::logging::Throttle;
use crate::shell::mailbox::Mailbox;

/// Accepted sockets waiting for one executor. At the bound the accept thread waits and the kernel's backlog fills.
pub const HANDOVER_SOCKETS: usize = 1024;

/// What the client port is like, wherever it is. Keys: `clientPortListenBacklog`, `clientTcpKeepAlive`, `maxClientCnxns`,
/// `maxCnxns`.
#[derive(Clone, Copy, Debug)]
pub struct ListenerSettings {
    /// Connections the kernel completes ahead of accept; -1 leaves it to us.
    pub backlog: i32,
    pub keep_alive: bool,
    /// Connections of one address; 0 is no limit.
    pub connections_per_address: u32,
    /// Connections altogether; 0 is no limit.
    pub connections_total: u32,
}

/// A socket on its way to an executor. Dropping it closes it and gives its place back.
#[derive(Debug)]
pub struct AcceptedSocket {
    pub id: ConnectionId,
    pub peer: SocketAddr,
    pub stream: TcpStream,
    pub permit: Permit,
}

/// The executor that owns this connection.
pub fn executor_of(connection: ConnectionId) -> usize {
    (connection.0 % EXECUTORS_MAX as u64) as usize
}

fn connection_id(sequence: u64, executor: usize) -> ConnectionId {
    assert!(executor < EXECUTORS_MAX);
    ConnectionId(sequence * EXECUTORS_MAX as u64 + executor as u64)
}

// --- limits ---------------------------------------------------------------------------------------------------------

/// Counts connections from accept to close.
#[derive(Debug)]
pub struct Admission {
    per_address: u32,
    total: u32,
    counts: Mutex<Counts>,
    refused: AtomicU64,
    expired: AtomicU64,
    dropped: AtomicU64,
}

/// What became of connections, for `mntr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// Turned away by a limit.
    pub refused: u64,
    /// Without a session when their time was up.
    pub expired: u64,
    /// Ended by their clients.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Counts {
    by_address: HashMap<IpAddr, u32>,
    total: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    TooManyFromAddress { max: u32 },
    TooManyInTotal { max: u32 },
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Admission {
    /// A limit of 0 is none.
    pub fn new(per_address: u32, total: u32) -> Arc<Admission> {
        Arc::new(Admission {
            per_address,
            total,
            counts: Mutex::default(),
            refused: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        })
    }

    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Refusal> {
        let admitted = self.count(address);
        if admitted.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    fn count(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Refusal> {
        let address = address.to_canonical(); // an IPv4 client on a dual-stack socket is the IPv4 client
        let mut counts = self.lock();
        if self.total != 0 && counts.total >= self.total {
            return Err(Refusal::TooManyInTotal { max: self.total });
        }
        let from_address = counts.by_address.get(&address).copied().unwrap_or(0);
        if self.per_address != 0 && from_address >= self.per_address {
            return Err(Refusal::TooManyFromAddress { max: self.per_address });
        }
        counts.by_address.insert(address, from_address + 1);
        counts.total += 1;
        Ok(Permit { admission: self.clone(), address })
    }

    /// Since the last call.
    pub fn take_fates(&self) -> Fates {
        let taken = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        Fates { refused: taken(&self.refused), expired: taken(&self.expired), dropped: taken(&self.dropped) }
    }

    /// Connections open right now.
    pub fn connections(&self) -> u32 {
        self.lock().total
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// No session came of this connection in time. Java: `SESSIONLESS_CONNECTIONS_EXPIRED`.
    pub fn count_expired(&self) {
        self.admission.expired.fetch_add(1, Ordering::Relaxed);
    }

    /// Its client closed it, and not as the answer to our close. Java: `CONNECTION_DROP_COUNT`, which leaves out resets, too.
    pub fn count_dropped(&self) {
        self.admission.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.admission.lock();
        counts.total -= 1;
        match counts.by_address.get_mut(&self.address) {
            Some(1) => {
                counts.by_address.remove(&self.address);
            }
            Some(count) => *count -= 1,
            None => unreachable!("an address with a connection is counted"),
        }
    }
}

// --- which executor -------------------------------------------------------------------------------------------------

/// What an executor says about itself, once a tick.
#[derive(Debug, Default)]
pub struct ExecutorLoad {
    /// Share of the last period its thread was busy, in thousandths.
    busy_permille: AtomicU32,
    /// Counts measurements, so that the accept thread knows what a measurement already includes.
    measurements: AtomicU32,
    connections: AtomicU32,
}

impl ExecutorLoad {
    pub fn publish(&self, busy_permille: u32, connections: u32) {
        self.busy_permille.store(busy_permille, Ordering::Relaxed);
        self.connections.store(connections, Ordering::Relaxed);
        self.measurements.fetch_add(1, Ordering::Relaxed);
    }
}

/// Executor 0 runs the pipeline. A hop from another executor costs a request more than serving it, so executor 0 also
/// takes connections, until it is this busy.
const PIPELINE_BUSY_PERMILLE: u32 = 500;

/// A connection accepted since the last measurement is taken to bring this load: else a burst all lands in one place.
const ASSUMED_CONNECTION_PERMILLE: u32 = 20;

#[derive(Clone, Copy, Debug, Default)]
struct Candidate {
    busy_permille: u32,
    connections: u32,
    accepted_since: u32,
}

impl Candidate {
    fn expected_permille(self) -> u32 {
        self.busy_permille.saturating_add(self.accepted_since.saturating_mul(ASSUMED_CONNECTION_PERMILLE))
    }
}

fn choose_executor(candidates: &[Candidate]) -> usize {
    let (pipeline, others) = candidates.split_first().expect("there is an executor 0");
    if others.is_empty() || pipeline.expected_permille() < PIPELINE_BUSY_PERMILLE {
        return 0;
    }
    let least = others
        .iter()
        .enumerate()
        .min_by_key(|(_, other)| (other.expected_permille(), other.connections.saturating_add(other.accepted_since)));
    1 + least.expect("not empty").0
}

/// The accept thread's view of all executors.
#[derive(Debug)]
struct Chooser {
    loads: Vec<Arc<ExecutorLoad>>,
    candidates: Vec<Candidate>,
    measurements: Vec<u32>,
}

impl Chooser {
    fn new(loads: Vec<Arc<ExecutorLoad>>) -> Chooser {
        let count = loads.len();
        Chooser { loads, candidates: vec![Candidate::default(); count], measurements: vec![0; count] }
    }

    fn choose(&mut self) -> usize {
        for (index, load) in self.loads.iter().enumerate() {
            let measurements = load.measurements.load(Ordering::Relaxed);
            if measurements != self.measurements[index] {
                self.measurements[index] = measurements;
                self.candidates[index] = Candidate {
                    busy_permille: load.busy_permille.load(Ordering::Relaxed),
                    connections: load.connections.load(Ordering::Relaxed),
                    accepted_since: 0,
                };
            }
        }
        let chosen = choose_executor(&self.candidates);
        self.candidates[chosen].accepted_since += 1;
        chosen
    }
}

// --- the listener ---------------------------------------------------------------------------------------------------

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("clientPort: {address} is in use by another process; end that process or choose another clientPort")]
    InUse { address: SocketAddr },
    #[error("clientPort: no permission to listen on {address}; ports below 1024 need CAP_NET_BIND_SERVICE")]
    Forbidden { address: SocketAddr },
    #[error("clientPortAddress: {address} is not an address of this machine")]
    NotOurs { address: SocketAddr },
    #[error("clientPort: cannot listen on {address}: {source}")]
    Other { address: SocketAddr, source: io::Error },
}

/// Bound but not yet listening: the port is known to be free early, and clients are refused until the server can serve.
#[derive(Debug)]
pub struct BoundListener {
    socket: Socket,
    address: SocketAddr,
    settings: ListenerSettings,
}

/// A running accept thread.
#[derive(Debug)]
pub struct ClientListener {
    socket: Arc<Socket>,
    stopping: Arc<AtomicBool>,
    pub address: SocketAddr,
}

impl BoundListener {
    /// `address`: None is every address of the machine, both families where there are two.
    pub fn bind(settings: ListenerSettings, address: Option<IpAddr>, port: u16) -> Result<BoundListener, ListenError> {
        let addresses: &[IpAddr] = match address {
            Some(address) => &[address],
            None => &[IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
        };
        let mut failure = None;
        for address in addresses {
            let address = SocketAddr::new(*address, port);
            match bind(address) {
                Ok(socket) => {
                    let address = socket.local_addr().ok().and_then(|local| local.as_socket()).unwrap_or(address);
                    return Ok(BoundListener { socket, address, settings });
                }
                // A machine without IPv6 listens on IPv4 alone.
                Err(source) if no_such_family(&source) && failure.is_none() => failure = Some((address, source)),
                Err(source) => return Err(listen_error(address, source)),
            }
        }
        let (address, source) = failure.expect("at least one address was tried");
        Err(listen_error(address, source))
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens and starts the accept thread; `mailboxes` and `loads` have one entry per executor, the pipeline's first.
    pub fn start(
        self,
        mailboxes: Vec<Mailbox<AcceptedSocket>>,
        loads: Vec<Arc<ExecutorLoad>>,
        admission: Arc<Admission>,
    ) -> Result<ClientListener, ListenError> {
        assert_eq!(mailboxes.len(), loads.len());
        assert!(mailboxes.len() <= EXECUTORS_MAX);
        let address = self.address;
        // Java's -1 is the JVM's 50; a reconnecting fleet is better served by the kernel's own bound.
        let backlog = if self.settings.backlog < 0 { 1024 } else { self.settings.backlog };
        info!("binding to port {address}");
        self.socket.listen(backlog).map_err(|source| listen_error(address, source))?;

        let socket = Arc::new(self.socket);
        let stopping = Arc::new(AtomicBool::new(false));
        let acceptor = Acceptor {
            socket: socket.clone(),
            stopping: stopping.clone(),
            admission,
            keep_alive: self.settings.keep_alive,
            chooser: Chooser::new(loads),
            mailboxes,
            refusals: Throttle::new(),
            failures: Throttle::new(),
        };
        std::thread::Builder::new()
            .name("rk-accept".into())
            .spawn(move || {
                leave_executors_cpu();
                acceptor.run();
            })
            .map_err(|source| ListenError::Other { address, source })?;
        Ok(ClientListener { socket, stopping, address })
    }
}

/// Every address of both families where the address is IPv6's unspecified one.
pub fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // A restart may bind while old connections linger. Never SO_REUSEPORT: two servers would share the port in silence.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn no_such_family(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

fn listen_error(address: SocketAddr, source: io::Error) -> ListenError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::InUse { address },
        io::ErrorKind::PermissionDenied => ListenError::Forbidden { address },
        io::ErrorKind::AddrNotAvailable => ListenError::NotOurs { address },
        _ => ListenError::Other { address, source },
    }
}

impl ClientListener {
    /// Takes no more connections; those accepted live on. Does not wait for the thread: it may itself be waiting for the
    /// caller to take sockets.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        // Linux wakes a blocked accept with EINVAL.
        if let Err(error) = self.socket.shutdown(std::net::Shutdown::Both) {
            warn!("{}: the listener does not stop: {error}", self.address);
        }
    }
}

impl Drop for ClientListener {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Acceptor {
    socket: Arc<Socket>,
    stopping: Arc<AtomicBool>,
    admission: Arc<Admission>,
    keep_alive: bool,
    chooser: Chooser,
    mailboxes: Vec<Mailbox<AcceptedSocket>>,
    refusals: Throttle,
    failures: Throttle,
}

/// Numbers connections across all listeners of the process.
static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

/// How long to leave the kernel alone after it had no descriptor or memory for us.
const BACK_OFF: Duration = Duration::from_millis(100);

impl Acceptor {
    fn run(mut self) {
        while !self.stopping.load(Ordering::Acquire) {
            match self.socket.accept() {
                Ok((socket, address)) => {
                    let Some(peer) = address.as_socket() else { continue };
                    if !self.take(socket, peer) {
                        return error!("the executors are gone; no more connections are taken");
                    }
                }
                Err(_) if self.stopping.load(Ordering::Acquire) => return,
                Err(error) if ended_before_accept(&error) => {}
                Err(error) => {
                    if let Some(suppressed) = self.failures.pass() {
                        warn!("Error accepting new connection: {error}{suppressed}; trying again every {BACK_OFF:?}");
                    }
                    std::thread::sleep(BACK_OFF);
                }
            }
        }
    }

    /// `false` when nobody is left to take connections.
    fn take(&mut self, socket: Socket, peer: SocketAddr) -> bool {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let permit = match self.admission.admit(peer.ip()) {
            Ok(permit) => permit,
            Err(refusal) => {
                if let Some(suppressed) = self.refusals.pass() {
                    match refusal {
                        Refusal::TooManyFromAddress { max } => {
                            warn!("Too many connections from /{} - max is {max}{suppressed}", peer.ip())
                        }
                        Refusal::TooManyInTotal { max } => {
                            warn!("Too many connections in total, refused /{peer} - max is {max}{suppressed}")
                        }
                    }
                }
                return true;
            }
        };
        // A client gone already makes these fail; its connection will find out by itself.
        let _ = socket.set_tcp_nodelay(true);
        if self.keep_alive {
            let _ = SockRef::from(&socket).set_keepalive(true);
        }
        let executor = self.chooser.choose();
        let id = connection_id(NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed), executor);
        self.mailboxes[executor].deliver(AcceptedSocket { id, peer, stream: socket.into(), permit })
    }
}

/// Errors that belong to the one connection that was about to be accepted.
fn ended_before_accept(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::mailbox::mailbox;

    fn address(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    #[test]
    fn an_address_never_has_more_than_its_share_and_gets_it_back() {
        let admission = Admission::new(2, 0);
        let first = admission.admit(address(1)).unwrap();
        let _second = admission.admit(address(1)).unwrap();
        assert_eq!(admission.admit(address(1)).unwrap_err(), Refusal::TooManyFromAddress { max: 2 });
        // The same host seen through a dual-stack socket.
        let mapped = IpAddr::V6(Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped());
        assert_eq!(admission.admit(mapped).unwrap_err(), Refusal::TooManyFromAddress { max: 2 });
        let _other = admission.admit(address(2)).unwrap();
        drop(first);
        let first_again = admission.admit(mapped).unwrap();
        assert_eq!(admission.admit(address(1)).unwrap_err(), Refusal::TooManyFromAddress { max: 2 });
        assert_eq!(admission.connections(), 3);
        first_again.count_dropped();
        assert_eq!(admission.take_fates(), Fates { refused: 3, expired: 0, dropped: 1 });
        assert_eq!(admission.take_fates(), Fates::default());
    }

    #[test]
    fn the_total_is_bounded_and_zero_is_no_limit() {
        let admission = Admission::new(0, 3);
        let held: Vec<_> = (0..3).map(|last| admission.admit(address(last)).unwrap()).collect();
        assert_eq!(admission.admit(address(9)).unwrap_err(), Refusal::TooManyInTotal { max: 3 });
        drop(held);
        assert_eq!(admission.connections(), 0);
        assert!(admission.counts.lock().unwrap().by_address.is_empty(), "an address without connections is forgotten");

        let unlimited = Admission::new(0, 0);
        let held: Vec<_> = (0..10_000).map(|_| unlimited.admit(address(1)).unwrap()).collect();
        assert_eq!(unlimited.connections(), 10_000);
        drop(held);
    }

    #[test]
    fn one_executor_takes_everything_however_busy() {
        assert_eq!(choose_executor(&[Candidate { busy_permille: 1000, ..Candidate::default() }]), 0);
    }

    #[test]
    fn the_pipeline_keeps_connections_while_it_has_time_for_them() {
        let idle = Candidate::default();
        let busy = Candidate { busy_permille: 700, connections: 10, accepted_since: 0 };
        assert_eq!(choose_executor(&[Candidate { connections: 2000, ..idle }, idle]), 0);
        assert_eq!(choose_executor(&[busy, idle]), 1);
        assert_eq!(choose_executor(&[busy, busy, idle]), 2);
        // Equally busy: the one with fewer connections.
        let fewer = Candidate { connections: 3, ..busy };
        assert_eq!(choose_executor(&[busy, busy, fewer, busy]), 2);
    }

    #[test]
    fn a_burst_spreads_although_nothing_is_measured_yet_and_a_measurement_starts_afresh() {
        let loads: Vec<Arc<ExecutorLoad>> = (0..3).map(|_| Arc::default()).collect();
        let mut chooser = Chooser::new(loads.clone());
        let mut taken = [0; 3];
        for _ in 0..225 {
            taken[chooser.choose()] += 1;
        }
        assert_eq!(taken, [25, 100, 100]);
        loads[0].publish(30, 25);
        assert_eq!(chooser.choose(), 0);
        loads[0].publish(900, 26);
        loads[1].publish(800, 100);
        loads[2].publish(100, 100);
        assert_eq!(chooser.choose(), 2);
    }

    #[test]
    fn a_connection_id_names_its_executor() {
        assert_eq!(executor_of(connection_id(1, 0)), 0);
        assert_eq!(executor_of(connection_id(77, 255)), 255);
        assert_ne!(connection_id(1, 0), connection_id(1, 1));
    }

    fn on_loopback(port: u16) -> Result<BoundListener, ListenError> {
        let settings =
            ListenerSettings { backlog: -1, keep_alive: true, connections_per_address: 2, connections_total: 0 };
        BoundListener::bind(settings, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), port)
    }

    #[test]
    fn a_port_in_use_is_said_with_its_cure_and_never_shared() {
        let (mailbox, _arrivals) = mailbox(HANDOVER_SOCKETS);
        let running = on_loopback(0).unwrap().start(vec![mailbox], vec![Arc::default()], Admission::new(0, 0)).unwrap();
        let refused = on_loopback(running.address.port()).unwrap_err();
        assert!(matches!(refused, ListenError::InUse { address } if address == running.address));
        assert!(refused.to_string().contains("choose another clientPort"));
    }

    #[test]
    fn excess_connections_are_closed_at_once_and_a_stop_ends_the_thread() {
        use std::io::Read;
        let (mailbox, mut arrivals) = mailbox(HANDOVER_SOCKETS);
        let admission = Admission::new(2, 0);
        let bound = on_loopback(0).unwrap();
        let listener = bound.start(vec![mailbox], vec![Arc::default()], admission.clone()).unwrap();
        let connect = || TcpStream::connect(listener.address).unwrap();
        let clients: Vec<TcpStream> = (0..4).map(|_| connect()).collect();
        let mut closed = 0;
        for (index, mut client) in clients.iter().enumerate() {
            // Accepted in order: the first two are in, the others see the end of the stream.
            if index >= 2 {
                assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
                closed += 1;
            }
        }
        assert_eq!(closed, 2);
        let mut next = || futures_lite::future::block_on(std::future::poll_fn(|cx| arrivals.poll_next(cx)));
        let first = next().unwrap();
        let second = next().unwrap();
        assert_ne!(first.id, second.id);
        assert_eq!(admission.connections(), 2);
        assert!(first.stream.nodelay().unwrap());
        drop(first);
        let third_client = connect();
        let third = next().unwrap();
        assert_eq!(third.peer, third_client.local_addr().unwrap());

        listener.stop();
        assert!(next().is_none(), "the accept thread is gone and with it the only sender");
        drop(second);
    }
}
