//! The few messages of the client protocol that a load and its checks need, over a plain blocking socket.
//!
//! Written from the protocol, not from the server's code: two readings of one specification check each other.
//! Spec: client-protocol 1, 4, 5, 7, 9. Not here, on purpose: watches but those of a getData, ACLs beyond world:anyone, authentication.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Result;

/// A server that says nothing for so long is taken for dead.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
const FRAME_BYTES_MAX: usize = 16 << 20;
const PERSISTENT_SEQUENTIAL: i32 = 2;
/// What stands in the place of a request's number, when nobody asked.
const EVENT_XID: i32 = -1;

pub mod code {
    pub const OK: i32 = 0;
    pub const SYSTEM_ERROR: i32 = -1;
    pub const NO_NODE: i32 = -101;
    pub const BAD_VERSION: i32 = -103;
    pub const NEW_CONFIG_NO_QUORUM: i32 = -13;
    pub const RECONFIG_IN_PROGRESS: i32 = -14;
    pub const NODE_EXISTS: i32 = -110;
    pub const SESSION_EXPIRED: i32 = -112;
    pub const SESSION_MOVED: i32 = -118;
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Create {
        path: String,
        data: Vec<u8>,
        ephemeral: bool,
    },
    /// The server appends a number to the name.
    Sequential {
        path: String,
        data: Vec<u8>,
    },
    Delete {
        path: String,
    },
    Set {
        path: String,
        data: Vec<u8>,
        version: i32,
    },
    Get {
        path: String,
    },
    /// A get that leaves a watch behind.
    Watch {
        path: String,
    },
    Exists {
        path: String,
    },
    Children {
        path: String,
    },
    /// What is committed at the leader by now is seen by reads behind this one.
    Sync {
        path: String,
    },
    /// Of writes that have no number appended.
    Multi(Vec<Request>),
    /// Members that come and go, whatever the version in force; lists of server lines and of numbers.
    Reconfig {
        joining: String,
        leaving: String,
    },
    CloseSession,
}

/// The parts of a node's stat that checks look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    pub czxid: i64,
    pub mzxid: i64,
    pub version: i32,
    pub ephemeral_owner: i64,
}

/// A reply's header and its record, still encoded.
#[derive(Clone, Debug)]
pub struct Reply {
    pub xid: i32,
    pub zxid: i64,
    pub code: i32,
    body: Vec<u8>,
}

/// What takes a session over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub id: i64,
    pub password: [u8; 16],
}

/// One connection with one session on it.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    next_xid: i32,
    pub ticket: Ticket,
    pub timeout_ms: i32,
}

/// How a connection attempt ended that was not an error of the network.
#[derive(Debug)]
pub enum Opened {
    Session(Client),
    /// The server does not know this session, or not this password.
    Expired,
}

impl Client {
    /// Opens a new session, or takes over the one with this ticket. `last_zxid` is the highest that we saw: a server
    /// that knows less must refuse us.
    pub fn open(address: SocketAddr, timeout_ms: i32, ticket: Option<Ticket>, last_zxid: i64) -> io::Result<Opened> {
        Client::open_within(READ_TIMEOUT, address, timeout_ms, ticket, last_zxid)
    }

