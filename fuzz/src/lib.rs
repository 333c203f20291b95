//! What strangers and peers may send, and what must hold whatever they send.
//!
//! A target takes any bytes, gives them to a decoder as the server would, and panics if a promise is broken: nothing panics,
//! nothing takes more memory than a small multiple of what has come ([`memory`]), and what was understood is the same when
//! it is written and read again. [`targets`] has them all.
//!
//! Two drivers feed them, from the same beginnings ([`samples`]: bytes recorded from Java's servers, and what earlier runs
//! found): [`seeded`] changes them by chance with a seed, the same inputs each time, and is part of `cargo dev test`;
//! [`guided`] lets libFuzzer look for inputs that take new ways through the code.

pub mod guided;
pub mod memory;
pub mod mutate;
pub mod samples;
pub mod seeded;
pub mod targets;

pub use targets::{TARGETS, Target};

/// One target by its name.
pub fn target(name: &str) -> Result<&'static Target, String> {
    TARGETS.iter().find(|target| target.name == name).ok_or_else(|| {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        format!("no target {name}; there are {}", names.join(", "))
    })
}
