//! What to do next: seeded, and a little informed by what the reference answered, so that versions are often right and
//! names with a number in them are used again.
//!
//! Steers clear of the intended differences of docs/COMPATIBILITY.md: no TTL request that kills the reference (D-003),
//! none of the servers' own requests (D-004), no container with other flags (D-005), no wrong password for a session
//! with a connection (D-001), no characters beyond U+FFFF where they are echoed (D-014). Quotas: `quotas.rs`. Version counters do not
//! get near their end (D-006).

mod quotas;

use std::collections::{BTreeMap, VecDeque};

use super::ask::{Acl, Ask, Body, Bytes, opcode, readable, readable_acl};
use super::side::{Handshake, Step};
use super::together::own_top;
use super::words::WORDS;
use crate::load::random::Random;

const KNOWN_PATHS_MAX: usize = 60;
const BURST_MAX: u64 = 40;

/// What a seed's servers want of those who ask.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Hard quotas refuse writes by what has been applied when they are looked at: so there is one write at a time.
    pub enforces_quotas: bool,
    /// A longer frame ends the connection at once: how many answers get out before is chance, so it is sent alone.
    pub frame_bytes_max: usize,
    /// The reference is an ensemble, which a malformed write stops for ever (D-002).
    pub spares_ensembles: bool,
    /// The reference does part of a multi that cannot be read to its end, if the session is a local one (D-086).
    pub has_sound_multis: bool,
    /// The sessions are local ones that may own nothing: who wants to is refused without a transaction here (D-090).
    pub has_no_ephemerals: bool,
    /// Handshakes are followed by a closeSession that is refused: such a session ends when the clock says so.
    pub has_no_handshakes: bool,
}

#[cfg(test)]
impl Default for Habits {
    fn default() -> Habits {
        Habits {
            enforces_quotas: false,
            frame_bytes_max: 1000,
            spares_ensembles: false,
            has_sound_multis: false,
            has_no_ephemerals: false,
            has_no_handshakes: false,
        }
    }
}

pub struct Generator {
    chance: Random,
    slot_count: usize,
    next_xid: i32,
    /// Version and ACL version as the reference last showed them.
    known: BTreeMap<String, (i32, i32)>,
    last_zxid: i64,
    /// Nodes that the sweep at the end has yet to look at.
    sweep: VecDeque<String>,
    habits: Habits,
    /// Steps that follow the last one.
    next: VecDeque<Step>,
    /// While requests are for several sessions at the same moment: the only subtree that this one may look at.
    own: Option<String>,
    /// From the last zxid before such a step to the last one of it: who got which differs.
    unordered: Vec<(i64, i64)>,
}

impl Generator {
    pub fn new(seed: u64, slot_count: usize, habits: Habits) -> Generator {
        Generator {
            chance: Random::new(seed),
            slot_count,
            next_xid: 0,
            known: BTreeMap::new(),
            last_zxid: 0,
            sweep: VecDeque::new(),
            habits,
            next: VecDeque::new(),
            own: None,
            unordered: Vec::new(),
        }
    }

    /// One more step.
    pub fn step(&mut self) -> Step {
        if let Some(next) = self.next.pop_front() {
            return next;
        }
        let slot = self.chance.below(self.slot_count as u64) as usize;
        match self.chance.below(200) {
            0..=2 => Step::Drop { slot },
            3 | 4 => Step::TakeOver { slot },
            5 => Step::WrongPassword { slot },
            6 | 7 if !self.habits.has_no_handshakes => Step::Handshake(self.handshake()),
            8..=67 => {
                let count = 2 + self.chance.below(BURST_MAX);
                // As clients do who come back: identities, then everything else.
                let auth = (self.chance.below(3) == 0).then(|| self.good_auth());
                let mut burst: Vec<Ask> = (0..count).map(|_| self.ask(slot)).collect();
                burst.retain(|ask| !ask.is_answered_at_once() && self.fits(ask));
                // Hard quotas look at what has been applied: how much of what is in front of a write that is, is a race.
                let mut writes = 0;
                burst.retain(|ask| {
                    writes += usize::from(ask.changes_usage());
                    !self.habits.enforces_quotas || !ask.changes_usage() || writes == 1
                });
                // What is sent behind a closeSession may or may not be looked at (D-020), and what is sent behind a setACL
                // may or may not be judged by it (D-017).
                let is_last = |ask: &Ask| matches!(ask.opcode, opcode::CLOSE_SESSION | opcode::SET_ACL);
                if let Some(end) = burst.iter().position(is_last) {
                    burst.truncate(end + 1);
                }
                burst.splice(0..0, auth);
                if burst.is_empty() { self.step() } else { Step::Ask { slot, burst } }
            }
            68..=71 if !self.habits.enforces_quotas => self.together(),
            72 | 73 => Step::Word(self.chance.pick(&WORDS)),
            74 if self.chance.below(16) == 0 && !self.habits.has_no_handshakes => self.expire(),
            _ => Step::Ask { slot, burst: vec![self.ask(slot)] },
        }
    }

    fn fits(&self, ask: &Ask) -> bool {
        ask.frame().len() - 4 <= self.habits.frame_bytes_max
    }

