//! Ends on request: clean, bounded, and with everything that was acknowledged. Spec: operations 1.11.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ringkeeper::wire::client::Request;
use rustix::process::{Signal, kill_process};

use crate::harness::*;
use crate::small_disk::{FileSystem, SmallDisk, skipped};

/// A supervisor's patience is ten seconds at times (`docker stop`); nobody's last bytes are worth a SIGKILL.
const STOP_BOUND: Duration = Duration::from_secs(9);

const WRITERS: usize = 8;
/// Requests a writer has in flight.
const WINDOW: usize = 32;

/// What a stop says when a client keeps it waiting to the end of its patience.
const NOT_WAITED_FOR: &str = "clients have not taken their answers within";

/// Creates nodes until the server ends; returns those that were acknowledged.
fn write_until_the_end(mut client: Client, writer: usize, acknowledged: &AtomicUsize) -> BTreeSet<String> {
    let (mut stands, mut sent, mut answered) = (BTreeSet::new(), 0, 0);
    let name = |index: usize| format!("w{writer}-{index:06}");
    loop {
        while sent < answered + WINDOW {
            if client.try_send(&create(&format!("/{}", name(sent)), b"some data")).is_err() {
                break;
            }
            sent += 1;
        }
        match client.try_receive() {
            Ok(reply) => {
                assert_eq!(reply.header.err, 0);
                stands.insert(name(answered));
                answered += 1;
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                assert!(is_gone(&error), "{error}");
                return stands;
            }
        }
    }
}

fn end_while_writing(executors: usize, signal: Signal, exit_code: Option<i32>) {
    let mut server = Setup::new(executors).start();
    let clients: Vec<Client> = (0..WRITERS).map(|_| server.client()).collect();
    let acknowledged = AtomicUsize::new(0);
    let (asked, stands) = std::thread::scope(|scope| {
        let acknowledged = &acknowledged;
        let writers: Vec<_> = (clients.into_iter().enumerate())
            .map(|(writer, client)| scope.spawn(move || write_until_the_end(client, writer, acknowledged)))
            .collect();
        eventually("writes are under way", || acknowledged.load(Ordering::Relaxed) > 2000);
        server.signal(signal);
        let asked = Instant::now();
        let stands: BTreeSet<String> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        (asked, stands)
    });
    let status = server.process.wait();
    assert!(asked.elapsed() < STOP_BOUND, "{:?}", asked.elapsed());
    assert_eq!(status.code(), exit_code, "{}", server.process.log());
    let server = Setup::new(executors).start_in(server.directory.clone());
    let there: BTreeSet<String> = server.client().must(&children("/")).names().into_iter().collect();
    let lost: Vec<&String> = stands.difference(&there).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged writes are lost: {lost:?}", lost.len(), stands.len());
    // Each writer's nodes are a prefix of what it asked for: nothing overtook anything.
    for writer in 0..WRITERS {
        let mine: Vec<&String> = there.iter().filter(|name| name.starts_with(&format!("w{writer}-"))).collect();
        let last = mine.last().map_or(0, |name| name[3..].parse::<usize>().unwrap() + 1);
        assert_eq!(last, mine.len(), "a gap among the writes of writer {writer}");
    }
}

#[test]
fn a_stop_in_the_middle_of_writes_keeps_every_acknowledged_one_and_exits_with_0() {
    each_layout(|executors| {
        end_while_writing(executors, Signal::TERM, Some(0));
        end_while_writing(executors, Signal::INT, Some(0));
    });
}

#[test]
fn a_kill_in_the_middle_of_writes_keeps_every_acknowledged_one() {
    each_layout(|executors| end_while_writing(executors, Signal::KILL, None));
}

#[test]
fn a_stop_does_not_wait_long_for_a_client_that_does_not_read() {
    let attempt = |executors| {
        let mut server = Setup::new(executors).start();
        let _bad = one_that_does_not_read(&server);
        let mut good = server.client();
        good.must(&Request::Ping);
        server.signal(Signal::TERM);
        let asked = Instant::now();
        good.assert_closed();
        let is_still_waiting = !server.process.has_ended();
        assert_eq!(server.process.wait().code(), Some(0), "{}", server.process.log());
        assert!(asked.elapsed() < STOP_BOUND, "{:?}", asked.elapsed());
        assert!(server.process.log().contains(NOT_WAITED_FOR), "{}", server.process.log());
        println!("{executors} executors: stopped after {:?}", asked.elapsed());
        is_still_waiting
    };
    each_layout(|executors| {
        in_time("one that reads is closed at once, while the other is still waited for", || attempt(executors));
    });
}

fn one_that_does_not_read(server: &Server) -> Client {
    let mut bad = server.client();
    bad.must(&create("/large", &[1; 1_000_000]));
    for _ in 0..20 {
        bad.send(&get("/large"));
    }
    bad
}

