//! Whole ensembles on one thread from one seed: the real core, the real storage, and a world that is out to get them.
//!
//! | file | holds |
//! | --- | --- |
//! | [`plan`] | what a seed decides before anything happens |
//! | [`world`] | everybody who is there, and what happens next; [`queue`] is its agenda |
//! | `hosting`, `meeting`, `settling` | its servers' turns; its connections and clients; its second phase |
//! | [`server`] | one process: the node on its store; [`disk`] and [`clock`] are its machine's |
//! | [`network`] | connections that break, lines of electors, ways that are cut |
//! | [`faults`], `strikes`, `nonsense` | what can go wrong, how often; what it does; what a mad peer says |
//! | [`event`] | what happens in the world, as the properties hear it |
//! | [`client`], [`workload`], [`history`] | the clients: what they do, what they want, what they saw |
//! | `administrator`, `config_files` | who changes the membership; where a server keeps what it knows of it |
//! | [`properties`] | one promise a file, checked after every step |
//! | [`trace`], [`coverage`] | what is told of a run; which rare branches were taken |
//! | [`mutations`] | rules broken on purpose, and how soon that is noticed |
//!
//! The same seed gives the same run, to the last bit: nothing here reads a clock, makes a thread or draws a number from
//! anywhere but [`chance`]. `cargo dev sim --seed N` tells a run; `tools`' `simulate` runs thousands. `sim` takes the place of
//! `shell`, which it does not know.

mod administrator;
pub mod chance;
pub mod client;
pub mod clock;
mod config_files;
pub mod coverage;
pub mod disk;
pub mod event;
pub mod faults;
pub mod history;
mod hosting;
mod meeting;
pub mod mutations;
pub mod network;
mod nonsense;
pub mod plan;
pub mod properties;
pub mod queue;
pub mod server;
mod settling;
#[cfg(test)]
mod solo_tests;
mod strikes;
pub mod trace;
pub mod workload;
pub mod world;