    /// All sessions at the same moment, each in a subtree of its own.
    fn together(&mut self) -> Step {
        let bursts = (0..self.slot_count).map(|slot| {
            self.own = Some(own_top(slot));
            let count = 8 + self.chance.below(BURST_MAX);
            let mut burst: Vec<Ask> = (0..count).map(|_| self.simultaneous_ask()).collect();
            burst.retain(|ask| self.fits(ask));
            if let Some(end) = burst.iter().position(|ask| ask.opcode == opcode::SET_ACL) {
                burst.truncate(end + 1); // D-017
            }
            (slot, burst)
        });
        let step = Step::Together(bursts.collect());
        self.own = None;
        // The subtrees' tops are made by one alone: who made them first would show in the root.
        let tops = (0..self.slot_count).map(|slot| {
            let path = text(&format!("/{}", own_top(slot)));
            let open = Some(vec![entry(31, "world", "anyone")]);
            let body = Body::default().bytes(&path).bytes(&None).acl(&open).int(0);
            self.numbered(Ask::new(opcode::CREATE, format!("create {}", readable(&path)), body).about(&path))
        });
        let first = Step::Ask { slot: 0, burst: tops.collect() };
        self.next.push_back(step);
        first
    }

    /// What has nothing to do with anybody else's subtree.
    fn simultaneous_ask(&mut self) -> Ask {
        let ask = match self.chance.below(100) {
            0..=34 => self.create(),
            35..=44 => self.delete(),
            45..=59 => self.set_data(),
            60 => self.set_acl(),
            61..=64 => self.watching_read(opcode::EXISTS, "exists"),
            65..=72 => self.watching_read(opcode::GET_DATA, "getData"),
            73..=80 => self.watching_read(opcode::GET_CHILDREN2, "getChildren2"),
            81 => self.path_only(opcode::GET_ACL, "getACL"),
            82 => self.path_only(opcode::GET_ALL_CHILDREN_NUMBER, "getAllChildrenNumber"),
            83 => self.sync(),
            84 => Ask::new(opcode::PING, "ping", Body::default()),
            85..=92 => self.multi(),
            93 | 94 => self.multi_read(),
            95 | 96 => self.watch_change(opcode::ADD_WATCH, "addWatch"),
            97 => self.watch_change(opcode::REMOVE_WATCHES, "removeWatches"),
            98 => Ask::new(opcode::WHO_AM_I, "whoAmI", Body::default()),
            _ => self.set_watches(),
        };
        self.numbered(ask)
    }

    /// A session that makes something, and then is not heard of any more.
    fn expire(&mut self) -> Step {
        let count = if self.habits.enforces_quotas { 1 } else { 1 + self.chance.below(6) };
        let burst = (0..count).map(|_| {
            let path = text(&self.pool_path());
            let flags = if self.habits.has_no_ephemerals { 2 } else { self.chance.pick(&[1, 1, 3, 0]) };
            let open = Some(vec![entry(31, "world", "anyone")]);
            let body = Body::default().bytes(&path).bytes(&None).acl(&open).int(flags);
            let ask = Ask::new(opcode::CREATE, format!("create {} flags {flags}", readable(&path)), body);
            self.numbered(ask.about(&path))
        });
        Step::Expire(burst.collect())
    }

    /// The first step of the look at everything that is there in the end.
    pub fn begin_sweep(&mut self) -> Step {
        self.sweep.push_back("/".into());
        let auth = Body::default().int(0).bytes(&text("digest")).bytes(&text("super:admin"));
        Step::Ask { slot: 0, burst: vec![self.numbered(Ask::new(opcode::AUTH, "auth digest super", auth))] }
    }

    /// The next node to look at.
    pub fn next_sweep(&mut self) -> Option<Step> {
        let path = self.sweep.pop_front()?;
        let bytes = text(&path);
        let asks = [
            (opcode::GET_CHILDREN2, "getChildren2", Body::default().bytes(&bytes).byte(0)),
            (opcode::GET_DATA, "getData", Body::default().bytes(&bytes).byte(0)),
            (opcode::GET_ACL, "getACL", Body::default().bytes(&bytes)),
        ];
        let burst = asks.map(|(kind, name, body)| {
            let ask = Ask::new(kind, format!("{name} {path:?}"), body).about(&bytes);
            self.numbered(ask)
        });
        Some(Step::Ask { slot: 0, burst: burst.to_vec() })
    }

    /// Ends every session in order, the notifications of its end included.
    pub fn farewells(&mut self) -> Vec<Step> {
        let ping = |generator: &mut Generator| generator.numbered(Ask::new(opcode::PING, "ping", Body::default()));
        let mut steps = Vec::new();
        for slot in 0..self.slot_count {
            steps.extend((slot..self.slot_count).map(|slot| Step::Ask { slot, burst: vec![ping(self)] }));
            let close = self.numbered(Ask::new(opcode::CLOSE_SESSION, "closeSession", Body::default()));
            steps.push(Step::Ask { slot, burst: vec![close] });
        }
        steps
    }

    /// What follows a start of servers that are members: a leader that has proposed nothing yet tells another zxid (D-087).
    pub fn begin_epoch(&mut self) {
        for _ in 0..2 {
            let open = Some(vec![entry(31, "world", "anyone")]);
            let body = Body::default().bytes(&text("/t0")).bytes(&None).acl(&open).int(0);
            let ask = self.numbered(Ask::new(opcode::CREATE, "create \"/t0\"", body));
            self.next.push_front(Step::Ask { slot: 0, burst: vec![ask] });
        }
    }

