//! Servers that belong together: each is a [`Launch`] like any other, with the lines that make it a member.
//!
//!   member at   0        1          2          `myid` counts from 1
//!   clients     port     port + 1   port + 2
//!   learners    ten above that, electors twenty
//!
//! One member is no ensemble: it is the server that its launch describes, standalone. Members are stopped, killed and started
//! again one by one; who is down is the caller's business.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::client::{Client, server_mode};
use crate::server::{Launch, Server};
use crate::{BenchError, Doing, Result, Target, wire};

/// Client ports of a member and the next one's learners must not meet.
pub const MEMBERS_MAX: usize = 9;
const LEARNERS: u16 = 10;
const ELECTORS: u16 = 20;
/// Ports that an ensemble may take from its first one on.
pub const PORTS: u16 = 30;

/// As most people have them.
const LIMITS: [&str; 2] = ["initLimit=10", "syncLimit=5"];

const POLL_EVERY: Duration = Duration::from_millis(20);

pub struct Ensemble {
    launches: Vec<Launch>,
    /// None: it is down.
    servers: Vec<Option<Server>>,
}

impl Ensemble {
    /// Starts them all, each in its own directory below that of `pattern`.
    pub fn start(pattern: &Launch, members: usize) -> Result<Ensemble> {
        let launches = launches(pattern, members)?;
        let servers = launches.iter().map(|launch| launch.start().map(Some)).collect::<Result<_>>()?;
        Ok(Ensemble { launches, servers })
    }

    pub fn name(&self) -> &str {
        &self.launches[0].name
    }

    pub fn address(&self, member: usize) -> SocketAddr {
        self.launches[member].address()
    }

    pub fn members(&self) -> std::ops::Range<usize> {
        0..self.launches.len()
    }

    fn up(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().flatten()
    }

    /// Until everybody who is up grants sessions, and one of them leads.
    pub fn wait_until_serving(&self, limit: Duration) -> Result<()> {
        self.up().try_for_each(|server| server.wait_until_serving(limit))?;
        if self.launches.len() == 1 { Ok(()) } else { self.wait_for_leader(limit).map(drop) }
    }

    pub fn wait_for_leader(&self, limit: Duration) -> Result<usize> {
        let start = Instant::now();
        loop {
            if let Some(leader) = self.leader() {
                return Ok(leader);
            }
            if start.elapsed() > limit {
                return Err(BenchError::new(format!("{}: nobody says that it leads within {limit:?}", self.name())));
            }
            std::thread::sleep(POLL_EVERY);
        }
    }

    fn leader(&self) -> Option<usize> {
        self.members()
            .filter(|member| self.servers[*member].is_some())
            .find(|member| server_mode(self.address(*member)).as_deref() == Some("leader"))
    }

    /// What loads are aimed at. The leader comes last: the first session of a load, which may be the only one, is a follower's.
    pub fn target(&self) -> Target {
        let leader = self.leader().map(|leader| self.address(leader));
        let mut servers: Vec<&Server> = self.up().collect();
        servers.sort_by_key(|server| Some(server.address()) == leader);
        Server::target_of(&servers)
    }

    /// A member that was taken, on what it left.
    pub fn start_again(&mut self, member: usize) -> Result<&Server> {
        assert!(self.servers[member].is_none(), "member {member} is up");
        Ok(self.servers[member].insert(self.launches[member].start()?))
    }

    /// All of them, on what they left.
    pub fn restart(&mut self) -> Result<()> {
        self.up().try_for_each(Server::ask_to_stop)?;
        for (launch, server) in self.launches.iter().zip(&mut self.servers) {
            server.take().map_or(Ok(()), Server::stop)?;
            *server = Some(launch.start()?);
        }
        Ok(())
    }

    /// A member, to be ended.
    pub fn take(&mut self, member: usize) -> Server {
        self.servers[member].take().expect("only members that are up are ended")
    }

    /// What a member that is down has stored.
    pub fn wipe(&self, member: usize) -> Result<()> {
        let data = self.launches[member].data();
        fs::remove_dir_all(&data).doing(data.display())
    }

    /// Makes sure that this znode is there.
    pub fn put(&self, path: &str) -> Result<()> {
        let address = self.up().next().map(Server::address);
        let mut client = Client::connect(address.ok_or_else(|| BenchError::new("nobody is up"))?)?;
        client.call_all([wire::create(path, b"", wire::FLAG_PERSISTENT)], wire::ERR_NODE_EXISTS)?;
        client.close()
    }

    /// Ends all of them, in order.
    pub fn stop(self) -> Result<()> {
        self.up().try_for_each(Server::ask_to_stop)?;
        self.servers.into_iter().flatten().try_for_each(Server::stop)
    }
}

fn launches(pattern: &Launch, members: usize) -> Result<Vec<Launch>> {
    match members {
        1 => return Ok(vec![pattern.clone()]),
        0 | MEMBERS_MAX.. => return Err(BenchError::new(format!("{members} members? 1 to {}", MEMBERS_MAX - 1))),
        _ => {}
    }
    let port = |member: usize| pattern.port + member as u16;
    let line = |member: usize| {
        format!("server.{}=127.0.0.1:{}:{}", member + 1, port(member) + LEARNERS, port(member) + ELECTORS)
    };
    let common: Vec<String> = LIMITS.map(str::to_owned).into_iter().chain((0..members).map(line)).collect();
    let launch = |member: usize| Launch {
        port: port(member),
        dir: pattern.dir.join(format!("server-{}", member + 1)),
        settings: [&pattern.settings[..], &common].concat(),
        my_id: Some(member + 1),
        ..pattern.clone()
    };
    Ok((0..members).map(launch).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_know_each_other_and_share_no_port_and_no_directory() {
        let pattern = Launch {
            name: "x".into(),
            command: "y".into(),
            port: 100,
            dir: "/z".into(),
            cpus: vec![1],
            settings: vec!["own=1".into()],
            my_id: None,
        };
        let alone = launches(&pattern, 1).unwrap();
        assert_eq!((alone.len(), alone[0].my_id, alone[0].settings.len()), (1, None, 1));
        let three = launches(&pattern, 3).unwrap();
        assert_eq!(three.iter().map(|launch| launch.port).collect::<Vec<_>>(), [100, 101, 102]);
        assert_eq!(three[2].dir, std::path::Path::new("/z/server-3"));
        for launch in &three {
            assert!(launch.settings.ends_with(&["server.3=127.0.0.1:112:122".to_owned()]), "{:?}", launch.settings);
            assert_eq!(launch.settings[0], "own=1");
        }
        assert!(launches(&pattern, 0).is_err() && launches(&pattern, MEMBERS_MAX).is_err());
    }
}
