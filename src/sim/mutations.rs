//! Rules that can be broken on purpose, each with the scene in which that is noticed: a simulator that does not notice is not
//! worth its time. `cargo dev sim --mutations` breaks them all, one at a time.
//!
//! A rule is broken where it lives, by `probe::broken`. Each has to break a promise within its number of seeds, in runs that
//! break none when all rules are kept. One that nothing notices points to a blind spot (a promise that is not checked, a
//! moment that no run comes to) or to a rule that nobody needs. `tests/mutations.rs` compares this list with the sources.

use super::faults::{Fault, by_name};
use super::plan::{Emphasis, Wishes};

/// Who is there and what goes wrong, so that something comes of it soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scene {
    /// Nothing but clients that come and go.
    Clients,
    /// One server alone, whose process is killed and whose machine loses its power.
    Alone,
    /// Processes are killed and machines lose their power, one or all.
    Crashes,
    /// The same at single operations of the disk, in recovery too; five voters, and links that part them.
    Moments,
    /// Links break and disks are slow.
    Links,
    /// Connections of peers break all the time, and little else goes wrong.
    Returns,
    /// Clients move from server to server, and the ways between them are slow.
    Moves,
    /// Snapshots are taken in small pieces, and learners need them.
    Walks,
    /// Leaders hand over, epochs roll over.
    Epochs,
    /// Disks rot and are emptied.
    Damage,
    /// Observers beside the voters, and partitions.
    Observers,
    /// The membership changes, and processes are killed.
    Members,
    /// The same behind followers that serve them.
    ObserverMasters,
    /// Sessions of one server.
    LocalSessions,
    /// The same with observers, and the ways between servers are slow: who moves finds a server that is behind.
    Strays,
    /// Leaders that are about to begin an epoch die of it, and hardly anything is written.
    Attempts,
    /// Sessions own more ephemerals than their end can list.
    Hoards,
    /// Leaders are cut off from most before they serve, all restart together, and who missed anything gets a snapshot.
    Strandings,
    /// The membership changes, and leaders are cut off from those that decide so far, not from those that are to.
    Heirs,
    /// Whatever the seed draws, but for full disks.
    Mixed,
}

