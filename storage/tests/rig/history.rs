//! What was promised, and whether a disk holds it.

use ringkeeper_storage::{Opened, StoreConfig, Zxid};

use super::{SharedDisk, bytes, node, payload, replayed};

/// What was appended, as far as it may still exist.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The life each zxid from 1 on was written in.
    pub lives: Vec<u64>,
    /// Nothing up to here may be lost.
    pub promised: u64,
}

impl History {
    pub fn last(&self) -> u64 {
        self.lives.len() as u64
    }

    /// The next zxid, and what its record says.
    pub fn next(&mut self, life: u64) -> (Zxid, Vec<u8>) {
        self.lives.push(life);
        (Zxid(self.last()), payload(self.last(), life))
    }

    /// Opens the disk: what comes back is a prefix of what was appended, whole, and holds all that was promised.
    pub fn check(&self, disk: &SharedDisk, config: &StoreConfig, tag: &str) -> (Opened<SharedDisk>, u64) {
        if config.strategy.is_durable() {
            bytes::check_marks(disk, tag);
        }
        let mut opened = disk.open(config).unwrap_or_else(|error| panic!("{tag}: {error}"));
        let snapshot = opened.snapshot_header().map_or(0, |header| header.zxid);
        let mut nodes = 0;
        opened
            .for_each_node(|image| {
                assert_eq!(image, node(nodes), "{tag}");
                nodes += 1;
            })
            .unwrap();
        let mut next = snapshot + 1;
        for (zxid, bytes) in replayed(&mut opened) {
            assert_eq!(zxid, next, "{tag}");
            assert!(zxid <= self.last(), "{tag}: {zxid} was never written");
            assert_eq!(bytes, payload(zxid, self.lives[zxid as usize - 1]), "{tag}: a record of another life");
            next += 1;
        }
        let last = next - 1;
        assert_eq!(opened.report().last_zxid, Zxid(last), "{tag}");
        assert!(last >= self.promised, "{tag}: {last} came back, {} was acknowledged", self.promised);
        assert!(last <= self.last(), "{tag}");
        (opened, last)
    }

    /// What came back is all there is, and from now on nothing of it may be lost.
    pub fn goes_on_from(&mut self, last: u64) {
        self.lives.truncate(last as usize);
        self.promised = last;
    }
}
