//! Server lines, as configuration files and the configurations that peers tell each other have them.
//!
//! ```text
//! server.ID = SERVER { "|" SERVER } [ ";" CLIENT [ ";" SECURE ] ]
//! SERVER    = HOST ":" QUORUM_PORT ":" ELECTION_PORT [ ":" ROLE ]
//! CLIENT    = PORT | HOST ":" PORT
//! ```
//!
//! What newer servers write behind the client part is allowed to stand there and is not used. Java: `QuorumPeer.QuorumServer`.
//! Spec: quorum-protocol 2.1, operations 1.3.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Participant,
    Observer,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

impl Member {
    /// What stands behind the `=`, in the one form that all servers agree on.
    pub fn value(&self) -> String {
        let mut addresses: Vec<_> = self.addresses.iter().collect();
        addresses.sort();
        let addresses: Vec<String> = addresses.into_iter().map(Address::to_string).collect();
        let role = match self.role {
            Role::Participant => "participant",
            Role::Observer => "observer",
        };
        match &self.client {
            Some((host, port)) => format!("{}:{role};{}:{port}", addresses.join("|"), Bracketed(host)),
            None => format!("{}:{role}", addresses.join("|")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", Bracketed(&self.host), self.quorum_port, self.election_port)
    }
}

/// A host before a port: an IPv6 address in brackets.
struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
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
        // One part may say it for all.
        if part_role.is_some_and(|part_role| *role.get_or_insert(part_role) != part_role) {
            return Err("names two roles; write the same role in every part".to_owned());
        }
        addresses.push(address);
    }
    let client = match client {
        // Only the secure address is there.
        Some(text) if text.trim_start().starts_with(';') => None,
        None => None,
        Some(text) => Some(
            parse_client(text.trim())
                .ok_or_else(|| format!("{text} is no client address; write a port or host:port after the semicolon"))?,
        ),
    };
    Ok(Member { id, addresses, role: role.unwrap_or(Role::Participant), client })
}

fn parse_address(text: &str) -> Option<(Address, Option<Role>)> {
    let (host, rest) = split_host(text)?;
    let mut rest = rest.split(':');
    let quorum_port = rest.next()?.parse().ok()?;
    let election_port = rest.next()?.parse().ok()?;
    let role = match rest.next() {
        None => None,
        Some(word) if word.eq_ignore_ascii_case("participant") => Some(Role::Participant),
        Some(word) if word.eq_ignore_ascii_case("observer") => Some(Role::Observer),
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
    // A properties file takes backslashes and white space away each time it is read, and would take these for something else.
    let is_strange = |char: char| char.is_control() || char.is_whitespace() || "[]\\=#!".contains(char);
    let is_host = !host.is_empty() && !host.contains(is_strange);
    is_host.then(|| (host.to_owned(), rest))
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
            "[]:1:2",
            "[[a]:1:2",
            "a\\b:1:2",
            "a:1:2;b\\:3",
            "[\u{17}]:1:2",
            "[ a]:1:2",
            "[=a]:1:2",
            "a:1:2;x",
            "a:1:2|b:3:4",
            "",
        ] {
            assert!(parse_member("server.1", bad, false).is_err(), "{bad}");
        }
        assert!(parse_member("server.1", "a:1:2:participant|b:3:4:observer", true).is_err());
        assert_eq!(parse_member("server.1", "a:1:2|b:3:4:observer", true).unwrap().role, Role::Observer);
        assert!(parse_member("server.x", "a:1:2", false).is_err());
    }

    #[test]
    fn a_member_is_written_in_one_form() {
        for (value, canonical) in [
            ("h:1:2", "h:1:2:participant"),
            (" h:1:2:OBSERVER ; 2181", "h:1:2:observer;0.0.0.0:2181"),
            ("[::1]:1:2;[fe80::2]:2181", "[::1]:1:2:participant;[fe80::2]:2181"),
            ("b:3:4:participant|a:1:2:participant;c:5", "a:1:2|b:3:4:participant;c:5"),
            ("h:1:2:participant;c:5;d:6", "h:1:2:participant;c:5"),
            ("h:1:2:participant;;d:6", "h:1:2:participant"),
        ] {
            let member = parse_member("server.1", value, true).unwrap();
            assert_eq!(member.value(), canonical, "{value}");
            assert_eq!(parse_member("server.1", canonical, true).unwrap().value(), canonical);
        }
    }
}
