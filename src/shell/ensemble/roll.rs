//! Where the members of the ensemble are called: the addresses of the configuration. Names are not resolved here.

use std::cell::RefCell;

use super::dial::HostPort;
use crate::core::ServerId;
use crate::core::zab::membership::{Membership, PeerAddress};

#[derive(Debug)]
pub struct Roll {
    membership: RefCell<Membership>,
    /// `observerMasterPort`: the same everywhere.
    observer_master_port: Option<u16>,
}

impl Roll {
    pub fn new(membership: Membership, observer_master_port: Option<u16>) -> Roll {
        Roll { membership: RefCell::new(membership), observer_master_port }
    }

    pub fn election_addresses(&self, of: ServerId) -> Vec<HostPort> {
        self.addresses(of, |address| address.election_port)
    }

    pub fn quorum_addresses(&self, of: ServerId) -> Vec<HostPort> {
        self.addresses(of, |address| address.quorum_port)
    }

    /// Where a follower serves observers. None without `observerMasterPort`.
    pub fn observer_addresses(&self, of: ServerId) -> Vec<HostPort> {
        self.observer_master_port.map_or_else(Vec::new, |port| self.addresses(of, |_| port))
    }

    fn addresses(&self, of: ServerId, port: impl Fn(&PeerAddress) -> u16) -> Vec<HostPort> {
        let membership = self.membership.borrow();
        let addresses = membership.members.get(&of).map_or(&[][..], |member| &member.addresses);
        addresses.iter().map(|address| (address.host.clone(), port(address))).collect()
    }
}
