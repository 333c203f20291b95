//! `rk log stats`: what a log is made of: sizes, padding, types, the rate over time, who writes and where.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use clap::Args;
use hdrhistogram::Histogram;
use ringkeeper::wire::txn::{Txn, decode_txn};
use serde::Serialize;

use super::heavy::Heavy;
use super::read::{self, Item};
use super::record::path_of;
use crate::console::{Console, Result, Verdict};
use crate::files;
use crate::show::{Hex, Time};

#[derive(Args)]
pub struct Arguments {
    /// A log file, or a directory with log files
    pub path: PathBuf,
    /// How many paths and sessions to name
    #[arg(long, default_value_t = 10)]
    pub top: usize,
    /// Counts paths by their first so many names: 1 sums up /app/a and /app/b as /app
    #[arg(long)]
    pub depth: Option<usize>,
}

pub fn run(arguments: &Arguments, console: &mut Console) -> Result<Verdict> {
    let mut stats = Stats::default();
    for file in files::logs(&arguments.path)? {
        stats.files += 1;
        stats.file_bytes += file.bytes;
        read::read(&file, &mut |item| {
            stats.count(item, arguments.depth);
            Ok(())
        })?;
    }
    let found = Verdict::found_if(stats.damages > 0);
    console.say(&stats.report(arguments.top))?;
    Ok(found)
}

struct Stats {
    files: u64,
    file_bytes: u64,
    damages: u64,
    batches: u64,
    batch_bytes: u64,
    padded_bytes: u64,
    records: u64,
    record_bytes: u64,
    zxids: Option<(u64, u64)>,
    times: Option<(i64, i64)>,
    record_sizes: Histogram<u64>,
    batch_sizes: Histogram<u64>,
    batch_records: Histogram<u64>,
    types: BTreeMap<&'static str, Tally>,
    rate: Rate,
    paths: Heavy<String>,
    sessions: Heavy<Hex>,
}

impl Default for Stats {
    fn default() -> Stats {
        let histogram = || Histogram::new_with_bounds(1, 1 << 32, 3).expect("bounds that make sense");
        Stats {
            files: 0,
            file_bytes: 0,
            damages: 0,
            batches: 0,
            batch_bytes: 0,
            padded_bytes: 0,
            records: 0,
            record_bytes: 0,
            zxids: None,
            times: None,
            record_sizes: histogram(),
            batch_sizes: histogram(),
            batch_records: histogram(),
            types: BTreeMap::new(),
            rate: Rate::default(),
            paths: Heavy::new(),
            sessions: Heavy::new(),
        }
    }
}

/// What the heaviest of their kind have.
#[derive(Debug, Serialize)]
struct Row<K> {
    name: K,
    #[serde(flatten)]
    tally: Tally,
}

fn rows<K>(heaviest: Vec<(K, Tally)>) -> Vec<Row<K>> {
    heaviest.into_iter().map(|(name, tally)| Row { name, tally }).collect()
}

/// Records, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub records: u64,
    pub bytes: u64,
}

impl Tally {
    pub fn add(&mut self, bytes: u64) {
        self.records += 1;
        self.bytes += bytes;
    }
}

impl Stats {
    fn count(&mut self, item: Item<'_>, depth: Option<usize>) {
        match item {
            Item::File(file) => self.damages += file.damage.len() as u64,
            Item::Gap(gap) => self.damages += u64::from(gap.damage.is_some()),
            Item::Batch(batch) => {
                self.damages += u64::from(batch.damage.is_some());
                self.batches += 1;
                self.batch_bytes += batch.bytes;
                self.padded_bytes += batch.padded_bytes;
                self.batch_sizes.saturating_record(batch.bytes);
                self.batch_records.saturating_record(u64::from(batch.records));
            }
            Item::Record { zxid, payload, .. } => {
                let bytes = payload.len() as u64;
                self.records += 1;
                self.record_bytes += bytes;
                self.record_sizes.saturating_record(bytes);
                self.zxids = widened(self.zxids, zxid.0);
                match decode_txn(payload) {
                    Ok((header, txn, _)) => {
                        self.times = widened(self.times, header.time_ms);
                        self.rate.count(header.time_ms);
                        self.types.entry(txn.opcode().name()).or_default().add(bytes);
                        self.sessions.add(&header.client_id.into(), bytes);
                        self.count_paths(&txn, bytes, depth);
                    }
                    Err(_) => self.damages += 1,
                }
            }
        }
    }

