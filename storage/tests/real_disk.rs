//! The store on a real disk through a real ring: what goes in comes out again after every way of stopping.

use std::path::Path;

use ringkeeper_storage::{
    NO_SLOT, NodeImage, Opened, Ring, SnapshotChunk, SnapshotHeader, Store, StoreConfig, StoreError, StoreEvent, Zxid,
    open, set_aside,
};

struct Server {
    store: Store,
    ring: Ring,
    durable: Zxid,
    events: Vec<StoreEvent>,
}

impl Server {
    fn start(opened: Opened) -> Server {
        Server {
            durable: opened.report().last_zxid,
            store: opened.into_store().unwrap(),
            ring: Ring::new().unwrap(),
            events: Vec::new(),
        }
    }

    /// One turn of the shell's loop.
    fn turn(&mut self) {
        let (mut ops, mut completed, mut out) = (Vec::new(), Vec::new(), Vec::new());
        self.store.give_snapshot_turn(&mut out);
        self.store.poll_ops(&mut ops);
        self.ring.submit(&mut ops);
        self.ring.wait();
        self.ring.completions(&mut completed);
        for event in completed {
            self.store.on_event(event, &mut out);
        }
        for event in out {
            match event {
                StoreEvent::Durable(zxid) => {
                    assert!(zxid > self.durable);
                    self.durable = zxid;
                }
                StoreEvent::Failed(error) => panic!("{error}"),
                other => self.events.push(other),
            }
        }
    }

    fn settle(&mut self) {
        while !self.store.is_idle() {
            self.turn();
        }
    }
}

fn config(directory: &Path) -> StoreConfig {
    StoreConfig { segment_bytes: 1 << 20, batch_bytes_max: 64 << 10, ..StoreConfig::new(directory, directory) }
}

fn record(zxid: u64) -> Vec<u8> {
    (0..(zxid * 37 % 700) as usize).map(|at| (zxid as usize + at) as u8).collect()
}

fn check_log(opened: &mut Opened, first: u64, last: u64) {
    let mut next = first;
    opened
        .replay(|zxid, payload| {
            assert_eq!(zxid, Zxid(next));
            assert_eq!(payload, record(next));
            next += 1;
        })
        .unwrap();
    assert_eq!(next, last + 1);
}

fn node(slot: u32) -> NodeImage {
    NodeImage {
        slot,
        parent: slot / 2,
        first_child: NO_SLOT,
        next_sibling: NO_SLOT,
        prev_sibling: NO_SLOT,
        child_count: 0,
        content_crc: 0,
        name: format!("node-{slot}").into(),
        data: (!slot.is_multiple_of(3)).then(|| vec![slot as u8; slot as usize % 5000]),
        acl: slot % 4,
        czxid: 1,
        mzxid: 2,
        pzxid: 3,
        ctime: 4,
        mtime: 5,
        version: 6,
        cversion: 7,
        aversion: 8,
        ephemeral_owner: 0,
    }
}

fn header(zxid: u64, nodes: u32) -> SnapshotHeader {
    SnapshotHeader {
        zxid,
        tree_digest: 99,
        node_count: nodes.into(),
        slot_count: nodes,
        data_bytes: 0,
        acls: Vec::new(),
        sessions: vec![(7, 30_000)],
    }
}

/// Writes a snapshot of `nodes` nodes, as much at a time as there is room for.
fn take_snapshot(server: &mut Server, zxid: u64, nodes: u32) {
    server.store.begin_snapshot(header(zxid, nodes));
    let (mut next, mut finished) = (0, false);
    loop {
        server.turn();
        for event in std::mem::take(&mut server.events) {
            match event {
                StoreEvent::SnapshotRoom { chunks } => {
                    for _ in 0..chunks {
                        if next < nodes {
                            let end = nodes.min(next + 100);
                            server.store.snapshot_chunk(SnapshotChunk {
                                slots: Some(next..end),
                                nodes: (next..end).map(node).collect(),
                            });
                            next = end;
                        }
                    }
                    if next == nodes && !finished {
                        server.store.finish_snapshot();
                        finished = true;
                    }
                }
                StoreEvent::SnapshotEnded(result) => {
                    let done = result.unwrap();
                    assert_eq!((done.zxid, done.nodes), (Zxid(zxid), u64::from(nodes)));
                    return;
                }
                _ => {}
            }
        }
    }
}

