//! The CPUs of this machine and of this process, and threads that leave the one they were born on.

use std::sync::OnceLock;

use rustix::thread::CpuSet;

/// The CPUs that this process was given, as of the first call: by the thread that makes the others.
static GIVEN: OnceLock<Option<CpuSet>> = OnceLock::new();

pub fn remember_given_cpus() {
    GIVEN.get_or_init(|| rustix::thread::sched_getaffinity(None).ok());
}

/// For a thread that is no executor: it was born with the CPU of the executor that made it, and would take that one's time.
pub fn leave_executors_cpu() {
    if let Some(Some(given)) = GIVEN.get() {
        let _ = rustix::thread::sched_setaffinity(None, given); // it runs where it is: slower at worst
    }
}

/// Those of the affinity mask; none if it cannot be read.
pub fn allowed_cpus() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(mask) => (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| mask.is_set(*cpu)).collect(),
        Err(_) => Vec::new(),
    }
}

/// CPUs of the machine, whether ours or not.
pub fn online_cpus() -> Option<usize> {
    count_cpu_list(&std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?)
}

/// Counts the CPUs of a kernel list like `0-3,8`.
fn count_cpu_list(list: &str) -> Option<usize> {
    list.trim()
        .split(',')
        .map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then(|| last - first + 1)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_of_the_kernel() {
        assert_eq!(count_cpu_list("0-3,8,10-11\n"), Some(7));
        assert_eq!(count_cpu_list("0"), Some(1));
        assert_eq!(count_cpu_list("3-1"), None);
        assert_eq!(count_cpu_list(""), None);
    }
}
