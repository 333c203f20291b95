//! How to bring a learner up to the leader's history: DIFF, TRUNC or SNAP.
//!
//! | what the learner has (P) | what it gets |
//! |---|---|
//! | nothing that can be relied on (-1) | SNAP |
//! | what the leader applied last | DIFF, and nothing else |
//! | more than the leader, of an epoch's transactions | TRUNC to the leader's newest transaction |
//! | a transaction of the window, the one before it, or the state at the begin of an epoch inside it | DIFF and the rest of the window |
//! | something in between that the leader never had | SNAP |
//! | something older than the window | DIFF from the log, if the log proves to have everything from P on; else SNAP |
//!
//! We differ from Java where its choice is a guess: a TRUNC always names a transaction that exists (Java's log cuts at the first
//! one that is not below the target, and would keep one too many); a divergent learner gets a SNAP, never a TRUNC to something
//! in the middle; an empty learner gets a DIFF only if the history begins with nothing (20.19); a range of the log is read and
//! checked as a whole before the first word of it is sent. Java: `LearnerHandler.syncFollower`. Spec: quorum-protocol 7.2-7.4.

use ringkeeper_storage::probe::{broken, mark};

use super::window::Window;
use crate::core::settings::Ensemble;
use crate::core::types::Zxid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// It has everything up to `above`, and wants the rest.
    Diff {
        above: Zxid,
    },
    /// It has to give up what is above `to`, and wants what else there is.
    Trunc {
        to: Zxid,
    },
    /// It wants everything above `after`, of which the log has what is up to `through`, the window the rest.
    FromLog {
        after: Zxid,
        through: Zxid,
    },
    Snap {
        why: &'static str,
    },
}

/// What a learner is told first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncKind {
    Diff,
    Trunc,
    Snap,
}

impl Plan {
    /// A log that turns out not to have what is wanted makes a SNAP of it.
    pub fn kind(self) -> SyncKind {
        match self {
            Plan::Diff { .. } | Plan::FromLog { .. } => SyncKind::Diff,
            Plan::Trunc { .. } => SyncKind::Trunc,
            Plan::Snap { .. } => SyncKind::Snap,
        }
    }
}

impl SyncKind {
    pub fn name(self) -> &'static str {
        match self {
            SyncKind::Diff => "DIFF",
            SyncKind::Trunc => "TRUNC",
            SyncKind::Snap => "SNAP",
        }
    }
}

/// How a learner is, or was, brought up to the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncReport {
    pub kind: SyncKind,
    /// As queues count it: what it takes in memory, not on the network.
    pub bytes: u64,
    /// None: it is under way.
    pub took_ms: Option<u64>,
}

/// The leader's history, at the moment of the choice.
#[derive(Clone, Copy, Debug)]
pub struct History<'a> {
    pub window: &'a Window,
    /// Java: D, `lastProcessedZxid`.
    pub applied: Zxid,
    /// Committed and, this very moment, not applied: as good as the window's. None of it: what the window ends with.
    pub committed: Zxid,
}

impl History<'_> {
    /// The newest transaction a learner may rely on. Java: `maxCommittedLog`.
    pub fn newest(&self) -> Zxid {
        self.window.last().max(self.committed)
    }

    /// The window's, and what comes behind it without a gap.
    fn knows(&self, zxid: Zxid) -> bool {
        self.window.knows(zxid) || (zxid > self.window.last() && zxid <= self.committed)
    }
}

/// Whether this names the state at the begin of an epoch: no transaction has it, and only a leader that a quorum followed
/// gives it away. Everything older in a later leader's history is part of that state.
fn is_epoch_begin(zxid: Zxid) -> bool {
    zxid.counter() == 0
}

/// `learner`: its newest transaction; None: what it had may be lost.
pub fn plan(learner: Option<Zxid>, history: History<'_>, settings: &Ensemble) -> Plan {
    let Some(learner) = learner else {
        mark("leader: SNAP for a learner that lost something");
        return Plan::Snap { why: "what it had may be lost" };
    };
    if settings.force_snapshot_sync {
        return Plan::Snap { why: "forceSnapshotSync" };
    }
    let newest = history.newest();
    if learner == history.applied {
        return Plan::Diff { above: learner };
    }
    if learner > newest {
        if is_epoch_begin(learner) {
            // Of Java's alone: our leaders' snapshots are named by the transaction before it.
            return Plan::Snap { why: "it is at the begin of an epoch that is not known here" };
        }
        if is_epoch_begin(newest) {
            mark("leader: SNAP where there is no transaction to cut at");
            return Plan::Snap { why: "there is no transaction to cut its log at" };
        }
        mark("leader: TRUNC chosen");
        return Plan::Trunc { to: newest };
    }
    if history.knows(learner) || (is_epoch_begin(learner) && learner > history.window.base()) {
        return Plan::Diff { above: learner };
    }
    if learner > history.window.base() {
        if broken("leader: DIFF on top of a divergent history") {
            return Plan::Diff { above: learner };
        }
        mark("leader: SNAP for a divergent learner");
        return Plan::Snap { why: "its newest transaction never belonged to the history" };
    }
    if broken("leader: DIFF that skips what the window does not have") {
        return Plan::Diff { above: learner };
    }
    if settings.snapshot_size_factor.is_none() {
        return Plan::Snap { why: "it is far behind, and no DIFF is read from disk" };
    }
    Plan::FromLog { after: learner, through: history.window.base() }
}

