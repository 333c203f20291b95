//! The load itself: sessions that keep requests in flight, one thread, one epoll.
//!
//!   prepare znodes -> open sessions -> WarmUp -> Window -> Drain -> close sessions -> remove znodes
//!
//! A turn handles each ready session with one read and one write, however many replies and requests those carry; the clock
//! is read once per read. Operations are the replies that arrive inside the window. Latencies are those of the requests
//! begun inside it, however late they are answered: handed to the socket (closed loop), or due (open loop, where a
//! generator that is late blames itself).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::client::Client;
use crate::device::Counters;
use crate::net::{Inbox, Poller, Received};
use crate::report::{Counted, Latency, Report, latency_histogram, record_ns};
use crate::scenario::{Arrivals, Load, Ops};
use crate::session::{self, Session};
use crate::usage::{Meter, Usage};
use crate::workload::{Kind, Random, Workload, znodes};
use crate::{BenchError, Doing, Result, Target, wire};

/// How a load is timed.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub warm_up: Duration,
    pub window: Duration,
    /// Never sleep while waiting for replies. Costs our core, spares the wake-up.
    pub spin: bool,
}

/// Figures of a run whose target names its disk.
pub const DISK_WRITES_PER_OP: &str = "disk_writes_per_op";
pub const DISK_FLUSHES_PER_OP: &str = "disk_flushes_per_op";
pub const DISK_KIB_PER_OP: &str = "disk_kib_per_op";

/// A server that answers nothing for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// How long requests still in flight may take when the run is over.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// Requests an open loop may be behind before it says that the server cannot keep up.
const OPEN_LOOP_BACKLOG_MAX: usize = 1_000_000;

const SESSIONS_AT_ONCE: usize = 32;
const SESSIONS_LIMIT: Duration = Duration::from_secs(60);

/// Latencies with their moments, for those who ask what happened when.
#[derive(Debug)]
pub struct Series {
    /// What `since_ns` counts from.
    pub start: Instant,
    pub samples: Vec<Sample>,
}

/// Requests that were begun together and answered together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub since_ns: u64,
    pub ns: u64,
    pub count: u32,
}

/// Runs one load and reports it.
pub fn run(target: &Target, load: &Load, timing: Timing) -> Result<Report> {
    run_keeping(target, load, timing, None).map(|(report, _)| report)
}

/// The same, with every latency that the report counts.
pub fn run_with_series(target: &Target, load: &Load, timing: Timing) -> Result<(Report, Series)> {
    run_keeping(target, load, timing, Some(Vec::new()))
}

fn run_keeping(target: &Target, load: &Load, timing: Timing, samples: Option<Vec<Sample>>) -> Result<(Report, Series)> {
    let rate = match load.arrivals {
        Arrivals::Closed => None,
        Arrivals::Open { per_second } if per_second > 0.0 => Some(per_second),
        Arrivals::Open { .. } | Arrivals::OpenAtUnknownRate => {
            return Err(BenchError::new("an open loop needs a --rate above 0"));
        }
    };
    if load.sessions == 0 || load.outstanding == 0 || load.read_percent > 100 {
        return Err(BenchError::new("sessions and outstanding have to be at least 1, and the ratio at most 100"));
    }
    if rate.is_some() && matches!(load.ops, Ops::CreateDelete | Ops::Ephemeral | Ops::Sequential) {
        return Err(BenchError::new(
            "an open loop cannot wait for a create before it sends the delete: use set, get or create",
        ));
    }
    let mut admin = Client::connect(target.servers[0])?;
    let mut nodes = vec![(target.root.clone(), Vec::new())];
    nodes.extend((0..load.sessions).flat_map(|session| znodes(load, &target.root, session)));
    admin.put_all(&nodes)?;
    admin.close()?; // a run may outlast an idle session

    let measured = drive(target, load, timing, rate, samples);

    if !target.keep {
        let mut admin = Client::connect(target.servers[0])?;
        let removed = admin.remove_tree(&target.root).and_then(|()| admin.close());
        if measured.is_ok() {
            removed?; // else the first failure is the one to tell
        }
    }
    let Measured { completed, latency, usage, lateness, disk, series } = measured?;
    let mut figures = BTreeMap::new();
    if let Some(late) = lateness {
        figures.insert("late_us_p99", Latency::of(&late).p99);
    }
    if let Some(disk) = disk {
        let per_op = |count: f64| count / completed.max(1) as f64;
        figures.insert(DISK_WRITES_PER_OP, per_op(disk.writes as f64));
        figures.insert(DISK_FLUSHES_PER_OP, per_op(disk.flushes as f64));
        figures.insert(DISK_KIB_PER_OP, per_op(disk.written_bytes as f64 / 1024.0));
    }
    let mut parameters = serde_json::to_value(load).doing("encoding the parameters")?;
    parameters["warm_up_s"] = timing.warm_up.as_secs_f64().into();
    parameters["spin"] = timing.spin.into();
    let counted = Counted { scenario: load.name.clone(), parameters, operations: completed, latency, usage, figures };
    Ok((Report::new(target, counted), series))
}

