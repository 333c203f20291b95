//! The shell over real loopback sockets, with a core that only echoes: framing, limits, words, back-pressure, many
//! connections, one executor and two, start and stop.
//!
//! The echo core answers each frame with the same frame. The first payload byte commands it otherwise: see [`Echo`].

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringkeeper::core::ensemble_view::Awaits;
use ringkeeper::core::metrics::Metrics;
use ringkeeper::core::{ConnectionId, Input, Now, Output, Zxid};
use ringkeeper::shell::bridge::AskedWord;
use ringkeeper::shell::client_listener::ListenerSettings;
use ringkeeper::shell::pipeline::{Core, Surroundings};
use ringkeeper::shell::placement::Plan;
use ringkeeper::shell::settings::{CoreLoader, CoreLoaders, ServeError, Settings};
use ringkeeper::shell::signals::{self, StopRequest};
use ringkeeper::shell::start::serve;
use ringkeeper::wire::frame::{FourLetterWord, Frames};
use ringkeeper::wire::jute::Limits;
use ringkeeper_storage::{Opened, StoreConfig};
use rustix::process::{Resource, Rlimit};

/// Longest frame the servers of these tests take.
const FRAME_BYTES: usize = 100_000;

/// How long a test waits for something that is to happen.
const PATIENCE: Duration = Duration::from_secs(20);

// --- the core ---------------------------------------------------------------------------------------------------------

/// First payload byte: what to do with the frame.
const CLOSE_AFTER: u8 = b'c'; // echo it, then close
const PAUSE: u8 = b'p'; // echo it and stop reading until the next tick
const REPEAT: u8 = b'r'; // answer with a megabyte
const LOG: u8 = b'l'; // echo it when it is durable
const PANIC: u8 = b'x';

#[derive(Default)]
struct Echo {
    replies: Vec<(ConnectionId, Vec<u8>)>,
    closes: Vec<ConnectionId>,
    paused: Vec<ConnectionId>,
    /// Answers that wait for the log.
    logged: VecDeque<(Zxid, ConnectionId, Vec<u8>)>,
    last_zxid: u64,
    unsent_bytes: usize,
    connections: usize,
    events: Option<mpsc::Sender<Event>>,
    metrics: Metrics,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Connected,
    Disconnected { left: usize },
    AllSent,
}

impl Echo {
    fn tell(&self, event: Event) {
        if let Some(events) = &self.events {
            let _ = events.send(event);
        }
    }

    fn reply(&mut self, connection: ConnectionId, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(payload);
        self.unsent_bytes += frame.len();
        match self.replies.last_mut() {
            Some((last, bytes)) if *last == connection => bytes.extend_from_slice(&frame),
            _ => self.replies.push((connection, frame)),
        }
    }
}

impl Core for Echo {
    fn awaits(&self, _: Now) -> Option<Awaits> {
        None
    }

    fn is_moving(&self) -> bool {
        false
    }

    fn wake_us(&self) -> Option<u64> {
        None
    }

    fn wants_turn(&self) -> bool {
        false
    }

    fn snapshot_is_pressing(&self) -> bool {
        false
    }

    fn step(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Output>) {
        assert!(now.wall_ms > 0);
        match input {
            Input::Connected { .. } => {
                self.connections += 1;
                self.tell(Event::Connected);
            }
            Input::Disconnected { .. } => {
                self.connections -= 1;
                self.tell(Event::Disconnected { left: self.connections });
            }
            Input::Received { connection, frames } => {
                let mut walk = Frames::new(frames);
                for payload in walk.by_ref() {
                    if payload.first() == Some(&LOG) {
                        self.last_zxid += 1;
                        let zxid = Zxid(self.last_zxid);
                        self.logged.push_back((zxid, connection, payload.to_vec()));
                        out.push(Output::Log { zxid, txn: payload.to_vec().into() });
                        continue;
                    }
                    self.reply(connection, payload);
                    match payload.first() {
                        Some(&CLOSE_AFTER) => self.closes.push(connection),
                        Some(&PAUSE) => {
                            self.paused.push(connection);
                            out.push(Output::PauseReading { connection });
                        }
                        Some(&REPEAT) => self.reply(connection, &vec![b'.'; 1 << 20]),
                        Some(&PANIC) => panic!("asked to"),
                        _ => {}
                    }
                }
                assert!(walk.rest().is_empty(), "only complete frames arrive");
            }
            Input::Sent { bytes, .. } => {
                self.unsent_bytes = self.unsent_bytes.checked_sub(bytes).expect("no more is sent than was said");
                if self.unsent_bytes == 0 {
                    self.tell(Event::AllSent);
                }
            }
            Input::LogDurable { through } => {
                while self.logged.front().is_some_and(|(zxid, _, _)| *zxid <= through) {
                    let (_, connection, payload) = self.logged.pop_front().expect("just looked at");
                    self.reply(connection, &payload);
                }
            }
            Input::LogRoom(_) => {} // the segments here are small
            Input::Tick => {
                out.extend(self.paused.drain(..).map(|connection| Output::ResumeReading { connection }));
            }
            Input::Shutdown => {
                assert!(self.logged.is_empty(), "these tests stop at rest");
                out.push(Output::Drained);
            }
            other => panic!("{other:?} means nothing here"),
        }
    }

