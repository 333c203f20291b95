//! What is told of a run: a hash of everything that happened, always, and sentences for people, if anybody wants them.

use std::fmt::{self, Write};

/// How much is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    #[default]
    Silent,
    /// Faults, roles, starts and ends.
    Story,
    /// What every server logs and applies, and what clients see.
    Events,
    /// Every message and every operation.
    Everything,
}

/// Takes one line.
pub type Sink = Box<dyn FnMut(&str)>;

pub struct Trace {
    hash: u64,
    level: Level,
    sink: Option<Sink>,
    line: String,
    pub now_us: u64,
}

impl Trace {
    pub fn new(level: Level, sink: Option<Sink>) -> Trace {
        let level = if sink.is_some() { level } else { Level::Silent };
        Trace { hash: 0xcbf2_9ce4_8422_2325, level, sink, line: String::new(), now_us: 0 }
    }

    /// Takes a number into the hash.
    pub fn mix(&mut self, number: u64) {
        // The finalizer of splitmix64 over a running value.
        let mut z = self.hash.rotate_left(5) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.hash = z ^ (z >> 27);
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn tells(&self, level: Level) -> bool {
        self.level >= level
    }

    /// Tells, if anybody listens to that level.
    pub fn tell(&mut self, level: Level, what: fmt::Arguments<'_>) {
        if self.level < level {
            return;
        }
        self.line.clear();
        let (seconds, us) = (self.now_us / 1_000_000, self.now_us % 1_000_000);
        write!(self.line, "{seconds:4}.{us:06}  {what}").expect("writing to a string");
        if let Some(sink) = &mut self.sink {
            sink(&self.line);
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({:016x})", self.hash)
    }
}
