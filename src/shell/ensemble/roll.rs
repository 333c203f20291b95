//! Where the members of the ensemble are called: the addresses of the configurations. Names are not resolved here.

use std::cell::RefCell;

use crate::core::ServerId;
use crate::core::zab::membership::{Configurations, Membership, PeerAddress};
use crate::shell::resolve::HostPort;

#[derive(Debug)]
pub struct Roll {
    own_id: ServerId,
    configs: RefCell<Configurations>,
    /// This server's, also when it is a member no longer: others are told where to call it.
    own: RefCell<Vec<PeerAddress>>,
    /// `observerMasterPort`: the same everywhere.
    observer_master_port: Option<u16>,
}

impl Roll {
    pub fn new(own_id: ServerId, configs: Configurations, observer_master_port: Option<u16>) -> Roll {
        let roll = Roll { own_id, configs: RefCell::new(configs), own: RefCell::default(), observer_master_port };
        roll.find_own();
        roll
    }

    /// It is proposed: whoever it adds is called, too.
    pub fn seen(&self, proposed: &Membership) {
        self.configs.borrow_mut().see(proposed);
        self.find_own();
    }

    pub fn forgotten(&self) {
        self.configs.borrow_mut().forget_seen();
    }

    /// It is in force.
    pub fn activated(&self, membership: &Membership) {
        self.configs.borrow_mut().activate(membership);
        self.find_own();
    }

    fn find_own(&self) {
        if let Some(own) = self.configs.borrow().member(self.own_id) {
            self.own.borrow_mut().clone_from(&own.addresses);
        }
    }

    /// Or may be one soon.
    pub fn is_member(&self, id: ServerId) -> bool {
        self.configs.borrow().member(id).is_some()
    }

    pub fn is_voter(&self, id: ServerId) -> bool {
        self.configs.borrow().committed.is_voter(id)
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
        let call =
            |addresses: &[PeerAddress]| addresses.iter().map(|address| (address.host.clone(), port(address))).collect();
        if of == self.own_id {
            return call(&self.own.borrow());
        }
        self.configs.borrow().member(of).map_or_else(Vec::new, |member| call(&member.addresses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_called_where_the_configurations_say() {
        let three = Membership::of(3, 0);
        let roll = Roll::new(ServerId(1), Configurations::settled(three.clone()), Some(7));
        let called = |id| roll.election_addresses(ServerId(id));
        let at = |host: &str, port| vec![(host.to_owned(), port)];
        assert_eq!((called(1), called(3)), (at("10.0.0.1", 3888), at("10.0.0.3", 3888)));
        assert_eq!(roll.observer_addresses(ServerId(2)), at("10.0.0.2", 7));
        let mut next = Membership { version: 0x1_0000_0004, ..Membership::of(4, 0) };
        next.members.remove(&ServerId(1));
        next.members.get_mut(&ServerId(3)).unwrap().addresses[0].host = "moved".into();
        roll.seen(&next);
        assert_eq!(called(4), at("10.0.0.4", 3888), "it may be needed before it is in force");
        assert!(roll.is_member(ServerId(4)));
        assert_eq!(called(3), at("10.0.0.3", 3888), "not yet");
        roll.forgotten();
        assert!(called(4).is_empty() && !roll.is_member(ServerId(4)));
        roll.activated(&next);
        assert_eq!((called(3), called(1)), (at("moved", 3888), at("10.0.0.1", 3888)));
    }
}
