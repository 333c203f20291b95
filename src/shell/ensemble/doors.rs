//! This server's own ports for other servers, which move when its line in the configuration does.
//!
//! Who calls waits in a mailbox that outlives the port. While one cannot be had where it has to be, the others can be reached
//! where this server called itself. Java: `QuorumPeer.restartLeaderElection`, `QuorumCnxManager.Listener`. Spec: quorum-protocol
//! 3.5, 16.5.

use std::cell::RefCell;
use std::io;
use std::net::TcpStream;
use std::rc::Rc;

use super::listener::{BoundPeerPort, PeerListenError, PeerPort, callers};
use super::roll::Roll;
use crate::core::ServerId;
use crate::shell::door::Door;
use crate::shell::mailbox::{Arrivals, Mailbox};
use crate::shell::reactor;
use crate::shell::resolve::HostPort;

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
    doors: RefCell<Vec<Rc<PeerDoor>>>,
}

struct PeerDoor {
    purpose: Purpose,
    everywhere: bool,
    mailbox: Mailbox<TcpStream>,
    door: Door<Vec<HostPort>, PeerPort>,
}

impl Doors {
    pub fn new(roll: Rc<Roll>, own: ServerId, everywhere: bool) -> Doors {
        Doors { roll, own, everywhere, doors: RefCell::default() }
    }

    /// Listens. Gives who calls at each, in the order of `Purpose`.
    pub fn open(&self, bound: BoundDoors) -> io::Result<[Arrivals<TcpStream>; 3]> {
        let ways = [callers(), callers(), callers()];
        let mut doors = self.doors.borrow_mut();
        for ((purpose, (addresses, port)), (mailbox, _)) in PURPOSES.into_iter().zip(bound.0).zip(&ways) {
            let door = Door::new(Some(addresses.clone()));
            door.had(&addresses, port.listen(mailbox)?);
            doors.push(Rc::new(PeerDoor { purpose, everywhere: self.everywhere, mailbox: mailbox.clone(), door }));
        }
        Ok(ways.map(|(_, arrivals)| arrivals))
    }

    /// Starts what moves the open doors: a task each, until they are closed.
    pub fn follow(&self) -> Vec<reactor::Task<()>> {
        self.doors.borrow().iter().map(|door| reactor::spawn(door.clone().follow())).collect()
    }

    /// The configuration changed: what does not listen where it says now stops, and moves there.
    pub fn follow_roll(&self) {
        for door in self.doors.borrow().iter() {
            door.door.move_to(Some(door.purpose.addresses(&self.roll, self.own)));
        }
    }

    /// Nobody is let in any more.
    pub fn close(&self) {
        for door in self.doors.take() {
            door.door.move_to(None);
        }
    }
}

impl PeerDoor {
    async fn follow(self: Rc<Self>) {
        self.door.follow(async |addresses| self.listen_at(addresses).await).await;
    }

    async fn listen_at(&self, addresses: Vec<HostPort>) -> Result<PeerPort, String> {
        let (name, everywhere) = (self.purpose.name(), self.everywhere);
        // Not on this thread: a name that nobody answers for takes seconds.
        let binding =
            reactor::off_thread(move || BoundPeerPort::bind(name, &addresses, everywhere, 1).map_err(io::Error::other));
        let bound = binding.await.map_err(|error| error.to_string())?;
        bound.listen(&self.mailbox).map_err(|error| format!("{name} port: cannot listen: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::core::zab::membership::{Configurations, Membership};
    use crate::shell::reactor::next_turn;

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
        reactor::run_here(async {
            let _elector = call(ports[1]).unwrap();
            assert!(poll_fn(|cx| electors.poll_next(cx)).await.is_some());
            let _learner = call(ports[0]).unwrap();
            assert!(poll_fn(|cx| learners.poll_next(cx)).await.is_some());
            // Somebody has the new port for now.
            let occupant = std::net::TcpListener::bind(("127.0.0.1", ports[2])).unwrap();
            roll.activated(&membership(7, ports[2], ports[1]));
            doors.follow_roll();
            assert!(call(ports[0]).is_err(), "nobody is where it was");
            let [_, door, _] = doors.doors.borrow().clone().try_into().ok().unwrap();
            let trouble = door.listen_at(roll.quorum_addresses(own)).await.unwrap_err();
            assert!(trouble.contains("quorum port") && door.door.port().is_none(), "{trouble}");
            drop(occupant);
            // It finds the way by itself.
            let _following = doors.follow();
            while door.door.port().is_none() {
                next_turn().await;
            }
            let _moved = call(ports[2]).unwrap();
            assert!(poll_fn(|cx| learners.poll_next(cx)).await.is_some());
            let _elector = call(ports[1]).unwrap();
            assert!(poll_fn(|cx| electors.poll_next(cx)).await.is_some(), "that one has not moved");
            doors.close();
            assert!(call(ports[1]).is_err(), "all are closed");
        });
    }
}
