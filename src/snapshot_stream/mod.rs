//! A whole state on its way from a leader to a learner: the bytes that follow a SNAP packet, both ways, in two forms.
//!
//! ```text
//!   leader's core --LinkMessage--> SnapshotEncoder --bytes, over the link--> SnapshotDecoder --LinkMessage--> learner's core
//! ```
//!
//! * Java's form (`java_encode.rs`, `java_decode.rs`), with a Java server at either end: sessions, permission lists, and the
//!   nodes with their paths, parents first; no lengths, no checksums. To write it, paths are put together as images come; to
//!   read it, a tree is built, and then walked for the core.
//! * Our own form (`native.rs`) among ringkeeper peers: the core's messages as they are, in frames with checksums.
//!
//! Pure: no sockets, no clock. Which form a link speaks is agreed before the stream. Bytes of any kind are an error at worst,
//! and nothing is allocated from a length that the sender merely claims.
//! Spec: on-disk formats 5, quorum-protocol 7.6 and 8.1. Java: `ZKDatabase.serializeSnapshot`, `SerializeUtils`.

mod java_decode;
mod java_encode;
mod native;

#[cfg(test)]
mod tests;

use crate::core::types::{LinkMessage, Zxid};
use crate::wire::jute::Limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Java,
    Native,
}

/// Why a stream ends before its end; the link has to be closed. `at` counts from the first byte behind the SNAP packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot on this link is of no use, at byte {at}: {why}")]
pub struct SnapshotStreamError {
    pub at: u64,
    pub why: String,
}

/// The leader's end.
#[derive(Debug)]
pub struct SnapshotEncoder(Encoder);

#[derive(Debug)]
enum Encoder {
    Java(java_encode::JavaEncoder),
    Native(native::NativeEncoder),
}

impl SnapshotEncoder {
    pub fn new(form: Form) -> SnapshotEncoder {
        SnapshotEncoder(match form {
            Form::Java => Encoder::Java(Default::default()),
            Form::Native => Encoder::Native(Default::default()),
        })
    }

    /// Appends what a part of the snapshot, as the core gives them in order, is on the wire: nothing yet, perhaps. With
    /// `SnapshotEnd` the stream is complete. An error is one of our own tree, which is not what it says.
    ///
    /// # Panics
    /// At packets: they are no part of a snapshot.
    pub fn message(&mut self, message: LinkMessage, out: &mut Vec<u8>) -> Result<(), SnapshotStreamError> {
        match &mut self.0 {
            Encoder::Java(encoder) => encoder.message(message, out),
            Encoder::Native(encoder) => encoder.message(message, out),
        }
    }
}

/// The learner's end.
#[derive(Debug)]
pub struct SnapshotDecoder(Decoder);

#[derive(Debug)]
enum Decoder {
    Java(java_decode::JavaDecoder),
    Native(native::NativeDecoder),
}

impl SnapshotDecoder {
    /// For what follows a SNAP packet with this zxid.
    pub fn new(form: Form, zxid: Zxid, limits: Limits) -> SnapshotDecoder {
        SnapshotDecoder(match form {
            Form::Java => Decoder::Java(java_decode::JavaDecoder::new(zxid, limits)),
            Form::Native => Decoder::Native(native::NativeDecoder::default()),
        })
    }

    /// Takes bytes, in pieces of any size, and says how many: fewer than there are while [`SnapshotDecoder::take`] has
    /// something to give, and when the stream is over. What is behind its end are packets.
    pub fn push(&mut self, bytes: &[u8]) -> Result<usize, SnapshotStreamError> {
        match &mut self.0 {
            Decoder::Java(decoder) => decoder.push(bytes),
            Decoder::Native(decoder) => decoder.push(bytes),
        }
    }

    /// The next part for the learner's core, if there is one already. Parts may wait here as long as the caller likes: they
    /// are made as they are taken, or their bytes are not taken before.
    pub fn take(&mut self) -> Option<LinkMessage> {
        match &mut self.0 {
            Decoder::Java(decoder) => decoder.take(),
            Decoder::Native(decoder) => decoder.take(),
        }
    }

    /// `SnapshotEnd` was taken.
    pub fn is_over(&self) -> bool {
        match &self.0 {
            Decoder::Java(decoder) => decoder.is_over(),
            Decoder::Native(decoder) => decoder.is_over(),
        }
    }
}
