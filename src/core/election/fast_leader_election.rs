//! Rounds, notifications, back-off, the decision.
//!
//!   idle --start--> searching --a quorum's vote stood--> settled --role_over--> idle
//!
//! Everybody tells everybody whom he votes for, and changes his mind for whoever has the more recent history. Votes of one
//! round are counted; who is behind in rounds catches up. A vote that a quorum shares and that nothing better unsettles for
//! the length of the finalize wait is the decision. Who comes late hears from settled servers instead, and joins the leader
//! that a quorum of them follows and that says itself that it leads.
//!
//! Notifications are whole states and may be lost, repeated and overtaken by newer ones: whatever was not heard is said again,
//! less and less often.
//!
//! Java: `FastLeaderElection.lookForLeader`, `WorkerReceiver`. We differ in D-050 to D-053, D-077 and D-081, see
//! `docs/COMPATIBILITY.md`. The oracle of two servers (`oraclePath`) is refused by the configuration. Not here, on purpose:
//! connections; what a leader makes of an elector that is looking again (`zab/leader/discovery.rs`).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ringkeeper_storage::probe::{broken, mark};

use super::vote::{Cast, LOST_ZXID, Vote, may_lead};
use crate::core::settings::Ensemble;
use crate::core::types::{Now, Output, ServerId, Standing, Zxid};
use crate::core::zab::membership::{Configurations, MemberRole};
use crate::wire::election::{Notification, PeerState};

/// What this server can put forward when an election starts.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The newest transaction that a crash would recover.
    pub last_logged: Zxid,
    pub current_epoch: u32,
    pub standing: Standing,
}

/// A voter of the proposed configuration that has more than whoever was elected: it has no vote for itself, others have to put
/// it forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nominee {
    pub current_epoch: u32,
    pub last: Zxid,
    pub id: ServerId,
}

/// An election ended: whom to follow, or be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub vote: Vote,
}

#[derive(Debug)]
pub struct Election {
    id: ServerId,
    timing: Timing,
    candidate: Candidate,
    /// Whom this server puts forward in its own place, until the next decision.
    nominee: Option<Nominee>,
    /// Somebody has data. For a server that has none this changes everything: see [`Election::counts`].
    heard_of_data: bool,
    /// What this server is doing, as others are told.
    state: PeerState,
    /// Rounds counted so far. Java: `logicalclock`.
    round: i64,
    /// What ended the last election, or this server's own vote before the first.
    current_vote: Vote,
    /// Who voted for this server when it was elected. Java: `leadingVoteSet`.
    electors: Vec<ServerId>,
    /// The election under way.
    search: Option<Search>,
    decision: Option<Decision>,
    newer_config: Option<Bytes>,
}

#[derive(Debug)]
struct Timing {
    resend_min_us: u64,
    resend_max_us: u64,
    finalize_us: u64,
}

/// One election of this server, which may take several rounds.
#[derive(Debug)]
struct Search {
    /// This server's vote for itself.
    own: Vote,
    proposal: Vote,
    /// Votes of this round, our own included. Java: `recvset`.
    votes: BTreeMap<ServerId, Cast>,
    /// Votes of settled servers, of any round. Java: `outofelection`.
    settled: BTreeMap<ServerId, Cast>,
    /// Doubles with every repetition, and stays so until the election ends.
    resend_interval_us: u64,
    resend_at_us: u64,
    /// A quorum shares our proposal; nothing better may come until then.
    finalize_at_us: Option<u64>,
    /// When each elector was last told that it is behind.
    reminded_us: BTreeMap<ServerId, u64>,
    /// Voters that were heard, also of what counts for nothing; and who votes or is voted for and is in no configuration
    /// that is known here. For operators.
    heard: BTreeSet<ServerId>,
}

/// Servers in no configuration that are remembered. They are as many as somebody likes.
const STRANGERS_MAX: usize = 8;

