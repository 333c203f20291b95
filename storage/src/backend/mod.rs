//! Where operations become system calls, or pretend to. The only place in this crate that knows files, clocks and rings.

pub mod blocking;
pub mod driver;
pub mod facts;
pub mod faulty;
pub mod lock;
pub mod memory;
pub mod threads;
pub mod uring;
pub mod view;
