//! The decoders of what comes from outside, and what is promised of each.
//!
//! | from | targets |
//! | --- | --- |
//! | clients and anybody else at the client port | [`clients`] |
//! | peers, and anybody else at the ports between servers | [`peers`], [`snapshots`] |

pub mod clients;
pub mod peers;
pub mod snapshots;

/// One decoder in the hands of a driver.
#[derive(Debug)]
pub struct Target {
    pub name: &'static str,
    /// Panics if a promise is broken.
    pub run: fn(&[u8]),
}

pub const TARGETS: &[Target] = &[
    Target { name: "frames", run: clients::frames },
    Target { name: "words", run: clients::words },
    Target { name: "connect", run: clients::connect },
    Target { name: "request", run: clients::request },
    Target { name: "transaction", run: peers::transaction },
    Target { name: "packets", run: peers::packets },
    Target { name: "introduction", run: peers::introduction },
    Target { name: "notification", run: peers::notification },
    Target { name: "configuration", run: peers::configuration },
    Target { name: "java_snapshot", run: snapshots::java },
    Target { name: "native_snapshot", run: snapshots::native },
];

/// Streams arrive in pieces: this much of an input decides which, and belongs to no stream.
pub const CONTROL_BYTES: usize = 1;

/// How an input wants to be dealt with, and the stream.
fn controlled(input: &[u8]) -> (u8, &[u8]) {
    match input {
        [control, stream @ ..] => (*control, stream),
        [] => (0, &[]),
    }
}

/// Ends of the pieces in which a stream arrives: all at once, or all of the same size, which six bits decide.
fn piece_ends(control: u8, stream: &[u8]) -> impl Iterator<Item = usize> {
    let bytes = stream.len();
    let piece_bytes = match control & 0x3f {
        0 => bytes.max(1),
        few @ 1..0x20 => usize::from(few),
        many => usize::from(many) * 16,
    };
    (0..bytes).step_by(piece_bytes).skip(1).chain([bytes])
}
