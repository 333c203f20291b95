//! Sessions over the wire: picked up, taken over, expired, closed. Spec: client-protocol 5.4 to 5.7, 12.10.

use std::time::{Duration, Instant};

use ringkeeper::wire::client::{EventKind, Request};

use crate::harness::*;

#[test]
fn a_resume_with_a_wrong_password_is_refused_and_does_not_harm_the_owner() {
    each_layout(|executors| {
        let server = Setup::new(executors).start();
        let mut owner = server.client();
        owner.must(&ephemeral("/owned"));
        let right = owner.password;
        let mut wrong = right;
        wrong[15] ^= 1;
        for password in [&wrong[..], &[0; 16], &[], &right[..15]] {
            let mut thief = Client::new(server.socket());
            thief.handshake(owner.session, password, 30_000).unwrap();
            assert_eq!((thief.session, thief.timeout_ms, thief.password), (0, 0, [0; 16]));
            thief.assert_closed();
            owner.must(&exists("/owned", false));
        }
        // A session nobody has, with the password it would have, is refused as an expired one is.
        assert!(server.resume(owner.session + 1000, &owner.password).is_none());
    });
}

#[test]
fn a_resume_on_a_second_connection_closes_the_first_and_keeps_everything() {
    each_layout(|executors| {
        let server = Setup::new(executors).start();
        let mut first = server.client();
        first.must(&ephemeral("/owned"));
        for _ in 0..5 {
            let mut second = server.resume(first.session, &first.password).expect("its own session");
            assert_eq!(second.session, first.session);
            first.assert_closed();
            assert_eq!(second.err(&ephemeral("/owned")), -110);
            first = second;
        }
        first.must(&Request::CloseSession);
        let (session, password) = (first.session, first.password);
        first.assert_closed();
        assert!(server.resume(session, &password).is_none());
        assert_eq!(server.client().err(&exists("/owned", false)), -101);
    });
}

#[test]
fn a_silent_session_expires_in_its_time_and_takes_its_ephemerals_along() {
    each_layout(|executors| {
        let server = Setup::new(executors).with("tickTime=200").start();
        let mut watcher = Client::connect(server.socket(), 4000);
        // Rounded up to a tick, as Java does, and never early.
        let is_due = |began: Instant| {
            let lived = began.elapsed();
            assert!(lived >= Duration::from_millis(350), "{lived:?}");
        };
        in_time("its node is looked at while it lives", || {
            let socket = server.socket();
            let began = Instant::now();
            let mut silent = Client::connect(socket, 400);
            assert_eq!(silent.timeout_ms, 400);
            let created = silent.try_send(&ephemeral("/owned")).and_then(|_| silent.try_receive());
            if created.is_err() || watcher.err(&exists("/owned", true)) != 0 {
                is_due(began);
                return false;
            }
            let (session, password) = (silent.session, silent.password);
            silent.assert_closed();
            is_due(began);
            let told = watcher.receive();
            assert_eq!((told.event().kind, &*told.event().path), (EventKind::NodeDeleted, "/owned"));
            assert_eq!(watcher.err(&exists("/owned", false)), -101);
            assert!(server.resume(session, &password).is_none());
            true
        });
    });
}

#[test]
fn a_session_that_pings_outlives_its_timeout_many_times() {
    let server = Setup::new(2).with("tickTime=500").start();
    in_time("it is kept alive", || {
        let timeout = Duration::from_millis(1000);
        let mut client = Client::connect(server.socket(), timeout.as_millis() as i32);
        let path = format!("/owned-by-{:x}", client.session);
        let (began, mut heard) = (Instant::now(), Instant::now());
        let mut is_answered = |request: &Request<'_>| {
            let answer = client.try_send(request).and_then(|_| client.try_receive());
            let alive = answer.as_ref().is_ok_and(|reply| reply.header.err == 0);
            assert!(alive || heard.elapsed() >= timeout, "{answer:?} {:?} after an answer", heard.elapsed());
            heard = Instant::now();
            alive
        };
        let mut alive = is_answered(&ephemeral(&path));
        while alive && began.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(100));
            alive = is_answered(&Request::Ping);
        }
        alive && is_answered(&exists(&path, false))
    });
}

#[test]
fn requests_sent_along_with_the_handshake_are_answered_in_order_behind_it() {
    each_layout(|executors| {
        let server = Setup::new(executors).start();
        let mut client = Client::new(server.socket());
        client.send_connect(0, &[0; 16], 30_000).unwrap();
        let asked = [create("/along", b"1"), get("/along"), set("/along", b"2"), get("/along"), Request::Ping];
        let xids: Vec<i32> = asked.iter().map(|request| client.send(request)).collect();
        client.take_welcome().unwrap();
        let replies: Vec<Reply> = asked.iter().map(|_| client.receive()).collect();
        assert_eq!(replies.iter().map(|reply| reply.header.xid).collect::<Vec<_>>(), xids);
        assert!(replies.iter().all(|reply| reply.header.err == 0));
        assert_eq!((replies[1].data(), replies[3].data()), (&b"1"[..], &b"2"[..]));
    });
}