    /// As `open`; this one waits no longer than `patience` for anything the server does.
    pub fn open_within(
        patience: Duration,
        address: SocketAddr,
        timeout_ms: i32,
        ticket: Option<Ticket>,
        last_zxid: i64,
    ) -> io::Result<Opened> {
        let socket = TcpStream::connect_timeout(&address, patience)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(patience))?;
        let mut client = Client {
            reader: BufReader::with_capacity(1 << 16, socket.try_clone()?),
            writer: socket,
            next_xid: 1,
            ticket: ticket.unwrap_or(Ticket { id: 0, password: [0; 16] }),
            timeout_ms,
        };
        let mut request = Vec::new();
        put_int(&mut request, 0); // protocol version
        put_long(&mut request, last_zxid);
        put_int(&mut request, timeout_ms);
        put_long(&mut request, client.ticket.id);
        put_buffer(&mut request, &client.ticket.password);
        request.push(0); // not read-only
        client.writer.write_all(&framed(request))?;
        let answer = client.frame()?;
        let mut fields = Fields(&answer);
        let _protocol_version = fields.int()?;
        client.timeout_ms = fields.int()?;
        client.ticket.id = fields.long()?;
        client.ticket.password = fields.buffer()?.try_into().map_err(|_| malformed("the password has not 16 bytes"))?;
        Ok(if client.timeout_ms <= 0 { Opened::Expired } else { Opened::Session(client) })
    }

    /// The next xid and the bytes of a request under it, to be sent with others.
    pub fn encode(&mut self, request: &Request) -> (i32, Vec<u8>) {
        let xid = self.next_xid;
        self.next_xid += 1;
        let mut bytes = Vec::new();
        put_int(&mut bytes, xid);
        put_int(&mut bytes, request.opcode());
        request.put(&mut bytes);
        (xid, framed(bytes))
    }

    pub fn send(&mut self, frames: &[u8]) -> io::Result<()> {
        self.writer.write_all(frames)
    }

    pub fn reply(&mut self) -> io::Result<Reply> {
        let frame = self.frame()?;
        let mut fields = Fields(&frame);
        let (xid, zxid, code) = (fields.int()?, fields.long()?, fields.int()?);
        Ok(Reply { xid, zxid, code, body: fields.0.to_vec() })
    }

    /// Whether the next reply has begun to arrive, so that reading it is the better thing to do.
    pub fn has_buffered(&self) -> bool {
        !self.reader.buffer().is_empty()
    }

    /// One request and its reply.
    pub fn call(&mut self, request: &Request) -> io::Result<Reply> {
        let (_, frame) = self.encode(request);
        self.send(&frame)?;
        self.reply()
    }

    /// As `call`; anything but success is an error.
    pub fn ask(&mut self, request: &Request) -> Result<Reply> {
        let reply = self.call(request)?;
        if reply.code == code::OK { Ok(reply) } else { Err(format!("{request:?} got {}", reply.code).into()) }
    }

    fn frame(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.reader.read_exact(&mut length)?;
        let length = usize::try_from(i32::from_be_bytes(length)).map_err(|_| malformed("a negative length"))?;
        if length > FRAME_BYTES_MAX {
            return Err(malformed("a frame too large to be meant"));
        }
        let mut frame = vec![0; length];
        self.reader.read_exact(&mut frame)?;
        Ok(frame)
    }
}

impl Request {
    fn opcode(&self) -> i32 {
        match self {
            Request::Create { .. } | Request::Sequential { .. } => 1,
            Request::Delete { .. } => 2,
            Request::Exists { .. } => 3,
            Request::Get { .. } | Request::Watch { .. } => 4,
            Request::Set { .. } => 5,
            Request::Children { .. } => 8,
            Request::Sync { .. } => 9,
            Request::Multi(_) => 14,
            Request::Reconfig { .. } => 16,
            Request::CloseSession => -11,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Request::Create { path, data, ephemeral } => put_create(out, path, data, i32::from(*ephemeral)),
            Request::Sequential { path, data } => put_create(out, path, data, PERSISTENT_SEQUENTIAL),
            Request::Delete { path } => {
                put_buffer(out, path.as_bytes());
                put_int(out, -1);
            }
            Request::Set { path, data, version } => {
                put_buffer(out, path.as_bytes());
                put_buffer(out, data);
                put_int(out, *version);
            }
            Request::Get { path } | Request::Exists { path } | Request::Children { path } => {
                put_buffer(out, path.as_bytes());
                out.push(0); // no watch
            }
            Request::Watch { path } => {
                put_buffer(out, path.as_bytes());
                out.push(1);
            }
            Request::Sync { path } => put_buffer(out, path.as_bytes()),
            Request::Multi(parts) => {
                for part in parts {
                    put_int(out, part.opcode());
                    out.push(0); // not the end
                    put_int(out, -1);
                    part.put(out);
                }
                put_int(out, -1);
                out.push(1); // the end
                put_int(out, -1);
            }
            Request::Reconfig { joining, leaving } => {
                for list in [joining, leaving] {
                    match list.is_empty() {
                        true => put_int(out, -1), // null
                        false => put_buffer(out, list.as_bytes()),
                    }
                }
                put_int(out, -1);
                out.extend_from_slice(&(-1i64).to_be_bytes());
            }
            Request::CloseSession => {}
        }
    }
}

impl Reply {
    /// The body of a get.
    pub fn data(&self) -> io::Result<(Vec<u8>, Stat)> {
        let mut fields = Fields(&self.body);
        let data = fields.buffer()?.to_vec();
        Ok((data, fields.stat()?))
    }

    /// An event of a watch: the path that it is about.
    pub fn event(&self) -> io::Result<Option<String>> {
        if self.xid != EVENT_XID {
            return Ok(None);
        }
        let mut fields = Fields(&self.body);
        let (_kind, _state) = (fields.int()?, fields.int()?);
        Ok(Some(String::from_utf8_lossy(fields.buffer()?).into_owned()))
    }

