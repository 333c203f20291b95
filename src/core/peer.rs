//! A member of an ensemble: which part this server has in it, and what it does when that changes.
//!
//!   Looking --decided--> Leading | Following | Observing --over--> Settling --everything logged is durable and applied--> Looking
//!
//! Java: `QuorumPeer`. Spec: quorum-protocol 4.5, 8.

use super::node::Node;
use super::replay::Recovered;
use super::settings::Settings;
use super::types::{Epochs, Input, Now, Output, Standing};
use super::zab::membership::Configurations;

/// What a member starts from.
#[derive(Debug)]
pub struct MemberStart {
    pub recovered: Recovered,
    pub epochs: Epochs,
    pub standing: Standing,
    pub configs: Configurations,
}

impl Node {
    /// A member of an ensemble, which begins by looking for a leader. `out` takes its first words.
    pub fn member(settings: Settings, start: MemberStart, now: Now, out: &mut Vec<Output>) -> Node {
        let _ = (start.epochs, start.standing, start.configs, out);
        Node::standalone(settings, start.recovered, now)
    }

    /// When `Input::Tick` is due at the latest, monotonic microseconds.
    pub fn wake_us(&self) -> Option<u64> {
        None
    }

    /// Everything that only members hear of.
    pub(super) fn on_ensemble_input(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Output>) {
        let _ = (now, input, out);
    }
}
