//! The core's messages as they are, in frames: what one ringkeeper sends to another.
//!
//! ```text
//! | magic "rksnapst" | version u32 |  then frames:
//! | header checksum u32 | payload checksum u32 | sequence u32 | payload bytes u32 | kind u8 | last u8 | zero u16 | payload ... |
//! ```
//!
//! A message is an archive (rkyv), cut into one or more frames; the last of them says so. The first is the snapshot's header,
//! then its chunks, then the end, which is empty. Little-endian, checksums crc32c: the first covers the rest of the frame's
//! header, so that a length is believed before its bytes are waited for. Nothing of a message is looked at before all its
//! frames have come whole and in order, and its archive is checked before it is read. Memory grows as frames come, up to the
//! largest message.

use rkyv::rancor;
use rkyv::util::AlignedVec;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::SnapshotStreamError;
use crate::core::types::LinkMessage;

const MAGIC: [u8; 8] = *b"rksnapst";
/// Of these frames, and of the images in them.
const VERSION: u32 = 1;
const PRELUDE_BYTES: usize = MAGIC.len() + size_of::<U32>();

/// A chunk of the core mostly fits in one frame.
const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// A header with tens of millions of sessions or lists is no larger, nor is a node. Archives reach as far as 2 GiB.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct FrameHeader {
    /// Of everything after this field.
    checksum: U32,
    payload_checksum: U32,
    /// Counts the frames.
    sequence: U32,
    payload_bytes: U32,
    kind: u8,
    /// 1: the message ends here.
    last: u8,
    zero: U16,
}

const HEADER_BYTES: usize = size_of::<FrameHeader>();
const _: () = assert!(HEADER_BYTES == 20);

impl FrameHeader {
    fn own_checksum(&self) -> u32 {
        crc32c::crc32c(&self.as_bytes()[size_of::<U32>()..])
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Header = 1,
    Chunk = 2,
    End = 3,
}

impl Kind {
    fn of(number: u8) -> Option<Kind> {
        [Kind::Header, Kind::Chunk, Kind::End].into_iter().find(|kind| *kind as u8 == number)
    }

