//! The marked branches: rare ones, each worth knowing that a simulation has taken it. `tests/simulation.rs` compares this list
//! with the sources; `cargo dev sim --seeds A..B --marks` goes where each is that the seeds did not come to.

use super::mutations::Scene;

/// Every name given to `probe::mark`, in order.
pub const MARKS: &[&str] = &[
    "a client has seen more than this server has",
    "a local session becomes everybody's",
    "a proposed configuration is forgotten with its transaction",
    "election: a better vote came during the finalize wait",
    "election: a newer configuration was adopted",
    "election: a server without a vote was answered",
    "election: a vote was taken back",
    "election: an empty server heard of data",
    "election: caught up with a later round",
    "election: caught up with a voter to be",
    "election: joined the leader of another round",
    "election: joined the leader of this round",
    "leader: DIFF from the log",
    "leader: SNAP because the log does not reach",
    "leader: SNAP for a divergent learner",
    "leader: SNAP for a learner at the begin of an unknown epoch",
    "leader: SNAP for a learner that lost something",
    "leader: SNAP where there is no transaction to cut at",
    "leader: TRUNC chosen",
    "leader: a change of an earlier epoch is completed",
    "leader: a closeSession does not list its ephemerals",
    "leader: a founder",
    "leader: a learner has accepted a later epoch",
    "leader: a learner is ahead",
    "leader: a learner is back on another link",
    "leader: a learner is silent",
    "leader: a learner takes its snapshot too slowly",
    "leader: a learner takes less than is proposed",
    "leader: a learner's request waits until something may be proposed",
    "leader: a packet out of place",
    "leader: a quorum is asked before a session is refused",
    "leader: a session has moved",
    "leader: a snapshot for the disk gives way to a learner",
    "leader: a transition takes too long",
    "leader: acks are overdue",
    "leader: an ack of what was never proposed",
    "leader: an elector looks for a leader again",
    "leader: an epoch drains",
    "leader: an epoch rolled over",
    "leader: an observer has to wait for the syncs of others",
    "leader: another configuration is proposed",
    "leader: completes a change that leaves it out",
    "leader: gives way to a later epoch",
    "leader: hands over",
    "leader: no quorum within initLimit",
    "leader: puts a voter to be forward",
    "leader: quorum lost",
    "leader: the counter is nearly used up",
    "leader: the log does not have the history",
    "leader: the log is looked at for a DIFF",
    "leader: the log is too long for a DIFF",
    "leader: the new configuration has another leader",
    "leader: the next epoch waits for a learner",
    "leader: too few would hear of its successor",
    "learner: SNAP",
    "learner: TRUNC",
    "learner: a commit came twice",
    "learner: a commit of something else than the oldest proposal",
    "learner: a commit outruns the own disk",
    "learner: a founder",
    "learner: a gap between proposals",
    "learner: a leader of an old epoch",
    "learner: a ping in the middle of synchronisation",
    "learner: a proposal came twice",
    "learner: a snapshot received in part",
    "learner: adopted the next epoch without an election",
    "learner: another configuration ends its role",
    "learner: goes on with what it was given since its loss",
    "learner: over while the disk is replaced",
    "learner: packets wait for the disk",
    "learner: the disk could not be cut or replaced",
    "learner: the leader fell silent",
    "learner: the leader hands over",
    "learner: the leader made no sense",
    "learner: the next epoch begins before it is promised here",
    "observer master: an observer is ahead",
    "observer master: the next epoch is passed on",
    "read-only mode",
    "settling: an uncommitted tail is applied before voting",
    "storage: a damaged state was set aside",
    "storage: a full disk waits for a snapshot no longer",
    "storage: a leader's state took the place of everything",
    "storage: a log was cut",
    "storage: a state was given up",
    "storage: a torn tail was cut",
];

/// A branch that ordinary seeds hardly come to, and where it is.
#[derive(Clone, Copy, Debug)]
pub struct Rare {
    pub mark: &'static str,
    pub scene: Scene,
    /// One of seeds 0 to this one, exclusive, takes it.
    pub seeds: u64,
}

const fn rare(mark: &'static str, scene: Scene, seeds: u64) -> Rare {
    Rare { mark, scene, seeds }
}

/// Of each that not every few hundred seeds take, in order. Others are looked for in seeds like any other.
pub const RARE: &[Rare] = &[
    rare("a proposed configuration is forgotten with its transaction", Scene::Members, 600),
    rare("election: caught up with a voter to be", Scene::Members, 600),
    rare("leader: a closeSession does not list its ephemerals", Scene::Hoards, 40),
    rare("leader: completes a change that leaves it out", Scene::Members, 600),
    rare("learner: a snapshot received in part", Scene::Walks, 100),
];

/// Branches that no run has come to so far, in order: each needs two rare things at once. What keeps them are the tests beside them.
pub const UNREACHED: &[&str] = &[
    // A state given away at the begin of an epoch, in which nothing is ever written before its voters start again.
    "leader: SNAP for a learner at the begin of an unknown epoch",
    // A proposal that reached the voters to be further than those who decide, whose leader is gone: seed 30011671 alone.
    "leader: puts a voter to be forward",
    // A state that was taken over from a leader nobody heard of again, and is to be cut back.
    "storage: a state was given up",
];
