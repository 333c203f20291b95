//! The promises, one a file, checked whenever something happens.

use super::event::{Event, Moment, Settled, Violation};
use crate::core::ServerId;

/// All of them, and the truth they share.
#[derive(Debug, Default)]
pub struct Properties {}

impl Properties {
    pub fn new(voters: &[ServerId]) -> Properties {
        let _ = voters;
        Properties {}
    }

    /// Everything that happens, in order.
    pub fn observe(&mut self, at: Moment, event: &Event) -> Result<(), Violation> {
        let _ = (at, event);
        Ok(())
    }

    /// After the liveness phase: everybody is up and in step.
    pub fn at_end(&mut self, at: Moment, settled: &[Settled]) -> Result<(), Violation> {
        let _ = (at, settled);
        Ok(())
    }
}
