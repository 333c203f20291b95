//! Signals, taken by a thread of their own. Spec: operations 1.11.
//!
//! SIGTERM and SIGINT end the server cleanly; a second one ends it at once. SIGQUIT, which makes a JVM print its threads,
//! writes a line about queues and disk into the log (within a tick). SIGHUP would otherwise kill a server whose
//! terminal goes away, SIGUSR1 and SIGUSR2 one whose logs somebody rotates; there is nothing to re-read or to reopen. SIGXFSZ
//! (a write beyond `ulimit -f`) would kill it without a word, while the failed write itself ends it with one. Java:
//! `JVM shutdown hooks`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;
use tracing::{info, warn};

/// Asks the pipeline executor to end, from any thread.
#[derive(Clone, Debug, Default)]
pub struct StopRequest {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    requested: AtomicBool,
    /// Somebody looks whether it is.
    heeded: AtomicBool,
    state_wanted: AtomicBool,
    waker: AtomicWaker,
}

impl StopRequest {
    /// False when it had been asked before.
    pub fn ask(&self) -> bool {
        let first = !self.shared.requested.swap(true, Ordering::AcqRel);
        self.shared.waker.wake();
        first
    }

    /// Whether somebody wants to see the server's state in its log; true once per SIGQUIT.
    pub fn take_state_wanted(&self) -> bool {
        self.shared.state_wanted.swap(false, Ordering::AcqRel)
    }

    /// Ready once asked. One waiter.
    pub fn poll_asked(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.heeded.store(true, Ordering::Release);
        self.shared.waker.register(cx.waker());
        if self.shared.requested.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Starts the thread that turns signals into a stop request.
pub fn listen(stop: StopRequest) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGXFSZ])?;
    std::thread::Builder::new().name("rk-signals".into()).spawn(move || {
        for signal in signals.forever() {
            match signal {
                SIGXFSZ => warn!("a file may not grow any further (ulimit -f)"),
                SIGQUIT => stop.shared.state_wanted.store(true, Ordering::Release),
                SIGHUP => info!("SIGHUP: there is nothing to re-read"),
                SIGUSR1 | SIGUSR2 => info!("signal {signal}: there is nothing to reopen"),
                _ => match (stop.shared.heeded.load(Ordering::Acquire), stop.ask()) {
                    // Whatever the start does, it may be killed at any moment; a port that is in use it waits for without end.
                    (false, _) => {
                        info!("signal {signal}: stopping, before anybody was served");
                        std::process::exit(0);
                    }
                    (true, true) => info!("signal {signal}: stopping; a second one stops at once"),
                    (true, false) => {
                        warn!("signal {signal} again: stopping at once");
                        std::process::exit(1);
                    }
                },
            }
        }
    })?;
    Ok(())
}
