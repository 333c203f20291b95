//! Whose CPU was used during a window: the server's, ours, somebody else's. From `/proc`, in ticks of usually 10 ms.
//!
//! `other_cpu` is what neither used. A run with much of it was disturbed, and says nothing about the server's tail.

use std::fs;
use std::time::{Duration, Instant};

use crate::{BenchError, Doing, Result};

/// A run with more CPU than this used by others, in cores, counts as disturbed.
pub const DISTURBED_CORES: f64 = 0.3;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessUsage {
    pub cpu_ticks: u64,
    pub rss_bytes: u64,
}

/// What all processes together have used so far, and what the hypervisor kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct MachineUsage {
    busy_ticks: u64,
    stolen_ticks: u64,
}

/// What a window cost.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub window: Duration,
    /// `None` when no server process was named.
    pub server: Option<ServerUsage>,
    pub own_cpu: Duration,
    pub stolen_cpu: Duration,
}

#[derive(Clone, Copy, Debug)]
pub struct ServerUsage {
    pub cpu: Duration,
    pub rss_bytes: u64,
    /// Used by neither the server nor us.
    pub other_cpu: Duration,
}

/// A running measurement.
pub struct Meter {
    server_pids: Vec<u32>,
    start: Instant,
    server: ProcessUsage,
    own: ProcessUsage,
    machine: MachineUsage,
}

impl Meter {
    pub fn start(server_pids: &[u32]) -> Result<Meter> {
        Ok(Meter {
            server_pids: server_pids.to_vec(),
            server: processes(server_pids)?,
            own: process(std::process::id())?,
            machine: machine()?,
            start: Instant::now(),
        })
    }

    pub fn stop(&self) -> Result<Usage> {
        let window = self.start.elapsed();
        let own = ticks(process(std::process::id())?.cpu_ticks - self.own.cpu_ticks);
        let now = machine()?;
        let server = match self.server_pids.is_empty() {
            true => None,
            false => {
                let used = processes(&self.server_pids)?;
                let cpu = ticks(used.cpu_ticks - self.server.cpu_ticks);
                // Not monotonic to the tick: the kernel scales process times, but not those of the machine.
                let busy = ticks(now.busy_ticks.saturating_sub(self.machine.busy_ticks));
                let other_cpu = busy.saturating_sub(cpu).saturating_sub(own);
                Some(ServerUsage { cpu, rss_bytes: used.rss_bytes, other_cpu })
            }
        };
        let stolen_cpu = ticks(now.stolen_ticks.saturating_sub(self.machine.stolen_ticks));
        Ok(Usage { window, server, own_cpu: own, stolen_cpu })
    }
}

/// What a process has in memory, and has read, by its own account.
#[derive(Clone, Copy, Debug)]
pub struct ProcessMemory {
    pub rss_mib: f64,
    /// The part of it that is no file's.
    pub anonymous_mib: f64,
    /// The most there ever was.
    pub peak_mib: f64,
    /// From the disk, not from the page cache.
    pub disk_read_mib: f64,
}

impl ProcessMemory {
    pub fn of(pid: u32) -> Result<ProcessMemory> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).doing(path)
        };
        let (status, io) = (read("status")?, read("io")?);
        let number = |text: &str, key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
            number.ok_or_else(|| BenchError::new(format!("/proc/{pid} tells no {key}")))
        };
        let kib = |key| number(&status, key).map(|kib| kib / 1024.0);
        Ok(ProcessMemory {
            rss_mib: kib("VmRSS:")?,
            anonymous_mib: kib("RssAnon:")?,
            peak_mib: kib("VmHWM:")?,
            disk_read_mib: number(&io, "read_bytes:")? / (1 << 20) as f64,
        })
    }
}

/// CPU and memory of all these processes together.
pub fn processes(pids: &[u32]) -> Result<ProcessUsage> {
    let mut sum = ProcessUsage::default();
    for pid in pids {
        let one = process(*pid)?;
        sum.cpu_ticks += one.cpu_ticks;
        sum.rss_bytes += one.rss_bytes;
    }
    Ok(sum)
}

fn process(pid: u32) -> Result<ProcessUsage> {
    let file = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&file).doing(format_args!("{file} (is the process alive?)"))?;
    parse_process(&text, rustix::param::page_size() as u64)
        .ok_or_else(|| BenchError::new(format!("{file} reads unlike any stat file known: {text}")))
}

fn machine() -> Result<MachineUsage> {
    let text = fs::read_to_string("/proc/stat").doing("/proc/stat")?;
    parse_machine(&text).ok_or_else(|| BenchError::new("/proc/stat reads unlike any known"))
}

/// The command in parentheses may hold spaces and parentheses itself, so fields count from the last `)`.
fn parse_process(stat: &str, page_bytes: u64) -> Option<ProcessUsage> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11); // from utime on (field 14 of proc_pid_stat(5))
    let mut field = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (field()?, field()?);
    let rss_pages: u64 = fields.nth(8)?.parse().ok()?;
    Some(ProcessUsage { cpu_ticks: user + system, rss_bytes: rss_pages * page_bytes })
}

/// user nice system idle iowait irq softirq steal ... (guest time is part of user).
fn parse_machine(stat: &str) -> Option<MachineUsage> {
    let total = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = total.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
    let &[user, nice, system, _idle, _iowait, irq, softirq, stolen_ticks, ..] = fields.as_slice() else {
        return None;
    };
    Some(MachineUsage { busy_ticks: user + nice + system + irq + softirq, stolen_ticks })
}

fn ticks(count: u64) -> Duration {
    Duration::from_nanos(count * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_cannot_shift_the_fields() {
        let stat =
            "17 (a b) c) S 1 17 17 0 -1 4194560 99 0 0 0 250 50 0 0 20 0 30 0 500 1000000 321 18446744073709551615 1 1";
        assert_eq!(parse_process(stat, 4096), Some(ProcessUsage { cpu_ticks: 300, rss_bytes: 321 * 4096 }));
        assert_eq!(parse_process("17 (x) S 1", 4096), None);
    }

    #[test]
    fn idle_time_is_not_busy_time() {
        let stat = "cpu  10 20 30 4000 50 1 2 7 0 0\ncpu0 10 20 30 4000 50 1 2 7 0 0\nintr 5\n";
        assert_eq!(parse_machine(stat), Some(MachineUsage { busy_ticks: 63, stolen_ticks: 7 }));
        assert_eq!(parse_machine("cpu  10 20\n"), None);
    }

    #[test]
    fn this_process_can_be_measured() {
        let meter = Meter::start(&[std::process::id()]).unwrap();
        let usage = meter.stop().unwrap();
        assert!(usage.server.unwrap().rss_bytes > 0);
        assert!(Meter::start(&[u32::MAX]).is_err());
    }

    #[test]
    fn the_memory_of_a_process_is_told() {
        let memory = ProcessMemory::of(std::process::id()).unwrap();
        assert!(memory.rss_mib > 0.0 && memory.anonymous_mib > 0.0 && memory.peak_mib >= memory.anonymous_mib);
    }
}
