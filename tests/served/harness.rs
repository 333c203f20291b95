//! The process under test and a plain blocking client for it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringkeeper::wire::client::{
    Acl, ConnectRequest, ConnectResponse, CreateRequest, OpCode, ReplyHeader, Request, Response, WatcherEvent, perms,
};
use ringkeeper::wire::jute::{Limits, Reader};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

/// Longer than anything may take here, also on a busy machine: whoever waits this long has found a fault.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What an idle pipeline executor takes of a burst before the other executors get some (`client_listener.rs`).
const CONNECTIONS_TO_PIPELINE: usize = 25;

/// Runs a test against a server with one executor, then with two.
pub fn each_layout(test: impl Fn(usize)) {
    for executors in [1, 2] {
        test(executors);
    }
}

/// Polls until `condition` holds. Panics with `what` when it never does.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// For what a test can only tell while the machine keeps up: `attempt` is false when it was too late to tell.
pub fn in_time(what: &str, mut attempt: impl FnMut() -> bool) {
    assert!((0..4).any(|_| attempt()), "not in any of four attempts: {what}");
}

/// A port that nobody else is given as long as this process lives: it is bound here, and does not listen, so that whoever
/// asks for this very port (with SO_REUSEADDR, as servers do) gets it.
pub fn free_port() -> u16 {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    std::mem::forget(socket);
    port
}

// --- the process ------------------------------------------------------------------------------------------------------

/// How a server is to be started.
#[derive(Clone, Debug)]
pub struct Setup {
    pub executors: usize,
    /// Further lines of zoo.cfg.
    pub settings: String,
    pub options: Vec<&'static str>,
}

impl Setup {
    pub fn new(executors: usize) -> Setup {
        Setup { executors, settings: String::new(), options: Vec::new() }
    }

    pub fn with(mut self, line: &str) -> Setup {
        self.settings += line;
        self.settings += "\n";
        self
    }

    pub fn option(mut self, option: &'static str) -> Setup {
        self.options.push(option);
        self
    }

    /// In a directory of its own.
    pub fn start(self) -> Server {
        self.start_in(Arc::new(tempfile::tempdir().unwrap()))
    }

    pub fn start_in(self, directory: Arc<TempDir>) -> Server {
        let data = directory.path().join("data");
        self.start_on(directory, &data)
    }

    /// The configuration in `directory`, the data in `data`.
    pub fn start_on(self, directory: Arc<TempDir>, data: &Path) -> Server {
        let port = free_port();
        let config = self.write_config(directory.path(), data, port);
        let cores = self.cores();
        let mut arguments = vec![&cores[..], "-Dringkeeper.pin=off"];
        arguments.extend(&self.options);
        arguments.push(config.to_str().unwrap());
        let mut process = Process::spawn(&arguments);
        process.wait_until_serving(port);
        let address = (Ipv4Addr::LOCALHOST, port).into();
        Server { process, address, executors: self.executors, directory, data: data.to_owned() }
    }

    pub fn cores(&self) -> String {
        let cores: Vec<String> = (0..self.executors).map(|core| core.to_string()).collect();
        format!("-Dringkeeper.cores={}", cores.join(","))
    }

    pub fn write_config(&self, directory: &Path, data: &Path, port: u16) -> PathBuf {
        let config = directory.join("zoo.cfg");
        // What comes first is what a test may override by saying it again.
        let text = format!(
            "tickTime=2000\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n\
             preAllocSize=1024\nadmin.enableServer=false\n4lw.commands.whitelist=*\n{}",
            data.display(),
            self.settings
        );
        std::fs::write(&config, text).unwrap();
        config
    }
}

