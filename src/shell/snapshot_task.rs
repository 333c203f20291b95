//! Gives the running snapshot its turns, each after the rest that its pace (`snapshot_pace.rs`) asks for; and likewise, before
//! there can be one, the move of the snapshot we started from into memory.

use std::time::Duration;

use crate::shell::pipeline::PipelineHandle;
use crate::shell::reactor::{self, next_turn};

/// Runs until the executor ends.
pub async fn run(pipeline: PipelineHandle) {
    let due = pipeline.borrow().snapshot_due();
    loop {
        due.lowered().await;
        let rest_us = pipeline.borrow().snapshot_rest_us();
        rest(rest_us).await;
        pipeline.borrow_mut().give_snapshot_turn();
    }
}

/// Moves nodes into memory whenever there is a snapshot to move them from: at the start, and after a leader's state took the
/// place of what was stored. Runs until the executor ends.
pub async fn move_nodes(pipeline: PipelineHandle) {
    let mapped = pipeline.borrow().snapshot_mapped();
    loop {
        let rests = pipeline.borrow_mut().move_nodes();
        match rests {
            Some(rest_us) => rest(rest_us).await,
            None => mapped.lowered().await,
        }
    }
}

async fn rest(rest_us: u64) {
    match rest_us {
        0 => next_turn().await, // whoever is ready comes first
        _ => reactor::sleep(Duration::from_micros(rest_us)).await,
    }
}
