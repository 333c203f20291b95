//! The leader among learners made of words: every answer is a line, a whole exchange a list of lines.

mod epochs;
mod liveness;
mod scene;
mod strangers;
mod synchronise;
mod transition;

use bytes::Bytes;

use self::scene::Scene;
use super::Leader;
use crate::core::types::{ServerId, Zxid};
use crate::core::zab::membership::{MemberRole, Membership};
use crate::wire::ErrorCode;

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

/// It is in step, and still here as the follower it was: back as an observer it would acknowledge nothing.
#[test]
fn a_server_that_was_made_an_observer_helps_no_other_configuration_to_come_in_force() {
    let mut leader = Scene::leading().leader;
    let next = Membership { version: leader.next_zxid().0, ..Membership::of(2, 0) };
    assert_eq!(leader.may_reconfigure(&next), Ok(()));
    leader.configs.committed.members.get_mut(&ServerId(2)).unwrap().role = MemberRole::Observer;
    assert_eq!(leader.may_reconfigure(&next), Err(ErrorCode::NewConfigNoQuorum));
}
