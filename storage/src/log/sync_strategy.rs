//! How a batch becomes durable, and what may be acknowledged after which completions.
//!
//! | strategy | a batch goes out as | and is stable when |
//! | --- | --- | --- |
//! | `dsync` | one write with `RWF_DSYNC`, past the page cache | that completes |
//! | `linked` | a write and a flush linked to it, past the page cache | both have completed |
//! | `o_dsync` | a write into a file opened with `O_DSYNC`, past the page cache | that completes |
//! | `two_step` | a write past the page cache | a flush has completed that was sent after the write's completion |
//! | `buffered` | a write into the page cache | the same |
//! | `none` | a write past the page cache | never: it is acknowledged when it completes |
//!
//! `Flights` holds everything of the log that is on its way, in the order in which it was sent:
//!
//!   Writing -> Written -> Covered -> Stable -> taken, strictly in order
//!
//! Written: its completion was seen, and it was all of it. Covered: a flush was sent after that. A flush says nothing about a
//! write whose completion was not seen before it was sent, be it that it came first or that the write failed: seen on a full
//! disk, where the write of a batch failed and the flush behind it came back with success.
//!
//! One flush at a time, and only when the oldest write waits for one; it then covers whatever else was written to that file.
//! `buffered` needs this for more than economy: the kernel tells of a failed write-back once, to the first flush that asks.
//! The first failure of anything is the end: nothing that was not taken before it ever will be.

use std::collections::VecDeque;
use std::io;

use super::segment::SegmentId;
use crate::disk::{Access, FileId, OpId, WriteSync};

/// How a batch becomes durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LogStrategy {
    #[default]
    Dsync,
    Linked,
    ODsync,
    TwoStep,
    /// The control: what most servers do. After an error the page cache shows bytes that the disk never got.
    Buffered,
    /// Unsafe: a power cut takes what was acknowledged last. The end of the process alone takes nothing.
    None,
}

impl LogStrategy {
    pub const ALL: [LogStrategy; 6] = [
        LogStrategy::Dsync,
        LogStrategy::Linked,
        LogStrategy::ODsync,
        LogStrategy::TwoStep,
        LogStrategy::Buffered,
        LogStrategy::None,
    ];

    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            LogStrategy::Dsync => "dsync",
            LogStrategy::Linked => "linked",
            LogStrategy::ODsync => "o_dsync",
            LogStrategy::TwoStep => "two_step",
            LogStrategy::Buffered => "buffered",
            LogStrategy::None => "none",
        }
    }

    pub fn parse(name: &str) -> Option<LogStrategy> {
        LogStrategy::ALL.into_iter().find(|strategy| strategy.name() == name)
    }

    /// For the start of a server: what an acknowledged write rests on. `direct`: the file system lets it past the page cache.
    pub fn describe(self, direct: bool) -> String {
        let write = if direct && self.wants_direct_io() { "O_DIRECT write" } else { "write through the page cache" };
        match self {
            LogStrategy::Dsync => format!("{write} with RWF_DSYNC"),
            LogStrategy::Linked => format!("{write} linked to fdatasync"),
            LogStrategy::ODsync => format!("{write} to an O_DSYNC file"),
            LogStrategy::TwoStep | LogStrategy::Buffered => format!("{write}, then fdatasync"),
            LogStrategy::None => format!("{write} and no flush: UNSAFE"),
        }
    }

    /// An acknowledged write survives a power cut.
    pub fn is_durable(self) -> bool {
        self != LogStrategy::None
    }

    pub fn wants_direct_io(self) -> bool {
        self != LogStrategy::Buffered
    }

    /// How a segment is opened to be written to.
    pub(crate) fn access(self) -> Access {
        if self == LogStrategy::ODsync { Access::WriteDsync } else { Access::Write }
    }

    pub(crate) fn write_sync(self) -> WriteSync {
        match self {
            LogStrategy::Dsync => WriteSync::Dsync,
            LogStrategy::Linked => WriteSync::Linked,
            LogStrategy::ODsync | LogStrategy::TwoStep | LogStrategy::Buffered | LogStrategy::None => WriteSync::None,
        }
    }

    fn flushes_separately(self) -> bool {
        matches!(self, LogStrategy::TwoStep | LogStrategy::Buffered)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Writing,
    Written,
    Covered,
    Stable,
}

/// Something that was sent to the disk and not taken yet.
#[derive(Debug)]
pub struct Flight<T> {
    id: OpId,
    file: FileId,
    pub segment: SegmentId,
    pub bytes: u64,
    state: State,
    /// Nobody waits for it: what was sent after it does not have to be taken after it.
    beside: bool,
    /// Of the write and of the flush that covered it, as the disk's clock saw them.
    pub elapsed_us: u32,
    pub load: T,
}

