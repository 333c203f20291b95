//! The floor: a server that answers with made-up replies, so that one can see what no server can beat here.
//!
//! It keeps no znodes: any request succeeds, a read returns the last data written by anybody, every znode has the same ten
//! children. Good for the loads, storm and idle; watches are not kept. Run against it, a load measures the machine and the
//! generator itself. [`crate::floor_member`] serves it, alone or as one of three.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::ReadWriteFlags;

use crate::client::SESSION_TIMEOUT_MS;
use crate::scenario::CHILDREN;
use crate::wire::{self, Op, SEQUENCE_DIGITS, STAT_BYTES};
use crate::{Doing, Result};

#[derive(Default)]
pub struct Floor {
    /// Counts writes.
    zxid: i64,
    sessions: i64,
    /// What was written last, and is what everybody reads.
    value: Vec<u8>,
}

/// What a request asked for, beside its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The reply may leave at once.
    Nothing,
    /// The reply waits until the request is stored.
    Write,
    /// The connection ends behind the reply.
    Close,
}

impl Floor {
    /// Appends the reply.
    pub fn answer(&mut self, frame: &[u8], greeted: &mut bool, out: &mut Vec<u8>) -> Asked {
        if !std::mem::replace(greeted, true) {
            self.sessions += 1;
            wire::put_connect_response(SESSION_TIMEOUT_MS, self.sessions, out);
            return Asked::Nothing;
        }
        let Some((xid, op, record)) = wire::request_parts(frame) else { return Asked::Close };
        let (path, rest) = wire::buffer(record).unwrap_or_default();
        let asked = match op {
            Op::CREATE | Op::DELETE | Op::SET_DATA => Asked::Write,
            Op::CLOSE_SESSION => Asked::Close,
            _ => Asked::Nothing,
        };
        self.zxid += i64::from(asked == Asked::Write);
        wire::put_reply(xid, self.zxid, out, |out| match op {
            Op::CREATE => {
                self.remember(rest);
                let sequential = frame.last().is_some_and(|flags| flags & 2 != 0);
                let digits = if sequential { SEQUENCE_DIGITS } else { 0 };
                out.extend_from_slice(&((path.len() + digits) as i32).to_be_bytes());
                out.extend_from_slice(path);
                out.extend_from_slice(&b"0000000000"[..digits]);
            }
            Op::SET_DATA => {
                self.remember(rest);
                out.extend_from_slice(&[0; STAT_BYTES]);
            }
            Op::EXISTS => out.extend_from_slice(&[0; STAT_BYTES]),
            Op::GET_DATA => {
                out.extend_from_slice(&(self.value.len() as i32).to_be_bytes());
                out.extend_from_slice(&self.value);
                out.extend_from_slice(&[0; STAT_BYTES]);
            }
            Op::GET_CHILDREN => {
                out.extend_from_slice(&(CHILDREN as i32).to_be_bytes());
                for child in 0..CHILDREN as u8 {
                    out.extend_from_slice(&7i32.to_be_bytes());
                    out.extend_from_slice(b"child-");
                    out.push(b'0' + child);
                }
            }
            _ => {} // delete, ping, closeSession: nothing but the header
        });
        asked
    }

    /// Another member's client wrote this.
    pub fn learn(&mut self, frame: &[u8]) {
        if let Some((_, Op::CREATE | Op::SET_DATA, record)) = wire::request_parts(frame)
            && let Some((_, rest)) = wire::buffer(record)
        {
            self.remember(rest);
        }
    }

    /// Empty data belongs to znodes nobody reads.
    fn remember(&mut self, after_path: &[u8]) {
        if let Some((value, _)) = wire::buffer(after_path)
            && !value.is_empty()
        {
            self.value.clear();
            self.value.extend_from_slice(value);
        }
    }
}

const LOG_BYTES: u64 = 64 << 20;
const LOG_BLOCK_BYTES: usize = 4096;
const LOG_WRITE_BYTES_MAX: usize = 1 << 20;

/// Memory that O_DIRECT takes.
#[repr(align(4096))]
struct Aligned([u8; LOG_WRITE_BYTES_MAX]);

/// A ring of blocks already written once, so that a flush is a flush and not an allocation.
pub struct Log {
    file: File,
    at: u64,
    bytes: Box<Aligned>,
}

impl Log {
    pub fn create(path: &Path) -> Result<Log> {
        let mut file = File::create(path).doing(path.display())?;
        let bytes: Box<Aligned> = Box::new(Aligned([1; LOG_WRITE_BYTES_MAX]));
        for _ in 0..LOG_BYTES / LOG_WRITE_BYTES_MAX as u64 {
            file.write_all(&bytes.0).doing(path.display())?;
        }
        file.sync_all().doing(path.display())?;
        let direct = OFlags::DIRECT.bits() as i32;
        let file =
            OpenOptions::new().write(true).custom_flags(direct).open(path).doing("opening the log with O_DIRECT")?;
        Ok(Log { file, at: 0, bytes })
    }

    /// Writes and flushes as many blocks as so many bytes fill.
    pub fn flush(&mut self, bytes: usize) -> Result<()> {
        let mut left = bytes.next_multiple_of(LOG_BLOCK_BYTES);
        while left > 0 {
            let now = left.min(LOG_WRITE_BYTES_MAX).min((LOG_BYTES - self.at) as usize);
            let flags = ReadWriteFlags::DSYNC;
            let written = rustix::io::pwritev2(&self.file, &[IoSlice::new(&self.bytes.0[..now])], self.at, flags);
            assert_eq!(written.doing("writing the log")?, now, "O_DIRECT writes whole blocks or fails");
            self.at = (self.at + now as u64) % LOG_BYTES;
            left -= now;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_replies_have_the_shape_clients_expect() {
        const CLOSE: i32 = 10;
        let mut floor = Floor::default();
        let (mut greeted, mut out) = (false, Vec::new());
        let mut ask = |mut request: Vec<u8>, xid: i32| {
            if xid != 0 {
                wire::stamp_xid(&mut request, xid);
            }
            out.clear();
            let asked = floor.answer(&request[4..], &mut greeted, &mut out);
            let expected = match xid {
                7 => Asked::Write,
                CLOSE => Asked::Close,
                _ => Asked::Nothing,
            };
            assert_eq!(asked, expected);
            let (frame, rest) = wire::next_frame(&out).unwrap().unwrap();
            assert!(rest.is_empty());
            frame.to_vec()
        };
        assert_eq!(wire::connect_response(&ask(wire::connect_request(1), 0)).unwrap().session_id, 1);
        let created = ask(wire::create("/a/b-", b"seven", wire::FLAG_EPHEMERAL_SEQUENTIAL), 7);
        let (header, body) = wire::reply(&created).unwrap();
        assert_eq!((header.xid, header.zxid, header.err), (7, 1, 0));
        assert_eq!(wire::buffer(body).unwrap(), (&b"/a/b-0000000000"[..], &b""[..]));
        let got = ask(wire::get_data("/x", false), 8);
        let (value, stat) = wire::buffer(wire::reply(&got).unwrap().1).unwrap();
        assert_eq!((value, stat.len()), (&b"seven"[..], STAT_BYTES));
        let children = ask(wire::get_children("/x"), 9);
        assert_eq!(wire::strings(wire::reply(&children).unwrap().1).unwrap().len(), CHILDREN);
        assert!(wire::reply(&ask(wire::close_session(), CLOSE)).unwrap().1.is_empty());
        assert_eq!(floor.zxid, 1, "only the create was a write");
    }
}