    /// Whether a message of this kind may follow one of `before`, or begin the stream.
    fn follows(self, before: Option<Kind>) -> bool {
        match before {
            None => self == Kind::Header,
            Some(Kind::Header | Kind::Chunk) => self != Kind::Header,
            Some(Kind::End) => false,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct NativeEncoder {
    sequence: u32,
    bytes_written: u64,
    archive: AlignedVec,
}

impl NativeEncoder {
    pub fn message(&mut self, message: LinkMessage, out: &mut Vec<u8>) -> Result<(), SnapshotStreamError> {
        let before = out.len();
        let written = self.archive(&message).and_then(|kind| self.frames(kind, out));
        self.bytes_written += (out.len() - before) as u64;
        written.map_err(|why| SnapshotStreamError { at: self.bytes_written, why })
    }

    fn archive(&mut self, message: &LinkMessage) -> Result<Kind, String> {
        let mut archive = std::mem::take(&mut self.archive);
        archive.clear();
        let (kind, archived) = match message {
            LinkMessage::SnapshotBegin(header) => {
                (Kind::Header, rkyv::api::high::to_bytes_in::<_, rancor::Error>(&**header, archive))
            }
            LinkMessage::SnapshotChunk(chunk) => (Kind::Chunk, rkyv::api::high::to_bytes_in(chunk, archive)),
            LinkMessage::SnapshotEnd => (Kind::End, Ok(archive)),
            LinkMessage::Packet(packet) => panic!("{packet:?} in a snapshot"),
        };
        self.archive = archived.map_err(|error| error.to_string())?;
        let bytes = self.archive.len();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(format!("a {kind:?} of {bytes} bytes cannot be sent"));
        }
        Ok(kind)
    }

    fn frames(&mut self, kind: Kind, out: &mut Vec<u8>) -> Result<(), String> {
        if self.sequence == 0 {
            out.extend_from_slice(&MAGIC);
            out.extend_from_slice(&VERSION.to_le_bytes());
        }
        let mut rest = &self.archive[..];
        loop {
            let (payload, behind) = rest.split_at(rest.len().min(PAYLOAD_BYTES_MAX));
            rest = behind;
            let mut header = FrameHeader {
                checksum: 0.into(),
                payload_checksum: crc32c::crc32c(payload).into(),
                sequence: self.sequence.into(),
                payload_bytes: (payload.len() as u32).into(),
                kind: kind as u8,
                last: u8::from(rest.is_empty()),
                zero: 0.into(),
            };
            header.checksum = header.own_checksum().into();
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(payload);
            self.sequence = self.sequence.checked_add(1).ok_or("more frames than can be counted")?;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct NativeDecoder {
    bytes_taken: u64,
    sequence: u32,
    /// Of the last whole message.
    before: Option<Kind>,
    /// Of the message under way.
    kind: Option<Kind>,
    stage: Stage,
    /// The beginning of the prelude or of a frame's header.
    held: Vec<u8>,
    /// Payloads of the message under way.
    message: AlignedVec,
    ready: Option<LinkMessage>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    #[default]
    Prelude,
    FrameHeader,
    /// `left` bytes of this frame's payload.
    Payload {
        kind: Kind,
        last: bool,
        checksum: u32,
        /// Where in the message the payload begins.
        from: usize,
        left: usize,
    },
    Over,
    /// After an error: nothing more comes.
    Failed,
}

impl NativeDecoder {
    pub fn push(&mut self, bytes: &[u8]) -> Result<usize, SnapshotStreamError> {
        let mut rest = bytes;
        let read = self.read(&mut rest);
        let taken = bytes.len() - rest.len();
        self.bytes_taken += taken as u64;
        read.map(|()| taken).map_err(|why| {
            self.stage = Stage::Failed;
            SnapshotStreamError { at: self.bytes_taken, why }
        })
    }

    fn read(&mut self, rest: &mut &[u8]) -> Result<(), String> {
        while self.ready.is_none() {
            match self.stage {
                Stage::Prelude => {
                    let Some(prelude) = self.hold::<PRELUDE_BYTES>(rest) else { break };
                    check_prelude(&prelude)?;
                    self.stage = Stage::FrameHeader;
                }
                Stage::FrameHeader => {
                    let Some(header) = self.hold::<HEADER_BYTES>(rest) else { break };
                    let header = FrameHeader::read_from_bytes(&header).expect("as many bytes as it has");
                    self.stage = self.begin_frame(&header)?;
                }
                Stage::Payload { kind, last, checksum, from, left } => {
                    let (payload, behind) = rest.split_at(left.min(rest.len()));
                    self.message.extend_from_slice(payload);
                    *rest = behind;
                    if payload.len() < left {
                        self.stage = Stage::Payload { kind, last, checksum, from, left: left - payload.len() };
                        break;
                    }
                    if crc32c::crc32c(&self.message[from..]) != checksum {
                        return Err("its bytes were changed on the way (checksum mismatch)".into());
                    }
                    self.stage = Stage::FrameHeader;
                    if last {
                        self.end_message(kind)?;
                    }
                }
                Stage::Over | Stage::Failed => break,
            }
        }
        Ok(())
    }

    /// As many bytes, when they have come.
    fn hold<const N: usize>(&mut self, rest: &mut &[u8]) -> Option<[u8; N]> {
        let (more, behind) = rest.split_at((N - self.held.len()).min(rest.len()));
        self.held.extend_from_slice(more);
        *rest = behind;
        let whole = self.held.as_slice().try_into().ok()?;
        self.held.clear();
        Some(whole)
    }

    fn begin_frame(&mut self, header: &FrameHeader) -> Result<Stage, String> {
        if header.checksum.get() != header.own_checksum() {
            return Err("its bytes were changed on the way (checksum mismatch in a frame's header)".into());
        }
        if header.sequence.get() != self.sequence {
            return Err(format!("frame {} came where {} is next", header.sequence, self.sequence));
        }
        self.sequence = self.sequence.checked_add(1).ok_or("more frames than can be counted")?;
        let may_come = |kind: &Kind| self.kind.map_or(kind.follows(self.before), |under_way| *kind == under_way);
        let kind = Kind::of(header.kind).filter(may_come);
        let kind =
            kind.ok_or_else(|| format!("a frame of kind {} after {:?}", header.kind, self.kind.or(self.before)))?;
        self.kind = Some(kind);
        let (from, left) = (self.message.len(), header.payload_bytes.get() as usize);
        if left > PAYLOAD_BYTES_MAX || from + left > MESSAGE_BYTES_MAX || header.last > 1 || header.zero != 0 {
            return Err(format!("a frame that no ringkeeper of this version sends: {header:?}"));
        }
        Ok(Stage::Payload { kind, last: header.last == 1, checksum: header.payload_checksum.get(), from, left })
    }

    fn end_message(&mut self, kind: Kind) -> Result<(), String> {
        let unreadable = |error: rancor::Error| format!("an unreadable {kind:?}: {error}");
        self.ready = Some(match kind {
            Kind::Header => LinkMessage::SnapshotBegin(Box::new(rkyv::from_bytes(&self.message).map_err(unreadable)?)),
            Kind::Chunk => LinkMessage::SnapshotChunk(rkyv::from_bytes(&self.message).map_err(unreadable)?),
            Kind::End if self.message.is_empty() => LinkMessage::SnapshotEnd,
            Kind::End => return Err("an end with something in it".into()),
        });
        (self.before, self.kind) = (Some(kind), None);
        self.message.clear();
        Ok(())
    }

    pub fn take(&mut self) -> Option<LinkMessage> {
        let message = self.ready.take()?;
        if matches!(message, LinkMessage::SnapshotEnd) {
            self.stage = Stage::Over;
        }
        Some(message)
    }

    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }
}

fn check_prelude(prelude: &[u8; PRELUDE_BYTES]) -> Result<(), String> {
    let (magic, version) = prelude.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err("not a snapshot as ringkeeper sends it".into());
    }
    if version != VERSION.to_le_bytes() {
        let version = u32::from_le_bytes(version.try_into().expect("4 bytes"));
        return Err(format!("version {version} of the stream, and this server knows {VERSION}: upgrade it"));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use ringkeeper_storage::{SnapshotChunk, SnapshotHeader};

    use super::*;

    /// The frames of a stream, one by one.
    pub fn frames(stream: &[u8]) -> Vec<&[u8]> {
        let mut rest = &stream[PRELUDE_BYTES..];
        let mut frames = Vec::new();
        while let Ok((header, _)) = FrameHeader::ref_from_prefix(rest) {
            let (frame, behind) = rest.split_at(HEADER_BYTES + header.payload_bytes.get() as usize);
            frames.push(frame);
            rest = behind;
        }
        frames
    }

    /// A stream whose last message, the chunk if there is one, was spoiled before it was put into frames.
    pub fn spoiled(header: &SnapshotHeader, chunk: Option<&SnapshotChunk>, spoil: impl Fn(&mut [u8])) -> Vec<u8> {
        let (mut encoder, mut out) = (NativeEncoder::default(), Vec::new());
        let begin = LinkMessage::SnapshotBegin(Box::new(header.clone()));
        let last = match chunk {
            None => begin,
            Some(chunk) => {
                encoder.message(begin, &mut out).unwrap();
                LinkMessage::SnapshotChunk(chunk.clone())
            }
        };
        let kind = encoder.archive(&last).unwrap();
        spoil(&mut encoder.archive);
        encoder.frames(kind, &mut out).unwrap();
        out
    }
}
