//! The core's images of nodes as Java's stream of paths.
//!
//! ```text
//! sessions: count | (id i64, timeout i32) ...      lists: count | (ref i64, list) ...
//! nodes, parents first: (path | data | ref i64 | stat 60 bytes) ... path "/" | "BenWasHere"
//! ```
//!
//! An image has a name and its parent's place; paths are kept of those nodes only whose children have not all come yet. A
//! node that comes before its parent waits for it. The core's walk for links sees to it that this is not long
//! (`DataTree::begin_snapshot_parents_first`).

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ringkeeper_storage::java::snap_write::{put_end_of_nodes, put_head, put_node};
use ringkeeper_storage::java::{JavaAcl, JavaNode, SnapHead};
use ringkeeper_storage::{AclImage, NodeImage, NodeRef, SnapshotHeader};

use super::SnapshotStreamError;
use crate::core::tree::{AclRef, NodeId, RawStat};
use crate::core::types::LinkMessage;
use crate::java::convert::{java_ref, java_stat};
use crate::wire::jute::put_string;

/// What ends the stream. Java: `LearnerHandler`, `Learner`.
pub(super) const SIGNATURE: &str = "BenWasHere";

#[derive(Debug, Default)]
pub(super) struct JavaEncoder {
    /// By slot: nodes that were written and have more children to come.
    parents: HashMap<u32, Parent, FixedState>,
    /// By the slot of the parent that was not written yet.
    waiting: HashMap<u32, Vec<NodeImage>, FixedState>,
    nodes_expected: u64,
    nodes_written: u64,
    bytes_written: u64,
    path: String,
}

#[derive(Debug)]
struct Parent {
    /// Empty for the root.
    path: Box<str>,
    children_to_come: u32,
}

impl JavaEncoder {
    pub fn message(&mut self, message: LinkMessage, out: &mut Vec<u8>) -> Result<(), SnapshotStreamError> {
        let before = out.len();
        let written = match message {
            LinkMessage::SnapshotBegin(header) => self.begin(*header, out),
            LinkMessage::SnapshotChunk(chunk) => chunk.nodes.into_iter().try_for_each(|image| self.node(image, out)),
            LinkMessage::SnapshotEnd => self.end(out),
            LinkMessage::Packet(packet) => panic!("{packet:?} in a snapshot"),
        };
        self.bytes_written += (out.len() - before) as u64;
        written.map_err(|why| SnapshotStreamError { at: self.bytes_written, why })
    }

    fn begin(&mut self, header: SnapshotHeader, out: &mut Vec<u8>) -> Result<(), String> {
        self.nodes_expected = header.node_count;
        let entry = |acl: AclImage| JavaAcl { perms: acl.perms, scheme: acl.scheme.into(), id: acl.id.into() };
        let lists = header.acls.into_iter();
        let acls = lists.map(|list| (java_ref(AclRef(list.number)), list.entries.into_iter().map(entry).collect()));
        put_head(out, &SnapHead { acls: acls.collect(), sessions: header.sessions }).map_err(|error| error.to_string())
    }

    /// This one, and those that waited for it.
    fn node(&mut self, image: NodeImage, out: &mut Vec<u8>) -> Result<(), String> {
        let mut ready = vec![image];
        while let Some(image) = ready.pop() {
            if !self.find_path(&image) {
                self.waiting.entry(image.parent).or_default().push(image);
                continue;
            }
            let image = NodeRef::from(&image);
            let node = JavaNode {
                path: self.path.as_bytes(),
                data: image.data,
                acl: java_ref(AclRef(image.acl)),
                stat: java_stat(&RawStat::from(&image)),
            };
            put_node(out, &node).map_err(|error| format!("{}: {error}", self.path))?;
            self.nodes_written += 1;
            if image.child_count > 0 {
                let parent = Parent { path: self.path.as_str().into(), children_to_come: image.child_count };
                self.parents.insert(image.slot, parent);
                ready.extend(self.waiting.remove(&image.slot).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Into `self.path`; false if the parent was not written yet.
    fn find_path(&mut self, image: &NodeImage) -> bool {
        self.path.clear();
        if image.slot == NodeId::ROOT.0 {
            return true;
        }
        let Some(parent) = self.parents.get_mut(&image.parent) else { return false };
        self.path.push_str(&parent.path);
        self.path.push('/');
        self.path.push_str(&image.name);
        parent.children_to_come -= 1;
        if parent.children_to_come == 0 {
            self.parents.remove(&image.parent);
        }
        true
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        let JavaEncoder { nodes_expected, nodes_written, waiting, .. } = self;
        if nodes_expected != nodes_written {
            let waiting: usize = waiting.values().map(Vec::len).sum();
            return Err(format!(
                "{nodes_written} of {nodes_expected} nodes are linked to the root, and {waiting} are not"
            ));
        }
        put_end_of_nodes(out).map_err(|error| error.to_string())?;
        put_string(out, SIGNATURE);
        Ok(())
    }

    /// Nodes that wait for their parents.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    /// Nodes that wait for their children.
    #[cfg(test)]
    pub fn parents(&self) -> usize {
        self.parents.len()
    }
}
