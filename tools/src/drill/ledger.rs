//! What clients that write the same nodes know together, and what none of them may therefore be told.
//!
//! A register is a node that is only ever set under the version that its writer knows, to a value that nobody uses twice. So
//! versions are the order of its writes, and all of this can be said without knowing when anything happened inside:
//!
//! * one version holds one value under one zxid, whoever looks, for ever;
//! * a write that was answered made the version after the one it expected, and one above all that were answered before it was
//!   sent; a value that is seen was sent under the version before; a refused write's value is never seen, and the version it
//!   expected is not the last;
//! * in the end, every version was made by a write that was answered, or by one that never was and expected the version before.
//!
//! With the order of answers in time, that is linearizability of the writes. (Reads may be old, as everywhere in this protocol.)
//!
//! Numbered names: no number twice, each above all that were answered before it was asked for, and all are there in the end.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::load::actor::Broken;
use crate::load::model::data_of;
use crate::wire::Stat;

type Outcome<T = ()> = std::result::Result<T, Broken>;

#[derive(Debug, Default)]
pub struct Ledger {
    registers: Vec<Register>,
    names: Names,
}

#[derive(Debug, Default)]
struct Register {
    /// Value and zxid of each version that somebody was told of.
    made: BTreeMap<i32, (u64, i64)>,
    /// Sent and not answered, or not yet: values, and the version each expected.
    open: HashMap<u64, i32>,
    /// The highest version that a writer was told it made.
    answered: i32,
    /// The highest version that a refused write expected.
    refused: i32,
}

#[derive(Debug, Default)]
struct Names {
    /// The highest number that somebody was told.
    told: Option<u32>,
    /// What was told and not deleted.
    there: BTreeMap<u32, u64>,
    /// A delete has been sent.
    leaving: BTreeMap<u32, u64>,
    /// Values of creates that are not answered.
    open: HashSet<u64>,
}

/// The value in a register's or a numbered node's data, which must be all of it.
pub fn value_of(data: &[u8]) -> Outcome<u64> {
    let digits = data.get(..16).and_then(|digits| std::str::from_utf8(digits).ok());
    let value = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    value
        .filter(|value| data_of(*value) == data)
        .ok_or_else(|| broken(format!("{} bytes that nobody wrote", data.len())))
}

fn broken(what: String) -> Broken {
    Broken(what)
}

impl Ledger {
    /// Registers of version 0, which hold the value of their number.
    pub fn new(registers: usize) -> Ledger {
        Ledger { registers: (0..registers).map(|_| Register::default()).collect(), names: Names::default() }
    }

    /// What no write sent from now on may make: this version or an older one.
    pub fn send(&mut self, register: usize, value: u64, expected: i32) -> i32 {
        let register = &mut self.registers[register];
        register.open.insert(value, expected);
        register.answered
    }

    pub fn answered(&mut self, at: usize, value: u64, floor: i32, stat: &Stat) -> Outcome {
        let register = &mut self.registers[at];
        let expected = register.open[&value];
        if stat.version != expected + 1 {
            return Err(broken(format!(
                "register {at}: a write that expected version {expected} made {}",
                stat.version
            )));
        }
        if stat.version <= floor {
            let version = stat.version;
            return Err(broken(format!("register {at}: version {version} was made after {floor} had been answered")));
        }
        register.see(at, value, stat)?;
        register.open.remove(&value);
        register.answered = register.answered.max(stat.version);
        Ok(())
    }

    /// For its version.
    pub fn refused(&mut self, at: usize, value: u64) -> Outcome {
        let register = &mut self.registers[at];
        register.refused = register.refused.max(register.open[&value]);
        self.turned_away(at, value)
    }

    /// For whatever reason.
    pub fn turned_away(&mut self, at: usize, value: u64) -> Outcome {
        let register = &mut self.registers[at];
        register.open.remove(&value).expect("it was sent");
        match register.made.values().any(|(made, _)| *made == value) {
            true => Err(broken(format!("register {at}: {value:#x} was refused and is there"))),
            false => Ok(()),
        }
    }

