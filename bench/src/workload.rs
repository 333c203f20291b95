//! What one session asks, and whether the answer is right.
//!
//! All request frames are made before the run; sending one is a copy and a stamped xid. A session has as many *slots* as it
//! keeps requests in flight; a slot's next request follows the reply to its last, so "create, then delete it" is a slot's
//! life and slots never get in each other's way.

use crate::scenario::{CHILDREN, Load, Ops};
use crate::wire::{self, PATH_OFFSET, SEQUENCE_DIGITS, STAT_BYTES};

/// A request kind, as far as its answer differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Set,
    Get,
    Exists,
    Children,
    Create,
    Delete,
}

pub struct Workload {
    value_bytes: usize,
    plan: Plan,
    random: Random,
}

enum Plan {
    Repeat {
        kind: Kind,
        frame: Vec<u8>,
    },
    Mixed {
        get: Vec<u8>,
        set: Vec<u8>,
        read_percent: u64,
    },
    /// Every create has the next number in its name.
    Create {
        frame: Vec<u8>,
        digits: std::ops::Range<usize>,
        next_number: u32,
    },
    CreateDelete {
        slots: Vec<Slot>,
    },
}

/// One znode that comes and goes.
struct Slot {
    create: Vec<u8>,
    delete: Vec<u8>,
    /// The path asked for; a sequential create answers with more.
    path_bytes: usize,
    sequential: bool,
    exists: bool,
}

/// Digits of the number in a created znode's name.
const NUMBER_DIGITS: usize = 10;

/// The znodes session `session` needs before the run, parents first.
pub fn znodes(load: &Load, root: &str, session: usize) -> Vec<(String, Vec<u8>)> {
    let own = own_path(root, session);
    let mut nodes = vec![(own.clone(), vec![b'v'; load.value_bytes])];
    if load.ops == Ops::Children {
        nodes.extend((0..CHILDREN).map(|child| (format!("{own}/child-{child}"), Vec::new())));
    }
    nodes
}

fn own_path(root: &str, session: usize) -> String {
    format!("{root}/s{session:05}")
}

impl Workload {
    pub fn new(load: &Load, root: &str, session: usize) -> Workload {
        let own = own_path(root, session);
        let value = vec![b'x'; load.value_bytes];
        let repeat = |kind, frame| Plan::Repeat { kind, frame };
        let slots = |flags| Plan::CreateDelete {
            slots: (0..load.outstanding).map(|slot| Slot::new(&format!("{own}/n{slot:04}-"), &value, flags)).collect(),
        };
        let plan = match load.ops {
            Ops::Set => repeat(Kind::Set, wire::set_data(&own, &value)),
            Ops::Get => repeat(Kind::Get, wire::get_data(&own, false)),
            Ops::Exists => repeat(Kind::Exists, wire::exists(&own, false)),
            Ops::Children => repeat(Kind::Children, wire::get_children(&own)),
            Ops::Mixed => Plan::Mixed {
                get: wire::get_data(&own, false),
                set: wire::set_data(&own, &value),
                read_percent: load.read_percent.into(),
            },
            Ops::Create => {
                let path = format!("{own}/n{:0NUMBER_DIGITS$}", 0);
                let end = PATH_OFFSET + path.len();
                let frame = wire::create(&path, &value, wire::FLAG_PERSISTENT);
                Plan::Create { frame, digits: end - NUMBER_DIGITS..end, next_number: 0 }
            }
            Ops::CreateDelete => slots(wire::FLAG_PERSISTENT),
            Ops::Ephemeral => slots(wire::FLAG_EPHEMERAL),
            Ops::Sequential => slots(wire::FLAG_EPHEMERAL_SEQUENTIAL),
        };
        Workload { value_bytes: load.value_bytes, plan, random: Random::new(session as u64) }
    }

    /// Appends the slot's next request. Returns its kind and the number its answer is checked with.
    #[inline]
    pub fn next(&mut self, slot: u32, xid: i32, out: &mut Vec<u8>) -> (Kind, u32) {
        let (kind, number, frame) = match &mut self.plan {
            Plan::Repeat { kind, frame } => (*kind, slot, &*frame),
            Plan::Mixed { get, set, read_percent } => match self.random.below(100) < *read_percent {
                true => (Kind::Get, slot, &*get),
                false => (Kind::Set, slot, &*set),
            },
            Plan::Create { frame, digits, next_number } => {
                let number = *next_number;
                *next_number += 1;
                frame[digits.clone()].copy_from_slice(&decimal(number));
                (Kind::Create, number, &*frame)
            }
            Plan::CreateDelete { slots } => {
                let slot_state = &mut slots[slot as usize];
                match slot_state.exists {
                    true => (Kind::Delete, slot, &slot_state.delete),
                    false => (Kind::Create, slot, &slot_state.create),
                }
            }
        };
        let start = out.len();
        out.extend_from_slice(frame);
        wire::stamp_xid(&mut out[start..], xid);
        (kind, number)
    }

