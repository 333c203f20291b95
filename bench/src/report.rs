//! The figures of a run: one line for people, one line of JSON for machines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::client::server_version;
use crate::usage::{DISTURBED_CORES, Usage};
use crate::{Doing, Result, Target};

/// Latencies beyond this are recorded as this.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// A histogram of nanoseconds with three significant digits.
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("these bounds are valid")
}

#[inline]
pub fn record_ns(histogram: &mut Histogram<u64>, ns: u64, count: u64) {
    histogram.saturating_record_n(ns, count);
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub scenario: String,
    /// All parameters of the scenario.
    pub parameters: serde_json::Value,
    pub label: String,
    pub servers: Vec<String>,
    pub server_version: Option<String>,
    pub date: String,
    pub machine: Machine,
    pub window_s: f64,
    pub operations: u64,
    /// Always 0: the first wrong answer ends a run without a report. Said in every line all the same.
    pub errors: u64,
    pub ops_per_s: f64,
    /// Of requests begun within the window; `operations` are replies within it.
    pub latency_us: Latency,
    pub server: Option<ServerFigures>,
    pub own_cpu_cores: f64,
    pub stolen_cpu_cores: f64,
    /// What only this scenario has, named with its unit.
    pub figures: BTreeMap<&'static str, f64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct ServerFigures {
    pub cpu_us_per_op: f64,
    pub cpu_cores: f64,
    pub rss_mib: f64,
    /// CPU used by neither the server nor the generator.
    pub other_cpu_cores: f64,
    pub disturbed: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub kernel: String,
    pub cpu_model: String,
    pub cpus: usize,
    pub memory_mib: u64,
}

/// What a run counted, before it is made a report.
pub struct Counted {
    pub scenario: String,
    pub parameters: serde_json::Value,
    pub operations: u64,
    pub latency: Histogram<u64>,
    pub usage: Usage,
    pub figures: BTreeMap<&'static str, f64>,
}

impl Report {
    pub fn new(target: &Target, counted: Counted) -> Report {
        let Counted { scenario, parameters, operations, latency, usage, figures } = counted;
        let window_s = usage.window.as_secs_f64();
        let server = usage.server.map(|server| {
            let other_cpu_cores = server.other_cpu.as_secs_f64() / window_s;
            ServerFigures {
                cpu_us_per_op: server.cpu.as_secs_f64() * 1e6 / operations.max(1) as f64,
                cpu_cores: server.cpu.as_secs_f64() / window_s,
                rss_mib: server.rss_bytes as f64 / (1 << 20) as f64,
                other_cpu_cores,
                disturbed: other_cpu_cores > DISTURBED_CORES,
            }
        });
        Report {
            scenario,
            parameters,
            label: target.label.clone(),
            servers: target.servers.iter().map(ToString::to_string).collect(),
            server_version: server_version(target.servers[0]),
            date: utc_now(),
            machine: Machine::this(),
            window_s,
            operations,
            errors: 0,
            ops_per_s: operations as f64 / window_s,
            latency_us: Latency::of(&latency),
            server,
            own_cpu_cores: usage.own_cpu.as_secs_f64() / window_s,
            stolen_cpu_cores: usage.stolen_cpu.as_secs_f64() / window_s,
            figures,
        }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let latency = self.latency_us;
        let mut line = format!(
            "{:<9} {:>10} ops/s  us p50 {} p90 {} p99 {} p99.9 {} max {}",
            self.scenario,
            figure(self.ops_per_s),
            figure(latency.p50),
            figure(latency.p90),
            figure(latency.p99),
            figure(latency.p99_9),
            figure(latency.max),
        );
        // Writing to a String cannot fail.
        if let Some(server) = &self.server {
            let _ = write!(
                line,
                "  server {} us/op {:.2} cores {:.0} MiB  other {:.2}",
                figure(server.cpu_us_per_op),
                server.cpu_cores,
                server.rss_mib,
                server.other_cpu_cores
            );
        }
        let _ = write!(line, "  own {:.2}  errors {}", self.own_cpu_cores, self.errors);
        for (name, value) in &self.figures {
            let _ = write!(line, "  {name} {}", figure(*value));
        }
        if !self.label.is_empty() {
            let _ = write!(line, "  [{}]", self.label);
        }
        if self.server.is_some_and(|server| server.disturbed) {
            line.push_str("  DISTURBED");
        }
        line
    }
}

/// Where figures are written besides.
#[derive(Args, Clone, Debug, Default)]
pub struct Files {
    /// Append one JSON object a measurement to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write the summary to this file too.
    #[arg(long)]
    markdown: Option<PathBuf>,
}

impl Files {
    pub fn note(&self, measurement: &impl Serialize) -> Result<()> {
        self.json.as_ref().map_or(Ok(()), |file| append_json(measurement, file))
    }

