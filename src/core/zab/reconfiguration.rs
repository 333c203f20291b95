//! Changing who belongs to the ensemble, and who decides in it, while it works.
//!
//!   asked -> proposed: seen by everybody who logs it -> a quorum of both configurations has it: committed -> activated
//!
//! A configuration is proposed by a transaction, so it lies in the log; whoever has that transaction asks the quorums of both
//! configurations, the one in force and the proposed one: for votes, for epochs, for this transaction and all behind it. What
//! makes that safe, whoever crashes when:
//!
//! * A configuration is in force only when a quorum of the old one has its transaction on disk. So nobody who does not know of
//!   it gets a quorum of the old one again: somebody in there knows more than he does.
//! * What only the new one decides about comes behind its transaction in every log. So whoever acknowledged that and crashed,
//!   before he had stored that it is in force, knows at least that it was proposed, and asks both.
//! * A proposed configuration that is cut off a log was never in force, and is forgotten with it.
//!
//! Here are the rules without state: what a client may ask for, who leads next, what of a change makes a server begin anew.
//! `leader/reconfiguration.rs` proposes and commits, `core/reconfigure.rs` carries out on each server.
//! Java: `PrepRequestProcessor`, `Leader.getDesignatedLeader`, `QuorumPeer.processReconfig`. Spec: quorum-protocol 16,
//! client-protocol 12.9. We differ in D-066 and D-067, see `docs/COMPATIBILITY.md`.

use std::collections::BTreeMap;

use super::membership::{Configurations, Member, MemberRole, Membership, QuorumKind};
use crate::core::types::{ServerId, Zxid};
use crate::wire::ErrorCode;
use crate::wire::server_line;

/// What a client asks for. Null and empty are different things.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub joining: Option<&'a str>,
    pub leaving: Option<&'a str>,
    /// Everybody, in place of the two above.
    pub new_members: Option<&'a str>,
    /// Only if this is the version in force; -1: whatever is.
    pub config_id: i64,
}

impl Change<'_> {
    /// The configuration that it comes to, in the order in which a client can observe the checks. Whether enough of its voters
    /// are there, and whether the client may, is asked afterwards. `fewest_voters`: 2, unless a single one is an ensemble
    /// (`standaloneEnabled=false`).
    pub fn of(&self, configs: &Configurations, version: Zxid, fewest_voters: usize) -> Result<Membership, ErrorCode> {
        if configs.is_changing() {
            return Err(ErrorCode::ReconfigInProgress);
        }
        if self.config_id != -1 && self.config_id as u64 != configs.last_seen.version {
            return Err(ErrorCode::BadVersion);
        }
        let mut next = match self.new_members {
            Some(text) => whole(text)?,
            None => self.step_by_step(&configs.last_seen)?,
        };
        // Observers call, and are called by nobody.
        let is_unreachable = |member: &Member| {
            member.role == MemberRole::Participant && member.addresses.iter().any(|address| is_wildcard(&address.host))
        };
        if next.voters().count() < fewest_voters || next.members.values().any(is_unreachable) {
            return Err(ErrorCode::BadArguments);
        }
        next.version = version.0;
        Ok(next)
    }

    fn step_by_step(&self, last: &Membership) -> Result<Membership, ErrorCode> {
        if last.kind != QuorumKind::Majority {
            return Err(ErrorCode::BadArguments);
        }
        let mut members = last.members.clone();
        for id in items(self.leaving) {
            // Java: a `NumberFormatException`, which nobody expects.
            members.remove(&ServerId(id.parse().map_err(|_| ErrorCode::MarshallingError)?));
        }
        for line in items(self.joining) {
            let (key, value) = line.split_once('=').ok_or(ErrorCode::BadArguments)?;
            let id = key.rsplit('.').next().unwrap_or(key).trim();
            let id: i64 = id.parse().map_err(|_| ErrorCode::MarshallingError)?;
            let key = format!("server.{id}");
            let member = server_line::parse_member(&key, value, true).map_err(|_| ErrorCode::BadArguments)?;
            members.remove(&ServerId(id));
            if member.client.is_none() || members.values().any(|other| share_an_address(&member, other)) {
                return Err(ErrorCode::BadArguments);
            }
            members.insert(ServerId(id), member);
        }
        Ok(Membership { version: 0, members, kind: QuorumKind::Majority })
    }
}

