//! A member's connections to the other servers.
//!
//! ```text
//!  election port   notifications, one connection a pair of servers     election_port.rs
//!  quorum port     learners that call, the call to the master          learner_port.rs
//!                  packets and snapshots on these connections          links.rs
//! ```
//!
//! All of it runs on the pipeline's executor: a proposal goes from the core to the sockets of all learners without a hop, and
//! everything a turn says leaves as one send a link. [`roll`]: where members are; [`dial`]: from a name to a socket;
//! [`listener`]: the accept threads; [`peer_socket`]: a connection as two halves.
//! Java: `QuorumPeer` with its `QuorumCnxManager`, `Leader`, `Learner`. Spec: quorum-protocol 3, 5, 6.1.

pub mod dial;
pub mod election_port;
pub mod learner_port;
pub mod links;
pub mod listener;
pub mod peer_socket;
pub mod roll;

use std::rc::Rc;

use self::election_port::{ElectionPort, ElectionSettings};
use self::learner_port::{LearnerPort, LearnerSettings};
use self::links::Links;
use self::listener::{BoundPeerPort, PeerListenError, PeerPort};
use self::roll::Roll;
use crate::core::zab::membership::Membership;
use crate::core::{LinkId, Output};
use crate::shell::pipeline::PipelineHandle;

/// What the shell has to know about the other servers.
#[derive(Clone, Debug)]
pub struct EnsembleSettings {
    pub membership: Membership,
    pub election: ElectionSettings,
    pub learner: LearnerSettings,
    /// `quorumListenOnAllIPs`.
    pub listen_everywhere: bool,
    /// `electionPortBindRetry`; 0 is without end.
    pub bind_retries: u32,
}

/// Both ports, bound and not listening.
#[derive(Debug)]
pub struct BoundEnsemble {
    election: BoundPeerPort,
    quorum: BoundPeerPort,
}

/// Where the pipeline says what is for other servers.
pub struct Ensemble {
    election: Rc<ElectionPort>,
    learners: Rc<LearnerPort>,
    links: Rc<Links>,
}

/// What runs for it.
pub struct RunningEnsemble {
    /// They hold the pipeline: to be cancelled in the end.
    pub tasks: Vec<glommio::Task<()>>,
    /// The accept threads end when these are dropped.
    pub ports: [PeerPort; 2],
}

impl BoundEnsemble {
    pub fn bind(settings: &EnsembleSettings) -> Result<BoundEnsemble, PeerListenError> {
        let EnsembleSettings { membership, election, listen_everywhere, bind_retries, .. } = settings;
        let (roll, own) = (Roll::new(membership.clone()), election.server);
        let bind = |purpose, addresses| BoundPeerPort::bind(purpose, addresses, *listen_everywhere, *bind_retries);
        Ok(BoundEnsemble {
            election: bind("election", &roll.election_addresses(own))?,
            quorum: bind("quorum", &roll.quorum_addresses(own))?,
        })
    }
}

impl Ensemble {
    pub fn new(settings: &EnsembleSettings) -> Ensemble {
        let roll = Rc::new(Roll::new(settings.membership.clone()));
        let links = Rc::<Links>::default();
        Ensemble {
            election: Rc::new(ElectionPort::new(settings.election.clone(), roll.clone())),
            learners: Rc::new(LearnerPort::new(settings.learner.clone(), links.clone(), roll)),
            links,
        }
    }

    /// Listens, and starts everything that runs in the background.
    pub fn begin(&self, bound: BoundEnsemble, pipeline: &PipelineHandle) -> std::io::Result<RunningEnsemble> {
        let (election, electors) = bound.election.listen()?;
        let (quorum, learners) = bound.quorum.listen()?;
        let tasks = vec![
            glommio::spawn_local(self.election.clone().run_lines(pipeline.clone())),
            glommio::spawn_local(self.election.clone().run_callers(electors)),
            glommio::spawn_local(self.learners.clone().run_callers(learners, pipeline.clone())),
            glommio::spawn_local(self.learners.clone().run_search(pipeline.clone())),
        ];
        Ok(RunningEnsemble { tasks, ports: [election, quorum] })
    }

    /// Does what is for other servers and gives back the rest.
    pub fn carry_out(&self, output: Output) -> Option<Output> {
        match output {
            Output::Notify { to, notification } => self.election.notify(to, &notification),
            Output::AcceptLearners(accepting) => self.learners.accept(accepting),
            Output::ConnectToMaster { master, limit_ms } => self.learners.connect(master, limit_ms),
            Output::ForgetMaster => self.learners.forget_master(),
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
    }

    /// The process ends.
    pub fn hang_up(&self) {
        self.links.hang_up_all();
    }
}
