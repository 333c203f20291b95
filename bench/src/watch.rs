//! Watchers on one znode: how long until all of them know, round after round.
//!
//!   each round: everybody arms (getData with a watch, which has to show the last write) -> one write -> N notifications
//!
//! A second notification, one before the write, or data older than the notification told of ends the run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::net::{Inbox, Poller, receive_frames};
use crate::report::{Counted, Report, latency_histogram, median, record_ns};
use crate::session::{self, Session};
use crate::usage::Meter;
use crate::wire::{EVENT_DATA_CHANGED, STAT_BYTES, STATE_CONNECTED, WatcherEvent, XID_NOTIFICATION};
use crate::{BenchError, Doing, Result, Target, wire};

#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Watch {
    pub watchers: usize,
    pub rounds: usize,
    pub value_bytes: usize,
}

const SESSIONS_AT_ONCE: usize = 32;
const SESSIONS_LIMIT: Duration = Duration::from_secs(120);
const PHASE_LIMIT: Duration = Duration::from_secs(30);

/// Operations are notifications; their latency runs from the moment the write was sent. The server's CPU includes re-arming.
pub fn run(target: &Target, watch: Watch) -> Result<Report> {
    if watch.watchers == 0 || watch.rounds == 0 {
        return Err(BenchError::new("watch needs at least one watcher and one round"));
    }
    let mut writer = Client::connect(target.servers[0])?;
    // Versions are counted from a fresh znode, so what an earlier run kept would be in the way.
    let path = format!("{}/watched-{}", target.root, std::process::id());
    let value = vec![b'w'; watch.value_bytes];
    writer.put_all(&[(target.root.clone(), Vec::new()), (path.clone(), value.clone())])?;

    let measured = rounds(target, watch, &mut writer, &path, &value);

    if !target.keep {
        let removed = writer.remove_tree(&target.root).and_then(|()| writer.close());
        if measured.is_ok() {
            removed?;
        }
    }
    measured
}

fn rounds(target: &Target, watch: Watch, writer: &mut Client, path: &str, value: &[u8]) -> Result<Report> {
    let mut poller = Poller::new()?;
    let opened = session::open(&mut poller, &target.servers, watch.watchers, SESSIONS_AT_ONCE, SESSIONS_LIMIT)?;
    let mut watchers = Watchers {
        poller: &mut poller,
        sessions: opened.sessions,
        inbox: Inbox::default(),
        path,
        value_bytes: watch.value_bytes,
    };
    let mut latency = latency_histogram();
    let (mut first_ms, mut all_ms) = (Vec::new(), Vec::new());
    let meter = Meter::start(&target.server_pids)?;
    for round in 0..watch.rounds as i32 {
        watchers.arm(round)?;
        let sent = Instant::now();
        let xid = writer.send(wire::set_data(path, value))?;
        let arrivals = watchers.notified(sent)?;
        first_ms.push(arrivals[0].as_secs_f64() * 1e3);
        all_ms.push(arrivals[arrivals.len() - 1].as_secs_f64() * 1e3);
        arrivals.iter().for_each(|after| record_ns(&mut latency, after.as_nanos() as u64, 1));
        let err = writer.receive(xid)?.header.err;
        if err != 0 {
            return Err(BenchError::new(format!("the write failed: {err} {}", wire::error_name(err))));
        }
    }
    let usage = meter.stop()?;
    session::close(watchers.poller, watchers.sessions, SESSIONS_AT_ONCE, SESSIONS_LIMIT)?;
    let figures = BTreeMap::from([
        ("first_ms_median", median(&mut first_ms)),
        ("all_ms_median", median(&mut all_ms)),
        ("all_ms_max", all_ms.iter().copied().fold(0.0, f64::max)),
    ]);
    let counted = Counted {
        scenario: "watch".into(),
        parameters: serde_json::json!(watch),
        operations: latency.len(),
        latency,
        usage,
        figures,
    };
    Ok(Report::new(target, counted))
}

struct Watchers<'a> {
    poller: &'a mut Poller,
    sessions: Vec<Session>,
    inbox: Inbox,
    path: &'a str,
    value_bytes: usize,
}

impl Watchers<'_> {
    /// Every session reads the znode and leaves a watch; each has to see what round `round` starts with.
    fn arm(&mut self, round: i32) -> Result<()> {
        let xid = round + 1;
        let mut request = wire::get_data(self.path, true);
        wire::stamp_xid(&mut request, xid);
        for session in &mut self.sessions {
            session.link.send(self.poller, &request)?;
        }
        let version = round + 1; // creating the znode filled it once
        let value_bytes = self.value_bytes;
        self.each_once("arming", |frame| {
            let (header, body) = wire::reply(frame)?;
            let stat = wire::buffer(body).filter(|(value, _)| value.len() == value_bytes).map(|(_, stat)| stat);
            let seen = stat.and_then(|stat| <&[u8; STAT_BYTES]>::try_from(stat).ok()).map(wire::stat_version);
            if header.xid != xid || header.err != 0 || seen != Some(version) {
                let frame = wire::hex(frame);
                return Err(BenchError::new(format!(
                    "expected version {version} with xid {xid}, got {header:?}: {frame}"
                )));
            }
            Ok(())
        })
        .map(drop)
    }

    /// Waits until every session was told once that the data changed; when, in order.
    fn notified(&mut self, since: Instant) -> Result<Vec<Duration>> {
        let path = self.path.as_bytes();
        let arrivals = self.each_once("waiting for notifications", |frame| {
            let (header, body) = wire::reply(frame)?;
            let expected = WatcherEvent { kind: EVENT_DATA_CHANGED, state: STATE_CONNECTED, path };
            if header.xid != XID_NOTIFICATION || header.err != 0 || wire::watcher_event(body)? != expected {
                return Err(BenchError::new(format!("expected a notification, got {header:?}: {}", wire::hex(frame))));
            }
            Ok(())
        })?;
        Ok(arrivals.into_iter().map(|at| at.saturating_duration_since(since)).collect())
    }

    /// Takes exactly one frame from every session; when they came, in order.
    fn each_once(&mut self, what: &str, mut check: impl FnMut(&[u8]) -> Result<()>) -> Result<Vec<Instant>> {
        let start = Instant::now();
        let mut had = vec![false; self.sessions.len()];
        let mut arrivals = Vec::with_capacity(self.sessions.len());
        while arrivals.len() < self.sessions.len() {
            if start.elapsed() > PHASE_LIMIT {
                let (came, all) = (arrivals.len(), self.sessions.len());
                return Err(BenchError::new(format!("{what}: {came} of {all} after {PHASE_LIMIT:?}")));
            }
            for index in 0..self.poller.wait(Some(Duration::from_millis(100)))? {
                let event = self.poller.ready(index);
                let link = &mut self.sessions[event.token].link;
                if event.writable {
                    link.flush(self.poller)?;
                }
                receive_frames(link, &mut self.inbox, |frame| {
                    if std::mem::replace(&mut had[event.token], true) {
                        return Err(BenchError::new(format!("a second frame: {}", wire::hex(frame))));
                    }
                    arrivals.push(Instant::now());
                    check(frame)
                })
                .doing(format_args!("{what}: session {}", event.token))?;
            }
        }
        Ok(arrivals)
    }
}
