//! Where the members of the ensemble are called: the addresses of the configuration. Names are not resolved here.

use std::cell::RefCell;

use super::dial::HostPort;
use crate::core::ServerId;
use crate::core::zab::membership::{Membership, PeerAddress};

#[derive(Debug)]
pub struct Roll {
    membership: RefCell<Membership>,
}

impl Roll {
    pub fn new(membership: Membership) -> Roll {
        Roll { membership: RefCell::new(membership) }
    }

    pub fn election_addresses(&self, of: ServerId) -> Vec<HostPort> {
        self.addresses(of, |address| address.election_port)
    }

    pub fn quorum_addresses(&self, of: ServerId) -> Vec<HostPort> {
        self.addresses(of, |address| address.quorum_port)
    }

    fn addresses(&self, of: ServerId, port: impl Fn(&PeerAddress) -> u16) -> Vec<HostPort> {
        let membership = self.membership.borrow();
        let addresses = membership.members.get(&of).map_or(&[][..], |member| &member.addresses);
        addresses.iter().map(|address| (address.host.clone(), port(address))).collect()
    }
}
