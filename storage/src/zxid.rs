//! The transaction id: the one word of ZooKeeper's that storage knows.

/// A transaction id: epoch in the upper 32 bits, counter in the lower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zxid(pub u64);

impl Zxid {
    pub const ZERO: Zxid = Zxid(0);
    pub fn new(epoch: u32, counter: u32) -> Zxid {
        Zxid(u64::from(epoch) << 32 | u64::from(counter))
    }

    pub fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }
    pub fn counter(self) -> u32 {
        self.0 as u32
    }

    /// Whether a history can go on from `before` to this: the next of its epoch, or the first of a later one.
    pub fn can_follow(self, before: Zxid) -> bool {
        before.0.checked_add(1) == Some(self.0) || self.begins_an_epoch_behind(before)
    }

    pub fn begins_an_epoch_behind(self, before: Zxid) -> bool {
        self.epoch() > before.epoch() && self.counter() == 1
    }
}

impl std::fmt::Display for Zxid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