impl Scene {
    pub const ALL: &'static [Scene] = &[
        Scene::Clients,
        Scene::Alone,
        Scene::Crashes,
        Scene::Moments,
        Scene::Links,
        Scene::Returns,
        Scene::Moves,
        Scene::Walks,
        Scene::Epochs,
        Scene::Damage,
        Scene::Observers,
        Scene::Members,
        Scene::ObserverMasters,
        Scene::LocalSessions,
        Scene::Strays,
        Scene::Attempts,
        Scene::Hoards,
        Scene::Strandings,
        Scene::Heirs,
        Scene::Mixed,
    ];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Scene::Clients => "clients",
            Scene::Alone => "alone",
            Scene::Crashes => "crashes",
            Scene::Moments => "moments",
            Scene::Links => "links",
            Scene::Returns => "returns",
            Scene::Moves => "moves",
            Scene::Walks => "walks",
            Scene::Epochs => "epochs",
            Scene::Damage => "damage",
            Scene::Observers => "observers",
            Scene::Members => "members",
            Scene::ObserverMasters => "observer-masters",
            Scene::LocalSessions => "local-sessions",
            Scene::Strays => "strays",
            Scene::Attempts => "attempts",
            Scene::Hoards => "hoards",
            Scene::Strandings => "strandings",
            Scene::Heirs => "heirs",
            Scene::Mixed => "mixed",
        }
    }

    pub fn wishes(self) -> Wishes {
        use Fault::*;
        let (voters, observers, seconds, only): (i64, i64, u64, &[Fault]) = match self {
            Scene::Clients => (3, 0, 6, &[ClientLinkBreaks, ClientCut]),
            Scene::Alone => (1, 0, 10, &[Kill, KillAtDiskOperation, PowerCut]),
            Scene::Crashes => (3, 0, 10, &[Kill, PowerCut, PowerCutEverywhere, ClientLinkBreaks, SlowDisk]),
            Scene::Moments => (5, 0, 10, &[KillAtDiskOperation, KillInRecovery, Partition, SlowLink]),
            Scene::Links => (3, 0, 10, &[Partition, OneWayCut, LinkBreaks, SlowDisk, PowerCut, Snapshot]),
            Scene::Returns => (3, 0, 10, &[LinkBreaks, SlowLink, SlowDisk]),
            Scene::Moves => (3, 0, 10, &[SlowLink, Pause, ClientLinkBreaks, ClientCut]),
            Scene::Walks => (3, 0, 10, &[Snapshot, SlowDisk, SlowLink, LinkBreaks, Kill]),
            Scene::Epochs => (3, 0, 8, &[HandOver, Kill, LinkBreaks, SlowDisk]),
            Scene::Damage => (3, 0, 12, &[Wipe, BitRot, PowerCut, PowerCutEverywhere, Snapshot]),
            Scene::Observers => (3, 2, 8, &[Partition, Kill, SlowDisk]),
            Scene::Members => (3, 1, 10, &[Kill, PowerCut, Partition, LinkBreaks, KillAtDiskOperation]),
            Scene::ObserverMasters => (3, 2, 8, &[Partition, Kill, SlowDisk, SlowLink, LinkBreaks, ClientLinkBreaks]),
            Scene::LocalSessions => (3, 0, 8, &[Partition, Kill, SlowDisk, ClientLinkBreaks, ClientCut]),
            Scene::Strays => (3, 2, 8, &[Partition, SlowLink, ClientLinkBreaks, ClientCut]),
            Scene::Attempts => (3, 2, 12, &[Kill, SlowDisk, KillAtDiskOperation]),
            Scene::Hoards => (3, 0, 10, &[ClientLinkBreaks, ClientCut]),
            Scene::Strandings => (3, 2, 12, &[Strand, PowerCutEverywhere, SlowDisk]),
            Scene::Heirs => (3, 1, 10, &[Strand, Kill, SlowDisk]),
            Scene::Mixed => (3, 0, 8, &[]),
        };
        let without = if only.is_empty() { vec![DiskFull] } else { vec![] };
        Wishes {
            voters: Some(voters),
            observers: Some(observers),
            clients: Some(if self == Scene::Attempts { 1 } else { 3 }),
            seconds: Some(seconds),
            without,
            only: only.to_vec(),
            rollover_at: (self == Scene::Epochs).then_some(30),
            emphasis: match self {
                Scene::Walks => Some(Emphasis::Snapshots),
                Scene::Hoards => Some(Emphasis::Ephemerals),
                Scene::Strandings => Some(Emphasis::ShortMemories),
                _ => None,
            },
            reconfigure: Some(matches!(self, Scene::Members | Scene::Heirs)),
            observer_masters: Some(self == Scene::ObserverMasters),
            local_sessions: Some(matches!(self, Scene::LocalSessions | Scene::Strays)),
        }
    }
}

impl std::str::FromStr for Scene {
    type Err = String;

    fn from_str(name: &str) -> Result<Scene, String> {
        by_name("scene", name, Scene::ALL, Scene::name)
    }
}

/// A rule, and what happens without it.
#[derive(Clone, Copy, Debug)]
pub struct Mutation {
    /// As `probe::broken` knows it.
    pub rule: &'static str,
    pub scene: Scene,
    /// One of seeds 0 to this one, exclusive, breaks a promise.
    pub seeds: u64,
    /// The promises that break, the most frequent first.
    pub breaks: &'static [&'static str],
}

