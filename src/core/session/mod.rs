//! Sessions: who is alive, for how long, and how a client proves that a session is its own.
//!
//! [`identity`]: ids and passwords. [`table`]: every open session with its deadline and connection. [`expiry`]: buckets.
//! [`local`]: those that only this server knows.

pub mod expiry;
pub mod identity;
pub mod local;
pub mod table;

pub use table::{Heard, Owner, Session, SessionTable};
