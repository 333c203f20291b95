//! The few frames a load generator needs, big-endian jute behind an `int32` length.
//!
//! Requests are built once, with xid 0, and stamped with their xid as they are sent; replies are only looked into as far as
//! the checks need. Spec: client protocol 1 (framing), 4 (records), 5 (connect), 6 (xids), 8 (opcodes).

use crate::{BenchError, Result};

pub const XID_NOTIFICATION: i32 = -1;
pub const XID_PING: i32 = -2;

/// Longest reply taken. Servers set no limit; ours only keeps a broken length word from asking for the moon.
pub const REPLY_BYTES_MAX: usize = 64 << 20;

pub const FLAG_PERSISTENT: i32 = 0;
pub const FLAG_EPHEMERAL: i32 = 1;
pub const FLAG_EPHEMERAL_SEQUENTIAL: i32 = 3;

/// Digits a server appends to the name of a sequential znode.
pub const SEQUENCE_DIGITS: usize = 10;

pub const STAT_BYTES: usize = 68;
pub const REPLY_HEADER_BYTES: usize = 16;

/// Operation codes.
pub struct Op;

impl Op {
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_CHILDREN: i32 = 8;
    pub const PING: i32 = 11;
    pub const MULTI: i32 = 14;
    pub const CLOSE_SESSION: i32 = -11;
}

const PERMISSIONS_ALL: i32 = 31;
const VERSION_ANY: i32 = -1;
const PASSWORD_BYTES: usize = 16;

/// | length i32 | protocol i32 | last zxid i64 | timeout i32 | session i64 | password buffer(16) | read-only u8 |
pub fn connect_request(timeout_ms: i32) -> Vec<u8> {
    framed(|out| {
        put_int(out, 0);
        put_long(out, 0);
        put_int(out, timeout_ms);
        put_long(out, 0);
        put_buffer(out, &[0; PASSWORD_BYTES]);
        out.push(0);
    })
}

pub fn create(path: &str, data: &[u8], flags: i32) -> Vec<u8> {
    request(Op::CREATE, |out| put_create(path, data, flags, out))
}

fn put_create(path: &str, data: &[u8], flags: i32, out: &mut Vec<u8>) {
    put_buffer(out, path.as_bytes());
    put_buffer(out, data);
    put_int(out, 1); // one ACL entry: everything to everybody
    put_int(out, PERMISSIONS_ALL);
    put_buffer(out, b"world");
    put_buffer(out, b"anyone");
    put_int(out, flags);
}

/// Several creates in one transaction.
#[derive(Default)]
pub struct Multi {
    record: Vec<u8>,
    creates: usize,
}

impl Multi {
    pub fn new() -> Multi {
        Multi::default()
    }

    pub fn create(&mut self, path: &str, data: &[u8]) {
        put_multi_header(Op::CREATE, false, &mut self.record);
        put_create(path, data, FLAG_PERSISTENT, &mut self.record);
        self.creates += 1;
    }

    pub fn creates(&self) -> usize {
        self.creates
    }

    pub fn bytes(&self) -> usize {
        self.record.len()
    }

    pub fn finish(mut self) -> Vec<u8> {
        put_multi_header(-1, true, &mut self.record);
        request(Op::MULTI, |out| out.extend_from_slice(&self.record))
    }
}

/// | type i32 | done u8 | error i32 |
fn put_multi_header(kind: i32, is_done: bool, out: &mut Vec<u8>) {
    put_int(out, kind);
    out.push(is_done.into());
    put_int(out, -1);
}

/// Whether the answer to a multi says that so many creates succeeded.
pub fn creates_done(mut body: &[u8], creates: usize) -> bool {
    for _ in 0..creates {
        let Some((header, rest)) = body.split_at_checked(9) else { return false };
        if int_at(header, 0) != Op::CREATE || header[4] != 0 {
            return false;
        }
        let Some((_path, rest)) = buffer(rest) else { return false };
        body = rest;
    }
    body.len() == 9 && body[4] == 1
}

pub fn delete(path: &str) -> Vec<u8> {
    request(Op::DELETE, |out| {
        put_buffer(out, path.as_bytes());
        put_int(out, VERSION_ANY);
    })
}

pub fn exists(path: &str, watch: bool) -> Vec<u8> {
    read(Op::EXISTS, path, watch)
}

pub fn get_data(path: &str, watch: bool) -> Vec<u8> {
    read(Op::GET_DATA, path, watch)
}