/// A ringkeeper process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    pub fn spawn(arguments: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringkeeper"));
        command.args(arguments);
        Process::of(command)
    }

    /// It does not outlive the thread that starts it.
    pub fn of(mut command: Command) -> Process {
        // SAFETY: between fork and exec there is one system call, and nothing is allocated.
        unsafe { command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?)) };
        let mut child = command
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(String::new()));
        let (sink, stderr) = (lines.clone(), child.stderr.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut text = sink.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
            }
        });
        Process { child, lines, reader: Some(reader) }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Everything it said so far.
    pub fn log(&self) -> String {
        self.lines.lock().unwrap().clone()
    }

    pub fn lines_with(&self, words: &[&str]) -> Vec<String> {
        let log = self.log();
        log.lines().filter(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).collect()
    }

    /// Waits for its end and for all it had to say; kills it when it does not end.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        let ended = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() >= until => break None,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        if ended.is_none() {
            let _ = self.child.kill();
        }
        let killed = self.child.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        assert!(ended.is_some(), "still running after {PATIENCE:?}: {}", self.log());
        killed
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn wait_until_serving(&mut self, port: u16) {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self.has_ended() {
                self.wait();
                panic!("it ended: {}", self.log());
            }
            if let Ok(mut client) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut answer = String::new();
                if client.write_all(b"ruok").is_ok() && client.read_to_string(&mut answer).is_ok() && answer == "imok" {
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("does not serve: {}", self.log());
    }

    /// Resident memory, bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a running process");
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    /// User and system time of all its threads, milliseconds.
    pub fn cpu_ms(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name may hold anything, so fields are counted from behind it.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        ticks * 1000 / rustix::param::clock_ticks_per_second()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A serving process.
#[derive(Debug)]
pub struct Server {
    pub process: Process,
    pub address: SocketAddr,
    pub executors: usize,
    pub directory: Arc<TempDir>,
    pub data: PathBuf,
}

impl Server {
    /// A socket that has said nothing; with two executors it most likely belongs to the one without the pipeline.
    pub fn socket(&self) -> TcpStream {
        if self.executors > 1 {
            for _ in 0..CONNECTIONS_TO_PIPELINE {
                drop(TcpStream::connect(self.address).unwrap());
            }
        }
        self.socket_anywhere()
    }

    pub fn socket_anywhere(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    /// A client with a new session of 30 s.
    pub fn client(&self) -> Client {
        Client::connect(self.socket(), 30_000)
    }

    /// A client that picks up the session of another; `None` when refused.
    pub fn resume(&self, session: i64, password: &[u8]) -> Option<Client> {
        let mut client = Client::new(self.socket());
        client.handshake(session, password, 30_000).expect("an answer");
        (client.session != 0).then_some(client)
    }

    /// The answer to a four-letter word.
    pub fn word(&self, word: &str) -> String {
        let mut socket = self.socket_anywhere();
        socket.write_all(word.as_bytes()).unwrap();
        String::from_utf8(read_to_close(&mut socket)).unwrap()
    }

    /// A value of `mntr`.
    pub fn gauge(&self, name: &str) -> u64 {
        let text = self.word("mntr");
        gauge_in(&text, name).unwrap_or_else(|| panic!("{name} in {text}"))
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.process.pid(), signal).unwrap();
    }

    /// SIGTERM and the end, which must be clean.
    pub fn stop(mut self) -> Arc<TempDir> {
        self.signal(Signal::TERM);
        let status = self.process.wait();
        assert_eq!(status.code(), Some(0), "{}", self.process.log());
        self.directory.clone()
    }
}

// --- the client -------------------------------------------------------------------------------------------------------

pub fn gauge_in(mntr: &str, name: &str) -> Option<u64> {
    let value = mntr.lines().find_map(|line| line.strip_prefix(&format!("zk_{name}\t")))?;
    Some(value.parse().unwrap())
}

/// Everything until the server closes; a reset counts as the end.
pub fn read_to_close(socket: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut chunk = [0; 65536];
    loop {
        match socket.read(&mut chunk) {
            Ok(0) => return all,
            Ok(bytes) => all.extend_from_slice(&chunk[..bytes]),
            // A read with a time limit is not taken up again by the kernel after a signal.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_gone(&error) => return all,
            Err(error) => panic!("neither answered nor closed: {error}"),
        }
    }
}

pub fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), ConnectionReset | BrokenPipe | ConnectionAborted | UnexpectedEof)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub header: ReplyHeader,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn response(&self, asked: OpCode) -> Response<'_> {
        assert_eq!(self.header.err, 0);
        Response::decode(asked, &self.body).unwrap()
    }

    pub fn data(&self) -> &[u8] {
        match self.response(OpCode::GetData) {
            Response::Data { data, .. } => data.unwrap_or_default(),
            other => panic!("{other:?}"),
        }
    }

    pub fn names(&self) -> Vec<String> {
        match self.response(OpCode::GetChildren) {
            Response::Names(names) => names.into_iter().map(|name| name.into_owned()).collect(),
            other => panic!("{other:?}"),
        }
    }

    pub fn event(&self) -> WatcherEvent<'_> {
        assert_eq!(self.header.xid, -1);
        WatcherEvent::decode(&self.body).unwrap()
    }
}

#[derive(Debug)]
pub struct Client {
    pub socket: TcpStream,
    pub session: i64,
    pub password: [u8; 16],
    pub timeout_ms: i32,
    next_xid: i32,
}