    /// Every path of a multi counts, with its share of the bytes.
    fn count_paths(&mut self, txn: &Txn<'_>, bytes: u64, depth: Option<usize>) {
        match txn {
            Txn::Multi(parts) => {
                let share = bytes / parts.len().max(1) as u64;
                parts.iter().for_each(|part| self.count_paths(part, share, depth));
            }
            Txn::CloseSession { paths: Some(paths) } => {
                let share = bytes / paths.len().max(1) as u64;
                paths.iter().for_each(|path| self.paths.add(cut(path, depth), share));
            }
            Txn::Check { .. } => {}
            single => {
                if let Some(path) = path_of(single) {
                    self.paths.add(cut(path, depth), bytes);
                }
            }
        }
    }

    fn report(self, top: usize) -> Report {
        let seconds = self.times.map_or(0.0, |(first, last)| last.abs_diff(first) as f64 / 1000.0);
        let whole =
            |padded: u64| if padded == 0 { 0.0 } else { 100.0 * (padded - self.batch_bytes) as f64 / padded as f64 };
        Report {
            item: "stats",
            files: self.files,
            file_bytes: self.file_bytes,
            damages: self.damages,
            records: self.records,
            record_bytes: self.record_bytes,
            zxids: self.zxids.map(|(first, last)| (Hex(first), Hex(last))),
            times: self.times.map(|(first, last)| (Time(first), Time(last))),
            records_per_second: if seconds > 0.0 { self.records as f64 / seconds } else { 0.0 },
            record_size: Percentiles::of(&self.record_sizes),
            batches: (self.batches > 0).then(|| Batches {
                count: self.batches,
                bytes: self.batch_bytes,
                padded_bytes: self.padded_bytes,
                padding_percent: whole(self.padded_bytes),
                size: Percentiles::of(&self.batch_sizes),
                records: Percentiles::of(&self.batch_records),
            }),
            types: self.types,
            rate: self.rate.rows(),
            paths_exact: self.paths.is_exact(),
            paths: rows(self.paths.top(top)),
            sessions_seen: self.sessions.len(),
            sessions_exact: self.sessions.is_exact(),
            sessions: rows(self.sessions.top(top)),
        }
    }
}