pub fn get_children(path: &str) -> Vec<u8> {
    read(Op::GET_CHILDREN, path, false)
}

pub fn set_data(path: &str, data: &[u8]) -> Vec<u8> {
    request(Op::SET_DATA, |out| {
        put_buffer(out, path.as_bytes());
        put_buffer(out, data);
        put_int(out, VERSION_ANY);
    })
}

pub fn ping() -> Vec<u8> {
    let mut frame = request(Op::PING, |_| {});
    stamp_xid(&mut frame, XID_PING);
    frame
}

pub fn close_session() -> Vec<u8> {
    request(Op::CLOSE_SESSION, |_| {})
}

/// Where the path's bytes start in a request frame that begins with a path: length, xid, type, length of the path.
pub const PATH_OFFSET: usize = 16;

/// Writes the xid into a request frame.
pub fn stamp_xid(frame: &mut [u8], xid: i32) {
    frame[4..8].copy_from_slice(&xid.to_be_bytes());
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    pub xid: i32,
    pub zxid: i64,
    pub err: i32,
}

/// Splits a reply frame into its header and its record.
pub fn reply(frame: &[u8]) -> Result<(ReplyHeader, &[u8])> {
    let Some((header, body)) = frame.split_at_checked(REPLY_HEADER_BYTES) else {
        return Err(BenchError::new(format!("a reply of {} bytes: shorter than a reply header", frame.len())));
    };
    Ok((ReplyHeader { xid: int_at(header, 0), zxid: long_at(header, 4), err: int_at(header, 12) }, body))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    pub timeout_ms: i32,
    pub session_id: i64,
}

/// A connect response that grants a session; anything else is an error that says what came instead.
pub fn connect_response(frame: &[u8]) -> Result<ConnectResponse> {
    const BYTES: usize = 4 + 4 + 8 + 4 + PASSWORD_BYTES + 1;
    if frame.len() != BYTES || int_at(frame, 16) != PASSWORD_BYTES as i32 {
        return Err(BenchError::new(format!("not a connect response of {BYTES} bytes: {}", hex(frame))));
    }
    let response = ConnectResponse { timeout_ms: int_at(frame, 4), session_id: long_at(frame, 8) };
    if response.timeout_ms <= 0 || response.session_id == 0 {
        return Err(BenchError::new(format!("the server refused a new session: {response:?}")));
    }
    Ok(response)
}

/// The first whole frame's payload and what follows it; `None` while it is incomplete.
#[inline]
pub fn next_frame(bytes: &[u8]) -> Result<Option<(&[u8], &[u8])>> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(*length);
    if length < 0 || length as usize > REPLY_BYTES_MAX {
        return Err(BenchError::new(format!("a frame that claims {length} bytes: {}", hex(bytes))));
    }
    Ok(rest.split_at_checked(length as usize))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatcherEvent<'a> {
    pub kind: i32,
    pub state: i32,
    pub path: &'a [u8],
}

pub const EVENT_DATA_CHANGED: i32 = 3;
pub const STATE_CONNECTED: i32 = 3;

pub fn watcher_event(body: &[u8]) -> Result<WatcherEvent<'_>> {
    let damaged = || BenchError::new(format!("not a watcher event: {}", hex(body)));
    let (head, rest) = body.split_at_checked(8).ok_or_else(damaged)?;
    let (path, rest) = buffer(rest).ok_or_else(damaged)?;
    if !rest.is_empty() {
        return Err(damaged());
    }
    Ok(WatcherEvent { kind: int_at(head, 0), state: int_at(head, 4), path })
}

/// The data version in a `Stat`.
pub fn stat_version(stat: &[u8; STAT_BYTES]) -> i32 {
    int_at(stat, 32)
}

/// A string or buffer at the front of `bytes`, and what follows it.
#[inline]
pub fn buffer(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(i32::from_be_bytes(*length)).ok()?)
}

/// A vector of strings that fills `bytes` exactly.
pub fn strings(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let (count, mut rest) = bytes.split_first_chunk::<4>()?;
    let mut strings = Vec::new();
    for _ in 0..i32::from_be_bytes(*count) {
        let (string, tail) = buffer(rest)?;
        strings.push(string);
        rest = tail;
    }
    rest.is_empty().then_some(strings)
}

