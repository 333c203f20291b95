//! Java's elector, word for word: `FastLeaderElection.lookForLeader` and its `WorkerReceiver` (3.9) with time as an input. What
//! ours has to get along with. Nothing here is shared with ours but the notification.

use std::collections::{HashMap, VecDeque};

use ringkeeper::core::types::ServerId;
use ringkeeper::core::zab::membership::{Configurations, QuorumKind};
use ringkeeper::wire::election::{Notification, PeerState};

const MIN_NOTIFICATION_INTERVAL_US: u64 = 200_000;
const MAX_NOTIFICATION_INTERVAL_US: u64 = 60_000_000;
const FINALIZE_WAIT_US: u64 = 200_000;

#[derive(Clone, Copy)]
struct Vote {
    id: i64,
    zxid: i64,
    election_epoch: i64,
    peer_epoch: i64,
    version: i32,
    state: PeerState,
}

impl Vote {
    fn equals(&self, other: &Vote) -> bool {
        if self.state == PeerState::Looking || other.state == PeerState::Looking {
            self.id == other.id
                && self.zxid == other.zxid
                && self.election_epoch == other.election_epoch
                && self.peer_epoch == other.peer_epoch
        } else if (self.version > 0) ^ (other.version > 0) {
            self.id == other.id
        } else {
            self.id == other.id && self.peer_epoch == other.peer_epoch
        }
    }
}

pub struct JavaElector {
    my_id: i64,
    last_logged_zxid: i64,
    current_epoch: i64,
    pub state: PeerState,
    logicalclock: i64,
    proposed: (i64, i64, i64),
    current_vote: Vote,
    recvset: HashMap<i64, Vote>,
    outofelection: HashMap<i64, Vote>,
    recvqueue: VecDeque<(i64, Notification)>,
    not_timeout_us: u64,
    deadline_us: u64,
    finalizing: bool,
}

type Sent = Vec<(i64, Notification)>;

impl JavaElector {
    pub fn new(my_id: i64, last_logged_zxid: i64, current_epoch: i64) -> JavaElector {
        let current_vote = Vote {
            id: my_id,
            zxid: last_logged_zxid,
            election_epoch: 0,
            peer_epoch: current_epoch,
            version: 0,
            state: PeerState::Looking,
        };
        JavaElector {
            my_id,
            last_logged_zxid,
            current_epoch,
            state: PeerState::Looking,
            logicalclock: 0,
            proposed: (my_id, last_logged_zxid, current_epoch),
            current_vote,
            recvset: HashMap::new(),
            outofelection: HashMap::new(),
            recvqueue: VecDeque::new(),
            not_timeout_us: 0,
            deadline_us: u64::MAX,
            finalizing: false,
        }
    }

    pub fn look_for_leader(
        &mut self,
        now_us: u64,
        last_logged_zxid: i64,
        current_epoch: i64,
        qv: &Configurations,
        sent: &mut Sent,
    ) {
        (self.last_logged_zxid, self.current_epoch) = (last_logged_zxid, current_epoch);
        self.state = PeerState::Looking;
        self.recvset.clear();
        self.outofelection.clear();
        self.finalizing = false;
        self.not_timeout_us = MIN_NOTIFICATION_INTERVAL_US;
        self.logicalclock += 1;
        self.proposed = self.initial(qv);
        self.send_notifications(qv, sent);
        self.poll(now_us, qv, sent);
    }

    /// `WorkerReceiver.run`, then what `lookForLeader` makes of it.
    pub fn receive(&mut self, now_us: u64, from: i64, n: &Notification, qv: &Configurations, sent: &mut Sent) {
        self.receive_only(from, n, qv, sent);
        self.poll(now_us, qv, sent);
    }

    pub fn wake_us(&self) -> Option<u64> {
        (self.state == PeerState::Looking && self.deadline_us != u64::MAX).then_some(self.deadline_us)
    }

