//! A Java server's snapshot. It is a stream without places: to be walked it has to be in memory, as a tree.

use std::fs::File;
use std::path::Path;

use ringkeeper::core::tree::{AclRef, DataTree, NodeId, TreeBuilder};
use ringkeeper::java::convert::{OPTIONS, acl, raw_stat};
use ringkeeper::wire::jute::decode_utf8;
use ringkeeper_storage::Zxid;
use ringkeeper_storage::java::names::{self, Compression, Name};
use ringkeeper_storage::java::{JavaError, SnapHead, SnapReader, SnapTail};

use super::node::{Found, Node, Tree, acl_text};
use super::open::{Damage, Facts, Opened, Snapshot, name_of};
use crate::console::{Failure, Result};
use crate::progress;
use crate::show::Hex;

/// How it is packed, if it is one: by its first bytes, else by its name.
pub fn packing(path: &Path, magic: &[u8]) -> Option<Compression> {
    let named = match names::parse(&name_of(path)) {
        Some(Name::Snapshot(_, packing)) => Some(packing),
        _ => None,
    };
    match magic {
        [b'Z', b'K', b'S', b'N', ..] => Some(Compression::Plain),
        [0x1f, 0x8b, ..] => Some(Compression::Gzip),
        [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, ..] => Some(Compression::Snappy),
        _ => named,
    }
}

pub fn open(path: &Path, bytes: u64, packing: Compression) -> Result<Snapshot> {
    let file = name_of(path);
    let named = match names::parse(&file) {
        Some(Name::Snapshot(zxid, _)) => Some(zxid),
        _ => None,
    };
    let facts = Facts { file: file.clone(), format: "java", bytes, zxid: named.map(Hex::from), ..Facts::default() };
    let bar = progress::over_bytes(path, bytes);
    let input = bar.wrap_read(File::open(path).map_err(Failure::file(path))?);
    let damage = |why: String| Damage { file: file.clone(), why };
    let (head, reader) = match SnapReader::open(path.to_owned(), input, packing) {
        Ok(opened) => opened,
        Err(error) => {
            let damages = vec![damage(reason(error)?)];
            return Ok(Snapshot { facts, sessions: Vec::new(), opened: Opened::Nothing, damages });
        }
    };
    let mut damages = Vec::new();
    let sessions = head.sessions.clone();
    let (builder, tail) = read(&head, reader, |why| damages.push(damage(why)))?;
    bar.finish_and_clear();
    let tail = tail.unwrap_or_default();
    let zxid = named.or(tail.last_zxid);
    let tree = match builder.finish(zxid.unwrap_or(Zxid::ZERO)) {
        Ok(tree) => Some(tree),
        Err(error) => {
            damages.push(damage(error.to_string()));
            None
        }
    };
    let later = tail.digest.map(|digest| digest.zxid).max(tail.last_zxid);
    let facts = Facts {
        zxid: zxid.map(Hex::from),
        fuzzy: zxid.is_some_and(|zxid| later.is_some_and(|later| later > zxid)),
        nodes: tree.as_ref().map(DataTree::node_count),
        data_bytes: tree.as_ref().map(DataTree::approximate_data_size),
        digest: tail.digest.map(|digest| Hex(digest.digest)),
        digest_zxid: tail.digest.map(|digest| digest.zxid.into()),
        acls: Some(head.acls.len() as u64),
        sessions: sessions.len() as u64,
        ..facts
    };
    let opened = tree.map_or(Opened::Nothing, |tree| Opened::Java(InMemory(tree)));
    Ok(Snapshot { facts, sessions, opened, damages })
}

/// Damage of the file is an answer; a disk that cannot read is none.
fn reason(error: JavaError) -> Result<String> {
    match error {
        JavaError::Store(error) => Err(error.into()),
        JavaError::Snapshot { why, .. } => Ok(why),
        other => Ok(other.to_string()),
    }
}

/// As many nodes as there are before the stream breaks.
fn read(
    head: &SnapHead,
    mut reader: SnapReader<'_>,
    mut damaged: impl FnMut(String),
) -> Result<(TreeBuilder, Option<SnapTail>)> {
    let mut builder = TreeBuilder::new(OPTIONS);
    for (number, list) in &head.acls {
        let list: Vec<_> = list.iter().map(acl).collect();
        if let Err(error) = builder.acl(*number, &list) {
            damaged(error.to_string());
        }
    }
    let mut nodes = 0u64;
    loop {
        match reader.next_node() {
            Ok(Some(node)) => {
                nodes += 1;
                let added = builder.add(&decode_utf8(node.path), node.data, node.acl, &raw_stat(&node.stat));
                if let Err(error) = added {
                    damaged(format!("node {nodes}: {error}"));
                }
            }
            Ok(None) => break,
            Err(error) => {
                damaged(format!(
                    "{}; {nodes} nodes lie before that, and nothing behind it can be read",
                    reason(error)?
                ));
                return Ok((builder, None));
            }
        }
    }
    match reader.finish() {
        Ok(tail) => Ok((builder, Some(tail))),
        Err(error) => {
            damaged(reason(error)?);
            Ok((builder, None))
        }
    }
}

pub struct InMemory(pub DataTree);

impl Tree for InMemory {
    fn root(&self) -> u32 {
        NodeId::ROOT.0
    }

    fn node(&self, number: u32) -> Found<Node<'_>> {
        let id = NodeId(number);
        Ok(Node {
            name: self.0.name(id),
            data: self.0.data(id),
            acl: self.0.acl_ref(id).0,
            stat: self.0.raw_stat(id),
            children: self.0.child_count(id),
        })
    }

    fn children(&self, number: u32, out: &mut Vec<u32>) -> Found<()> {
        out.extend(self.0.children(NodeId(number)).map(|id| id.0));
        Ok(())
    }

    fn child(&self, number: u32, name: &str) -> Found<Option<u32>> {
        Ok(self.0.child(NodeId(number), name).map(|id| id.0))
    }

    fn acl(&self, number: u32) -> String {
        acl_text(self.0.acls().get(AclRef(number)))
    }
}