#[test]
fn thousands_of_records_survive_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..4 {
        let mut opened = open(config(directory.path())).unwrap();
        assert_eq!(opened.report().last_zxid, Zxid(last), "{:?}", opened.report());
        assert_eq!(opened.report().notes, Vec::<String>::new());
        check_log(&mut opened, 1, last);
        let mut server = Server::start(opened);
        for _ in 0..3000 {
            last += 1;
            server.store.append(Zxid(last), &record(last));
            if last.is_multiple_of(1 + 40 * round) {
                server.turn();
            }
        }
        server.settle();
        assert_eq!(server.durable, Zxid(last));
        let stats = server.store.stats();
        assert_eq!((stats.last_zxid, stats.durable_zxid, stats.records), (Zxid(last), Zxid(last), 3000));
        assert!(round < 3 || stats.log_segments > 3, "{stats:?}");
    }
}

#[test]
fn a_server_that_stops_in_the_middle_keeps_a_prefix_with_everything_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..6 {
        let mut opened = open(config(directory.path())).unwrap();
        let kept = opened.report().last_zxid.0;
        assert!(kept >= last, "{kept} of {last} acknowledged");
        check_log(&mut opened, 1, kept);
        let mut server = Server::start(opened);
        for zxid in kept + 1..kept + 500 {
            server.store.append(Zxid(zxid), &record(zxid));
            if zxid % (round + 2) == 0 {
                server.turn();
            }
        }
        last = server.durable.0;
    }
}

#[test]
fn a_snapshot_comes_back_and_the_log_goes_on_from_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(open(config(directory.path())).unwrap());
    for zxid in 1..=9000 {
        server.store.append(Zxid(zxid), &record(zxid));
        if zxid % 100 == 0 {
            server.turn();
        }
    }
    take_snapshot(&mut server, 4000, 2500);
    server.settle();
    take_snapshot(&mut server, 8000, 1000);
    server.settle();
    let before = server.store.stats();
    server.store.purge(1);
    server.settle();
    let after = server.store.stats();
    assert_eq!((before.snapshots, after.snapshots), (2, 1));
    assert!(after.log_segments < before.log_segments, "{before:?} {after:?}");
    drop(server);

    let mut opened = open(config(directory.path())).unwrap();
    assert_eq!(opened.snapshot_header(), Some(&header(8000, 1000)));
    let mut nodes = Vec::new();
    opened.for_each_node(|node| nodes.push(node)).unwrap();
    assert_eq!(nodes, (0..1000).map(node).collect::<Vec<_>>());
    check_log(&mut opened, 8001, 9000);
    let mut server = Server::start(opened);
    server.store.append(Zxid(9001), &record(9001));
    server.settle();
    drop(server);
    check_log(&mut open(config(directory.path())).unwrap(), 8001, 9001);
}

#[test]
fn a_record_larger_than_a_segment_gets_a_segment_of_its_own_size() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(open(config(directory.path())).unwrap());
    let large = vec![5; 3 << 20];
    server.store.append(Zxid(1), b"before");
    server.settle();
    server.store.append(Zxid(2), &large);
    server.store.append(Zxid(3), b"after");
    server.settle();
    assert_eq!(server.durable, Zxid(3));
    drop(server);
    let mut sizes = Vec::new();
    let mut opened = open(config(directory.path())).unwrap();
    opened.replay(|_, payload| sizes.push(payload.len())).unwrap();
    assert_eq!(sizes, [6, large.len(), 5]);
}

#[test]
fn one_directory_one_server() {
    let directory = tempfile::tempdir().unwrap();
    let held = open(config(directory.path())).unwrap().into_store().unwrap();
    assert!(matches!(open(config(directory.path())), Err(StoreError::Locked { .. })));
    drop(held);
    open(config(directory.path())).unwrap();
}

