//! `/zookeeper/config`: each server writes into it which configuration it goes by, beside the transactions that change it. No
//! part of the digest. Java: `ZKDatabase.initConfigInZKDatabase`. Spec: quorum-protocol 16.6.

use super::{DataTree, digest};

pub const CONFIG_NODE: &str = "/zookeeper/config";

/// What no client's write leaves behind: its version counts up.
const WRITTEN_BY_SERVERS: i32 = -1;

impl DataTree {
    /// The configuration's text as a transaction or this server wrote it, and the zxid that goes with it.
    pub fn config_node(&self) -> Option<(&[u8], i64)> {
        let id = self.find(CONFIG_NODE)?;
        let stat = self.raw_stat(id);
        let data = self.data(id).filter(|data| !data.is_empty() && stat.version == WRITTEN_BY_SERVERS)?;
        Some((data, stat.mzxid))
    }

    /// What the last transaction that proposed a configuration took the place of, if one was applied here: the text, and its version.
    pub fn config_before(&self) -> Option<(&[u8], i64)> {
        self.config_before.as_ref().map(|(text, version)| (&text[..], *version))
    }

    /// A configuration is about to be proposed.
    pub(super) fn keep_config_before(&mut self) {
        self.config_before = self.config_node().map(|(text, version)| (text.into(), version));
    }

    /// No transaction, and nobody's watch fires.
    pub fn set_config_node(&mut self, text: &str, version: u64, time_ms: i64) {
        let Some(id) = self.find(CONFIG_NODE) else { return };
        let bytes_before = self.nodes[id].data_len() as i64;
        self.amend(id, CONFIG_NODE, |node| {
            node.data = Some(Box::from(text.as_bytes()));
            node.content_crc = digest::content_crc(CONFIG_NODE, Some(text.as_bytes()));
            node.version = WRITTEN_BY_SERVERS;
            (node.mzxid, node.mtime) = (version as i64, time_ms);
        });
        self.account(CONFIG_NODE, text.len() as i64 - bytes_before, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tree::TreeOptions;

    #[test]
    fn a_configuration_is_shown_and_not_part_of_the_digest() {
        let mut tree = DataTree::new(TreeOptions::default());
        assert_eq!(tree.config_node(), None);
        let digest = tree.digest();
        tree.set_config_node("server.1=a:1:2:participant\nversion=100000000", 0x1_0000_0000, 77);
        assert_eq!(tree.digest(), digest);
        let (text, zxid) = tree.config_node().unwrap();
        assert_eq!((text.len(), zxid), (44, 0x1_0000_0000));
        let stat = tree.stat(tree.find(CONFIG_NODE).unwrap());
        assert_eq!((stat.version, stat.aversion, stat.cversion, stat.czxid, stat.mtime), (-1, -1, 0, 0, 77));
    }
}
