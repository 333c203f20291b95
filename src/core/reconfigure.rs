//! The configurations of this server, in every role: what its log knows of them, which is in force, what that makes of its role.
//!
//!   logged: seen -> committed, or told by whoever knows: in force -> the role goes on, or ends: another kind of member, another leader
//!
//! A proposed configuration lies in the log, and what a log has lost is forgotten: at a start, and when the log was cut, the tree
//! says which configuration it ends with. The file of the last seen one is for those who read it (Java's servers, operators),
//! and for a configuration that got its name from an epoch, which no transaction tells of.
//!
//! A leader proposes one only when the one before is in force. So the one that a log has before its last one is in force, even if
//! nobody has said so to this server, which may have been synchronised over both: those who had been in force before decide nothing
//! any more, and who would ask them could lead beside the leader whom they do not know.
//!
//! Why this is safe: `zab/reconfiguration.rs`. Java: `QuorumPeer.processReconfig`, `setLastSeenQuorumVerifier`. Spec:
//! quorum-protocol 4.3, 16.

use ringkeeper_storage::probe::{broken, mark};

use super::node::Node;
use super::peer::Role;
use super::tree::config_node::CONFIG_NODE;
use super::types::{Now, Output, ServerId, Zxid};
use super::zab::membership::Membership;
use super::zab::reconfiguration::{Change, is_major};
use crate::limits;
use crate::wire::ErrorCode;
use crate::wire::client::Request;

impl Node {
    /// The state is another one: what of the configurations is known from it.
    pub(super) fn recover_configuration(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.settings.reconfig_enabled {
            let written = |(text, zxid)| {
                let config = Membership::parse(text).ok()?;
                (config.version == zxid as u64).then_some(config)
            };
            let (before, logged) =
                (self.tree.config_before().and_then(written), self.tree.config_node().and_then(written));
            if let Some(before) = before {
                self.activate_configuration(now, &before, None, out); // a role that waits for this state is to begin yet
            }
            let member = self.member.as_mut().expect("only members have configurations");
            let configs = &mut member.configs;
            let is_named_by_epoch = Zxid(configs.last_seen.version).counter() == 0;
            let logged_version = logged.as_ref().map_or(0, |config| config.version);
            if configs.is_changing() && !is_named_by_epoch && configs.last_seen.version != logged_version {
                mark("a proposed configuration is forgotten with its transaction");
                configs.forget_seen();
                out.push(Output::ConfigForgotten);
            }
            if let Some(logged) = logged {
                self.see_configuration(&logged, out);
            }
        }
        self.show_configuration(now);
    }

    /// The config node tells which configuration is in force, unless it knows of a later one. Where members do not change it
    /// shows each server's own.
    fn show_configuration(&mut self, now: Now) {
        let Some(member) = &self.member else { return };
        let committed = &member.configs.committed;
        let text = committed.to_text();
        let (is_later, is_same) = match self.tree.config_node() {
            Some((shown, zxid)) => {
                (self.settings.reconfig_enabled && zxid as u64 > committed.version, shown == text.as_bytes())
            }
            None => (false, false),
        };
        if !is_later && !is_same {
            self.tree.set_config_node(&text, committed.version, now.wall_ms);
        }
    }

    /// What a client wants the membership to be, as the text that is to be proposed with the next zxid. Whether it may want
    /// anything there is asked when that is prepared. None: it wants something else.
    pub(super) fn wanted_configuration(&self, request: &Request<'_>) -> Option<Result<String, ErrorCode>> {
        let Request::Reconfig { joining, leaving, new_members, config_id } = request else { return None };
        let (Role::Leading(leading), Some(member)) = (&self.role, &self.member) else { return None };
        if !self.settings.reconfig_enabled {
            return None;
        }
        let change = Change {
            joining: joining.as_deref(),
            leaving: leaving.as_deref(),
            new_members: new_members.as_deref(),
            config_id: *config_id,
        };
        let fewest_voters = if self.settings.standalone_enabled { 2 } else { 1 };
        let next = change.of(&member.configs, leading.leader.next_zxid(), fewest_voters);
        Some(next.and_then(|next| {
            leading.leader.may_reconfigure(&next)?;
            let text = next.to_text();
            // Whoever reads it must find what was asked for: a name may hold what this text cannot.
            let is_read_back = Membership::parse(text.as_bytes()).is_ok_and(|read| read.to_text() == text);
            let is_short = text.len() <= limits::CONFIGURATION_BYTES // every notification of an election carries it
                && next.members.values().all(|member| member.value().len() <= limits::MEMBER_LINE_BYTES);
            if is_read_back && is_short { Ok(text) } else { Err(ErrorCode::BadArguments) }
        }))
    }

    /// It is logged, or came with a leader's epoch: from now on both decide.
    pub(super) fn see_configuration(&mut self, proposed: &Membership, out: &mut Vec<Output>) {
        let member = self.member.as_mut().expect("only members have configurations");
        if self.settings.reconfig_enabled && member.configs.see(proposed) {
            out.push(Output::ConfigSeen(Box::new(proposed.clone())));
        }
    }

