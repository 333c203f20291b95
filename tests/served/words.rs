//! Four-letter words however they arrive. Spec: client-protocol 2, operations 2.1.

use std::io::Write;
use std::net::Shutdown;

use crate::harness::*;

fn answer(server: &Server, pieces: &[&[u8]], half_close: bool) -> String {
    let mut socket = server.socket();
    for piece in pieces {
        socket.write_all(piece).unwrap();
        // Each piece is a segment of its own, and the server sees some of them alone.
        std::thread::yield_now();
    }
    if half_close {
        socket.shutdown(Shutdown::Write).unwrap();
    }
    String::from_utf8(read_to_close(&mut socket)).unwrap()
}

#[test]
fn words_are_answered_whole_or_in_pieces_with_a_newline_or_a_half_close() {
    each_layout(|executors| {
        let server = Setup::new(executors).start();
        for half_close in [false, true] {
            assert_eq!(answer(&server, &[b"ruok"], half_close), "imok");
            assert_eq!(answer(&server, &[b"ruok\n"], half_close), "imok");
            assert_eq!(answer(&server, &[b"ruok\r\n", b"ruok\r\n"], half_close), "imok");
            assert_eq!(answer(&server, &[b"r", b"u", b"o", b"k"], half_close), "imok");
            assert_eq!(answer(&server, &[b"ru", b"ok", b"\n"], half_close), "imok");
            assert!(answer(&server, &[b"srvr"], half_close).contains("\nMode: standalone\n"));
        }
        // Not a word: a length nobody may send.
        for no_word in [&b"xxxx"[..], b"RUOK", b"reqs", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"] {
            assert_eq!(answer(&server, &[no_word], false), "", "{no_word:?}");
        }
        assert_eq!(answer(&server, &[b"\xff\xf4\xff\xfd"], false), "", "telnet's interrupt closes quietly");
        assert_eq!(answer(&server, &[b"\xff\xf4\xff\xfd\x06"], false), "");
        // Behind a session a word is a length.
        let mut client = server.client();
        client.socket.write_all(b"ruok").unwrap();
        client.assert_closed();
    });
}

#[test]
fn a_long_answer_reaches_a_client_that_half_closes_in_full() {
    each_layout(|executors| {
        let server = Setup::new(executors).start();
        let clients: Vec<Client> = (0..300).map(|_| Client::connect(server.socket_anywhere(), 30_000)).collect();
        let mut owner = server.client();
        owner.must(&create("/long", b""));
        let long = "x".repeat(500);
        for index in 0..200 {
            owner.must(&ephemeral(&format!("/long/{long}{index}")));
        }
        let dump = answer(&server, &[b"dump"], true);
        assert_eq!(dump.matches(&long).count(), 200);
        assert!(dump.len() > 100_000);
        let connections = answer(&server, &[b"cons"], true);
        for client in &clients {
            assert!(connections.contains(&format!("sid=0x{:x},", client.session)), "{connections}");
        }
    });
}

#[test]
fn words_that_are_not_on_the_whitelist_say_so() {
    let server = Setup::new(1).with("4lw.commands.whitelist=ruok, conf").start();
    assert_eq!(answer(&server, &[b"mntr"], true), "mntr is not executed because it is not in the whitelist.\n");
    assert_eq!(answer(&server, &[b"ruok"], true), "imok");
    assert!(answer(&server, &[b"srvr"], true).contains("Mode: standalone"), "srvr is always on");
    assert!(answer(&server, &[b"conf"], true).contains("tickTime=2000"));
    // What telnet sends on interrupt is a word like the others (FourLetterCommands.telnetCloseCmd).
    let refused = "telnet close is not executed because it is not in the whitelist.\n";
    assert_eq!(answer(&server, &[b"\xff\xf4\xff\xfd"], false), refused);
}

#[test]
fn a_terminal_that_left_is_told_nothing() {
    let server = Setup::new(1).with("4lw.commands.whitelist=*").start();
    assert_eq!(answer(&server, &[b"\xff\xf4\xff\xfd"], false), "");
}