#[derive(Clone, Copy, Debug)]
struct Flush {
    id: OpId,
    file: FileId,
    segment: SegmentId,
}

/// Why the log is over.
#[derive(Debug)]
pub struct Failure {
    pub segment: SegmentId,
    pub operation: &'static str,
    pub source: io::Error,
}

#[derive(Debug)]
pub struct Flights<T> {
    strategy: LogStrategy,
    flights: VecDeque<Flight<T>>,
    flush: Option<Flush>,
    failed: bool,
}

impl<T> Flights<T> {
    pub fn new(strategy: LogStrategy) -> Flights<T> {
        Flights { strategy, flights: VecDeque::new(), flush: None, failed: false }
    }

    /// How the write has to be sent.
    pub fn send(&mut self, id: OpId, file: FileId, segment: SegmentId, bytes: u64, load: T) -> WriteSync {
        self.push(id, file, segment, bytes, load, false)
    }

    /// The same for a write that is in nobody's way.
    pub fn send_beside(&mut self, id: OpId, file: FileId, segment: SegmentId, bytes: u64, load: T) -> WriteSync {
        self.push(id, file, segment, bytes, load, true)
    }

    fn push(&mut self, id: OpId, file: FileId, segment: SegmentId, bytes: u64, load: T, beside: bool) -> WriteSync {
        assert!(!self.failed, "nothing is written after a failure");
        self.flights.push_back(Flight { id, file, segment, bytes, state: State::Writing, beside, elapsed_us: 0, load });
        self.strategy.write_sync()
    }

    /// The answer to a write. A short one is a failed one: what follows it on the disk is not ours.
    ///
    /// # Panics
    /// When no such write is on its way.
    pub fn written(&mut self, id: OpId, result: io::Result<u64>, elapsed_us: u32) -> Result<(), Failure> {
        let answered = |flight: &&mut Flight<T>| flight.id == id && flight.state == State::Writing;
        let flight = self.flights.iter_mut().find(answered).expect("a write that is under way");
        let (segment, wanted) = (flight.segment, flight.bytes);
        flight.state = if self.strategy.flushes_separately() { State::Written } else { State::Stable };
        flight.elapsed_us = elapsed_us;
        match result {
            Ok(bytes) if bytes == wanted => {
                self.forget_if_failed();
                Ok(())
            }
            Ok(bytes) => {
                let short = format!("short write, {bytes} of {wanted} bytes");
                Err(self.fail(segment, "write", io::Error::new(io::ErrorKind::WriteZero, short)))
            }
            Err(source) => Err(self.fail(segment, "write", source)),
        }
    }

    /// The file to flush now, if any; the flush goes out with the id that is asked for.
    pub fn flush_due(&mut self, id: impl FnOnce() -> OpId) -> Option<(OpId, FileId)> {
        let oldest = self.flights.front()?;
        if self.failed || self.flush.is_some() || oldest.state != State::Written {
            return None;
        }
        let (id, file, segment) = (id(), oldest.file, oldest.segment);
        for flight in self.flights.iter_mut().filter(|flight| flight.file == file && flight.state == State::Written) {
            flight.state = State::Covered;
        }
        self.flush = Some(Flush { id, file, segment });
        Some((id, file))
    }

    /// The answer to a flush.
    ///
    /// # Panics
    /// When no such flush is on its way.
    pub fn flushed(&mut self, id: OpId, result: io::Result<u64>, elapsed_us: u32) -> Result<(), Failure> {
        let flush = self.flush.take().expect("a flush that is under way");
        assert_eq!(flush.id, id, "an answer to this question");
        if let Err(source) = result {
            return Err(self.fail(flush.segment, "flush", source));
        }
        for flight in self.flights.iter_mut().filter(|flight| flight.state == State::Covered) {
            flight.state = State::Stable;
            flight.elapsed_us = flight.elapsed_us.saturating_add(elapsed_us);
        }
        self.forget_if_failed();
        Ok(())
    }

    /// The oldest, once it and all before it are what the strategy calls stable; what goes beside the others at any time.
    pub fn take_stable(&mut self) -> Option<Flight<T>> {
        if self.failed {
            return None;
        }
        let in_order = self.flights.iter().position(|flight| !flight.beside);
        let stable = |(index, flight): (usize, &Flight<T>)| {
            flight.state == State::Stable && (flight.beside || Some(index) == in_order)
        };
        let index = self.flights.iter().enumerate().position(stable)?;
        self.flights.remove(index)
    }

