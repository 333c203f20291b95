//! `currentEpoch` and `acceptedEpoch`, as Java reads them at its start. Spec: on-disk formats 7.3.
//! Java: `QuorumPeer.loadDataBase`.

use std::path::Path;

use super::JavaError;
use super::file::read_small;
use crate::Zxid;
use crate::disk::{Disk, Ids};
use crate::epoch_file;

pub const CURRENT: &str = "currentEpoch";
pub const ACCEPTED: &str = "acceptedEpoch";
const CURRENT_UNFINISHED: &str = "currentEpoch.tmp";

/// What a member of an ensemble has promised. `accepted` is never below `current`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs {
    pub current: u64,
    pub accepted: u64,
    /// Whether the files said so. A standalone server has none: both are then the last transaction's epoch.
    pub stored: bool,
}

impl Epochs {
    /// As our own files have them.
    pub fn ours(self) -> epoch_file::Epochs {
        let number = |epoch: u64| u32::try_from(epoch).expect("an epoch is half a zxid");
        epoch_file::Epochs { accepted: number(self.accepted), current: number(self.current) }
    }
}

impl From<epoch_file::Epochs> for Epochs {
    fn from(ours: epoch_file::Epochs) -> Epochs {
        Epochs { current: ours.current.into(), accepted: ours.accepted.into(), stored: true }
    }
}

pub(super) fn read(disk: &mut impl Disk, ids: &mut Ids, directory: &Path, last: Zxid) -> Result<Epochs, JavaError> {
    let mut number = |name: &str| -> Result<Option<u64>, JavaError> {
        let Some(bytes) = read_small(disk, ids, directory, name)? else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let epoch = text.trim().parse::<u64>().ok().filter(|epoch| u32::try_from(*epoch).is_ok());
        let why = || format!("{:?} is no epoch; restore it from a backup or another member", text.trim());
        epoch.map(Some).ok_or_else(|| JavaError::Epoch { file: directory.join(name), why: why() })
    };
    let of_last = last.0 >> 32;
    let (current, accepted) = (number(CURRENT)?, number(ACCEPTED)?);
    let stored = current.is_some() || accepted.is_some();
    let current = match current {
        None => of_last,
        Some(current) if of_last <= current => current,
        // Killed between two steps of taking on an epoch: the file beside it holds what was about to be.
        Some(current) => match number(CURRENT_UNFINISHED)? {
            Some(unfinished) if unfinished >= of_last => unfinished,
            _ => {
                let why = format!("epoch {current} is below that of the last transaction {last}");
                return Err(JavaError::Epoch { file: directory.join(CURRENT), why });
            }
        },
    };
    let accepted = accepted.unwrap_or(of_last.max(current));
    if accepted < current {
        let why = format!("epoch {accepted} is below the current one, {current}");
        return Err(JavaError::Epoch { file: directory.join(ACCEPTED), why });
    }
    Ok(Epochs { current, accepted, stored })
}
