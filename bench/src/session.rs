//! Opening and closing many sessions at once, from one thread.
//!
//!   Idle --connect--> Connecting --writable--> Greeting --connect response--> Open
//!     ^                    |                      |
//!     +---- refused, or dropped before an answer: counted and tried again ----+
//!
//! Only a connection that ends before any answer is tried again (a full accept queue does that); a wrong answer is an error.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::client::SESSION_TIMEOUT_MS;
use crate::net::{Inbox, Link, Poller, Received, each_frame};
use crate::report::{latency_histogram, record_ns};
use crate::{BenchError, Result, wire};

/// An open session on a non-blocking connection. Its token is its place among the sessions opened with it.
pub struct Session {
    pub link: Link,
    pub timeout_ms: i32,
}

pub struct Opened {
    pub sessions: Vec<Session>,
    /// From the start of the connect to the connect response, in ns.
    pub latency: Histogram<u64>,
    pub retries: u64,
    pub took: Duration,
}

enum Opening {
    Idle,
    Connecting(Link),
    Greeting(Link),
    Open(Session),
}

/// The last xid of a session, whatever it sent before.
const XID_CLOSE: i32 = i32::MAX;

/// How long a refused connection rests before it is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// Opens `count` sessions, at most `at_once` of them in the making at any time.
pub fn open(
    poller: &mut Poller,
    servers: &[SocketAddr],
    count: usize,
    at_once: usize,
    limit: Duration,
) -> Result<Opened> {
    assert!(at_once > 0 && !servers.is_empty());
    let start = Instant::now();
    let mut inbox = Inbox::default();
    let mut latency = latency_histogram();
    let mut started_at = vec![start; count];
    let mut opening: Vec<Opening> = (0..count).map(|_| Opening::Idle).collect();
    let (mut begun, mut open, mut retries) = (0, 0, 0);
    let mut resting = Vec::new();

    while open < count {
        if start.elapsed() > limit {
            return Err(BenchError::new(format!(
                "{open} of {count} sessions open after {limit:?} ({retries} retries)"
            )));
        }
        while begun < count && begun - open < at_once {
            started_at[begun] = Instant::now();
            opening[begun] = Opening::Connecting(Link::connect(poller, servers[begun % servers.len()], begun)?);
            begun += 1;
        }
        let ready = poller.wait(Some(if resting.is_empty() { Duration::from_millis(100) } else { RETRY_PAUSE }))?;
        for token in resting.drain(..) {
            opening[token] = Opening::Connecting(Link::connect(poller, servers[token % servers.len()], token)?);
        }
        for index in 0..ready {
            let event = poller.ready(index);
            let before = std::mem::replace(&mut opening[event.token], Opening::Idle);
            let after = step(poller, &mut inbox, before, event.writable)?;
            match &after {
                Opening::Idle => {
                    retries += 1;
                    resting.push(event.token);
                }
                Opening::Open(_) => {
                    record_ns(&mut latency, started_at[event.token].elapsed().as_nanos() as u64, 1);
                    open += 1;
                }
                Opening::Connecting(_) | Opening::Greeting(_) => {}
            }
            opening[event.token] = after;
        }
    }
    let took = start.elapsed();
    let sessions = opening
        .into_iter()
        .map(|state| match state {
            Opening::Open(session) => session,
            _ => unreachable!("all {count} sessions were counted as open"),
        })
        .collect();
    Ok(Opened { sessions, latency, retries, took })
}

/// One step of opening; back to `Idle` when the connection ended before it was answered.
fn step(poller: &Poller, inbox: &mut Inbox, state: Opening, writable: bool) -> Result<Opening> {
    match state {
        Opening::Connecting(mut link) if writable => {
            if !link.connected(poller)? {
                return Ok(Opening::Idle);
            }
            link.send(poller, &wire::connect_request(SESSION_TIMEOUT_MS))?;
            Ok(Opening::Greeting(link))
        }
        Opening::Greeting(mut link) => {
            let bytes = match link.receive(inbox)? {
                Received::Bytes(bytes) => bytes,
                Received::Nothing => return Ok(Opening::Greeting(link)),
                Received::Closed | Received::Reset => return Ok(Opening::Idle),
            };
            let mut answer = None;
            each_frame(&mut link, inbox, bytes, |frame| {
                if answer.is_some() {
                    return Err(BenchError::new(format!("a frame nobody asked for: {}", wire::hex(frame))));
                }
                answer = Some(wire::connect_response(frame)?);
                Ok(())
            })?;
            match answer {
                Some(granted) => Ok(Opening::Open(Session { link, timeout_ms: granted.timeout_ms })),
                None => Ok(Opening::Greeting(link)),
            }
        }
        Opening::Connecting(_) => Ok(Opening::Idle), // broken before it stood
        Opening::Open(_) => Err(BenchError::new("a session just opened was sent something, or was closed")),
        Opening::Idle => Ok(Opening::Idle),
    }
}

/// Closes all sessions, at most `at_once` waiting for their answer at any time: reply first, then the server hangs up.
pub fn close(poller: &mut Poller, sessions: Vec<Session>, at_once: usize, limit: Duration) -> Result<Duration> {
    assert!(at_once > 0);
    let start = Instant::now();
    let mut inbox = Inbox::default();
    let mut request = wire::close_session();
    wire::stamp_xid(&mut request, XID_CLOSE);
    let count = sessions.len();
    let mut links: Vec<Option<Link>> = sessions.into_iter().map(|session| Some(session.link)).collect();
    let mut answered = vec![false; count];
    let (mut begun, mut closed) = (0, 0);

    while closed < count {
        if start.elapsed() > limit {
            return Err(BenchError::new(format!("{closed} of {count} sessions closed after {limit:?}")));
        }
        while begun < count && begun - closed < at_once {
            let link = links[begun].as_mut().expect("no link ends before it was asked to");
            link.send(poller, &request)?;
            begun += 1;
        }
        for index in 0..poller.wait(Some(Duration::from_millis(100)))? {
            let event = poller.ready(index);
            let token = event.token;
            let Some(link) = links[token].as_mut() else {
                continue;
            };
            if event.writable {
                link.flush(poller)?;
            }
            match link.receive(&mut inbox)? {
                Received::Bytes(bytes) => each_frame(link, &inbox, bytes, |frame| {
                    let (header, body) = wire::reply(frame)?;
                    if token >= begun
                        || answered[token]
                        || header.xid != XID_CLOSE
                        || header.err != 0
                        || !body.is_empty()
                    {
                        return Err(BenchError::new(format!(
                            "not the answer to closeSession with xid {XID_CLOSE}: {}",
                            wire::hex(frame)
                        )));
                    }
                    answered[token] = true;
                    Ok(())
                })?,
                Received::Nothing => {}
                Received::Closed | Received::Reset if answered[token] => {
                    links[token] = None;
                    closed += 1;
                }
                Received::Closed | Received::Reset => {
                    return Err(BenchError::new("the server hung up before it answered closeSession"));
                }
            }
        }
    }
    Ok(start.elapsed())
}
