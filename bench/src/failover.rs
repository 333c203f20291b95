//! How long nobody's writes are acknowledged when an ensemble loses its leader: killed, or asked to stop.
//!
//!   all serve -> probes write through every follower -> the leader is killed, or asked to stop -> probes are served again
//!     -> the former leader is started again -> all serve -> the next contestant's turn
//!
//! A probe (`probe.rs`) writes one write after the other through one survivor, and comes back as soon as it is let in. The pause
//! is the longest time in which none of them got an acknowledgement. After a kill it counts to the first write; who is asked to
//! stop can hand over, and serve until then. Ticks, and the limits counted in them, are the same for all contestants.
//!
//! Estimates, three servers on one core: Java 0.5 s either way; ringkeeper 0.1 s after a kill, 0.01 s when asked.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::contestants::{Contestants, Kind};
use crate::ensemble::{Ensemble, PORTS};
use crate::prepared::remove;
use crate::probe::{Probe, Write};
use crate::report::{Files, Machine, Spread, figure, utc_now};
use crate::server::Cpus;
use crate::{BenchError, Doing, Result};

#[derive(Args, Clone, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub contestants: Contestants,
    /// Voters of each ensemble.
    #[arg(long, default_value_t = 3)]
    members: usize,
    /// Leaders killed (SIGKILL) of each contestant.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// Leaders asked to stop (SIGTERM) of each contestant.
    #[arg(long, default_value_t = 20)]
    stops: usize,
    /// Seconds of writes before each.
    #[arg(long, default_value_t = 1.0)]
    steady: f64,
    /// CPUs of all servers.
    #[arg(long, default_value = "1")]
    cores: Cpus,
    /// Seconds in which an ensemble has to serve again.
    #[arg(long, default_value_t = 120)]
    limit: u64,
    #[command(flatten)]
    files: Files,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Loss {
    Killed,
    AskedToStop,
}

#[derive(Clone, Debug, Serialize)]
struct Lost {
    scenario: &'static str,
    server: Kind,
    how: Loss,
    members: usize,
    date: String,
    machine: Machine,
    /// The longest time without an acknowledgement.
    pause_ms: f64,
    /// From the signal to the end of that.
    signal_to_write_ms: f64,
    /// Writes acknowledged before the signal.
    writes_before: usize,
}

const PROBED: &str = "/ringkeeper-bench-failover";

pub fn run(arguments: &Arguments) -> Result<()> {
    let limit = Duration::from_secs(arguments.limit);
    if arguments.members < 3 {
        return Err(BenchError::new("who loses a leader needs two more members (--members 3)"));
    }
    let base = arguments.contestants.base()?.join(format!("failover-{}", std::process::id()));
    let mut ensembles = Vec::new();
    for (place, kind) in arguments.contestants.servers.iter().enumerate() {
        let mut pattern = arguments.contestants.launch(*kind, 0, &base.join(kind.name()), &arguments.cores, &[])?;
        pattern.port += PORTS * place as u16;
        let ensemble = Ensemble::start(&pattern, arguments.members)?;
        ensemble.wait_until_serving(limit)?;
        ensemble.put(PROBED)?;
        ensembles.push((*kind, ensemble));
    }
    let mut results = Vec::new();
    for round in 0..arguments.kills.max(arguments.stops) {
        for (kind, ensemble) in &mut ensembles {
            for (how, wanted) in [(Loss::Killed, arguments.kills), (Loss::AskedToStop, arguments.stops)] {
                if round >= wanted {
                    continue;
                }
                let lost = lose_leader(arguments, *kind, ensemble, how).doing(kind.name())?;
                println!("{}", lost.line());
                arguments.files.note(&lost)?;
                results.push(lost);
            }
        }
    }
    let summary = summary(arguments, &results);
    arguments.files.summary(&summary)?;
    ensembles.into_iter().try_for_each(|(_, ensemble)| ensemble.stop())?;
    remove(&base)
}

