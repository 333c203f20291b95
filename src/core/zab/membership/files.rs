//! In which order a change of the membership is written down. The files: `config/dynamic_files.rs`. The writers: the shell's, and the
//! simulator's, whose servers die between any two steps.

use super::Membership;

/// What happens to the membership.
#[derive(Clone, Debug)]
pub enum MembersChange {
    /// A configuration was proposed.
    Seen(Box<Membership>),
    /// It was taken back.
    Forgotten,
    /// A configuration is in force.
    Activated(Box<Membership>),
}

/// A write that such a change takes.
#[derive(Clone, Copy, Debug)]
pub enum FileStep<'a> {
    WriteNext(&'a Membership),
    WriteInForce(&'a Membership),
    /// zoo.cfg says where the one in force is.
    Point(&'a Membership),
    /// `through`: unless a later one than this was seen since.
    RemoveNext {
        through: Option<u64>,
    },
}

impl MembersChange {
    /// In order: each is durable before the next one begins, and one that cannot be done ends the change. A start that does
    /// not find what is in force begins with the members of before, and needs to know what was proposed since.
    pub fn steps(&self) -> Vec<FileStep<'_>> {
        match self {
            MembersChange::Seen(proposed) => vec![FileStep::WriteNext(proposed)],
            MembersChange::Forgotten => vec![FileStep::RemoveNext { through: None }],
            MembersChange::Activated(membership) => vec![
                FileStep::WriteInForce(membership),
                FileStep::Point(membership),
                FileStep::RemoveNext { through: Some(membership.version) },
            ],
        }
    }
}
