//! Getting a ring from this kernel, or the reason why there is none and what to do about it.

use std::io;

use io_uring::{IoUring, Probe, opcode};

use super::ENTRIES;

/// Why there is no ring, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("io_uring is not available: {cause}. {cure}")]
pub struct RingUnavailable {
    pub cause: String,
    pub cure: String,
}

impl RingUnavailable {
    pub(in crate::backend) fn from_error(error: &io::Error) -> RingUnavailable {
        explain(error)
    }
}

/// The best ring this kernel makes.
pub(super) fn build() -> io::Result<IoUring> {
    let deferred = IoUring::builder().setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().build(ENTRIES);
    let invalid = |error: &io::Error| error.raw_os_error() == Some(libc::EINVAL);
    let cooperative = match deferred {
        Err(error) if invalid(&error) => IoUring::builder().setup_coop_taskrun().setup_taskrun_flag().build(ENTRIES),
        other => other,
    };
    match cooperative {
        Err(error) if invalid(&error) => IoUring::builder().build(ENTRIES),
        other => other,
    }
}

pub(super) fn check_operations(ring: &IoUring) -> Result<(), RingUnavailable> {
    let wanted = [
        (opcode::OpenAt::CODE, "openat"),
        (opcode::Close::CODE, "close"),
        (opcode::Fallocate::CODE, "fallocate"),
        (opcode::Read::CODE, "read"),
        (opcode::Write::CODE, "write"),
        (opcode::WriteFixed::CODE, "write_fixed"),
        (opcode::Fsync::CODE, "fsync"),
        (opcode::RenameAt::CODE, "renameat"),
        (opcode::UnlinkAt::CODE, "unlinkat"),
    ];
    let mut probe = Probe::new();
    let known = ring.submitter().register_probe(&mut probe).is_ok();
    match wanted.iter().find(|(code, _)| !known || !probe.is_supported(*code)) {
        None => Ok(()),
        Some((_, name)) => Err(RingUnavailable {
            cause: format!("this kernel's io_uring has no {name}"),
            cure: "Linux 5.11 is the oldest that will do, 6.1 the oldest that is recommended".to_owned(),
        }),
    }
}

pub(super) fn explain(error: &io::Error) -> RingUnavailable {
    let switch = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let (cause, cure) = match (error.raw_os_error(), switch.trim()) {
        (Some(libc::EPERM), "2") => (
            "it is switched off for everybody (kernel.io_uring_disabled=2)".to_owned(),
            "As root: sysctl kernel.io_uring_disabled=0, and the same in /etc/sysctl.d",
        ),
        (Some(libc::EPERM), "1") => (
            "it is switched off for this user (kernel.io_uring_disabled=1)".to_owned(),
            "As root: put the server's group id into kernel.io_uring_group, or set kernel.io_uring_disabled=0",
        ),
        (Some(libc::EPERM | libc::EACCES), _) => (
            "a security policy forbids it (seccomp; the default of Docker, containerd and Podman)".to_owned(),
            "Run the container with a seccomp profile that allows io_uring_setup, io_uring_enter, io_uring_register and epoll_pwait2",
        ),
        (Some(libc::ENOSYS), _) => (
            "the kernel was built without it, or a security policy hides it".to_owned(),
            "Use Linux 5.11 or newer with CONFIG_IO_URING, or a seccomp profile that allows the io_uring_* calls",
        ),
        (Some(libc::ENOMEM), _) => (
            "the limit on locked memory is too small".to_owned(),
            "Raise it: LimitMEMLOCK=infinity in the systemd unit, or ulimit -l unlimited",
        ),
        (Some(libc::EMFILE | libc::ENFILE), _) => {
            ("too many open files".to_owned(), "Raise the limit: LimitNOFILE=1048576 in the systemd unit, or ulimit -n")
        }
        _ => (error.to_string(), "Look for io_uring in the kernel's and the container's settings"),
    };
    RingUnavailable { cause, cure: cure.to_owned() }
}