    /// Whether `body` is a right answer to a request of this kind that succeeded; if not, what was expected.
    #[inline]
    pub fn accept(&mut self, kind: Kind, number: u32, body: &[u8]) -> Result<(), &'static str> {
        let (right, expected) = match kind {
            Kind::Set | Kind::Exists => (body.len() == STAT_BYTES, "a Stat"),
            Kind::Get => (self.is_value_and_stat(body), "the session's value and a Stat"),
            Kind::Children => (is_children(body), "the session's ten children"),
            Kind::Create => (self.accept_created(number, body), "the path that was created"),
            Kind::Delete => (body.is_empty() && self.mark(number, false), "an empty record"),
        };
        if right { Ok(()) } else { Err(expected) }
    }

    fn is_value_and_stat(&self, body: &[u8]) -> bool {
        wire::buffer(body).is_some_and(|(value, stat)| value.len() == self.value_bytes && stat.len() == STAT_BYTES)
    }

    fn accept_created(&mut self, number: u32, body: &[u8]) -> bool {
        let Some((path, [])) = wire::buffer(body) else {
            return false;
        };
        match &mut self.plan {
            Plan::Create { frame, digits, .. } => {
                let asked = &frame[PATH_OFFSET..digits.start];
                path.strip_prefix(asked).is_some_and(|digits| digits == decimal(number))
            }
            Plan::CreateDelete { slots } => slots[number as usize].accept_created(path),
            Plan::Repeat { .. } | Plan::Mixed { .. } => false,
        }
    }

    fn mark(&mut self, slot: u32, exists: bool) -> bool {
        let Plan::CreateDelete { slots } = &mut self.plan else {
            return false;
        };
        slots[slot as usize].exists = exists;
        true
    }
}

impl Slot {
    fn new(path: &str, value: &[u8], flags: i32) -> Slot {
        let sequential = flags == wire::FLAG_EPHEMERAL_SEQUENTIAL;
        // The server's digits are copied in over these, so the frame never changes its size.
        let final_path = if sequential { format!("{path}{}", "0".repeat(SEQUENCE_DIGITS)) } else { path.to_owned() };
        Slot {
            create: wire::create(path, value, flags),
            delete: wire::delete(&final_path),
            path_bytes: path.len(),
            sequential,
            exists: false,
        }
    }

    fn accept_created(&mut self, path: &[u8]) -> bool {
        let asked = &self.create[PATH_OFFSET..PATH_OFFSET + self.path_bytes];
        let Some(appended) = path.strip_prefix(asked) else {
            return false;
        };
        let digits = if self.sequential { SEQUENCE_DIGITS } else { 0 };
        if appended.len() != digits || !appended.iter().all(u8::is_ascii_digit) {
            return false;
        }
        self.delete[PATH_OFFSET..PATH_OFFSET + path.len()].copy_from_slice(path);
        self.exists = true;
        true
    }
}

fn is_children(body: &[u8]) -> bool {
    // Only the count and the end are looked at closely: the names need no allocation to be skipped.
    let Some((count, mut rest)) = body.split_first_chunk::<4>() else {
        return false;
    };
    if i32::from_be_bytes(*count) != CHILDREN as i32 {
        return false;
    }
    for _ in 0..CHILDREN {
        match wire::buffer(rest) {
            Some((name, tail)) if name.starts_with(b"child-") => rest = tail,
            _ => return false,
        }
    }
    rest.is_empty()
}