    /// Learns from the reference's answers.
    pub fn observe(&mut self, step: &Step, replies: &[(usize, i32, Vec<u8>)], last_zxid: i64) {
        if let Step::Together(_) = step {
            self.unordered.push((self.last_zxid, last_zxid));
        }
        self.last_zxid = last_zxid;
        let Step::Ask { burst, .. } = step else { return };
        for (index, code, body) in replies {
            let ask = &burst[*index];
            let stat_at = |at: usize| {
                let int = |at: usize| Some(i32::from_be_bytes(body.get(at..at + 4)?.try_into().ok()?));
                Some((int(at + 32)?, int(at + 40)?))
            };
            match ask.opcode {
                _ if *code == -101 => {
                    self.known.remove(&ask.path);
                }
                _ if *code != 0 => {}
                opcode::CREATE | opcode::CREATE2 | opcode::CREATE_CONTAINER | opcode::CREATE_TTL => {
                    let name = body.get(4..).map(|rest| {
                        let length = i32::from_be_bytes(body[..4].try_into().expect("4 bytes")) as usize;
                        String::from_utf8_lossy(&rest[..length.min(rest.len())]).into_owned()
                    });
                    if let Some(name) = name.filter(|_| self.known.len() < KNOWN_PATHS_MAX) {
                        self.known.insert(name, (0, 0));
                    }
                }
                opcode::SET_DATA | opcode::SET_ACL | opcode::EXISTS => {
                    if let Some(versions) = stat_at(0) {
                        self.known.insert(ask.path.clone(), versions);
                    }
                }
                opcode::DELETE => {
                    self.known.remove(&ask.path);
                }
                _ => {}
            }
        }
    }

    /// Learns the children of a node from the sweep's own question.
    pub fn observe_sweep(&mut self, step: &Step, replies: &[(usize, i32, Vec<u8>)]) {
        let Step::Ask { burst, .. } = step else { return };
        let Some((0, 0, body)) = replies.first() else { return };
        let parent = burst[0].path.trim_end_matches('/').to_owned();
        let mut fields = super::show::Fields(body);
        let names = (|| (0..fields.int()?).map(|_| fields.bytes()?.map(<[u8]>::to_vec)).collect::<Option<Vec<_>>>())();
        let mut names = names.unwrap_or_default();
        names.sort();
        self.sweep.extend(names.iter().map(|name| format!("{parent}/{}", String::from_utf8_lossy(name))));
    }

    fn numbered(&mut self, mut ask: Ask) -> Ask {
        self.next_xid += 1;
        ask.xid = match ask.opcode {
            opcode::PING => -2,
            opcode::AUTH => -4,
            opcode::SET_WATCHES | opcode::SET_WATCHES2 => -8,
            _ => self.next_xid,
        };
        ask
    }

    fn handshake(&mut self) -> Handshake {
        let standard = Handshake::standard();
        let timeout_ms = self.chance.pick(&[0, -5, 1, 3999, 4000, 4001, 9999, 39_999, 40_001, i32::MAX, i32::MIN]);
        match self.chance.below(8) {
            0 => Handshake { zxid_ahead: Some(1_000_000), ..standard },
            1 => Handshake { zxid_ahead: Some(0), timeout_ms, ..standard },
            2 => Handshake { read_only: self.chance.pick(&[None, Some(1), Some(2)]), ..standard },
            3 => {
                let password = self.chance.pick(&[None, Some(vec![]), Some(vec![1; 3]), Some(vec![7; 40])]);
                Handshake { password, ..standard }
            }
            4 => {
                let session_id = self.chance.pick(&[-1, 1, 0x1234_5678_9abc, i64::MIN]);
                Handshake { session_id, read_only: self.chance.pick(&[None, Some(0)]), ..standard }
            }
            5 => Handshake { protocol_version: self.chance.pick(&[7, -1]), timeout_ms, ..standard },
            _ => Handshake { timeout_ms, ..standard },
        }
    }

    /// One request, now and then spoiled.
    fn ask(&mut self, slot: usize) -> Ask {
        let mut ask = self.sound_ask(slot);
        match self.chance.below(100) {
            0 | 1 if !ask.body.is_empty() && ask.raw.is_none() && self.may_spoil(&ask) => {
                let kept = self.chance.below(ask.body.len() as u64) as usize;
                ask.body.truncate(kept);
                ask.text += &format!(" (cut to {kept} bytes)");
            }
            2 if ask.raw.is_none() => {
                ask.body.extend([1, 2, 3, 4, 5]);
                ask.text += " (and 5 bytes)";
            }
            3 => return self.odd_xid(ask),
            _ => {}
        }
        self.numbered(ask)
    }

    fn may_spoil(&self, ask: &Ask) -> bool {
        use opcode::{CREATE, CREATE_CONTAINER, CREATE_TTL, CREATE2, DELETE, MULTI, RECONFIG, SET_ACL, SET_DATA};
        let is_write =
            [CREATE, CREATE2, CREATE_CONTAINER, CREATE_TTL, DELETE, SET_DATA, SET_ACL, RECONFIG].contains(&ask.opcode);
        !(is_write && self.habits.spares_ensembles || ask.opcode == MULTI && self.habits.has_sound_multis)
    }

