//! The promises, one a file, checked whenever something happens.
//!
//! | about | files |
//! | --- | --- |
//! | what ZAB promises (`Zab.tla`) | [`integrity`], [`agreement`], [`total_order`], [`local_primary_order`], [`global_primary_order`], [`primary_integrity`] |
//! | what that rests on | [`leader_completeness`], [`acked_is_durable`], [`honest_epochs`] |
//! | what servers have | [`committed_prefix`], [`equal_digest`] |
//! | what clients see | [`session_fifo`], [`session_moves`], [`session_zxid`], [`linearizable_writes`], [`reads_show_their_zxid`], [`sync_sees_acknowledged`], [`watch_before_data`], [`ephemerals`], [`sequential_names`] |
//!
//! A property hears every event after the [`truth`] has taken it in, and complains with a sentence. Each is proven to be able to
//! fail by its own tests.

pub mod acked_is_durable;
pub mod agreement;
pub mod committed_prefix;
pub mod ephemerals;
pub mod equal_digest;
pub mod global_primary_order;
pub mod honest_epochs;
pub mod integrity;
pub mod leader_completeness;
pub mod linearizable_writes;
pub mod local_primary_order;
pub mod primary_integrity;
pub mod reads_show_their_zxid;
mod request_rules;
pub mod sequential_names;
pub mod session_fifo;
pub mod session_moves;
pub mod session_zxid;
pub mod sync_sees_acknowledged;
#[cfg(test)]
mod testing;
pub mod total_order;
pub mod truth;
pub mod watch_before_data;

use std::fmt::Debug;

use super::event::{Event, Moment, Settled, Violation};
use crate::core::zab::membership::Membership;
use truth::Truth;

/// One promise.
pub trait Property: Debug {
    fn name(&self) -> &'static str;

    /// Something happened, and `truth` knows of it.
    fn observe(&mut self, at: Moment, event: &Event, truth: &Truth) -> Result<(), String>;

    /// All is over, and well: everybody is up and in step.
    fn at_end(&mut self, at: Moment, settled: &[Settled], truth: &Truth) -> Result<(), String> {
        let _ = (at, settled, truth);
        Ok(())
    }
}

/// Of all of them.
pub fn names() -> Vec<&'static str> {
    Properties::new(&Membership::of(1, 0)).all.iter().map(|property| property.name()).collect()
}

/// All of them, and the truth they share.
#[derive(Debug)]
pub struct Properties {
    truth: Truth,
    all: Vec<Box<dyn Property>>,
}

impl Properties {
    pub fn new(membership: &Membership) -> Properties {
        let all: Vec<Box<dyn Property>> = vec![
            Box::<integrity::Integrity>::default(),
            Box::<agreement::Agreement>::default(),
            Box::<total_order::TotalOrder>::default(),
            Box::<local_primary_order::LocalPrimaryOrder>::default(),
            Box::<global_primary_order::GlobalPrimaryOrder>::default(),
            Box::<primary_integrity::PrimaryIntegrity>::default(),
            Box::<leader_completeness::LeaderCompleteness>::default(),
            Box::<acked_is_durable::AckedIsDurable>::default(),
            Box::<honest_epochs::HonestEpochs>::default(),
            Box::<committed_prefix::CommittedPrefix>::default(),
            Box::<equal_digest::EqualDigest>::default(),
            Box::<session_fifo::SessionFifo>::default(),
            Box::<session_moves::SessionMoves>::default(),
            Box::<session_zxid::SessionZxid>::default(),
            Box::<linearizable_writes::LinearizableWrites>::default(),
            Box::<reads_show_their_zxid::ReadsShowTheirZxid>::default(),
            Box::<sync_sees_acknowledged::SyncSeesAcknowledged>::default(),
            Box::<watch_before_data::WatchBeforeData>::default(),
            Box::<ephemerals::Ephemerals>::default(),
            Box::<sequential_names::SequentialNames>::default(),
        ];
        Properties { truth: Truth::new(membership), all }
    }

    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// Everything that happens, in order.
    pub fn observe(&mut self, at: Moment, event: &Event) -> Result<(), Violation> {
        self.truth.observe(event).map_err(|why| Violation { property: "truth", why })?;
        for property in &mut self.all {
            property.observe(at, event, &self.truth).map_err(|why| Violation { property: property.name(), why })?;
        }
        Ok(())
    }

    /// After the liveness phase: everybody is up and in step.
    pub fn at_end(&mut self, at: Moment, settled: &[Settled]) -> Result<(), Violation> {
        for property in &mut self.all {
            property.at_end(at, settled, &self.truth).map_err(|why| Violation { property: property.name(), why })?;
        }
        Ok(())
    }
}
