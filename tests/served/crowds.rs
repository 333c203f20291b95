//! Many clients at once, and the limits on how many. Spec: client-protocol 13.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use ringkeeper::wire::client::Request;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::harness::*;

fn allow_many_sockets() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

#[test]
fn a_thousand_connects_one_after_the_other_all_get_sessions() {
    allow_many_sockets();
    each_layout(|executors| {
        let server = Setup::new(executors).start();
        let began = Instant::now();
        let mut clients = Vec::new();
        for _ in 0..1000 {
            let mut client = Client::new(server.socket_anywhere());
            client.send_connect(0, &[0; 16], 30_000).unwrap();
            clients.push(client);
        }
        let connected = began.elapsed();
        for client in &mut clients {
            client.take_welcome().unwrap();
        }
        let welcomed = began.elapsed();
        println!("1000 connects in {connected:?}, all sessions after {welcomed:?}");
        assert!(welcomed < Duration::from_secs(8), "connected after {connected:?}, welcomed after {welcomed:?}");
        let mut sessions: Vec<i64> = clients.iter().map(|client| client.session).collect();
        sessions.sort_unstable();
        sessions.dedup();
        assert_eq!(sessions.len(), 1000, "no session is given twice");
        drop(clients);
        eventually("all connections are gone", || server.gauge("num_alive_connections") <= 1);
        assert_eq!(server.gauge("global_sessions"), 1000, "their sessions are not");
    });
}

/// Java listens with a backlog of 50: of so many at once most are dropped by the kernel and come back seconds later.
#[test]
fn two_thousand_clients_at_the_same_moment_all_get_sessions_without_a_retransmission() {
    allow_many_sockets();
    each_layout(|executors| {
        let server = Setup::new(executors).start();
        let began = Instant::now();
        let address = server.address.into();
        let sockets: Vec<Socket> = (0..2000)
            .map(|_| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                let begun = socket.connect(&address);
                assert!(begun.is_ok() || begun.is_err_and(|error| error.raw_os_error() == Some(115)), "EINPROGRESS");
                socket
            })
            .collect();
        let mut clients: Vec<Client> = sockets
            .into_iter()
            .map(|socket| {
                socket.set_nonblocking(false).unwrap();
                let socket = TcpStream::from(socket);
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut client = Client::new(socket);
                client.send_connect(0, &[0; 16], 30_000).unwrap();
                client
            })
            .collect();
        for client in &mut clients {
            client.take_welcome().unwrap();
        }
        let welcomed = began.elapsed();
        println!("2000 sessions after {welcomed:?}");
        assert!(welcomed < Duration::from_secs(10), "{welcomed:?}");
        assert_eq!(server.gauge("global_sessions"), 2000);
    });
}

/// Whether a new connection gets a session, rather than an end without a byte.
fn is_admitted(server: &Server) -> Option<Client> {
    let mut client = Client::new(server.socket_anywhere());
    let _ = client.send_connect(0, &[0; 16], 30_000);
    match client.take_welcome() {
        Ok(()) => Some(client),
        Err(error) => {
            assert!(is_gone(&error), "closed at once, not left waiting: {error}");
            None
        }
    }
}

fn limit_is_kept(setting: &str) {
    each_layout(|executors| {
        let server = Setup::new(executors).with(setting).start();
        let mut clients: Vec<Client> = Vec::new();
        // The connection that saw the server serve may still be counted.
        eventually("five are admitted", || {
            clients.extend(is_admitted(&server));
            clients.len() == 5
        });
        for _ in 0..20 {
            assert!(is_admitted(&server).is_none(), "the sixth");
        }
        for client in &mut clients {
            client.must(&exists("/", false));
        }
        // Every way to go gives the place back: a close, a closed session, a half close, a bad length.
        drop(clients.pop());
        clients.pop().unwrap().must(&Request::CloseSession);
        clients.pop().unwrap().socket.shutdown(Shutdown::Write).unwrap();
        let _ = clients.pop().unwrap().socket.write_all(&[0xff; 4]);
        eventually("five are admitted again", || {
            clients.extend(is_admitted(&server));
            clients.len() == 5
        });
        assert!(is_admitted(&server).is_none());
        eventually("it says so", || server.process.log().contains("Too many connections"));
    });
}

#[test]
fn an_address_has_no_more_connections_than_max_client_cnxns() {
    limit_is_kept("maxClientCnxns=5");
}

