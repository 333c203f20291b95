//! A learner and a scripted leader, disk and clock: see [`rig`] for how a dialogue is read, and what is checked after each line.

mod rig;

use std::collections::BTreeSet;

use ringkeeper_storage::backend::memory::Chance;

use self::rig::*;
use super::*;

#[test]
fn a_follower_joins_an_epoch_and_follows_it() {
    synchronising(
        "
        P 1:6         => log 1:6
        C 1:6         => commit 1:6
        P 1:7         => log 1:7
        C 1:7         => commit 1:7
        durable 1:6   =>
        NEWLEADER 2   =>
        durable 1:7   => store current 2
        current 2     => send ACK 2:0
        P 2:1         => log 2:1
        PING 2:1      =>
        durable 2:1   =>
        UPTODATE      => serving 2, send ACK 2:0, send ACK 2:1
        C 2:1         => commit 2:1
        P 2:2         => log 2:2
        PING 2:2      => ping 2:2
        P 2:3         => log 2:3
        durable 2:3   => send ACK 2:3
        C 2:2         => commit 2:2
        SYNC          => synced
        REVALIDATED 9 => revalidated 9 true
        closed        => over: the connection to server 3, the leader, ended
        C 2:3         =>
        ",
    );
}

/// Quorum-protocol B.1: nothing of a DIFF is acknowledged that the leader has committed before NEWLEADER.
#[test]
fn a_follower_rejoins_the_epoch_it_has_joined_before() {
    dialogue(
        "
        connected    => send FOLLOWERINFO 1
        LEADERINFO 1 => send ACKEPOCH 1:5 -
        DIFF 1:6     =>
        P 1:6        => log 1:6
        C 1:6        => commit 1:6
        NEWLEADER 1  =>
        durable 1:6  => send ACK 1:0
        UPTODATE     => serving 1, send ACK 1:0
        ",
    );
}

/// A Java leader behind a proxy that does not listen yet: `dev drill --members 3 --java 2`, seed 796816569.
#[test]
fn a_leader_that_hangs_up_without_a_word_is_called_again_for_a_while() {
    dialogue(
        "
        connected     => send FOLLOWERINFO 1
        after_ms 200  =>
        closed        => call 3 for 300 ms
        connected     => send FOLLOWERINFO 1
        closed        => call 3 for 300 ms
        unreachable   => over: server 3, the leader, could not be reached
        ",
    );
    dialogue(
        "
        connected     => send FOLLOWERINFO 1
        after_ms 500  =>
        closed        => over: the connection to server 3, the leader, ended
        ",
    );
}

/// ZOOKEEPER-1154 (20.11).
#[test]
fn the_epoch_is_promised_on_disk_first_and_never_to_an_older_leader() {
    dialogue(
        "
        connected    => send FOLLOWERINFO 1
        LEADERINFO 2 => store accepted 2
        closed       => over: the connection to server 3, the leader, ended
        accepted 2   =>
        ",
    );
    let promised = LearnerStart { epochs: Epochs { accepted: 4, current: 1 }, ..start() };
    dialogue_from(
        promised,
        "
        connected    => send FOLLOWERINFO 4
        LEADERINFO 3 => over: server 3, the leader: it leads epoch 3, and this server has promised to follow none before 4, close
        ",
    );
}

#[test]
fn a_founder_says_that_it_has_nothing_when_it_can_never_deny_it() {
    let founder =
        LearnerStart { founds: true, last: Zxid::ZERO, epochs: Epochs { accepted: 0, current: 0 }, ..start() };
    dialogue_from(
        founder,
        "
        connected    => send FOLLOWERINFO 0
        LEADERINFO 1 => store current 0, store accepted 1
        current 0    =>
        accepted 1   => send ACKEPOCH 0:0 0
        ",
    );
}

