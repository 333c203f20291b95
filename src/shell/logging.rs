//! Log lines on standard error, one an event, shaped like the reference's so that alert rules and parsers keep working:
//!
//! ```text
//! 2026-11-21T09:02:38,317 [myid:1] - INFO  [rk-pipeline:start@88] - binding to port 0.0.0.0:2181
//! ```
//!
//! Time is UTC. Lines are written by a thread of their own; when standard error is slower than the server, lines are
//! dropped and counted rather than waited for. Not here: log files, rotation (the service manager's business).

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::Write;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::shell::clock::wall_ms;

/// Lines waiting for standard error. At the bound: newer lines are dropped.
const WAITING_LINES: usize = 16 * 1024;

/// How long an ending process tries to say why.
const LAST_WORDS: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
#[error("log level {given:?}: {why}; write error, warn, info, debug, trace or MODULE=LEVEL,...")]
pub struct LevelError {
    given: String,
    why: String,
}

/// Keeps the log going; what is waiting is written when this is dropped.
#[must_use]
pub struct LogGuard {
    _worker: WorkerGuard,
}

/// Starts logging. `level` (from the command line) wins over `RUST_LOG`; without either it is INFO.
pub fn start(level: Option<&str>, my_id: i64) -> Result<LogGuard, LevelError> {
    let from_environment = std::env::var("RUST_LOG").ok().filter(|level| !level.trim().is_empty());
    let given = level.map(str::to_owned).or(from_environment).unwrap_or_else(|| "info".to_owned());
    if let Some(word) = given.split(',').find(|directive| !names_a_level(directive)) {
        let why = format!("{word:?} is no level");
        return Err(LevelError { given, why });
    }
    // The runtime warns about what the start checks and says better by itself.
    let directives = format!("glommio=error,{}", given.to_lowercase());
    let filter =
        EnvFilter::try_new(directives).map_err(|error| LevelError { given: given.clone(), why: error.to_string() })?;
    let (writer, worker): (NonBlocking, WorkerGuard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(WAITING_LINES).finish(std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(false)
        .fmt_fields(DefaultFields::new())
        .event_format(JavaShape { my_id })
        .init();
    say_panics_at_once(my_id);
    Ok(LogGuard { _worker: worker })
}

/// The filter would take any other word for a module, and everything else would be off.
fn names_a_level(directive: &str) -> bool {
    let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level).trim();
    ["error", "warn", "info", "debug", "trace", "off"].iter().any(|known| known.eq_ignore_ascii_case(level))
}

/// A panic may be the last thing this process does, so its line does not wait for the writing thread.
fn say_panics_at_once(my_id: i64) {
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let backtrace = match Backtrace::capture() {
            backtrace if backtrace.status() == BacktraceStatus::Captured => backtrace.to_string(),
            _ => "note: run with `RUST_BACKTRACE=1` for a backtrace\n".to_owned(),
        };
        say_at_once(format!(
            "{} [myid:{my_id}] - ERROR [{thread}:panic@0] - Severe unrecoverable error, from thread : {thread}\n\
             thread '{thread}' {panic}\n{backtrace}",
            Timestamp(wall_ms())
        ));
    }));
}

/// Writes to standard error before it returns, unless nobody takes it there: who has to end does not wait for that.
pub fn say_at_once(text: String) {
    write_within(LAST_WORDS, text, std::io::stderr());
}

/// By a thread that may stay behind: what keeps one writer keeps the next.
fn write_within(limit: Duration, text: String, mut to: impl Write + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let writer = std::thread::Builder::new().name("rk-last-words".to_owned()).spawn(move || {
        // There is nobody left to tell of a failure.
        let _ = to.write_all(text.as_bytes());
        let _ = done.send(());
    });
    if writer.is_ok() {
        let _ = wait.recv_timeout(limit);
    }
}

struct JavaShape {
    my_id: i64,
}

