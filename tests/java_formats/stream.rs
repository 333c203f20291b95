//! What Java leaders sent after SNAP, against our stream: read, understood as Java understood it, and written again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ringkeeper::core::replay::Replay;
use ringkeeper::core::tree::{DataTree, MemorySnapshot};
use ringkeeper::core::{LinkMessage, SessionId};
use ringkeeper::java::convert::OPTIONS;
use ringkeeper::snapshot_stream::{Form, SnapshotDecoder, SnapshotEncoder};
use ringkeeper::wire::jute::Limits;
use ringkeeper_storage::java::names::Compression;
use ringkeeper_storage::java::{JavaAcl, JavaStat, SnapHead, SnapReader, Strictness};
use ringkeeper_storage::{SnapshotHeader, Zxid};

use crate::expected::{self, Field};
use crate::sample::Sample;

struct Recorded {
    zxid: Zxid,
    /// With its signature.
    stream: Vec<u8>,
    behind: Vec<u8>,
}

fn recorded(capture: &str) -> Recorded {
    let lines = include_str!("../golden/snapshot-streams.txt").lines();
    let line = lines.map(|line| line.split(' ').collect::<Vec<_>>()).find(|words| words[0] == capture).unwrap();
    let unhex = |text: &str| -> Vec<u8> {
        text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    };
    let zxid = Zxid(u64::from_str_radix(line[1].trim_start_matches("0x"), 16).unwrap());
    Recorded { zxid, stream: unhex(&[line[2], line[3]].concat()), behind: unhex(line[4]) }
}

/// All parts of it, as a learner's core gets them.
fn received(recorded: &Recorded) -> Vec<LinkMessage> {
    let mut decoder = SnapshotDecoder::new(Form::Java, recorded.zxid, Limits::default());
    let bytes = [&recorded.stream[..], &recorded.behind].concat();
    let (mut messages, mut taken) = (Vec::new(), 0);
    for arrived in (0..bytes.len()).step_by(100).chain([bytes.len()]) {
        taken += decoder.push(&bytes[taken..arrived.max(taken)]).unwrap();
        messages.extend(std::iter::from_fn(|| decoder.take()));
    }
    assert!(decoder.is_over());
    assert_eq!(&bytes[taken..], recorded.behind, "the packets behind it are there to be read");
    messages
}

fn tree(messages: Vec<LinkMessage>) -> (DataTree, Vec<(SessionId, i32)>) {
    let (mut header, mut images) = (None::<SnapshotHeader>, Vec::new());
    for message in messages {
        match message {
            LinkMessage::SnapshotBegin(begin) => header = Some(*begin),
            LinkMessage::SnapshotChunk(chunk) => images.extend(chunk.nodes),
            LinkMessage::SnapshotEnd => {}
            LinkMessage::Packet(packet) => panic!("{packet:?}"),
        }
    }
    let header = header.unwrap();
    let sessions = header.sessions.iter().map(|(id, timeout_ms)| (SessionId(*id), *timeout_ms)).collect();
    let mut tree = DataTree::load(Box::new(MemorySnapshot::new(header, images)), OPTIONS).unwrap();
    while tree.move_some(1000).is_none() {}
    (tree, sessions)
}

/// Each server writes its configuration into the tree at a time of its own.
fn is_told(path: &str, field: Field) -> bool {
    field != Field::Mtime || path != "/zookeeper/config"
}

#[test]
fn a_stream_is_the_state_that_its_learner_had() {
    let (tree, sessions) = tree(received(&recorded("07")));
    let expected = expected::read(&expected::data("3.9.3-stale-log-below-snapshot/expected.json"));
    expected::assert_tree(&tree, &expected, is_told);
    assert_eq!(sessions, expected::sessions(&expected));
}

/// Every kind of node is in this one.
#[test]
fn what_follows_a_stream_leads_on_from_it() {
    let recorded = recorded("08");
    let (tree, sessions) = tree(received(&recorded));
    let mut replay = Replay::resume(tree, sessions);
    let sample = Sample::new("3.9.3-member");
    let report = sample.directory().replay(recorded.zxid, Strictness::Strict, |_, entry| {
        replay.apply(entry).unwrap();
        Ok(())
    });
    assert_eq!(report.unwrap().records, 2);
    let recovered = replay.finish();
    assert_eq!(recovered.mismatches, []);
    let expected = expected::read(&expected::data("3.9.3-member/expected.json"));
    expected::assert_tree(&recovered.tree, &expected, is_told);
    assert_eq!(recovered.sessions, expected::sessions(&expected));
}

type Nodes = BTreeMap<Vec<u8>, (Option<Vec<u8>>, Vec<JavaAcl>, JavaStat)>;

/// As the reader of Java's files understands it: sessions and nodes with their lists.
fn read_as_file(stream: &[u8]) -> (Vec<(i64, i32)>, Nodes) {
    let file = [&b"ZKSN\0\0\0\x02"[..], &(-1i64).to_be_bytes(), stream].concat();
    let (SnapHead { sessions, acls }, mut reader) =
        SnapReader::open(PathBuf::from("stream"), &file[..], Compression::Plain).unwrap();
    let mut lists: BTreeMap<i64, Vec<JavaAcl>> = acls.into_iter().collect();
    lists.insert(-1, vec![JavaAcl { perms: 31, scheme: b"world".to_vec(), id: b"anyone".to_vec() }]);
    let mut nodes = Nodes::new();
    while let Some(node) = reader.next_node().unwrap() {
        let parent = node.path.iter().rposition(|byte| *byte == b'/').map(|at| &node.path[..at]);
        assert!(parent.is_none_or(|parent| nodes.contains_key(parent)), "parents come first");
        let known =
            nodes.insert(node.path.to_vec(), (node.data.map(<[u8]>::to_vec), lists[&node.acl].clone(), node.stat));
        assert_eq!(known, None);
    }
    assert_eq!(reader.bytes_read() as usize + b"\0\0\0\x0aBenWasHere".len(), file.len());
    (sessions, nodes)
}

/// But for the order of nodes and the numbers of lists, which are each server's own.
#[test]
fn what_was_read_is_written_again() {
    for (capture, count) in [("07", 9), ("08", 51)] {
        let recorded = recorded(capture);
        let (mut encoder, mut written) = (SnapshotEncoder::new(Form::Java), Vec::new());
        for message in received(&recorded) {
            encoder.message(message, &mut written).unwrap();
        }
        let (sessions, nodes) = read_as_file(&written);
        assert_eq!(nodes.len(), count);
        assert_eq!((sessions, nodes), read_as_file(&recorded.stream));
        assert!(written.ends_with(b"\0\0\0\x01/\0\0\0\x0aBenWasHere"));
    }
}