#[test]
fn who_may_have_lost_something_says_so_and_takes_nothing_but_a_snapshot() {
    for standing in [Standing::Lost, Standing::Fresh] {
        let lost = LearnerStart { standing, last: Zxid::ZERO, epochs: Epochs { accepted: 2, current: 2 }, ..start() };
        let rig = dialogue_from(
            lost,
            "
            connected    => send FOLLOWERINFO 2
            LEADERINFO 2 => send ACKEPOCH - -
            DIFF 2:5     => over: server 3, the leader: Diff { zxid: Zxid(8589934597) } to a server that may have lost what it had, close
            ",
        );
        assert!(rig.over);
        let mut rig = dialogue_from(
            lost,
            "
            connected    => send FOLLOWERINFO 2
            LEADERINFO 2 => send ACKEPOCH - -
            SNAP 2:5     =>
            stream 2:5   => reloading, install 2:5, install chunk, install finish
            ",
        );
        // The disk has a state, and its standing ends with the epoch only.
        rig.reloading = false;
        (rig.durable, rig.committed, rig.logged) =
            (Zxid::new(2, 5), Zxid::new(2, 5), BTreeSet::from([Zxid::new(2, 5)]));
        let mut out = Vec::new();
        rig.learner.on_reloaded(rig.now, Zxid::new(2, 5), standing, None, &mut out);
        assert_eq!(rig.told(out), "");
        assert_eq!(rig.hear("NEWLEADER 2"), "store current 2");
        assert_eq!(rig.hear("current 2"), "send ACK 2:0");
    }
}

/// It came from a leader, and is a history; but what was acknowledged before the loss may be newer, so it counts for nothing.
#[test]
fn who_lost_something_goes_on_with_what_it_was_given_since() {
    for standing in [Standing::Lost, Standing::Fresh] {
        let given = LearnerStart { standing, epochs: Epochs { accepted: 2, current: 0 }, ..start() };
        dialogue_from(
            given,
            "
            connected    => send FOLLOWERINFO 2
            LEADERINFO 3 => store accepted 3
            accepted 3   => send ACKEPOCH 1:5 -
            DIFF 2:1     =>
            P 2:1        => log 2:1
            NEWLEADER 3  =>
            durable 2:1  => store current 3
            current 3    => send ACK 3:0
            ",
        );
        dialogue_from(
            given,
            "
            connected        => send FOLLOWERINFO 2
            JAVALEADERINFO 3 => store accepted 3
            accepted 3       => send ACKEPOCH - 0
            ",
        );
    }
}

#[test]
fn a_log_ahead_of_the_leader_is_cut_before_anything_else_is_taken() {
    dialogue(
        "
        connected    => send FOLLOWERINFO 1
        LEADERINFO 2 => store accepted 2
        accepted 2   => send ACKEPOCH 1:5 1
        TRUNC 1:3    => reloading, truncate 1:3
        P 2:1        =>
        NEWLEADER 2  =>
        durable 1:5  =>
        reloaded 1:3 => log 2:1
        durable 2:1  => store current 2
        current 2    => send ACK 2:0
        UPTODATE     => serving 2, send ACK 2:0, send ACK 2:1
        ",
    );
}

#[test]
fn a_cut_that_makes_no_sense_is_refused() {
    for (to, done) in [
        ("1:5", ""),
        ("1:6", "over: server 3, the leader: TRUNC to 0x100000006, and 0x100000005 is the newest here, close"),
        (
            "4294967295:4294967295",
            "over: server 3, the leader: TRUNC to 0xffffffffffffffff, and 0x100000005 is the newest here, close",
        ),
    ] {
        dialogue(&format!(
            "
            connected    => send FOLLOWERINFO 1
            LEADERINFO 1 => send ACKEPOCH 1:5 -
            TRUNC {to}   => {done}
            "
        ));
    }
}

/// Spec R8.2: a state that cannot be cut is lost, and said to be.
/// ZOOKEEPER-3701 (20.16); 20.24.
#[test]
fn a_cut_that_fails_ends_the_role() {
    dialogue(
        "
        connected    => send FOLLOWERINFO 1
        LEADERINFO 1 => send ACKEPOCH 1:5 -
        TRUNC 1:3    => reloading, truncate 1:3
        lost 0:0     => over: the state at 0x100000003 could not be stored: the disk ends with 0x0, close
        ",
    );
}

#[test]
fn a_snapshot_takes_the_place_of_everything() {
    dialogue(
        "
        connected    => send FOLLOWERINFO 1
        LEADERINFO 2 => store accepted 2
        accepted 2   => send ACKEPOCH 1:5 1
        SNAP 1:3     =>
        stream 1:3   => reloading, install 1:3, install chunk, install finish
        P 1:4        =>
        C 1:4        =>
        NEWLEADER 2  =>
        reloaded 1:3 => log 1:4, commit 1:4
        durable 1:4  => store current 2
        current 2    => send ACK 2:0
        UPTODATE     => serving 2, send ACK 2:0
        ",
    );
}

