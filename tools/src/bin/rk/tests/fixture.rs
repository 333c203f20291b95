//! Data directories as a server writes them: the real tree, the real store, a disk that answers at once.

use std::path::{Path, PathBuf};

use ringkeeper::core::tree::{DataTree, TreeOptions, Unwatched};
use ringkeeper::wire::client::Acl;
use ringkeeper::wire::txn::{CreateKind, DIGEST_VERSION, Txn, TxnDigest, TxnHeader, encode_txn};
use ringkeeper_storage::backend::blocking::BlockingDisk;
use ringkeeper_storage::disk::Disk;
use ringkeeper_storage::{DIRECTORY, Store, StoreConfig, StoreEvent, Zxid, open_on};

pub const SESSION: i64 = 0x1_0000_0000;
pub const START_MS: i64 = 1_795_251_797_000;

pub struct Server {
    store: Store,
    disk: BlockingDisk,
    pub tree: DataTree,
    pub sessions: Vec<(i64, i32)>,
}

impl Server {
    pub fn fresh(directory: &Path) -> Server {
        std::fs::create_dir_all(directory.join(DIRECTORY)).unwrap();
        let small = StoreConfig {
            segment_bytes: 64 << 10,
            batch_bytes_max: 8 << 10,
            reserve_bytes: 16 << 10,
            mark_bytes: 16 << 10,
            ..StoreConfig::new(directory, directory)
        };
        let opened = open_on(BlockingDisk::default(), small).unwrap();
        let (store, disk) = opened.into_store_and_disk().unwrap();
        let options = TreeOptions { extended_types: true, emulate_353_ttl: false, hash_seed: 0 };
        let mut server = Server { store, disk, tree: DataTree::new(options), sessions: Vec::new() };
        server.drain();
        server
    }

    /// Logs and applies one transaction, in a batch of its own.
    pub fn commit(&mut self, txn: &Txn<'_>) -> Zxid {
        let zxid = self.append(txn);
        self.drain();
        zxid
    }

    /// Into the batch that is being filled.
    pub fn append(&mut self, txn: &Txn<'_>) -> Zxid {
        let zxid = Zxid(self.tree.last_processed().0 + 1);
        let time_ms = START_MS + zxid.0 as i64 * 10;
        let header = TxnHeader { client_id: SESSION, cxid: zxid.0 as i32, zxid: zxid.0 as i64, time_ms };
        self.tree.apply(&header, txn, &mut Unwatched);
        match txn {
            Txn::CreateSession { timeout_ms } => self.sessions.push((SESSION, *timeout_ms)),
            Txn::CloseSession { .. } => self.sessions.clear(),
            _ => {}
        }
        let digest = TxnDigest { version: DIGEST_VERSION, tree_digest: self.tree.digest() as i64 };
        let mut bytes = Vec::new();
        encode_txn(&header, txn, Some(digest), &mut bytes);
        self.store.append(zxid, &bytes);
        zxid
    }

    pub fn drain(&mut self) {
        let mut ops = Vec::new();
        let mut events = Vec::new();
        loop {
            self.store.give_snapshot_turn(&mut events);
            self.store.poll_ops(&mut ops);
            if ops.is_empty() {
                break;
            }
            for op in ops.drain(..) {
                let event = self.disk.run(op);
                self.store.on_event(event, &mut events);
            }
        }
        for event in events {
            if let StoreEvent::Failed(error) = event {
                panic!("{error}");
            }
        }
    }

    pub fn snapshot(&mut self) -> Zxid {
        let (walk, mut header) = self.tree.begin_snapshot();
        header.sessions = self.sessions.clone();
        let zxid = Zxid(header.zxid);
        self.store.begin_snapshot(header);
        while let Some(chunk) = self.tree.snapshot_slice(walk, 2000) {
            self.drain();
            self.store.snapshot_chunk(chunk);
        }
        self.store.finish_snapshot();
        self.drain();
        self.tree.abandon_snapshot(walk);
        zxid
    }
}

pub fn create<'a>(path: &'a str, data: &'a [u8], kind: CreateKind) -> Txn<'a> {
    let acl = vec![Acl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) }];
    Txn::Create { path: path.into(), data: Some(data), acl, kind, parent_cversion: -1, create2: true }
}

/// A small server's life: two snapshots, three segments, every kind of node and transaction that matters here.
pub fn lived_in(directory: &Path) -> Server {
    let mut server = Server::fresh(directory);
    server.commit(&Txn::CreateSession { timeout_ms: 10_000 });
    server.commit(&create("/app", b"root of it", CreateKind::Persistent));
    for number in 0..12 {
        server.append(&create(&format!("/app/n{number:02}"), &[b'x'; 100], CreateKind::Persistent));
    }
    server.drain();
    server.snapshot();
    server.commit(&Txn::SetData { path: "/app/n03".into(), data: Some(b"changed"), version: 1 });
    server.commit(&create("/app/ephemeral", b"", CreateKind::Ephemeral));
    server.commit(&Txn::Multi(vec![
        create("/app/from-multi", b"a", CreateKind::Container),
        Txn::Delete { path: "/app/n00".into() },
    ]));
    server.commit(&Txn::Error { code: -101 });
    server.snapshot();
    for number in 0..12 {
        server.commit(&Txn::SetData { path: "/app/n05".into(), data: Some(&[number; 700]), version: number.into() });
    }
    server.commit(&Txn::CloseSession { paths: Some(vec!["/app/ephemeral".into()]) });
    server
}

/// The files of our directory whose names begin like this, in order.
pub fn files(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory.join(DIRECTORY)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix));
    files.sort();
    files
}

pub fn damage(path: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    how(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}
