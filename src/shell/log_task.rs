//! When a batch leaves for the disk, and what its completion wakes. Owns the ring; the pipeline owns the store.
//!
//! A write appends to the store's open batch and raises a flag. This task then steps back once, so that every connection
//! that is ready right now can add to the batch, and submits: group commit without any waiting. While a batch is in flight
//! the store collects the next one, which leaves the moment the completion is in, before the replies are written.

use ringkeeper_storage::Ring;

use crate::shell::pipeline::PipelineHandle;

/// Runs until the executor ends.
pub async fn run(pipeline: PipelineHandle, mut ring: Ring) {
    let work = pipeline.borrow().disk_work();
    let mut ops = Vec::new();
    let mut events = Vec::new();
    loop {
        let submit_only = futures_lite::future::or(
            async {
                work.lowered().await;
                true
            },
            async {
                ring.ready().await;
                false
            },
        )
        .await;
        if submit_only {
            futures_lite::future::yield_now().await;
        }
        if ring.completions(&mut events) > 0 {
            pipeline.borrow_mut().take_disk_events(&mut events);
        }
        pipeline.borrow_mut().poll_disk(&mut ops);
        if !ops.is_empty() {
            ring.submit(&mut ops);
        }
        pipeline.borrow_mut().tell_core_of_disk();
    }
}
