//! A snapshot written the way Java reads it: see [`super::snap`] for the layout.

use std::io::{self, Write};

use simd_adler32::Adler32;

use super::snap::{END_OF_NODES, JavaNode, MAGIC, SnapHead, SnapTail};

/// Which of the sections behind the nodes to write: what a reader does not know it does not miss, but the oldest want a file
/// without them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sections {
    /// For 3.5 and older.
    NodesOnly,
    /// For 3.6 to 3.8.
    Digest,
    #[default]
    All,
}

pub struct SnapWriter<W> {
    out: W,
    sum: Adler32,
    scratch: Vec<u8>,
}

impl<W: Write> SnapWriter<W> {
    pub fn begin(out: W, head: &SnapHead) -> io::Result<SnapWriter<W>> {
        let mut writer = SnapWriter { out, sum: Adler32::new(), scratch: Vec::new() };
        let bytes = &mut writer.scratch;
        bytes.extend(MAGIC);
        bytes.extend(2i32.to_be_bytes());
        bytes.extend((-1i64).to_be_bytes());
        put_head(bytes, head)?;
        writer.send()?;
        Ok(writer)
    }

    /// Parents first; the root, whose path is empty, before all.
    pub fn node(&mut self, node: &JavaNode<'_>) -> io::Result<()> {
        put_node(&mut self.scratch, node)?;
        self.send()
    }

    /// What the tail does not have is not written; a last zxid only behind a digest.
    pub fn finish(mut self, tail: &SnapTail) -> io::Result<W> {
        put_end_of_nodes(&mut self.scratch)?;
        self.send()?;
        self.seal()?;
        if let Some(digest) = &tail.digest {
            self.scratch.extend(digest.zxid.0.to_be_bytes());
            self.scratch.extend(digest.version.to_be_bytes());
            self.scratch.extend(digest.digest.to_be_bytes());
            self.send()?;
            self.seal()?;
            if let Some(zxid) = tail.last_zxid {
                self.scratch.extend(zxid.0.to_be_bytes());
                self.send()?;
                self.seal()?;
            }
        }
        Ok(self.out)
    }

    fn seal(&mut self) -> io::Result<()> {
        self.scratch.extend(i64::from(self.sum.finish()).to_be_bytes());
        put_buffer(&mut self.scratch, Some(b"/"))?;
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        self.sum.write(&self.scratch);
        self.out.write_all(&self.scratch)?;
        self.scratch.clear();
        Ok(())
    }
}

/// What comes before the nodes. This and the nodes are also what a leader sends to a learner.
pub fn put_head(bytes: &mut Vec<u8>, head: &SnapHead) -> io::Result<()> {
    put_count(bytes, head.sessions.len())?;
    for (id, timeout_ms) in &head.sessions {
        bytes.extend(id.to_be_bytes());
        bytes.extend(timeout_ms.to_be_bytes());
    }
    put_count(bytes, head.acls.len())?;
    for (reference, list) in &head.acls {
        bytes.extend(reference.to_be_bytes());
        put_count(bytes, list.len())?;
        for acl in list {
            bytes.extend(acl.perms.to_be_bytes());
            put_buffer(bytes, Some(&acl.scheme))?;
            put_buffer(bytes, Some(&acl.id))?;
        }
    }
    Ok(())
}

pub fn put_node(bytes: &mut Vec<u8>, node: &JavaNode<'_>) -> io::Result<()> {
    put_buffer(bytes, Some(node.path))?;
    put_buffer(bytes, node.data)?;
    bytes.extend(node.acl.to_be_bytes());
    let stat = &node.stat;
    for long in [stat.czxid, stat.mzxid, stat.ctime, stat.mtime] {
        bytes.extend(long.to_be_bytes());
    }
    for int in [stat.version, stat.cversion, stat.aversion] {
        bytes.extend(int.to_be_bytes());
    }
    bytes.extend(stat.ephemeral_owner.to_be_bytes());
    bytes.extend(stat.pzxid.to_be_bytes());
    Ok(())
}

pub fn put_end_of_nodes(bytes: &mut Vec<u8>) -> io::Result<()> {
    put_buffer(bytes, Some(END_OF_NODES))
}

fn put_count(out: &mut Vec<u8>, count: usize) -> io::Result<()> {
    out.extend(i32::try_from(count).map_err(io::Error::other)?.to_be_bytes());
    Ok(())
}

fn put_buffer(out: &mut Vec<u8>, bytes: Option<&[u8]>) -> io::Result<()> {
    match bytes {
        None => out.extend((-1i32).to_be_bytes()),
        Some(bytes) => {
            put_count(out, bytes.len())?;
            out.extend(bytes);
        }
    }
    Ok(())
}
