//! Trees through both forms of the stream and back, in pieces of any size; and what is no such stream.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use ringkeeper_storage::{NodeImage, SnapshotChunk, SnapshotHeader};

use super::*;
use crate::core::snapshot_check::SnapshotCheck;
use crate::core::tree::{DataTree, MemorySnapshot, NodeId, OwnerKind, RawStat, Unwatched, WalkId, path};
use crate::java::convert::OPTIONS;
use crate::wire::client::Acl;
use crate::wire::txn::{CreateKind, Txn, TxnHeader};

const FORMS: [Form; 2] = [Form::Java, Form::Native];
const SESSIONS: [(i64, i32); 3] = [(-7, 4000), (0x100_0000_0001, 30_000), (0x100_0000_0002, 1)];
/// Behind the stream: packets.
const BEHIND: &[u8] = &[0, 0, 0, 10, 0x42];

#[derive(Clone, Debug)]
enum Op {
    Create { path: String, data: Option<Vec<u8>>, perms: i32, kind: u8 },
    Delete { path: String },
    SetData { path: String, data: Option<Vec<u8>> },
    SetAcl { path: String, perms: i32 },
}

fn paths() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec!["a", "b", "c", "d", "名前", "ein-etwas-längerer-name-für-einen-knoten"]);
    prop::collection::vec(names, 1..5).prop_map(|names| format!("/{}", names.join("/")))
}

fn data() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..40))
}

fn ops(most: usize) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        8 => (paths(), data(), 0..5i32, 0..8u8)
            .prop_map(|(path, data, perms, kind)| Op::Create { path, data, perms, kind }),
        3 => paths().prop_map(|path| Op::Delete { path }),
        3 => (paths(), data()).prop_map(|(path, data)| Op::SetData { path, data }),
        2 => (paths(), 0..5i32).prop_map(|(path, perms)| Op::SetAcl { path, perms }),
    ];
    prop::collection::vec(op, 0..most)
}

fn list(perms: i32) -> Vec<Acl<'static>> {
    let acl =
        |perms, scheme: &'static str, id: &'static str| Acl { perms, scheme: Some(scheme.into()), id: Some(id.into()) };
    match perms {
        0 => vec![acl(31, "world", "anyone")],
        1 => vec![],
        2 => vec![acl(2, "digest", "ü:b"), acl(1, "world", "anyone")],
        _ => vec![acl(perms, "ip", "10.0.0.0/8")],
    }
}

/// Does it, where a leader would let it through.
fn apply(tree: &mut DataTree, op: &Op) {
    let zxid = tree.last_processed().0 as i64 + 1;
    let is_childless = |path: &str| tree.find(path).is_some_and(|id| tree.child_count(id) == 0);
    let txn = match op {
        Op::Create { path, data, perms, kind } => {
            let parent = tree.find(path::split(path).expect("a path").0);
            if parent.is_none_or(|parent| tree.owner_kind(parent) == OwnerKind::Ephemeral) {
                return;
            }
            let kind = match kind {
                0..=3 => CreateKind::Persistent,
                4 | 5 => CreateKind::Ephemeral,
                6 => CreateKind::Container,
                _ => CreateKind::Ttl { ttl_ms: 77 },
            };
            let (path, data, acl) = (path.into(), data.as_deref(), list(*perms));
            Txn::Create { path, data, acl, kind, parent_cversion: -1, create2: false }
        }
        Op::Delete { path } if !is_childless(path) => return,
        Op::Delete { path } => Txn::Delete { path: path.into() },
        Op::SetData { path, data } => Txn::SetData { path: path.into(), data: data.as_deref(), version: zxid as i32 },
        Op::SetAcl { path, perms } => Txn::SetAcl { path: path.into(), acl: list(*perms), version: 3 },
    };
    let client_id = SESSIONS[(zxid % 3) as usize].0;
    tree.apply(&TxnHeader { client_id, cxid: 1, zxid, time_ms: 1000 + zxid }, &txn, &mut Unwatched);
}

fn grown(ops: &[Op]) -> DataTree {
    let mut tree = DataTree::new(OPTIONS);
    ops.iter().for_each(|op| apply(&mut tree, op));
    tree
}