/// The check of a range of the log, record by record: the history from where the learner is, without a gap.
#[derive(Debug)]
pub struct LogCheck {
    after: Zxid,
    through: Zxid,
    last: Option<Zxid>,
    bytes: u64,
}

impl LogCheck {
    pub fn new(after: Zxid, through: Zxid) -> LogCheck {
        LogCheck { after, through, last: None, bytes: 0 }
    }

    /// The next record; `predecessor` is what the log holds right before it, if it is the first.
    pub fn admits(&mut self, predecessor: Zxid, zxid: Zxid, bytes: usize) -> bool {
        let after = self.after;
        let before = self.last.unwrap_or(predecessor);
        // What is older than the begin of an epoch is part of that state. Zero is no such state: nothing is part of it.
        let covers = before == after || (is_epoch_begin(after) && after != Zxid::ZERO && before < after);
        if (self.last.is_none() && !covers) || !zxid.can_follow(before) || zxid > self.through || zxid <= after {
            return false;
        }
        self.last = Some(zxid);
        self.bytes += bytes as u64;
        true
    }

    /// Bytes of transactions so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.last == Some(self.through)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Epoch 4 up to its 9th transaction, epoch 5 up to its 3rd; the window has those from (4, 8) on.
    fn window() -> Window {
        let mut window = Window::new(5, Zxid::new(4, 5));
        for counter in 6..=9 {
            window.push(Zxid::new(4, counter), Bytes::new());
        }
        for counter in 1..=3 {
            window.push(Zxid::new(5, counter), Bytes::new());
        }
        assert_eq!(window.base(), Zxid::new(4, 7));
        window
    }

    fn choose(window: &Window, applied: Zxid, learner: Zxid) -> Plan {
        let history = History { window, applied, committed: window.last() };
        plan(Some(learner), history, &Ensemble::default())
    }

    fn is_snap(plan: Plan) -> bool {
        matches!(plan, Plan::Snap { .. })
    }

    #[test]
    fn each_row_of_the_table() {
        let window = window();
        let applied = Zxid::new(6, 0);
        let choose = |epoch, counter| choose(&window, applied, Zxid::new(epoch, counter));
        let diff = |epoch, counter| Plan::Diff { above: Zxid::new(epoch, counter) };
        let newest = Zxid::new(5, 3);

        assert_eq!(choose(6, 0), diff(6, 0), "row 2: what was processed last, though no transaction has it");
        assert_eq!(choose(5, 4), Plan::Trunc { to: newest }, "row 3");
        assert_eq!(choose(6, 2), Plan::Trunc { to: newest }, "row 3: the newest real one, not (6, 0)");
        assert!(is_snap(choose(7, 0)), "row 6: the begin of an epoch that never was");
        for (epoch, counter) in [(4, 7), (4, 8), (4, 9), (5, 1), (5, 3), (5, 0)] {
            assert_eq!(choose(epoch, counter), diff(epoch, counter), "row 4");
        }
        assert!(is_snap(choose(4, 10)), "7.3: a TRUNC does not cross an epoch");
        let from_log = |after| Plan::FromLog { after, through: Zxid::new(4, 7) };
        assert_eq!(choose(4, 6), from_log(Zxid::new(4, 6)), "row 5");
        assert_eq!(choose(4, 0), from_log(Zxid::new(4, 0)), "row 5: the begin of an epoch");
        assert_eq!(choose(0, 0), from_log(Zxid::ZERO), "row 5: the log has to begin with nothing");

        let history = History { window: &window, applied, committed: newest };
        assert!(is_snap(plan(None, history, &Ensemble::default())));
        let forced = Ensemble { force_snapshot_sync: true, ..Ensemble::default() };
        assert!(is_snap(plan(Some(applied), history, &forced)), "row 1");
        let no_log = Ensemble { snapshot_size_factor: None, ..Ensemble::default() };
        assert!(is_snap(plan(Some(Zxid::new(4, 6)), history, &no_log)), "row 5 without the disk");
    }

