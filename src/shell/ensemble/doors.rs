//! This server's own ports for other servers, which move when its line in the configuration does.
//!
//! Who calls waits in a mailbox that outlives the port. A port that cannot be had where it has to be is tried again at every
//! tick: the rest of the server goes on, and can be reached where it called itself.
//! Java: `QuorumPeer.restartLeaderElection`, `QuorumCnxManager.Listener`. Spec: quorum-protocol 3.5, 16.5.

use std::cell::RefCell;
use std::io;
use std::net::TcpStream;
use std::rc::Rc;

use tracing::error;

use super::dial::HostPort;
use super::listener::{BoundPeerPort, PeerListenError, PeerPort, callers};
use super::roll::Roll;
use crate::core::ServerId;
use crate::shell::logging::Throttle;
use crate::shell::mailbox::{Arrivals, Mailbox};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Election,
    Quorum,
    /// A voter's, with `observerMasterPort`.
    Observers,
}

const PURPOSES: [Purpose; 3] = [Purpose::Election, Purpose::Quorum, Purpose::Observers];

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Purpose::Election => "election",
            Purpose::Quorum => "quorum",
            Purpose::Observers => "observer-master",
        }
    }

    fn addresses(self, roll: &Roll, own: ServerId) -> Vec<HostPort> {
        match self {
            Purpose::Election => roll.election_addresses(own),
            Purpose::Quorum => roll.quorum_addresses(own),
            Purpose::Observers if roll.is_voter(own) => roll.observer_addresses(own),
            Purpose::Observers => Vec::new(),
        }
    }
}

/// Bound and not listening.
#[derive(Debug)]
pub struct BoundDoors(Vec<(Vec<HostPort>, BoundPeerPort)>);

impl BoundDoors {
    /// `everywhere`, `retries`: as `BoundPeerPort::bind`.
    pub fn bind(roll: &Roll, own: ServerId, everywhere: bool, retries: u32) -> Result<BoundDoors, PeerListenError> {
        let bind = |purpose: Purpose| {
            let addresses = purpose.addresses(roll, own);
            let port = BoundPeerPort::bind(purpose.name(), &addresses, everywhere, retries)?;
            Ok((addresses, port))
        };
        PURPOSES.into_iter().map(bind).collect::<Result<_, _>>().map(BoundDoors)
    }
}

pub struct Doors {
    roll: Rc<Roll>,
    own: ServerId,
    everywhere: bool,
    doors: RefCell<Vec<Door>>,
    failures: RefCell<Throttle>,
}

struct Door {
    purpose: Purpose,
    addresses: Vec<HostPort>,
    /// None: it could not be had there.
    port: Option<PeerPort>,
    mailbox: Mailbox<TcpStream>,
}

impl Doors {
    pub fn new(roll: Rc<Roll>, own: ServerId, everywhere: bool) -> Doors {
        Doors { roll, own, everywhere, doors: RefCell::default(), failures: RefCell::new(Throttle::new()) }
    }

    /// Listens. Gives who calls at each, in the order of `Purpose`.
    pub fn open(&self, bound: BoundDoors) -> io::Result<[Arrivals<TcpStream>; 3]> {
        let ways = [callers(), callers(), callers()];
        let mut doors = self.doors.borrow_mut();
        for ((purpose, (addresses, port)), (mailbox, _)) in PURPOSES.into_iter().zip(bound.0).zip(&ways) {
            let port = Some(port.listen(mailbox)?);
            doors.push(Door { purpose, addresses, port, mailbox: mailbox.clone() });
        }
        Ok(ways.map(|(_, arrivals)| arrivals))
    }

    /// The configuration changed: listens where it says now.
    pub fn follow_roll(&self) {
        for door in self.doors.borrow_mut().iter_mut() {
            let addresses = door.purpose.addresses(&self.roll, self.own);
            if addresses != door.addresses {
                // Both may be one port, on every address and on one of them.
                door.port = None;
                door.addresses = addresses;
            }
        }
        self.tick();
    }

    /// Tries again what could not be had.
    pub fn tick(&self) {
        for door in self.doors.borrow_mut().iter_mut().filter(|door| door.port.is_none()) {
            let bound = BoundPeerPort::bind(door.purpose.name(), &door.addresses, self.everywhere, 1);
            let trouble = match bound.map(|bound| bound.listen(&door.mailbox)) {
                Ok(Ok(port)) => {
                    door.port = Some(port);
                    continue;
                }
                Ok(Err(error)) => format!("{} port: cannot listen: {error}", door.purpose.name()),
                Err(error) => error.to_string(),
            };
            if let Some(left_out) = self.failures.borrow_mut().pass() {
                error!("{trouble}; trying again{left_out}");
            }
        }
    }

    /// Nobody is let in any more.
    pub fn close(&self) {
        self.doors.borrow_mut().clear();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::core::zab::membership::{Configurations, Membership};

    fn free_port() -> u16 {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    fn membership(version: u64, quorum_port: u16, election_port: u16) -> Membership {
        let mut membership = Membership { version, ..Membership::of(1, 0) };
        let address = &mut membership.members.get_mut(&ServerId(1)).unwrap().addresses[0];
        (address.host, address.quorum_port, address.election_port) = ("127.0.0.1".into(), quorum_port, election_port);
        membership
    }

    #[test]
    fn a_port_moves_with_the_configuration_and_callers_find_it() {
        let ports = [free_port(), free_port(), free_port()];
        let own = ServerId(1);
        let configs = Configurations::settled(membership(0, ports[0], ports[1]));
        let roll = Rc::new(Roll::new(own, configs, None));
        let doors = Doors::new(roll.clone(), own, false);
        let [mut electors, mut learners, _] = doors.open(BoundDoors::bind(&roll, own, false, 1).unwrap()).unwrap();
        let call = |port: u16| TcpStream::connect(("127.0.0.1", port));
        glommio::LocalExecutor::default().run(async {
            let _elector = call(ports[1]).unwrap();
            assert!(poll_fn(|cx| electors.poll_next(cx)).await.is_some());
            let _learner = call(ports[0]).unwrap();
            assert!(poll_fn(|cx| learners.poll_next(cx)).await.is_some());
            // Somebody has the new port for now.
            let occupant = std::net::TcpListener::bind(("127.0.0.1", ports[2])).unwrap();
            roll.activated(&membership(7, ports[2], ports[1]));
            doors.follow_roll();
            drop(occupant);
            doors.tick();
            let _moved = call(ports[2]).unwrap();
            assert!(poll_fn(|cx| learners.poll_next(cx)).await.is_some());
            assert!(call(ports[0]).is_err(), "nobody is where it was");
            let _elector = call(ports[1]).unwrap();
            assert!(poll_fn(|cx| electors.poll_next(cx)).await.is_some(), "that one has not moved");
        });
    }
}
