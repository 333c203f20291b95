//! Equal zxid, equal tree: whoever has applied up to a zxid has the tree that a replay of the committed log gives, and its
//! digest is the one the leader foresaw. What a restart makes of snapshot and log is held to the same.

use super::Property;
use super::truth::Truth;
use crate::core::{ServerId, Zxid};
use crate::sim::event::{Event, Moment, Settled};

#[derive(Debug, Default)]
pub struct EqualDigest {}

impl Property for EqualDigest {
    fn name(&self) -> &'static str {
        "equal_digest"
    }

    fn observe(&mut self, _at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        for committed in truth.committed_now() {
            if let Some(foreseen) = committed.foreseen.filter(|foreseen| *foreseen != committed.digest) {
                let (zxid, digest) = (committed.zxid, committed.digest);
                return Err(format!("{zxid} foresees digest {foreseen:#x}, and a replay gives {digest:#x}"));
            }
        }
        match event {
            Event::Applied { server: id, zxid, digest }
                if truth.server(*id).is_some_and(|server| server.is_serving()) =>
            {
                check_committed(*id, *zxid, *digest, truth)?;
            }
            // Its log may hold what was never committed: measured by what its own log foresees.
            Event::Started { server: id, last, digest, .. } | Event::Reloaded { server: id, last, digest, .. } => {
                let foreseen = truth.server(*id).and_then(|server| server.digest_at(*last));
                if let Some(foreseen) = foreseen.filter(|foreseen| foreseen != digest) {
                    let (id, zxid) = (id.0, last);
                    return Err(format!(
                        "server {id} came back at {zxid} with digest {digest:#x}, where its log foresees {foreseen:#x}"
                    ));
                }
            }
            Event::Role { server: id, .. } => {
                if let Some(server) = truth.server(*id).filter(|server| server.is_serving()) {
                    check_committed(*id, server.applied, server.applied_digest, truth)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn at_end(&mut self, _at: Moment, settled: &[Settled], truth: &Truth) -> Result<(), String> {
        settled.iter().try_for_each(|server| check_committed(server.server, server.applied, server.digest, truth))
    }
}

fn check_committed(id: ServerId, zxid: Zxid, digest: u64, truth: &Truth) -> Result<(), String> {
    match truth.digest_at(zxid) {
        Some(replayed) if replayed != digest => {
            Err(format!("server {} has digest {digest:#x} at {zxid}, and a replay gives {replayed:#x}", id.0))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::core::{Epochs, Standing};
    use crate::wire::txn::{AclList, CreateKind, DIGEST_VERSION, Txn, TxnDigest, TxnHeader, encode_txn};

    fn with_digest(at: Zxid, tree_digest: u64) -> bytes::Bytes {
        let header = TxnHeader { client_id: 1, cxid: 1, zxid: at.0 as i64, time_ms: 1 };
        let txn = Txn::Create {
            path: "/a".into(),
            data: None,
            acl: AclList::new(),
            kind: CreateKind::Persistent,
            parent_cversion: 1,
            create2: false,
        };
        let digest = TxnDigest { version: DIGEST_VERSION, tree_digest: tree_digest as i64 };
        let mut bytes = Vec::new();
        encode_txn(&header, &txn, Some(digest), &mut bytes);
        bytes.into()
    }

    /// Of the tree with `/a`, by replay.
    fn true_digest() -> u64 {
        let mut story = Story::<super::super::integrity::Integrity>::begun();
        story.commit(zxid(1, 1), &with_digest(zxid(1, 1), 0));
        story.truth.digest_at(zxid(1, 1)).unwrap()
    }

    fn with_a() -> Story<EqualDigest> {
        let mut story = Story::begun();
        story.commit(zxid(1, 1), &with_digest(zxid(1, 1), true_digest()));
        story
    }

    fn back(last: Zxid, digest: u64) -> Event {
        let epochs = Epochs { accepted: 1, current: 1 };
        Event::Started { server: server(2), last, digest, epochs, standing: Standing::Whole }
    }

    #[test]
    fn the_same_tree_everywhere_is_fine() {
        let mut story = with_a();
        story.good(Event::Applied { server: server(2), zxid: zxid(1, 1), digest: true_digest() });
        story.good(back(zxid(1, 1), true_digest()));
    }

    #[test]
    fn another_tree_on_one_server_is_seen() {
        let mut story = with_a();
        story.bad(Event::Applied { server: server(2), zxid: zxid(1, 1), digest: 5 }, "has digest 0x5");
    }

    #[test]
    fn a_wrong_foresight_is_seen() {
        let mut story = Story::<EqualDigest>::begun();
        let why = story.event_commit(zxid(1, 1), &with_digest(zxid(1, 1), 5)).expect_err("5 is wrong");
        assert!(why.contains("foresees digest 0x5"), "{why}");
    }

    /// ZOOKEEPER-3127 (20.21).
    #[test]
    fn a_snapshot_that_is_not_what_the_log_gives_is_seen() {
        let mut story = with_a();
        story.bad(back(zxid(1, 1), 5), "where its log foresees");
    }

    #[test]
    fn what_is_served_first_from_a_snapshot_is_known_from_who_logged_it() {
        let mut story = Story::<EqualDigest>::begun();
        story.good(logged(1, zxid(1, 1), &with_digest(zxid(1, 1), true_digest())));
        story.good(looking(1));
        story.good(Event::Installing { server: server(2), zxid: zxid(1, 1), digest: true_digest() });
        story.good(Event::Wiped { server: server(1) });
        story.good(back(zxid(1, 1), true_digest()));
        story.leads(2, 2);
        assert_eq!(story.truth.digest_at(zxid(1, 1)), Some(true_digest()));
    }

    #[test]
    fn another_tree_in_the_end_is_seen() {
        let mut story = with_a();
        let settled = [Settled { server: server(3), applied: zxid(1, 1), digest: 5, voter: true }];
        assert!(story.property.at_end(story.now, &settled, &story.truth).is_err());
    }
}
