//! Wakes from other threads: which tasks, and a bell for a reactor that sleeps.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

#[derive(Debug)]
pub struct Calls {
    /// Tasks that were called.
    tasks: Mutex<Vec<usize>>,
    /// The reactor is asleep, or about to be, and nobody has rung yet.
    asleep: AtomicBool,
    bell: OwnedFd,
}

impl Calls {
    pub fn new() -> io::Result<Calls> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Calls { tasks: Mutex::default(), asleep: AtomicBool::new(false), bell })
    }

    /// To be watched by edges: it is never read, and its count lasts for as many rings as there will ever be.
    pub fn bell(&self) -> impl AsFd + '_ {
        &self.bell
    }

    /// From any thread.
    pub fn call(&self, task: usize) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        if self.asleep.swap(false, Ordering::SeqCst) {
            // It fails only when nobody has looked for 2^64 rings.
            let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        }
    }

    /// Before the reactor sleeps. Whoever calls after a `true` rings.
    pub fn may_sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    pub fn take(&self) -> Vec<usize> {
        std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
