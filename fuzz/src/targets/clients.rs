//! What anybody may send to the client port.

use ringkeeper::wire::client::multi::MultiOp;
use ringkeeper::wire::client::{ConnectRequest, Request, RequestHeader};
use ringkeeper::wire::frame::{
    self, FirstBytes, FourLetterWord, FrameAssembler, FrameLengthError, Frames, complete_bytes, first_bytes, trace_mask,
};
use ringkeeper::wire::jute::{Limits, Reader};

use super::{controlled, piece_ends};
use crate::memory::bounded;

/// Low enough for inputs to come to them.
const FRAME_BYTES_MAX: usize = 512;

/// Nulls in lists are the dearest: 4 bytes for a string of 24, in a list that doubles as it grows.
const REQUEST_GROWTH: usize = 32;

/// Frames come out whole, in order and once, however the stream is cut; a bad length is refused behind all that was good.
pub fn frames(input: &[u8]) {
    let (control, stream) = controlled(input);
    let limits = Limits::new(FRAME_BYTES_MAX, None);
    let (mut assembler, mut given, mut from) = (FrameAssembler::default(), 0, 0);
    let mut ended: Result<(), FrameLengthError> = Ok(());
    bounded("frames", stream.len(), 4, || {
        for end in piece_ends(control, stream) {
            ended = assembler.push(&stream[from..end], &limits, |frames| {
                assert_eq!(frames, &stream[given..given + frames.len()]);
                let mut walk = Frames::new(frames);
                assert!(walk.by_ref().all(|payload| payload.len() <= FRAME_BYTES_MAX));
                assert!(walk.rest().is_empty(), "half a frame");
                given += frames.len();
            });
            from = end;
            if ended.is_err() {
                break;
            }
        }
    });
    let (complete, checked) = complete_bytes(stream, &limits);
    assert_eq!(ended, checked);
    assert_eq!(given, complete);
    assert!(ended.is_err() || assembler.partial_bytes() == stream.len() - complete);
}

/// A word is one of those there are, and could be no frame; everything else is frames.
pub fn words(input: &[u8]) {
    let word = input.first_chunk::<4>();
    let known = word.and_then(|word| FourLetterWord::ALL.iter().find(|known| known.bytes() == *word));
    let expected = match (word, known) {
        (None, _) => FirstBytes::TooFew,
        (Some(word), Some(known)) => {
            assert!(frame::payload_bytes(*word, &Limits::default()).is_err(), "{known:?} could be a length");
            FirstBytes::Word(*known)
        }
        (Some(_), None) => FirstBytes::Frames,
    };
    assert_eq!(bounded("words", input.len(), 0, || first_bytes(input)), expected);
    assert_eq!(trace_mask(input).is_some(), input.len() >= 12);
}

/// The handshake.
pub fn connect(input: &[u8]) {
    let limits = Limits::default();
    let Ok(asked) = bounded("connect", input.len(), 0, || ConnectRequest::decode(input, &limits)) else { return };
    let mut written = Vec::new();
    asked.encode(&mut written);
    let payload = Frames::new(&written).next().expect("a whole frame");
    assert!(payload.len() <= input.len(), "bytes out of nowhere");
    assert_eq!(ConnectRequest::decode(payload, &limits), Ok(asked));
}

/// Every request, behind its header.
pub fn request(input: &[u8]) {
    let limits = Limits::default();
    let mut reader = Reader::new(input, &limits);
    let Ok(header) = RequestHeader::decode(&mut reader) else { return };
    let decode = || Request::decode(header.opcode, reader.rest(), &limits);
    let Ok(request) = bounded("request", input.len(), REQUEST_GROWTH, decode) else { return };
    assert_eq!(request.opcode().number(), header.opcode);
    if has_no_form_of_its_own(&request) {
        return;
    }
    let mut written = Vec::new();
    request.encode(header.xid, &mut written);
    let payload = Frames::new(&written).next().expect("a whole frame");
    // What was no UTF-8 may have become longer than a client could send.
    let mut again = Reader::new(payload, &Limits::FORMAT);
    assert_eq!(RequestHeader::decode(&mut again), Ok(header));
    assert_eq!(Request::decode(header.opcode, again.rest(), &Limits::FORMAT), Ok(request));
}

/// An item that came as a `createTTL` without its flags is another kind of create, which could not have come as one itself.
fn has_no_form_of_its_own(request: &Request<'_>) -> bool {
    let Request::Multi(ops) = request else { return false };
    ops.iter().any(|op| match op {
        MultiOp::Create(create) => create.acl.is_none() || !(0..=3).contains(&create.flags),
        MultiOp::CreateContainer(create) => create.acl.is_none(),
        _ => false,
    })
}
