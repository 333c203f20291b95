//! A storm: many sessions opened, some at once, then all closed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::net::Poller;
use crate::report::{Counted, Report};
use crate::session;
use crate::usage::Meter;
use crate::{BenchError, Result, Target};

#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Storm {
    pub sessions: usize,
    pub at_once: usize,
    /// Opening or closing that takes longer is an error.
    pub limit_s: u64,
}

/// Latencies are those of single opens; the server's CPU covers opening and closing, per session.
pub fn run(target: &Target, storm: Storm) -> Result<Report> {
    if storm.sessions == 0 || storm.at_once == 0 {
        return Err(BenchError::new("a storm needs at least one session, and one at once"));
    }
    let limit = Duration::from_secs(storm.limit_s);
    let mut poller = Poller::new()?;
    let meter = Meter::start(&target.server_pids)?;
    let opened = session::open(&mut poller, &target.servers, storm.sessions, storm.at_once, limit)?;
    let closing = session::close(&mut poller, opened.sessions, storm.at_once, limit)?;
    let usage = meter.stop()?;
    let figures = BTreeMap::from([
        ("open_ms", opened.took.as_secs_f64() * 1e3),
        ("close_ms", closing.as_secs_f64() * 1e3),
        ("retries", opened.retries as f64),
    ]);
    let counted = Counted {
        scenario: "storm".into(),
        parameters: serde_json::json!(storm),
        operations: storm.sessions as u64,
        latency: opened.latency,
        usage,
        figures,
    };
    Ok(Report::new(target, counted))
}
