//! Many sessions that do nothing but stay alive: what they cost the server in CPU and memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::net::{Inbox, Poller, receive_frames};
use crate::report::{Counted, Report, latency_histogram, record_ns};
use crate::session::{self, Session};
use crate::usage::{Meter, processes};
use crate::{BenchError, Doing, Result, Target, wire};

#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Idle {
    pub sessions: usize,
    pub at_once: usize,
    pub hold_s: f64,
    /// Opening or closing that takes longer is an error.
    pub limit_s: u64,
}

/// How often a client pings: a third of its session's time-out, like Java's.
const PINGS_PER_TIMEOUT: u32 = 3;

/// Latencies and operations are those of pings.
pub fn run(target: &Target, idle: Idle) -> Result<Report> {
    if idle.sessions == 0 || idle.at_once == 0 || idle.hold_s.is_nan() || idle.hold_s <= 0.0 {
        return Err(BenchError::new("idle needs at least one session, one at once, and a time to hold them"));
    }
    let limit = Duration::from_secs(idle.limit_s);
    let mut poller = Poller::new()?;
    let before = processes(&target.server_pids)?;
    let opened = session::open(&mut poller, &target.servers, idle.sessions, idle.at_once, limit)?;
    let mut sessions = opened.sessions;

    let meter = Meter::start(&target.server_pids)?;
    let (latency, pings) = hold(&mut poller, &mut sessions, Duration::from_secs_f64(idle.hold_s))?;
    let usage = meter.stop()?;
    let closing = session::close(&mut poller, sessions, idle.at_once, limit)?;

    let mut figures = BTreeMap::from([
        ("open_ms", opened.took.as_secs_f64() * 1e3),
        ("close_ms", closing.as_secs_f64() * 1e3),
        ("retries", opened.retries as f64),
    ]);
    if let Some(server) = usage.server {
        let grown_bytes = server.rss_bytes as f64 - before.rss_bytes as f64;
        figures.insert("rss_before_mib", before.rss_bytes as f64 / f64::from(1 << 20));
        figures.insert("rss_grown_kib_per_session", grown_bytes / 1024.0 / idle.sessions as f64);
    }
    let counted = Counted {
        scenario: "idle".into(),
        parameters: serde_json::json!(idle),
        operations: pings,
        latency,
        usage,
        figures,
    };
    Ok(Report::new(target, counted))
}

/// Keeps the sessions alive for so long, their pings spread evenly, and waits for the last answers.
pub(crate) fn hold(
    poller: &mut Poller,
    sessions: &mut [Session],
    time: Duration,
) -> Result<(hdrhistogram::Histogram<u64>, u64)> {
    let mut inbox = Inbox::default();
    let mut latency = latency_histogram();
    let timeout_ms = sessions.iter().map(|session| session.timeout_ms).min().expect("at least one session");
    let ping_every = Duration::from_millis(timeout_ms as u64) / PINGS_PER_TIMEOUT;
    let gap = ping_every / sessions.len() as u32;
    let ping = wire::ping();
    let mut pinged_at: Vec<Option<Instant>> = vec![None; sessions.len()];
    let (mut turn, mut waiting, mut answered) = (0, 0usize, 0);
    let start = Instant::now();
    let mut next_ping = start;

    while start.elapsed() < time || waiting > 0 {
        let now = Instant::now();
        while start.elapsed() < time && next_ping <= now {
            if pinged_at[turn].is_some() {
                return Err(BenchError::new(format!("session {turn}: no answer to a ping sent {ping_every:?} ago")));
            }
            pinged_at[turn] = Some(Instant::now());
            sessions[turn].link.send(poller, &ping)?;
            waiting += 1;
            turn = (turn + 1) % sessions.len();
            next_ping += gap;
        }
        if start.elapsed() > time + ping_every {
            return Err(BenchError::new(format!("{waiting} pings unanswered {ping_every:?} after the run")));
        }
        let wait = next_ping
            .saturating_duration_since(Instant::now())
            .clamp(Duration::from_millis(1), Duration::from_millis(50));
        for index in 0..poller.wait(Some(wait))? {
            let event = poller.ready(index);
            let link = &mut sessions[event.token].link;
            if event.writable {
                link.flush(poller)?;
            }
            receive_frames(link, &mut inbox, |frame| {
                let (header, body) = wire::reply(frame)?;
                let right = header.xid == wire::XID_PING && header.err == 0 && body.is_empty();
                match pinged_at[event.token].take() {
                    Some(at) if right => record_ns(&mut latency, at.elapsed().as_nanos() as u64, 1),
                    _ => {
                        return Err(BenchError::new(format!("not the answer to a ping: {}", wire::hex(frame))));
                    }
                }
                waiting -= 1;
                answered += 1;
                Ok(())
            })
            .doing(format_args!("session {}", event.token))?;
        }
    }
    Ok((latency, answered))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_server::{self, Fault};
    use crate::storm::{self, Storm};

    fn target() -> Target {
        Target {
            servers: vec![fake_server::start(Fault::None)],
            server_pids: vec![std::process::id()],
            label: String::new(),
            root: "/idle".into(),
            keep: false,
            disk: None,
        }
    }

    #[test]
    fn idle_sessions_are_pinged_in_turn() {
        let report = run(&target(), Idle { sessions: 20, at_once: 4, hold_s: 0.5, limit_s: 10 }).unwrap();
        assert!(report.operations >= 1, "the first session is pinged at once");
        assert!(report.figures.contains_key("rss_grown_kib_per_session"));
    }

    #[test]
    fn a_storm_opens_and_closes_all() {
        let report = storm::run(&target(), Storm { sessions: 50, at_once: 8, limit_s: 10 }).unwrap();
        assert_eq!((report.operations, report.figures["retries"]), (50, 0.0));
        assert!(report.figures["open_ms"] > 0.0 && report.figures["close_ms"] > 0.0);
    }
}