#[test]
fn a_snapshot_of_something_else_is_given_up() {
    const BEGUN: &str = "
        connected    => send FOLLOWERINFO 1
        LEADERINFO 1 => send ACKEPOCH 1:5 -
        SNAP 1:9     =>
        ";
    for (heard, why, done) in [
        ("begin 1:8", "a snapshot of 0x100000008 instead of 0x100000009", "close"),
        ("chunk 0", "a part of a snapshot in its snapshot", "close"),
        ("PING 1:9", "Ping { zxid: Zxid(4294967305), touched: None } in its snapshot", "close"),
    ] {
        dialogue(&format!("{BEGUN} {heard} => over: server 3, the leader: {why}, {done}"));
    }
    for (heard, why) in [
        ("end", "it ends at slot 0 of 4"),
        ("chunk 1", "slots 1..2 of 4 came where 0 is next"),
        ("P 1:10", "proposal 0x10000000a in its snapshot"),
    ] {
        dialogue(&format!(
            "{BEGUN} begin 1:9 => install 1:9
             {heard} => over: server 3, the leader: {why}, close, install abandon"
        ));
    }
}

/// ZOOKEEPER-5094 (20.3).
#[test]
fn the_end_of_the_role_waits_for_the_disk() {
    dialogue(
        "
        connected    => send FOLLOWERINFO 1
        LEADERINFO 1 => send ACKEPOCH 1:5 -
        TRUNC 1:3    => reloading, truncate 1:3
        P 1:4        =>
        closed       =>
        reloaded 1:3 => over: the connection to server 3, the leader, ended
        ",
    );
}

#[test]
fn what_waits_for_the_disk_is_bounded() {
    let mut rig = dialogue(
        "
        connected    => send FOLLOWERINFO 1
        LEADERINFO 1 => send ACKEPOCH 1:5 -
        TRUNC 1:3    => reloading, truncate 1:3
        ",
    );
    let closed = (4..).find(|counter| rig.hear(&format!("P 1:{counter}")) == "close");
    assert!((20..60).contains(&closed.unwrap()), "{closed:?}");
    assert_eq!(
        rig.hear("reloaded 1:3"),
        "over: server 3, the leader: it sends more than this server can keep while it waits for its disk"
    );
}

#[test]
fn an_observer_hears_of_what_is_committed_and_acknowledges_no_proposal() {
    let observer = LearnerStart { id: ServerId(4), observer: true, ..start() };
    dialogue_from(
        observer,
        "
        connected    => send OBSERVERINFO 1
        LEADERINFO 2 => store accepted 2
        accepted 2   => send ACKEPOCH 1:5 1
        DIFF 1:7     =>
        P 1:6        => log 1:6
        C 1:6        => commit 1:6
        INFORM 1:7   => log 1:7, commit 1:7
        durable 1:7  =>
        NEWLEADER 2  => store current 2
        INFORM 2:1   => log 2:1, commit 2:1
        current 2    => send ACK 2:0
        UPTODATE     => serving 2, send ACK 2:0
        INFORM 2:2   => log 2:2, commit 2:2
        durable 2:2  =>
        ",
    );
}

