//! What clients ask for: a few dozen paths, so that clients get into each other's way, and every kind of request.
//!
//! A client remembers what it was last told of a path, so that its conditional writes succeed often and fail often. Every
//! value is written once in a run: who reads it knows which request wrote it.

use std::collections::BTreeMap;
use std::rc::Rc;

use ringkeeper_storage::backend::memory::Chance;

use super::administrator::Reconfigure;
use super::history::{Answered, Mode, Op, Path};
use crate::wire::client::{AddWatchMode, MultiResult, Response, WatcherType};

const TOPS: u64 = 4;
const LEAVES: u64 = 4;
/// Of the nodes with made-up names, how many a client remembers in order to delete them.
const REMEMBERED: usize = 12;

/// One client's wishes.
#[derive(Debug)]
pub struct Workload {
    client: u64,
    hoards: bool,
    /// It changes who of these many servers belongs to the ensemble, and does little else.
    administers: Option<i64>,
    written: u64,
    /// Last version seen of a path.
    versions: BTreeMap<Path, i32>,
    /// Sequential nodes this client made.
    made: Vec<Path>,
}

impl Workload {
    /// `hoards`: it makes ephemerals more than anything else.
    pub fn new(client: usize, hoards: bool, administers: Option<i64>) -> Workload {
        let (versions, made) = (BTreeMap::new(), Vec::new());
        Workload { client: client as u64, hoards, administers, written: 0, versions, made }
    }

    pub fn next(&mut self, chance: &mut Chance) -> Op {
        if let Some(servers) = self.administers
            && chance.below(4) > 0
        {
            return Op::Reconfig(Reconfigure::draw(servers, chance));
        }
        match chance.below(100) {
            0..40 => self.write(chance),
            40..50 => self.multi(chance),
            50..62 => Op::Get { path: self.path(chance), watch: chance.coin() },
            62..70 => Op::Exists { path: self.path(chance), watch: chance.coin() },
            70..82 => Op::Children { path: parent(chance), watch: chance.coin(), stat: chance.coin() },
            82..90 => Op::Sync { path: self.path(chance) },
            90..92 => Op::Ephemerals,
            92..96 => {
                let mode = if chance.coin() { AddWatchMode::Persistent } else { AddWatchMode::PersistentRecursive };
                let path = if chance.coin() { parent(chance) } else { self.path(chance) };
                Op::AddWatch { path, mode }
            }
            96..99 => {
                let kinds = WatcherType::ALL;
                let kind = kinds[chance.below(kinds.len() as u64) as usize];
                let path = if chance.coin() { parent(chance) } else { self.path(chance) };
                Op::RemoveWatches { path, kind }
            }
            _ => Op::Ping,
        }
    }

    /// A write that any working ensemble carries out, and a look at what came of it.
    pub fn last_words(&mut self) -> [Op; 3] {
        let create = Op::Create { path: "/last-".into(), value: self.value(), mode: Mode::Sequential, stat: true };
        [create, Op::Sync { path: "/".into() }, Op::Children { path: "/".into(), watch: false, stat: true }]
    }

    /// What an answer tells about versions and names.
    pub fn learn(&mut self, answered: &Answered) {
        let op = &answered.asked.op;
        if answered.err != 0 || !matches!(op, Op::Create { .. } | Op::Set { .. } | Op::Multi(_) | Op::Get { .. }) {
            return;
        }
        let Ok(response) = answered.response() else { return };
        match (op, response) {
            (Op::Create { mode, .. }, Response::Path(Some(path)) | Response::Create2 { path, .. }) => {
                self.created(&path, *mode);
            }
            (Op::Set { path, .. }, Response::Stat(stat)) | (Op::Get { path, .. }, Response::Data { stat, .. }) => {
                self.versions.insert(path.clone(), stat.version);
            }
            (Op::Multi(ops), Response::Multi(results)) => {
                for (op, result) in ops.iter().zip(&results) {
                    match (op, result) {
                        (Op::Create { mode, .. }, MultiResult::Create { path } | MultiResult::Create2 { path, .. }) => {
                            self.created(path, *mode)
                        }
                        (Op::Set { path, .. }, MultiResult::SetData { stat }) => {
                            self.versions.insert(path.clone(), stat.version);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn created(&mut self, path: &str, mode: Mode) {
        if !mode.is_sequential() {
            self.versions.insert(path.into(), 0);
        } else if self.made.len() < REMEMBERED {
            self.made.push(path.into());
        }
    }

    fn write(&mut self, chance: &mut Chance) -> Op {
        match chance.below(10) {
            0..5 => self.create(chance),
            5..8 => self.set(chance),
            _ => self.delete(chance),
        }
    }

    fn multi(&mut self, chance: &mut Chance) -> Op {
        let count = chance.below(4);
        let item = |workload: &mut Workload, chance: &mut Chance| match chance.below(4) {
            0 => {
                let path = workload.path(chance);
                Op::Check { version: workload.version(&path, chance), path }
            }
            _ => workload.write(chance),
        };
        Op::Multi((0..=count).map(|_| item(self, chance)).collect())
    }

    fn create(&mut self, chance: &mut Chance) -> Op {
        let mode = match chance.below(12) {
            0..8 if self.hoards => Mode::EphemeralSequential,
            0..5 => Mode::Persistent,
            5..8 => Mode::Ephemeral,
            8..10 => Mode::Sequential,
            10 => Mode::EphemeralSequential,
            _ => Mode::Container,
        };
        let path = match mode {
            Mode::Sequential | Mode::EphemeralSequential => {
                let parent = parent(chance);
                if &*parent == "/" { "/s-".into() } else { format!("{parent}/s-").into() }
            }
            _ => self.path(chance),
        };
        Op::Create { path, value: self.value(), mode, stat: chance.coin() }
    }

    fn set(&mut self, chance: &mut Chance) -> Op {
        let path = self.path(chance);
        Op::Set { version: self.version(&path, chance), value: self.value(), path }
    }

    fn delete(&mut self, chance: &mut Chance) -> Op {
        if !self.made.is_empty() && chance.coin() {
            let at = chance.below(self.made.len() as u64) as usize;
            return Op::Delete { path: self.made.swap_remove(at), version: -1 };
        }
        let path = self.path(chance);
        Op::Delete { version: self.version(&path, chance), path }
    }

    /// Any, the one last seen, or one that is likely wrong.
    fn version(&self, path: &Path, chance: &mut Chance) -> i32 {
        match chance.below(4) {
            0 | 1 => -1,
            2 => self.versions.get(path).copied().unwrap_or(0),
            _ => chance.below(4) as i32,
        }
    }

    fn value(&mut self) -> u64 {
        self.written += 1;
        self.client << 40 | self.written
    }

    fn path(&self, chance: &mut Chance) -> Path {
        let top = top(chance);
        match chance.below(8) {
            0..3 => top,
            3..7 => leaf(&top, chance),
            _ => leaf(&leaf(&top, chance), chance),
        }
    }
}

/// A node that may have children.
fn parent(chance: &mut Chance) -> Path {
    match chance.below(6) {
        0 => "/".into(),
        1..5 => top(chance),
        _ => leaf(&top(chance), chance),
    }
}

fn top(chance: &mut Chance) -> Path {
    Rc::from(["/a", "/b", "/c", "/d"][chance.below(TOPS) as usize])
}

fn leaf(parent: &str, chance: &mut Chance) -> Path {
    let name = ["k", "l", "m", "n"][chance.below(LEAVES) as usize];
    format!("{parent}/{name}").into()
}