#[test]
fn there_are_no_more_connections_than_max_cnxns() {
    limit_is_kept("maxCnxns=5");
}

#[test]
fn words_count_against_the_limit_too() {
    let server = Setup::new(1).with("maxClientCnxns=1").start();
    let mut client = None;
    eventually("one is admitted", || {
        client = is_admitted(&server);
        client.is_some()
    });
    assert_eq!(server.word("ruok"), "");
    drop(client);
    eventually("its place is free", || server.word("ruok") == "imok");
}

/// Out of descriptors a server serves whom it has, waits without spinning, and takes the others when it can.
#[test]
fn clients_beyond_the_limit_of_open_files_wait_and_harm_nobody() {
    each_layout(|executors| {
        let server = Setup::new(executors).start();
        let mut known = server.client();
        let pid = server.process.pid();
        let open = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).unwrap().count() as u64;
        let before = getrlimit(Resource::Nofile).maximum;
        prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(open + 10), maximum: before }).unwrap();
        let mut clients: Vec<Client> = (0..40)
            .map(|_| {
                let mut client = Client::new(server.socket_anywhere());
                client.send_connect(0, &[0; 16], 30_000).unwrap();
                client
            })
            .collect();
        eventually("it says so", || server.process.log().contains("Error accepting new connection"));
        let cpu_before = server.process.cpu_ms();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(1) {
            known.must(&exists("/", false));
            std::thread::sleep(Duration::from_millis(50));
        }
        known.must(&create("/written-meanwhile", b""));
        let used = server.process.cpu_ms() - cpu_before;
        let elapsed = began.elapsed();
        assert!(
            u128::from(used) * 10 < elapsed.as_millis() * 3,
            "{used} ms of CPU in {elapsed:?}: nothing can be accepted"
        );
        prlimit(Some(pid), Resource::Nofile, Rlimit { current: before, maximum: before }).unwrap();
        for client in &mut clients {
            client.take_welcome().unwrap();
        }
    });
}

/// Every way to come and go, many times: nothing is left behind, neither descriptors nor memory.
#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    each_layout(|executors| {
        let server = Setup::new(executors).start();
        let descriptors =
            || std::fs::read_dir(format!("/proc/{}/fd", server.process.pid().as_raw_nonzero())).unwrap().count();
        let round = |count: usize| {
            for index in 0..count {
                let mut client = Client::connect(server.socket_anywhere(), 30_000);
                match index % 4 {
                    0 => drop(client),
                    1 => assert_eq!(client.err(&Request::CloseSession), 0),
                    2 => client.socket.write_all(&[0xff; 4]).unwrap(),
                    // The server closes, and waits for a client that does not.
                    _ => drop((client.send(&Request::CloseSession), client.receive(), server.word("srvr"))),
                }
            }
            eventually("all connections are gone", || server.gauge("num_alive_connections") <= 1);
        };
        round(200);
        // Only the one that asks is left; closed sockets may linger for a moment.
        let (mut few, resident) = (usize::MAX, server.process.resident_bytes());
        eventually("descriptors settle", || {
            let before = std::mem::replace(&mut few, descriptors());
            before == few
        });
        round(800);
        eventually("descriptors are given back", || descriptors() <= few + 2);
        let grown = server.process.resident_bytes().saturating_sub(resident);
        // Half of the sessions wait for their timeout.
        assert!(grown < 4 << 20, "{} KiB for 800 connections", grown >> 10);
    });
}

/// With one request in flight in the whole server the others wait, all in turn, and nobody waits for ever.
#[test]
fn a_tiny_limit_of_outstanding_requests_brings_nobody_to_a_stop() {
    each_layout(|executors| {
        let server = Setup::new(executors).with("globalOutstandingLimit=1").start();
        let mut clients: Vec<Client> = (0..20).map(|_| server.client()).collect();
        let asked = |round: usize| match round % 4 {
            0 => set("/", b"x"),
            1 => exists("/", false),
            2 => Request::Sync { path: Some("/".into()) },
            _ => Request::Ping,
        };
        for client in &mut clients {
            (0..100).for_each(|round| assert_ne!(client.send(&asked(round)), 0));
        }
        for client in &mut clients {
            for round in 0..100 {
                let reply = client.receive();
                assert_eq!((reply.header.err, reply.header.xid == -2), (0, round % 4 == 3));
            }
        }
        assert_eq!(server.gauge("outstanding_requests"), 0);
    });
}
