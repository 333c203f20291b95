//! What a run asks of the server, by name.
//!
//! The names are those of the baseline measurements, so that figures taken years apart can be put side by side.

use clap::ValueEnum;
use serde::Serialize;

/// What the sessions of a load do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Ops {
    /// setData on the session's own znode.
    Set,
    /// getData of the session's own znode.
    Get,
    /// exists on the session's own znode.
    Exists,
    /// getChildren of the session's own znode, which has ten.
    Children,
    /// getData and setData, chosen at random (`--ratio` is the share of reads).
    Mixed,
    /// create of one new znode after another; they stay until the end of the run.
    Create,
    /// create of a persistent znode, then delete of it; each counts as one operation.
    CreateDelete,
    /// The same with an ephemeral znode.
    Ephemeral,
    /// The same with an ephemeral sequential znode, deleted by the name the server gave.
    Sequential,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Load {
    pub name: String,
    pub ops: Ops,
    pub sessions: usize,
    /// Requests each session keeps in flight. An open loop ignores it.
    pub outstanding: usize,
    pub value_bytes: usize,
    /// Share of reads in a mixed load.
    pub read_percent: u8,
    pub arrivals: Arrivals,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// A reply makes room for the next request.
    Closed,
    /// Poisson arrivals, whatever the replies do; latency counts from the moment a request was due.
    Open { per_second: f64 },
    /// Open, at a rate that still has to be given.
    OpenAtUnknownRate,
}

/// Children of a session's znode in a `children` load.
pub const CHILDREN: usize = 10;

/// One named load: name, operations, sessions, outstanding, value bytes.
const NAMED: [(&str, Ops, usize, usize, usize); 18] = [
    ("w1", Ops::Set, 1, 1, 100),
    ("w1_10k", Ops::Set, 1, 1, 10 << 10),
    ("w100", Ops::Set, 100, 1, 100),
    ("wpipe", Ops::Set, 10, 100, 100),
    ("wpipe1k", Ops::Set, 10, 100, 1 << 10),
    ("wpipe10k", Ops::Set, 10, 20, 10 << 10),
    ("r1", Ops::Get, 1, 1, 100),
    ("r100", Ops::Get, 100, 1, 100),
    ("rpipe", Ops::Get, 10, 100, 100),
    ("exists", Ops::Exists, 10, 100, 100),
    ("children", Ops::Children, 10, 10, 100),
    ("mix1", Ops::Mixed, 100, 1, 100),
    ("mixpipe", Ops::Mixed, 10, 100, 100),
    ("create", Ops::Create, 10, 100, 100),
    ("crdel", Ops::CreateDelete, 10, 10, 100),
    ("eph", Ops::Ephemeral, 100, 1, 100),
    ("seq", Ops::Sequential, 10, 10, 100),
    ("open50", Ops::Set, 100, 1, 100),
];

impl Load {
    pub fn named(name: &str) -> Option<Load> {
        let (name, ops, sessions, outstanding, value_bytes) = NAMED.into_iter().find(|named| named.0 == name)?;
        Some(Load {
            name: name.to_owned(),
            ops,
            sessions,
            outstanding,
            value_bytes,
            read_percent: 90,
            arrivals: if name == "open50" { Arrivals::OpenAtUnknownRate } else { Arrivals::Closed },
        })
    }

    /// All names, for messages.
    pub fn names() -> Vec<&'static str> {
        NAMED.map(|named| named.0).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_once() {
        for name in Load::names() {
            assert_eq!(Load::named(name).unwrap().name, name);
            assert_eq!(Load::names().into_iter().filter(|other| *other == name).count(), 1);
        }
        assert_eq!(Load::named("w2"), None);
    }

    #[test]
    fn the_baseline_loads_are_what_they_were() {
        let wpipe = Load::named("wpipe").unwrap();
        assert_eq!((wpipe.ops, wpipe.sessions, wpipe.outstanding, wpipe.value_bytes), (Ops::Set, 10, 100, 100));
        let mix1 = Load::named("mix1").unwrap();
        assert_eq!((mix1.sessions, mix1.outstanding, mix1.read_percent), (100, 1, 90));
        assert_eq!(Load::named("open50").unwrap().arrivals, Arrivals::OpenAtUnknownRate);
    }
}
