//! A member among servers that fail halfway: they accept and say nothing, speak and do not read, talk nonsense, or come in crowds.
//! Whoever does that loses its own connection, and is named where an operator looks.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringkeeper::core::Zxid;
use ringkeeper::wire::quorum::Packet;

use super::harness::{Client, PATIENCE, create, eventually, read_to_close};
use super::scripted::{
    GIVEN_UP_SOON, Line, Peer, connect, elector, electors_of_2, follower, led_by_member, member, start,
    wants_to_be_called,
};

const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

#[test]
fn who_serves_nobody_says_why_where_it_may() {
    let lines = [Line::free().text(), Line::free().text()];
    let member = member(Line::free(), &lines, "");
    let port = lines[0].rsplit(':').next().unwrap();
    let refused = format!("server 2: 127.0.0.1:{port}: Connection refused");
    eventually("srvr names who is missing", || {
        let answer = member.server.word("srvr");
        let why = answer.strip_prefix(NOT_SERVING).expect("Java's sentence comes first");
        why.starts_with("Not serving for ") && why.contains("no leader is elected") && why.contains(&refused)
    });
    for word in ["mntr", "stat", "cons", "dump", "conf"] {
        assert_eq!(member.server.word(word), NOT_SERVING, "{word}");
    }
    assert_eq!(member.server.word("isro"), "null");
    eventually("the log says so", || !member.server.process.lines_with(&["Not serving for", &refused]).is_empty());
}

#[test]
fn a_follower_that_falls_silent_takes_the_quorum_with_it() {
    let member = member(Line::free(), &[Line::free().text(), Line::free().text()], GIVEN_UP_SOON);
    elector(member.election, 2, None);
    let silent = Arc::new(AtomicBool::new(false));
    follower(&member).follows_until(silent.clone());
    eventually("it leads", || member.serves());
    let mntr = member.server.word("mntr");
    for line in ["zk_server_state\tleader", "zk_peer_state\tleading - broadcast", "zk_quorum_size\t3", "zk_learners\t1"]
    {
        assert!(mntr.lines().any(|told| told == line), "{line} in\n{mntr}");
    }
    silent.store(true, Ordering::Relaxed);
    eventually("it gives the lead up", || !member.serves());
    let why = ["server 2", "nothing was heard of it in time while it followed"];
    eventually("the log says why", || !member.server.process.lines_with(&why).is_empty());
}

/// It answers pings before it is asked, and reads nothing: the leader's own timers see nothing wrong.
#[test]
fn an_observer_that_does_not_read_is_let_go_and_nobody_else() {
    let member = led_by_member("syncLimit=60", 3);
    eventually("it leads", || member.serves());
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&member.quorum.into()).unwrap();
    let peer = Peer::joins(socket.into(), 4, true).unwrap();
    eventually("it is in step", || member.server.gauge("synced_observers") == 1);
    let gone = Arc::new(AtomicBool::new(false));
    let talking = peer.says_until(gone.clone(), || Packet::Ping { zxid: Zxid::ZERO, touched: Some(Vec::new()) });
    let mut client = member.server.client();
    // More than two kernels keep for a connection, and less than a leader keeps for a learner.
    for number in 0..14 {
        client.must(&create(&format!("/big{number}"), &vec![b'x'; 900_000]));
    }
    eventually("it is let go", || member.server.gauge("learners") == 1);
    assert!(member.serves(), "the others go on");
    assert_eq!(member.server.process.lines_with(&["server 2:"]).len(), 0, "{}", member.server.process.log());
    gone.store(true, Ordering::Relaxed);
    talking.join().unwrap();
}

#[test]
fn nonsense_ends_a_connection_and_nothing_else() {
    let member = led_by_member("", 2);
    eventually("it leads", || member.serves());
    let huge = [&[0, 0, 0, 11][..], &[0; 8], &[0x7f, 0xff, 0xff, 0xff]].concat(); // FOLLOWERINFO with 2 GiB of data
    let negative = [&[0, 0, 0, 11][..], &[0; 8], &[0xff, 0xff, 0xff, 0x00]].concat();
    for garbage in [&huge, &negative, &b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n".to_vec(), &vec![0xff; 4096]] {
        let mut socket = connect(member.quorum);
        let _ = socket.write_all(garbage);
        read_to_close(&mut socket);
    }
    let version = (-65536i64).to_be_bytes();
    let huge = [&version[..], &3i64.to_be_bytes(), &[0x7f, 0xff, 0xff, 0xff]].concat();
    for garbage in [&huge, &b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n".to_vec(), &vec![0x80; 4096]] {
        let mut socket = connect(member.election);
        let _ = socket.write_all(garbage);
        read_to_close(&mut socket);
    }
    let mut socket = super::scripted::introduced(member.election, 3);
    socket.write_all(&[0x7f, 0xff, 0xff, 0xff]).unwrap(); // a notification of 2 GiB
    read_to_close(&mut socket);
    assert!(member.serves());
    assert!(member.server.process.resident_bytes() < 256 << 20, "nothing was set aside for what was announced");
}

/// Found by `cargo dev drill --namespaces`: a member whose end of the connection was given up while the link was down asked for a
/// new one for ever, of a leader that thought it had one.
#[test]
fn who_asks_to_be_called_is_called_although_there_is_a_connection() {
    let member = member(Line::free(), &[Line::free().text(), Line::free().text()], "");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let _asks = wants_to_be_called(member.election, 0, port);
    let (mut first, _) = listener.accept().unwrap();
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    first.read_exact(&mut [0; 8]).unwrap(); // it has called: what is wished for while it calls is this call
    let _asks_again = wants_to_be_called(member.election, 0, port);
    read_to_close(&mut first);
    listener.accept().unwrap();
}

