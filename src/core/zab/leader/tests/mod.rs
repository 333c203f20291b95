//! The leader among learners made of words: every answer is a line, a whole exchange a list of lines.

mod epochs;
mod liveness;
mod scene;
mod strangers;
mod synchronise;
mod transition;

use bytes::Bytes;

use super::Leader;
use crate::core::types::{ServerId, Zxid};

#[test]
fn commits_in_order_what_is_on_disk() {
    let mut leader = Leader::standalone(ServerId(1), Zxid(10));
    for _ in 0..3 {
        let zxid = leader.next_zxid();
        leader.propose(zxid, Bytes::new(), &mut Vec::new());
    }
    assert!(leader.pop_committed().is_none(), "nothing is durable yet");
    leader.on_logged(Zxid(12), &mut Vec::new());
    assert_eq!(leader.pop_committed().unwrap().zxid, Zxid(11));
    assert_eq!(leader.pop_committed().unwrap().zxid, Zxid(12));
    assert!(leader.pop_committed().is_none());
    assert_eq!((leader.in_flight(), leader.committed(), leader.proposed()), (1, Zxid(12), Zxid(13)));
}

#[test]
#[should_panic(expected = "never proposed")]
fn an_ack_of_the_future_is_a_bug() {
    Leader::standalone(ServerId(1), Zxid(10)).on_logged(Zxid(11), &mut Vec::new());
}

#[test]
#[should_panic(expected = "once and in order")]
fn zxids_are_not_skipped() {
    Leader::standalone(ServerId(1), Zxid(10)).propose(Zxid(12), Bytes::new(), &mut Vec::new());
}