impl Election {
    /// Before the first election: the vote is for oneself, the state LOOKING.
    pub fn new(id: ServerId, settings: &Ensemble, candidate: Candidate, configs: &Configurations) -> Election {
        let us = |ms: u32| u64::from(ms) * 1000;
        let mut election = Election {
            id,
            timing: Timing {
                resend_min_us: us(settings.notification_min_ms).max(1),
                resend_max_us: us(settings.notification_max_ms),
                finalize_us: us(settings.finalize_wait_ms),
            },
            candidate,
            nominee: None,
            heard_of_data: false,
            state: PeerState::Looking,
            round: 0,
            current_vote: Vote::of_nobody(0),
            electors: Vec::new(),
            search: None,
            decision: None,
            newer_config: None,
        };
        election.current_vote = election.own_vote(configs);
        election
    }

    /// This server was elected, and cannot lead: the next election is about somebody else. Once, since it may have gone by then.
    pub fn nominate(&mut self, nominee: Nominee) {
        self.nominee = Some(nominee);
    }

    /// LOOKING begins (again): a new round.
    pub fn start(&mut self, now: Now, candidate: Candidate, configs: &Configurations, out: &mut Vec<Output>) {
        self.role_over();
        self.candidate = candidate;
        self.round = self.round.saturating_add(1);
        let own = self.own_vote(configs);
        let mut search = Search {
            own,
            proposal: own,
            votes: BTreeMap::new(),
            settled: BTreeMap::new(),
            resend_interval_us: self.timing.resend_min_us,
            resend_at_us: now.mono_us,
            finalize_at_us: None,
            reminded_us: BTreeMap::new(),
            heard: BTreeSet::new(),
        };
        self.propose(&mut search, now, own, configs, out);
        self.count(&mut search, now, configs);
        self.search = Some(search);
    }

    /// This server leads or follows no longer, but cannot yet say what it has: nobody must hear that all is well here.
    pub fn role_over(&mut self) {
        self.state = PeerState::Looking;
        self.electors.clear();
        self.search = None;
        self.decision = None;
        self.newer_config = None;
    }

    /// In every state.
    pub fn on_notification(
        &mut self,
        now: Now,
        from: ServerId,
        notification: &Notification,
        configs: &Configurations,
        out: &mut Vec<Output>,
    ) {
        if from == self.id {
            return; // our own vote is counted when it is cast, and nobody else may cast it
        }
        if self.state == PeerState::Looking && notification.config_version() > Some(configs.committed.version) {
            self.newer_config = Some(notification.config.clone());
        }
        let cast = Cast::from(notification);
        self.note_data(now, from, &cast.vote, configs, out);
        self.note_names(from, &cast.vote, configs);
        if !configs.is_voter(from) {
            return self.answer_stranger(from, cast.state, configs, out);
        }
        let Some(mut search) = self.search.take() else {
            if self.state != PeerState::Looking && cast.state == PeerState::Looking {
                self.tell(from, self.current_vote, configs, out);
            }
            return;
        };
        if cast.state == PeerState::Looking {
            self.remind(&mut search, now, from, &cast.vote, configs, out);
        }
        let decision = match cast.state {
            PeerState::Looking if cast.vote.is_of_nobody() => {
                self.on_next_voter(&mut search, now, &cast.vote, configs, out);
                None
            }
            _ if !configs.is_voter(cast.vote.leader) => None,
            PeerState::Looking => {
                self.on_looking(&mut search, now, from, cast, configs, out);
                None
            }
            PeerState::Following | PeerState::Leading => self.on_settled(&mut search, from, cast, configs),
            PeerState::Observing => None,
        };
        match decision {
            Some(vote) => self.decide(vote, configs),
            None => self.search = Some(search),
        }
    }

