//! A member's connections to the other servers.
//!
//! ```text
//!  election port   notifications, one connection a pair of servers     election_port.rs
//!  quorum port     learners that call                                  learner_port.rs
//!                  the call to the master                              master_search.rs
//!                  packets and snapshots on these connections          links.rs, inbox.rs
//! ```
//!
//! All of it runs on the pipeline's executor: a proposal goes from the core to the sockets of all learners without a hop, and
//! everything that the turns of one round say leaves as one send a link. [`roll`]: where members are; [`dial`]: from a name to a socket; [`doors`]:
//! our own ports, with the accept threads of [`listener`]; [`peer_socket`]: a connection as two halves; [`member_files`]: what
//! is kept of a membership that changes; [`vigil`]: why nobody is served, in the log.
//! Java: `QuorumPeer` with its `QuorumCnxManager`, `Leader`, `Learner`. Spec: quorum-protocol 3, 5, 6.1.

pub mod dial;
pub mod doors;
pub mod election_port;
pub mod inbox;
pub mod learner_port;
pub mod links;
pub mod listener;
pub mod master_search;
pub mod member_files;
pub mod peer_socket;
pub mod roll;
pub mod vigil;

use std::rc::Rc;
use std::time::Duration;

use tracing::info;

use self::dial::Dials;
use self::doors::{BoundDoors, Doors};
use self::election_port::{ElectionPort, ElectionSettings};
use self::learner_port::LearnerPort;
use self::links::{LinkSettings, Links};
use self::listener::PeerListenError;
use self::master_search::{MasterPort, MasterSearch};
use self::member_files::MemberFiles;
use self::roll::Roll;
use crate::config::DynamicFiles;
use crate::core::zab::membership::Configurations;
use crate::core::zab::membership::files::MembersChange;
use crate::core::{LinkId, Output, ServerId};
use crate::shell::pipeline::PipelineHandle;
use crate::shell::reactor;

/// What the shell has to know about the other servers.
#[derive(Clone, Debug)]
pub struct EnsembleSettings {
    pub configs: Configurations,
    /// `reconfigEnabled`: where the membership is kept when it changes.
    pub dynamic_files: Option<DynamicFiles>,
    pub election: ElectionSettings,
    pub links: LinkSettings,
    /// `leaderConnectDelayDuringRetryMs`.
    pub connect_retry: Duration,
    /// `observerMasterPort`.
    pub observer_master_port: Option<u16>,
    /// `quorumListenOnAllIPs`.
    pub listen_everywhere: bool,
    /// `electionPortBindRetry`; 0 is without end.
    pub bind_retries: u32,
}

/// All ports, bound and not listening.
#[derive(Debug)]
pub struct BoundEnsemble(BoundDoors);

/// Where the pipeline says what is for other servers.
pub struct Ensemble {
    election: Rc<ElectionPort>,
    learners: Rc<LearnerPort>,
    observers: Rc<LearnerPort>,
    search: Rc<MasterSearch>,
    links: Rc<Links>,
    roll: Rc<Roll>,
    doors: Doors,
    /// None: the membership never changes.
    files: Option<MemberFiles>,
}

impl EnsembleSettings {
    fn roll(&self) -> Roll {
        Roll::new(self.election.server, self.configs.clone(), self.observer_master_port)
    }
}

impl BoundEnsemble {
    pub fn bind(settings: &EnsembleSettings) -> Result<BoundEnsemble, PeerListenError> {
        let EnsembleSettings { election, listen_everywhere, bind_retries, .. } = settings;
        BoundDoors::bind(&settings.roll(), election.server, *listen_everywhere, *bind_retries).map(BoundEnsemble)
    }
}

