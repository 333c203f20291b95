//! Gives the running snapshot its turns, each after the rest that its pace (`snapshot_pace.rs`) asks for.

use std::time::Duration;

use crate::shell::pipeline::PipelineHandle;
use crate::shell::turn::next_turn;

/// Runs until the executor ends.
pub async fn run(pipeline: PipelineHandle) {
    let due = pipeline.borrow().snapshot_due();
    loop {
        due.lowered().await;
        let rest_us = pipeline.borrow().snapshot_rest_us();
        if rest_us == 0 {
            next_turn().await; // whoever is ready comes first
        } else {
            glommio::timer::sleep(Duration::from_micros(rest_us)).await;
        }
        pipeline.borrow_mut().give_snapshot_turn();
    }
}
