//! A node of any snapshot, and how it is shown.

use std::fmt;

use ringkeeper::core::tree::RawStat;
use ringkeeper::wire::client::Acl;
use serde::Serialize;

use crate::log::record::perms;
use crate::show::{Hex, Time, quoted};

/// The error says what is damaged, where.
pub type Found<T> = Result<T, String>;

/// A tree that can be walked: nodes by numbers of its own.
pub trait Tree {
    fn root(&self) -> u32;
    fn node(&self, number: u32) -> Found<Node<'_>>;
    /// Appends them. After an error `out` has those that could still be found.
    fn children(&self, number: u32, out: &mut Vec<u32>) -> Found<()>;
    fn child(&self, number: u32, name: &str) -> Found<Option<u32>>;
    /// The permission list of this number, as text.
    fn acl(&self, number: u32) -> String;
}

#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    pub name: &'a str,
    pub data: Option<&'a [u8]>,
    pub acl: u32,
    pub stat: RawStat,
    pub children: u32,
}

impl Node<'_> {
    pub fn data_bytes(&self) -> u64 {
        self.data.map_or(0, |data| data.len() as u64)
    }
}

/// As zkCli writes lists: `world:anyone:cdrwa`.
pub fn acl_text(list: &[Acl<'_>]) -> String {
    let texts: Vec<_> = list
        .iter()
        .map(|acl| {
            let part = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().unwrap_or("null").to_owned();
            format!("{}:{}:{}", part(&acl.scheme), part(&acl.id), perms(acl.perms))
        })
        .collect();
    texts.join(",")
}

/// A node with all that is stored of it.
#[derive(Debug, Serialize)]
pub struct NodeItem {
    pub item: &'static str,
    pub path: String,
    pub czxid: Hex,
    pub ctime: Time,
    pub mzxid: Hex,
    pub mtime: Time,
    pub pzxid: Hex,
    /// Children ever created: the stored counter. Clients see twice this, less the children there are.
    pub cversion: i32,
    pub version: i32,
    pub aversion: i32,
    pub ephemeral_owner: Hex,
    pub acl: String,
    pub children: u32,
    pub data_bytes: u64,
    /// Whether there is data at all: none is not the same as empty.
    pub null_data: bool,
    /// On request. Text, or hexadecimal escapes where it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

impl NodeItem {
    pub fn new(path: &str, node: &Node<'_>, acl: String, with_data: bool) -> NodeItem {
        let RawStat { czxid, mzxid, pzxid, ctime, mtime, version, cversion, aversion, ephemeral_owner } = node.stat;
        NodeItem {
            item: "node",
            path: path.to_owned(),
            czxid: czxid.into(),
            ctime: Time(ctime),
            mzxid: mzxid.into(),
            mtime: Time(mtime),
            pzxid: pzxid.into(),
            cversion,
            version,
            aversion,
            ephemeral_owner: ephemeral_owner.into(),
            acl,
            children: node.children,
            data_bytes: node.data_bytes(),
            null_data: node.data.is_none(),
            data: node.data.filter(|_| with_data).map(quoted),
        }
    }
}

impl fmt::Display for NodeItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NodeItem { path, czxid, ctime, mzxid, mtime, pzxid, cversion, version, aversion, .. } = self;
        writeln!(f, "{path}")?;
        writeln!(f, "  czxid {czxid}  ctime {ctime}  mzxid {mzxid}  mtime {mtime}  pzxid {pzxid}")?;
        write!(f, "  cversion {cversion}  version {version}  aversion {aversion}")?;
        if self.ephemeral_owner.0 != 0 {
            write!(f, "  owner {}", self.ephemeral_owner)?;
        }
        write!(f, "  acl {}  children {}", self.acl, self.children)?;
        match (&self.data, self.null_data) {
            (_, true) => write!(f, "  data null"),
            (Some(data), _) => write!(f, "  data {data}"),
            (None, _) => write!(f, "  data {} bytes", self.data_bytes),
        }
    }
}