    #[test]
    fn an_empty_learner_of_an_empty_leader_gets_a_diff_of_nothing() {
        let empty = Window::new(5, Zxid::ZERO);
        assert_eq!(choose(&empty, Zxid::ZERO, Zxid::ZERO), Plan::Diff { above: Zxid::ZERO });
        assert_eq!(choose(&empty, Zxid::new(1, 0), Zxid::ZERO), Plan::Diff { above: Zxid::ZERO }, "established");
        assert!(is_snap(choose(&empty, Zxid::ZERO, Zxid::new(1, 1))), "there is nothing to cut a log at");
    }

    /// ZOOKEEPER-4352 (20.19).
    #[test]
    fn an_empty_learner_gets_a_diff_only_of_everything() {
        let mut window = Window::new(2, Zxid::ZERO);
        window.push(Zxid::new(1, 1), Bytes::new());
        window.push(Zxid::new(1, 2), Bytes::new());
        assert_eq!(choose(&window, Zxid::new(1, 2), Zxid::ZERO), Plan::Diff { above: Zxid::ZERO });
        window.push(Zxid::new(1, 3), Bytes::new());
        let from_log = Plan::FromLog { after: Zxid::ZERO, through: Zxid::new(1, 1) };
        assert_eq!(choose(&window, Zxid::new(1, 3), Zxid::ZERO), from_log);
    }

    #[test]
    fn an_empty_window_still_knows_where_it_stands() {
        let window = Window::new(5, Zxid::new(3, 7));
        let applied = Zxid::new(4, 0);
        assert_eq!(choose(&window, applied, Zxid::new(3, 7)), Plan::Diff { above: Zxid::new(3, 7) });
        assert_eq!(choose(&window, applied, Zxid::new(3, 8)), Plan::Trunc { to: Zxid::new(3, 7) });
        assert!(matches!(choose(&window, applied, Zxid::new(3, 6)), Plan::FromLog { .. }));
        let given_away = Window::new(5, Zxid::new(3, 0));
        assert!(is_snap(choose(&given_away, applied, Zxid::new(3, 2))), "(3, 0) is no transaction to cut at");
    }

    #[test]
    fn what_is_committed_and_not_applied_is_history_too() {
        let window = window();
        let history = History { window: &window, applied: Zxid::new(5, 3), committed: Zxid::new(5, 5) };
        let plan = |counter| plan(Some(Zxid::new(5, counter)), history, &Ensemble::default());
        assert_eq!(plan(4), Plan::Diff { above: Zxid::new(5, 4) });
        assert_eq!(plan(6), Plan::Trunc { to: Zxid::new(5, 5) }, "nothing committed is ever cut off");
    }

    fn check(after: Zxid, predecessor: Zxid, records: &[Zxid]) -> bool {
        let through = *records.last().unwrap();
        let mut check = LogCheck::new(after, through);
        records.iter().all(|zxid| check.admits(predecessor, *zxid, 1)) && check.is_complete()
    }

    /// ZOOKEEPER-2418 (20.18).
    #[test]
    fn a_range_of_the_log_is_the_history_or_it_is_not_sent() {
        let z = Zxid::new;
        assert!(check(z(4, 2), z(4, 2), &[z(4, 3), z(4, 4), z(6, 1)]));
        assert!(!check(z(4, 2), z(4, 1), &[z(4, 3)]), "the log does not have what the learner has");
        assert!(!check(z(4, 2), z(4, 2), &[z(4, 4)]), "a hole at the begin");
        assert!(!check(z(4, 2), z(4, 2), &[z(4, 3), z(4, 5)]), "a hole");
        assert!(!check(z(4, 2), z(4, 2), &[z(4, 3), z(5, 2)]), "an epoch without its first");
        assert!(!check(z(4, 2), z(4, 2), &[z(4, 3), z(4, 3)]), "twice the same");
        assert!(check(z(5, 0), z(4, 2), &[z(5, 1), z(5, 2)]), "the begin of an epoch has all that is older");
        assert!(check(z(5, 0), z(4, 2), &[z(6, 1)]));
        assert!(check(Zxid::ZERO, Zxid::ZERO, &[z(1, 1), z(1, 2)]));
        assert!(!check(Zxid::ZERO, Zxid::ZERO, &[z(1, 2)]), "20.19: the first of all is missing");
        assert!(!LogCheck::new(z(4, 2), z(4, 3)).is_complete(), "nothing was read");
    }
}
