//! What goes, and in which order, when the disk has no room for the log.
//!
//!   refused -> a snapshot of now -> what is surplus goes -> the log asks again -> refused, and so are writers
//!                    ^                                                                       |
//!                    +------------------- the oldest of several snapshots goes --------------+
//!
//! A full disk cannot wait for what frees it at other times. The next snapshot is due after so many transactions, and there
//! are none; the next purge after an hour; and the snapshots that are to be kept may need all of the log that fills the disk.
//! So a store that was told how many to keep sees to all three. It keeps fewer only while writers are refused, and the newest
//! in any case; one that was never told deletes nothing.
//!
//! Room goes to the snapshot before it goes to the log: a segment more is full in a moment, and then there is no room for the
//! snapshot that would let many go.

use crate::probe;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// Nothing was done yet about this shortage, or a snapshot went because of it.
    #[default]
    Begun,
    SnapshotWanted,
    SnapshotEnded,
    Purged,
    /// The log asked for room again, with all of that done.
    Asked,
}

/// How things are while the log is refused a segment, and nothing is under way that could change that.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// The newest snapshot was written in this life and has all there is.
    pub snapshot_is_new: bool,
    pub writers_refused: bool,
    pub snapshots: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Have one taken; tell of its end.
    Snapshot,
    /// Delete all but so many of the newest, as was said they may be.
    Purge { keep: usize },
    /// Delete one of those that were to be kept.
    GiveUpOldest,
    /// Ask the disk again.
    Ask,
}

#[derive(Debug, Default)]
pub struct Shortage {
    retain: Option<usize>,
    step: Step,
    /// The snapshot that is wanted had not begun at the last retry.
    waited: bool,
}

impl Shortage {
    /// Old snapshots may go, as long as so many are left.
    pub fn may_purge(&mut self, retain: usize) {
        self.retain = Some(retain);
    }

    /// The log is not to ask for room: a snapshot is about to.
    pub fn gives_way_to_snapshot(&self, running: bool) -> bool {
        self.retain.is_some() && (running || self.step == Step::SnapshotWanted)
    }

    /// Whether or not there is one now.
    pub fn snapshot_ended(&mut self) {
        if self.step == Step::SnapshotWanted {
            self.step = Step::SnapshotEnded;
        }
    }

    /// Room is to be asked for again, and the snapshot that was wanted has not begun. A caller that cannot take one now (a
    /// member of an ensemble that does not serve) never does so before there is room: nothing waits for it twice.
    pub fn is_retried(&mut self) {
        if self.step == Step::SnapshotWanted && std::mem::replace(&mut self.waited, true) {
            probe::mark("storage: a full disk waits for a snapshot no longer");
            self.step = Step::SnapshotEnded;
        }
    }

    pub fn over(&mut self) {
        self.step = Step::Begun;
    }

    /// `None`: nothing more to be done now.
    pub fn remedy(&mut self, Situation { snapshot_is_new, writers_refused, snapshots }: Situation) -> Option<Remedy> {
        let retain = self.retain?;
        let (step, remedy) = match self.step {
            Step::Begun if !snapshot_is_new => (Step::SnapshotWanted, Remedy::Snapshot),
            Step::Begun | Step::SnapshotEnded => (Step::Purged, Remedy::Purge { keep: retain }),
            Step::Purged => (Step::Asked, Remedy::Ask),
            Step::Asked if snapshots > retain => (Step::Purged, Remedy::Purge { keep: retain }),
            Step::Asked if writers_refused && snapshots > 1 => (Step::Begun, Remedy::GiveUpOldest),
            Step::SnapshotWanted | Step::Asked => return None,
        };
        (self.step, self.waited) = (step, false);
        Some(remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that is done about a shortage that nothing helps against; each snapshot succeeds or none does.
    fn remedies(retain: usize, snapshots: usize, writers_refused: bool, succeeds: bool) -> Vec<Remedy> {
        let (mut shortage, mut remedies) = (Shortage::default(), Vec::new());
        shortage.may_purge(retain);
        let mut situation = Situation { snapshot_is_new: false, writers_refused, snapshots };
        while let Some(remedy) = shortage.remedy(situation) {
            match remedy {
                Remedy::Snapshot => {
                    assert_eq!(shortage.remedy(situation), None, "until it has ended");
                    shortage.snapshot_ended();
                    situation.snapshot_is_new = succeeds;
                    situation.snapshots += usize::from(succeeds);
                }
                Remedy::Purge { keep } => situation.snapshots = situation.snapshots.min(keep),
                Remedy::GiveUpOldest => situation.snapshots -= 1,
                Remedy::Ask => {}
            }
            remedies.push(remedy);
        }
        remedies
    }

    #[test]
    fn as_little_goes_as_will_do_and_the_newest_never() {
        use Remedy::{Ask, GiveUpOldest, Purge, Snapshot};
        let purge = Purge { keep: 3 };
        let as_promised = [Snapshot, purge, Ask];
        assert_eq!(remedies(3, 3, false, true), as_promised, "there is room for writers");
        let one_by_one = [GiveUpOldest, purge, Ask, GiveUpOldest, purge, Ask];
        assert_eq!(remedies(3, 3, true, true), [&as_promised[..], &one_by_one].concat());
        let a_snapshot_first = [GiveUpOldest, Snapshot, purge, Ask];
        assert_eq!(remedies(3, 2, true, false), [&as_promised[..], &a_snapshot_first].concat());
        assert_eq!(remedies(3, 1, true, false), as_promised);
        assert_eq!(remedies(3, 0, true, true), as_promised);
    }

    #[test]
    fn nothing_is_done_by_a_store_that_may_not_purge() {
        let situation = Situation { snapshot_is_new: false, writers_refused: true, snapshots: 9 };
        let mut shortage = Shortage::default();
        assert_eq!(shortage.remedy(situation), None);
        assert!(!shortage.gives_way_to_snapshot(true));
    }

    #[test]
    fn a_snapshot_that_nobody_takes_is_not_waited_for_forever() {
        let situation = Situation { snapshot_is_new: false, writers_refused: true, snapshots: 1 };
        let mut shortage = Shortage::default();
        shortage.may_purge(3);
        assert_eq!(shortage.remedy(situation), Some(Remedy::Snapshot));
        shortage.is_retried();
        assert!(shortage.gives_way_to_snapshot(false), "it may be about to begin");
        shortage.is_retried();
        assert!(!shortage.gives_way_to_snapshot(false), "the log asks for itself");
        assert_eq!(shortage.remedy(situation), Some(Remedy::Purge { keep: 3 }));
    }

    #[test]
    fn a_shortage_that_is_over_begins_anew_the_next_time() {
        let situation = Situation { snapshot_is_new: false, writers_refused: true, snapshots: 3 };
        let mut shortage = Shortage::default();
        shortage.may_purge(3);
        assert_eq!(shortage.remedy(situation), Some(Remedy::Snapshot));
        assert!(shortage.gives_way_to_snapshot(false));
        shortage.over();
        assert!(!shortage.gives_way_to_snapshot(false) && shortage.gives_way_to_snapshot(true));
        shortage.snapshot_ended(); // of the time before
        assert_eq!(shortage.remedy(situation), Some(Remedy::Snapshot));
    }
}
