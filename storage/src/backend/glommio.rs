//! Waiting for the ring inside a glommio executor.
//!
//! glommio 0.9 can await no foreign descriptor; but it can read one "file" at offset 0, and a read of an eventfd is complete
//! when something was signalled. So the ring's eventfd goes in as a `BufferedFile`.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd};

use glommio::io::BufferedFile;

/// An eventfd to be awaited; made into glommio's kind of file on first use, on the executor it is used on.
#[derive(Debug)]
pub struct Readiness {
    eventfd: OwnedFd,
    file: RefCell<Option<std::rc::Rc<BufferedFile>>>,
}

impl Readiness {
    pub(super) fn new(eventfd: OwnedFd) -> Readiness {
        Readiness { eventfd, file: RefCell::new(None) }
    }

    /// Resolves when the eventfd has been signalled since it was last read; then ask [`super::uring::Ring::completions`].
    ///
    /// Keep a wait until it is over. One that is dropped stays with the kernel until its cancellation gets there, and may
    /// take a signal with it that nobody then hears of.
    pub async fn signalled(&self) -> io::Result<()> {
        let known = self.file.borrow().clone();
        let file = match known {
            Some(file) => file,
            None => {
                let own = self.eventfd.as_fd().try_clone_to_owned()?;
                // SAFETY: the descriptor was just duplicated and `into_raw_fd` gives it up, so the `BufferedFile` is its
                // only owner and closes it once. It outlives no executor: it is dropped with the ring that awaits it.
                let file = std::rc::Rc::new(unsafe { BufferedFile::from_raw_fd(own.into_raw_fd()) });
                self.file.replace(Some(file.clone()));
                file
            }
        };
        file.read_at(0, 8).await.map(|_| ()).map_err(io::Error::from)
    }
}