    pub fn read(&mut self, at: usize, data: &[u8], stat: &Stat) -> Outcome {
        let value = value_of(data)?;
        self.registers[at].see(at, value, stat)
    }

    /// Everybody has been answered, or has found out that he will not be; this is what is there.
    pub fn settle(&mut self, at: usize, data: &[u8], stat: &Stat) -> Outcome<usize> {
        let value = value_of(data)?;
        let register = &mut self.registers[at];
        register.see(at, value, stat)?;
        let last = stat.version;
        if last < register.answered || register.refused >= last && register.refused > 0 {
            let (answered, refused) = (register.answered, register.refused);
            return Err(broken(format!(
                "register {at} is at {last}, answered {answered}, refused for want of {refused}"
            )));
        }
        let first = register.made.first_key_value().map_or(last, |(version, _)| *version);
        for version in first..=last {
            let could_be = |expected: &i32| *expected == version - 1;
            if !register.made.contains_key(&version) && !register.open.values().any(could_be) {
                return Err(broken(format!("register {at}: nobody made version {version}")));
            }
        }
        let checked = (last - first) as usize;
        register.made.retain(|version, _| *version == last);
        register.open.clear();
        register.refused = 0;
        Ok(checked)
    }

    pub fn ask_name(&mut self, value: u64) -> Option<u32> {
        self.names.open.insert(value);
        self.names.told
    }

    pub fn named(&mut self, value: u64, number: u32, floor: Option<u32>) -> Outcome {
        let names = &mut self.names;
        if floor.is_some_and(|floor| number <= floor) {
            return Err(broken(format!("number {number} was given after {floor:?} had been")));
        }
        if names.there.insert(number, value).is_some() || names.leaving.contains_key(&number) {
            return Err(broken(format!("number {number} was given twice")));
        }
        names.open.remove(&value);
        names.told = names.told.max(Some(number));
        Ok(())
    }

    pub fn not_named(&mut self, value: u64) {
        self.names.open.remove(&value);
    }

    pub fn delete_name(&mut self, number: u32) {
        let value = self.names.there.remove(&number).expect("it is there");
        self.names.leaving.insert(number, value);
    }

    pub fn deleted(&mut self, number: u32) {
        self.names.leaving.remove(&number);
    }

    /// What is there in the end. The numbers are forgotten: whoever settles deletes the nodes.
    pub fn settle_names(&mut self, seen: &BTreeMap<u32, Vec<u8>>) -> Outcome {
        let names = std::mem::take(&mut self.names);
        if let Some(lost) = names.there.keys().find(|number| !seen.contains_key(number)) {
            return Err(broken(format!("number {lost} was given, and is gone")));
        }
        for (number, data) in seen {
            let value = value_of(data)?;
            let known = names.there.get(number).or(names.leaving.get(number));
            match known {
                Some(known) if *known == value => {}
                None if names.open.contains(&value) => {}
                _ => return Err(broken(format!("number {number} holds {value:#x}, which should be {known:x?}"))),
            }
        }
        self.names.told = names.told;
        Ok(())
    }
}

