//! Java's stream of paths as a tree, and that as the core's messages.
//!
//! ```text
//!   sessions -> lists -> nodes, into the tree -> "BenWasHere" -> Begin, Chunk, Chunk, ..., End, as they are taken
//! ```
//!
//! The stream has no lengths and no checksums, so all of it is read before the core sees any of it. It is cut into small
//! items, and bytes are kept of the one item only that has not come as a whole. A Java leader goes on changing its tree while
//! it writes: the tree may have effects of transactions behind the zxid of the SNAP packet, which all follow as proposals;
//! permission lists that are missing come with those (`core/tree/build.rs`).
//!
//! Java: `Learner.syncWithLeader`, `DataTree.deserialize`.

use ringkeeper_storage::SnapshotHeader;
use ringkeeper_storage::java::snap::END_OF_NODES;
use ringkeeper_storage::java::{JavaAcl, JavaNode, JavaStat};

use super::SnapshotStreamError;
use super::java_encode::SIGNATURE;
use crate::core::tree::{BuildError, DataTree, TreeBuilder, WalkId};
use crate::core::types::{LinkMessage, Zxid};
use crate::java::convert::{OPTIONS, build_acl, build_node};
use crate::wire::jute::{DecodeError, Limits, Reader};

/// Bytes of node images in one chunk, as the core's own walk for links has them.
const CHUNK_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct JavaDecoder {
    zxid: Zxid,
    limits: Limits,
    /// Of the stream, taken so far.
    bytes_taken: u64,
    /// The beginning of an item.
    held: Vec<u8>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Reading(Box<Reading>),
    Giving {
        header: Option<Box<SnapshotHeader>>,
        tree: Box<DataTree>,
        walk: WalkId,
    },
    Over,
    /// After an error: nothing more comes.
    Failed,
}

/// What has been read, and what comes next.
#[derive(Debug)]
struct Reading {
    next: Item,
    sessions: Vec<(i64, i32)>,
    list: Vec<JavaAcl>,
    tree: TreeBuilder,
}

#[derive(Clone, Copy, Debug)]
enum Item {
    SessionCount,
    Session {
        left: i32,
    },
    ListCount,
    List {
        left: i32,
    },
    /// An entry of the list with this number; then `lists_left` more.
    Entry {
        number: i64,
        left: i32,
        lists_left: i32,
    },
    Node,
    Signature,
    Nothing,
}

enum Failure {
    Bytes(DecodeError),
    Content(String),
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Failure {
        Failure::Bytes(error)
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Failure {
        Failure::Content(error.to_string())
    }
}

impl JavaDecoder {
    pub fn new(zxid: Zxid, limits: Limits) -> JavaDecoder {
        let tree = TreeBuilder::new(OPTIONS);
        let reading = Reading { next: Item::SessionCount, sessions: Vec::new(), list: Vec::new(), tree };
        JavaDecoder { zxid, limits, bytes_taken: 0, held: Vec::new(), stage: Stage::Reading(Box::new(reading)) }
    }

    pub fn push(&mut self, bytes: &[u8]) -> Result<usize, SnapshotStreamError> {
        let mut taken = 0;
        let read = self.read(bytes, &mut taken);
        self.bytes_taken += taken as u64;
        read.map(|()| taken).map_err(|why| {
            self.stage = Stage::Failed;
            SnapshotStreamError { at: self.bytes_taken, why }
        })
    }

    fn read(&mut self, bytes: &[u8], taken: &mut usize) -> Result<(), String> {
        while let Stage::Reading(reading) = &mut self.stage {
            if matches!(reading.next, Item::Nothing) {
                return self.begin_giving();
            }
            let rest = &bytes[*taken..];
            let mut reader = Reader::new(if self.held.is_empty() { rest } else { &self.held }, &self.limits);
            match reading.item(&mut reader) {
                Ok(()) if self.held.is_empty() => *taken = bytes.len() - reader.rest().len(),
                Ok(()) => {
                    assert!(reader.is_empty(), "no more was held than the item needed");
                    self.held.clear();
                }
                Err(Failure::Bytes(DecodeError::Truncated { missing_bytes })) => {
                    // Only what the item is sure to need: what is behind it may belong to somebody else.
                    let more = if self.held.is_empty() { rest.len() } else { missing_bytes.min(rest.len()) };
                    self.held.extend_from_slice(&rest[..more]);
                    *taken += more;
                    if more < missing_bytes {
                        return Ok(());
                    }
                }
                Err(Failure::Bytes(error)) => return Err(format!("{}: {error}", reading.next.name())),
                Err(Failure::Content(why)) => return Err(why),
            }
        }
        Ok(())
    }

