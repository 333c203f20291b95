//! What may follow a SNAP packet: a whole state, in Java's form and in ours.
//!
//! A learner decodes the stream, and checks what comes out of it on its way to the disk. A tree that was built here, of what Java
//! sent, it must be able to serve from.

use ringkeeper::core::LinkMessage;
use ringkeeper::core::snapshot_check::SnapshotCheck;
use ringkeeper::core::tree::{DataTree, MemorySnapshot, TreeOptions};
use ringkeeper::snapshot_stream::{Form, SnapshotDecoder, SnapshotEncoder, SnapshotStreamError};
use ringkeeper::wire::jute::Limits;
use ringkeeper_storage::{SnapshotChunk, SnapshotHeader, Zxid};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{controlled, piece_ends};
use crate::memory::bounded_beside;

const ZXID: Zxid = Zxid(0x10_0000_0000);

/// A list without entries is 12 bytes.
const GROWTH: usize = 48;
/// Tables of a tree begin with a page.
const TABLES_BYTES: usize = 512 * 1024;

#[derive(Debug, PartialEq)]
struct Received {
    header: SnapshotHeader,
    chunks: Vec<SnapshotChunk>,
}

/// Java's: what is accepted is a tree, passes the learner's check, can be served from, and is the same after another journey.
pub fn java(input: &[u8]) {
    let (control, stream) = controlled(input);
    let receive = || receive(Form::Java, control, stream);
    let Ok(Some(received)) = bounded_beside("java_snapshot", stream.len(), GROWTH, TABLES_BYTES, receive) else {
        return;
    };
    checked(&received).expect("a tree that was built here");
    for form in [Form::Java, Form::Native] {
        let stream = sent(form, &received).expect("a tree that was built here");
        let again = self::receive(form, control, &stream).expect("a stream of ours").expect("all of it");
        let sums = |received: &Received| (received.header.node_count, received.header.tree_digest);
        assert_eq!(sums(&again), sums(&received));
    }
    serve(received);
}

/// Ours. Two bits say whether checksums and sequence numbers are put right, without which hardly anything would get past them.
pub fn native(input: &[u8]) {
    let (control, stream) = controlled(input);
    let mut stream = stream.to_vec();
    if control & 0x40 == 0 {
        seal(&mut stream, control & 0x80 == 0);
    }
    let receive = || receive(Form::Native, control, &stream);
    let Ok(Some(received)) = bounded_beside("native_snapshot", stream.len(), GROWTH, TABLES_BYTES, receive) else {
        return;
    };
    let _ = bounded_beside("native_snapshot, checked", stream.len(), GROWTH, TABLES_BYTES, || checked(&received));
    let stream = sent(Form::Native, &received).expect("it came in as many bytes");
    let again = self::receive(Form::Native, control, &stream).expect("a stream of ours").expect("all of it");
    assert_eq!(again, received);
}

/// None: the end of it has not come.
fn receive(form: Form, control: u8, stream: &[u8]) -> Result<Option<Received>, SnapshotStreamError> {
    let mut decoder = SnapshotDecoder::new(form, ZXID, Limits::default());
    let (mut header, mut chunks, mut taken) = (None, Vec::new(), 0);
    for end in piece_ends(control, stream) {
        loop {
            let more = decoder.push(&stream[taken..end])?;
            taken += more;
            let mut given = 0;
            while let Some(message) = decoder.take() {
                given += 1;
                match message {
                    LinkMessage::SnapshotBegin(begin) => header = Some(*begin),
                    LinkMessage::SnapshotChunk(chunk) => chunks.push(chunk),
                    LinkMessage::SnapshotEnd => {
                        assert!(decoder.is_over());
                        let header = header.expect("a header before the end");
                        return Ok(Some(Received { header, chunks }));
                    }
                    LinkMessage::Packet(packet) => panic!("{packet:?} out of a snapshot"),
                }
            }
            if given == 0 && more == 0 {
                break;
            }
        }
        assert!(taken == end, "{} bytes were left, and nothing was given for them", end - taken);
    }
    Ok(None)
}

fn sent(form: Form, received: &Received) -> Result<Vec<u8>, SnapshotStreamError> {
    let (mut encoder, mut out) = (SnapshotEncoder::new(form), Vec::new());
    encoder.message(LinkMessage::SnapshotBegin(Box::new(received.header.clone())), &mut out)?;
    for chunk in &received.chunks {
        encoder.message(LinkMessage::SnapshotChunk(chunk.clone()), &mut out)?;
    }
    encoder.message(LinkMessage::SnapshotEnd, &mut out)?;
    Ok(out)
}

fn checked(received: &Received) -> Result<(), String> {
    let mut check = SnapshotCheck::begin(&received.header)?;
    received.chunks.iter().try_for_each(|chunk| check.chunk(chunk))?;
    check.end()
}

/// As a server does that starts from it.
fn serve(received: Received) {
    let nodes = received.header.node_count;
    let images = received.chunks.into_iter().flat_map(|chunk| chunk.nodes);
    let source = Box::new(MemorySnapshot::new(received.header, images));
    let mut tree = DataTree::load(source, TreeOptions::default()).expect("a tree that was built here");
    let moved = std::iter::from_fn(|| Some(tree.move_some(1 << 20))).find_map(|moved| moved).expect("an end");
    assert_eq!((moved.nodes, moved.contradiction), (nodes, None));
    assert!(tree.find("/").is_some());
}

/// Of the stream's frames, as `snapshot_stream` draws them.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct FrameHeader {
    checksum: U32,
    payload_checksum: U32,
    sequence: U32,
    payload_bytes: U32,
    rest: U32,
}

const PRELUDE: &[u8; 12] = b"rksnapst\x01\0\0\0";

/// Puts right what a sender would have, as far as there are whole headers.
fn seal(stream: &mut [u8], with_sequence: bool) {
    let Some((prelude, mut rest)) = stream.split_first_chunk_mut() else { return };
    *prelude = *PRELUDE;
    let mut sequence = 0;
    while let Ok((header, behind)) = FrameHeader::mut_from_prefix(std::mem::take(&mut rest)) {
        let payload_bytes = (header.payload_bytes.get() as usize).min(behind.len());
        let (payload, next) = behind.split_at_mut(payload_bytes);
        header.payload_checksum = crc32c::crc32c(payload).into();
        if with_sequence {
            header.sequence = sequence.into();
        }
        header.checksum = crc32c::crc32c(&header.as_bytes()[size_of::<U32>()..]).into();
        sequence += 1;
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn recorded_streams_are_served_from_and_so_are_sealed_ones() {
        for (name, form) in [("java_snapshot", Form::Java), ("native_snapshot", Form::Native)] {
            let stream = samples::recorded(name).unwrap().swap_remove(0).split_off(1);
            let received = receive(form, 5, &stream).unwrap().unwrap();
            assert_eq!(checked(&received), Ok(()));
            assert!(received.header.node_count > 5);
            if form == Form::Native {
                let mut spoiled = stream.clone();
                spoiled[20..24].fill(0x55);
                assert!(receive(form, 5, &spoiled).is_err());
                seal(&mut spoiled, true);
                assert_eq!(spoiled, stream);
            }
        }
    }
}