impl<S, N> FormatEvent<S, N> for JavaShape
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, cx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let module = metadata.target().rsplit("::").next().unwrap_or("");
        let thread = std::thread::current();
        write!(
            writer,
            "{} [myid:{}] - {:<5} [{}:{}@{}] - ",
            Timestamp(wall_ms()),
            self.my_id,
            metadata.level(),
            thread.name().unwrap_or("unnamed"),
            module,
            metadata.line().unwrap_or(0)
        )?;
        let mut one_line = String::new();
        cx.format_fields(Writer::new(&mut one_line), event)?;
        writeln!(writer, "{}", one_line.trim_end().replace('\n', "\\n"))
    }
}

/// `2026-11-21T09:02:38,317`, UTC.
struct Timestamp(i64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.div_euclid(1000), self.0.rem_euclid(1000));
        let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, month_day) = civil_from_days(day);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{month_day:02}T{hour:02}:{minute:02}:{second:02},{millis:03}")
    }
}

/// Days since 1970-01-01 to a date of the proleptic Gregorian calendar, in eras of 400 years that begin on 1 March.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Lets one line a second pass and counts the rest: a misbehaving client must not fill the disk with its complaints.
#[derive(Debug)]
pub struct Throttle {
    last: Option<Instant>,
    suppressed: u64,
}

/// What to append to a line that passed: how many before it did not.
#[derive(Debug, PartialEq, Eq)]
pub struct Suppressed(u64);

impl Throttle {
    const PERIOD: Duration = Duration::from_secs(1);

    #[allow(clippy::new_without_default)]
    pub fn new() -> Throttle {
        Throttle { last: None, suppressed: 0 }
    }

    pub fn pass(&mut self) -> Option<Suppressed> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&mut self, now: Instant) -> Option<Suppressed> {
        if self.last.is_some_and(|last| now.duration_since(last) < Throttle::PERIOD) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(Suppressed(std::mem::take(&mut self.suppressed)))
    }
}

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more like this were not logged)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_right_on_leap_days_and_turns_of_centuries() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00,000");
        assert_eq!(Timestamp(951_782_400_001).to_string(), "2000-02-29T00:00:00,001");
        assert_eq!(Timestamp(1_795_251_758_317).to_string(), "2026-11-21T09:02:38,317");
        assert_eq!(Timestamp(4_107_542_399_999).to_string(), "2100-02-28T23:59:59,999");
        assert_eq!(Timestamp(4_107_542_400_000).to_string(), "2100-03-01T00:00:00,000");
    }

    /// Standard error that is a full pipe.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn last_words_are_waited_for_but_not_for_ever() {
        let (go_on, stuck) = mpsc::channel();
        write_within(Duration::from_millis(1), "why".to_owned(), Stuck(stuck));
        drop(go_on);

        let (said, heard) = mpsc::channel();
        struct Tell(mpsc::Sender<Vec<u8>>);
        impl Write for Tell {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.send(bytes.to_vec()).expect("the test listens");
                Ok(bytes.len())
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        write_within(Duration::MAX, "why".to_owned(), Tell(said));
        assert_eq!(heard.try_recv().unwrap(), b"why", "written when it returns");
    }

    #[test]
    fn a_word_that_is_no_level_is_not_taken_for_a_module() {
        for good in ["info", "WARN", "debug,glommio=off", "ringkeeper::core=trace"] {
            assert!(good.split(',').all(names_a_level), "{good}");
        }
        for bad in ["WARNING", "fatal", "ringkeeper", "info,verbose", "ringkeeper=warning", ""] {
            assert!(!bad.split(',').all(names_a_level), "{bad}");
        }
    }

    #[test]
    fn a_flood_is_one_line_a_second_that_says_how_many_it_stands_for() {
        let mut throttle = Throttle::new();
        let start = Instant::now();
        assert_eq!(throttle.pass_at(start), Some(Suppressed(0)));
        for millis in 1..1000 {
            assert_eq!(throttle.pass_at(start + Duration::from_millis(millis)), None);
        }
        let next = throttle.pass_at(start + Duration::from_millis(1000)).unwrap();
        assert_eq!(next.to_string(), " (999 more like this were not logged)");
        assert_eq!(throttle.pass_at(start + Duration::from_secs(3)).unwrap().to_string(), "");
    }
}