const fn rule(rule: &'static str, scene: Scene, seeds: u64, breaks: &'static [&'static str]) -> Mutation {
    Mutation { rule, scene, seeds, breaks }
}

/// Those that are noticed, in order.
pub const MUTATIONS: &[Mutation] = &[
    rule("a batch is acknowledged before it is flushed", Scene::Crashes, 80, &["recovery", "liveness"]),
    rule("a closed session leaves one ephemeral behind", Scene::Links, 40, &["ephemerals"]),
    rule("a cut leaves the rest of its batch", Scene::Links, 40, &["assertions"]),
    rule("a deletion is not told to who watches its siblings", Scene::Links, 40, &["watch_before_data"]),
    rule("a failed multi leaves its traces", Scene::Crashes, 40, &["assertions"]),
    rule("a learner answers a sync at once", Scene::Moments, 200, &["sync_sees_acknowledged"]),
    rule("a local session owns ephemerals", Scene::LocalSessions, 40, &["ephemerals"]),
    rule("a lost server passes for a whole one", Scene::Damage, 40, &["honest_epochs"]),
    rule("a new leader does not restart the deadlines of sessions", Scene::Moments, 40, &["ephemerals"]),
    rule("a read overtakes its session's write", Scene::Crashes, 40, &["session_fifo"]),
    rule("a segment is purged that a start still needs", Scene::Crashes, 160, &["recovery"]),
    rule("a sequence counts in the tree alone", Scene::Crashes, 40, &["linearizable_writes"]),
    rule("a snapshot forgets what changed ahead of its walk", Scene::Moments, 40, &["recovery", "assertions"]),
    rule("a snapshot gets its name before it is flushed", Scene::Crashes, 40, &["recovery"]),
    rule("a snapshot takes in what was born ahead of its walk", Scene::Walks, 20, &["assertions"]),
    rule("a torn batch passes for a whole one", Scene::Crashes, 400, &["recovery"]),
    rule("accept an old epoch", Scene::Attempts, 900, &["honest_epochs"]),
    rule("ack NEWLEADER before the DIFF is durable", Scene::Links, 80, &["acked_is_durable", "honest_epochs"]),
    rule("ack before the flush", Scene::Crashes, 40, &["acked_is_durable"]),
    rule("ack on behalf of an old link", Scene::Returns, 40, &["acked_is_durable"]),
    rule("an empty disk votes like any other", Scene::Damage, 80, &["honest_epochs"]),
    rule("an epoch is told before it has its name", Scene::Crashes, 40, &["recovery"]),
    rule("an installed state leaves the older log", Scene::Walks, 40, &["recovery"]),
    rule("an upgraded session stays with its server", Scene::LocalSessions, 80, &["ephemerals"]),
    rule("apply before the commit", Scene::Crashes, 40, &["acked_is_durable"]),
    rule("currentEpoch before the history", Scene::Returns, 40, &["honest_epochs"]),
    rule("forget acceptedEpoch", Scene::Crashes, 40, &["honest_epochs"]),
    rule("forget whose session it is", Scene::Moves, 80, &["session_moves"]),
    rule("leader: DIFF from a log that has a gap", Scene::Links, 160, &["agreement"]),
    rule("leader: DIFF leaves out the oldest", Scene::Crashes, 40, &["recovery", "liveness"]),
    rule("leader: DIFF on top of a divergent history", Scene::Links, 80, &["agreement"]),
    rule("leader: DIFF that skips what the window does not have", Scene::Crashes, 40, &["acked_is_durable"]),
    rule("leader: LEADERINFO before acceptedEpoch is durable", Scene::Clients, 8, &["honest_epochs"]),
    rule("leader: NEWLEADER before the SNAP is complete", Scene::Crashes, 40, &["liveness"]),
    rule("leader: TRUNC too little", Scene::Mixed, 400, &["primary_integrity", "acked_is_durable"]),
    rule("leader: TRUNC too much", Scene::Mixed, 400, &["honest_epochs", "acked_is_durable"]),
    rule("leader: an ack counts for the next one too", Scene::Crashes, 40, &["acked_is_durable"]),
    rule("leader: an ack of many counts for the last", Scene::Crashes, 40, &["liveness"]),
    rule("leader: begin the next epoch without a quorum's promise", Scene::Epochs, 24, &["leader_completeness"]),
    rule("leader: commit on a minority", Scene::Crashes, 40, &["acked_is_durable"]),
    rule("leader: count acks from before a TRUNC", Scene::Returns, 40, &["assertions"]),
    rule("leader: forget outstanding proposals when forwarding starts", Scene::Returns, 20, &["assertions"]),
    rule("leader: go on without a quorum", Scene::Links, 160, &["liveness", "ephemerals"]),
    rule("leader: lead those that are ahead", Scene::Links, 60, &["leader_completeness"]),
    rule("leader: observers count", Scene::Observers, 12, &["liveness", "acked_is_durable"]),
    rule("leader: propose an epoch that is not new", Scene::Crashes, 40, &["liveness"]),
    rule("leader: propose in the next epoch before a quorum is in it", Scene::Epochs, 24, &["leader_completeness"]),
    rule(
        "leader: serve before a quorum acknowledged NEWLEADER",
        Scene::Crashes,
        8,
        &["leader_completeness", "acked_is_durable"],
    ),
    rule("leader: the next epoch does not wait for what is in flight", Scene::Epochs, 500, &["assertions"]),
    rule("leader: who has more than it must wait", Scene::Heirs, 600, &["liveness"]),
    rule("let in who has seen more", Scene::Strays, 60, &["session_zxid"]),
    rule("lose proposals between NEWLEADER and UPTODATE", Scene::Crashes, 40, &["total_order", "acked_is_durable"]),
    rule("observer master: INFORM before the commit", Scene::ObserverMasters, 24, &["acked_is_durable"]),
    rule("observer master: a session is resumed unasked", Scene::ObserverMasters, 60, &["liveness"]),
    rule("observer master: a sync is answered here", Scene::ObserverMasters, 900, &["sync_sees_acknowledged"]),
    rule("observer master: an observer that is ahead is cut back", Scene::ObserverMasters, 300, &["committed_prefix"]),
    rule("observer master: what observers hear of sessions is lost", Scene::ObserverMasters, 40, &["ephemerals"]),
    rule("one ACK for a whole flush", Scene::Crashes, 80, &["liveness"]),
    rule("promise the next epoch before it is on disk", Scene::Epochs, 48, &["honest_epochs"]),
    rule("reconfiguration: activate before the commit", Scene::Members, 660, &["acked_is_durable"]),
    rule("reconfiguration: the old one is forgotten at once", Scene::Members, 400, &["acked_is_durable"]),
    rule("reconfiguration: the proposed one is not asked", Scene::Members, 40, &["acked_is_durable"]),
    rule("requests that had to wait overtake each other", Scene::Crashes, 80, &["session_fifo"]),
    rule("sessions end at half their time", Scene::Crashes, 40, &["ephemerals"]),
    rule("skip the SNAP", Scene::Crashes, 40, &["honest_epochs"]),
    rule("skip the TRUNC", Scene::Mixed, 200, &["primary_integrity", "acked_is_durable"]),
    rule("the answer overtakes the events before it", Scene::Crashes, 40, &["watch_before_data"]),
    rule("the longer log wins over the newer epoch", Scene::Moments, 600, &["liveness"]),
    rule("the window forgets the first transaction of an epoch", Scene::Links, 40, &["assertions"]),
    rule("those that may have lost something count", Scene::Damage, 40, &["leader_completeness"]),
    rule("versions are checked against the tree alone", Scene::Crashes, 40, &["linearizable_writes"]),
    rule("vote before the tail is durable", Scene::Crashes, 160, &["assertions"]),
    rule("vote without the log's tail in memory", Scene::Crashes, 40, &["assertions"]),
    rule("watches set again are not told what they missed", Scene::Crashes, 40, &["watch_before_data"]),
    rule("what learners hear of sessions is lost", Scene::Crashes, 40, &["ephemerals"]),
    rule("what was recovered is not flushed", Scene::Alone, 40, &["recovery"]),
];

/// Rules that no scene has shown the need of so far, in order: each is a blind spot of the simulator, or guarded twice. What
/// keeps them meanwhile are the tests beside them.
pub const UNNOTICED: &[&str] = &["a state that is given up takes the promise with it"];