    pub fn on_tick(&mut self, now: Now, configs: &Configurations, out: &mut Vec<Output>) {
        let due = |at_us: Option<u64>| at_us.is_some_and(|at_us| at_us <= now.mono_us);
        let Some(mut search) = self.search.take() else { return };
        if due(search.finalize_at_us) {
            let ours = Cast::looking(search.proposal);
            self.electors.extend(search.votes.iter().filter(|(_, cast)| cast.agrees(&ours)).map(|(id, _)| *id));
            return self.decide(search.proposal, configs);
        }
        if due(Some(search.resend_at_us)) {
            search.resend_interval_us = (search.resend_interval_us * 2).min(self.timing.resend_max_us);
            self.broadcast(&mut search, now, configs, out);
        }
        self.search = Some(search);
    }

    /// When `on_tick` is due at the latest.
    pub fn wake_us(&self) -> Option<u64> {
        let search = self.search.as_ref();
        let resend_at_us = search.map(|search| search.resend_at_us);
        let finalize_at_us = search.and_then(|search| search.finalize_at_us);
        resend_at_us.into_iter().chain(finalize_at_us).min()
    }

    /// How the election ended, once. The state is then LEADING, FOLLOWING or OBSERVING already.
    pub fn take_decision(&mut self) -> Option<Decision> {
        self.decision.take()
    }

    /// The text of a configuration that others have in force and that is newer than ours, once. While we are looking: then
    /// there is no leader to tell us. Where reconfiguration is enabled it is adopted and the search starts anew with it
    /// (spec: 4.3, 16.5); otherwise it means nothing.
    pub fn take_newer_config(&mut self) -> Option<Bytes> {
        self.newer_config.take()
    }

    /// The role begins without an election: a leader was designated (hand-over, reconfiguration).
    pub fn designated(&mut self, leader: ServerId, zxid: Zxid, state: PeerState) {
        self.role_over();
        self.nominee = None;
        self.current_vote = Vote { leader, zxid: zxid.0 as i64, ..self.current_vote };
        self.state = state;
    }

    /// Whether this server leads because of that one's vote, among others.
    pub fn is_elected_by(&self, id: ServerId) -> bool {
        self.state == PeerState::Leading && self.electors.contains(&id)
    }

    /// The leader of this epoch is established, and this server has everything it has: joiners are told so. Java:
    /// `updateElectionVote`.
    pub fn epoch_established(&mut self, epoch: u32) {
        self.current_vote.peer_epoch = epoch.into();
        self.candidate.standing = Standing::Whole;
    }

    /// Whether what this server has counts for anything: its vote, and its word to a new leader about its last zxid (-1 if
    /// not). A server without data counts as long as nobody has any: an ensemble has to begin somehow. If others have data,
    /// it may have had it too, and must not help a server to lead that never got what was acknowledged here.
    pub fn counts(&self) -> bool {
        match self.candidate.standing {
            Standing::Whole => true,
            Standing::Fresh => !self.heard_of_data || broken("an empty disk votes like any other"),
            Standing::Lost => broken("those that may have lost something count"),
        }
    }

    /// Whether this voter has said anything in the election under way.
    pub fn has_heard_of(&self, voter: ServerId) -> bool {
        self.search.as_ref().is_some_and(|search| search.heard.contains(&voter))
    }

    /// Who votes or is voted for in the election under way, and is in no configuration that is known here.
    pub fn strangers(&self, configs: &Configurations) -> impl Iterator<Item = ServerId> {
        let members = configs.members();
        let heard = self.search.iter().flat_map(|search| search.heard.iter().copied());
        heard.filter(move |id| !members.contains_key(id))
    }

    pub fn current_vote(&self) -> Vote {
        self.current_vote
    }

    pub fn state(&self) -> PeerState {
        self.state
    }

