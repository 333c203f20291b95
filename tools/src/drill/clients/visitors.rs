//! Sessions whose end is the question: one that closes, and one that never comes back.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Ground, PATIENCE, RETRY_PAUSE, VISITORS, only_broken};
use crate::Result;
use crate::load::actor::Broken;
use crate::load::random::Random;
use crate::wire::{Client, Opened, Request, Ticket, code};

const SESSION_MS: i32 = 4_000;
const INTERVAL: Duration = Duration::from_millis(300);
/// A dead session is noticed at a tick of a leader that may have just begun; the rest is for a busy machine.
const EXPIRY_SLACK: Duration = Duration::from_secs(10);

/// Sessions that never came back: when each was last heard, its node, and the ticket of those whose node was there for certain.
pub struct Visitors {
    random: Random,
    number: u64,
    gone: BTreeMap<String, (Instant, Option<Ticket>)>,
}

impl Visitors {
    pub fn new(random: &mut Random) -> Visitors {
        Visitors { random: random.fork(), number: 0, gone: BTreeMap::new() }
    }

    pub fn run(&mut self, ground: &Ground) -> Result<()> {
        while !ground.is_over() {
            only_broken(self.visit(ground))?;
            std::thread::sleep(INTERVAL);
        }
        Ok(())
    }

    fn open(&mut self, ground: &Ground, timeout_ms: i32, ticket: Option<Ticket>, zxid: i64) -> io::Result<Opened> {
        let at = self.random.below(ground.addresses.len() as u64) as usize;
        Client::open_within(PATIENCE, ground.addresses[at], timeout_ms, ticket, zxid)
    }

    fn visit(&mut self, ground: &Ground) -> Result<()> {
        self.number += 1;
        let path = format!("{VISITORS}/v-{}", self.number);
        let begin = Instant::now();
        let Opened::Session(mut client) = self.open(ground, SESSION_MS, None, 0)? else { return Ok(()) };
        let ticket = client.ticket;
        // Before it is asked for: the answer may be what gets lost.
        self.gone.insert(path.clone(), (begin, None));
        let create = Request::Create { path: path.clone(), data: Vec::new(), ephemeral: true };
        if client.call(&create)?.code != code::OK {
            return Ok(());
        }
        let heard = Instant::now();
        let is_closed = self.random.one_in(2);
        let mut zxid = 0;
        if is_closed {
            let closed = client.call(&Request::CloseSession)?;
            if closed.code != code::OK {
                return Ok(());
            }
            zxid = closed.zxid;
        }
        drop(client);
        self.gone.insert(path.clone(), (heard, Some(ticket)));
        let Opened::Session(mut witness) = self.open(ground, SESSION_MS, None, zxid)? else { return Ok(()) };
        // Not an old state's word, but an answer behind a write.
        let barrier = witness.call(&Request::Set { path: VISITORS.to_owned(), data: Vec::new(), version: -1 })?;
        let there = witness.call(&Request::Exists { path: path.clone() })?.code;
        // The session began after that, and nobody who leads may let it go before its whole time has passed.
        let age = begin.elapsed();
        match (is_closed, there) {
            _ if barrier.code != code::OK => return Ok(()),
            (true, code::OK) => return Err(Broken(format!("{path} outlived its closed session")).into()),
            (false, code::NO_NODE) if age < Duration::from_millis(SESSION_MS as u64) => {
                return Err(Broken(format!("{path} went {age:?} after its session was asked for")).into());
            }
            _ => {}
        }
        witness.call(&Request::CloseSession)?;
        if is_closed && let Opened::Session(_) = self.open(ground, SESSION_MS, Some(ticket), zxid)? {
            return Err(Broken(format!("session {:#x} was closed, and given out again", ticket.id)).into());
        }
        ground.visits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until none can be there any more, in an ensemble that has been well since `healed`; meanwhile there is this to do.
    pub fn finish(
        &mut self,
        ground: &Ground,
        checker: &mut Client,
        healed: Instant,
        meanwhile: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let last = self.gone.values().map(|(heard, _)| *heard).max().map_or(healed, |heard| heard.max(healed));
        let deadline = last + Duration::from_millis(SESSION_MS as u64) + EXPIRY_SLACK;
        loop {
            checker.ask(&Request::Sync { path: VISITORS.to_owned() })?;
            let there = checker.ask(&Request::Children { path: VISITORS.to_owned() })?.children()?;
            if there.is_empty() {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("{there:?} outlived their sessions").into());
            }
            meanwhile()?;
            std::thread::sleep(RETRY_PAUSE);
        }
        for (path, (_, ticket)) in std::mem::take(&mut self.gone) {
            // That a node is not there says nothing of a session that may never have had one.
            if ticket.is_some()
                && let Opened::Session(_) = self.open(ground, SESSION_MS, ticket, 0)?
            {
                return Err(format!("the session of {path} has ended, and was given out again").into());
            }
        }
        Ok(())
    }
}
