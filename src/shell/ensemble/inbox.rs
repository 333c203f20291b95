//! What a link has brought and nobody has taken yet. There is room behind it for the next read, which nobody has to clear
//! first: the bytes of a read are known by their count.

use std::cell::OnceCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures_lite::AsyncRead;

/// Bytes read at a time.
const READ_BYTES: usize = 256 * 1024;

#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    begin: usize,
    end: usize,
}

/// How a read came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    AtOnce,
    /// Others had their turn meanwhile.
    Awaited,
    EndOfStream,
}

impl Inbox {
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.begin..self.end]
    }

    /// The same, to be taken apart into packets.
    pub fn unread_to_keep(&self) -> Unread<'_> {
        Unread { bytes: self.unread(), kept: OnceCell::new() }
    }

    pub fn take(&mut self, bytes: usize) {
        self.begin += bytes;
        assert!(self.begin <= self.end, "only what was read is taken");
    }

    pub fn take_all(&mut self) {
        self.begin = self.end;
    }

    pub async fn read_more(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Arrival> {
        self.make_room();
        let room = &mut self.bytes[self.end..];
        let mut arrival = Arrival::AtOnce;
        let read = loop {
            let read = poll_fn(|cx| {
                let read = Pin::new(&mut *reader).poll_read(cx, room);
                if read.is_pending() {
                    arrival = Arrival::Awaited;
                }
                read
            });
            match read.await {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.end += read;
        Ok(if read == 0 { Arrival::EndOfStream } else { arrival })
    }

    /// What is unread moves to the front; what was long does not keep its memory.
    fn make_room(&mut self) {
        if self.begin > 0 {
            self.bytes.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        let wanted = self.end + READ_BYTES;
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        } else if self.bytes.len() > 2 * wanted {
            self.bytes.truncate(wanted);
            self.bytes.shrink_to_fit();
        }
    }
}

/// Bytes of which parts may be kept. They are copied when the first part is: once, not for each.
#[derive(Debug)]
pub struct Unread<'a> {
    pub bytes: &'a [u8],
    kept: OnceCell<Bytes>,
}

impl Unread<'_> {
    /// # Panics
    /// When this is not a part of the bytes.
    pub fn keep(&self, part: &[u8]) -> Bytes {
        let begin = part.as_ptr().addr() - self.bytes.as_ptr().addr();
        self.kept.get_or_init(|| Bytes::copy_from_slice(self.bytes)).slice(begin..begin + part.len())
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn what_is_not_taken_stays_in_front_of_what_comes() {
        let mut inbox = Inbox::default();
        assert_eq!(block_on(inbox.read_more(&mut &b"abc"[..])).unwrap(), Arrival::AtOnce);
        inbox.take(1);
        assert_eq!(block_on(inbox.read_more(&mut &b"def"[..])).unwrap(), Arrival::AtOnce);
        assert_eq!(inbox.unread(), b"bcdef");
        inbox.take_all();
        assert_eq!(inbox.unread(), b"");
        assert_eq!(block_on(inbox.read_more(&mut &b""[..])).unwrap(), Arrival::EndOfStream);
    }

    #[test]
    fn parts_that_are_kept_share_one_copy() {
        let mut inbox = Inbox::default();
        block_on(inbox.read_more(&mut &b"abcdef"[..])).unwrap();
        inbox.take(1);
        let unread = inbox.unread_to_keep();
        let parts = [&unread.bytes[..2], &unread.bytes[2..2], &unread.bytes[2..]].map(|part| unread.keep(part));
        assert_eq!(parts, [&b"bc"[..], b"", b"def"]);
        assert_eq!(parts[0].as_ptr().addr() + 2, parts[2].as_ptr().addr());
        inbox.take_all();
        block_on(inbox.read_more(&mut &b"xxxxxx"[..])).unwrap();
        assert_eq!(parts[2], "def", "whatever comes next");
    }

    #[test]
    fn something_long_has_room_and_gives_it_back() {
        let long = vec![7; 3 * READ_BYTES];
        let (mut inbox, mut rest) = (Inbox::default(), &long[..]);
        while block_on(inbox.read_more(&mut rest)).unwrap() != Arrival::EndOfStream {}
        assert_eq!(inbox.unread(), long);
        inbox.take_all();
        block_on(inbox.read_more(&mut &b"x"[..])).unwrap();
        assert_eq!((inbox.unread(), inbox.bytes.capacity()), (&b"x"[..], READ_BYTES));
    }
}
