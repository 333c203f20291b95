//! Which executor runs on which CPU, how long it spins, and how busy it is. Spec: design 3; measurements in
//! `docs/decisions`.
//!
//! A pinned executor cannot escape a busy CPU, so pinning happens by itself only when the process was given CPUs of its
//! own (a cpuset or affinity mask smaller than the machine), or told which ones to use.

use std::time::{Duration, Instant};

use glommio::{LocalExecutorBuilder, Placement};
use ringkeeper_storage::DriverKind;

use crate::config::{LogBackend, LogThread, Pin};
use crate::limits::EXECUTORS_MAX;
use crate::shell::cpus::{allowed_cpus, online_cpus};
use crate::shell::reactor;

/// A little longer than a commit takes on a fast disk: measured to take the wake-ups out of the write path.
const AUTO_SPIN: Duration = Duration::from_micros(150);

/// From this many executors up the log has a thread of its own.
const AUTO_LOG_THREAD_CORES: usize = 3;

/// Spinning needs a CPU that nobody else waits for.
const AUTO_SPIN_CORES: usize = 3;

/// Where the executors of this process run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// One entry per executor, the pipeline's first; `None` runs wherever the kernel likes.
    cpus: Vec<Option<usize>>,
    spin: Duration,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "ringkeeper.cores: CPU {cpu} is not among those this process may use ({allowed}); name some of those, or leave the \
     setting out"
)]
pub struct CpuNotAllowed {
    cpu: usize,
    allowed: String,
}

impl Plan {
    /// One executor per CPU of `cpus`, or of the affinity mask. CPUs that were named are pinned to, unless that is off.
    /// `spin`: `None` is automatic.
    pub fn new(cpus: Option<&[usize]>, pin: Pin, spin: Option<Duration>) -> Result<Plan, CpuNotAllowed> {
        Plan::from_machine(cpus, pin, spin, &allowed_cpus(), online_cpus())
    }

    fn from_machine(
        named: Option<&[usize]>,
        pin: Pin,
        spin: Option<Duration>,
        allowed: &[usize],
        online: Option<usize>,
    ) -> Result<Plan, CpuNotAllowed> {
        let own_cpus = online.is_some_and(|online| allowed.len() < online);
        let pinned = pin == Pin::On || pin == Pin::Auto && (named.is_some() || own_cpus);
        let used = named.unwrap_or(allowed);
        if let Some(cpu) = used.iter().find(|cpu| pinned && !allowed.contains(cpu)) {
            let allowed: Vec<String> = allowed.iter().map(usize::to_string).collect();
            return Err(CpuNotAllowed { cpu: *cpu, allowed: allowed.join(",") });
        }
        let executors = used.len().clamp(1, EXECUTORS_MAX);
        // An unreadable affinity mask is empty and pins nothing.
        let cpus = (0..executors).map(|index| used.get(index).copied().filter(|_| pinned)).collect();
        let automatic = if executors >= AUTO_SPIN_CORES { AUTO_SPIN } else { Duration::ZERO };
        Ok(Plan { cpus, spin: spin.unwrap_or(automatic) })
    }

    pub fn executors(&self) -> usize {
        self.cpus.len()
    }

    /// Who carries out the operations of the disk.
    pub fn disk_driver(&self, backend: LogBackend, thread: LogThread) -> DriverKind {
        let many = self.executors() >= AUTO_LOG_THREAD_CORES;
        match (backend, thread) {
            (LogBackend::Syscalls, _) => DriverKind::Syscalls,
            (LogBackend::Uring, LogThread::Dedicated) => DriverKind::RingThread,
            (LogBackend::Uring, LogThread::Auto) if many => DriverKind::RingThread,
            (LogBackend::Uring, LogThread::Auto | LogThread::Inline) => DriverKind::RingInline,
        }
    }

    /// Where the threads of the disk may run: beside the pipeline's CPU where there is one, or anywhere (empty).
    pub fn disk_cpus(&self) -> Vec<usize> {
        let pinned: Vec<usize> = self.cpus.iter().flatten().copied().collect();
        match pinned.len() {
            0 | 1 => pinned,
            _ => pinned[1..].to_vec(),
        }
    }

    /// For the banner: `2 executors, pinned to CPUs 4 5`.
    pub fn describe(&self) -> String {
        let count = self.executors();
        let pinned: Vec<String> = self.cpus.iter().flatten().map(usize::to_string).collect();
        let mut text = match pinned.is_empty() {
            true => format!("{count} executor{}, not pinned", if count == 1 { "" } else { "s" }),
            false => {
                format!("{count} executor{}, pinned to CPUs {}", if count == 1 { "" } else { "s" }, pinned.join(" "))
            }
        };
        if !self.spin.is_zero() {
            text += &format!(", spinning {} us before parking", self.spin.as_micros());
        }
        text
    }

    pub fn builder(&self, executor: usize) -> LocalExecutorBuilder {
        let placement = self.cpus[executor].map_or(Placement::Unbound, Placement::Fixed);
        let name = if executor == 0 { "rk-pipeline" } else { "rk-io" };
        reactor::executor(placement).name(name)
    }