    /// This server's vote for itself, or for whom it puts forward.
    fn own_vote(&self, configs: &Configurations) -> Vote {
        if !configs.committed.is_voter(self.id) {
            return Vote::of_nobody(self.round);
        }
        let is_eligible = |nominee: &Nominee| configs.is_voter(nominee.id) && may_lead(nominee.id, configs);
        if let Some(nominee) = self.nominee.filter(is_eligible).filter(|_| self.counts()) {
            let Nominee { current_epoch, last, id } = nominee;
            let (zxid, election_epoch, peer_epoch) = (last.0 as i64, self.round, current_epoch.into());
            return Vote { leader: id, zxid, election_epoch, peer_epoch };
        }
        Vote {
            leader: self.id,
            zxid: if self.counts() { self.candidate.last_logged.0 as i64 } else { LOST_ZXID },
            election_epoch: self.round,
            peer_epoch: self.candidate.current_epoch.into(),
        }
    }

    /// Whether this server's vote is one of those that are counted.
    fn votes(&self, configs: &Configurations) -> bool {
        configs.is_voter(self.id) && self.counts()
    }

    /// A server without data learns whether it is new among new ones, or has a past it does not know.
    fn note_data(&mut self, now: Now, from: ServerId, vote: &Vote, configs: &Configurations, out: &mut Vec<Output>) {
        // Who has lost something had something.
        let data = vote.zxid > 0 || vote.peer_epoch > 0 || vote.zxid == LOST_ZXID;
        if self.heard_of_data || !data {
            return;
        }
        let voted = self.votes(configs);
        self.heard_of_data = true;
        if !voted || self.counts() {
            return;
        }
        mark("election: an empty server heard of data");
        let evidence = match vote.zxid {
            LOST_ZXID => format!("server {} says that there must be some", from.0),
            zxid => format!("server {} knows of some (zxid {zxid:#x}, epoch {})", from.0, vote.peer_epoch),
        };
        out.push(Output::Told(format!(
            "there is no data on this server's disk, but {evidence}: this server does not vote until a leader has given it \
             everything. If the other servers cannot elect one without it, bring back those that have the newest data"
        )));
        if let Some(mut search) = self.search.take() {
            // Whoever counted on us is told. Nobody's vote counts here any more either.
            search.own = self.own_vote(configs);
            search.votes.clear();
            let own = search.own;
            self.propose(&mut search, now, own, configs, out);
            self.search = Some(search);
        }
    }

    /// For `has_heard_of` and `strangers`. Voters only: observers need no server line.
    fn note_names(&mut self, from: ServerId, vote: &Vote, configs: &Configurations) {
        let Some(search) = &mut self.search else { return };
        let members = configs.members();
        let strangers = search.heard.iter().filter(|id| !members.contains_key(id)).count();
        let names = [from, vote.leader].into_iter().filter(|id| !members.contains_key(id) && !vote.is_of_nobody());
        search.heard.extend(names.take(STRANGERS_MAX.saturating_sub(strangers)));
        search.heard.extend(configs.is_voter(from).then_some(from));
    }

    /// Observers, and servers that are not in our configuration, hear nothing but answers. Only those that are looking need
    /// one: two servers that take each other for strangers would answer each other for ever.
    fn answer_stranger(&self, to: ServerId, state: PeerState, configs: &Configurations, out: &mut Vec<Output>) {
        if state != PeerState::Looking {
            return;
        }
        mark("election: a server without a vote was answered");
        let vote = self.search.as_ref().map_or(self.current_vote, |search| search.proposal);
        self.tell(to, Vote { election_epoch: self.round, ..vote }, configs, out);
    }

    /// Tells an elector that is behind ours in rounds, or in votes, so that it need not wait for our next repetition. Once in
    /// a while only, for the same reason.
    fn remind(
        &self,
        search: &mut Search,
        now: Now,
        from: ServerId,
        vote: &Vote,
        configs: &Configurations,
        out: &mut Vec<Output>,
    ) {
        let behind = vote.election_epoch < self.round;
        let worse = vote.election_epoch == self.round
            && vote.zxid != LOST_ZXID
            && self.counts()
            && wins(&search.proposal, vote, configs);
        let recently =
            search.reminded_us.get(&from).is_some_and(|at_us| now.mono_us < at_us + self.timing.resend_min_us);
        if (behind || worse) && !recently && configs.is_voter(self.id) {
            search.reminded_us.insert(from, now.mono_us);
            self.tell(from, search.proposal, configs, out);
        }
    }