fn drive(
    target: &Target,
    load: &Load,
    timing: Timing,
    rate: Option<f64>,
    samples: Option<Vec<Sample>>,
) -> Result<Measured> {
    let mut poller = Poller::new()?;
    let opened = session::open(&mut poller, &target.servers, load.sessions, SESSIONS_AT_ONCE, SESSIONS_LIMIT)?;
    let workers = opened.sessions.into_iter().enumerate();
    let mut workers: Vec<Worker> = workers.map(|(index, open)| Worker::new(open, load, &target.root, index)).collect();
    let mut driver = Driver::new(&mut poller, &mut workers, target, timing);
    driver.latencies.samples = samples;
    let measured = match rate {
        None => driver.closed_loop(load.outstanding)?,
        Some(per_second) => driver.open_loop(per_second)?,
    };
    let sessions = workers.into_iter().map(|worker| worker.session).collect();
    session::close(&mut poller, sessions, SESSIONS_AT_ONCE, SESSIONS_LIMIT)?;
    Ok(measured)
}

struct Measured {
    completed: u64,
    latency: Histogram<u64>,
    usage: Usage,
    /// How long after its due time each request of an open loop was sent: the generator's part of the latency.
    lateness: Option<Histogram<u64>>,
    /// What the disk was asked to do within the window.
    disk: Option<Counters>,
    series: Series,
}

/// One session and what it waits for.
struct Worker {
    session: Session,
    workload: Workload,
    /// Oldest first: replies come in the order of their requests.
    in_flight: VecDeque<InFlight>,
    next_xid: i32,
    expected_xid: i32,
    zxid_seen: i64,
}

#[derive(Clone, Copy)]
struct InFlight {
    since_ns: u64,
    slot: u32,
    number: u32,
    kind: Kind,
}

impl Worker {
    fn new(session: Session, load: &Load, root: &str, index: usize) -> Worker {
        Worker {
            session,
            workload: Workload::new(load, root, index),
            in_flight: VecDeque::with_capacity(load.outstanding.next_power_of_two()),
            next_xid: 1,
            expected_xid: 1,
            zxid_seen: 0,
        }
    }

    /// Appends the slot's next request to `out`.
    #[inline]
    fn ask(&mut self, slot: u32, since_ns: u64, out: &mut Vec<u8>) {
        let (kind, number) = self.workload.next(slot, self.next_xid, out);
        self.next_xid = following(self.next_xid);
        self.in_flight.push_back(InFlight { since_ns, slot, number, kind });
    }