    /// For people, who see it as well.
    pub fn summary(&self, summary: &str) -> Result<()> {
        println!("\n{summary}");
        self.markdown.as_ref().map_or(Ok(()), |file| fs::write(file, summary).doing(file.display()))
    }
}

/// Appends a report to a file of one JSON object a line.
pub fn append_json(report: &impl Serialize, file: &Path) -> Result<()> {
    let mut line = serde_json::to_string(report).doing("encoding a report")?;
    line.push('\n');
    let name = file.display();
    let mut file = OpenOptions::new().create(true).append(true).open(file).doing(&name)?;
    file.write_all(line.as_bytes()).doing(&name)
}

/// Of some; sorts them.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] }
}

impl Latency {
    pub fn of(histogram: &Histogram<u64>) -> Latency {
        let us = |ns: u64| ns as f64 / 1000.0;
        Latency {
            mean: histogram.mean() / 1000.0,
            p50: us(histogram.value_at_quantile(0.5)),
            p90: us(histogram.value_at_quantile(0.9)),
            p99: us(histogram.value_at_quantile(0.99)),
            p99_9: us(histogram.value_at_quantile(0.999)),
            max: us(histogram.max()),
        }
    }
}

impl Machine {
    pub fn this() -> Machine {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        let after = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = after(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        Machine {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu_model: after(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            // Not `available_parallelism`: that would count only the CPU this process is pinned to.
            cpus: read("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count(),
            memory_mib: memory.trim_end_matches(" kB").parse::<u64>().unwrap_or_default() / 1024,
        }
    }
}

/// What repeated runs of the same thing gave.
#[derive(Clone, Debug)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(mut values: Vec<f64>) -> Option<Spread> {
        if values.is_empty() {
            return None;
        }
        let median = median(&mut values); // sorts them
        Some(Spread { median, min: values[0], max: values[values.len() - 1] })
    }

    /// For a table.
    pub fn cell(&self) -> String {
        format!("{} ({}–{})", figure(self.median), figure(self.min), figure(self.max))
    }
}

/// A figure with about three significant digits and thousands apart.
pub fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        tiny if tiny > 0.0 && tiny < 0.1 => 4,
        small if small < 10.0 => 2,
        middling if middling < 100.0 => 1,
        _ => 0,
    };
    let plain = format!("{value:.decimals$}");
    let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let mut text = String::new();
    for (place, digit) in whole.chars().enumerate() {
        let left = whole.len() - place;
        if place > 0 && left.is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

/// Now, as `2026-01-31T12:00:00Z`.
pub fn utc_now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    utc(seconds)
}

fn utc(seconds: u64) -> String {
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    // Years that start on 1 March end with the leap day, so month lengths follow one rule (Hinnant, days_from_civil).
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_come_out_in_microseconds_within_the_bucket_width() {
        let mut histogram = latency_histogram();
        for us in 1..=10_000 {
            record_ns(&mut histogram, us * 1000, 1);
        }
        let latency = Latency::of(&histogram);
        let near = |figure: f64, expected: f64| (figure - expected).abs() <= expected * 0.001 + 0.001;
        assert!(near(latency.p50, 5_000.0), "{latency:?}");
        assert!(near(latency.p90, 9_000.0), "{latency:?}");
        assert!(near(latency.p99, 9_900.0), "{latency:?}");
        assert!(near(latency.p99_9, 9_990.0), "{latency:?}");
        assert!(near(latency.max, 10_000.0), "{latency:?}");
        assert!(near(latency.mean, 5_000.5), "{latency:?}");
    }

    #[test]
    fn a_latency_beyond_all_bounds_is_recorded_not_lost() {
        let mut histogram = latency_histogram();
        record_ns(&mut histogram, u64::MAX, 2);
        assert_eq!(histogram.len(), 2);
        assert!(histogram.max() >= LATENCY_NS_MAX);
        record_ns(&mut histogram, 0, 1);
        assert_eq!(histogram.len(), 3);
    }

    #[test]
    fn figures_keep_three_digits() {
        for (value, text) in [
            (0.0, "0.00"),
            (0.01234, "0.0123"),
            (0.123, "0.12"),
            (12.34, "12.3"),
            (999.6, "1,000"),
            (123.4, "123"),
            (1_234_567.0, "1,234,567"),
            (-1_234.0, "-1,234"),
            (-123_456.0, "-123,456"),
        ] {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(951_868_800), "2000-03-01T00:00:00Z");
        assert_eq!(utc(1_767_225_599), "2025-12-31T23:59:59Z");
        assert_eq!(utc(1_767_225_600), "2026-01-01T00:00:00Z");
    }
}