    pub fn tick(&mut self, now_us: u64, qv: &Configurations, sent: &mut Sent) {
        if self.wake_us().is_none_or(|at_us| now_us < at_us) {
            return;
        }
        if self.finalizing {
            let (id, zxid, peer_epoch) = self.proposed;
            let election_epoch = self.logicalclock;
            return self.end(Vote { id, zxid, election_epoch, peer_epoch, version: 0, state: PeerState::Looking }, qv);
        }
        self.send_notifications(qv, sent);
        self.not_timeout_us = (self.not_timeout_us << 1).min(MAX_NOTIFICATION_INTERVAL_US);
        self.deadline_us = now_us + self.not_timeout_us;
        self.poll(now_us, qv, sent);
    }

    pub fn update_election_vote(&mut self, epoch: i64) {
        self.current_vote.peer_epoch = epoch;
    }

    /// Leader, zxid, round and epoch.
    pub fn current_vote(&self) -> (i64, i64, i64, i64) {
        let vote = &self.current_vote;
        (vote.id, vote.zxid, vote.election_epoch, vote.peer_epoch)
    }

    fn initial(&self, qv: &Configurations) -> (i64, i64, i64) {
        match qv.committed.is_voter(ServerId(self.my_id)) {
            true => (self.my_id, self.last_logged_zxid, self.current_epoch),
            false => (i64::MIN, i64::MIN, i64::MIN),
        }
    }

    fn send_notifications(&mut self, qv: &Configurations, sent: &mut Sent) {
        let (leader, zxid, peer_epoch) = self.proposed;
        let notification = message(PeerState::Looking, leader, zxid, self.logicalclock, peer_epoch);
        for voter in qv.committed.voters() {
            if voter.0 == self.my_id {
                self.receive_only(self.my_id, &notification, qv, sent);
            } else {
                sent.push((voter.0, notification.clone()));
            }
        }
    }

    fn receive_only(&mut self, from: i64, n: &Notification, qv: &Configurations, sent: &mut Sent) {
        let current = self.current_vote;
        if !qv.is_voter(ServerId(from)) {
            let answer = message(self.state, current.id, current.zxid, self.logicalclock, current.peer_epoch);
            sent.push((from, answer));
        } else if self.state == PeerState::Looking {
            self.recvqueue.push_back((from, n.clone()));
            if n.state == PeerState::Looking && n.election_epoch < self.logicalclock {
                let (leader, zxid, peer_epoch) = self.proposed;
                sent.push((from, message(self.state, leader, zxid, self.logicalclock, peer_epoch)));
            }
        } else if n.state == PeerState::Looking {
            let answer = message(self.state, current.id, current.zxid, current.election_epoch, current.peer_epoch);
            sent.push((from, answer));
        }
    }

    /// The loop of `lookForLeader`, as long as its queue yields something.
    fn poll(&mut self, now_us: u64, qv: &Configurations, sent: &mut Sent) {
        while self.state == PeerState::Looking {
            let Some((sid, n)) = self.recvqueue.pop_front() else { break };
            if self.finalizing {
                let (leader, zxid, epoch) = self.proposed;
                if total_order(qv, (n.leader, n.zxid, n.peer_epoch), (leader, zxid, epoch)) {
                    self.recvqueue.push_back((sid, n));
                    self.finalizing = false;
                    self.deadline_us = now_us + self.not_timeout_us;
                } else {
                    self.deadline_us = now_us + FINALIZE_WAIT_US;
                }
                continue;
            }
            self.deadline_us = now_us + self.not_timeout_us;
            if !qv.is_voter(ServerId(sid)) || !qv.is_voter(ServerId(n.leader)) {
                continue;
            }
            match n.state {
                PeerState::Looking => self.on_looking(now_us, sid, &n, qv, sent),
                PeerState::Following | PeerState::Leading => self.on_settled(sid, &n, qv),
                PeerState::Observing => {}
            }
        }
        if self.state == PeerState::Looking && self.deadline_us == u64::MAX {
            self.deadline_us = now_us + self.not_timeout_us;
        }
    }