/// 20.6 [4394]: wherever NEWLEADER and UPTODATE fall between proposals and their commits.
#[test]
fn case_20_6_commits_find_their_proposals_in_every_interleaving() {
    // Proposals, commits in order: each commit behind its proposal.
    let sequence = ["P 1:6", "C 1:6", "P 1:7", "C 1:7", "P 1:8", "C 1:8"];
    let orders = [[0, 1, 2, 3, 4, 5], [0, 2, 1, 3, 4, 5], [0, 2, 4, 1, 3, 5], [0, 2, 1, 4, 3, 5], [0, 1, 2, 4, 3, 5]];
    for order in orders {
        for new_leader in 0..=6 {
            for up_to_date in new_leader..=6 {
                let mut rig = dialogue(
                    "
                    connected        => send FOLLOWERINFO 1
                    JAVALEADERINFO 1 => send ACKEPOCH 1:5 -
                    DIFF 1:8         =>
                    ",
                );
                let mut acked = BTreeSet::new();
                let mut committed_before = 0;
                let mut hear = |rig: &mut Rig, words: &str| {
                    let done = rig.hear(words);
                    assert!(!rig.over, "{order:?} {new_leader} {up_to_date}: {words} => {done}");
                    acked.extend(done.split(", ").filter(|line| line.starts_with("send ACK 1:")).map(str::to_owned));
                };
                for at in 0..=6 {
                    if at == new_leader {
                        hear(&mut rig, "NEWLEADER 1");
                        let last = text_of(*rig.logged.last().unwrap());
                        hear(&mut rig, &format!("durable {last}"));
                    }
                    if at == up_to_date {
                        hear(&mut rig, "UPTODATE");
                    }
                    if let Some(next) = order.get(at) {
                        committed_before += usize::from(at < new_leader && sequence[*next].starts_with('C'));
                        hear(&mut rig, sequence[*next]);
                    }
                }
                hear(&mut rig, "durable 1:8");
                assert_eq!(rig.committed, Zxid::new(1, 8));
                let expected: BTreeSet<_> =
                    std::iter::once(0).chain(6 + committed_before..=8).map(|at| format!("send ACK 1:{at}")).collect();
                assert_eq!(acked, expected, "{order:?} {new_leader} {up_to_date}");
            }
        }
    }
}

/// 20.4 [3911, 4646, 3023, 4685] and 20.5 [4643, 4785]: history, then currentEpoch, then the ACK.
#[test]
fn case_20_4_and_20_5_the_history_is_stable_before_its_epoch_and_the_epoch_before_its_ack() {
    synchronising(
        "
        P 1:6       => log 1:6
        P 1:7       => log 1:7
        C 1:6       => commit 1:6
        NEWLEADER 2 =>
        P 2:1       => log 2:1
        durable 1:6 =>
        durable 1:7 => store current 2
        ",
    );
}

/// 20.9 [3642, 2872]: a snapshot received in part leaves what was there.
#[test]
fn case_20_9_half_a_snapshot_leaves_the_old_state() {
    dialogue(
        "
        connected    => send FOLLOWERINFO 1
        LEADERINFO 1 => send ACKEPOCH 1:5 -
        SNAP 1:9     =>
        begin 1:9    => install 1:9
        chunk 0      => install chunk
        closed       => over: the connection to server 3, the leader, ended, install abandon
        ",
    );
}

/// 20.25 [4712]: what became stable for an old connection is acknowledged to nobody.
#[test]
fn case_20_25_no_ack_for_what_another_connection_delivered() {
    // 1:5 was proposed by this leader before, and is proposed anew behind the TRUNC.
    dialogue(
        "
        connected    => send FOLLOWERINFO 1
        LEADERINFO 1 => send ACKEPOCH 1:5 -
        TRUNC 1:4    => reloading, truncate 1:4
        reloaded 1:4 =>
        P 1:5        => log 1:5
        C 1:5        => commit 1:5
        P 1:6        => log 1:6
        NEWLEADER 1  =>
        durable 1:6  => send ACK 1:0
        UPTODATE     => serving 1, send ACK 1:0, send ACK 1:6
        ",
    );
    // After the end nothing that completes has an effect.
    serving(
        "
        P 2:1       => log 2:1
        closed      => over: the connection to server 3, the leader, ended
        durable 2:1 =>
        ",
    );
}

/// Spec R8.4, 10.3: what Java ends its process over ends the connection.
/// Decision 0008.
#[test]
fn among_us_an_ack_and_a_commit_are_for_everything_before_them() {
    serving_a_java_leader(
        "
        P 1:6       => log 1:6
        P 1:7       => log 1:7
        P 1:8       => log 1:8
        durable 1:7 => send ACK 1:6, send ACK 1:7
        durable 1:8 => send ACK 1:8
        ",
    );
    serving(
        "
        P 2:1       => log 2:1
        P 2:2       => log 2:2
        P 2:3       => log 2:3
        durable 2:2 => send ACK 2:2
        C 2:1       => commit 2:1
        durable 2:3 => send ACK 2:3
        C 2:3       => commit 2:3
        C 2:2       =>
        ",
    );
}