#[test]
fn an_idle_server_with_clients_stops_at_once_and_their_sessions_wait_for_the_next() {
    let attempt = |executors| {
        let mut server = Setup::new(executors).start();
        let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(server.socket_anywhere(), 30_000)).collect();
        for (index, client) in clients.iter_mut().enumerate() {
            client.must(&ephemeral(&format!("/of-{index}")));
        }
        server.signal(Signal::TERM);
        let asked = Instant::now();
        assert_eq!(server.process.wait().code(), Some(0), "{}", server.process.log());
        // Sooner than it would end a client that keeps its end open. Its disk may have to be waited for.
        let disk_stalled = server.process.log().contains("has not answered a write");
        let at_once = disk_stalled || asked.elapsed() < Duration::from_secs(2);
        for waited in [NOT_WAITED_FOR, "requests were still in flight"] {
            assert!(!server.process.log().contains(waited), "{}", server.process.log());
        }
        let sessions: Vec<(i64, [u8; 16])> = clients.iter().map(|client| (client.session, client.password)).collect();
        clients.into_iter().for_each(Client::assert_closed);
        let server = Setup::new(executors).start_in(server.directory.clone());
        for (index, (session, password)) in sessions.iter().enumerate() {
            let mut client = server.resume(*session, password).expect("its session lives on");
            client.must(&exists(&format!("/of-{index}"), false));
        }
        at_once
    };
    each_layout(|executors| in_time("it stops at once", || attempt(executors)));
}

#[test]
fn signals_that_mean_something_to_others_do_not_end_it() {
    let server = Setup::new(1).start();
    let mut client = server.client();
    let signals =
        [(Signal::HUP, "SIGHUP: there"), (Signal::USR1, "signal 10: there"), (Signal::USR2, "signal 12: there")];
    for (signal, line) in signals {
        server.signal(signal);
        eventually("it says so", || server.process.log().contains(line));
    }
    client.must(&create("/still", b""));
    server.stop();
}

/// It would wait without end for a port that another process has.
#[test]
fn a_start_that_gets_nowhere_ends_at_the_first_signal() {
    let (directory, taken) = (tempfile::tempdir().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("myid"), "1\n").unwrap();
    let election = taken.local_addr().unwrap().port();
    let members = format!(
        "initLimit=10\nsyncLimit=5\nelectionPortBindRetry=0\nserver.1=127.0.0.1:{}:{election}\nserver.2=127.0.0.1:1:2",
        free_port()
    );
    let config = Setup::new(1).with(&members).write_config(directory.path(), &data, free_port());
    let mut process = Process::spawn(&[config.to_str().unwrap()]);
    eventually("it tries again and again", || process.log().matches("; trying again").count() > 1);
    kill_process(process.pid(), Signal::TERM).unwrap();
    assert_eq!(process.wait().code(), Some(0), "{}", process.log());
}

#[test]
fn a_second_signal_stops_at_once() {
    let attempt = |executors| {
        let mut server = Setup::new(executors).start();
        let _bad = one_that_does_not_read(&server);
        server.client().must(&Request::Ping);
        server.signal(Signal::TERM);
        eventually("the first is heard", || server.process.log().contains("stopping"));
        server.signal(Signal::TERM);
        // Whoever waits for the client to the end of his patience exits with 0.
        let (code, log) = (server.process.wait().code(), server.process.log());
        assert!(code == Some(1) || code == Some(0) && log.contains(NOT_WAITED_FOR), "{code:?} {log}");
        code == Some(1)
    };
    each_layout(|executors| in_time("the second comes while clients are waited for", || attempt(executors)));
}

#[test]
fn a_stop_waits_for_no_disk_that_stalls() {
    std::thread::scope(|scope| {
        for has_log_elsewhere in [false, true] {
            scope.spawn(move || stop_while_a_disk_stalls(has_log_elsewhere));
        }
    });
}

fn stop_while_a_disk_stalls(has_log_elsewhere: bool) {
    let disk = match SmallDisk::mount(FileSystem::Ext4, 64) {
        Ok(disk) => disk,
        Err(why) => return skipped("no small disk to freeze", &why),
    };
    let elsewhere = Arc::new(tempfile::tempdir().unwrap());
    let mut setup = Setup::new(1).with("snapCount=20");
    if has_log_elsewhere {
        setup = setup.with(&format!("dataLogDir={}", elsewhere.path().join("log").display()));
    }
    let data = disk.root().join("data");
    let mut server = setup.clone().start_on(elsewhere.clone(), &data);
    let mut client = server.client();
    client.must(&create("/n", b""));
    let frozen = match disk.freeze() {
        Ok(frozen) => frozen,
        Err(why) => return skipped("a disk that stalls", &why),
    };
    let mut written = 0u32;
    if has_log_elsewhere {
        eventually("a snapshot begins", || {
            written += 1;
            client.must(&set("/n", &written.to_be_bytes()));
            !server.process.lines_with(&["Snapshotting: "]).is_empty()
        });
    } else {
        client.send(&set("/n", b"never acknowledged"));
    }
    server.signal(Signal::TERM);
    eventually("it is given up", || !server.process.lines_with(&["a disk is not waited for any longer"]).is_empty());
    // The kernel may hold whoever waits for the disk until it answers.
    drop(frozen);
    assert_eq!(server.process.wait().code(), Some(1), "{}", server.process.log());
    let told = server.process.lines_with(&["asked to stop: a disk of dataDir or dataLogDir has not answered"]);
    assert_eq!(told.len(), 1, "{}", server.process.log());
    let server = setup.start_on(elsewhere, &data);
    let found = server.client().must(&get("/n"));
    if has_log_elsewhere {
        assert_eq!(found.data(), written.to_be_bytes());
    }
    server.stop();
}