/// A whole configuration, its lines parted by commas or ends of lines.
fn whole(text: &str) -> Result<Membership, ErrorCode> {
    let text = text.replace(',', "\n");
    Membership::parse(text.as_bytes()).map_err(|error| match error.key.as_str() {
        // Java: nobody decides, an `IllegalArgumentException`, which nobody expects.
        "server." => ErrorCode::MarshallingError,
        _ => ErrorCode::BadArguments,
    })
}

fn items(list: Option<&str>) -> impl Iterator<Item = &str> {
    list.into_iter().flat_map(|list| list.split(',')).map(str::trim).filter(|item| !item.is_empty())
}

/// Whoever is told of such a host would talk to himself.
fn is_wildcard(host: &str) -> bool {
    matches!(host, "0.0.0.0" | "::" | "0:0:0:0:0:0:0:0")
}

/// Java: `checkAddressDuplicate`, `excludeSpecialAddresses`.
fn share_an_address(one: &Member, other: &Member) -> bool {
    let is_special = |host: &str| {
        is_wildcard(host) || host.starts_with("127.") || matches!(host, "localhost" | "::1" | "0:0:0:0:0:0:0:1")
    };
    let all = |member: &Member| {
        let of_peers = member.addresses.iter().flat_map(|address| {
            [(address.host.clone(), address.quorum_port), (address.host.clone(), address.election_port)]
        });
        let all: Vec<(String, u16)> = of_peers.chain(member.client.clone()).collect();
        all.into_iter().filter(|(host, _)| !is_special(host)).collect::<Vec<_>>()
    };
    let others = all(other);
    all(one).iter().any(|address| others.contains(address))
}

/// Whether its followers may stay with a leader: a voter of both, where they found it. Java compares resolved addresses.
pub fn keeps_leader(before: &Membership, after: &Membership, leader: ServerId) -> bool {
    before.is_voter(leader)
        && after.is_voter(leader)
        && quorum_addresses(before, leader) == quorum_addresses(after, leader)
}

fn quorum_addresses(membership: &Membership, id: ServerId) -> Vec<(&str, u16)> {
    let addresses = membership.members.get(&id).into_iter().flat_map(|member| &member.addresses);
    let mut addresses: Vec<_> = addresses.map(|address| (&*address.host, address.quorum_port)).collect();
    addresses.sort_unstable();
    addresses
}

/// Whether a leader may go on with this configuration: it decides in it, where those that know it find it.
pub fn leads_on(before: &Membership, after: &Membership, leader: ServerId) -> bool {
    let is_known = before.members.contains_key(&leader);
    after.is_voter(leader) && (!is_known || quorum_addresses(before, leader) == quorum_addresses(after, leader))
}

/// Who leads next, if the present leader cannot: of those who decide and acknowledged the change, one who acknowledged most of
/// what was proposed behind it, so that little of that is lost. `acked`: who acknowledged the change, and each proposal behind.
pub fn designated(after: &Membership, acked: &[Vec<ServerId>]) -> Option<ServerId> {
    let mut candidates: Vec<ServerId> = after.voters().collect();
    let mut best = None;
    for acked in acked {
        candidates.retain(|id| acked.contains(id));
        match candidates.first() {
            Some(first) => best = Some(*first),
            None => break,
        }
    }
    best
}