#[test]
fn commits_of_anything_but_the_oldest_proposal_end_the_link() {
    serving(
        "
        P 2:1 => log 2:1
        P 2:2 => log 2:2
        C 2:3 => over: server 3, the leader: commit 0x200000003, and nothing is next, close
        ",
    );
    serving_a_java_leader(
        "
        P 1:6 => log 1:6
        P 1:7 => log 1:7
        C 1:7 => over: server 3, the leader: commit 0x100000007, and 0x100000006 is next, close
        ",
    );
    synchronising(
        "
        P 1:6 => log 1:6
        P 1:7 => log 1:7
        C 1:7 => over: server 3, the leader: commit 0x100000007, and 0x100000006 is next, close
        ",
    );
    serving("C 2:1 => over: server 3, the leader: commit 0x200000001, and nothing is next, close");
    synchronising("C 1:6 => over: server 3, the leader: commit 0x100000006, and nothing is next, close");
}

/// ZOOKEEPER-2418 (20.18).
#[test]
fn proposals_may_come_twice_but_leave_no_gap() {
    synchronising(
        "
        P 1:6 => log 1:6
        P 1:6 =>
        C 1:6 => commit 1:6
        C 1:6 =>
        P 1:5 =>
        P 1:7 => log 1:7
        P 1:9 => over: server 3, the leader: proposal 0x100000009 in epoch 2 cannot follow 0x100000007, close
        ",
    );
    synchronising(
        "P 2:2 => over: server 3, the leader: proposal 0x200000002 in epoch 2 cannot follow 0x100000005, close",
    );
    synchronising(
        "P 3:1 => over: server 3, the leader: proposal 0x300000001 in epoch 2 cannot follow 0x100000005, close",
    );
    let rig = synchronising("P 2:1 => log 2:1");
    assert!(!rig.over);
}

#[test]
fn words_out_of_turn_end_the_link() {
    synchronising("UPTODATE => over: server 3, the leader: UpToDate while this server is receiving its history, close");
    let mut rig = synchronising("NEWLEADER 2 => store current 2");
    assert!(rig.hear("UPTODATE").contains("UpToDate while this server is storing its history"));
    let mut rig = synchronising("");
    assert!(rig.hear("NEWLEADER 3").contains("NewLeader"));
    let mut rig = serving("");
    assert!(rig.hear("NEWLEADER 2").contains("while this server is following it"));
    let mut rig = dialogue("connected => send FOLLOWERINFO 1");
    assert!(rig.hear("stream 1:9").contains("the beginning of a snapshot while this server is waiting for its epoch"));
}

#[test]
fn a_configuration_comes_with_an_epoch_or_with_a_commit() {
    synchronising(
        "NEWLEADERWITH 2 => configuration of 14 bytes, store current 2
         current 2 => send ACK 2:0
         UPTODATE => activate that of the epoch, serving 2, send ACK 2:0",
    );
    serving(
        "P 2:1 => log 2:1
         durable 2:1 => send ACK 2:1
         ACTIVATE 2:1 => commit 2:1, activate 2:1, led by 3",
    );
    let refused = serving("").hear("ACTIVATE 2:1");
    assert!(refused.contains("commit 0x200000001, and nothing is next"), "{refused}");
    // Before UPTODATE too: another one is in force than when it began to follow.
    synchronising("P 2:1 => log 2:1\n ACTIVATE 2:1 => commit 2:1, activate 2:1, led by 3");
    synchronising("INFORMACTIVATE 2:1 => log 2:1, commit 2:1, activate 2:1, led by 3");
}

#[test]
fn a_silent_leader_is_left() {
    dialogue("unreachable => over: server 3, the leader, could not be reached");
    dialogue(
        "
        connected     => send FOLLOWERINFO 1
        after_ms 9999 =>
        after_ms 1    => over: server 3, the leader, fell silent, close
        ",
    );
    serving(
        "
        after_ms 4999 =>
        PING 2:0      => ping 2:0
        after_ms 4999 =>
        after_ms 1    => over: server 3, the leader, fell silent, close
        ",
    );
    // As long as our own disk works the leader has nothing to say.
    synchronising(
        "
        P 1:6          => log 1:6
        NEWLEADER 2    =>
        after_ms 60000 =>
        durable 1:6    => store current 2
        after_ms 60000 =>
        current 2      => send ACK 2:0
        after_ms 9999  =>
        UPTODATE       => serving 2, send ACK 2:0, send ACK 1:6
        ",
    );
}

