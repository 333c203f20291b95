//! The ring.
use crate::disk::{DiskEvent, DiskOp};

#[derive(Debug, thiserror::Error)]
#[error("io_uring is not available: {cause}. {cure}")]
pub struct RingUnavailable {
    pub cause: String,
    pub cure: String,
}

pub struct Ring {}

impl Ring {
    /// On the thread that will use it.
    pub fn new() -> Result<Ring, RingUnavailable> {
        unimplemented!("next commit")
    }
    /// Takes every operation and starts it.
    pub fn submit(&mut self, _ops: &mut Vec<DiskOp>) {
        unimplemented!("next commit")
    }
    /// What has completed, without waiting. Returns how many.
    pub fn completions(&mut self, _out: &mut Vec<DiskEvent>) -> usize {
        unimplemented!("next commit")
    }
    /// Blocks the thread until something completes (at once when nothing is in flight).
    pub fn wait(&mut self) {
        unimplemented!("next commit")
    }
    pub fn in_flight(&self) -> usize {
        unimplemented!("next commit")
    }
    /// Inside a glommio executor: resolves when `completions` may have something. Await it in a loop.
    pub async fn ready(&self) {
        unimplemented!("next commit")
    }
}