/// Whether a server has to leave its role because of a configuration that comes in force: it is another kind of member
/// then, or its leader is another one. `leader`: followed now, or itself; `next`: the one that was designated, if any was.
pub fn is_major(
    before: &Membership,
    after: &Membership,
    id: ServerId,
    leader: ServerId,
    next: Option<ServerId>,
) -> bool {
    let changes_kind = before.is_observer(id) != after.is_observer(id);
    changes_kind || next.map_or(!keeps_leader(before, after, leader), |next| next != leader)
}

impl Membership {
    /// Listed as one. Whoever is not listed at all follows like a voter, and counts nowhere.
    pub fn is_observer(&self, id: ServerId) -> bool {
        self.members.get(&id).is_some_and(|member| member.role == MemberRole::Observer)
    }

    /// What a file of a configuration in force holds: its version is in the file's name.
    pub fn dynamic_file(&self) -> String {
        let text = self.to_text();
        sorted_lines(text.lines().filter(|line| !line.starts_with("version=")))
    }

    /// What the file of the last seen one holds.
    pub fn next_file(&self) -> String {
        sorted_lines(self.to_text().lines())
    }
}

fn sorted_lines<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut lines: Vec<&str> = lines.collect();
    lines.sort_unstable();
    lines.join("\n")
}

impl Configurations {
    /// A newer one was proposed. False: it is not newer.
    pub fn see(&mut self, proposed: &Membership) -> bool {
        let is_newer = proposed.version > self.last_seen.version;
        if is_newer {
            self.last_seen = proposed.clone();
        }
        is_newer
    }

    /// What a proposal behind another one in the log proves to be in force: the other one.
    pub fn in_force_before(&self, proposed: &Membership) -> Option<&Membership> {
        let is_logged = Zxid(self.last_seen.version).counter() > 0; // or it got its name from an epoch that never began
        (self.is_changing() && is_logged && proposed.version > self.last_seen.version).then_some(&self.last_seen)
    }

    /// The proposed one is cut off the log.
    pub fn forget_seen(&mut self) {
        self.last_seen = self.committed.clone();
    }

    /// It is in force from now on: gives the one before. None: it is not newer.
    pub fn activate(&mut self, activated: &Membership) -> Option<Membership> {
        if activated.version <= self.committed.version {
            return None;
        }
        let before = std::mem::replace(&mut self.committed, activated.clone());
        if self.last_seen.version <= activated.version {
            self.last_seen = activated.clone();
        }
        Some(before)
    }

    /// Where a member can be found: in the configuration in force, or the proposed one.
    pub fn member(&self, id: ServerId) -> Option<&Member> {
        self.committed.members.get(&id).or_else(|| self.last_seen.members.get(&id))
    }