    fn on_looking(
        &mut self,
        search: &mut Search,
        now: Now,
        from: ServerId,
        cast: Cast,
        configs: &Configurations,
        out: &mut Vec<Output>,
    ) {
        if configs.is_voter(self.id) && !self.counts() {
            // Those who may are electing: not long, and one can ask whom. News only: a server that talks all the time keeps
            // Java's electors from ever repeating themselves.
            let news = search.votes.insert(from, cast).is_none_or(|before| before.vote != cast.vote);
            if news && cast.vote.zxid != LOST_ZXID {
                search.resend_interval_us = self.timing.resend_min_us;
                search.resend_at_us = search.resend_at_us.min(now.mono_us + 2 * self.timing.finalize_us);
            }
            return;
        }
        if cast.vote.zxid == LOST_ZXID {
            // What it said before it knew better is taken back.
            if search.votes.remove(&from).is_some() {
                mark("election: a vote was taken back");
            }
            return self.count(search, now, configs);
        }
        let better = wins(&cast.vote, &search.proposal, configs);
        if search.finalize_at_us.is_some() {
            if !better {
                return; // what a quorum shares is unsettled by something better only
            }
            mark("election: a better vote came during the finalize wait");
            search.finalize_at_us = None;
        }
        match cast.vote.election_epoch.cmp(&self.round) {
            // It has been told the round. If a quorum is waiting, its vote is worth waiting for anew.
            Ordering::Less => return self.count(search, now, configs),
            Ordering::Equal if better => self.propose(search, now, cast.vote, configs, out),
            Ordering::Equal => {}
            Ordering::Greater => {
                mark("election: caught up with a later round");
                self.round = cast.vote.election_epoch;
                search.own.election_epoch = self.round;
                search.votes.clear();
                let proposal = if wins(&cast.vote, &search.own, configs) { cast.vote } else { search.own };
                self.propose(search, now, proposal, configs, out);
            }
        }
        search.votes.insert(from, cast);
        self.count(search, now, configs);
    }

    /// A voter of the proposed configuration that is none in the one in force has nobody to vote for but the others' candidate;
    /// and it counts no votes of earlier rounds than its own. In Java nobody ever gets its vote who is behind it in rounds.
    fn on_next_voter(
        &mut self,
        search: &mut Search,
        now: Now,
        vote: &Vote,
        configs: &Configurations,
        out: &mut Vec<Output>,
    ) {
        if vote.election_epoch > self.round && search.finalize_at_us.is_none() && self.votes(configs) {
            mark("election: caught up with a voter to be");
            self.round = vote.election_epoch;
            search.own.election_epoch = self.round;
            search.votes.clear();
            let own = search.own;
            self.propose(search, now, own, configs, out);
        }
    }

    /// The vote to adopt, if a leader is established.
    fn on_settled(
        &mut self,
        search: &mut Search,
        from: ServerId,
        cast: Cast,
        configs: &Configurations,
    ) -> Option<Vote> {
        if cast.vote.election_epoch == self.round {
            // Java keeps these without their format, so that in the same round nothing but the leader is compared.
            search.votes.insert(from, Cast { version: 0, ..cast });
            if self.is_established(&search.own, &search.votes, &cast, configs) {
                mark("election: joined the leader of this round");
                return Some(cast.vote);
            }
        }
        search.settled.insert(from, cast);
        if self.is_established(&search.own, &search.settled, &cast, configs) {
            mark("election: joined the leader of another round");
            self.round = cast.vote.election_epoch;
            return Some(cast.vote);
        }
        None
    }