impl Client {
    pub fn new(socket: TcpStream) -> Client {
        Client { socket, session: 0, password: [0; 16], timeout_ms: 0, next_xid: 1 }
    }

    pub fn connect(socket: TcpStream, timeout_ms: i32) -> Client {
        let mut client = Client::new(socket);
        client.handshake(0, &[0; 16], timeout_ms).expect("a session");
        assert_ne!(client.session, 0);
        client
    }

    pub fn send_connect(&mut self, session: i64, password: &[u8], timeout_ms: i32) -> io::Result<()> {
        let mut bytes = Vec::new();
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout_ms,
            session_id: session,
            password: Some(password),
            read_only: Some(false),
        }
        .encode(&mut bytes);
        self.socket.write_all(&bytes)
    }

    pub fn take_welcome(&mut self) -> io::Result<()> {
        let welcome = ConnectResponse::decode(&self.frame()?).unwrap();
        (self.session, self.password, self.timeout_ms) = (welcome.session_id, welcome.password, welcome.timeout_ms);
        Ok(())
    }

    pub fn handshake(&mut self, session: i64, password: &[u8], timeout_ms: i32) -> io::Result<()> {
        self.send_connect(session, password, timeout_ms)?;
        self.take_welcome()
    }

    pub fn frame(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length)?;
        let mut payload = vec![0; u32::from_be_bytes(length) as usize];
        self.socket.read_exact(&mut payload)?;
        Ok(payload)
    }

    pub fn next_xid(&mut self) -> i32 {
        self.next_xid += 1;
        self.next_xid
    }

    pub fn try_send(&mut self, request: &Request<'_>) -> io::Result<i32> {
        let xid = if matches!(request, Request::Ping) { -2 } else { self.next_xid() };
        let mut bytes = Vec::new();
        request.encode(xid, &mut bytes);
        self.socket.write_all(&bytes).map(|()| xid)
    }

    pub fn send(&mut self, request: &Request<'_>) -> i32 {
        self.try_send(request).unwrap()
    }

    pub fn try_receive(&mut self) -> io::Result<Reply> {
        let frame = self.frame()?;
        let mut reader = Reader::new(&frame, &Limits::FORMAT);
        let header = ReplyHeader::decode(&mut reader).unwrap();
        Ok(Reply { header, body: reader.rest().to_vec() })
    }

    pub fn receive(&mut self) -> Reply {
        self.try_receive().unwrap()
    }

    /// The answer to one request; notifications that come before it are dropped.
    pub fn ask(&mut self, request: &Request<'_>) -> Reply {
        let xid = self.send(request);
        loop {
            let reply = self.receive();
            if reply.header.xid != -1 {
                assert_eq!(reply.header.xid, xid);
                return reply;
            }
        }
    }

    pub fn must(&mut self, request: &Request<'_>) -> Reply {
        let reply = self.ask(request);
        assert_eq!(reply.header.err, 0, "{:?}", request.opcode());
        reply
    }

    pub fn err(&mut self, request: &Request<'_>) -> i32 {
        self.ask(request).header.err
    }

    /// Closed by the server, without one more byte.
    pub fn assert_closed(mut self) {
        assert_eq!(read_to_close(&mut self.socket), b"", "closed without a word");
    }
}

// --- requests ---------------------------------------------------------------------------------------------------------

pub fn create<'a>(path: &'a str, data: &'a [u8]) -> Request<'a> {
    create_with(path, data, 0)
}

pub fn ephemeral(path: &str) -> Request<'_> {
    create_with(path, b"", 1)
}

fn create_with<'a>(path: &'a str, data: &'a [u8], flags: i32) -> Request<'a> {
    let anyone = Acl { perms: perms::ALL, scheme: Some("world".into()), id: Some("anyone".into()) };
    Request::Create(CreateRequest { path: Some(path.into()), data: Some(data), acl: Some(vec![anyone]), flags })
}

pub fn set<'a>(path: &'a str, data: &'a [u8]) -> Request<'a> {
    Request::SetData { path: Some(path.into()), data: Some(data), version: -1 }
}

pub fn get(path: &str) -> Request<'_> {
    Request::GetData { path: Some(path.into()), watch: false }
}

pub fn exists(path: &str, watch: bool) -> Request<'_> {
    Request::Exists { path: Some(path.into()), watch }
}

pub fn children(path: &str) -> Request<'_> {
    Request::GetChildren { path: Some(path.into()), watch: false }
}
