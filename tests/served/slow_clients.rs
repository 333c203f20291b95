//! Clients that ask and never read: they cost what `limits.rs` says, and nobody else waits for them.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringkeeper::limits::{CLIENT_OUTPUT_HARD_BYTES, CLIENT_OUTPUT_SOFT_BYTES};
use ringkeeper::wire::client::{AddWatchMode, Request};

use crate::harness::*;

const NODE_BYTES: usize = 1_000_000;

/// What allocators keep, tables grow by and threads touch, beside what a test counts.
const SLACK_BYTES: u64 = 24 << 20;

/// How much longer anybody else may wait for one answer while a client misbehaves.
const OTHERS_PATIENCE: Duration = Duration::from_secs(2);

/// Asks one thing after the other on a connection of its own while `disturb` runs; returns the longest wait, less that of
/// somebody who asks the same of a server that nobody disturbs: those are the machine's and its disk's.
fn longest_wait_beside(server: &Server, disturb: impl FnOnce()) -> Duration {
    let undisturbed = Setup::new(server.executors).start();
    let over = AtomicBool::new(false);
    let longest_wait = |mut client: Client| {
        let mut longest = Duration::ZERO;
        while !over.load(Ordering::Relaxed) {
            let asked = Instant::now();
            client.must(&exists("/", false));
            client.must(&set("/", b"x"));
            longest = longest.max(asked.elapsed());
        }
        longest
    };
    std::thread::scope(|scope| {
        let (beside, alone) = (server.client(), undisturbed.client());
        let asking = [beside, alone].map(|client| scope.spawn(|| longest_wait(client)));
        disturb();
        over.store(true, Ordering::Relaxed);
        let [beside, alone] = asking.map(|asking| asking.join().unwrap());
        beside.saturating_sub(alone)
    })
}

/// Writes what the server takes; the rest stays unsent once it takes nothing for a while.
fn push(client: &mut Client, bytes: &[u8]) -> usize {
    client.socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut pushed = 0;
    while pushed < bytes.len() {
        match client.socket.write(&bytes[pushed..]) {
            Ok(taken) => pushed += taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    pushed
}

#[test]
fn reads_of_a_client_that_takes_no_answers_are_not_worked_out_and_it_loses_none() {
    each_layout(|executors| {
        const CLIENTS: usize = 8;
        const READS: i32 = 5000;
        let server = Setup::new(executors).start();
        let mut owner = server.client();
        owner.must(&create("/large", &[7; NODE_BYTES]));
        let mut asked = Vec::new();
        (1..=READS).for_each(|xid| get("/large").encode(xid, &mut asked));
        let mut bad: Vec<Client> = (0..CLIENTS).map(|_| server.client()).collect();
        let before = server.process.resident_bytes();
        let longest = longest_wait_beside(&server, || {
            for client in &mut bad {
                push(client, &asked);
            }
            // A few ticks' worth of doing nothing about it.
            for _ in 0..20 {
                owner.must(&get("/large"));
            }
        });
        assert!(longest < OTHERS_PATIENCE, "others waited {longest:?}");
        let grown = server.process.resident_bytes().saturating_sub(before);
        let allowed = (CLIENTS * (CLIENT_OUTPUT_SOFT_BYTES + 2 * NODE_BYTES)) as u64 + SLACK_BYTES;
        assert!(grown < allowed, "{} MiB for {CLIENTS} clients", grown >> 20);
        // When one begins to read, it gets every answer, in order.
        let client = &mut bad[0];
        for xid in 1..=40 {
            let reply = client.receive();
            assert_eq!((reply.header.xid, reply.header.err, reply.body.len() > NODE_BYTES), (xid, 0, true));
        }
    });
}

/// Reads ahead of a write have to be worked out before it, taken or not. This mix once stopped the server.
#[test]
fn writes_and_large_reads_in_turn_by_a_client_that_does_not_read_are_bounded_too() {
    each_layout(|executors| {
        let server = Setup::new(executors).start();
        let mut owner = server.client();
        owner.must(&create("/large", &[7; NODE_BYTES]));
        let mut asked = Vec::new();
        for round in 0..200 {
            set("/", b"mine").encode(4 * round, &mut asked);
            (1..4).for_each(|read| get("/large").encode(4 * round + read, &mut asked));
        }
        let before = server.process.resident_bytes();
        let mut bad = server.client();
        let longest = longest_wait_beside(&server, || {
            push(&mut bad, &asked);
            (0..20).for_each(|_| drop(owner.must(&get("/large"))));
        });
        assert!(longest < OTHERS_PATIENCE, "others waited {longest:?}");
        let grown = server.process.resident_bytes().saturating_sub(before);
        let allowed = (CLIENT_OUTPUT_HARD_BYTES + 2 * NODE_BYTES) as u64 + SLACK_BYTES;
        assert!(grown < allowed, "{} MiB", grown >> 20);
    });
}

#[test]
fn a_watcher_that_never_reads_is_closed_when_it_owes_too_much() {
    each_layout(|executors| {
        const PATH_BYTES: usize = 250_000;
        let server = Setup::new(executors).start();
        let mut writer = server.client();
        writer.must(&create("/watched", b""));
        let long = format!("/watched/{}", "x".repeat(PATH_BYTES));
        writer.must(&create(&long, b""));
        let before = server.process.resident_bytes();
        // With one executor twice: what the first watcher cost is there for the second.
        for _ in executors..3 {
            let mut watcher = server.client();
            let mode = AddWatchMode::PersistentRecursive;
            watcher.must(&Request::AddWatch { path: Some("/watched".into()), mode });
            let mut peak = 0;
            let longest = longest_wait_beside(&server, || {
                // What the kernel may hold for it comes on top of what the server may.
                let events = (CLIENT_OUTPUT_HARD_BYTES + (24 << 20)) / PATH_BYTES;
                for _ in 0..events / 8 {
                    for _ in 0..8 {
                        writer.send(&set(&long, b"changed"));
                    }
                    (0..8).for_each(|_| assert_eq!(writer.receive().header.err, 0));
                    peak = peak.max(server.process.resident_bytes());
                }
            });
            assert!(longest < OTHERS_PATIENCE, "others waited {longest:?}");
            let grown = peak.saturating_sub(before);
            println!("{executors} executors: {} MiB, others waited {longest:?}", grown >> 20);
            let allowed = CLIENT_OUTPUT_HARD_BYTES as u64 + SLACK_BYTES;
            assert!(grown < allowed, "{} MiB", grown >> 20);
            assert!(grown > CLIENT_OUTPUT_HARD_BYTES as u64 / 2, "it was given its chance: {} MiB", grown >> 20);
            eventually("the watch is gone with its connection", || server.gauge("watch_count") == 0);
            // Its session did nothing wrong.
            assert!(server.resume(watcher.session, &watcher.password).is_some());
        }
        writer.must(&Request::Ping);
    });
}