fn widened<T: Ord + Copy>(range: Option<(T, T)>, value: T) -> Option<(T, T)> {
    Some(range.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
}

/// The first so many names of a path.
fn cut(path: &str, depth: Option<usize>) -> &str {
    let Some(depth) = depth else { return path };
    let end = path.match_indices('/').nth(depth).map_or(path.len(), |(at, _)| at);
    if end == 0 { "/" } else { &path[..end] }
}

/// Records over time, in memory that does not grow: when there are too many buckets, they are made wider.
#[derive(Debug)]
struct Rate {
    bucket_ms: i64,
    /// Records by time divided by the bucket's width.
    buckets: BTreeMap<i64, u64>,
}

impl Default for Rate {
    fn default() -> Rate {
        Rate { bucket_ms: 1000, buckets: BTreeMap::new() }
    }
}

const RATE_ROWS_MAX: usize = 24;

impl Rate {
    fn count(&mut self, time_ms: i64) {
        *self.buckets.entry(time_ms.div_euclid(self.bucket_ms)).or_default() += 1;
        while self.buckets.len() > RATE_ROWS_MAX {
            self.bucket_ms *= 2;
            let finer = std::mem::take(&mut self.buckets);
            for (bucket, records) in finer {
                *self.buckets.entry(bucket.div_euclid(2)).or_default() += records;
            }
        }
    }

    fn rows(&self) -> Vec<RateRow> {
        let row = |(bucket, records): (&i64, &u64)| RateRow {
            from: Time(bucket.saturating_mul(self.bucket_ms)),
            seconds: self.bucket_ms / 1000,
            records: *records,
            per_second: *records as f64 * 1000.0 / self.bucket_ms as f64,
        };
        self.buckets.iter().map(row).collect()
    }
}

#[derive(Debug, Serialize)]
struct RateRow {
    from: Time,
    seconds: i64,
    records: u64,
    per_second: f64,
}

#[derive(Debug, Serialize)]
struct Percentiles {
    min: u64,
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Percentiles {
        let at = |quantile| histogram.value_at_quantile(quantile);
        let (min, mean, max) = (histogram.min(), histogram.mean(), histogram.max());
        Percentiles { min, mean, p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max }
    }
}

#[derive(Serialize)]
struct Batches {
    count: u64,
    bytes: u64,
    padded_bytes: u64,
    padding_percent: f64,
    size: Percentiles,
    records: Percentiles,
}

#[derive(Serialize)]
struct Report {
    item: &'static str,
    files: u64,
    file_bytes: u64,
    damages: u64,
    records: u64,
    record_bytes: u64,
    zxids: Option<(Hex, Hex)>,
    times: Option<(Time, Time)>,
    records_per_second: f64,
    record_size: Percentiles,
    /// Only our format has batches.
    batches: Option<Batches>,
    types: BTreeMap<&'static str, Tally>,
    rate: Vec<RateRow>,
    paths_exact: bool,
    paths: Vec<Row<String>>,
    sessions_seen: usize,
    sessions_exact: bool,
    sessions: Vec<Row<Hex>>,
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Percentiles { min, mean, p50, p90, p99, p999, max } = self;
        write!(f, "min {min}  mean {mean:.1}  p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p999}  max {max}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "files            {} ({} bytes)", self.files, self.file_bytes)?;
        if self.damages > 0 {
            writeln!(f, "DAMAGED          in {} places: see `rk log verify`", self.damages)?;
        }
        writeln!(f, "records          {} ({} bytes)", self.records, self.record_bytes)?;
        if let Some((first, last)) = self.zxids {
            writeln!(f, "zxid             {first} to {last}")?;
        }
        if let Some((first, last)) = self.times {
            writeln!(f, "time             {first} to {last}, {:.1} records a second", self.records_per_second)?;
        }
        writeln!(f, "record bytes     {}", self.record_size)?;
        if let Some(batches) = &self.batches {
            writeln!(f, "batches          {} ({} bytes)", batches.count, batches.bytes)?;
            writeln!(
                f,
                "padding          {} bytes with it, {:.1} % of them",
                batches.padded_bytes, batches.padding_percent
            )?;
            writeln!(f, "batch bytes      {}", batches.size)?;
            writeln!(f, "batch records    {}", batches.records)?;
        }
        writeln!(f, "\ntype                 records        bytes")?;
        for (name, Tally { records, bytes }) in &self.types {
            writeln!(f, "{name:<16} {records:>11} {bytes:>12}")?;
        }
        writeln!(f, "\nfrom                     records   per second")?;
        for RateRow { from, records, per_second, .. } in &self.rate {
            writeln!(f, "{from:<24} {records:>7} {per_second:>12.1}")?;
        }
        let about = |exact| if exact { "" } else { " (too many to count each: at least)" };
        writeln!(f, "\n    records        bytes  path{}", about(self.paths_exact))?;
        for Row { name, tally: Tally { records, bytes } } in &self.paths {
            writeln!(f, "{records:>11} {bytes:>12}  {name}")?;
        }
        write!(f, "\n    records        bytes  session, of {}{}", self.sessions_seen, about(self.sessions_exact))?;
        for Row { name, tally: Tally { records, bytes } } in &self.sessions {
            write!(f, "\n{records:>11} {bytes:>12}  {name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_keeps_every_record_in_a_few_rows() {
        let mut rate = Rate::default();
        for second in 0..100_000 {
            rate.count(1_000_000_000_000 + second * 1000);
        }
        let rows = rate.rows();
        assert!(rows.len() <= RATE_ROWS_MAX);
        assert_eq!(rows.iter().map(|row| row.records).sum::<u64>(), 100_000);
        assert!((rows[1].per_second - 1.0).abs() < 1e-9, "{:?}", rows[1]);
        // Times from damaged bytes are as wide apart as numbers can be.
        rate.count(i64::MIN);
        rate.count(i64::MAX);
        assert_eq!(rate.rows().iter().map(|row| row.records).sum::<u64>(), 100_002);
    }

    #[test]
    fn paths_are_cut_at_names() {
        assert_eq!(cut("/a/b/c", None), "/a/b/c");
        assert_eq!(cut("/a/b/c", Some(0)), "/");
        assert_eq!(cut("/a/b/c", Some(1)), "/a");
        assert_eq!(cut("/a/b/c", Some(2)), "/a/b");
        assert_eq!(cut("/a/b/c", Some(3)), "/a/b/c");
        assert_eq!(cut("/", Some(1)), "/");
    }
}