/// ZooKeeper's word for an error code.
pub fn error_name(err: i32) -> &'static str {
    match err {
        0 => "OK",
        -2 => "RUNTIMEINCONSISTENCY",
        -5 => "MARSHALLINGERROR",
        -6 => "UNIMPLEMENTED",
        -8 => "BADARGUMENTS",
        -101 => "NONODE",
        -102 => "NOAUTH",
        -103 => "BADVERSION",
        -108 => "NOCHILDRENFOREPHEMERALS",
        ERR_NODE_EXISTS => "NODEEXISTS",
        ERR_NOT_EMPTY => "NOTEMPTY",
        -112 => "SESSIONEXPIRED",
        -114 => "INVALIDACL",
        -115 => "AUTHFAILED",
        -118 => "SESSIONMOVED",
        -119 => "NOTREADONLY",
        -124 => "SESSIONCLOSEDREQUIRESASLAUTH",
        -125 => "QUOTAEXCEEDED",
        -127 => "THROTTLEDOP",
        _ => "an error code unknown to this tool",
    }
}

pub const ERR_NODE_EXISTS: i32 = -110;
pub const ERR_NOT_EMPTY: i32 = -111;

/// The start of some bytes, for error messages.
pub fn hex(bytes: &[u8]) -> String {
    const SHOWN_BYTES: usize = 48;
    let mut text: String = bytes.iter().take(SHOWN_BYTES).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN_BYTES {
        text.push_str(&format!("... ({} bytes)", bytes.len()));
    }
    text
}

/// A request frame's xid, operation and record: what a server sees of it.
pub fn request_parts(frame: &[u8]) -> Option<(i32, i32, &[u8])> {
    let (header, record) = frame.split_at_checked(8)?;
    Some((int_at(header, 0), int_at(header, 4), record))
}

pub fn put_connect_response(timeout_ms: i32, session_id: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&framed(|out| {
        put_int(out, 0);
        put_int(out, timeout_ms);
        put_long(out, session_id);
        put_buffer(out, &[0; PASSWORD_BYTES]);
        out.push(0);
    }));
}

