//! A network of the kernel's own: each member in a network namespace, all of them at one bridge, and we beside it.
//!
//! ```text
//!  member 1: eth0 10.93.0.1 --+
//!  member 2: eth0 10.93.0.2 --+-- bridge, 10.93.0.254: the clients, and whoever asks `srvr`
//!  member 3: eth0 10.93.0.3 --+
//! ```
//!
//! All of it is in namespaces of this process ([`enter`]), and so are the names of the members' namespaces: nothing of it can be
//! seen from outside, nothing outside can be touched from here, and when the last process in it ends, however it ends, the kernel
//! takes it away.
//!
//! What goes wrong needs no packet filter, which not every kernel has. A member is off the network when its port of the bridge is
//! down; one way from a member to another loses everything when the sender believes the other to be where nobody is; it is cut
//! when the sender is told that there is no way. Delay and loss are `netem`'s; where the kernel has none, bandwidth is taken away
//! (`tbf`) or nothing is.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use super::links::{Network, Passage};
use crate::Result;
use crate::process::output_of;
use crate::server::Home;

/// Set in the process that is in namespaces of its own.
const INSIDE: &str = "RINGKEEPER_DRILL_INSIDE";
const BRIDGE: &str = "members";
/// Of a machine that is not there.
const NOBODY: &str = "02:00:00:00:00:01";
const THROTTLED: [&str; 7] = ["tbf", "rate", "4mbit", "burst", "64kb", "latency", "300ms"];

/// Comes back in namespaces of its own; without the right to have them, with the reason.
pub fn enter() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let spaces = ["--net", "--mount"];
    output_of(Command::new("unshare").args(spaces).arg("true"))
        .and_then(|_| output_of(Command::new("ip").arg("-Version")))
        .map_err(|why| format!("--namespaces needs root, and `unshare` and `ip`: {why}"))?;
    // The same process, its signals included.
    let program = std::env::current_exe()?;
    let error =
        Command::new("unshare").args(spaces).arg(program).args(std::env::args_os().skip(1)).env(INSIDE, "1").exec();
    Err(format!("unshare: {error}").into())
}

/// Where members live.
pub fn homes(count: usize) -> Vec<Home> {
    let home = |at: usize| Home { address: address(at), namespace: Some(namespace(at)) };
    (0..count).map(home).collect()
}

fn address(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 93, 0, at as u8 + 1)
}

fn namespace(at: usize) -> String {
    format!("member-{}", at + 1)
}

/// The member's port of the bridge.
fn port(at: usize) -> String {
    format!("port-{}", at + 1)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slowness {
    Netem,
    Throttled,
    None,
}

#[derive(Debug)]
pub struct Namespaces {
    count: usize,
    slowness: Slowness,
    /// What puts right what is wrong now: arguments of `ip`, or with `tc` before them.
    remedies: RefCell<BTreeSet<Vec<String>>>,
}

impl Namespaces {
    /// In namespaces of our own, which are empty.
    pub fn new(count: usize) -> Result<Namespaces> {
        // Names of namespaces are files there, which others need not see, nor we theirs.
        output_of(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]))?;
        ip(&["link", "set", "lo", "up"])?;
        ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        ip(&["address", "add", "10.93.0.254/24", "dev", BRIDGE])?;
        ip(&["link", "set", BRIDGE, "up"])?;
        for at in 0..count {
            let (space, port, address) = (&*namespace(at), &*port(at), &*format!("{}/24", address(at)));
            ip(&["netns", "add", space])?;
            ip(&["link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space])?;
            ip(&["link", "set", port, "master", BRIDGE, "up"])?;
            ip(&["-netns", space, "address", "add", address, "dev", "eth0"])?;
            ip(&["-netns", space, "link", "set", "eth0", "up"])?;
            ip(&["-netns", space, "link", "set", "lo", "up"])?;
        }
        let mut network = Namespaces { count, slowness: Slowness::None, remedies: RefCell::default() };
        for (slowness, discipline) in
            [(Slowness::Throttled, &THROTTLED[..]), (Slowness::Netem, &["netem", "delay", "1ms"])]
        {
            match network.tc(0, "replace", discipline) {
                Ok(()) => network.slowness = slowness,
                Err(why) => println!("slow members: this kernel has no {}: {why}", discipline[0]),
            }
        }
        network.heal()?;
        Ok(network)
    }

    /// The other is where nobody is, or there is no way to it.
    fn lose(&self, from: usize, to: usize, how: Passage) -> Result<()> {
        let (space, to) = (&*namespace(from), &*address(to).to_string());
        let (wrong, remedy): (Vec<&str>, Vec<&str>) = match how {
            Passage::Open => return Ok(()),
            Passage::Held => (
                vec!["neigh", "replace", to, "lladdr", NOBODY, "nud", "permanent", "dev", "eth0"],
                vec!["neigh", "del", to, "dev", "eth0"],
            ),
            Passage::Cut => (vec!["route", "replace", "unreachable", to], vec!["route", "del", "unreachable", to]),
        };
        let inside = ["-netns", space];
        self.change(&[&inside[..], &wrong].concat(), &[&inside[..], &remedy].concat())
    }

    fn change(&self, wrong: &[&str], remedy: &[&str]) -> Result<()> {
        ip(wrong)?;
        self.remedies.borrow_mut().insert(remedy.iter().map(|word| (*word).to_owned()).collect());
        Ok(())
    }

    fn tc(&self, at: usize, action: &str, discipline: &[&str]) -> Result<()> {
        let space = namespace(at);
        let queue = ["-netns", &space, "qdisc", action, "dev", "eth0", "root"];
        output_of(Command::new("tc").args(queue).args(discipline))?;
        let remedy = ["tc", "-netns", &space, "qdisc", "del", "dev", "eth0", "root"].map(str::to_owned);
        self.remedies.borrow_mut().insert(remedy.to_vec());
        Ok(())
    }
}

impl Network for Namespaces {
    fn set(&self, from: usize, to: usize, how: Passage) -> Result<()> {
        self.lose(from, to, how)
    }

    fn unplug(&self, member: usize) -> Result<()> {
        let port = &*port(member);
        self.change(&["link", "set", port, "down"], &["link", "set", port, "up"])
    }

    fn slow(&self, member: usize, by: Duration) -> Result<()> {
        let delay = format!("{}ms", by.as_millis());
        match self.slowness {
            Slowness::Netem => self.tc(member, "replace", &["netem", "delay", &delay, "5ms", "loss", "1%"]),
            Slowness::Throttled => self.tc(member, "replace", &THROTTLED),
            Slowness::None => Ok(()),
        }
    }

    fn heal(&self) -> Result<()> {
        for remedy in std::mem::take(&mut *self.remedies.borrow_mut()) {
            let words: Vec<&str> = remedy.iter().map(String::as_str).collect();
            match words[0] {
                "tc" => output_of(Command::new("tc").args(&words[1..])).map(drop)?,
                _ => ip(&words)?,
            }
        }
        Ok(())
    }

    fn text(&self) -> String {
        let slowness = match self.slowness {
            Slowness::Netem => "slow: delay and loss (netem)",
            Slowness::Throttled => "slow: 4 Mbit/s (tbf), for want of netem in this kernel",
            Slowness::None => "slow: not at all, for want of netem and tbf in this kernel",
        };
        format!("{} network namespaces; {slowness}", self.count)
    }
}

fn ip(words: &[&str]) -> Result<()> {
    output_of(Command::new("ip").args(words)).map(drop)
}