    pub fn loads(&self) -> impl Iterator<Item = &T> {
        self.flights.iter().map(|flight| &flight.load)
    }

    /// Something is on its way to this file.
    pub fn concern(&self, file: FileId) -> bool {
        self.flights.iter().any(|flight| flight.file == file) || self.flush.is_some_and(|flush| flush.file == file)
    }

    /// Nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.flights.is_empty() && self.flush.is_none()
    }

    fn fail(&mut self, segment: SegmentId, operation: &'static str, source: io::Error) -> Failure {
        self.failed = true;
        self.forget_if_failed();
        Failure { segment, operation, source }
    }

    /// What the disk still owes an answer is all that is left to wait for.
    fn forget_if_failed(&mut self) {
        if self.failed {
            self.flights.retain(|flight| flight.state == State::Writing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Ids, Owner};

    const BYTES: u64 = 4096;

    struct Bench {
        flights: Flights<u32>,
        ids: Ids,
        file: FileId,
        sent: u32,
    }

    impl Bench {
        fn new(strategy: LogStrategy) -> Bench {
            let mut ids = Ids::default();
            Bench { flights: Flights::new(strategy), file: ids.file(), ids, sent: 0 }
        }

        fn send(&mut self) -> OpId {
            let id = self.ids.operation(Owner::LogWrite);
            self.sent += 1;
            self.flights.send(id, self.file, SegmentId(1), BYTES, self.sent);
            id
        }

        fn write(&mut self, id: OpId) {
            self.flights.written(id, Ok(BYTES), 10).unwrap();
        }

        fn flush_due(&mut self) -> Option<OpId> {
            let ids = &mut self.ids;
            self.flights.flush_due(|| ids.operation(Owner::LogFlush)).map(|(id, _)| id)
        }

        fn flush(&mut self, id: OpId) {
            self.flights.flushed(id, Ok(0), 5).unwrap();
        }

        fn taken(&mut self) -> Vec<u32> {
            std::iter::from_fn(|| self.flights.take_stable()).map(|flight| flight.load).collect()
        }
    }

    fn eio() -> io::Result<u64> {
        Err(io::Error::from_raw_os_error(libc::EIO))
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for strategy in LogStrategy::ALL {
            assert_eq!(LogStrategy::parse(strategy.name()), Some(strategy));
            assert_eq!(strategy.describe(true).contains("O_DIRECT"), strategy != LogStrategy::Buffered);
        }
        assert_eq!(LogStrategy::parse("fsync"), None);
    }

    /// Every order in which four writes can complete.
    #[test]
    fn one_answer_strategies_acknowledge_the_prefix_that_completed() {
        for strategy in [LogStrategy::Dsync, LogStrategy::Linked, LogStrategy::ODsync, LogStrategy::None] {
            for order in permutations(4) {
                let mut bench = Bench::new(strategy);
                let sent: Vec<_> = (0..4).map(|_| bench.send()).collect();
                let (mut done, mut taken) = (Vec::new(), Vec::new());
                for index in order {
                    bench.write(sent[index]);
                    assert_eq!(bench.flush_due(), None, "{strategy:?}");
                    done.push(index);
                    taken.extend(bench.taken());
                    let prefix = (0..4).take_while(|index| done.contains(index)).count() as u32;
                    assert_eq!(taken, (1..=prefix).collect::<Vec<_>>());
                }
                assert!(bench.flights.is_empty());
            }
        }
    }

    /// Every order of four completions, with the flush as late as it can be: no write is taken that was not seen whole
    /// before a flush that has come back was sent.
    #[test]
    fn a_flush_covers_what_was_seen_before_it_was_sent_and_nothing_else() {
        for strategy in [LogStrategy::TwoStep, LogStrategy::Buffered] {
            for order in permutations(4) {
                for late in 1..=4 {
                    let mut bench = Bench::new(strategy);
                    let sent: Vec<_> = (0..4).map(|_| bench.send()).collect();
                    let mut covered = Vec::new();
                    let mut written = Vec::new();
                    let mut under_way = None;
                    let mut taken = Vec::new();
                    for (step, index) in order.iter().enumerate() {
                        bench.write(sent[*index]);
                        written.push(*index);
                        if under_way.is_none() {
                            under_way = bench.flush_due().map(|id| (id, written.clone()));
                            assert_eq!(under_way.is_some(), written.contains(&taken.len()), "when the oldest waits");
                        }
                        assert_eq!(bench.flush_due(), None, "one at a time");
                        if (step + 1) % late == 0
                            && let Some((id, covers)) = under_way.take()
                        {
                            bench.flush(id);
                            covered.extend(covers);
                        }
                        taken.extend(bench.taken());
                        let prefix = (0..4).take_while(|index| covered.contains(index)).count() as u32;
                        assert_eq!(taken, (1..=prefix).collect::<Vec<_>>(), "{order:?} {late}");
                    }
                    if let Some((id, _)) = under_way {
                        bench.flush(id);
                    }
                    taken.extend(bench.taken());
                    while let Some(id) = bench.flush_due() {
                        bench.flush(id);
                        taken.extend(bench.taken());
                    }
                    assert_eq!(taken, [1, 2, 3, 4]);
                    assert!(bench.flights.is_empty());
                }
            }
        }
    }

    #[test]
    fn one_flush_covers_several_writes_and_each_knows_its_whole_time() {
        let mut bench = Bench::new(LogStrategy::TwoStep);
        let sent: Vec<_> = (0..3).map(|_| bench.send()).collect();
        bench.write(sent[2]);
        assert_eq!(bench.flush_due(), None, "it would acknowledge nobody");
        bench.write(sent[1]);
        bench.write(sent[0]);
        let flush = bench.flush_due().unwrap();
        bench.flush(flush);
        let times: Vec<_> =
            std::iter::from_fn(|| bench.flights.take_stable()).map(|flight| flight.elapsed_us).collect();
        assert_eq!(times, [15, 15, 15]);
    }

    #[test]
    fn a_flush_of_one_file_says_nothing_about_another() {
        let mut bench = Bench::new(LogStrategy::TwoStep);
        let first = bench.send();
        let old = std::mem::replace(&mut bench.file, bench.ids.file());
        let second = bench.send();
        bench.write(first);
        bench.write(second);
        let flush = bench.flush_due().unwrap();
        assert!(bench.flights.concern(old) && bench.flights.concern(bench.file));
        bench.flush(flush);
        assert_eq!(bench.taken(), [1]);
        assert!(!bench.flights.concern(old));
        let flush = bench.flush_due().unwrap();
        bench.flush(flush);
        assert_eq!(bench.taken(), [2]);
    }

    #[test]
    fn after_any_failure_nothing_is_taken_and_every_answer_is_awaited() {
        for strategy in LogStrategy::ALL {
            let mut bench = Bench::new(strategy);
            let sent: Vec<_> = (0..3).map(|_| bench.send()).collect();
            bench.write(sent[0]); // stable or waiting for its flush, and not taken yet
            let flush = bench.flush_due();
            assert_eq!(flush.is_some(), strategy.flushes_separately());
            let failure = bench.flights.written(sent[1], eio(), 1).unwrap_err();
            assert_eq!((failure.operation, failure.source.raw_os_error()), ("write", Some(libc::EIO)));
            assert!(bench.taken().is_empty());
            assert!(!bench.flights.is_empty());
            bench.write(sent[2]);
            if let Some(flush) = flush {
                assert!(!bench.flights.is_empty());
                bench.flush(flush);
            }
            assert!(
                bench.taken().is_empty() && bench.flush_due().is_none() && bench.flights.is_empty(),
                "{strategy:?}"
            );
        }
    }

    #[test]
    fn a_short_write_is_a_failed_one() {
        for strategy in LogStrategy::ALL {
            let mut bench = Bench::new(strategy);
            let id = bench.send();
            let failure = bench.flights.written(id, Ok(BYTES - 512), 1).unwrap_err();
            assert_eq!(failure.source.to_string(), "short write, 3584 of 4096 bytes");
            assert!(bench.taken().is_empty() && bench.flush_due().is_none(), "{strategy:?}");
        }
    }

    /// ZOOKEEPER-3701 (20.16).
    #[test]
    fn a_failed_flush_is_not_repeated() {
        for strategy in [LogStrategy::TwoStep, LogStrategy::Buffered] {
            let mut bench = Bench::new(strategy);
            let first = bench.send();
            let second = bench.send();
            bench.write(first);
            let flush = bench.flush_due().unwrap();
            bench.write(second);
            let failure = bench.flights.flushed(flush, eio(), 1).unwrap_err();
            assert_eq!(failure.operation, "flush");
            assert!(bench.flush_due().is_none() && bench.taken().is_empty() && bench.flights.is_empty());
        }
    }

    fn permutations(count: usize) -> Vec<Vec<usize>> {
        if count == 0 {
            return vec![Vec::new()];
        }
        let shorter = permutations(count - 1);
        shorter
            .iter()
            .flat_map(|order| {
                (0..count).map(|at| {
                    let mut order = order.clone();
                    order.insert(at, count - 1);
                    order
                })
            })
            .collect()
    }
}