#[test]
fn a_state_from_elsewhere_is_there_as_a_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let zxid = 0x7_0000_0003;
    let chunks = || {
        let mut rest = (0..10u32).map(|part| {
            let slots = part * 100..(part + 1) * 100;
            SnapshotChunk { nodes: slots.clone().map(node).collect(), slots: Some(slots) }
        });
        move || rest.next()
    };
    // Cut short: too few nodes came.
    let opened = open(config(directory.path())).unwrap();
    let mut short = chunks();
    assert!(opened.install(header(zxid, 1000), move || short().filter(|chunk| chunk.nodes[0].slot < 500)).is_err());
    let opened = open(config(directory.path())).unwrap();
    assert!(opened.is_fresh());
    let mut opened = opened.install(header(zxid, 1000), chunks()).unwrap();
    assert!(!opened.is_fresh());
    assert_eq!(opened.report().last_zxid, Zxid(zxid));
    let mut nodes = Vec::new();
    opened.for_each_node(|image| nodes.push(image)).unwrap();
    assert_eq!(nodes, (0..1000).map(node).collect::<Vec<_>>());
    // The log begins behind it.
    let mut server = Server::start(opened);
    server.store.append(Zxid(zxid + 1), &record(zxid + 1));
    server.settle();
    drop(server);
    check_log(&mut open(config(directory.path())).unwrap(), zxid + 1, zxid + 1);
}

#[test]
fn directories_that_make_room_are_renamed_and_never_lost() {
    let (data, log) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = || StoreConfig { segment_bytes: 1 << 20, ..StoreConfig::new(data.path(), log.path()) };
    for round in 1..=2 {
        let held = open(config()).unwrap().into_store().unwrap();
        let refused = set_aside(data.path(), log.path(), false).unwrap_err();
        assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
        drop(held);
        let name = format!("ringkeeper-1.replaced-{round}");
        assert_eq!(
            set_aside(data.path(), log.path(), false).unwrap(),
            [data.path().join(&name), log.path().join(&name)]
        );
        assert!(!data.path().join("ringkeeper-1").exists() && !log.path().join("ringkeeper-1").exists());
    }
    assert_eq!(set_aside(data.path(), log.path(), false).unwrap(), [] as [std::path::PathBuf; 0]);
}

#[test]
fn without_direct_io_the_page_cache_will_do_and_the_facts_say_so() {
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else { return };
    let mut opened = open(config(directory.path())).unwrap();
    let facts = opened.facts().log.clone();
    assert!(facts.volatile, "{facts:?}");
    check_log(&mut opened, 1, 0);
    let mut server = Server::start(opened);
    for zxid in 1..=100 {
        server.store.append(Zxid(zxid), &record(zxid));
        server.turn();
    }
    server.settle();
    drop(server);
    check_log(&mut open(config(directory.path())).unwrap(), 1, 100);
}

#[test]
fn what_completes_is_signalled() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(config(directory.path())).unwrap().into_store().unwrap();
    let mut ring = Ring::new().unwrap();
    let signal = ring.signal().unwrap();
    let (mut ops, mut completed, mut out) = (Vec::new(), Vec::new(), Vec::new());
    for zxid in 1..=200 {
        store.append(Zxid(zxid), &record(zxid));
        while !store.is_idle() {
            store.poll_ops(&mut ops);
            ring.submit(&mut ops);
            if ring.completions(&mut completed) == 0 && ring.in_flight() > 0 {
                rustix::io::read(&signal, &mut [0; 8]).unwrap(); // blocks until it is
            }
            for event in completed.drain(..) {
                store.on_event(event, &mut out);
            }
        }
    }
    let durable = |event: &StoreEvent| if let StoreEvent::Durable(zxid) = event { Some(*zxid) } else { None };
    assert_eq!(out.iter().filter_map(durable).next_back(), Some(Zxid(200)));
}
