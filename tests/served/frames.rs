//! Frames at and beyond their limits, and clients that go in the middle. Spec: client-protocol 1, 5.1, 8.1, 9.2.

use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use ringkeeper::wire::client::{OpCode, Request};

use crate::harness::*;

const FRAME_BYTES: usize = 0xF_FFFF;

/// A `setData` whose frame has this length.
fn set_in_a_frame_of(bytes: usize, xid: i32) -> Vec<u8> {
    let overhead = 8 + 4 + "/longest".len() + 4 + 4;
    let mut frame = Vec::new();
    set("/longest", &vec![b'x'; bytes - overhead]).encode(xid, &mut frame);
    assert_eq!(frame.len(), 4 + bytes);
    frame
}

#[test]
fn the_longest_frame_is_served_and_one_byte_more_ends_the_connection_but_not_the_session() {
    each_layout(|executors| {
        let server = Setup::new(executors).start();
        let mut client = server.client();
        client.must(&create("/longest", b""));
        client.socket.write_all(&set_in_a_frame_of(FRAME_BYTES, 100)).unwrap();
        let reply = client.receive();
        assert_eq!((reply.header.xid, reply.header.err), (100, 0));
        let (session, password) = (client.session, client.password);
        // The length word is enough; the rest of the frame may not even be taken.
        let _ = client.socket.write_all(&set_in_a_frame_of(FRAME_BYTES + 1, 101));
        client.assert_closed();
        let mut again = server.resume(session, &password).expect("its session lives on");
        assert_eq!(again.must(&get("/longest")).data().len(), FRAME_BYTES - 28);
        again.socket.write_all(&(-5_i32).to_be_bytes()).unwrap();
        again.assert_closed();
        eventually("it says so", || server.process.log().contains("Len error"));
    });
}

#[test]
fn a_smaller_maxbuffer_is_kept_to_as_exactly() {
    let server = Setup::new(1).option("-Djute.maxbuffer=0x1000").start();
    let mut client = server.client();
    client.must(&create("/longest", b""));
    client.socket.write_all(&set_in_a_frame_of(4096, 7)).unwrap();
    assert_eq!(client.receive().header.err, 0);
    let _ = client.socket.write_all(&set_in_a_frame_of(4097, 8));
    client.assert_closed();
}

#[test]
fn empty_and_undecodable_frames_end_the_connection_without_a_word() {
    each_layout(|executors| {
        let server = Setup::new(executors).start();
        for frame in [&[0, 0, 0, 0][..], &[0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0]] {
            // As the first frame and as a later one.
            let mut socket = server.socket();
            socket.write_all(frame).unwrap();
            assert_eq!(read_to_close(&mut socket), b"");
            let mut client = server.client();
            client.socket.write_all(frame).unwrap();
            client.assert_closed();
        }
        // A length above the limit before there is a session.
        let mut socket = server.socket();
        socket.write_all(&(FRAME_BYTES as u32 + 1).to_be_bytes()).unwrap();
        assert_eq!(read_to_close(&mut socket), b"");
    });
}

#[test]
fn a_frame_cut_by_the_end_of_the_stream_is_never_executed() {
    each_layout(|executors| {
        let server = Setup::new(executors).start();
        let mut witness = server.client();
        let mut client = server.client();
        let mut bytes = Vec::new();
        create("/whole", b"").encode(1, &mut bytes);
        let whole = bytes.len();
        create("/truncated", b"").encode(2, &mut bytes);
        for cut in [whole + 2, bytes.len() - 1] {
            client.socket.write_all(&bytes[..cut]).unwrap();
            client.socket.shutdown(Shutdown::Write).unwrap();
            read_to_close(&mut client.socket);
            eventually("the whole frame is executed", || witness.err(&exists("/whole", false)) == 0);
            assert_eq!(witness.err(&exists("/truncated", false)), -101);
            client = server.resume(client.session, &client.password).unwrap();
        }
    });
}

/// A client's FIN is a full close: what it asked for happens, and it is not told (client-protocol 1).
#[test]
fn writes_of_a_client_that_half_closes_are_executed_and_their_replies_are_not_waited_for() {
    each_layout(|executors| {
        let server = Setup::new(executors).start();
        let mut witness = server.client();
        for round in 0..20 {
            let mut client = server.client();
            let mut bytes = Vec::new();
            let paths: Vec<String> = (0..10).map(|index| format!("/half-{round}-{index}")).collect();
            for (index, path) in paths.iter().enumerate() {
                create(path, b"").encode(index as i32, &mut bytes);
            }
            client.socket.write_all(&bytes).unwrap();
            client.socket.shutdown(Shutdown::Write).unwrap();
            // Whatever comes is a prefix of the answers; usually nothing.
            assert!(read_to_close(&mut client.socket).len() <= 10 * 64);
            for path in &paths {
                eventually("its write is executed", || witness.err(&exists(path, false)) == 0);
            }
            assert!(server.resume(client.session, &client.password).is_some(), "its session lives on");
        }
        eventually("no connection is left behind", || server.gauge("num_alive_connections") <= 2);
    });
}