    /// Takes a reply, which has to be the right answer to the oldest request.
    #[inline]
    fn take(&mut self, frame: &[u8]) -> Result<InFlight> {
        let (header, body) = wire::reply(frame)?;
        let xid = self.expected_xid;
        let Some(asked) = self.in_flight.pop_front() else {
            return Err(BenchError::new(format!("a frame nobody asked for: {header:?}: {}", wire::hex(frame))));
        };
        if header.xid != xid {
            return Err(BenchError::new(format!(
                "expected the reply to xid {xid}, got {header:?}: {}",
                wire::hex(frame)
            )));
        }
        if header.err != 0 {
            let name = wire::error_name(header.err);
            return Err(BenchError::new(format!("{:?} with xid {xid} failed: {} {name}", asked.kind, header.err)));
        }
        if header.zxid < self.zxid_seen {
            let seen = self.zxid_seen;
            return Err(BenchError::new(format!("time went back in one session: zxid {seen:#x}, then {header:?}")));
        }
        if let Err(expected) = self.workload.accept(asked.kind, asked.number, body) {
            let kind = asked.kind;
            return Err(BenchError::new(format!(
                "{kind:?} with xid {xid}: expected {expected}, got {}",
                wire::hex(body)
            )));
        }
        self.expected_xid = following(xid);
        self.zxid_seen = header.zxid;
        Ok(asked)
    }
}

/// Xids above 0 are for requests.
#[inline]
fn following(xid: i32) -> i32 {
    xid.checked_add(1).unwrap_or(1)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Window,
    Drain,
}

struct Driver<'a> {
    poller: &'a mut Poller,
    workers: &'a mut [Worker],
    target: &'a Target,
    timing: Timing,
    start: Instant,
    inbox: Inbox,
    out: Vec<u8>,
    latencies: Latencies,
    completed: u64,
    /// Requests begun then are those whose latency counts.
    window_ns: Range<u64>,
    phase: Phase,
    phase_ends_ns: u64,
    meter: Option<Meter>,
    usage: Option<Usage>,
    /// At the window's beginning, then within it.
    disk: Option<Counters>,
    in_flight: usize,
    heard_ns: u64,
}