    /// A leader proposed it. Err: nobody can read it, or what it proves ends this server's role.
    fn see_proposed_configuration(&mut self, now: Now, text: &[u8], out: &mut Vec<Output>) -> Result<(), String> {
        if !self.settings.reconfig_enabled {
            return Ok(());
        }
        let proposed = Membership::parse(text).map_err(|why| format!("the leader's configuration: {why}"))?;
        let member = self.member.as_ref().expect("only members have configurations");
        if let Some(before) = member.configs.in_force_before(&proposed).cloned()
            && self.activate_configuration(now, &before, None, out)
        {
            return Err(format!("configuration {:x} is in force and makes this server another one", before.version));
        }
        self.see_configuration(&proposed, out);
        Ok(())
    }

    /// NEWLEADER says which configuration comes in force with the epoch.
    pub(super) fn see_configuration_of_epoch(&mut self, now: Now, text: &[u8], out: &mut Vec<Output>) {
        if !self.settings.reconfig_enabled {
            return;
        }
        match Membership::parse(text) {
            Err(why) => self.leave_leader(now, format!("the leader's configuration: {why}"), out),
            Ok(config) => {
                self.see_configuration(&config, out);
                if let Role::Following(following) = &mut self.role {
                    following.config = Some(config);
                }
            }
        }
    }

    /// UPTODATE: a quorum has what the epoch began with. What is proposed within the epoch is not meant, although Java's leaders
    /// say it, too: of that one hears when it is committed.
    pub(super) fn on_configuration_of_epoch(&mut self, now: Now, out: &mut Vec<Output>) {
        let Role::Following(following) = &mut self.role else { return };
        let (Some(config), epoch) = (following.config.take(), following.learner.epoch()) else { return };
        let version = Zxid(config.version);
        let is_of_before = version.epoch() < epoch || version.counter() == 0 || version <= self.progress.committed;
        if is_of_before && self.activate_configuration(now, &config, None, out) {
            self.end_role(now, "the configuration of this epoch makes this server another one".into(), None, out);
        }
    }

    /// The transaction that proposed a configuration is committed, and applied.
    pub(super) fn on_configuration_committed(&mut self, now: Now, zxid: Zxid, leader: ServerId, out: &mut Vec<Output>) {
        self.relay_activation(zxid, leader, out);
        let member = self.member.as_ref().expect("only members have configurations");
        let configs = &member.configs;
        if !self.settings.reconfig_enabled || configs.committed.version >= zxid.0 {
            return;
        }
        if configs.last_seen.version != zxid.0 {
            let why = format!("the leader activates a configuration by {zxid}, which proposed none");
            return self.leave_leader(now, why, out);
        }
        let config = configs.last_seen.clone();
        if self.activate_configuration(now, &config, Some(leader), out) {
            mark("learner: another configuration ends its role");
            let why = format!("configuration {:x} is in force, and server {} leads", config.version, leader.0);
            self.end_role(now, why, Some(leader), out);
        }
    }

    /// It is in force. Says whether the present role ends with that. `next`: who leads in it, if that was designated.
    pub(super) fn activate_configuration(
        &mut self,
        now: Now,
        config: &Membership,
        next: Option<ServerId>,
        out: &mut Vec<Output>,
    ) -> bool {
        let id = self.settings.server;
        let member = self.member.as_mut().expect("only members have configurations");
        if !self.settings.reconfig_enabled {
            return false;
        }
        let Some(before) = member.configs.activate(config) else { return false };
        out.push(Output::ConfigActivated(Box::new(config.clone())));
        let client_of = |membership: &Membership| membership.members.get(&id).and_then(|member| member.client.clone());
        if let Some((host, port)) = client_of(config).filter(|client| client_of(&before).as_ref() != Some(client)) {
            out.push(Output::ClientAddressChanged { host, port });
        }
        let configs = member.configs.clone();
        self.show_configuration(now);
        match &mut self.role {
            Role::Following(following) => {
                following.learner.configured(&configs);
                following.relay.iter_mut().for_each(|relay| relay.configured(&configs));
                is_major(&before, config, id, following.learner.leader(), next)
            }
            Role::Looking(_) | Role::Leading(_) | Role::Settling(_) => false,
        }
    }

    /// Somebody has a newer configuration in force: while there is no leader to tell of it, his word is enough. The election
    /// begins anew with it. Says whether it does.
    pub(super) fn adopt_configuration(&mut self, now: Now, out: &mut Vec<Output>) -> bool {
        let member = self.member.as_mut().expect("only members look for a leader");
        let Some(text) = member.election.take_newer_config().filter(|_| self.settings.reconfig_enabled) else {
            return false;
        };
        let before = member.configs.committed.clone();
        let Ok(config) = Membership::parse(&text) else { return false };
        self.activate_configuration(now, &config, None, out);
        let committed = &self.member.as_ref().expect("as above").configs.committed;
        if committed.members == before.members && committed.kind == before.kind {
            return false;
        }
        mark("election: a newer configuration was adopted");
        self.search(now, out);
        true
    }

    /// A learner was told to log this. Err: its configuration makes no sense.
    pub(super) fn note_logged_configuration(
        &mut self,
        now: Now,
        path: &str,
        text: Option<&[u8]>,
        out: &mut Vec<Output>,
    ) -> Result<(), String> {
        if path != CONFIG_NODE {
            return Err(format!("the leader proposed a configuration at {path}"));
        }
        self.see_proposed_configuration(now, text.unwrap_or_default(), out)?;
        if broken("reconfiguration: activate before the commit")
            && let Some(member) = &self.member
        {
            let config = member.configs.last_seen.clone();
            self.activate_configuration(now, &config, None, out);
        }
        Ok(())
    }
}
