//! Giving the reactor its turn.
//!
//! The runtime looks at sockets, timers and the disk only when no task of the executor is runnable, or when its preempt timer
//! has fired. Its preempt timer cannot be used: when it fires before the first task of a round has run (a thread that was
//! off its CPU for a moment is enough), glommio 0.9 takes the round for idle and goes to sleep although tasks are runnable;
//! they then wait for the next event, at start-up for ever (`LocalExecutor::run`, `run_task_queues`; decision 0004). So it is
//! set out of reach (`placement.rs`), and a task that could go on without end lets the reactor look in between, by itself.

use std::time::Duration;

/// Long enough to be still ahead when it is first looked at, so that the wait really goes through the reactor.
const MOMENT: Duration = Duration::from_micros(20);

/// Resolves after the reactor has looked at sockets, timers and the disk.
pub async fn next_turn() {
    glommio::timer::sleep(MOMENT).await;
}

/// Counts what a task does in one go. A task that never runs out of work calls `done_one` after each piece.
#[derive(Debug)]
pub struct Share {
    pieces: u32,
    left: u32,
}

impl Share {
    pub fn of(pieces: u32) -> Share {
        Share { pieces, left: pieces }
    }

    /// Lets the other tasks run, and now and then the reactor.
    pub async fn done_one(&mut self) {
        self.left -= 1;
        if self.left == 0 {
            self.left = self.pieces;
            next_turn().await;
        } else {
            futures_lite::future::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use glommio::{LocalExecutorBuilder, Placement};

    use super::*;

    /// Timers are served by the reactor: a task that takes turns lets one fire, however long it goes on.
    #[test]
    fn a_task_without_end_does_not_keep_a_timer_from_firing() {
        let fired_after = LocalExecutorBuilder::new(Placement::Unbound)
            .preempt_timer(crate::shell::placement::PREEMPT)
            .spawn(|| async {
                let fired = Rc::new(Cell::new(false));
                let timer = fired.clone();
                glommio::spawn_local(async move {
                    glommio::timer::sleep(Duration::from_millis(1)).await;
                    timer.set(true);
                })
                .detach();
                let mut share = Share::of(8);
                let mut pieces = 0u64;
                while !fired.get() && pieces < 10_000_000 {
                    share.done_one().await;
                    pieces += 1;
                }
                pieces
            })
            .unwrap()
            .join()
            .unwrap();
        assert!(fired_after < 10_000_000, "the timer never fired");
    }
}