impl Register {
    fn see(&mut self, at: usize, value: u64, stat: &Stat) -> Outcome {
        let Stat { version, mzxid, .. } = *stat;
        if let Some(known) = self.made.get(&version) {
            return match *known == (value, mzxid) {
                true => Ok(()),
                false => {
                    Err(broken(format!("register {at}, version {version}: {value:#x} at {mzxid:#x}, and {known:x?}")))
                }
            };
        }
        let is_sent = self.open.get(&value).is_some_and(|expected| *expected == version - 1);
        // Who reads may be behind what was settled, and forgotten.
        let is_old = self.made.first_key_value().is_some_and(|(first, _)| version < *first);
        if !is_sent && !is_old && version > 0 {
            return Err(broken(format!("register {at}, version {version} holds {value:#x}, which nobody sent for it")));
        }
        if !is_old {
            self.made.insert(version, (value, mzxid));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(version: i32, mzxid: i64) -> Stat {
        Stat { version, mzxid, ..Stat::default() }
    }

    /// Version 0 was seen, and 5 was written as version 1.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(1);
        ledger.read(0, &data_of(0), &at(0, 1)).unwrap();
        let floor = ledger.send(0, 5, 0);
        ledger.answered(0, 5, floor, &at(1, 10)).unwrap();
        ledger
    }

    #[test]
    fn an_order_that_could_be_passes() {
        let mut ledger = ledger();
        ledger.send(0, 6, 1); // never answered, and was done
        let floor = ledger.send(0, 7, 2);
        ledger.answered(0, 7, floor, &at(3, 12)).unwrap();
        ledger.send(0, 8, 2);
        ledger.refused(0, 8).unwrap();
        ledger.read(0, &data_of(6), &at(2, 11)).unwrap();
        assert_eq!(ledger.settle(0, &data_of(7), &at(3, 12)).unwrap(), 3);
        let floor = ledger.send(0, 9, 3);
        assert_eq!(floor, 3);
    }

    #[test]
    fn a_lost_write_is_seen() {
        assert!(ledger().settle(0, &data_of(0), &at(0, 1)).is_err());
    }

    #[test]
    fn a_version_that_two_writers_made_is_seen() {
        let mut ledger = ledger();
        ledger.send(0, 6, 0);
        assert!(ledger.answered(0, 6, 0, &at(1, 11)).is_err());
        assert!(ledger.read(0, &data_of(6), &at(1, 10)).is_err());
    }

    #[test]
    fn a_write_that_was_done_twice_is_seen() {
        let mut ledger = ledger();
        assert!(ledger.read(0, &data_of(5), &at(2, 11)).is_err());
        ledger.send(0, 6, 1);
        assert!(ledger.settle(0, &data_of(6), &at(3, 11)).is_err());
    }

    #[test]
    fn a_refused_write_that_is_there_is_seen() {
        let mut ledger = ledger();
        ledger.send(0, 6, 1);
        ledger.refused(0, 6).unwrap();
        assert!(ledger.read(0, &data_of(6), &at(2, 11)).is_err());
        assert!(ledger.settle(0, &data_of(5), &at(1, 10)).is_err(), "version 1 was not the last");
    }

    #[test]
    fn a_write_that_was_turned_away_and_is_there_is_seen() {
        let mut ledger = ledger();
        ledger.send(0, 6, 1);
        ledger.turned_away(0, 6).unwrap();
        assert!(ledger.read(0, &data_of(6), &at(2, 11)).is_err());
        assert!(ledger.settle(0, &data_of(5), &at(1, 10)).is_ok(), "version 1 may be the last");
        ledger.ask_name(7);
        ledger.not_named(7);
        assert!(ledger.settle_names(&BTreeMap::from([(0, data_of(7))])).is_err());
    }

    #[test]
    fn a_write_that_went_back_in_time_is_seen() {
        let mut ledger = ledger();
        ledger.send(0, 6, 1);
        let floor = ledger.send(0, 7, 2);
        ledger.answered(0, 7, floor, &at(3, 12)).unwrap();
        let floor = ledger.send(0, 8, 1);
        assert!(ledger.answered(0, 8, floor, &at(2, 11)).is_err());
    }

    #[test]
    fn names_are_new_and_stay() {
        let mut ledger = Ledger::new(0);
        let floor = ledger.ask_name(3);
        ledger.named(3, 7, floor).unwrap();
        let floor = ledger.ask_name(4);
        assert!(ledger.named(4, 7, floor).is_err());
        assert!(ledger.settle_names(&BTreeMap::new()).is_err());
        let mut ledger = Ledger::new(0);
        ledger.ask_name(3);
        ledger.settle_names(&BTreeMap::from([(0, data_of(3))])).unwrap();
        assert!(ledger.settle_names(&BTreeMap::from([(1, data_of(3))])).is_err(), "nobody asks for it now");
    }
}