    fn flush(&mut self, out: &mut Vec<Output>) {
        out.extend(self.replies.drain(..).map(|(connection, bytes)| Output::Send { connection, bytes }));
        out.extend(self.closes.drain(..).map(|connection| Output::Close { connection }));
    }

    fn metrics(&mut self) -> &mut Metrics {
        &mut self.metrics
    }

    fn word(&mut self, _: Now, asked: AskedWord, _: &Surroundings<'_>) -> Vec<u8> {
        let answer = match asked.word {
            FourLetterWord::Ruok => "imok".to_owned(),
            FourLetterWord::Cons => "x".repeat(300_000),
            other => format!("{}\n", other.name()),
        };
        self.unsent_bytes += answer.len();
        answer.into_bytes()
    }
}

/// What every start spends on reading its disk, at least.
const READING: Duration = Duration::from_millis(20);

// --- a server in this process -----------------------------------------------------------------------------------------

struct Server {
    address: SocketAddr,
    events: mpsc::Receiver<Event>,
    stop: StopRequest,
    thread: Option<JoinHandle<Result<usize, ServeError>>>,
    /// Connections that say nothing: they fill the pipeline's executor, so that a test's own land on the other one.
    fillers: Vec<TcpStream>,
    directory: Option<tempfile::TempDir>,
}

impl Server {
    fn start(executors: usize) -> Server {
        Server::start_with(executors, |_| {})
    }

    fn start_with(executors: usize, change: impl FnOnce(&mut Settings)) -> Server {
        Server::start_in(tempfile::tempdir().unwrap(), executors, change)
    }

