//! Sessions beside the load whose end is the question: one that closes, and one that never comes back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringkeeper_tools::Result;
use ringkeeper_tools::wire::{Client, Opened, Request, Ticket, code};

/// The shortest timeout that the server's tick allows.
const MAYFLY_TIMEOUT: Duration = Duration::from_millis(400);
/// The longest: it is to end by being closed.
const LEAVER_TIMEOUT: Duration = Duration::from_secs(4);
/// For a mayfly to be there, on a machine so busy that some have run out on their way.
const ARRIVAL_PATIENCE: Duration = Duration::from_secs(20);
/// A session's end is noticed at a tick; the rest is for a busy machine.
const EXPIRY_SLACK: Duration = Duration::from_millis(1000);

/// What the visitors of one round left behind.
#[derive(Debug)]
pub struct Visitors {
    /// Closed, and the close was answered: its ephemeral is gone and its session cannot be had again.
    leaver: Ticket,
    leaver_path: String,
    /// Alive when the server was ended: its ephemeral is there until its timeout has passed, and then it is not.
    mayfly: Ticket,
    mayfly_path: String,
    mayfly_came: Instant,
    /// Servers were up for so long that it may have run out before the last one was started.
    may_be_over: bool,
}

impl Visitors {
    /// Comes and goes, `number` tells rounds apart.
    pub fn visit(address: SocketAddr, number: u32) -> Result<Visitors> {
        let leaver_path = format!("/crash/leaver-{number}");
        let mut leaver = arrive(address, &leaver_path, LEAVER_TIMEOUT)?;
        leaver.ask(&Request::CloseSession)?;
        let deadline = Instant::now() + ARRIVAL_PATIENCE;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (mayfly_path, mayfly_came) = (format!("/crash/mayfly-{number}-{attempt}"), Instant::now());
            match arrive(address, &mayfly_path, MAYFLY_TIMEOUT) {
                Err(_) if mayfly_came.elapsed() >= MAYFLY_TIMEOUT && Instant::now() < deadline => {}
                Err(why) => return Err(why),
                Ok(mayfly) => {
                    let (leaver, mayfly) = (leaver.ticket, mayfly.ticket);
                    return Ok(Visitors { leaver, leaver_path, mayfly, mayfly_path, mayfly_came, may_be_over: false });
                }
            }
        }
    }

    /// A server was up since then or since the mayfly came, whichever was later, and is not any more.
    pub fn note_end(&mut self, launched: Instant) {
        self.may_be_over |= launched.max(self.mayfly_came).elapsed() >= MAYFLY_TIMEOUT;
    }

    /// Right after the restart. `launched` is when the new server process was started: no session can have run out
    /// before its timeout has passed since then.
    pub fn check_restart(&self, client: &mut Client, address: SocketAddr, launched: Instant) -> Result<()> {
        if is_there(client, &self.leaver_path)? {
            return Err(format!("{} outlived its closed session", self.leaver_path).into());
        }
        if let Opened::Session(_) = Client::open(address, 1000, Some(self.leaver), 0)? {
            return Err("a session whose close was answered was given out again".into());
        }
        let mayfly_is_there = is_there(client, &self.mayfly_path)?;
        if !mayfly_is_there && !self.may_be_over && launched.elapsed() < MAYFLY_TIMEOUT {
            return Err(format!("{} went before its session's timeout", self.mayfly_path).into());
        }
        Ok(())
    }

    /// When the mayfly must be gone, for a server that was ready at `ready`.
    pub fn all_gone_at(ready: Instant) -> Instant {
        ready + MAYFLY_TIMEOUT + EXPIRY_SLACK
    }

    pub fn check_all_gone(&self, client: &mut Client, address: SocketAddr) -> Result<()> {
        if is_there(client, &self.mayfly_path)? {
            return Err(format!("{} outlived its session's timeout", self.mayfly_path).into());
        }
        match Client::open(address, 1000, Some(self.mayfly), 0)? {
            Opened::Expired => Ok(()),
            Opened::Session(_) => Err("an expired session was given out again".into()),
        }
    }
}

fn arrive(address: SocketAddr, path: &str, timeout: Duration) -> Result<Client> {
    let timeout_ms = timeout.as_millis() as i32;
    let Opened::Session(mut client) = Client::open(address, timeout_ms, None, 0)? else {
        return Err("a new session was refused".into());
    };
    if client.timeout_ms != timeout_ms {
        return Err(format!("asked for a timeout of {timeout_ms} ms, got {}", client.timeout_ms).into());
    }
    client.ask(&Request::Create { path: path.to_owned(), data: Vec::new(), ephemeral: true })?;
    Ok(client)
}

fn is_there(client: &mut Client, path: &str) -> Result<bool> {
    match client.call(&Request::Exists { path: path.to_owned() })?.code {
        code::OK => Ok(true),
        code::NO_NODE => Ok(false),
        other => Err(format!("exists {path} got {other}").into()),
    }
}