    fn begin_giving(&mut self) -> Result<(), String> {
        let Stage::Reading(reading) = std::mem::replace(&mut self.stage, Stage::Failed) else {
            unreachable!("called in this stage");
        };
        let mut tree = reading.tree.finish(self.zxid).map_err(|error| error.to_string())?;
        let (walk, mut header) = tree.begin_snapshot();
        header.sessions = reading.sessions;
        header.sessions.sort_unstable();
        self.stage = Stage::Giving { header: Some(Box::new(header)), tree: Box::new(tree), walk };
        Ok(())
    }

    pub fn take(&mut self) -> Option<LinkMessage> {
        let Stage::Giving { header, tree, walk } = &mut self.stage else { return None };
        if let Some(header) = header.take() {
            return Some(LinkMessage::SnapshotBegin(header));
        }
        if let Some(chunk) = tree.snapshot_slice(*walk, CHUNK_BYTES) {
            return Some(LinkMessage::SnapshotChunk(chunk));
        }
        self.stage = Stage::Over;
        Some(LinkMessage::SnapshotEnd)
    }

    /// Beside the tree.
    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        let Stage::Reading(reading) = &self.stage else { return 0 };
        let Reading { sessions, list, .. } = &**reading;
        self.held.capacity() + size_of::<(i64, i32)>() * sessions.capacity() + size_of::<JavaAcl>() * list.capacity()
    }

    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }
}

impl Reading {
    /// Reads one item, or changes nothing.
    fn item(&mut self, reader: &mut Reader<'_>) -> Result<(), Failure> {
        self.next = match self.next {
            Item::SessionCount => Item::Session { left: count(reader)? },
            Item::Session { left: 0 } => Item::ListCount,
            Item::Session { left } => {
                self.sessions.push((reader.i64()?, reader.i32()?));
                Item::Session { left: left - 1 }
            }
            Item::ListCount => Item::List { left: count(reader)? },
            Item::List { left: 0 } => Item::Node,
            Item::List { left } => {
                let number = reader.i64()?;
                // A null list counts as an empty one.
                Item::Entry { number, left: reader.i32()?.max(0), lists_left: left - 1 }
            }
            Item::Entry { number, left: 0, lists_left } => {
                build_acl(&mut self.tree, number, &self.list)?;
                self.list.clear();
                Item::List { left: lists_left }
            }
            Item::Entry { number, left, lists_left } => {
                let perms = reader.i32()?;
                let (scheme, id) = (reader.buffer()?, reader.buffer()?);
                let text = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
                self.list.push(JavaAcl { perms, scheme: text(scheme), id: text(id) });
                Item::Entry { number, left: left - 1, lists_left }
            }
            Item::Node => {
                let path = reader.buffer()?.ok_or(DecodeError::Invalid("null for a path"))?;
                if path == END_OF_NODES {
                    Item::Signature
                } else {
                    let (data, acl) = (reader.buffer()?, reader.i64()?);
                    let stat = JavaStat::from(&reader.array()?);
                    build_node(&mut self.tree, &JavaNode { path, data, acl, stat })?;
                    Item::Node
                }
            }
            Item::Signature => {
                let found: [u8; 4 + SIGNATURE.len()] = reader.array()?;
                if found[..4] != (SIGNATURE.len() as i32).to_be_bytes() || found[4..] != *SIGNATURE.as_bytes() {
                    return Err(DecodeError::Invalid("not the signature of Java's stream").into());
                }
                Item::Nothing
            }
            Item::Nothing => unreachable!("nothing is read behind the end"),
        };
        Ok(())
    }
}

fn count(reader: &mut Reader<'_>) -> Result<i32, DecodeError> {
    let count = reader.i32()?;
    if count < 0 { Err(DecodeError::Invalid("a negative number")) } else { Ok(count) }
}

impl Item {
    /// For people.
    fn name(self) -> &'static str {
        match self {
            Item::SessionCount => "the number of sessions",
            Item::Session { .. } => "a session",
            Item::ListCount => "the number of permission lists",
            Item::List { .. } => "a permission list",
            Item::Entry { .. } => "an entry of a permission list",
            Item::Node => "a node",
            Item::Signature => "what follows the last node",
            Item::Nothing => "the end",
        }
    }
}