    fn odd_xid(&mut self, ask: Ask) -> Ask {
        let xid = self.chance.pick(&[0, -3, -5, 1, i32::MAX, i32::MIN, -4, -8]);
        let text = format!("{} (xid {xid})", ask.text);
        Ask { xid, text, ..ask }
    }

    fn sound_ask(&mut self, slot: usize) -> Ask {
        match self.chance.below(1000) {
            0..=199 => self.create(),
            200..=279 => self.delete(),
            280..=379 => self.set_data(),
            380..=399 => self.set_acl(),
            400..=449 => self.quota(),
            450..=519 => self.watching_read(opcode::EXISTS, "exists"),
            520..=589 => self.watching_read(opcode::GET_DATA, "getData"),
            590..=629 => self.watching_read(opcode::GET_CHILDREN, "getChildren"),
            630..=679 => self.watching_read(opcode::GET_CHILDREN2, "getChildren2"),
            680..=704 => self.path_only(opcode::GET_ACL, "getACL"),
            705..=719 => self.path_only(opcode::GET_ALL_CHILDREN_NUMBER, "getAllChildrenNumber"),
            720..=734 => self.get_ephemerals(),
            735..=749 => self.sync(),
            750..=764 => Ask::new(opcode::PING, "ping", Body::default()),
            765..=774 => Ask::new(opcode::WHO_AM_I, "whoAmI", Body::default()),
            775..=849 => self.multi(),
            850..=869 => self.multi_read(),
            870..=899 => self.watch_change(opcode::ADD_WATCH, "addWatch"),
            900..=919 => self.watch_change(opcode::REMOVE_WATCHES, "removeWatches"),
            920..=929 => self.watch_change(opcode::CHECK_WATCHES, "checkWatches"),
            930..=949 => self.set_watches(),
            950..=969 => self.auth(slot),
            970..=974 => self.reconfig(),
            975..=978 => self.noise(),
            979..=982 => self.unknown(),
            983..=984 => self.broken_frame(),
            985 => self.sasl(),
            986..=990 => Ask::new(opcode::CLOSE_SESSION, "closeSession", Body::default()),
            _ => self.delete(),
        }
    }

    fn create(&mut self) -> Ask {
        let kind = match self.chance.below(100) {
            0..=39 => opcode::CREATE,
            40..=79 => opcode::CREATE2,
            80..=87 => opcode::CREATE_CONTAINER,
            _ => opcode::CREATE_TTL,
        };
        let path = self.path();
        let (record, words) = self.create_record(kind, &path, false);
        Ask::new(kind, words, record).about(&path)
    }

    fn create_record(&mut self, kind: i32, path: &Bytes, in_multi: bool) -> (Body, String) {
        const NO_MODE: [i32; 5] = [7, -1, 100, i32::MIN, i32::MAX];
        let flags = match (kind, self.chance.below(100)) {
            (opcode::CREATE | opcode::CREATE2, _) if in_multi && self.habits.has_sound_multis => {
                self.chance.pick(&[0, 0, 1, 2, 3])
            }
            (_, 0..=2) if !in_multi || !self.habits.has_sound_multis => self.chance.pick(&NO_MODE),
            (opcode::CREATE_CONTAINER, _) => 4,
            (opcode::CREATE_TTL, 3..=20) => self.chance.pick(&[0, 1, 2, 3, 4]),
            (opcode::CREATE_TTL, _) => self.chance.pick(&[5, 6]),
            (_, 3..=6) => self.chance.pick(&[4, 5, 6]),
            (_, 7..=60) => 0,
            (_, 61..=78) => 1,
            _ => self.chance.pick(&[2, 3]),
        };
        let flags = if self.habits.has_no_ephemerals && matches!(flags, 1 | 3) { flags - 1 } else { flags };
        let path_of_sequence = match path {
            Some(path) if matches!(flags, 2 | 3 | 6) && self.chance.below(2) == 0 => Some([path, &b"-"[..]].concat()),
            path => path.clone(),
        };
        let (data, mut acl) = (self.data(), self.acl());
        if in_multi {
            acl = acl.or(Some(Vec::new())); // D-002: whether a null one is noticed depends on what else is wrong
        }
        let record = Body::default().bytes(&path_of_sequence).bytes(&data).acl(&acl).int(flags);
        let words = format!(
            "create (opcode {kind}) {} data {} acl {} flags {flags}",
            readable(&path_of_sequence),
            readable(&data),
            readable_acl(&acl)
        );
        if kind != opcode::CREATE_TTL {
            return (record, words);
        }
        const NO_TTL: [i64; 6] = [0, -1, -2, 1 << 40, i64::MAX, i64::MIN];
        let mut ttl_ms = match self.chance.below(10) {
            0..=2 => self.chance.pick(&NO_TTL),
            _ => self.chance.pick(&[1, 600_000, (1 << 40) - 1]),
        };
        if !matches!(flags, 5 | 6) {
            ttl_ms = ttl_ms.max(0); // D-003
        }
        (record.long(ttl_ms), format!("{words} ttl {ttl_ms}"))
    }