impl<'a> Driver<'a> {
    fn new(poller: &'a mut Poller, workers: &'a mut [Worker], target: &'a Target, timing: Timing) -> Driver<'a> {
        Driver {
            poller,
            workers,
            target,
            timing,
            start: Instant::now(),
            inbox: Inbox::default(),
            out: Vec::new(),
            latencies: Latencies { histogram: latency_histogram(), samples: None },
            completed: 0,
            window_ns: u64::MAX..u64::MAX,
            phase: Phase::WarmUp,
            phase_ends_ns: timing.warm_up.as_nanos() as u64,
            meter: None,
            usage: None,
            disk: None,
            in_flight: 0,
            heard_ns: 0,
        }
    }

    fn closed_loop(mut self, outstanding: usize) -> Result<Measured> {
        for index in 0..self.workers.len() {
            let now_ns = self.now_ns();
            let worker = &mut self.workers[index];
            self.out.clear();
            for slot in 0..outstanding {
                worker.ask(slot as u32, now_ns, &mut self.out);
            }
            worker.session.link.send(self.poller, &self.out)?;
            self.in_flight += outstanding;
        }
        while self.in_flight > 0 {
            let until_end = Duration::from_nanos(self.phase_ends_ns.saturating_sub(self.now_ns()));
            let wait = if self.timing.spin { Duration::ZERO } else { until_end.min(Duration::from_millis(500)) };
            let ready = self.poller.wait(Some(wait))?;
            self.advance()?;
            for index in 0..ready {
                self.serve(index, true)?;
            }
        }
        self.finish(None)
    }

    fn open_loop(mut self, per_second: f64) -> Result<Measured> {
        let mut random = Random::new(per_second.to_bits());
        let mean_gap_ns = 1e9 / per_second;
        let mut due_ns = 0.0;
        let mut turn = 0;
        let mut lateness = latency_histogram();
        while self.phase != Phase::Drain || self.in_flight > 0 {
            // An open loop spins: a sleep would be as long as the gaps it is meant to produce.
            let ready = self.poller.wait(Some(Duration::ZERO))?;
            self.advance()?;
            let now_ns = self.now_ns();
            while self.phase != Phase::Drain && due_ns <= now_ns as f64 {
                let worker = &mut self.workers[turn];
                self.out.clear();
                worker.ask(0, due_ns as u64, &mut self.out);
                worker.session.link.send(self.poller, &self.out)?;
                self.in_flight += 1;
                if self.phase == Phase::Window {
                    record_ns(&mut lateness, now_ns - due_ns as u64, 1);
                }
                turn = (turn + 1) % self.workers.len();
                due_ns += random.exponential(mean_gap_ns);
            }
            if self.in_flight > OPEN_LOOP_BACKLOG_MAX {
                let rate = per_second as u64;
                return Err(BenchError::new(format!(
                    "the server cannot keep up with {rate}/s: {} behind",
                    self.in_flight
                )));
            }
            for index in 0..ready {
                self.serve(index, false)?;
            }
        }
        self.finish(Some(lateness))
    }

    /// One ready session: its replies, and where a reply makes room for a request, those requests.
    #[inline]
    fn serve(&mut self, index: usize, ask_again: bool) -> Result<()> {
        let event = self.poller.ready(index);
        let worker = &mut self.workers[event.token];
        if event.writable {
            worker.session.link.flush(self.poller)?;
        }
        let bytes = match worker.session.link.receive(&mut self.inbox)? {
            Received::Bytes(bytes) => bytes,
            Received::Nothing => return Ok(()),
            ended @ (Received::Closed | Received::Reset) => {
                let (token, waiting) = (event.token, worker.in_flight.len());
                return Err(BenchError::new(format!(
                    "session {token}: {ended:?} by the server, {waiting} requests unanswered"
                )));
            }
        };
        let now_ns = self.start.elapsed().as_nanos() as u64;
        let ask_again = ask_again && self.phase != Phase::Drain;
        self.out.clear();
        let mut alike = Alike::default();
        let mut replies = 0;
        let mut rest = self.inbox.received(bytes);
        while let Some((frame, tail)) = wire::next_frame(rest)? {
            let answered = worker.take(frame).doing(format_args!("session {}", event.token))?;
            rest = tail;
            replies += 1;
            if self.window_ns.contains(&answered.since_ns)
                && let Some(sample) = alike.add(answered.since_ns, now_ns)
            {
                self.latencies.record(sample);
            }
            if ask_again {
                worker.ask(answered.slot, now_ns, &mut self.out);
            }
        }
        self.latencies.record(alike.0);
        worker.session.link.keep(rest);
        if !self.out.is_empty() {
            worker.session.link.send(self.poller, &self.out)?;
        }
        if replies > 0 {
            self.heard_ns = now_ns;
        }
        if self.phase == Phase::Window {
            self.completed += replies as u64;
        }
        if !ask_again {
            self.in_flight -= replies;
        }
        Ok(())
    }

    /// Moves on to the next phase when its time has come, and gives a silent server up.
    fn advance(&mut self) -> Result<()> {
        let now_ns = self.now_ns();
        if self.in_flight == 0 {
            self.heard_ns = now_ns;
        }
        if now_ns - self.heard_ns > SILENCE_MAX.as_nanos() as u64 {
            return Err(BenchError::new(format!(
                "no reply for {SILENCE_MAX:?}, {} requests in flight",
                self.in_flight
            )));
        }
        if now_ns < self.phase_ends_ns {
            return Ok(());
        }
        if self.phase == Phase::Window && self.completed == 0 {
            // A window without a reply says nothing: it goes on for as long again. Its rate goes by its true length, and a
            // server that never answers is given up above.
            self.phase_ends_ns = now_ns + self.timing.window.as_nanos() as u64;
            return Ok(());
        }
        match self.phase {
            Phase::WarmUp => {
                self.meter = Some(Meter::start(&self.target.server_pids)?);
                self.disk = self.disk_counters();
                self.phase = Phase::Window;
                self.window_ns.start = self.now_ns();
                self.phase_ends_ns = self.window_ns.start + self.timing.window.as_nanos() as u64;
            }
            Phase::Window => {
                let meter = self.meter.take().expect("started when the window opened");
                self.usage = Some(meter.stop()?);
                self.disk = self.disk_counters().zip(self.disk).map(|(now, before)| now.since(before));
                self.phase = Phase::Drain;
                self.window_ns.end = self.now_ns();
                self.phase_ends_ns = self.window_ns.end + DRAIN_MAX.as_nanos() as u64;
            }
            Phase::Drain => {
                return Err(BenchError::new(format!(
                    "{} requests unanswered {DRAIN_MAX:?} after the run",
                    self.in_flight
                )));
            }
        }
        Ok(())
    }

    fn finish(self, lateness: Option<Histogram<u64>>) -> Result<Measured> {
        let usage = self.usage.expect("only a drained driver finishes, and the window closes before the drain");
        if self.latencies.histogram.is_empty() {
            return Err(BenchError::new("not one request was begun within the window"));
        }
        let Latencies { histogram: latency, samples } = self.latencies;
        let series = Series { start: self.start, samples: samples.unwrap_or_default() };
        Ok(Measured { completed: self.completed, latency, usage, lateness, disk: self.disk, series })
    }

    fn disk_counters(&self) -> Option<Counters> {
        self.target.disk.as_ref()?.counters()
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

struct Latencies {
    histogram: Histogram<u64>,
    /// The same one by one, if wanted.
    samples: Option<Vec<Sample>>,
}

impl Latencies {
    #[inline]
    fn record(&mut self, sample: Sample) {
        if sample.count > 0 {
            record_ns(&mut self.histogram, sample.ns, sample.count.into());
            if let Some(samples) = &mut self.samples {
                samples.push(sample);
            }
        }
    }
}

/// Equal latencies in a row: requests sent in one write are mostly answered in one read, and recorded at once.
#[derive(Default)]
struct Alike(Sample);

impl Alike {
    /// Returns what is to be recorded because something else follows it.
    #[inline]
    fn add(&mut self, since_ns: u64, now_ns: u64) -> Option<Sample> {
        let ns = now_ns.saturating_sub(since_ns);
        if self.0.count > 0 && (since_ns, ns) == (self.0.since_ns, self.0.ns) {
            self.0.count += 1;
            return None;
        }
        Some(std::mem::replace(&mut self.0, Sample { since_ns, ns, count: 1 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_server::{self, Fault};

    fn target(fault: Fault) -> Target {
        Target {
            servers: vec![fake_server::start(fault)],
            server_pids: vec![std::process::id()],
            label: "fake".into(),
            root: "/bench".into(),
            keep: false,
            disk: None,
        }
    }

    fn brief() -> Timing {
        Timing { warm_up: Duration::from_millis(5), window: Duration::from_millis(100), spin: false }
    }

    /// A named load with few sessions, so that the fake server needs few threads.
    fn small(name: &str) -> Load {
        let load = Load::named(name).unwrap();
        Load { sessions: load.sessions.min(3), ..load }
    }

    #[test]
    fn every_closed_loop_runs_and_cleans_up() {
        for name in Load::names().into_iter().filter(|name| !["open50", "seq"].contains(name)) {
            let target = target(Fault::None);
            let report = run(&target, &small(name), brief()).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(report.operations > 0 && report.latency_us.p50 > 0.0, "{}", report.line());
            assert!(report.latency_us.p50 <= report.latency_us.p99 && report.latency_us.p99 <= report.latency_us.max);
            assert!(report.server.is_some() && report.line().contains("errors 0"));
            assert_eq!(report.server_version.as_deref(), Some("fake"));
            let mut client = Client::connect(target.servers[0]).unwrap();
            assert_eq!(client.call(wire::exists("/bench", false)).unwrap().header.err, -101, "{name} left its znodes");
        }
    }

    #[test]
    fn kept_znodes_hold_what_was_written_and_can_be_used_again() {
        let target = Target { keep: true, ..target(Fault::None) };
        run(&target, &small("wpipe"), brief()).unwrap();
        let mut client = Client::connect(target.servers[0]).unwrap();
        let children = client.children("/bench").unwrap();
        assert_eq!(children, ["s00000", "s00001", "s00002"]);
        let reply = client.call(wire::get_data("/bench/s00001", false)).unwrap();
        assert_eq!(wire::buffer(&reply.body).unwrap().0, [b'x'; 100]);
        run(&target, &small("r1"), brief()).unwrap();
    }

    #[test]
    fn an_open_loop_offers_its_rate() {
        let load = Load { arrivals: Arrivals::Open { per_second: 2_000.0 }, ..small("open50") };
        let timing = Timing { window: Duration::from_millis(300), ..brief() };
        let (report, series) = run_with_series(&target(Fault::None), &load, timing).unwrap();
        // From the first arrival of the window to its last one, however long that is on a machine that stands still now and then.
        let arrivals: u64 = series.samples.iter().map(|sample| u64::from(sample.count)).sum();
        let due_ns = || series.samples.iter().map(|sample| sample.since_ns);
        let (gaps, span_ns) = (arrivals as f64 - 1.0, due_ns().max().unwrap() - due_ns().min().unwrap());
        let expected = span_ns as f64 * 2_000.0 / 1e9;
        assert!((gaps - expected).abs() <= 5.0 * gaps.sqrt(), "{gaps} gaps between arrivals, and not about {expected}");
        assert!(report.figures.contains_key("late_us_p99"));
        assert!(run(&target(Fault::None), &small("open50"), brief()).unwrap_err().to_string().contains("--rate"));
    }

    #[test]
    fn the_first_wrong_answer_ends_the_run_and_is_named() {
        for (fault, named) in [
            (Fault::WrongXid, "expected the reply to xid"),
            (Fault::NoNode, "NONODE"),
            (Fault::ShortRecord, "expected"),
            (Fault::ZxidGoesBack, "time went back"),
            (Fault::HangsUp, "by the server"),
        ] {
            for load in ["rpipe", "wpipe"] {
                let error = run(&target(fault), &small(load), brief()).unwrap_err().to_string();
                assert!(error.contains(named), "{fault:?} in {load}: {error}");
            }
        }
    }

    #[test]
    fn equal_latencies_are_all_counted() {
        let now_ns = 100;
        let mut alike = Alike::default();
        let mut recorded: Vec<Sample> =
            [95, 95, 95, 93, 95, 100, 100].into_iter().filter_map(|since_ns| alike.add(since_ns, now_ns)).collect();
        recorded.push(alike.0);
        let sample = |ns, count| Sample { since_ns: now_ns - ns, ns, count };
        assert_eq!(recorded, [Sample::default(), sample(5, 3), sample(7, 1), sample(5, 1), sample(0, 2)]);
    }

    #[test]
    fn a_series_holds_every_latency_of_the_report() {
        let load = small("wpipe");
        let (report, series) = run_with_series(&target(Fault::None), &load, brief()).unwrap();
        let counted: u64 = series.samples.iter().map(|sample| u64::from(sample.count)).sum();
        assert!(counted > 0 && counted >= report.operations / 2, "{counted} latencies, {} replies", report.operations);
        let slowest = series.samples.iter().map(|sample| sample.ns).max().unwrap();
        assert!((slowest as f64 / 1000.0 - report.latency_us.max).abs() <= report.latency_us.max * 0.002);
        assert!(series.start.elapsed() >= brief().window);
    }

    #[test]
    fn xids_stay_above_zero() {
        assert_eq!(following(1), 2);
        assert_eq!(following(i32::MAX), 1);
    }
}