#[test]
fn requests_go_to_the_leader_while_serving() {
    let mut rig = serving("");
    let request = || ForwardedRequest { session: 1, cxid: 2, opcode: 5, body: Bytes::new(), identities: None };
    let mut out = Vec::new();
    rig.learner.forward(request(), &mut out);
    rig.learner.revalidate(7, 4000, &mut out);
    rig.learner.pong(Zxid::new(2, 1), vec![(7, 4000)], &mut out);
    assert_eq!(rig.told(out), "send REQUEST 5, send REVALIDATE 7 4000, send PING 2:1 Some([(7, 4000)])");
    rig.hear("closed");
    let mut out = Vec::new();
    rig.learner.forward(request(), &mut out);
    assert_eq!(rig.told(out), "");
}

#[test]
fn the_epoch_rolls_over_without_an_election() {
    serving(
        "
        P 2:1             => log 2:1
        C 2:1             => commit 2:1
        NEXTEPOCH 3       => store accepted 3
        accepted 3        => send ACCEPTED 3
        NEXTEPOCHBEGINS 3 =>
        PING 2:1          => ping 2:1
        durable 2:1       => store current 3
        P 3:1             => log 3:1
        durable 3:1       =>
        current 3         => next epoch 3, send ADOPTED 3, send ACK 3:1
        C 3:1             => commit 3:1
        P 3:2             => log 3:2
        ",
    );
    // A quorum of others was faster.
    serving(
        "
        NEXTEPOCH 3       => store accepted 3
        NEXTEPOCHBEGINS 3 =>
        P 3:1             =>
        PING 3:1          => ping 3:1
        C 3:1             =>
        SYNC              =>
        accepted 3        => log 3:1, commit 3:1, synced, store current 3
        current 3         => next epoch 3, send ADOPTED 3
        durable 3:1       => send ACK 3:1
        ",
    );
}

#[test]
fn a_rollover_that_makes_no_sense_ends_the_link() {
    let mut rig = serving("");
    assert!(rig.hear("NEXTEPOCH 2").starts_with("over"));
    let mut rig = serving("NEXTEPOCH 3 => store accepted 3");
    assert!(rig.hear("NEXTEPOCHBEGINS 4").starts_with("over"));
    let mut rig = serving("NEXTEPOCH 3 => store accepted 3\naccepted 3 => send ACCEPTED 3");
    assert!(rig.hear("P 3:1").starts_with("over"), "of an epoch that has not begun");
    let mut rig = serving_a_java_leader("");
    assert!(rig.hear("NEXTEPOCH 2").starts_with("over"), "not a word of Java's");
}

#[test]
fn a_leader_that_steps_back_names_its_successor() {
    serving("HANDOVER 1 => handed over to 1, close");
    serving("HANDOVER 2 => handed over to 2, close");
    for impossible in [3, 4, 9] {
        let mut rig = serving("");
        assert!(rig.hear(&format!("HANDOVER {impossible}")).starts_with("over"));
    }
}

#[test]
fn a_leader_nobody_knows_is_not_called() {
    let (mut out, configs) = (Vec::new(), Configurations::settled(super::super::membership::Membership::of(3, 0)));
    let start = LearnerStart { leader: ServerId(9), ..start() };
    let mut learner = Learner::new(Now::default(), start, &Ensemble::default(), &configs, &mut out);
    assert!(matches!(learner.next_event(), Some(LearnerEvent::Over { .. })));
    assert!(!out.iter().any(|output| matches!(output, Output::ConnectToMaster { .. })));
}