    fn delete(&mut self) -> Ask {
        let path = if self.chance.below(3) == 0 { self.known_path() } else { self.path() };
        let version = self.version(&path, false);
        let words = format!("delete {} version {version}", readable(&path));
        Ask::new(opcode::DELETE, words, Body::default().bytes(&path).int(version)).about(&path)
    }

    fn set_data(&mut self) -> Ask {
        let (path, data) = (self.path_to_write(), self.data());
        let version = self.version(&path, false);
        let words = format!("setData {} data {} version {version}", readable(&path), readable(&data));
        Ask::new(opcode::SET_DATA, words, Body::default().bytes(&path).bytes(&data).int(version)).about(&path)
    }

    fn set_acl(&mut self) -> Ask {
        let (path, acl) = (self.path(), self.acl());
        let version = self.version(&path, true);
        let words = format!("setACL {} acl {} version {version}", readable(&path), readable_acl(&acl));
        Ask::new(opcode::SET_ACL, words, Body::default().bytes(&path).acl(&acl).int(version)).about(&path)
    }

    fn watching_read(&mut self, kind: i32, name: &str) -> Ask {
        let path = self.echoed_path();
        let watch = self.chance.pick(&[0, 1, 1, 2]);
        let words = format!("{name} {} watch {watch}", readable(&path));
        Ask::new(kind, words, Body::default().bytes(&path).byte(watch)).about(&path)
    }

    fn path_only(&mut self, kind: i32, name: &str) -> Ask {
        let path = self.path();
        Ask::new(kind, format!("{name} {}", readable(&path)), Body::default().bytes(&path)).about(&path)
    }

    fn get_ephemerals(&mut self) -> Ask {
        let prefix = match self.chance.below(6) {
            0 => None,
            1 => text(self.chance.pick(&["", " ", "/", "\t \n", "/a/", "b"])),
            _ => self.path(),
        };
        let words = format!("getEphemerals {}", readable(&prefix));
        Ask::new(opcode::GET_EPHEMERALS, words, Body::default().bytes(&prefix)).about(&prefix)
    }

    fn sync(&mut self) -> Ask {
        let path = self.echoed_path();
        Ask::new(opcode::SYNC, format!("sync {}", readable(&path)), Body::default().bytes(&path)).about(&path)
    }

    fn multi(&mut self) -> Ask {
        let focus = self.pool_path();
        let count = self.chance.below(6);
        let mut body = Body::default();
        let mut words = "multi".to_owned();
        for _ in 0..count {
            let path = match self.chance.below(10) {
                0..=3 => text(&focus),
                4..=6 => text(&format!("{focus}/x")),
                7 => self.path_to_write(),
                8 => self.known_path(),
                _ => text(&self.pool_path()),
            };
            let path = path.or_else(|| self.habits.has_sound_multis.then(|| b"/a".to_vec()));
            let (kind, record, said) = self.multi_item(&path);
            body = body.item(kind, &record);
            words += &format!("\n      {said}");
        }
        if self.chance.below(50) != 0 || self.habits.has_sound_multis {
            body = body.end_of_items();
        } else {
            words += "\n      (no end)";
        }
        Ask::new(opcode::MULTI, words, body).about(&text(&focus))
    }

    fn multi_item(&mut self, path: &Bytes) -> (i32, Body, String) {
        let shown = readable(path);
        match self.chance.below(100) {
            0..=44 => {
                let kinds = [1, 1, 15, 15, opcode::CREATE_CONTAINER, opcode::CREATE_TTL];
                let kind = self.chance.pick(&kinds);
                let (record, words) = self.create_record(kind, path, true);
                (kind, record, words)
            }
            45..=64 => {
                let version = self.version(path, false);
                (opcode::DELETE, Body::default().bytes(path).int(version), format!("delete {shown} version {version}"))
            }
            65..=82 => {
                let (data, version) = (self.data(), self.version(path, false));
                let words = format!("setData {shown} data {} version {version}", readable(&data));
                (opcode::SET_DATA, Body::default().bytes(path).bytes(&data).int(version), words)
            }
            83..=97 => {
                let version = self.version(path, false);
                (opcode::CHECK, Body::default().bytes(path).int(version), format!("check {shown} version {version}"))
            }
            _ if self.habits.has_sound_multis => {
                (opcode::CHECK, Body::default().bytes(path).int(-1), format!("check {shown} version -1"))
            }
            98 => (opcode::GET_DATA, Body::default().bytes(path).byte(1), format!("getData {shown}")),
            _ => {
                let kind = self.chance.pick(&[0, 3, opcode::SET_ACL, opcode::SYNC, -1, 99, opcode::MULTI]);
                (kind, Body::default().bytes(path).int(-1).int(-1), format!("opcode {kind} {shown}"))
            }
        }
    }

    fn multi_read(&mut self) -> Ask {
        let count = self.chance.below(5);
        let mut body = Body::default();
        let mut words = "multiRead".to_owned();
        for _ in 0..count {
            let path = self.path();
            let kind = match self.chance.below(40) {
                0 => opcode::DELETE,
                1 => opcode::EXISTS,
                2..=21 => opcode::GET_DATA,
                _ => opcode::GET_CHILDREN,
            };
            let record = Body::default().bytes(&path);
            let record = if kind == opcode::DELETE { record.int(-1) } else { record.byte(1) };
            body = body.item(kind, &record);
            words += &format!("\n      opcode {kind} {}", readable(&path));
        }
        Ask::new(opcode::MULTI_READ, words, body.end_of_items())
    }