    /// The body of a create: the node's whole path.
    pub fn path(&self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(Fields(&self.body).buffer()?).into_owned())
    }

    /// The body of a set or an exists.
    pub fn stat(&self) -> io::Result<Stat> {
        Fields(&self.body).stat()
    }

    /// How a write ended. A multi's header says OK either way, its items tell (spec: client-protocol 10.2); a failed
    /// one begins with the item type -1, as no other write's answer does.
    pub fn write_code(&self) -> io::Result<i32> {
        if self.code != code::OK || self.body.is_empty() {
            return Ok(self.code);
        }
        let mut fields = Fields(&self.body);
        loop {
            let (kind, is_end, item_code) = (fields.int()?, fields.take(1)? != [0], fields.int()?);
            if kind != -1 || is_end {
                return Ok(code::OK); // an item that is no error, or none at all
            }
            let _repeated = fields.int()?;
            if item_code != code::OK {
                return Ok(item_code);
            }
        }
    }

    /// The body of a getChildren.
    pub fn children(&self) -> io::Result<Vec<String>> {
        let mut fields = Fields(&self.body);
        let count = fields.int()?;
        (0..count).map(|_| Ok(String::from_utf8_lossy(fields.buffer()?).into_owned())).collect()
    }
}

/// Reads big-endian fields off the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count).ok_or_else(|| malformed("a record ends too early"))?;
        self.0 = rest;
        Ok(front)
    }

    fn int(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().expect("4 bytes")))
    }

    fn long(&mut self) -> io::Result<i64> {
        Ok(i64::from_be_bytes(self.take(8)?.try_into().expect("8 bytes")))
    }

    fn buffer(&mut self) -> io::Result<&'a [u8]> {
        let length = self.int()?;
        self.take(usize::try_from(length).unwrap_or(0)) // -1 is null: nothing follows
    }

    fn stat(&mut self) -> io::Result<Stat> {
        let (czxid, mzxid) = (self.long()?, self.long()?);
        let (_ctime, _mtime) = (self.long()?, self.long()?);
        let version = self.int()?;
        let (_cversion, _aversion) = (self.int()?, self.int()?);
        Ok(Stat { czxid, mzxid, version, ephemeral_owner: self.long()? })
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn framed(payload: Vec<u8>) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 4);
    put_int(&mut frame, i32::try_from(payload.len()).expect("requests are small"));
    frame.extend(payload);
    frame
}

fn put_create(out: &mut Vec<u8>, path: &str, data: &[u8], flags: i32) {
    put_buffer(out, path.as_bytes());
    put_buffer(out, data);
    put_int(out, 1); // one ACL entry: everything, world:anyone
    put_int(out, 31);
    put_buffer(out, b"world");
    put_buffer(out, b"anyone");
    put_int(out, flags);
}

fn put_int(out: &mut Vec<u8>, value: i32) {
    out.extend(value.to_be_bytes());
}

fn put_long(out: &mut Vec<u8>, value: i64) {
    out.extend(value.to_be_bytes());
}

fn put_buffer(out: &mut Vec<u8>, bytes: &[u8]) {
    put_int(out, i32::try_from(bytes.len()).expect("requests are small"));
    out.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_ends_early_is_an_error() {
        let reply = Reply { xid: 1, zxid: 1, code: 0, body: vec![0, 0, 0, 9, b'x'] };
        assert!(reply.data().is_err());
        assert!(reply.stat().is_err());
    }

    #[test]
    fn the_first_failed_item_is_how_a_multi_ended() {
        let item = |code: i32| [&(-1i32).to_be_bytes()[..], &[0], &code.to_be_bytes(), &code.to_be_bytes()].concat();
        let body = [item(0), item(-103), item(-2), b"\xff\xff\xff\xff\x01\xff\xff\xff\xff".to_vec()].concat();
        assert_eq!(Reply { xid: 1, zxid: 1, code: 0, body }.write_code().unwrap(), code::BAD_VERSION);
    }

    #[test]
    fn a_set_is_encoded_as_the_protocol_says() {
        let mut bytes = Vec::new();
        Request::Set { path: "/a".into(), data: b"xy".to_vec(), version: 3 }.put(&mut bytes);
        assert_eq!(bytes, b"\0\0\0\x02/a\0\0\0\x02xy\0\0\0\x03");
    }
}