impl Ensemble {
    pub fn new(settings: &EnsembleSettings) -> Ensemble {
        let own = settings.election.server;
        let roll = Rc::new(settings.roll());
        let links = Rc::new(Links::new(settings.links.clone()));
        let dials = Rc::<Dials>::default();
        Ensemble {
            election: Rc::new(ElectionPort::new(settings.election.clone(), roll.clone(), dials.clone())),
            learners: Rc::new(LearnerPort::new(links.clone())),
            observers: Rc::new(LearnerPort::new(links.clone())),
            search: Rc::new(MasterSearch::new(links.clone(), roll.clone(), dials, settings.connect_retry)),
            links,
            doors: Doors::new(roll.clone(), own, settings.listen_everywhere),
            roll,
            files: settings.dynamic_files.clone().map(|files| MemberFiles::new(own, files)),
        }
    }

    /// Listens, and starts everything that runs in the background: tasks that hold the pipeline, to be cancelled in the end.
    pub fn begin(&self, bound: BoundEnsemble, pipeline: &PipelineHandle) -> std::io::Result<Vec<reactor::Task<()>>> {
        let [electors, learners, observers] = self.doors.open(bound.0)?;
        let mut tasks = self.doors.follow();
        tasks.extend([
            reactor::spawn(self.election.clone().run_lines(pipeline.clone())),
            reactor::spawn(self.election.clone().run_callers(electors)),
            reactor::spawn(self.learners.clone().run_callers(learners, pipeline.clone())),
            reactor::spawn(self.observers.clone().run_callers(observers, pipeline.clone())),
            reactor::spawn(self.search.clone().run(pipeline.clone())),
            reactor::spawn(self.links.clone().run_flush(pipeline.clone())),
        ]);
        Ok(tasks)
    }

    /// Does what is for other servers and gives back the rest.
    pub fn carry_out(&self, output: Output) -> Option<Output> {
        match output {
            Output::Notify { to, notification } => self.election.notify(to, &notification),
            Output::AcceptLearners(accepting) => self.learners.accept(accepting),
            Output::AcceptObservers(accepting) => self.observers.accept(accepting),
            Output::ConnectToMaster { master, limit_ms } => self.search.begin(master, MasterPort::Quorum, limit_ms),
            Output::ConnectToObserverMaster { master, limit_ms } => {
                self.search.begin(master, MasterPort::Observers, limit_ms);
            }
            Output::ForgetMaster => self.search.end(),
            Output::LinkSend { link, message } => self.links.send(link, message),
            Output::LinkClose { link, why } => self.links.close(link, &why),
            Output::ConfigSeen(proposed) => {
                self.roll.seen(&proposed);
                self.note_change(MembersChange::Seen(proposed));
            }
            Output::ConfigActivated(membership) => {
                info!(
                    "configuration {:x} is in force: {}",
                    membership.version,
                    membership.dynamic_file().replace('\n', ", ")
                );
                self.roll.activated(&membership);
                self.doors.follow_roll();
                self.note_change(MembersChange::Activated(membership));
            }
            Output::ConfigForgotten => {
                self.roll.forgotten();
                self.note_change(MembersChange::Forgotten);
            }
            other => return Some(other),
        }
        None
    }

    fn note_change(&self, change: MembersChange) {
        if let Some(files) = &self.files {
            files.take(change);
        }
    }

    /// Whether the files of the membership are not what they should be.
    pub fn files_are_stale(&self) -> bool {
        self.files.as_ref().is_some_and(MemberFiles::are_stale)
    }

    /// What was said to learners and master leaves. Tells what the kernel took.
    pub fn flush(&self, sent: &mut Vec<(LinkId, usize)>) {
        self.links.flush(sent);
    }

    pub fn tick(&self) {
        self.learners.tick();
        self.observers.tick();
    }

    /// The server stops: nobody is let in any more.
    pub fn close_doors(&self) {
        self.doors.close();
    }

    /// What the network says about this server; None: nothing is wrong, as far as is known.
    pub fn trouble(&self, server: ServerId) -> Option<String> {
        self.search.trouble(server).or_else(|| self.election.trouble(server))
    }

    /// The process ends.
    pub fn hang_up(&self) {
        self.links.hang_up_all();
    }
}