    fn watch_change(&mut self, kind: i32, name: &str) -> Ask {
        let mut path = self.echoed_path();
        if kind != opcode::ADD_WATCH && path.as_ref().is_none_or(Vec::is_empty) {
            path = text(&self.pool_path()); // D-012
        }
        let mode = match kind {
            opcode::ADD_WATCH => self.chance.pick(&[0, 0, 0, 1, 1, 1, 2, -1]),
            _ => self.chance.pick(&[1, 2, 3, 3, 4, 5, 0, 6, -1]),
        };
        let words = format!("{name} {} mode {mode}", readable(&path));
        Ask::new(kind, words, Body::default().bytes(&path).int(mode)).about(&path)
    }

    fn set_watches(&mut self) -> Ask {
        let kind = self.chance.pick(&[opcode::SET_WATCHES, opcode::SET_WATCHES2]);
        let back = self.chance.below(60) as i64;
        let mut relative = self.chance.pick(&[self.last_zxid - back, self.last_zxid - back, 0, -1, i64::MAX]);
        if let Some((before, _)) = self.unordered.iter().find(|(before, end)| (before..end).contains(&&relative)) {
            relative = *before;
        }
        let mut body = Body::default().long(relative);
        let mut words = format!("setWatches (opcode {kind}) relative to {relative}");
        for list in 0..if kind == opcode::SET_WATCHES { 3 } else { 5 } {
            // Only the first: what Java does with the lists before a null one is D-015.
            if list == 0 && self.chance.below(30) == 0 {
                body = body.int(-1);
                words += &format!(" list {list} null");
                continue;
            }
            let count = self.chance.below(3);
            let mut paths: Vec<Bytes> = (0..count).map(|_| self.echoed_path()).collect();
            if list < 3 {
                paths.retain(Option::is_some); // D-015 again
            }
            words += &format!(" [{}]", paths.iter().map(readable).collect::<Vec<_>>().join(", "));
            body = body.paths(&paths);
        }
        Ask::new(kind, words, body)
    }

    fn good_auth(&mut self) -> Ask {
        let user = text(self.chance.pick(&["u:p", "bob:secret", "super:admin"]));
        let body = Body::default().int(0).bytes(&text("digest")).bytes(&user);
        self.numbered(Ask::new(opcode::AUTH, format!("auth \"digest\" {}", readable(&user)), body))
    }

    fn auth(&mut self, slot: usize) -> Ask {
        let digest: [&[u8]; 9] =
            [b"u:p", b"u:p", b"bob:secret", b"bob:secret", b"nocolon", b"a:b:c", b"", b":x", b"\xff:x"];
        let super_user: Bytes = text("super:admin");
        let (scheme, auth) = match self.chance.below(40) {
            0 => (text(self.chance.pick(&["world", "auth", "sasl", "x509", "super", "", "Digest"])), text("x")),
            1 => (None, text("x")),
            2 => (text("digest"), None),
            3 => (text("ip"), self.chance.pick(&[None, text(""), text("1.2.3.4")])),
            4 => (text("digest"), super_user),
            5..=15 if slot == 0 => (text("digest"), super_user),
            _ => (text("digest"), Some(self.chance.pick(&digest).to_vec())),
        };
        let words = format!("auth {} {}", readable(&scheme), readable(&auth));
        Ask::new(opcode::AUTH, words, Body::default().int(0).bytes(&scheme).bytes(&auth))
    }

    fn sasl(&mut self) -> Ask {
        let token = self.data();
        Ask::new(opcode::SASL, format!("sasl {}", readable(&token)), Body::default().bytes(&token))
    }

    fn reconfig(&mut self) -> Ask {
        let valid = if self.habits.spares_ensembles { text("server.1") } else { text("server.1=localhost:1:2;3") };
        let some = self.chance.pick(&[None, text(""), valid]);
        // The configuration of an ensemble stays what it is: D-089, D-093.
        let of_configuration = if self.habits.spares_ensembles { 99 } else { -1 };
        let body = Body::default().bytes(&some).bytes(&None).bytes(&None).long(of_configuration);
        Ask::new(opcode::RECONFIG, format!("reconfig {}", readable(&some)), body)
    }