fn decimal(mut number: u32) -> [u8; NUMBER_DIGITS] {
    let mut digits = [b'0'; NUMBER_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    digits
}

/// splitmix64: small, seeded, good enough to choose between reads and writes and to space arrivals.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    #[inline]
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    #[inline]
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// Exponentially distributed with this mean: the gap between two Poisson arrivals.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        let uniform = (self.next() >> 11) as f64 / (1u64 << 53) as f64; // in [0, 1)
        -(1.0 - uniform).ln() * mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(name: &str) -> Workload {
        Workload::new(&Load::named(name).unwrap(), "/r", 3)
    }

    fn path_body(path: &str) -> Vec<u8> {
        [&(path.len() as i32).to_be_bytes(), path.as_bytes()].concat()
    }

    fn next(workload: &mut Workload, slot: u32) -> (Kind, u32, Vec<u8>) {
        let mut out = vec![9; 3]; // behind other requests
        let (kind, number) = workload.next(slot, 77, &mut out);
        let frame = out.split_off(3);
        assert_eq!(&frame[4..8], &77i32.to_be_bytes());
        (kind, number, frame)
    }

    #[test]
    fn a_slot_creates_then_deletes() {
        let mut crdel = workload("crdel");
        let (kind, number, frame) = next(&mut crdel, 4);
        assert_eq!((kind, number), (Kind::Create, 4));
        assert_eq!(&frame[PATH_OFFSET..PATH_OFFSET + 15], b"/r/s00003/n0004");
        assert!(crdel.accept(Kind::Create, 4, &path_body("/r/s00003/n0005-")).is_err(), "another slot's path");
        crdel.accept(Kind::Create, 4, &path_body("/r/s00003/n0004-")).unwrap();
        assert_eq!(next(&mut crdel, 4).0, Kind::Delete);
        assert_eq!(next(&mut crdel, 5).0, Kind::Create, "slots are independent");
        assert!(crdel.accept(Kind::Delete, 4, &[0]).is_err());
        crdel.accept(Kind::Delete, 4, &[]).unwrap();
        assert_eq!(next(&mut crdel, 4).0, Kind::Create);
    }

    #[test]
    fn a_sequential_znode_is_deleted_by_the_name_the_server_gave() {
        let mut seq = workload("seq");
        next(&mut seq, 0);
        for wrong in ["/r/s00003/n0000-", "/r/s00003/n0000-00000000x7", "/r/s00003/n0001-0000000007"] {
            assert!(seq.accept(Kind::Create, 0, &path_body(wrong)).is_err(), "{wrong}");
        }
        let given = "/r/s00003/n0000-0000000042";
        seq.accept(Kind::Create, 0, &path_body(given)).unwrap();
        let (kind, _, frame) = next(&mut seq, 0);
        let mut expected = wire::delete(given);
        wire::stamp_xid(&mut expected, 77);
        assert_eq!((kind, frame), (Kind::Delete, expected));
    }

    #[test]
    fn created_znodes_are_numbered() {
        let mut create = workload("create");
        next(&mut create, 0);
        let (kind, number, frame) = next(&mut create, 1);
        assert_eq!((kind, number), (Kind::Create, 1));
        let path = "/r/s00003/n0000000001";
        assert_eq!(&frame[PATH_OFFSET..PATH_OFFSET + path.len()], path.as_bytes());
        assert!(create.accept(Kind::Create, 0, &path_body(path)).is_err());
        create.accept(Kind::Create, 1, &path_body(path)).unwrap();
    }

    #[test]
    fn answers_of_the_wrong_shape_are_refused() {
        let stat = [0; STAT_BYTES];
        let mut reads = workload("r1");
        let value = |bytes: usize| [&(bytes as i32).to_be_bytes(), vec![b'v'; bytes].as_slice(), &stat].concat();
        reads.accept(Kind::Get, 0, &value(100)).unwrap();
        assert!(reads.accept(Kind::Get, 0, &value(99)).is_err());
        assert!(reads.accept(Kind::Get, 0, &value(100)[1..]).is_err());
        assert!(reads.accept(Kind::Set, 0, &stat[1..]).is_err());
        assert!(reads.accept(Kind::Create, 0, &path_body("/r")).is_err(), "nobody asked to create");

        let mut children = workload("children");
        let list = |count: usize| {
            let names: Vec<u8> = (0..count).flat_map(|child| path_body(&format!("child-{child}"))).collect();
            [&(count as i32).to_be_bytes(), names.as_slice()].concat()
        };
        children.accept(Kind::Children, 0, &list(CHILDREN)).unwrap();
        assert!(children.accept(Kind::Children, 0, &list(CHILDREN - 1)).is_err());
        assert!(children.accept(Kind::Children, 0, &[list(CHILDREN), vec![0]].concat()).is_err());
    }

    #[test]
    fn a_mixed_load_reads_as_often_as_asked() {
        let mut mixed = workload("mix1");
        let mut out = Vec::new();
        let reads = (0..10_000).filter(|_| mixed.next(0, 1, &mut out).0 == Kind::Get).count();
        assert!((8_850..9_150).contains(&reads), "{reads} reads of 10,000");
    }

    #[test]
    fn arrivals_have_the_mean_asked_for() {
        let mut random = Random::new(1);
        let sum: f64 = (0..100_000).map(|_| random.exponential(2.0)).sum();
        assert!((1.97..2.03).contains(&(sum / 100_000.0)));
    }
}
