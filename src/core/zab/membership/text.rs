//! The text of a configuration, as notifications, NEWLEADER, the config node and dynamic files have it.
//!
//! ```text
//! server.1=127.0.0.1:2888:3888:participant;127.0.0.1:2181
//! group.1=1:2:3                  of hierarchical quorums only, like the next
//! weight.1=1
//! version=100000000              hexadecimal; the last line, without an end
//! ```
//!
//! Read with Java's grammar, written in one form: ascending by server, the role always there. What a group or a weight says of
//! a server that does not vote is refused: Java counts it into the whole of its group although it never comes, and two servers
//! must not disagree on what a quorum is. Java: `QuorumPeerConfig.parseDynamicConfig`, `QuorumMaj`, `QuorumHierarchical`.
//! Spec: quorum-protocol 2.2, 2.3.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::{Member, MemberRole, Membership, QuorumKind};
use crate::core::types::ServerId;
use crate::wire::election::Notification;
use crate::wire::java_properties::{self, MalformedEscape};
use crate::wire::server_line;

/// What is wrong with a configuration: the key, the cause and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct MembershipError {
    pub key: String,
    pub why: String,
}

impl MembershipError {
    fn new(key: impl Into<String>, why: impl Into<String>) -> MembershipError {
        MembershipError { key: key.into(), why: why.into() }
    }
}

impl Membership {
    /// Of the whole text. Only the four kinds of keys belong there.
    pub fn parse(text: &[u8]) -> Result<Membership, MembershipError> {
        let properties = java_properties::parse(text).map_err(|MalformedEscape { line }| {
            MembershipError::new(format!("line {line}"), "malformed \\uXXXX; write four hexadecimal digits")
        })?;
        if let Some(line) = properties.first_line_beyond_ascii {
            return Err(MembershipError::new(
                format!("line {line}"),
                "beyond ASCII; write names as they are in the DNS",
            ));
        }
        Membership::from_lines(properties.entries.iter().map(|entry| (&*entry.key, &*entry.value)), true)
    }

    /// Of keys and values in the order they stand in a file; the last of a key counts. `multi_address`: a server may have several
    /// addresses.
    pub fn from_lines<'a>(
        lines: impl IntoIterator<Item = (&'a str, &'a str)>,
        multi_address: bool,
    ) -> Result<Membership, MembershipError> {
        let lines: BTreeMap<&str, &str> = lines.into_iter().collect();
        let (mut version, mut members) = (0, BTreeMap::new());
        let (mut group_lines, mut weight_lines) = (Vec::new(), Vec::new());
        for (key, value) in lines {
            if key.starts_with("server.") {
                let member = server_line::parse_member(key, value, multi_address);
                let member = member.map_err(|why| MembershipError::new(key, why))?;
                members.insert(ServerId(member.id), member);
            } else if key.starts_with("group") {
                group_lines.push((key, value));
            } else if key.starts_with("weight") {
                weight_lines.push((key, value));
            } else if key == "version" {
                let number = u64::from_str_radix(value, 16);
                version =
                    number.map_err(|_| MembershipError::new(key, format!("{value:?} is not a hexadecimal number")))?;
            } else {
                let why = "does not belong here; write only server.N, group.N, weight.N and version";
                return Err(MembershipError::new(key, why));
            }
        }
        if !members.values().any(is_participant) {
            return Err(MembershipError::new(
                "server.",
                "no participant: nobody could decide anything; write one at least",
            ));
        }
        let kind = match group_lines.is_empty() && weight_lines.is_empty() {
            true => QuorumKind::Majority,
            false => hierarchy(&members, &group_lines, &weight_lines)?,
        };
        let membership = Membership { version, members, kind };
        let bytes = membership.to_text().len();
        if bytes > Notification::CONFIG_BYTES_MAX {
            let most = Notification::CONFIG_BYTES_MAX;
            let why =
                format!("{bytes} bytes in all, and no elector takes more than {most}; write fewer or shorter lines");
            return Err(MembershipError::new("server.", why));
        }
        Ok(membership)
    }

    /// The form that all servers agree on.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, number: i64, value: &str| {
            writeln!(text, "{key}.{number}={value}").expect("a string takes everything");
        };
        for (id, member) in &self.members {
            line("server", id.0, &member.value());
        }
        if let QuorumKind::Hierarchical { groups, weights } = &self.kind {
            for (group, servers) in groups {
                let servers: Vec<String> = servers.iter().map(|server| server.0.to_string()).collect();
                line("group", *group, &servers.join(":"));
            }
            for (server, weight) in weights {
                line("weight", server.0, &weight.to_string());
            }
        }
        text + &format!("version={:x}", self.version)
    }
}

fn is_participant(member: &Member) -> bool {
    member.role == MemberRole::Participant
}

/// The number behind the dot.
fn number_of(key: &str, what: &str) -> Result<i64, MembershipError> {
    let number = key.split_once('.').and_then(|(_, number)| number.parse().ok());
    number.ok_or_else(|| MembershipError::new(key, format!("not the number of a {what}; write {what}.1 and so on")))
}

