//! Whole ensembles on one thread from one seed: the real core, the real storage, and a world that is out to get them.
//!
//! | file | holds |
//! | --- | --- |
//! | [`event`] | what happens in the world, as the properties hear it |
//! | [`client`], [`workload`], [`history`] | the clients: what they do, what they want, what they saw |
//! | [`properties`] | one promise a file, checked after every step |
//!
//! The same seed gives the same run, to the last bit: nothing here reads a clock, makes a thread or draws a number from
//! anywhere but [`Chance`](ringkeeper_storage::backend::memory::Chance). `cargo dev sim --seed N` tells a run; `tools`'
//! `simulate` runs thousands. `sim` takes the place of `shell`, which it does not know.

pub mod client;
pub mod event;
pub mod history;
pub mod properties;
pub mod workload;