    fn start_in(directory: tempfile::TempDir, executors: usize, change: impl FnOnce(&mut Settings)) -> Server {
        let mut settings = settings(executors, directory.path());
        change(&mut settings);
        let (event_sender, events) = mpsc::channel();
        let stop = StopRequest::default();
        let (ready_sender, ready) = mpsc::channel();
        let load: CoreLoader = Box::new(move |opened: &mut Opened| {
            std::thread::sleep(READING); // as a long log would
            let mut last_zxid = 0;
            opened.replay(|zxid, record| {
                assert_eq!((zxid.0, record[0]), (last_zxid + 1, LOG), "the log has what was logged, in order");
                last_zxid = zxid.0;
            })?;
            Ok(Box::new(move |now: Now, _: &mut Vec<Output>| {
                assert!(now.mono_us >= READING.as_micros() as u64, "sessions do not age while the disk is read");
                Box::new(Echo { last_zxid, events: Some(event_sender), ..Echo::default() }) as Box<dyn Core>
            }))
        });
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || serve(settings, alone(load), stop, move |address| ready_sender.send(address).unwrap())
        });
        let address = match ready.recv_timeout(PATIENCE) {
            Ok(address) => address.unwrap(),
            Err(_) => panic!("no server: {:?}", thread.join()),
        };
        let fillers = if executors == 1 { 0 } else { CONNECTIONS_TO_PIPELINE };
        let fillers: Vec<_> = (0..fillers).map(|_| TcpStream::connect(address).unwrap()).collect();
        let server = Server { address, events, stop, thread: Some(thread), fillers, directory: Some(directory) };
        // The next one comes by another way, and may be there sooner.
        server.fillers.iter().for_each(|_| server.wait_for(Event::Connected));
        server
    }

    /// Waits until only `left` connections of the test are there.
    fn wait_until_left(&self, left: usize) {
        self.wait_for(Event::Disconnected { left: left + self.fillers.len() });
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_write_timeout(Some(PATIENCE)).unwrap();
        client.set_nodelay(true).unwrap();
        client
    }

    fn wait_for(&self, wanted: Event) {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if self.events.recv_timeout(PATIENCE) == Ok(wanted) {
                return;
            }
        }
        panic!("{wanted:?} did not happen");
    }

    /// Stops, and gives the directory to a successor.
    fn stop_and_keep(mut self) -> tempfile::TempDir {
        let directory = self.directory.take().unwrap();
        self.stop().unwrap();
        directory
    }

    /// How many clients were not waited for.
    fn stop(mut self) -> Result<usize, ServeError> {
        // The fillers stay: a client that says and reads nothing must not hold up a stop.
        self.stop.ask();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.ask();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn settings(executors: usize, directory: &std::path::Path) -> Settings {
    let cpus: Vec<usize> = (0..executors).collect();
    let mut store = StoreConfig::new(directory, directory);
    store.segment_bytes = 1 << 20;
    Settings {
        plan: Plan::new(Some(&cpus), ringkeeper::config::Pin::Off, None).unwrap(),
        listener: ListenerSettings { backlog: -1, keep_alive: false, connections_per_address: 0, connections_total: 0 },
        clients_at: Some(("127.0.0.1".to_owned(), 0)),
        store,
        limits: Limits::new(FRAME_BYTES, None),
        tick_ms: 1000,
        sessionless_timeout_ms: 600_000,
        snap_count: 100_000,
        snap_size_limit_bytes: None,
        snapshot_bytes_per_second: None,
        purge: None,
        slow_flush_ms: 1000,
        disk_driver: ringkeeper_storage::DriverKind::RingInline,
        ensemble: None,
    }
}

/// Nobody has this server read its disk again.
fn alone(first: CoreLoader) -> CoreLoaders {
    CoreLoaders { first, again: None }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(payload);
    frame
}

fn read_frame(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let mut payload = vec![0; u32::from_be_bytes(length) as usize];
    client.read_exact(&mut payload)?;
    Ok(payload)
}

fn ask(client: &mut TcpStream, payload: &[u8]) -> Vec<u8> {
    client.write_all(&frame(payload)).unwrap();
    read_frame(client).unwrap()
}

/// Everything until the server closes; a reset counts as the end.
fn read_to_close(client: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match client.read(&mut chunk) {
            Ok(0) => return all,
            Ok(bytes) => all.extend_from_slice(&chunk[..bytes]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return all,
            // A read with a time limit is not taken up again by the kernel after a signal.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("the server neither answered nor closed: {error}"),
        }
    }
}

/// What an idle pipeline executor takes of a burst before the other executors get some (`choose_executor`).
const CONNECTIONS_TO_PIPELINE: usize = 25;

const MANY: usize = 60;

fn each_layout(test: impl Fn(usize)) {
    for executors in [1, 2] {
        test(executors);
    }
}

// --- the tests --------------------------------------------------------------------------------------------------------

#[test]
fn every_connection_gets_its_own_frames_back_in_order() {
    each_layout(|executors| {
        let server = Server::start(executors);
        let mut clients: Vec<TcpStream> = (0..MANY).map(|_| server.connect()).collect();
        for round in 0..20_u32 {
            for (index, client) in clients.iter_mut().enumerate() {
                let payload = format!("hello {round} from {index}");
                // Several frames in one segment.
                let burst: Vec<u8> = (0..3).flat_map(|_| frame(payload.as_bytes())).collect();
                client.write_all(&burst).unwrap();
            }
            for (index, client) in clients.iter_mut().enumerate() {
                for _ in 0..3 {
                    assert_eq!(read_frame(client).unwrap(), format!("hello {round} from {index}").into_bytes());
                }
            }
        }
        drop(clients);
        server.wait_until_left(0);
        server.stop().unwrap();
    });
}

#[test]
fn frames_survive_every_way_of_cutting_them() {
    let server = Server::start(1);
    let mut client = server.connect();
    let stream: Vec<u8> =
        [&b"first"[..], b"", b"a longer third one", &[7; 3000]].iter().flat_map(|p| frame(p)).collect();
    for piece in [1, 2, 3, 5, 1000] {
        for chunk in stream.chunks(piece) {
            client.write_all(chunk).unwrap();
        }
        assert_eq!(read_frame(&mut client).unwrap(), b"first");
        assert_eq!(read_frame(&mut client).unwrap(), b"");
        assert_eq!(read_frame(&mut client).unwrap(), b"a longer third one");
        assert_eq!(read_frame(&mut client).unwrap(), [7; 3000]);
    }
}

#[test]
fn the_longest_frame_passes_and_one_byte_more_closes_at_once_without_a_reply() {
    each_layout(|executors| {
        let server = Server::start(executors);
        let mut client = server.connect();
        let longest = vec![b'a'; FRAME_BYTES];
        assert_eq!(ask(&mut client, &longest), longest);
        // The length word alone is enough; its payload never comes.
        client.write_all(&(FRAME_BYTES as u32 + 1).to_be_bytes()).unwrap();
        assert_eq!(read_to_close(&mut client), b"");

        let mut negative = server.connect();
        negative.write_all(&(-5_i32).to_be_bytes()).unwrap();
        assert_eq!(read_to_close(&mut negative), b"");

        // Frames ahead of a bad length still execute.
        let mut late = server.connect();
        late.write_all(&[frame(b"good"), (-1_i32).to_be_bytes().to_vec()].concat()).unwrap();
        let answered = read_to_close(&mut late);
        assert!(answered.is_empty() || answered == frame(b"good"));
    });
}

#[test]
fn words_are_answered_and_closed_however_they_arrive() {
    each_layout(|executors| {
        let server = Server::start(executors);
        let whole = |bytes: &[&[u8]], half_close: bool| {
            let mut client = server.connect();
            for piece in bytes {
                client.write_all(piece).unwrap();
                // Apart on the wire too: each piece is a segment of its own, and the server sees some of them alone.
                std::thread::yield_now();
            }
            if half_close {
                client.shutdown(Shutdown::Write).unwrap();
            }
            read_to_close(&mut client)
        };
        assert_eq!(whole(&[b"ruok"], false), b"imok");
        assert_eq!(whole(&[b"ruok"], true), b"imok", "netcat closes its half and still gets its answer");
        assert_eq!(whole(&[b"ruok\n"], false), b"imok");
        assert_eq!(whole(&[b"r", b"u", b"o", b"k"], false), b"imok");
        assert_eq!(whole(&[b"ru", b"ok", b"\n"], true), b"imok");
        assert_eq!(whole(&[b"srvr"], false), b"srvr\n");
        assert_eq!(whole(&[b"cons"], true).len(), 300_000, "a long answer is delivered whole");
        assert_eq!(whole(&[b"xxxx"], false), b"", "an unknown word is a bad length");
        assert_eq!(whole(&[b"RUOK"], false), b"");

        // Behind a frame a word is only a length.
        let mut client = server.connect();
        assert_eq!(ask(&mut client, b"session"), b"session");
        client.write_all(b"ruok").unwrap();
        assert_eq!(read_to_close(&mut client), b"");
    });
}

#[test]
fn a_close_comes_after_everything_sent_before() {
    each_layout(|executors| {
        let server = Server::start(executors);
        for _ in 0..MANY {
            let mut client = server.connect();
            client.write_all(&[frame(b"one"), frame(b"close"), frame(b"too late")].concat()).unwrap();
            let answered = read_to_close(&mut client);
            assert_eq!(answered, [frame(b"one"), frame(b"close"), frame(b"too late")].concat());
        }
        server.wait_until_left(0);
    });
}

#[test]
fn a_client_that_half_closes_is_gone() {
    each_layout(|executors| {
        let server = Server::start(executors);
        let mut client = server.connect();
        assert_eq!(ask(&mut client, b"hi"), b"hi");
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_close(&mut client), b"");
        server.wait_until_left(0);
    });
}