    /// Whether a quorum of these follows the leader of this vote, and the leader agrees. Java: `checkLeader`. Of the configuration
    /// in force, to join somebody else: a proposed one that is known here alone never gets a quorum, and only from that leader
    /// can this server hear what became of it. Who leads without those that had to be asked is found out when it wants an epoch.
    fn is_established(
        &self,
        own: &Vote,
        votes: &BTreeMap<ServerId, Cast>,
        cast: &Cast,
        configs: &Configurations,
    ) -> bool {
        let leader = cast.vote.leader;
        let agrees = |id: ServerId| votes.get(&id).is_some_and(|vote| vote.agrees(cast));
        if leader == self.id {
            // Others follow us already: only in our round, and only with what they elected us for.
            cast.vote.election_epoch == self.round
                && own.leader == self.id
                && self.counts()
                && (own.peer_epoch, own.zxid) >= (cast.vote.peer_epoch, cast.vote.zxid)
                && configs.has_all_quorums(agrees)
        } else {
            // Without its own word a crashed leader would be elected again and again.
            votes.get(&leader).is_some_and(|cast| cast.state == PeerState::Leading)
                && configs.committed.has_quorum(agrees)
        }
    }

    /// Whether a quorum shares our proposal: then the wait begins, or goes on.
    fn count(&self, search: &mut Search, now: Now, configs: &Configurations) {
        let ours = Cast::looking(search.proposal);
        let shared = configs.has_all_quorums(|id| search.votes.get(&id).is_some_and(|cast| cast.agrees(&ours)));
        search.finalize_at_us = match (shared, search.finalize_at_us) {
            (false, _) => None,
            (true, Some(at_us)) => Some(at_us),
            (true, None) => Some(now.mono_us + self.timing.finalize_us),
        };
    }

    fn propose(&self, search: &mut Search, now: Now, proposal: Vote, configs: &Configurations, out: &mut Vec<Output>) {
        search.proposal = proposal;
        search.finalize_at_us = None;
        if self.votes(configs) {
            search.votes.insert(self.id, Cast::looking(proposal));
        }
        self.broadcast(search, now, configs, out);
    }

    /// Tells every voter what we vote for. What was lost is said again at the next repetition.
    fn broadcast(&self, search: &mut Search, now: Now, configs: &Configurations, out: &mut Vec<Output>) {
        search.resend_at_us = now.mono_us + search.resend_interval_us;
        let voters: BTreeSet<ServerId> = configs.committed.voters().chain(configs.last_seen.voters()).collect();
        let notification = self.notification(search.proposal, configs);
        for to in voters.into_iter().filter(|voter| *voter != self.id) {
            out.push(Output::Notify { to, notification: notification.clone() });
        }
    }

    fn tell(&self, to: ServerId, vote: Vote, configs: &Configurations, out: &mut Vec<Output>) {
        out.push(Output::Notify { to, notification: self.notification(vote, configs) });
    }

    fn notification(&self, vote: Vote, configs: &Configurations) -> Notification {
        Notification {
            state: self.state,
            leader: vote.leader.0,
            zxid: vote.zxid,
            election_epoch: vote.election_epoch,
            peer_epoch: vote.peer_epoch,
            version: Notification::VERSION,
            config: configs.committed.to_text().into(),
        }
    }

    fn decide(&mut self, vote: Vote, configs: &Configurations) {
        let observes =
            configs.committed.members.get(&self.id).is_some_and(|member| member.role == MemberRole::Observer);
        self.state = match (vote.leader == self.id, observes) {
            (true, _) => PeerState::Leading,
            (false, true) => PeerState::Observing,
            // Also a server that is not listed: it follows, and does not count.
            (false, false) => PeerState::Following,
        };
        assert!(self.state != PeerState::Leading || self.counts(), "a server that may have lost data leads nobody");
        self.nominee = None;
        self.current_vote = vote;
        self.decision = Some(Decision { vote });
    }
}

/// Whether a vote takes the place of another. Java: `totalOrderPredicate`.
fn wins(vote: &Vote, over: &Vote, configs: &Configurations) -> bool {
    may_lead(vote.leader, configs) && vote.beats(over)
}