/// Whatever a leader says in whatever stage: no panic, and none of the promises that [`Rig`] checks is broken.
#[test]
fn no_leader_makes_a_learner_break_its_word() {
    let (mut ends, mut served, mut reloaded, mut adopted) = (0, 0, 0, 0);
    for seed in 0..3000 {
        let mut chance = Chance(seed);
        let standing = if chance.below(8) == 0 { Standing::Lost } else { Standing::Whole };
        let observer = chance.below(4) == 0;
        let wildness = chance.below(3) * 6;
        let mut rig = Rig::new(LearnerStart { observer, standing, ..start() });
        // What a sensible leader would say next, most of the time.
        let mut sensible: VecDeque<String> = ["connected", "LEADERINFO 2"].map(str::to_owned).into();
        let mut stored = VecDeque::new();
        for _ in 0..60 {
            let last = *rig.logged.last().unwrap();
            let (epoch, counter) = (last.epoch(), last.counter());
            let near = [format!("{epoch}:{}", counter + 1), "2:1".to_owned(), text_of(last), "1:3".to_owned()];
            let near = &near[chance.below(4) as usize];
            let nonsense = [
                format!("P {near}"),
                format!("P {epoch}:{}", counter + 1),
                format!("C {near}"),
                format!("C {}", text_of(rig.committed).replace(":5", ":6")),
                format!("INFORM {near}"),
                format!("DIFF {near}"),
                format!("TRUNC {near}"),
                format!("SNAP {near}"),
                format!("stream {near}"),
                format!("begin {near}"),
                format!("chunk {}", chance.below(3)),
                "end".to_owned(),
                format!("PING {near}"),
                "UPTODATE".to_owned(),
                format!("NEWLEADER {}", 1 + chance.below(2)),
                format!("LEADERINFO {}", 1 + chance.below(3)),
                format!("NEXTEPOCH {}", 2 + chance.below(2)),
                format!("NEXTEPOCHBEGINS {}", 2 + chance.below(2)),
                format!("HANDOVER {}", 1 + chance.below(3)),
                "closed".to_owned(),
                format!("after_ms {}", chance.below(3000)),
            ];
            let wild = chance.below(100) < wildness;
            let heard = match chance.below(3) {
                _ if wild => nonsense[chance.below(nonsense.len() as u64) as usize].clone(),
                0 if rig.reloading => continue_with_disk(&mut rig, &mut reloaded),
                0 if !stored.is_empty() => stored.pop_front().unwrap(),
                1 if !rig.reloading && rig.durable < last => format!("durable {}", text_of(last)),
                _ => match sensible.pop_front() {
                    Some(words) => words,
                    None if rig.epochs.current > 1 => format!("P {epoch}:{}", counter + 1),
                    None => continue,
                },
            };
            let done = rig.hear(&heard);
            for done in done.split(", ") {
                match done.split_once(' ').unwrap_or((done, "")) {
                    ("store", what) => stored.push_back(what.to_owned()),
                    ("serving", _) => served += 1,
                    ("next", _) => adopted += 1,
                    ("send", ack) if ack.starts_with("ACKEPOCH") => {
                        let sync = ["DIFF 1:9", "TRUNC 1:3", "SNAP 1:9"][chance.below(3) as usize];
                        sensible.push_back(sync.to_owned());
                        if sync.starts_with("SNAP") {
                            sensible.push_back("stream 1:9".to_owned());
                        }
                        let after = if sync.starts_with("TRUNC") { "2:1" } else { "1:10" };
                        let after = if sync.starts_with("DIFF") { "1:6" } else { after };
                        let flow = [&format!("P {after}"), "NEWLEADER 2", &format!("C {after}")].map(str::to_owned);
                        sensible.extend(flow);
                    }
                    ("send", "ACK 2:0") if !rig.is_serving() => sensible.push_back("UPTODATE".to_owned()),
                    ("send", "ACK 2:0") => sensible.push_back("NEXTEPOCH 3".to_owned()),
                    ("send", "ACCEPTED 3") => sensible.extend(["NEXTEPOCHBEGINS 3", "P 3:1"].map(str::to_owned)),
                    _ => {}
                }
            }
            if rig.over {
                ends += 1;
                break;
            }
        }
    }
    assert!(ends > 1000 && served > 1000 && reloaded > 1000 && adopted > 1000, "{ends} {served} {reloaded} {adopted}");
}

/// The disk was cut or replaced as it was told, or that failed.
fn continue_with_disk(rig: &mut Rig, reloaded: &mut u32) -> String {
    let Stage::Reloading { last, .. } = rig.learner.stage else { unreachable!("the disk is replaced") };
    *reloaded += 1;
    format!("reloaded {}", text_of(last))
}