#[test]
fn a_paused_client_is_not_read_until_resumed_and_loses_nothing() {
    each_layout(|executors| {
        let server = Server::start(executors);
        let mut client = server.connect();
        assert_eq!(ask(&mut client, b"pause"), b"pause");
        // Comes while reading is paused, is answered after the next tick resumes it.
        assert_eq!(ask(&mut client, b"behind"), b"behind");
    });
}

#[test]
fn a_client_that_does_not_read_gets_everything_later_and_every_byte_is_accounted_for() {
    each_layout(|executors| {
        let server = Server::start(executors);
        let mut others = server.connect();
        let mut client = server.connect();
        // More than any socket buffer: the server must keep it, and must not wait for it.
        for _ in 0..12 {
            client.write_all(&frame(b"repeat")).unwrap();
        }
        assert_eq!(ask(&mut others, b"not blocked"), b"not blocked");
        for _ in 0..12 {
            assert_eq!(read_frame(&mut client).unwrap(), b"repeat");
            assert_eq!(read_frame(&mut client).unwrap().len(), 1 << 20);
        }
        server.wait_for(Event::AllSent);
    });
}

#[test]
fn a_thousand_connects_in_a_burst_are_all_served() {
    each_layout(|executors| {
        let server = Server::start(executors);
        let mut clients: Vec<TcpStream> = (0..1000).map(|_| server.connect()).collect();
        for (index, client) in clients.iter_mut().enumerate() {
            client.write_all(&frame(&(index as u32).to_be_bytes())).unwrap();
        }
        for (index, client) in clients.iter_mut().enumerate() {
            assert_eq!(read_frame(client).unwrap(), (index as u32).to_be_bytes());
        }
        drop(clients);
        server.wait_until_left(0);
    });
}