    /// An opcode that exists over a record that does not.
    fn noise(&mut self) -> Ask {
        // Not 19 and 21 (D-005, D-003), not 20 and -10 (D-004).
        let kinds = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 16, 17, 18, 22, 101, 103, 104, 105, 106];
        let kind = self.chance.pick(&kinds);
        let count = self.chance.below(40);
        if !self.may_spoil(&Ask::new(kind, "", Body::default())) {
            return Ask::new(opcode::PING, "ping", Body::default());
        }
        let bytes = (0..count).map(|_| self.chance.pick(&[0, 0, 0, 0, 1, 2, b'/', b'a', 0xff])).collect();
        Ask::new(kind, format!("opcode {kind} over noise {bytes:?}"), Body(bytes))
    }

    fn unknown(&mut self) -> Ask {
        let kind = self.chance.pick(&[0, -1, 10, 13, 23, 99, 108, -2, -12, 1000, i32::MAX, i32::MIN]);
        Ask::new(kind, format!("opcode {kind}"), Body::default().bytes(&text("/a")).int(0))
    }

    fn broken_frame(&mut self) -> Ask {
        let raw = self.chance.pick(&[
            vec![0, 0, 0, 0],
            vec![0, 0, 0, 4, 0, 0, 0, 1],
            vec![0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0],
            vec![0xff, 0xff, 0xff, 0xff],
            vec![0xff, 0xff, 0xff, 0xfb],
            vec![0, 0x10, 0, 0],
            b"ruok".to_vec(),
            Handshake::standard().first_frame(),
        ]);
        let text = format!("raw bytes {raw:02x?}");
        Ask { raw: Some(raw), ..Ask::new(0, text, Body::default()) }
    }

    fn version(&mut self, path: &Bytes, of_acl: bool) -> i32 {
        let known = path.as_ref().and_then(|path| self.known.get(&*String::from_utf8_lossy(path)));
        let right = known.map_or(0, |(version, aversion)| if of_acl { *aversion } else { *version });
        match self.chance.below(10) {
            0..=4 => -1,
            5..=7 => right,
            8 => right + 1,
            _ => self.chance.pick(&[0, 1, -2, i32::MIN, i32::MAX]),
        }
    }

    fn data(&mut self) -> Bytes {
        match self.chance.below(12) {
            0 => None,
            1 => Some(Vec::new()),
            2 if self.chance.below(100) == 0 => {
                Some(vec![b'l'; self.chance.pick(&[300_000, 1_048_400, 1_048_500, 1_048_600])])
            }
            2 => Some(vec![b'd'; self.chance.pick(&[300, 600, 1000])]),
            3 => Some(vec![0, 0xff, 0x80]),
            _ => {
                let length = self.chance.below(12) as usize;
                Some(vec![b'v'; length])
            }
        }
    }

    fn acl(&mut self) -> Option<Vec<Acl>> {
        const HASH: &str = "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ=";
        const ODD: [(&str, &str); 30] = [
            ("world", "other"),
            ("world", ""),
            ("digest", "a:b"),
            ("digest", ":b"),
            ("digest", "a:b:"),
            ("digest", "a"),
            ("digest", "a:"),
            ("digest", "a:b:c"),
            ("digest", ""),
            ("digest", ":"),
            ("ip", "127.0.0.1"),
            ("ip", "127.0.0.0/8"),
            ("ip", "10.0.0.0/8"),
            ("ip", "0.0.0.0/0"),
            ("ip", "127.0.0.1/33"),
            ("ip", "127.0.0.1/-1"),
            ("ip", "127.0.0"),
            ("ip", "256.0.0.1"),
            ("ip", ""),
            ("ip", "::1"),
            ("ip", "::1/64"),
            ("ip", "1::2::3"),
            ("ip", "127.0.0.1/"),
            ("ip", "+1.0.0.1"),
            ("sasl", "bob"),
            ("x509", "CN=x"),
            ("super", ""),
            ("nope", "x"),
            ("", ""),
            ("auth", "x"),
        ];
        let all = entry(31, "world", "anyone");
        let perms = self.chance.pick(&[1, 2, 4, 8, 16, 31, 3, 15, 30, 17, 0, 255, -1]);
        match self.chance.below(100) {
            0..=64 => Some(vec![all]),
            65 => None,
            66 => Some(Vec::new()),
            67..=72 => Some(vec![entry(perms, "world", "anyone")]),
            73..=77 => Some(vec![entry(perms, "digest", HASH), entry(1, "world", "anyone")]),
            78..=80 => Some(vec![entry(perms, "auth", "")]),
            81..=83 => Some(vec![entry(perms, "auth", ""), entry(31, "digest", HASH), entry(31, "digest", HASH)]),
            84 | 85 => Some(vec![entry(perms, "ip", "127.0.0.1"), entry(1, "ip", "127.0.0.0/16")]),
            86 => Some(vec![all.clone(), entry(perms, "digest", HASH), all.clone(), all]),
            87 => {
                let scheme = self.chance.pick(&["world", "auth", "digest", "ip", "nope"]);
                Some(vec![Acl { perms, scheme: text(scheme), id: None }])
            }
            88 => Some(vec![Acl { perms, scheme: None, id: self.chance.pick(&[None, text("x")]) }]),
            _ => {
                let (scheme, id) = self.chance.pick(&ODD);
                Some(vec![entry(31, "world", "anyone"), entry(perms, scheme, id)])
            }
        }
    }

    /// A path that comes back: D-014.
    fn echoed_path(&mut self) -> Bytes {
        let is_beyond = |path: &Vec<u8>| String::from_utf8_lossy(path).chars().any(|character| character > '\u{ffff}');
        self.path().filter(|path| !is_beyond(path))
    }

    fn pool_path(&mut self) -> String {
        let depth = self.chance.pick(&[1, 1, 2, 2, 2, 3]);
        let top = self.own.as_ref().map(|own| format!("/{own}")).unwrap_or_default();
        (0..depth).fold(top, |path, _| path + self.chance.pick(&["/a", "/a", "/b", "/c"]))
    }

    /// Not the configuration of an ensemble, which what is written there does not outlive here: D-089.
    fn path_to_write(&mut self) -> Bytes {
        let is_configuration = |path: &Bytes| path.as_deref() == Some(b"/zookeeper/config");
        let path = self.path();
        if self.habits.spares_ensembles && is_configuration(&path) { text(&self.pool_path()) } else { path }
    }

    fn known_path(&mut self) -> Bytes {
        // Quota nodes only get quotas as their data.
        let is_left_alone = |path: &str| {
            path.starts_with("/zookeeper/quota") || self.habits.spares_ensembles && path == "/zookeeper/config"
        };
        let paths: Vec<&String> = self.known.keys().filter(|path| !is_left_alone(path)).collect();
        if paths.is_empty() || self.own.is_some() {
            return text(&self.pool_path());
        }
        let index = self.chance.below(paths.len() as u64) as usize;
        text(paths[index])
    }

    fn path(&mut self) -> Bytes {
        const OWN: [&str; 8] = [
            "/",
            "/",
            "/zookeeper",
            "/zookeeper/quota",
            "/zookeeper/config",
            "/zookeeper/x",
            "/zookeeper/x/y",
            "/zookeeper/quota/x",
        ];
        const UNICODE: [&str; 7] = ["/é", "/é/中文", "/\u{301}e", "/a/\u{d7ff}", "/\u{f900}", "/ ", "/\u{ffef}"];
        const BAD: [&str; 26] = [
            "",
            "a",
            "a/b",
            "/a/",
            "//",
            "/a//b",
            "//a",
            "/a/./b",
            "/.",
            "/a/..",
            "/a/../b",
            "/...",
            "/.a",
            "/a..",
            "/a\0b",
            "\0",
            "/\u{1}",
            "/a\u{1f}",
            "/\u{7f}",
            "/\u{9f}",
            "/\u{a0}",
            "/\u{e000}",
            "/\u{f8ff}",
            "/\u{fff0}",
            "/\u{ffff}",
            "/😀",
        ];
        const TORN: [&[u8]; 9] = [
            b"/\xff",
            b"/\xed\xa0\x80",
            b"/\xed\xa0",
            b"/\xc0\x80",
            b"/\xe4\xb8",
            b"/\xf0\x9f\x98",
            b"/\xf5\x80\x80\x80",
            b"/\xed\xa0\xbd\xed\xb8\x80",
            b"/a\x80\x80b",
        ];
        if self.own.is_some() && self.chance.below(10) != 0 {
            return text(&self.pool_path());
        }
        if let Some(own) = self.own.clone() {
            let bad = self.chance.pick(&["", "/", "//", "/.", "/\u{1}", "/é", "/\u{ffff}", "/a/..", "/...", "/ "]);
            // Not the top itself: it stays.
            let below = if bad.is_empty() { self.chance.pick(&["/a", "/c/c"]) } else { bad };
            return text(&format!("/{own}{below}"));
        }
        match self.chance.below(100) {
            0..=64 => text(&self.pool_path()),
            65..=79 => self.known_path(),
            80..=86 => text(self.chance.pick(&OWN)),
            87..=90 => text(self.chance.pick(&UNICODE)),
            91..=96 => text(self.chance.pick(&BAD)),
            97 => Some(self.chance.pick(&TORN).to_vec()),
            98 => None,
            _ => text(&format!("{}/", self.pool_path())),
        }
    }
}

