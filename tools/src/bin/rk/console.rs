//! Where a command says what it found: lines for people, or one JSON object a line, from the same values.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use ringkeeper_storage::StoreError;
use serde::Serialize;

/// What a command came to. The exit status of the process follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// Damage, or a difference.
    Found,
}

impl Verdict {
    pub fn found_if(found: bool) -> Verdict {
        if found { Verdict::Found } else { Verdict::Fine }
    }

    pub fn or(self, other: Verdict) -> Verdict {
        Verdict::found_if(self == Verdict::Found || other == Verdict::Found)
    }
}

/// Why a command could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("{path}: {source}")]
    File {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("writing the answer failed: {0}")]
    Output(#[source] io::Error),
}

impl Failure {
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::Usage(message.into())
    }

    pub fn file(path: &Path) -> impl FnOnce(io::Error) -> Failure + use<> {
        let path = path.display().to_string();
        move |source| Failure::File { path, source }
    }

    /// The reader of our output has seen enough: `rk log dump FILE | head`.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Failure::Output(error) if error.kind() == ErrorKind::BrokenPipe)
    }
}

pub type Result<T> = std::result::Result<T, Failure>;

/// The command's standard output.
pub struct Console {
    json: bool,
    out: BufWriter<Box<dyn Write>>,
}

impl Console {
    pub fn stdout(json: bool) -> Console {
        Console::to(Box::new(io::stdout()), json)
    }

    pub fn to(out: Box<dyn Write>, json: bool) -> Console {
        Console { json, out: BufWriter::with_capacity(64 << 10, out) }
    }

    /// Says one thing.
    pub fn say(&mut self, item: &(impl Serialize + Display)) -> Result<()> {
        if self.json {
            serde_json::to_writer(&mut self.out, item).map_err(|error| Failure::Output(error.into()))?;
            self.out.write_all(b"\n").map_err(Failure::Output)
        } else {
            writeln!(self.out, "{item}").map_err(Failure::Output)
        }
    }

    /// To be called at the end: what was said may not have been written yet.
    pub fn finish(&mut self) -> Result<()> {
        self.out.flush().map_err(Failure::Output)
    }
}