#[test]
fn a_connection_without_a_session_goes_after_its_time_and_one_with_a_frame_stays() {
    each_layout(|executors| {
        let server = Server::start_with(executors, |settings| settings.sessionless_timeout_ms = 300);
        let mut silent = server.connect();
        let mut dribbling = server.connect();
        dribbling.write_all(&[0, 0]).unwrap();
        // Who asks late is told to go, and comes again.
        let mut speaking = (0..10)
            .find_map(|_| {
                let mut speaking = server.connect();
                speaking.write_all(&frame(b"session")).ok()?;
                (read_frame(&mut speaking).ok()? == b"session").then_some(speaking)
            })
            .expect("an answer");
        assert_eq!(read_to_close(&mut silent), b"");
        assert_eq!(read_to_close(&mut dribbling), b"");
        assert_eq!(ask(&mut speaking, b"still here"), b"still here");
    });
}

#[test]
fn an_address_has_no_more_connections_than_allowed_even_in_a_burst() {
    let server = Server::start_with(1, |settings| {
        settings.listener.connections_per_address = 3;
    });
    let mut clients: Vec<TcpStream> = (0..8).map(|_| server.connect()).collect();
    let mut served = 0;
    for client in &mut clients {
        let sent = client.write_all(&frame(b"?"));
        served += usize::from(sent.is_ok() && read_frame(client).is_ok());
    }
    assert_eq!(served, 3);
    drop(clients);
    server.wait_until_left(0);
    assert_eq!(ask(&mut server.connect(), b"room again"), b"room again");
}

#[test]
fn a_stop_closes_every_client_and_frees_the_port() {
    each_layout(|executors| {
        let server = Server::start(executors);
        let mut clients: Vec<TcpStream> = (0..MANY).map(|_| server.connect()).collect();
        for client in &mut clients {
            assert_eq!(ask(client, b"hi"), b"hi");
        }
        let address = server.address;
        let stopper = std::thread::spawn(move || server.stop());
        for client in &mut clients {
            assert_eq!(read_to_close(client), b"");
        }
        assert_eq!(stopper.join().unwrap().unwrap(), 0, "nobody's patience was used up");
        drop(clients);
        assert!(TcpStream::connect(address).is_err());
    });
}

/// Sockets that were accepted before the stop reach their executor after everybody was told to close.
#[test]
fn a_stop_amid_a_burst_of_connects_does_not_wait_for_the_late_ones() {
    each_layout(|executors| {
        for _ in 0..4 {
            let server = Server::start(executors);
            let address = server.address;
            let connecting = std::thread::spawn(move || {
                let connect = |_| TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok();
                (0..2000).map_while(connect).collect::<Vec<_>>()
            });
            drop(server.connect());
            assert_eq!(server.stop().unwrap(), 0, "nobody's patience was used up");
            drop(connecting.join().unwrap());
        }
    });
}