    /// For how long this executor looks again before it sleeps.
    pub fn spin(&self, executor: usize) -> Duration {
        if executor == 0 { self.spin } else { Duration::ZERO }
    }
}

/// How busy the executor it runs on was since it was last asked: whenever it did not wait.
#[derive(Debug)]
pub struct LoadMeter {
    asked: Instant,
    /// By then.
    slept: Duration,
}

impl LoadMeter {
    pub fn start() -> LoadMeter {
        LoadMeter { asked: Instant::now(), slept: reactor::slept() }
    }

    pub fn busy_permille(&mut self) -> u32 {
        let LoadMeter { asked, slept } = std::mem::replace(self, LoadMeter::start());
        let elapsed = self.asked.duration_since(asked);
        permille(elapsed.saturating_sub(self.slept - slept), elapsed)
    }
}

fn permille(part: Duration, whole: Duration) -> u32 {
    (part.as_micros() * 1000 / whole.as_micros().max(1)).min(1000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_to_cpus_that_were_named_and_else_only_to_cpus_of_its_own() {
        let plan = |named: Option<&[usize]>, pin, allowed: &[usize]| {
            Plan::from_machine(named, pin, None, allowed, Some(4)).map(|plan| plan.cpus)
        };
        assert_eq!(plan(None, Pin::Auto, &[2, 3]).unwrap(), [Some(2), Some(3)]);
        assert_eq!(plan(None, Pin::Auto, &[0, 1, 2, 3]).unwrap(), [None; 4]);
        assert_eq!(plan(None, Pin::On, &[0, 1, 2, 3]).unwrap(), [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(plan(None, Pin::Off, &[2, 3]).unwrap(), [None, None]);
        assert_eq!(plan(Some(&[1]), Pin::Auto, &[0, 1, 2, 3]).unwrap(), [Some(1)]);
        assert_eq!(plan(Some(&[1, 9]), Pin::Off, &[0, 1, 2, 3]).unwrap(), [None, None]);
        let refused = plan(Some(&[1, 9]), Pin::Auto, &[0, 1]).unwrap_err().to_string();
        assert!(refused.contains("CPU 9") && refused.contains("(0,1)"), "{refused}");
        assert_eq!(plan(None, Pin::On, &[]).unwrap(), [None], "an unreadable mask pins nothing");
    }

    #[test]
    fn the_log_gets_a_thread_when_asked_for_or_when_there_are_cores_to_spare() {
        let plan = |cpus: &[usize], pin| Plan::from_machine(Some(cpus), pin, None, &[0, 1, 2], Some(3)).unwrap();
        let few = plan(&[0, 1], Pin::Off);
        let many = plan(&[0, 1, 2], Pin::On);
        let driver = |plan: &Plan, thread| plan.disk_driver(LogBackend::Uring, thread);
        assert_eq!(driver(&few, LogThread::Auto), DriverKind::RingInline);
        assert_eq!(driver(&few, LogThread::Dedicated), DriverKind::RingThread);
        assert_eq!(driver(&many, LogThread::Auto), DriverKind::RingThread);
        assert_eq!(driver(&many, LogThread::Inline), DriverKind::RingInline);
        assert_eq!(few.disk_driver(LogBackend::Syscalls, LogThread::Auto), DriverKind::Syscalls);
        assert_eq!((few.disk_cpus(), many.disk_cpus()), (vec![], vec![1, 2]));
    }

    #[test]
    fn spins_by_itself_only_with_cores_to_spare() {
        let spin =
            |cpus: &[usize], spin| Plan::from_machine(Some(cpus), Pin::Off, spin, &[0, 1], Some(2)).unwrap().spin;
        assert_eq!(spin(&[0, 1], None), Duration::ZERO);
        assert_eq!(spin(&[0, 1, 2], None), AUTO_SPIN);
        assert_eq!(spin(&[0], Some(Duration::from_micros(50))), Duration::from_micros(50));
    }

    #[test]
    fn a_part_of_the_time_never_reads_as_more_than_the_whole() {
        let ms = Duration::from_millis;
        assert_eq!([permille(ms(0), ms(8)), permille(ms(2), ms(8)), permille(ms(8), ms(8))], [0, 250, 1000]);
        assert_eq!(permille(ms(9), ms(8)), 1000, "a look that came between two accounts");
        assert_eq!(permille(ms(0), ms(0)), 0);
    }

    #[test]
    fn work_is_busy_and_waiting_is_not() {
        reactor::run_here(async {
            let mut meter = LoadMeter::start();
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(20) {
                std::hint::spin_loop();
            }
            assert!(meter.busy_permille() > 990, "however much else the machine does");
            let slept = reactor::slept();
            reactor::sleep(Duration::from_millis(20)).await;
            assert!(reactor::slept() - slept >= Duration::from_millis(19), "{:?}", reactor::slept() - slept);
        });
    }
}
