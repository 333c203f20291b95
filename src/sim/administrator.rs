//! The client that changes the membership: servers join, leave and change their part, a few at a time or all at once, whatever
//! the ensemble is going through.

use std::collections::BTreeMap;

use super::chance::{Chance, Draw};
use crate::core::ServerId;
use crate::core::zab::membership::{MemberRole, Membership};
use crate::wire::client::Request;

/// What one server is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Voter,
    Observer,
    Gone,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reconfigure {
    /// These change, the others stay what they are.
    Step(BTreeMap<i64, Part>),
    /// Whoever is not here goes.
    Whole(BTreeMap<i64, Part>),
}

impl Reconfigure {
    /// Among servers 1 to `servers`.
    pub fn draw(servers: i64, chance: &mut Chance) -> Reconfigure {
        let part = |chance: &mut Chance| *chance.pick(&[Part::Voter, Part::Voter, Part::Observer, Part::Gone]);
        let any = |chance: &mut Chance| chance.between(1..servers as u64 + 1) as i64;
        match chance.below(8) {
            // Sometimes nearly everybody.
            0 | 1 => Reconfigure::Whole((1..=servers).map(|id| (id, part(chance))).collect()),
            // All that voted may go.
            2 => {
                let others = any(chance);
                let part = |id: i64| if id >= others { Part::Voter } else { Part::Gone };
                Reconfigure::Whole((1..=servers).map(|id| (id, part(id))).collect())
            }
            3 => Reconfigure::Whole((1..=servers).map(|id| (id, Part::Voter)).collect()),
            _ => {
                let count = 1 + chance.below(3);
                Reconfigure::Step((0..count).map(|_| (any(chance), part(chance))).collect())
            }
        }
    }

    pub fn request(&self) -> Request<'static> {
        let lines = |parts: &BTreeMap<i64, Part>| {
            let there = parts.iter().filter_map(|(id, part)| Some(line(*id, role(*part)?)));
            there.collect::<Vec<_>>().join(",")
        };
        match self {
            Reconfigure::Step(parts) => {
                let leaving = parts.iter().filter(|(_, part)| **part == Part::Gone).map(|(id, _)| id.to_string());
                let leaving = leaving.collect::<Vec<_>>().join(",");
                let (joining, leaving) = (Some(lines(parts).into()), Some(leaving.into()));
                Request::Reconfig { joining, leaving, new_members: None, config_id: -1 }
            }
            Reconfigure::Whole(parts) => {
                let new_members = Some(lines(parts).into());
                Request::Reconfig { joining: None, leaving: None, new_members, config_id: -1 }
            }
        }
    }

    /// The parts that servers must have after it.
    pub fn outcome(&self, before: &Membership) -> BTreeMap<ServerId, MemberRole> {
        let (mut roles, parts) = match self {
            Reconfigure::Step(parts) => (roles_in(before), parts),
            Reconfigure::Whole(parts) => (BTreeMap::new(), parts),
        };
        for (id, part) in parts {
            match role(*part) {
                Some(role) => roles.insert(ServerId(*id), role),
                None => roles.remove(&ServerId(*id)),
            };
        }
        roles
    }
}

pub fn roles_in(membership: &Membership) -> BTreeMap<ServerId, MemberRole> {
    membership.members.iter().map(|(id, member)| (*id, member.role)).collect()
}

fn role(part: Part) -> Option<MemberRole> {
    match part {
        Part::Voter => Some(MemberRole::Participant),
        Part::Observer => Some(MemberRole::Observer),
        Part::Gone => None,
    }
}

/// Where everybody in this world is (`Membership::of`), clients' port included.
fn line(id: i64, role: MemberRole) -> String {
    let role = if role == MemberRole::Observer { "observer" } else { "participant" };
    format!("server.{id}=10.0.0.{id}:2888:3888:{role};10.0.0.{id}:2181")
}
