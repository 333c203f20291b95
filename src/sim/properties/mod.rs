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

/// All of them, in the order in which they are asked. Not behind pointers: most events mean nothing to most promises, and that
/// must cost nothing.
macro_rules! promises {
    ($($module:ident::$Property:ident),+ $(,)?) => {
        #[derive(Debug, Default)]
        struct All {
            $($module: $module::$Property,)+
        }

        impl All {
            fn names(&self) -> Vec<&'static str> {
                vec![$(self.$module.name()),+]
            }

            fn observe(&mut self, at: Moment, event: &Event, truth: &Truth) -> Result<(), Violation> {
                $(self.$module.observe(at, event, truth).map_err(|why| broken(&self.$module, why))?;)+
                Ok(())
            }

            fn at_end(&mut self, at: Moment, settled: &[Settled], truth: &Truth) -> Result<(), Violation> {
                $(self.$module.at_end(at, settled, truth).map_err(|why| broken(&self.$module, why))?;)+
                Ok(())
            }
        }
    };
}

promises! {
    integrity::Integrity,
    agreement::Agreement,
    total_order::TotalOrder,
    local_primary_order::LocalPrimaryOrder,
    global_primary_order::GlobalPrimaryOrder,
    primary_integrity::PrimaryIntegrity,
    leader_completeness::LeaderCompleteness,
    acked_is_durable::AckedIsDurable,
    honest_epochs::HonestEpochs,
    committed_prefix::CommittedPrefix,
    equal_digest::EqualDigest,
    session_fifo::SessionFifo,
    session_moves::SessionMoves,
    session_zxid::SessionZxid,
    linearizable_writes::LinearizableWrites,
    reads_show_their_zxid::ReadsShowTheirZxid,
    sync_sees_acknowledged::SyncSeesAcknowledged,
    watch_before_data::WatchBeforeData,
    ephemerals::Ephemerals,
    sequential_names::SequentialNames,
}

fn broken(property: &impl Property, why: String) -> Violation {
    Violation { property: property.name(), why }
}

/// Of all of them.
pub fn names() -> Vec<&'static str> {
    All::default().names()
}

/// All of them, and the truth they share.
#[derive(Debug)]
pub struct Properties {
    truth: Truth,
    all: All,
}

impl Properties {
    pub fn new(membership: &Membership) -> Properties {
        Properties { truth: Truth::new(membership), all: All::default() }
    }

    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// Everything that happens, in order.
    pub fn observe(&mut self, at: Moment, event: &Event) -> Result<(), Violation> {
        self.truth.observe(event).map_err(|why| Violation { property: "truth", why })?;
        self.all.observe(at, event, &self.truth)
    }

    /// After the liveness phase: everybody is up and in step.
    pub fn at_end(&mut self, at: Moment, settled: &[Settled]) -> Result<(), Violation> {
        self.all.at_end(at, settled, &self.truth)
    }
}
