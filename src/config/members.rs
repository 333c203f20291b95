//! Server lines, and what they say about the mode (operations 1.3, 1.5).
//!
//! ```text
//! server.ID = SERVER { "|" SERVER } [ ";" CLIENT ]
//! SERVER    = HOST ":" QUORUM_PORT ":" ELECTION_PORT [ ":" ROLE ]
//! CLIENT    = PORT | HOST ":" PORT
//! ```
//!
//! Java: `QuorumPeer.QuorumServer`, `QuorumPeerConfig.parseDynamicConfig`.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Participant,
    Observer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub quorum_port: u16,
    pub election_port: u16,
}

/// One member as its server line describes it. Names are not resolved here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: i64,
    pub addresses: Vec<Address>,
    pub role: Role,
    /// (host, port) of the client part; a bare port binds every address.
    pub client: Option<(String, u16)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Standalone { single_line_ignored: bool },
    Ensemble { participants: usize },
}

pub fn parse_member(key: &str, value: &str, multi_address: bool) -> Result<Member, String> {
    let id = key.trim_start_matches("server.");
    let id = id.parse().map_err(|_| format!("{id:?} is not a server id; write server.1 to server.255"))?;
    let (servers, client) = value.split_once(';').map_or((value, None), |(servers, client)| (servers, Some(client)));
    let parts: Vec<&str> = servers.split('|').collect();
    if parts.len() > 1 && !multi_address {
        return Err("names several addresses; write multiAddress.enabled=true to allow them".to_owned());
    }
    let mut addresses = Vec::new();
    let mut role = None;
    for part in parts {
        let (address, part_role) = parse_address(part.trim()).ok_or_else(|| {
            format!(
                "{part} does not have the form server_config or server_config;client_config; write server_config as \
                 host:port:port or host:port:port:role (several joined by |) and client_config as port or host:port"
            )
        })?;
        if address.quorum_port == address.election_port {
            return Err(format!("{part} has one port for two purposes; write two different ports"));
        }
        if *role.get_or_insert(part_role) != part_role {
            return Err("names two roles; write the same role in every part".to_owned());
        }
        addresses.push(address);
    }
    let client = match client {
        None => None,
        Some(text) => Some(
            parse_client(text.trim())
                .ok_or_else(|| format!("{text} is no client address; write a port or host:port after the semicolon"))?,
        ),
    };
    Ok(Member { id, addresses, role: role.unwrap_or(Role::Participant), client })
}

fn parse_address(text: &str) -> Option<(Address, Role)> {
    let (host, rest) = split_host(text)?;
    let mut rest = rest.split(':');
    let quorum_port = rest.next()?.parse().ok()?;
    let election_port = rest.next()?.parse().ok()?;
    let role = match rest.next() {
        None => Role::Participant,
        Some(word) if word.eq_ignore_ascii_case("participant") => Role::Participant,
        Some(word) if word.eq_ignore_ascii_case("observer") => Role::Observer,
        Some(_) => return None,
    };
    rest.next().is_none().then_some((Address { host, quorum_port, election_port }, role))
}

/// The client part. A third part (3.10: the secure address) is allowed to stand there and is not used.
fn parse_client(text: &str) -> Option<(String, u16)> {
    let plain = text.split(';').next()?;
    match plain.parse() {
        Ok(port) => Some(("0.0.0.0".to_owned(), port)),
        Err(_) => {
            let (host, port) = split_host(plain)?;
            Some((host, port.parse().ok()?))
        }
    }
}

/// Splits `HOST ":" REST`; an IPv6 address stands in brackets.
fn split_host(text: &str) -> Option<(String, &str)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']').and_then(|(host, rest)| Some((host, rest.strip_prefix(':')?)))?,
        None => text.split_once(':')?,
    };
    (!host.is_empty()).then(|| (host.to_owned(), rest))
}

/// Standalone or not, or why the member list fits neither.
pub fn decide_mode(members: &[Member], standalone_enabled: bool) -> Result<Mode, &'static str> {
    let participants = members.iter().filter(|member| member.role == Role::Participant).count();
    let observers = members.len() - participants;
    match (participants, standalone_enabled) {
        (0, false) => {
            Err("no participant while standaloneEnabled=false; write server.N lines, or remove standaloneEnabled")
        }
        (0, true) if observers > 0 => {
            Err("observers without participants is an invalid configuration; write the voting servers too")
        }
        (0, true) => Ok(Mode::Standalone { single_line_ignored: false }),
        (1, true) if observers > 0 => Err(
            "observers without a quorum is an invalid configuration; write at least two participants, or standaloneEnabled=false",
        ),
        (1, true) => Ok(Mode::Standalone { single_line_ignored: true }),
        _ => Ok(Mode::Ensemble { participants }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_lines() {
        let member = parse_member("server.3", "h:2888:3888:OBSERVER;127.0.0.1:2181", false).unwrap();
        assert_eq!((member.id, member.role), (3, Role::Observer));
        assert_eq!(member.client, Some(("127.0.0.1".to_owned(), 2181)));
        let member = parse_member("server.1", "[::1]:2888:3888;2181", false).unwrap();
        assert_eq!(member.addresses[0], Address { host: "::1".to_owned(), quorum_port: 2888, election_port: 3888 });
        assert_eq!(member.client, Some(("0.0.0.0".to_owned(), 2181)));
        assert_eq!(parse_member("server.1", "a:1:2|b:3:4", true).unwrap().addresses.len(), 2);
        for bad in [
            "127.0.0.1:1",
            "a:1:1",
            "a:1:2:leader",
            "a:1:2:observer:x",
            ":1:2",
            "a:1:x",
            "[::1:1:2",
            "a:1:2;x",
            "a:1:2|b:3:4",
            "",
        ] {
            assert!(parse_member("server.1", bad, false).is_err(), "{bad}");
        }
        assert!(parse_member("server.1", "a:1:2|b:3:4:observer", true).is_err());
        assert!(parse_member("server.x", "a:1:2", false).is_err());
    }

    #[test]
    fn modes() {
        let members = |roles: &[Role]| -> Vec<Member> {
            let member =
                |(id, role): (usize, &Role)| Member { id: id as i64, addresses: vec![], role: *role, client: None };
            roles.iter().enumerate().map(member).collect()
        };
        use Role::{Observer as O, Participant as P};
        assert_eq!(decide_mode(&[], true), Ok(Mode::Standalone { single_line_ignored: false }));
        assert_eq!(decide_mode(&members(&[P]), true), Ok(Mode::Standalone { single_line_ignored: true }));
        assert_eq!(decide_mode(&members(&[P]), false), Ok(Mode::Ensemble { participants: 1 }));
        assert_eq!(decide_mode(&members(&[P, P, O]), true), Ok(Mode::Ensemble { participants: 2 }));
        for (roles, standalone) in [(&[][..], false), (&[O][..], true), (&[O][..], false), (&[P, O][..], true)] {
            assert!(decide_mode(&members(roles), standalone).is_err(), "{roles:?} {standalone}");
        }
    }
}