/// Appends the frame of a reply that succeeded.
pub fn put_reply(xid: i32, zxid: i64, out: &mut Vec<u8>, record: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put_int(out, 0);
    put_int(out, xid);
    put_long(out, zxid);
    put_int(out, 0);
    record(out);
    let length = i32::try_from(out.len() - start - 4).expect("no reply of ours comes near 2 GiB");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn read(op: i32, path: &str, watch: bool) -> Vec<u8> {
    request(op, |out| {
        put_buffer(out, path.as_bytes());
        out.push(watch.into());
    })
}

fn request(op: i32, record: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    framed(|out| {
        put_int(out, 0);
        put_int(out, op);
        record(out);
    })
}

fn framed(payload: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0; 4];
    payload(&mut out);
    let length = i32::try_from(out.len() - 4).expect("no request of ours comes near 2 GiB");
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

fn put_int(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_long(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_buffer(out: &mut Vec<u8>, bytes: &[u8]) {
    put_int(out, i32::try_from(bytes.len()).expect("no buffer of ours comes near 2 GiB"));
    out.extend_from_slice(bytes);
}

fn int_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn long_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn stamped(mut frame: Vec<u8>, xid: i32) -> Vec<u8> {
        stamp_xid(&mut frame, xid);
        frame
    }

    // Frames captured from Java 3.9.3 (client protocol 17).
    #[test]
    fn requests_are_the_bytes_java_clients_send() {
        assert_eq!(
            connect_request(10_000),
            bytes(
                "0000002d 00000000 0000000000000000 00002710 0000000000000000 00000010
                 00000000000000000000000000000000 00"
            )
        );
        assert_eq!(
            stamped(create("/g", b"x", FLAG_PERSISTENT), 1),
            bytes(
                "00000032 00000001 00000001 00000002 2f67 00000001 78 00000001 0000001f
                 00000005 776f726c64 00000006 616e796f6e65 00000000"
            )
        );
        assert_eq!(stamped(exists("/nope", false), 2), bytes("00000012 00000002 00000003 00000005 2f6e6f7065 00"));
        assert_eq!(ping(), bytes("00000008 fffffffe 0000000b"));
        assert_eq!(stamped(close_session(), 8), bytes("00000008 00000008 fffffff5"));
        assert_eq!(stamped(get_data("/g", true), 3), bytes("0000000f 00000003 00000004 00000002 2f67 01"));
        assert_eq!(stamped(get_children("/g"), 3), bytes("0000000f 00000003 00000008 00000002 2f67 00"));
        assert_eq!(stamped(delete("/g"), 3), bytes("00000012 00000003 00000002 00000002 2f67 ffffffff"));
        assert_eq!(
            stamped(set_data("/g", b"xy"), 3),
            bytes("00000018 00000003 00000005 00000002 2f67 00000002 7879 ffffffff")
        );
        let mut multi = Multi::new();
        multi.create("/g", b"x");
        assert_eq!(
            stamped(multi.finish(), 3),
            bytes(
                "00000044 00000003 0000000e 00000001 00 ffffffff 00000002 2f67 00000001 78 00000001 0000001f
                 00000005 776f726c64 00000006 616e796f6e65 00000000 ffffffff 01 ffffffff"
            )
        );
    }

    #[test]
    fn a_multi_has_succeeded_only_when_all_of_it_says_so() {
        let created = "00000001 00 00000000 00000002 2f67";
        let end = "ffffffff 01 ffffffff";
        let refused = "ffffffff 00 ffffff92 ffffff92";
        assert!(creates_done(&bytes(&format!("{created} {created} {end}")), 2));
        assert!(!creates_done(&bytes(&format!("{created} {end}")), 2));
        assert!(!creates_done(&bytes(&format!("{created} {refused} {end}")), 2));
        assert!(!creates_done(&bytes(&format!("{created} {created}")), 2));
    }

    #[test]
    fn the_path_lies_where_patches_expect_it() {
        for frame in [create("/abc", b"", 0), delete("/abc"), get_data("/abc", false), set_data("/abc", b"1")] {
            assert_eq!(&frame[PATH_OFFSET..PATH_OFFSET + 4], b"/abc");
        }
    }

    #[test]
    fn replies_of_java_are_understood() {
        let granted = bytes("00000000 00002710 0100000ca8fe003c 00000010 b73ec9f32c9b7eb9510790c6644d737e 00");
        let expected = ConnectResponse { timeout_ms: 10_000, session_id: 0x0100_000c_a8fe_003c };
        assert_eq!(connect_response(&granted).unwrap(), expected);

        let no_node = bytes("00000002 000000000000019c ffffff9b");
        let (header, body) = reply(&no_node).unwrap();
        assert_eq!(header, ReplyHeader { xid: 2, zxid: 0x19c, err: -101 });
        assert!(body.is_empty());

        let notified = bytes("ffffffff 000000000000019e 00000000 00000004 00000003 00000002 2f67");
        let (header, body) = reply(&notified).unwrap();
        assert_eq!(header.xid, XID_NOTIFICATION);
        assert_eq!(watcher_event(body).unwrap(), WatcherEvent { kind: 4, state: 3, path: b"/g" });

        let stat = bytes(
            "000000000000019c 000000000000019c 000001a1fd695463 000001a1fd695463 00000007 00000000 00000000
             0000000000000000 00000001 00000000 000000000000019c",
        );
        assert_eq!(stat_version(&stat.try_into().unwrap()), 7);
    }

    #[test]
    fn a_refused_session_and_a_short_answer_are_errors() {
        let refused = bytes("00000000 00000000 0000000000000000 00000010 00000000000000000000000000000000 00");
        assert!(connect_response(&refused).unwrap_err().to_string().contains("refused"));
        assert!(connect_response(&refused[..36]).is_err());
        assert!(reply(&[0; 15]).is_err());
        assert!(watcher_event(&[0; 11]).is_err());
    }

    #[test]
    fn frames_are_cut_where_their_length_says() {
        let two = bytes("00000002 aabb 00000001 cc 0000");
        let (first, rest) = next_frame(&two).unwrap().unwrap();
        assert_eq!(first, [0xaa, 0xbb]);
        let (second, rest) = next_frame(rest).unwrap().unwrap();
        assert_eq!(second, [0xcc]);
        assert_eq!(rest, [0, 0]);
        assert!(next_frame(rest).unwrap().is_none());
        assert!(next_frame(&two[..5]).unwrap().is_none());
        assert!(next_frame(&bytes("ffffffff")).is_err());
        assert!(next_frame(&bytes("7fffffff")).is_err());
    }

    #[test]
    fn strings_fill_their_record_exactly() {
        let list = bytes("00000002 00000001 61 00000002 6263");
        assert_eq!(strings(&list).unwrap(), [&b"a"[..], &b"bc"[..]]);
        assert!(strings(&list[..list.len() - 1]).is_none());
        assert!(strings(&[list.as_slice(), &[0]].concat()).is_none());
        assert!(buffer(&bytes("ffffffff")).is_none());
    }
}