    fn on_looking(&mut self, now_us: u64, sid: i64, n: &Notification, qv: &Configurations, sent: &mut Sent) {
        let init = self.initial(qv);
        if init.1 == -1 || n.zxid == -1 {
            return;
        }
        let theirs = (n.leader, n.zxid, n.peer_epoch);
        if n.election_epoch > self.logicalclock {
            self.logicalclock = n.election_epoch;
            self.recvset.clear();
            self.proposed = if total_order(qv, theirs, init) { theirs } else { init };
            self.send_notifications(qv, sent);
        } else if n.election_epoch < self.logicalclock {
            return;
        } else if total_order(qv, theirs, self.proposed) {
            self.proposed = theirs;
            self.send_notifications(qv, sent);
        }
        self.recvset.insert(sid, vote(n, 0, PeerState::Looking));
        let (id, zxid, peer_epoch) = self.proposed;
        let election_epoch = self.logicalclock;
        let ours = Vote { id, zxid, election_epoch, peer_epoch, version: 0, state: PeerState::Looking };
        if has_all_quorums(&self.recvset, &ours, qv) {
            self.finalizing = true;
            self.deadline_us = now_us + FINALIZE_WAIT_US;
        }
    }

    fn on_settled(&mut self, sid: i64, n: &Notification, qv: &Configurations) {
        let theirs = vote(n, n.version, n.state);
        if n.election_epoch == self.logicalclock {
            self.recvset.insert(sid, vote(n, 0, n.state));
            if has_all_quorums(&self.recvset, &theirs, qv) && self.check_leader(&self.recvset, n) {
                return self.end(theirs, qv);
            }
        }
        self.outofelection.insert(sid, theirs);
        if has_all_quorums(&self.outofelection, &theirs, qv) && self.check_leader(&self.outofelection, n) {
            self.logicalclock = n.election_epoch;
            self.end(theirs, qv);
        }
    }

    fn check_leader(&self, votes: &HashMap<i64, Vote>, n: &Notification) -> bool {
        if n.leader == self.my_id {
            return self.logicalclock == n.election_epoch;
        }
        votes.get(&n.leader).is_some_and(|vote| vote.state == PeerState::Leading)
    }

    fn end(&mut self, vote: Vote, qv: &Configurations) {
        self.state = match (vote.id == self.my_id, qv.committed.is_voter(ServerId(self.my_id))) {
            (true, _) => PeerState::Leading,
            (false, true) => PeerState::Following,
            (false, false) => PeerState::Observing,
        };
        self.recvqueue.clear();
        self.finalizing = false;
        self.deadline_us = u64::MAX;
        self.current_vote = Vote { version: 0, state: PeerState::Looking, ..vote };
    }
}

fn vote(n: &Notification, version: i32, state: PeerState) -> Vote {
    Vote { id: n.leader, zxid: n.zxid, election_epoch: n.election_epoch, peer_epoch: n.peer_epoch, version, state }
}

fn total_order(qv: &Configurations, new: (i64, i64, i64), cur: (i64, i64, i64)) -> bool {
    if let QuorumKind::Hierarchical { weights, .. } = &qv.committed.kind
        && weights.get(&ServerId(new.0)).copied().unwrap_or(1) == 0
    {
        return false;
    }
    let ((new_id, new_zxid, new_epoch), (cur_id, cur_zxid, cur_epoch)) = (new, cur);
    (new_epoch > cur_epoch)
        || ((new_epoch == cur_epoch) && ((new_zxid > cur_zxid) || ((new_zxid == cur_zxid) && (new_id > cur_id))))
}

fn has_all_quorums(votes: &HashMap<i64, Vote>, vote: &Vote, qv: &Configurations) -> bool {
    qv.has_all_quorums(|id| votes.get(&id.0).is_some_and(|cast| cast.equals(vote)))
}

fn message(state: PeerState, leader: i64, zxid: i64, election_epoch: i64, peer_epoch: i64) -> Notification {
    let version = Notification::VERSION;
    Notification { state, leader, zxid, election_epoch, peer_epoch, version, config: bytes::Bytes::new() }
}