fn text(text: &str) -> Bytes {
    Some(text.as_bytes().to_vec())
}

fn entry(perms: i32, scheme: &str, id: &str) -> Acl {
    Acl { perms, scheme: text(scheme), id: text(id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(seed: u64) -> Vec<Step> {
        let mut generator = Generator::new(seed, 4, Habits::default());
        (0..3000).map(|_| generator.step()).collect()
    }

    #[test]
    fn the_same_seed_asks_the_same_questions() {
        assert_eq!(steps(7), steps(7));
        assert_ne!(steps(7), steps(8));
    }

    #[test]
    fn nothing_is_asked_that_kills_the_reference_or_is_meant_to_differ() {
        let asks = (0..5).flat_map(steps).filter_map(|step| match step {
            Step::Ask { burst, .. } => Some(burst),
            _ => None,
        });
        let mut ttl_count = 0;
        for ask in asks.flatten().filter(|ask| ask.raw.is_none()) {
            assert!(!matches!(ask.opcode, 20 | -10), "D-004: {ask:?}");
            if let Some((_, flags)) = ask.text.split_once(" flags ").filter(|_| ask.opcode == opcode::CREATE_CONTAINER)
            {
                assert!(!matches!(flags.split(' ').next(), Some("0" | "1" | "2" | "3")), "D-005: {ask:?}");
            }
            if ask.opcode == opcode::CREATE_TTL {
                ttl_count += 1;
                let is_ttl_mode = ask.text.contains(" flags 5 ") || ask.text.contains(" flags 6 ");
                assert!(is_ttl_mode || !ask.text.contains(" ttl -"), "D-003: {ask:?}");
            }
        }
        assert!(ttl_count > 100);
    }
}
