//! A member's connections to the other servers.
//!
//! ```text
//!  election port   notifications, one connection a pair of servers     election_port.rs
//!  quorum port     learners that call                                  learner_port.rs
//!                  the call to the master                              master_search.rs
//!                  packets and snapshots on these connections          links.rs
//! ```
//!
//! All of it runs on the pipeline's executor: a proposal goes from the core to the sockets of all learners without a hop, and
//! everything a turn says leaves as one send a link. [`roll`]: where members are; [`dial`]: from a name to a socket;
//! [`listener`]: the accept threads; [`peer_socket`]: a connection as two halves; [`vigil`]: why nobody is served, in the log.
//! Java: `QuorumPeer` with its `QuorumCnxManager`, `Leader`, `Learner`. Spec: quorum-protocol 3, 5, 6.1.

pub mod dial;
pub mod election_port;
pub mod learner_port;
pub mod links;
pub mod listener;
pub mod master_search;
pub mod peer_socket;
pub mod roll;
pub mod vigil;

use std::rc::Rc;
use std::time::Duration;

use self::election_port::{ElectionPort, ElectionSettings};
use self::learner_port::LearnerPort;
use self::links::{LinkSettings, Links};
use self::listener::{BoundPeerPort, PeerListenError, PeerPort};
use self::master_search::{MasterPort, MasterSearch};
use self::roll::Roll;
use crate::core::zab::membership::Membership;
use crate::core::{LinkId, Output, ServerId};
use crate::shell::pipeline::PipelineHandle;

/// What the shell has to know about the other servers.
#[derive(Clone, Debug)]
pub struct EnsembleSettings {
    pub membership: Membership,
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
pub struct BoundEnsemble {
    election: BoundPeerPort,
    quorum: BoundPeerPort,
    observers: Option<BoundPeerPort>,
}

/// Where the pipeline says what is for other servers.
pub struct Ensemble {
    election: Rc<ElectionPort>,
    learners: Rc<LearnerPort>,
    observers: Rc<LearnerPort>,
    search: Rc<MasterSearch>,
    links: Rc<Links>,
}

/// What runs for it.
pub struct RunningEnsemble {
    /// They hold the pipeline: to be cancelled in the end.
    pub tasks: Vec<glommio::Task<()>>,
    /// The accept threads end when these are dropped.
    pub ports: Vec<PeerPort>,
}

impl BoundEnsemble {
    pub fn bind(settings: &EnsembleSettings) -> Result<BoundEnsemble, PeerListenError> {
        let EnsembleSettings { membership, election, listen_everywhere, bind_retries, .. } = settings;
        let (roll, own) = (Roll::new(membership.clone(), settings.observer_master_port), election.server);
        let is_voter = membership.is_voter(own);
        let bind = |purpose, addresses| BoundPeerPort::bind(purpose, addresses, *listen_everywhere, *bind_retries);
        Ok(BoundEnsemble {
            election: bind("election", &roll.election_addresses(own))?,
            quorum: bind("quorum", &roll.quorum_addresses(own))?,
            observers: match settings.observer_master_port.filter(|_| is_voter) {
                Some(_) => Some(bind("observer-master", &roll.observer_addresses(own))?),
                None => None,
            },
        })
    }
}

impl Ensemble {
    pub fn new(settings: &EnsembleSettings) -> Ensemble {
        let roll = Rc::new(Roll::new(settings.membership.clone(), settings.observer_master_port));
        let links = Rc::new(Links::new(settings.links.clone()));
        Ensemble {
            election: Rc::new(ElectionPort::new(settings.election.clone(), roll.clone())),
            learners: Rc::new(LearnerPort::new(links.clone())),
            observers: Rc::new(LearnerPort::new(links.clone())),
            search: Rc::new(MasterSearch::new(links.clone(), roll, settings.connect_retry)),
            links,
        }
    }

    /// Listens, and starts everything that runs in the background.
    pub fn begin(&self, bound: BoundEnsemble, pipeline: &PipelineHandle) -> std::io::Result<RunningEnsemble> {
        let (election, electors) = bound.election.listen()?;
        let (quorum, learners) = bound.quorum.listen()?;
        let mut tasks = vec![
            glommio::spawn_local(self.election.clone().run_lines(pipeline.clone())),
            glommio::spawn_local(self.election.clone().run_callers(electors)),
            glommio::spawn_local(self.learners.clone().run_callers(learners, pipeline.clone())),
            glommio::spawn_local(self.search.clone().run(pipeline.clone())),
        ];
        let mut ports = vec![election, quorum];
        if let Some(bound) = bound.observers {
            let (port, observers) = bound.listen()?;
            ports.push(port);
            tasks.push(glommio::spawn_local(self.observers.clone().run_callers(observers, pipeline.clone())));
        }
        Ok(RunningEnsemble { tasks, ports })
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
            other => return Some(other),
        }
        None
    }

    /// The end of a turn. Tells what the kernel took.
    pub fn flush(&self, sent: &mut Vec<(LinkId, usize)>) {
        self.links.flush(sent);
    }

    pub fn tick(&self) {
        self.learners.tick();
        self.observers.tick();
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
