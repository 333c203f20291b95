//! A session with many requests in flight below a node of its own, wherever it is let in.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Ground, ROOT, Roamer, only_broken};
use crate::Result;
use crate::load::actor::Actor;
use crate::load::random::Random;
use crate::wire::{Client, Request, code};

pub struct Writer {
    roamer: Roamer,
    actor: Actor,
    pub survived: usize,
}

impl Writer {
    pub fn new(number: usize, random: &mut Random) -> Writer {
        let home = format!("{ROOT}/writer-{number}");
        let roamer = Roamer::new(home.clone(), random.fork());
        Writer { roamer, actor: Actor::new(home, random.fork()), survived: 0 }
    }

    pub fn home(&self) -> &str {
        self.actor.home()
    }

    pub fn run(&mut self, ground: &Ground) -> Result<()> {
        while let Some(mut client) = self.roamer.connect(ground, None)? {
            match self.settle(ground, &mut client) {
                Ok(()) => self.load(ground, client)?,
                Err(why) => only_broken(Err(why))?,
            }
        }
        Ok(())
    }

    fn load(&mut self, ground: &Ground, client: Client) -> Result<()> {
        let (answers, refusals) = (self.actor.answers, self.actor.refusals);
        self.actor.zxid_max = self.roamer.zxid_max;
        self.actor.heard = self.roamer.heard;
        let outcome = self.actor.load(client, &ground.course);
        self.roamer.zxid_max = self.actor.zxid_max;
        self.roamer.heard = self.actor.heard;
        ground.answers.fetch_add(self.actor.answers - answers, Ordering::Relaxed);
        ground.refusals.fetch_add(self.actor.refusals - refusals, Ordering::Relaxed);
        outcome
    }

    /// Everything sent is done, or never will be; and what is there shows which.
    fn settle(&mut self, ground: &Ground, client: &mut Client) -> Result<()> {
        self.actor.ticket = self.roamer.ticket;
        let barrier = Request::Set { path: self.home().to_owned(), data: Vec::new(), version: -1 };
        let reply = self.roamer.call(client, &barrier, &mut Vec::new())?;
        if reply.code != code::OK {
            return Err(format!("{barrier:?} got {}", reply.code).into());
        }
        self.actor.look_out(&ground.course);
        self.survived += self.actor.check_after(client, self.roamer.has_expired)?;
        self.roamer.has_expired = false;
        Ok(())
    }

    /// When all is well: nothing is left open.
    pub fn finish(&mut self, ground: &Ground, deadline: Instant) -> Result<()> {
        loop {
            let Some(mut client) = self.roamer.connect(ground, Some(deadline))? else { return Ok(()) };
            match self.settle(ground, &mut client) {
                Ok(()) => return Ok(()),
                Err(why) => only_broken(Err(why))?,
            }
        }
    }
}
