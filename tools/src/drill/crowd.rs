//! All clients of a run: they load while something happens, and then it is checked that all is well.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::clients::{self, Ground, Rival, Visitors, Writer};
use crate::Result;
use crate::load::random::Random;
use crate::mixed::{Tree, no_mismatch, same, walk};
use crate::server::{Kind, Setup};

const WRITERS: usize = 3;
/// So many that they are not all at one server: how soon writes are answered again is measured with them.
const RIVALS: usize = 5;
/// `syncLimit` of the members, and two ticks for what is on its way.
const UNHEARD_TICKS: u32 = 5 + 2;
/// For failures, not for figures.
const SETTLE_BOUND: Duration = Duration::from_secs(30);

pub struct Crowd {
    pub ground: Ground,
    writers: Vec<Writer>,
    rivals: Vec<Rival>,
    visitors: Visitors,
    /// Versions of registers that had exactly one writer.
    versions: usize,
    compared: usize,
    checks: u32,
}

impl Crowd {
    /// The members serve, and have nothing yet. `session_ms`: the timeout of those whose sessions are to go on.
    pub fn new(members: &[Setup], session_ms: i32, random: &mut Random) -> Result<Crowd> {
        let tick_ms = members.first().map_or(0, |member| member.tick_ms);
        let addresses = members.iter().map(Setup::address).collect();
        let unheard = Duration::from_millis(u64::from(UNHEARD_TICKS * tick_ms));
        let ground = Ground::new(addresses, session_ms, unheard);
        let writers: Vec<_> = (0..WRITERS).map(|number| Writer::new(number, random)).collect();
        let rivals: Vec<_> = (0..RIVALS).map(|number| Rival::new(number, random)).collect();
        let homes = writers.iter().map(Writer::home).chain(rivals.iter().map(Rival::home));
        clients::prepare(&ground, homes.map(str::to_owned))?;
        let visitors = Visitors::new(random);
        Ok(Crowd { ground, writers, rivals, visitors, versions: 0, compared: 0, checks: 0 })
    }

    /// Everybody is at work while it happens. What clients found broken comes before what else went wrong.
    pub fn at_work<T>(&mut self, happens: impl FnOnce(&Ground) -> Result<T>) -> Result<T> {
        let Crowd { ground, writers, rivals, visitors, .. } = self;
        let ground = &*ground;
        ground.course.is_over.store(false, Ordering::SeqCst);
        let outcome = std::thread::scope(|scope| {
            for writer in writers {
                scope.spawn(|| ground.note("a writer", writer.run(ground)));
            }
            for rival in rivals {
                scope.spawn(|| ground.note("a rival", rival.run(ground)));
            }
            scope.spawn(|| ground.note("a visitor", visitors.run(ground)));
            let outcome = happens(ground);
            ground.course.is_over.store(true, Ordering::SeqCst);
            outcome
        });
        match ground.broken() {
            Some(broken) => Err(broken.into()),
            None => outcome,
        }
    }

    /// Everybody finds out what became of what was not answered, and all members have the same tree. They have been well since
    /// `healed`. `is_snap` of a Java leader to a Java learner: that leader's tree goes on changing while it is sent, and the
    /// learner counts digests that do not match until it has caught up; what it has in the end is right.
    pub fn check(&mut self, members: &[Setup], healed: Instant, is_snap: bool) -> Result<()> {
        let Crowd { ground, writers, rivals, visitors, .. } = self;
        let deadline = Instant::now() + SETTLE_BOUND;
        let mut settle = || {
            rivals.iter_mut().try_for_each(|rival| rival.finish(ground, deadline))?;
            writers.iter_mut().try_for_each(|writer| writer.finish(ground, deadline))
        };
        settle()?;
        let mut checker = clients::checker(ground)?;
        // That takes a while, in which the others' sessions must not end.
        visitors.finish(ground, &mut checker, healed, &mut settle)?;
        self.versions += clients::settle(ground, &mut checker)?;
        rivals.iter_mut().for_each(Rival::forget_names);
        drop(checker);
        // Last, and again if looking at everything took so long that sessions may have ended on the way.
        let trees = loop {
            let begin = Instant::now();
            let deadline = begin + SETTLE_BOUND;
            rivals.iter_mut().try_for_each(|rival| rival.finish(ground, deadline))?;
            writers.iter_mut().try_for_each(|writer| writer.finish(ground, deadline))?;
            let trees = members.iter().map(tree).collect::<Result<Vec<_>>>()?;
            if begin.elapsed() < clients::UNTOUCHED {
                break trees;
            }
        };
        for (at, found) in trees.iter().enumerate() {
            same(&trees[0], found).map_err(|what| format!("servers 1 and {}: {what}", at + 1))?;
            self.compared += found.len();
        }
        for member in members {
            if !is_snap || matches!(member.kind, Kind::Ringkeeper { .. }) {
                no_mismatch(member)?;
            }
        }
        self.checks += 1;
        Ok(())
    }

    pub fn answers(&self) -> u64 {
        self.ground.answers.load(Ordering::SeqCst)
    }

    /// Sessions of the load that ended because nobody heard of them.
    pub fn expiries(&self) -> u64 {
        self.ground.expiries.load(Ordering::SeqCst)
    }

    /// For people.
    pub fn text(&self) -> String {
        let Crowd { versions, compared, checks, .. } = self;
        let survived: usize = self.writers.iter().map(|writer| writer.survived).sum();
        let (answers, expiries) = (self.answers(), self.expiries());
        let [visits, refusals] = [&self.ground.visits, &self.ground.refusals].map(|count| count.load(Ordering::SeqCst));
        format!(
            "{answers} answers checked; {versions} versions with one writer each; {survived} unanswered writes survived; \
             {refusals} refused for want of room; \
             {expiries} sessions of the load ran out, {visits} visits; {compared} nodes compared in {checks} checks"
        )
    }
}

fn tree(member: &Setup) -> Result<Tree> {
    let mut found = walk(member.address()).map_err(|why| format!("{}: {why}", member.address()))?;
    found.retain(|path, _| path.starts_with(clients::ROOT)); // others may be at work beside us
    Ok(found)
}