#[test]
fn what_goes_through_the_log_is_answered_when_durable_and_found_again() {
    each_layout(|executors| {
        let server = Server::start(executors);
        let mut clients: Vec<TcpStream> = (0..MANY).map(|_| server.connect()).collect();
        for round in 0..5_u32 {
            for client in &mut clients {
                // Two for the log, more than one batch can hold at once from all of them.
                let payload = [&b"log"[..], &round.to_be_bytes(), &[0; 5000]].concat();
                client.write_all(&[frame(&payload), frame(&payload)].concat()).unwrap();
            }
            for client in &mut clients {
                for _ in 0..2 {
                    assert_eq!(read_frame(client).unwrap()[3..7], round.to_be_bytes());
                }
            }
        }
        drop(clients);
        let directory = server.stop_and_keep();
        let server = Server::start_in(directory, executors, |_| {});
        assert_eq!(ask(&mut server.connect(), b"log on"), b"log on");
    });
}

/// Runs one test of this program in a process of its own, with `variable` set.
fn in_a_process_of_its_own(test: &str, variable: &str) -> std::process::Output {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(variable, "1")
        .output()
        .unwrap()
}

/// Not a test of its own: it limits the size of all files of its process.
#[test]
fn log_failure_child() {
    if std::env::var_os("RINGKEEPER_TEST_LOG_FAILURE").is_some() {
        let mut server = Server::start(2);
        signals::listen(server.stop.clone()).unwrap();
        let mut client = server.connect();
        assert_eq!(ask(&mut client, b"log one"), b"log one");
        let nothing_more = Rlimit { current: Some(0), maximum: Some(0) };
        rustix::process::setrlimit(Resource::Fsize, nothing_more).unwrap();
        client.write_all(&frame(b"log two")).unwrap();
        let ended = server.thread.take().unwrap().join().unwrap().unwrap_err();
        assert!(matches!(ended, ServeError::LogFailed(_)), "{ended}");
        assert_eq!(ended.exit_code(), 1);
        client.set_nonblocking(true).unwrap();
        let answered = client.read(&mut [0; 100]);
        assert!(!matches!(answered, Ok(1..)), "an answer although the log failed");
        println!("as it should be");
    }
}

#[test]
fn a_failed_log_acknowledges_nothing_and_ends_the_server() {
    let child = in_a_process_of_its_own("log_failure_child", "RINGKEEPER_TEST_LOG_FAILURE");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("as it should be"), "{said}");
}

/// Not a test of its own: the process that the next one starts and that must not survive.
#[test]
fn core_panic_child() {
    if std::env::var_os("RINGKEEPER_TEST_CORE_PANIC").is_some() {
        let server = Server::start(1);
        let mut client = server.connect();
        client.write_all(&frame(b"xenophobe")).unwrap();
        let answered = read_frame(&mut client);
        unreachable!("a core that panicked went on: {answered:?}");
    }
}

#[test]
fn a_panic_in_the_core_ends_the_process() {
    let child = in_a_process_of_its_own("core_panic_child", "RINGKEEPER_TEST_CORE_PANIC");
    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.code(), Some(1), "{said}");
    assert!(said.contains("asked to") && said.contains("its state cannot be trusted"), "{said}");
}

#[test]
fn a_panic_while_loading_ends_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let load = Box::new(|_: &mut _| panic!("a damaged snapshot"));
    let refused =
        serve(settings(1, directory.path()), alone(load), StopRequest::default(), |_| panic!("must not be ready"));
    let refused = refused.unwrap_err();
    assert!(matches!(refused, ServeError::ExecutorLost(0)), "{refused}");
    assert_eq!(refused.exit_code(), 1);
}

#[test]
fn a_port_in_use_ends_the_start() {
    let server = Server::start(1);
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(1, directory.path());
    settings.clients_at = Some(("127.0.0.1".to_owned(), server.address.port()));
    let load: CoreLoader = Box::new(|_| Ok(Box::new(|_, _| Box::new(Echo::default()))));
    let refused = serve(settings, alone(load), StopRequest::default(), |_| panic!("must not be ready")).unwrap_err();
    assert_eq!(refused.exit_code(), 1);
    assert!(refused.to_string().contains("in use"), "{refused}");
}