/// Case 20.23.
#[test]
fn crowds_that_say_nothing_keep_nobody_out() {
    // Long enough for whoever has time; the crowd has.
    let patient = "initLimit=3000\nquorumCnxnTimeoutMs=300000";
    let member = member(Line::free(), &[Line::free().text(), Line::free().text()], patient);
    let crowd = |address: SocketAddr| (0..200).map(|_| connect(address)).collect::<Vec<TcpStream>>();
    let (electors, early) = (crowd(member.election), crowd(member.quorum));
    elector(member.election, 2, None);
    let follows = follower(&member).follows();
    eventually("it leads", || member.serves());
    let learners = crowd(member.quorum);
    eventually("most of them were turned away", || member.files() < 600);
    assert!(member.serves(), "its follower is still there");
    drop((electors, early, learners, follows));
}

// --- following ---

#[test]
fn a_leader_that_accepts_and_says_nothing_is_given_up() {
    let own = Line::free();
    let leader = Line::free();
    let listener = TcpListener::bind(("127.0.0.1", leader.quorum)).unwrap();
    let member = member(own, &[leader.text(), Line::free().text()], "");
    electors_of_2(&member);
    let silent = Peer::called(&listener);
    eventually("srvr tells what it waits for", || {
        let answer = member.server.word("srvr");
        answer.contains("server 2 is elected; waiting for server 2: waiting for its epoch")
    });
    eventually("it is given up", || {
        !member.server.process.lines_with(&["LOOKING", "server 2, the leader, fell silent"]).is_empty()
    });
    drop(silent);
}

/// `server.2` has two addresses, and nobody is at the first.
#[test]
fn a_leader_is_found_at_any_of_its_addresses_and_given_up_when_it_falls_silent() {
    let (dead, alive) = (Line::free(), Line::free());
    let listener = TcpListener::bind(("127.0.0.1", alive.quorum)).unwrap();
    let lines = [format!("{}|{}", dead.text(), alive.text()), Line::free().text()];
    let member = member(Line::free(), &lines, &format!("multiAddress.enabled=true\n{GIVEN_UP_SOON}"));
    electors_of_2(&member);
    let mut leader = Peer::called(&listener);
    leader.leads().unwrap();
    let silent = Arc::new(AtomicBool::new(false));
    let leads = leader.says_until(silent.clone(), || Packet::Ping { zxid: Zxid::ZERO, touched: None });
    eventually("it follows", || member.serves());
    let mntr = member.server.word("mntr");
    for line in
        ["zk_server_state\tfollower", "zk_peer_state\tfollowing - broadcast", "zk_ringkeeper_last_sync_kind\tDIFF"]
    {
        assert!(mntr.lines().any(|told| told == line), "{line} in\n{mntr}");
    }
    silent.store(true, Ordering::Relaxed);
    let leader = leads.join().unwrap();
    eventually("it is given up", || !member.serves());
    let why = ["server 2, the leader, fell silent"];
    eventually("the log says why", || !member.server.process.lines_with(&why).is_empty());
    drop(leader);
}

#[test]
fn a_member_can_be_called_at_each_of_its_addresses() {
    let (one, other) = (Line::free(), Line::free());
    let lines = [Line::free().text(), Line::free().text()];
    let text = format!("{}|{}", one.text(), other.text().replace("127.0.0.1", "127.0.0.2"));
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let member = start(directory, &text, one, &lines, "multiAddress.enabled=true");
    elector((([127, 0, 0, 2]), other.election).into(), 2, None);
    let until = std::time::Instant::now() + super::harness::PATIENCE;
    let peer = loop {
        match Peer::joins(connect(([127, 0, 0, 2], other.quorum).into()), 2, false) {
            Ok(peer) => break peer,
            Err(error) => assert!(std::time::Instant::now() < until, "{error}: {}", member.server.process.log()),
        }
    };
    peer.follows();
    eventually("it leads", || member.serves());
}

#[test]
fn with_quorum_listen_on_all_ips_it_can_be_called_anywhere() {
    let called_elsewhere = |more: &str| {
        let own = Line::free();
        let member = member(own, &[Line::free().text(), Line::free().text()], more);
        let call = |port| TcpStream::connect(("127.0.0.2", port)).is_ok();
        let called = (call(own.quorum), call(own.election));
        drop(member);
        called
    };
    assert_eq!(called_elsewhere(""), (false, false));
    assert_eq!(called_elsewhere("quorumListenOnAllIPs=true"), (true, true));
}

#[test]
fn who_asks_a_member_without_a_leader_for_a_session_is_turned_away() {
    let member = member(Line::free(), &[Line::free().text(), Line::free().text()], "");
    let mut client = Client::new(member.server.socket_anywhere());
    assert!(client.handshake(0, &[0; 16], 10_000).is_err(), "and looks for another server");
}

/// What follows a snapshot often comes with the last of it, and may be all that a leader says until it is answered.
#[test]
fn what_comes_with_the_end_of_a_snapshot_is_answered() {
    let line = Line::free();
    let listener = TcpListener::bind(("127.0.0.1", line.quorum)).unwrap();
    let member = member(Line::free(), &[line.text(), Line::free().text()], "");
    electors_of_2(&member);
    let mut leader = Peer::called(&listener);
    leader.leads_by_snapshot().unwrap();
    eventually("it follows", || member.serves());
    let mntr = member.server.word("mntr");
    assert!(mntr.lines().any(|told| told == "zk_ringkeeper_last_sync_kind\tSNAP"), "{mntr}");
}