fn create(path: impl Into<String>) -> Op {
    Op::Create { path: path.into(), data: Some(b"data".to_vec()), perms: 0, kind: 0 }
}

type Nodes = BTreeMap<String, (RawStat, Option<Vec<u8>>, Vec<Acl<'static>>)>;

/// Everything there is to know of a tree's nodes.
fn nodes(tree: &DataTree) -> Nodes {
    let mut nodes = Nodes::new();
    let mut to_visit = vec![NodeId::ROOT];
    while let Some(id) = to_visit.pop() {
        to_visit.extend(tree.children(id));
        let acl = tree.acl(id).to_vec();
        nodes.insert(tree.path(id), (tree.raw_stat(id), tree.data(id).map(<[u8]>::to_vec), acl));
    }
    nodes
}

/// What passed between the core and the stream.
#[derive(Debug, Default, PartialEq)]
struct Parts {
    header: Option<SnapshotHeader>,
    chunks: Vec<SnapshotChunk>,
    is_over: bool,
}

impl Parts {
    fn note(&mut self, message: LinkMessage) {
        assert!(!self.is_over && self.header.is_none() == matches!(message, LinkMessage::SnapshotBegin(_)));
        match message {
            LinkMessage::SnapshotBegin(header) => self.header = Some(*header),
            LinkMessage::SnapshotChunk(chunk) => self.chunks.push(chunk),
            LinkMessage::SnapshotEnd => self.is_over = true,
            LinkMessage::Packet(packet) => panic!("{packet:?}"),
        }
    }

    /// As a learner's core looks at it.
    fn check(&self) -> Result<(), String> {
        let mut check = SnapshotCheck::begin(self.header.as_ref().expect("a header"))?;
        self.chunks.iter().try_for_each(|chunk| check.chunk(chunk))?;
        check.end()
    }

    fn images(&self) -> impl Iterator<Item = NodeImage> {
        self.chunks.iter().flat_map(|chunk| chunk.nodes.clone())
    }

    fn tree(self) -> DataTree {
        self.check().expect("a learner takes it");
        let images: Vec<_> = self.images().collect();
        let snapshot = MemorySnapshot::new(self.header.expect("a header"), images);
        let mut tree = DataTree::load(Box::new(snapshot), OPTIONS).expect("a tree");
        let moved = std::iter::repeat_with(|| tree.move_some(1 << 20)).flatten().next();
        assert_eq!(moved.expect("it ends").contradiction, None);
        tree
    }
}

/// The tree as it is now, on the wire, while `ops` go on; and what the core gave.
fn sent(form: Form, tree: &mut DataTree, slice_bytes: usize, ops: &[Op]) -> (Vec<u8>, Parts) {
    let (mut encoder, mut bytes, mut parts) = (SnapshotEncoder::new(form), Vec::new(), Parts::default());
    let (walk, mut header) = tree.begin_snapshot_parents_first();
    header.sessions = SESSIONS.to_vec();
    parts.note(LinkMessage::SnapshotBegin(Box::new(header.clone())));
    encoder.message(LinkMessage::SnapshotBegin(Box::new(header)), &mut bytes).unwrap();
    let mut ops = ops.iter();
    while let Some(chunk) = tree.snapshot_slice(walk, slice_bytes) {
        parts.note(LinkMessage::SnapshotChunk(chunk.clone()));
        encoder.message(LinkMessage::SnapshotChunk(chunk), &mut bytes).unwrap();
        ops.by_ref().take(3).for_each(|op| apply(tree, op));
    }
    parts.note(LinkMessage::SnapshotEnd);
    encoder.message(LinkMessage::SnapshotEnd, &mut bytes).unwrap();
    if let Encoder::Java(encoder) = &encoder.0 {
        assert_eq!((encoder.waiting(), encoder.parents()), (0, 0), "nobody waits at the end");
    }
    (bytes, parts)
}

/// What comes of `bytes` in pieces of these sizes, over and over, and how many of them were taken.
fn received(form: Form, zxid: Zxid, bytes: &[u8], pieces: &[usize]) -> Result<(Parts, usize), SnapshotStreamError> {
    let mut decoder = SnapshotDecoder::new(form, zxid, Limits::default());
    let mut parts = Parts::default();
    let (mut taken, mut arrived) = (0, 0usize);
    for size in pieces.iter().cycle() {
        arrived = bytes.len().min(arrived.saturating_add(*size));
        loop {
            let more = decoder.push(&bytes[taken..arrived])?;
            taken += more;
            let messages: Vec<_> = std::iter::from_fn(|| decoder.take()).collect();
            if more == 0 && messages.is_empty() {
                break;
            }
            messages.into_iter().for_each(|message| parts.note(message));
        }
        if arrived == bytes.len() || decoder.is_over() {
            break;
        }
    }
    assert_eq!(decoder.is_over(), parts.is_over);
    Ok((parts, taken))
}

/// Through the stream and into a tree again, with bytes behind it that are nobody's business here.
fn passed(form: Form, zxid: Zxid, bytes: &[u8], pieces: &[usize]) -> Parts {
    let (parts, taken) = received(form, zxid, &[bytes, BEHIND].concat(), pieces).unwrap();
    assert_eq!((parts.is_over, taken), (true, bytes.len()));
    parts
}

proptest! {
    #[test]
    fn what_arrives_is_the_tree_as_it_was(
        before in ops(200),
        during in ops(100),
        slice_bytes in 1..2000usize,
        pieces in prop::collection::vec(1..500usize, 1..10),
    ) {
        for form in FORMS {
            let mut tree = grown(&before);
            let (expected, digest, zxid) = (nodes(&tree), tree.digest(), tree.last_processed());
            let (bytes, given) = sent(form, &mut tree, slice_bytes, &during);
            let parts = passed(form, zxid, &bytes, &pieces);
            let header = parts.header.as_ref().unwrap();
            prop_assert_eq!((&header.sessions[..], header.zxid, header.tree_digest), (&SESSIONS[..], zxid.0, digest));
            if form == Form::Native {
                prop_assert_eq!(&parts, &given);
            }
            let tree = parts.tree();
            prop_assert_eq!((tree.digest(), tree.last_processed()), (digest, zxid));
            prop_assert_eq!(nodes(&tree), expected);
        }
    }

    #[test]
    fn arbitrary_bytes_are_an_error_at_worst(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 1..300usize) {
        for form in FORMS {
            let _ = received(form, Zxid(9), &bytes, &[size]);
        }
    }

    /// Nothing but the structure can notice.
    #[test]
    fn a_stream_of_javas_with_wrong_bytes_is_an_error_or_another_tree(
        ops in ops(60),
        wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        size in 1..300usize,
    ) {
        let (mut bytes, _) = sent(Form::Java, &mut grown(&ops), 1000, &[]);
        for (at, byte) in wrong {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok((parts, _)) = received(Form::Java, Zxid(9), &bytes, &[size]) && parts.is_over {
            parts.check().unwrap();
        }
    }
}

#[test]
fn any_cut_makes_no_difference_and_half_a_stream_is_no_snapshot() {
    let ops = [create("/a"), create("/a/b"), Op::SetAcl { path: "/a".into(), perms: 2 }];
    for form in FORMS {
        let zxid = Zxid(3);
        let (bytes, given) = sent(form, &mut grown(&ops), 100, &[]);
        assert!(given.chunks.len() > 2);
        let whole = passed(form, zxid, &bytes, &[usize::MAX]);
        assert!(form == Form::Java || whole == given);
        assert_eq!(passed(form, zxid, &bytes, &[1]), whole);
        for cut in 1..bytes.len() {
            assert_eq!(passed(form, zxid, &bytes, &[cut, usize::MAX]), whole, "{form:?} cut at {cut}");
            let (half, taken) = received(form, zxid, &bytes[..cut], &[cut]).unwrap();
            assert_eq!((half.is_over, taken), (false, cut), "{form:?} up to {cut}");
        }
    }
}

#[test]
fn every_bit_that_flips_in_our_own_form_is_noticed() {
    let (bytes, _) = sent(Form::Native, &mut grown(&[create("/a")]), 200, &[]);
    for bit in 0..bytes.len() * 8 {
        let mut wrong = bytes.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert!(received(Form::Native, Zxid(1), &wrong, &[usize::MAX]).is_err(), "bit {bit} of {}", bytes.len() * 8);
    }
}

#[test]
fn frames_belong_where_they_were_sent() {
    let (bytes, _) = sent(Form::Native, &mut grown(&[create("/a")]), 100, &[]);
    let frames = native::tests::frames(&bytes);
    assert!(frames.len() > 4);
    let joined = |frames: &[&[u8]]| [&bytes[..12], &frames.concat()].concat();
    let refused = |frames: &[&[u8]]| received(Form::Native, Zxid(1), &joined(frames), &[1000]).unwrap_err().why;
    assert_eq!(joined(&frames), bytes);
    assert_eq!(refused(&frames[1..]), "frame 1 came where 0 is next");
    assert_eq!(refused(&[frames[0], frames[0]]), "frame 0 came where 1 is next");
    assert_eq!(refused(&[frames[0], frames[2], frames[1]]), "frame 2 came where 1 is next");
    let of_another_version = [b"rksnapst\x02\0\0\0", &bytes[12..]].concat();
    let error = received(Form::Native, Zxid(1), &of_another_version, &[1000]).unwrap_err();
    let why = "version 2 of the stream, and this server knows 1: upgrade it";
    assert_eq!(error, SnapshotStreamError { at: 12, why: why.into() });
}

/// The sender's own mistakes, under right checksums.
#[test]
fn archives_that_are_none_are_refused() {
    let mut tree = grown(&[create("/a"), create("/a/名前")]);
    let (walk, header) = tree.begin_snapshot();
    let chunk = tree.snapshot_slice(walk, usize::MAX).unwrap();
    let (mut refused, mut at) = (0, 0);
    for part in [None, Some(&chunk)] {
        for wrong in [0, 1, 0x7f, 0x80, 0xff] {
            // Each byte of the archive in turn.
            for nth in 0.. {
                let is_there = Cell::new(false);
                let bytes = native::tests::spoiled(&header, part, |archive| {
                    is_there.set(nth < archive.len());
                    archive.iter_mut().skip(nth).take(1).for_each(|byte| *byte = wrong);
                });
                if !is_there.get() {
                    break;
                }
                at += 1;
                refused += usize::from(received(Form::Native, Zxid(2), &bytes, &[1000]).is_err());
            }
        }
    }
    assert!(refused * 20 > at && refused < at, "{refused} of {at}: links and lengths, not numbers");
}

#[test]
fn a_message_larger_than_a_frame_arrives_in_several() {
    let data = Some(vec![7; 1_000_000]);
    let ops = [Op::Create { path: "/a".into(), data, perms: 0, kind: 0 }, create("/b")];
    for form in FORMS {
        let (bytes, given) = sent(form, &mut grown(&ops), 100, &[]);
        let parts = passed(form, Zxid(2), &bytes, &[65_536]);
        assert!(form == Form::Java || parts == given);
        assert_eq!(nodes(&parts.tree()), nodes(&grown(&ops)));
        assert!(form == Form::Java || native::tests::frames(&bytes).len() > given.chunks.len() + 2);
    }
}

/// What a deletion of many has left is filled from the highest place down: children have lower places than their parents.
fn upside_down() -> DataTree {
    let mut ops = vec![create("/old")];
    ops.extend((0..2000).map(|n| create(format!("/old/{n}"))));
    ops.extend((0..2000).map(|n| Op::Delete { path: format!("/old/{n}") }));
    ops.extend(["/new", "/new/a", "/new/a/b"].map(create));
    ops.extend((0..900).flat_map(|n| [create(format!("/new/{n}")), create(format!("/new/a/b/{n}"))]));
    let tree = grown(&ops);
    assert!(tree.find("/new/a/b/899") < tree.find("/new/a/b"), "otherwise this shows nothing");
    tree
}

/// The most nodes that ever waited for their parents while this tree, with `ops` going on, became Java's stream.
fn most_waiting(mut tree: DataTree, begin: fn(&mut DataTree) -> (WalkId, SnapshotHeader), ops: &[Op]) -> usize {
    let (expected, zxid) = (nodes(&tree), tree.last_processed());
    let (mut encoder, mut bytes) = (java_encode::JavaEncoder::default(), Vec::new());
    let (walk, header) = begin(&mut tree);
    encoder.message(LinkMessage::SnapshotBegin(Box::new(header)), &mut bytes).unwrap();
    let (mut ops, mut most) = (ops.iter(), 0);
    while let Some(chunk) = tree.snapshot_slice(walk, 1000) {
        encoder.message(LinkMessage::SnapshotChunk(chunk), &mut bytes).unwrap();
        most = most.max(encoder.waiting());
        ops.by_ref().take(3).for_each(|op| apply(&mut tree, op));
    }
    encoder.message(LinkMessage::SnapshotEnd, &mut bytes).unwrap();
    assert_eq!(nodes(&passed(Form::Java, zxid, &bytes, &[4096]).tree()), expected);
    most
}

#[test]
fn children_wait_for_their_parents_however_many_they_are() {
    assert!(most_waiting(upside_down(), DataTree::begin_snapshot, &[]) > 1000);
}

#[test]
fn a_walk_for_links_lets_few_wait() {
    let remove = |n: usize| Op::Delete { path: format!("/new/a/b/{n}") };
    let ops: Vec<_> = (0..900).flat_map(|n| [remove(899 - n), create(format!("/new/a/b/x{n}"))]).collect();
    for ops in [&[][..], &ops] {
        // A slice has a dozen, and one of old images may come before the next of the walk.
        assert!(most_waiting(upside_down(), DataTree::begin_snapshot_parents_first, ops) < 30);
    }
}

#[test]
fn a_tree_that_is_not_what_it_says_is_not_sent() {
    type Spoil = fn(&mut NodeImage);
    let spoils: [(Spoil, &str); 3] = [
        (|image| image.parent = 77, "5 of 6 nodes are linked to the root, and 1 are not"),
        (|image| image.parent = image.slot, "5 of 6 nodes are linked to the root, and 1 are not"),
        (|image| image.child_count = 0, "5 of 6 nodes are linked to the root, and 1 are not"),
    ];
    for (number, (spoil, why)) in spoils.into_iter().enumerate() {
        let mut tree = grown(&[create("/a"), create("/a/b")]);
        let (mut encoder, mut bytes) = (SnapshotEncoder::new(Form::Java), Vec::new());
        let (walk, header) = tree.begin_snapshot();
        encoder.message(LinkMessage::SnapshotBegin(Box::new(header)), &mut bytes).unwrap();
        let mut chunk = tree.snapshot_slice(walk, usize::MAX).unwrap();
        let name = if number == 2 { "a" } else { "b" };
        spoil(chunk.nodes.iter_mut().find(|image| image.name == name).unwrap());
        encoder.message(LinkMessage::SnapshotChunk(chunk), &mut bytes).unwrap();
        let error = encoder.message(LinkMessage::SnapshotEnd, &mut bytes).unwrap_err();
        assert!(error.why.contains(why), "{error}");
    }
}

/// The stream of a small tree up to its nodes, for tests to go on with.
fn java_head() -> Vec<u8> {
    let mut bytes = 0i32.to_be_bytes().to_vec();
    bytes.extend(0i32.to_be_bytes());
    bytes
}

fn java_node(path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    crate::wire::jute::put_string(&mut bytes, path);
    bytes.extend((-1i32).to_be_bytes());
    bytes.extend((-1i64).to_be_bytes());
    bytes.extend([0; 60]);
    bytes
}

#[test]
fn what_java_never_sends_is_refused_with_a_sentence() {
    let end = [&[0, 0, 0, 1, b'/'][..], &[0, 0, 0, 10], b"BenWasHere"].concat();
    let join = |parts: &[&[u8]]| [&java_head()[..], &parts.concat()].concat();
    let refused = |bytes: &[u8]| received(Form::Java, Zxid(1), bytes, &[7]).unwrap_err().to_string();
    let root = java_node("");
    assert!(received(Form::Java, Zxid(1), &join(&[&root, &end]), &[7]).is_ok_and(|(parts, _)| parts.is_over));
    for (bytes, why) in [
        (vec![0xff; 4], "the number of sessions: a negative number"),
        (join(&[&[0xff; 4]]), "a node: null for a path"),
        (join(&[&root, &[0x7f, 0xff, 0xff, 0xff]]), "a node: a string or buffer of 2147483647 bytes"),
        (join(&[&root, &[0x80, 0, 0, 0]]), "a node: a string or buffer of -2147483648 bytes"),
        (join(&[&end]), "the root is missing"),
        (join(&[&root, &root]), "\"/\" comes twice"),
        (join(&[&root, &java_node("/a/b")]), "\"/a/b\" comes before its parent, or without it"),
        (join(&[&root, &java_node("a")]), "\"a\" is not a path"),
        (join(&[&root, &end[..9], b"BenWasHero"]), "what follows the last node: not the signature of Java's stream"),
        (join(&[&root, &end[..5], &[0; 14]]), "what follows the last node: not the signature of Java's stream"),
    ] {
        let error = refused(&bytes);
        assert!(error.contains(why), "{error}");
    }
}

/// A Java leader goes on changing its tree while it writes: later nodes, and lists that were not there at the beginning.
#[test]
fn a_state_between_two_transactions_is_taken() {
    let mut later = java_node("/later");
    let acl_at = later.len() - 60 - 8;
    later[acl_at..acl_at + 16].copy_from_slice(&[77i64.to_be_bytes(), 500i64.to_be_bytes()].concat());
    let bytes = [&java_head()[..], &java_node(""), &later, b"\0\0\0\x01/\0\0\0\x0aBenWasHere"].concat();
    let tree = passed(Form::Java, Zxid(9), &bytes, &[10]).tree();
    let later = tree.find("/later").unwrap();
    assert_eq!((tree.raw_stat(later).czxid, tree.last_processed()), (500, Zxid(9)));
    assert_eq!(tree.unknown_acls(), [("77".to_owned(), 1)]);
}

/// A number or a length takes no memory before its bytes have come.
#[test]
fn promises_take_no_memory() {
    let most = i32::MAX.to_be_bytes();
    let lists = [&[0; 4][..], &most, &[0; 8], &most].concat();
    let long = [&java_head()[..], &java_node(""), &(1i32 << 20).to_be_bytes(), b"/abc"].concat();
    for bytes in [&most[..], &lists, &long] {
        let mut decoder = java_decode::JavaDecoder::new(Zxid(1), Limits::default());
        assert_eq!(decoder.push(bytes), Ok(bytes.len()));
        assert!(decoder.held_bytes() < 100, "{}", decoder.held_bytes());
    }
}

#[test]
fn nothing_comes_after_an_error() {
    for form in FORMS {
        let mut decoder = SnapshotDecoder::new(form, Zxid(1), Limits::default());
        assert!(decoder.push(&[0xff; 100]).is_err());
        assert_eq!(decoder.push(&[0; 100]), Ok(0));
        assert!(decoder.take().is_none() && !decoder.is_over());
    }
}

/// Parts are given as they are asked for, and not one more is read before.
#[test]
fn the_taker_sets_the_pace() {
    let (bytes, given) = sent(Form::Native, &mut grown(&[create("/a")]), 100, &[]);
    let mut decoder = SnapshotDecoder::new(Form::Native, Zxid(1), Limits::default());
    let mut taken = 0;
    for _ in 0..given.chunks.len() + 2 {
        let more = decoder.push(&bytes[taken..]).unwrap();
        assert!(more > 0);
        taken += more;
        assert_eq!(decoder.push(&bytes[taken..]), Ok(0), "something is to be taken first");
        assert!(decoder.take().is_some() && decoder.take().is_none());
    }
    assert_eq!((taken, decoder.is_over()), (bytes.len(), true));
}
