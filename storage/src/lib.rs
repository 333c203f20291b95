//! ringkeeper's disk: every byte that outlives the process.

pub mod backend;
mod config;
pub mod disk;
mod error;
mod log;
mod read;
mod snapshot;
mod store;
mod zxid;

pub use backend::facts::{DiskFacts, StorageFacts};
pub use backend::uring::{Ring, RingUnavailable};
pub use config::{DIRECTORY, StoreConfig};
pub use error::{Damage, LogError, SnapshotError, StoreError};
pub use snapshot::image::{AclImage, NodeImage, SnapshotHeader};
pub use store::{LogRoom, Opened, RecoveryReport, SnapshotDone, Store, StoreEvent, StoreStats, open, open_on};
pub use zxid::Zxid;