fn hierarchy(
    members: &BTreeMap<ServerId, Member>,
    group_lines: &[(&str, &str)],
    weight_lines: &[(&str, &str)],
) -> Result<QuorumKind, MembershipError> {
    let votes = |key: &str, id: ServerId| match members.get(&id) {
        Some(member) if is_participant(member) => Ok(()),
        Some(_) => Err(MembershipError::new(key, format!("server {} is an observer; only participants count", id.0))),
        None => Err(MembershipError::new(key, format!("there is no server.{}; write it, or take it out here", id.0))),
    };
    let (mut groups, mut group_of) = (BTreeMap::new(), BTreeMap::new());
    for (key, value) in group_lines {
        let group = number_of(key, "group")?;
        let mut servers = BTreeSet::new();
        for text in value.split(':') {
            let id = text.trim().parse().map(ServerId).map_err(|_| {
                MembershipError::new(
                    *key,
                    format!("{text:?} is not a server id; write them with : between them, as 1:2:3"),
                )
            })?;
            votes(key, id)?;
            if group_of.insert(id, group).is_some() {
                return Err(MembershipError::new(
                    *key,
                    format!("server {} is in a group already; write it in one", id.0),
                ));
            }
            servers.insert(id);
        }
        if groups.insert(group, servers).is_some() {
            return Err(MembershipError::new(*key, format!("group {group} is there twice; write one line for it")));
        }
    }
    let mut weights = BTreeMap::new();
    for (key, value) in weight_lines {
        let id = ServerId(number_of(key, "weight")?);
        votes(key, id)?;
        // Sums have to fit Java's numbers, too.
        let weight = value.parse::<u32>().map(u64::from);
        let why =
            || MembershipError::new(*key, format!("{value:?} is not a weight; write a number from 0 to {}", u32::MAX));
        weights.insert(id, weight.map_err(|_| why())?);
    }
    for (id, _) in members.iter().filter(|(_, member)| is_participant(member)) {
        if !group_of.contains_key(id) {
            let why = "is in no group; write it in one, or take out all group and weight lines";
            return Err(MembershipError::new(format!("server.{}", id.0), why));
        }
        weights.entry(*id).or_insert(1);
    }
    if weights.values().all(|weight| *weight == 0) {
        return Err(MembershipError::new(
            "weight",
            "nobody has any: no quorum could ever be; give one server a weight",
        ));
    }
    Ok(QuorumKind::Hierarchical { groups, weights })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::core::zab::membership::PeerAddress;

    /// Recorded from 3.9.3.
    const RECORDED: &str = "server.1=127.0.0.1:27101:27201:participant;127.0.0.1:27001\n\
                            server.2=127.0.0.1:27102:27202:participant;127.0.0.1:27002\n\
                            server.4=127.0.0.1:27104:27204:observer;127.0.0.1:27004\n\
                            version=100000000";

    #[test]
    fn a_recorded_text_reads_and_writes_as_recorded() {
        let membership = Membership::parse(RECORDED.as_bytes()).unwrap();
        assert_eq!((membership.version, &membership.kind), (0x1_0000_0000, &QuorumKind::Majority));
        assert_eq!(membership.voters().map(|id| id.0).collect::<Vec<_>>(), [1, 2]);
        let fourth = &membership.members[&ServerId(4)];
        assert_eq!((fourth.role, fourth.client.clone()), (MemberRole::Observer, Some(("127.0.0.1".to_owned(), 27004))));
        let address = PeerAddress { host: "127.0.0.1".to_owned(), quorum_port: 27104, election_port: 27204 };
        assert_eq!(fourth.addresses, [address]);
        assert_eq!(membership.to_text(), RECORDED);
    }

    #[test]
    fn what_an_operator_writes_becomes_the_one_form() {
        let written = "# ours\n server.2 : b:2:3:OBSERVER\nserver.1=[::1]:2:3;2181\r\nserver.2=b:2:4\\\n  :observer\n";
        let membership = Membership::parse(written.as_bytes()).unwrap();
        let canonical = "server.1=[::1]:2:3:participant;0.0.0.0:2181\nserver.2=b:2:4:observer\nversion=0";
        assert_eq!(membership.to_text(), canonical);
    }

    #[test]
    fn groups_and_weights() {
        let text = "group.1=1:2\nserver.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nserver.4=d:1:2:observer\n\
                    group.2=3\nweight.2=5\nversion=1a";
        let membership = Membership::parse(text.as_bytes()).unwrap();
        let canonical = "server.1=a:1:2:participant\nserver.2=b:1:2:participant\nserver.3=c:1:2:participant\n\
                         server.4=d:1:2:observer\ngroup.1=1:2\ngroup.2=3\nweight.1=1\nweight.2=5\nweight.3=1\nversion=1a";
        assert_eq!(membership.to_text(), canonical);
        assert_eq!(Membership::parse(canonical.as_bytes()).unwrap(), membership);
        assert_eq!([1, 2, 3, 4].map(|id| membership.weight(ServerId(id))), [1, 5, 1, 0]);
        assert!(membership.has_quorum(|id| id.0 >= 2) && !membership.has_quorum(|id| id.0 != 2));
    }

    #[test]
    fn what_cannot_decide_is_refused_with_key_cause_and_cure() {
        let two = "server.1=a:1:2\nserver.2=b:1:2\n";
        for (text, expected) in [
            ("", "server.: no participant"),
            ("server.1=a:1:2:observer", "server.: no participant"),
            ("server.x=a:1:2", "server.x: \"x\" is not a server id"),
            ("server.1=a:1", "server.1: a:1 does not have the form"),
            ("server.1=a:1:2\nclientPort=2181", "clientPort: does not belong here; write only"),
            ("server.1=a:1:2\nversion=x", "version: \"x\" is not a hexadecimal number"),
            ("server.1=\\u00", "line 1: malformed"),
            ("server.1=\u{e9}:1:2", "line 1: beyond ASCII"),
            ("server.1=a:1:2\ngroup.1=1:2", "group.1: there is no server.2; write it"),
            ("server.1=a:1:2\nserver.2=b:1:2:observer\ngroup.1=1:2", "group.1: server 2 is an observer"),
            ("server.1=a:1:2\ngroup.1=", "group.1: \"\" is not a server id"),
            ("server.1=a:1:2\ngroup=1", "group: not the number of a group; write group.1"),
        ] {
            let error = Membership::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
        for (text, expected) in [
            ("group.1=1", "server.2: is in no group; write it in one"),
            ("group.1=1:2\ngroup.2=2", "group.2: server 2 is in a group already"),
            ("group.1=1\ngroup.01=2", "group.1: group 1 is there twice"),
            ("group.1=1:2\nweight.1=-1", "weight.1: \"-1\" is not a weight; write a number"),
            ("group.1=1:2\nweight.3=1", "weight.3: there is no server.3"),
            ("group.1=1:2\nweight.1=0\nweight.2=0", "weight: nobody has any"),
            ("weight.1=3", "server.1: is in no group"),
        ] {
            let error = Membership::parse(format!("{two}{text}").as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn what_no_notification_has_room_for_is_refused() {
        let line = |id: usize| format!("server.{id}={}:1:2\n", "h".repeat(1000 - 20));
        let text = |lines: usize| (1..=lines).map(line).collect::<String>();
        let longest = Membership::parse(text(520).as_bytes()).unwrap();
        assert!(longest.to_text().len() <= Notification::CONFIG_BYTES_MAX);
        let error = Membership::parse(text(540).as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("server.: ") && error.contains("no elector takes more than 524244"), "{error}");
    }

    fn membership() -> impl Strategy<Value = Membership> {
        let host = "[a-z][a-z0-9.-]{0,8}|[0-9a-f]{0,4}::[0-9a-f]{1,4}";
        let address = (host, 1..=u16::MAX - 1).prop_map(|(host, port)| PeerAddress {
            host,
            quorum_port: port,
            election_port: port + 1,
        });
        let member = (vec(address, 1..3), any::<bool>(), proptest::option::of((host, any::<u16>())));
        let shape = (any::<u64>(), vec((0..3i64, any::<u32>()), 12), any::<bool>());
        (vec(member, 1..12), shape).prop_map(|(list, (version, places, majority))| {
            let mut members = BTreeMap::new();
            for (id, (mut addresses, observes, client)) in (1..).zip(list) {
                let role = if observes && id > 1 { MemberRole::Observer } else { MemberRole::Participant };
                addresses.sort();
                members.insert(ServerId(id), Member { id, addresses, role, client });
            }
            let (mut groups, mut weights) = (BTreeMap::<i64, BTreeSet<ServerId>>::new(), BTreeMap::new());
            for (member, (group, weight)) in members.values().zip(places).filter(|(member, _)| is_participant(member)) {
                groups.entry(group).or_default().insert(ServerId(member.id));
                weights.insert(ServerId(member.id), u64::from(weight) + 1);
            }
            let kind = if majority { QuorumKind::Majority } else { QuorumKind::Hierarchical { groups, weights } };
            Membership { version, members, kind }
        })
    }

    proptest! {
        #[test]
        fn every_configuration_is_read_as_it_was_written(membership in membership()) {
            let text = membership.to_text();
            let read = Membership::parse(text.as_bytes()).unwrap();
            prop_assert!(read.agrees_with(&membership));
            prop_assert_eq!(read, membership);
        }

        /// Whatever a peer says, it is refused or can be told to others.
        #[test]
        fn no_text_is_a_danger(text in "((server|group|weight|version|x)(\\.[0-9a-]{0,2})?[=:][a-c0-9:;|\\[\\]\\\\]{0,12}\\n){0,5}") {
            if let Ok(membership) = Membership::parse(text.as_bytes()) {
                prop_assert_eq!(Membership::parse(membership.to_text().as_bytes()), Ok(membership.clone()), "{}", text);
            }
        }
    }
}