fn lose_leader(arguments: &Arguments, kind: Kind, ensemble: &mut Ensemble, how: Loss) -> Result<Lost> {
    let limit = Duration::from_secs(arguments.limit);
    let steady = Duration::try_from_secs_f64(arguments.steady).doing("--steady")?;
    let leader = ensemble.wait_for_leader(limit)?;
    let survivors = ensemble.members().filter(|member| *member != leader);
    let probes: Vec<Probe> = survivors.map(|member| Probe::start(ensemble.address(member), PROBED)).collect();
    let started = Instant::now();
    probes.iter().try_for_each(|probe| probe.wait_for_write_after(started, limit))?;
    std::thread::sleep(steady);

    let signalled = Instant::now();
    match how {
        Loss::Killed => ensemble.take(leader).kill()?,
        Loss::AskedToStop => ensemble.take(leader).stop()?,
    }
    // Whatever is begun from here on, only a new leader acknowledges.
    let gone = Instant::now();
    probes.iter().try_for_each(|probe| probe.wait_for_write_after(gone, limit))?;
    let writes: Vec<Write> = probes.into_iter().flat_map(Probe::end).collect();
    let (pause, ended) = longest_pause(&writes, signalled).ok_or_else(|| BenchError::new("no writes"))?;

    ensemble.start_again(leader)?;
    ensemble.wait_until_serving(limit)?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Lost {
        scenario: "failover",
        server: kind,
        how,
        members: arguments.members,
        date: utc_now(),
        machine: Machine::this(),
        pause_ms: ms(pause),
        signal_to_write_ms: ms(ended.saturating_duration_since(signalled)),
        writes_before: writes.iter().filter(|write| write.acknowledged < signalled).count(),
    })
}

/// Of the pauses that ended after the signal the longest one, and when that was.
fn longest_pause(writes: &[Write], signalled: Instant) -> Option<(Duration, Instant)> {
    let mut acknowledged: Vec<Instant> = writes.iter().map(|write| write.acknowledged).collect();
    acknowledged.sort();
    let pauses = acknowledged.windows(2).filter(|pair| pair[1] > signalled);
    pauses.map(|pair| (pair[1] - pair[0], pair[1])).max()
}

impl Lost {
    fn line(&self) -> String {
        let how = if self.how == Loss::Killed { "killed" } else { "asked to stop" };
        format!(
            "{:<10} {how:<13} pause {} ms, {} ms from the signal on; {} writes before",
            self.server.name(),
            figure(self.pause_ms),
            figure(self.signal_to_write_ms),
            self.writes_before
        )
    }
}

fn summary(arguments: &Arguments, results: &[Lost]) -> String {
    let machine = Machine::this();
    let mut text = format!(
        "Measured {} with `ringkeeper-bench failover`: {} CPUs ({}), {} MiB, Linux {}. {} servers of each ensemble, all on CPU {}; \
         tickTime 2000, initLimit 10, syncLimit 5; one probe writing through each survivor from CPU {}. Contestants in turn.\n\n\
         | leader | server | times | pause ms: median (min–max) | signal to first write ms |\n|---|---|---|---|---|\n",
        utc_now(),
        machine.cpus,
        machine.cpu_model,
        machine.memory_mib,
        machine.kernel,
        arguments.members,
        arguments.cores,
        arguments.contestants.cpu,
    );
    let mut all = String::new();
    for (how, name) in [(Loss::Killed, "killed"), (Loss::AskedToStop, "asked to stop")] {
        for kind in &arguments.contestants.servers {
            let runs: Vec<&Lost> = results.iter().filter(|lost| (lost.how, lost.server) == (how, *kind)).collect();
            let cell = |of: fn(&Lost) -> f64| Spread::of(runs.iter().map(|lost| of(lost)).collect());
            let (Some(pause), Some(first)) = (cell(|lost| lost.pause_ms), cell(|lost| lost.signal_to_write_ms)) else {
                continue;
            };
            text += &format!("| {name} | {} | {} | {} | {} |\n", kind.name(), runs.len(), pause.cell(), first.cell());
            let values: Vec<String> = runs.iter().map(|lost| figure(lost.pause_ms)).collect();
            all += &format!("- {name}, {}: {}\n", kind.name(), values.join(", "));
        }
    }
    text + "\nAll pauses, ms:\n\n" + &all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_is_the_longest_time_without_anybodys_acknowledgement() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let write = |ms| Write { begun: at(ms), acknowledged: at(ms) };
        // A probe's own pause of 60 ms is nobody else's; what ended before the signal is none of it.
        let writes = [0, 90, 100, 110, 160, 165, 120, 180].map(write);
        assert_eq!(longest_pause(&writes, at(105)), Some((Duration::from_millis(40), at(160))));
        assert_eq!(longest_pause(&writes[..1], at(0)), None);
    }
}
