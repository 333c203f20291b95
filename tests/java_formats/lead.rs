//! A Java member's directory taken over, and then elected: what it may tell its learners.

use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use ringkeeper::core::settings::Ensemble;
use ringkeeper::core::types::{EpochKind, LinkId, LinkMessage, Now, Output, ServerId};
use ringkeeper::core::zab::leader::{Leader, LeaderEvent, LeaderStart, SyncView};
use ringkeeper::core::zab::membership::{Configurations, Membership};
use ringkeeper::core::zab::window::Window;
use ringkeeper::java::{JavaDirs, LoadOptions, import};
use ringkeeper::wire::quorum::{LearnerInfo, PROTOCOL_JAVA, Packet};
use ringkeeper_storage::backend::blocking::BlockingDisk;
use ringkeeper_storage::{Epochs, LogError, Store, StoreConfig, Zxid, open, open_on};

use crate::sample::Sample;

/// Of the snapshot that came from the leader. The log below it ends in a branch that nobody ever committed.
const LAST: Zxid = Zxid(0x3_0000_0003);
const LINK: LinkId = LinkId(2);

fn config(directory: &Path) -> StoreConfig {
    StoreConfig { segment_bytes: 1 << 20, batch_bytes_max: 64 << 10, ..StoreConfig::new(directory, directory) }
}

fn imported(sample: &Sample, to: &Path) -> (Store, Epochs) {
    let dirs = JavaDirs { data: sample.path().to_owned(), log: sample.path().to_owned() };
    let read = import::read(&dirs, &LoadOptions::default(), &mut |_| {}).unwrap();
    drop(import::install(open(config(to)).unwrap(), &config(to), read, Instant::now()).unwrap());
    let mut opened = open_on(BlockingDisk::default(), config(to)).unwrap();
    assert_eq!(opened.report().last_zxid, LAST);
    let epochs = opened.epochs().unwrap();
    (opened.into_store().unwrap(), epochs)
}

/// What a learner whose newest transaction is `has` is told by this server as its leader; "a snapshot" for one.
fn told(store: &mut Store, epochs: Epochs, has: Zxid) -> Vec<String> {
    let now = Now { mono_us: 1_000_000, wall_ms: 0 };
    let settings = Ensemble::default();
    let configs = Configurations::settled(Membership::of(3, 0));
    let mut out = Vec::new();
    let start = LeaderStart { id: ServerId(1), epochs, last: LAST, founds: false, reconfigures: false };
    let mut leader = Leader::elected(now, start, &settings, &configs, &mut out);
    let window = Window::new(settings.commit_log_count, LAST);
    let view = SyncView { window: &window, applied: LAST, snapshot_bytes: 1 << 30 };
    leader.on_learner_connected(now, LINK);
    let info = LearnerInfo { server: 2, protocol: PROTOCOL_JAVA, config_version: 0 };
    let joins = Packet::FollowerInfo { accepted_epoch: epochs.accepted, info };
    leader.on_message(now, LINK, LinkMessage::Packet(joins), view, &mut out);
    let epoch = epochs.accepted + 1;
    leader.on_epoch_stored(now, EpochKind::Accepted, epoch, view, &mut out);
    let accepts = Packet::AckEpoch { last: Some(has), current_epoch: Some(has.epoch()) };
    leader.on_message(now, LINK, LinkMessage::Packet(accepts), view, &mut out);
    leader.on_epoch_stored(now, EpochKind::Current, epoch, view, &mut out);
    let mut told = Vec::new();
    while !out.is_empty() {
        for output in std::mem::take(&mut out) {
            match output {
                Output::LinkSend { message: LinkMessage::Packet(Packet::LeaderInfo { .. }), .. } => {}
                Output::LinkSend { message: LinkMessage::Packet(packet), .. } => told.push(packet.name().to_owned()),
                Output::ReadLog { link, after, through } => {
                    let refused = store.read_range(after, through).expect_err("a log that is no history");
                    assert!(matches!(refused, LogError::NotCovered { .. }), "{refused}");
                    leader.on_log_read_ended(link, false, &mut out);
                }
                Output::AcceptLearners(true) | Output::StoreEpoch { .. } => {}
                other => panic!("{has}: {other:?}"),
            }
        }
    }
    while let Some(event) = leader.next_event() {
        match event {
            LeaderEvent::SnapshotWanted { link: LINK } => told.push("a snapshot".to_owned()),
            LeaderEvent::Syncs { .. } => {} // how many are under way
            other => panic!("{has}: {other:?}"),
        }
    }
    told
}

/// ZOOKEEPER-2846 (20.1). Java sends `/lost0` and `/lost1`, 0x200000005 and 6, to whoever asks for what comes behind 0x200000004.
#[test]
fn the_log_below_a_snapshot_that_came_from_the_leader_is_sent_to_nobody() {
    let sample = Sample::new("3.9.3-stale-log-below-snapshot");
    let to = tempfile::tempdir().unwrap();
    let (mut store, epochs) = imported(&sample, to.path());
    let behind = (1..=4).flat_map(|counter| [Zxid::new(1, counter), Zxid::new(2, counter)]);
    let dead = [Zxid::new(2, 5), Zxid::new(2, 6)];
    let gap = [Zxid::ZERO, Zxid::new(2, 0), Zxid::new(2, 7), Zxid::new(3, 0), Zxid::new(3, 2)];
    for has in behind.chain(dead).chain(gap) {
        assert_eq!(told(&mut store, epochs, has), ["a snapshot"], "{has}");
    }
    assert_eq!(told(&mut store, epochs, LAST), ["DIFF", "NEWLEADER"], "nothing to tell");
    // What is written from here on is history, and the log may tell it.
    store.append(Zxid::new(4, 1), &Bytes::from_static(b"a transaction"));
    assert!(store.read_range(Zxid::new(2, 4), Zxid::new(4, 1)).is_err());
}
