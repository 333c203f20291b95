//! ringkeeper's disk: every byte that outlives the process.
//!
//! ```text
//! <dataDir>/ringkeeper-1/               <dataLogDir>/ringkeeper-1/     (the same directory unless configured apart)
//!   lock                                  lock
//!   snapshot-0000000100000042.rks         log-0000000000000003.seg   purged, kept to be used again
//!   snapshot-00000001000003e8.tmp         log-0000000000000006.seg   full
//!   snapshot-00000001000000aa.damaged     log-0000000000000007.seg   batches, then a former life's: being written
//!   acceptedEpoch  currentEpoch           log-0000000000000008.seg   header, no batch of its own: ready, one ahead
//!   state-new  state-lost  ...            log-0000000000000009.tmp   being made, from nothing or from a purged one
//!   version-2.seen  (the server's)
//!                                         log-0000000000000007.cut-0000000100000005   a truncation that was decided
//! ```
//!
//! A start maps the newest whole snapshot, which is read where it lies, and reads the log behind it (`open`, `Opened`). In
//! service a `Store` takes records and snapshot chunks and says what is durable. All of its thinking is free of input and
//! output: `disk.rs` has the words it speaks with a disk, `backend/` the disks that speak them: the ring, plain system calls,
//! and memory for tests. `docs/STORAGE.md` draws every byte and names the test of each promise.
//!
//! | file | holds |
//! | --- | --- |
//! | `store.rs` | the two lives of a store: opened, in service |
//! | `config.rs`, `event.rs`, `error.rs` | what it is told, what it tells, why it refuses |
//! | `log/batch.rs`, `log/segment.rs`, `log/span.rs` | the log's bytes; which segment holds what |
//! | `log/append.rs`, `log/prepare.rs`, `log/recycle.rs` | writing it; the next segment, one ahead; purged ones used again |
//! | `log/sync_strategy.rs` | how a batch becomes durable, and when it may be acknowledged |
//! | `log/range.rs`, `log/truncate.rs` | reading what was committed; giving up what a leader does not know |
//! | `epoch_file.rs` | the two numbers of ZAB |
//! | `standing.rs` | whether everything is here that ever was; giving up, setting aside or replacing all of it |
//! | `log/recover.rs` | what counts after a crash, and what refuses to start |
//! | `snapshot/` | `image.rs`, `chunk.rs`, `index.rs`, `manifest.rs`: its bytes; `body.rs`, `write.rs`: writing |
//! | | `load.rs`, `file.rs`, `source.rs`: finding it; reading it where it lies, node by node |
//! | `java/` | directories of Java servers, to read and to write |
//! | `shortage.rs` | what goes, and in which order, when the disk is full |
//! | `pages.rs` | the memory behind buffers |
//! | `set_aside.rs` | making room without deleting |
//! | `probe.rs` | branches counted and rules broken by a simulation; nothing otherwise |
//! | `inspect/` | the same bytes for tools: everything that is there, whatever is damaged |
//! | `backend/uring.rs` | operations on io_uring |
//! | `backend/driver.rs`, `threads.rs` | the ring here, the ring on its own thread, plain calls on threads |
//! | `backend/blocking.rs`, `lock.rs`, `facts.rs` | the start: plain calls, one server a directory, what the disk is |
//! | `backend/view.rs` | a finished file as memory |
//! | `backend/memory.rs`, `faulty.rs` | a disk that forgets what was not flushed; one that fails on demand |
//!
//! Not here, on purpose: what a record or a node means (the server's core). `unsafe` is in `backend/` only.

pub mod backend;
mod config;
pub mod disk;
mod epoch_file;
mod error;
mod event;
pub mod inspect;
pub mod java;
mod log;
mod pages;
pub mod probe;
mod read;
mod set_aside;
mod shortage;
mod snapshot;
mod standing;
mod store;
mod zxid;

pub use backend::driver::{DiskDriver, DriverKind, DriverUnavailable};
pub use backend::facts::{Alignment, DeviceQueue, DiskFacts, Journal, StorageFacts};
pub use backend::threads::DiskThreadEnded;
pub use backend::uring::{Ring, RingUnavailable};
pub use config::{DIRECTORY, StoreConfig};
pub use epoch_file::{EpochKind, Epochs};
pub use error::{Damage, LogError, SnapshotError, StoreError};
pub use event::{LogRoom, RecoveryReport, SnapshotDone, StoreEvent, StoreStats};
pub use log::range::{LogWindow, RangeId};
pub use log::sync_strategy::LogStrategy;
pub use set_aside::{kept_promise, promise_is_stored, set_aside};
pub use snapshot::file::SnapshotFile;
pub use snapshot::image::{AclImage, AclListImage, NO_SLOT, NodeImage, SnapshotChunk, SnapshotHeader};
pub use snapshot::index::ChildKeys;
pub use snapshot::source::{NodeRef, OwnedSlot, SnapshotSource};
pub use standing::Standing;
pub use store::{Opened, Store, open, open_despite_loss, open_on, open_on_despite_loss, open_snapshot};
pub use zxid::Zxid;