#[test]
fn an_unknown_opcode_is_answered_and_ends_the_connection_but_not_the_session() {
    each_layout(|executors| {
        let server = Setup::new(executors).start();
        for opcode in [0_i32, 10, -10, 20, 999, i32::MIN] {
            let mut client = server.client();
            let request = [&8_i32.to_be_bytes()[..], &5_i32.to_be_bytes(), &opcode.to_be_bytes()].concat();
            client.socket.write_all(&request).unwrap();
            let reply = client.receive();
            assert_eq!((reply.header.xid, reply.header.zxid, reply.header.err), (5, -1, -6), "{opcode}");
            let (session, password) = (client.session, client.password);
            client.assert_closed();
            assert!(server.resume(session, &password).is_some());
        }
    });
}

#[test]
fn malformed_bodies_are_answered_and_the_connection_goes_on() {
    let server = Setup::new(2).start();
    let mut client = server.client();
    for opcode in [OpCode::Create, OpCode::SetData, OpCode::GetData, OpCode::Multi, OpCode::SetWatches] {
        // A path of two gigabytes, promised.
        let body = i32::MAX.to_be_bytes();
        let request = [&12_i32.to_be_bytes()[..], &5_i32.to_be_bytes(), &opcode.number().to_be_bytes(), &body].concat();
        client.socket.write_all(&request).unwrap();
        let reply = client.receive();
        assert_eq!((reply.header.xid, reply.header.err), (5, -5), "{opcode:?}");
    }
    client.must(&Request::Ping);
}

/// Bytes without any sense, many ways: their own connections end, nobody else notices.
#[test]
fn noise_ends_its_own_connection_only() {
    each_layout(|executors| {
        let server = Setup::new(executors).start();
        let mut steady = server.client();
        steady.must(&create("/steady", b"1"));
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut noise = |bytes: usize| -> Vec<u8> {
            let next = |_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            };
            (0..bytes).map(next).collect()
        };
        for round in 0..60 {
            let bytes = noise(1 + round * 7);
            let mut stranger = server.socket_anywhere();
            // As an opening, as a first frame, and behind a session.
            let framed = [&(bytes.len() as u32).to_be_bytes()[..], &bytes].concat();
            match round % 3 {
                0 => stranger.write_all(&bytes).unwrap(),
                1 => stranger.write_all(&framed).unwrap(),
                _ => {
                    let mut client = Client::connect(stranger.try_clone().unwrap(), 10_000);
                    client.socket.write_all(&framed).unwrap();
                }
            }
            // Else the server might wait for the rest of a frame. It may have closed already.
            let _ = stranger.shutdown(Shutdown::Write);
            read_to_close(&mut stranger);
            assert_eq!(steady.must(&get("/steady")).data(), b"1");
        }
    });
}

#[test]
fn a_connection_that_never_asks_for_a_session_is_closed_in_its_time() {
    each_layout(|executors| {
        let server = Setup::new(executors).with("nio.sessionlessCnxnTimeout=600").start();
        // Who asks late is told to go, and comes again.
        let mut client = (0..10)
            .find_map(|_| {
                let mut client = Client::new(server.socket());
                client.handshake(0, &[0; 16], 30_000).ok().map(|()| client)
            })
            .expect("a session");
        let began = Instant::now();
        let mut silent = server.socket();
        let mut dribbling = server.socket();
        dribbling.write_all(&[0, 0, 0]).unwrap();
        let mut unfinished = server.socket();
        unfinished.write_all(&[0, 0, 0, 45, 0, 0]).unwrap();
        for socket in [&mut silent, &mut dribbling, &mut unfinished] {
            assert_eq!(read_to_close(socket), b"");
        }
        assert!(began.elapsed() >= Duration::from_millis(500), "not before its time");
        client.must(&Request::Ping);
        // And so is who else came too late, which may be the one that asks here.
        let counted = || gauge_in(&server.word("mntr"), "sessionless_connections_expired");
        eventually("all three are counted", || counted().is_some_and(|count| count >= 3));
    });
}

#[test]
fn who_leaves_without_a_word_is_counted_as_dropped() {
    each_layout(|executors| {
        let server = Setup::new(executors).start();
        let client = || Client::connect(server.socket_anywhere(), 30_000);
        drop(client());
        drop(server.socket_anywhere());
        let mut polite = client();
        polite.must(&Request::CloseSession);
        polite.assert_closed();
        assert_eq!(server.word("ruok"), "imok");
        eventually("those two are counted", || server.gauge("connection_drop_count") == 2);
        assert_eq!(server.gauge("sessionless_connections_expired"), 0);
    });
}
