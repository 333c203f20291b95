//! The data tree digest: a sum of node digests that every server must agree on after every transaction.
//!
//! A node's digest is a CRC over path, data and 60 bytes of stat. The first two change rarely, so a node keeps the CRC of
//! those and a changed stat costs 60 bytes of CRC. Spec: semantics 16. Java: `DigestCalculator`.

use crc32fast::Hasher;
use ringkeeper_storage::NodeRef;

/// The persisted part of a Stat: `cversion` is the raw create counter, `ephemeral_owner` the stored encoding.
/// Java: `StatPersisted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawStat {
    pub czxid: i64,
    pub mzxid: i64,
    pub pzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
}

impl From<&NodeRef<'_>> for RawStat {
    fn from(image: &NodeRef<'_>) -> RawStat {
        let NodeRef { czxid, mzxid, pzxid, ctime, mtime, version, cversion, aversion, ephemeral_owner, .. } = *image;
        RawStat { czxid, mzxid, pzxid, ctime, mtime, version, cversion, aversion, ephemeral_owner }
    }
}

/// Whether a node at this path is part of the tree digest. `/zookeeper` itself is, what is below it is not.
pub fn counts(path: &str) -> bool {
    !path.starts_with("/zookeeper/")
}

/// CRC of path and data, the part of a node's digest that stat changes leave alone. The root counts as the empty path.
pub fn content_crc(path: &str, data: Option<&[u8]>) -> u32 {
    let path = if path == "/" { "" } else { path };
    continue_crc(continue_crc(0, path.as_bytes()), data.unwrap_or_default())
}

/// The CRC of some bytes followed by `more`, from the CRC of the former.
pub fn continue_crc(crc: u32, more: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(crc);
    hasher.update(more);
    hasher.finalize()
}

pub fn node_digest(content_crc: u32, stat: &RawStat) -> u64 {
    u64::from(continue_crc(content_crc, &stat_bytes(stat)))
}

fn stat_bytes(stat: &RawStat) -> [u8; 60] {
    let mut bytes = [0; 60];
    for (at, value) in [(0, stat.czxid), (8, stat.mzxid), (16, stat.pzxid), (24, stat.ctime), (32, stat.mtime)] {
        bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
    }
    for (at, value) in [(40, stat.version), (44, stat.cversion), (48, stat.aversion)] {
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    bytes[52..].copy_from_slice(&stat.ephemeral_owner.to_be_bytes());
    bytes
}
