//! Atomic broadcast: what is proposed, what a quorum has, what is committed.
//!
//! ```text
//!   leader ----> learner_handler ----> catch_up ----> window        learner ----> window
//!     |--> epoch, proposals ----> ballot ----> membership <--------------|
//! ```
//!
//! [`leader`] and [`learner`] are one role's state each, from its beginning to its end, and know nothing of each other but packets.
//! [`membership`] is who is there and what a quorum is, [`ballot`] the same compiled into masks. [`epoch`] chooses the epoch,
//! [`proposals`] counts acks, [`catch_up`] chooses between DIFF, TRUNC and SNAP by the [`window`] of the newest transactions,
//! [`reconfiguration`] has the rules by which the membership changes.
//!
//! Methods take what happened; effects leave as `Output`s, what the node has to do as events. Transactions are bytes in here; the
//! node, its sessions and its tree are not known (`tests/tidy.rs`); what a snapshot has to be, `core/snapshot_check.rs` says. Java: `Leader`, `LearnerHandler`, `Learner`, `Follower`,
//! `Observer`. Spec: quorum-protocol 5 to 10, 14, 20; differences: D-054 to D-059 in `docs/COMPATIBILITY.md`.
//!
//! A standalone server leads an ensemble of one: its own finished disk write is the whole quorum.

pub mod ballot;
pub mod catch_up;
pub mod epoch;
pub mod leader;
pub mod learner;
pub mod learner_handler;
pub mod masters;
pub mod membership;
pub mod proposals;
pub mod reconfiguration;
pub mod window;

pub use leader::Leader;