    /// Everybody in either.
    pub fn members(&self) -> BTreeMap<ServerId, &Member> {
        self.last_seen.members.iter().chain(&self.committed.members).map(|(id, member)| (*id, member)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Zxid = Zxid(0x1_0000_0007);

    fn of(voters: i64, observers: i64) -> Configurations {
        Configurations::settled(Membership { version: 0x1_0000_0000, ..Membership::of(voters, observers) })
    }

    fn change<'a>(joining: Option<&'a str>, leaving: Option<&'a str>) -> Change<'a> {
        Change { joining, leaving, new_members: None, config_id: -1 }
    }

    fn line(id: i64, role: &str) -> String {
        format!("server.{id}=10.0.0.{id}:2888:3888:{role};2181")
    }

    fn voters(membership: &Membership) -> Vec<i64> {
        membership.voters().map(|id| id.0).collect()
    }

    #[test]
    fn members_come_and_go_step_by_step() {
        let configs = of(3, 1);
        let joining = [line(4, "participant"), line(5, "observer"), line(2, "observer")].join(", ");
        let next = change(Some(&joining), Some("1,77")).of(&configs, VERSION, 2).unwrap();
        assert_eq!((voters(&next), next.members.len(), next.version), (vec![3, 4], 4, VERSION.0));
        assert!(next.is_observer(ServerId(2)) && next.is_observer(ServerId(5)));
        let same = change(None, None).of(&configs, VERSION, 2).unwrap();
        assert_eq!(same.members, configs.committed.members, "a change of nothing is one, as in Java");
    }

    #[test]
    fn everybody_at_once() {
        let text = format!("{},{}\n{}", line(7, "participant"), line(8, "participant"), line(9, "observer"));
        let change = Change { new_members: Some(&text), ..change(Some("nonsense"), None) };
        let next = change.of(&of(3, 0), VERSION, 2).unwrap();
        assert_eq!((voters(&next), next.version), (vec![7, 8], VERSION.0));
    }

    #[test]
    fn what_cannot_be_is_refused_in_order() {
        let mut busy = of(3, 0);
        busy.last_seen.version = 0x1_0000_0003;
        let stale = Change { config_id: 5, ..change(None, Some("x")) };
        assert_eq!(stale.of(&busy, VERSION, 2), Err(ErrorCode::ReconfigInProgress));
        let configs = of(3, 0);
        assert_eq!(stale.of(&configs, VERSION, 2), Err(ErrorCode::BadVersion));
        let fits = Change { config_id: 0x1_0000_0000, ..stale };
        assert_eq!(fits.of(&configs, VERSION, 2), Err(ErrorCode::MarshallingError), "no number");
        for joining in [
            "server.4",
            "server.4=h:1",
            "server.4=h:1:2",
            "server.4=10.0.0.3:2888:7;2181",
            "server.4=h:1:2;10.0.0.2:3888",
            "server.4=0.0.0.0:1:2;2181",
        ] {
            let refused = change(Some(joining), None).of(&configs, VERSION, 2);
            assert_eq!(refused, Err(ErrorCode::BadArguments), "{joining}");
        }
        let observer = change(Some("server.4=0.0.0.0:1:2:observer;2181"), None);
        assert!(observer.of(&configs, VERSION, 2).is_ok(), "nobody has to find it");
        assert_eq!(
            change(None, Some("2,3")).of(&configs, VERSION, 2),
            Err(ErrorCode::BadArguments),
            "one voter is left"
        );
        assert!(change(None, Some("2,3")).of(&configs, VERSION, 1).is_ok(), "standaloneEnabled=false");
        assert_eq!(change(None, Some("1,2,3")).of(&configs, VERSION, 1), Err(ErrorCode::BadArguments));
        for (text, code) in [
            ("", ErrorCode::MarshallingError),
            ("server.1=a:1:2:observer;3", ErrorCode::MarshallingError),
            ("server.1=a:1", ErrorCode::BadArguments),
            ("clientPort=2181", ErrorCode::BadArguments),
            ("server.1=a:1:2;3", ErrorCode::BadArguments),
        ] {
            let whole = Change { new_members: Some(text), ..change(None, None) };
            assert_eq!(whole.of(&configs, VERSION, 2), Err(code), "{text:?}");
        }
    }

    #[test]
    fn groups_change_as_a_whole_only() {
        let text = "server.1=a:1:2;3,server.2=b:1:2;3,group.1=1:2";
        let grouped = Change { new_members: Some(text), ..change(None, None) }.of(&of(3, 0), VERSION, 2).unwrap();
        assert!(matches!(grouped.kind, QuorumKind::Hierarchical { .. }));
        let configs = Configurations::settled(grouped);
        assert_eq!(change(None, Some("9")).of(&configs, VERSION, 2), Err(ErrorCode::BadArguments));
    }

    #[test]
    fn a_leader_leads_on_where_its_followers_find_it() {
        let (before, mut after) = (Membership::of(3, 0), Membership::of(5, 0));
        let one = ServerId(1);
        assert!(keeps_leader(&before, &after, one) && !keeps_leader(&before, &after, ServerId(5)));
        after.members.get_mut(&one).unwrap().addresses[0].election_port = 9;
        assert!(keeps_leader(&before, &after, one), "followers do not mind");
        after.members.get_mut(&one).unwrap().addresses[0].quorum_port = 9;
        assert!(!keeps_leader(&before, &after, one));
        assert!(
            !keeps_leader(&before, &Membership { version: 1, ..Membership::of(0, 5) }, one),
            "an observer leads nobody"
        );
    }

    #[test]
    fn the_next_leader_has_most_of_what_is_under_way() {
        let ids = |ids: &[i64]| ids.iter().map(|id| ServerId(*id)).collect::<Vec<_>>();
        let after = Membership::of(3, 1);
        assert_eq!(designated(&after, &[ids(&[2, 3, 4, 9])]), Some(ServerId(2)));
        assert_eq!(designated(&after, &[ids(&[2, 3]), ids(&[3, 4]), ids(&[1])]), Some(ServerId(3)));
        assert_eq!(designated(&after, &[ids(&[4])]), None);
    }

    #[test]
    fn a_change_is_major_for_whom_it_makes_another_server() {
        let (before, after) = (Membership::of(3, 2), Membership::of(4, 1));
        let major = |id, leader, next: Option<i64>| {
            is_major(&before, &after, ServerId(id), ServerId(leader), next.map(ServerId))
        };
        assert!(!major(2, 1, None) && !major(2, 1, Some(1)) && !major(5, 1, Some(1)) && !major(9, 1, Some(1)));
        assert!(major(4, 1, Some(1)), "the observer votes");
        assert!(major(2, 1, Some(3)) && major(9, 1, Some(3)), "somebody else leads");
        let without_1 =
            Membership { version: 9, members: before.members.clone().into_iter().skip(1).collect(), ..before };
        assert!(is_major(&Membership::of(3, 2), &without_1, ServerId(2), ServerId(1), None));
    }

    #[test]
    fn files_are_as_java_writes_them() {
        let text = "server.10=b:2:3:participant;0.0.0.0:1\nserver.2=a:2:3:participant\nversion=1a";
        let membership = Membership::parse(text.as_bytes()).unwrap();
        assert_eq!(membership.dynamic_file(), "server.10=b:2:3:participant;0.0.0.0:1\nserver.2=a:2:3:participant");
        assert_eq!(membership.next_file(), text);
        assert_eq!(Membership::parse(membership.next_file().as_bytes()), Ok(membership));
    }

    #[test]
    fn a_second_proposal_in_the_log_proves_the_first() {
        let mut configs = of(3, 0);
        let (first, second) = (VERSION.0, VERSION.0 + 1);
        let proposed = |version| Membership { version, ..Membership::of(5, 0) };
        assert_eq!(configs.in_force_before(&proposed(first)), None, "nothing was proposed before");
        configs.see(&proposed(first));
        assert_eq!(configs.in_force_before(&proposed(first)), None, "the same again");
        assert_eq!(configs.in_force_before(&proposed(second)).map(|before| before.version), Some(first));
        configs.forget_seen();
        configs.see(&proposed(0x2_0000_0000));
        assert_eq!(configs.in_force_before(&proposed(0x3_0000_0001)), None, "an epoch's name is no transaction");
    }

    #[test]
    fn a_configuration_is_seen_then_activated_or_forgotten() {
        let mut configs = of(3, 0);
        let next = Membership { version: VERSION.0, ..Membership::of(5, 0) };
        assert!(configs.see(&next) && !configs.see(&next) && configs.is_changing());
        assert_eq!(configs.member(ServerId(5)).map(|member| member.id), Some(5));
        configs.forget_seen();
        assert!(!configs.is_changing() && configs.member(ServerId(5)).is_none());
        assert!(configs.see(&next));
        assert_eq!(configs.activate(&next).map(|before| before.version), Some(0x1_0000_0000));
        assert!(!configs.is_changing() && configs.activate(&next).is_none());
    }
}
