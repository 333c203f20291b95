//! A request as bytes: what is sent to both servers, well formed or not, with words for the person who reads a trace.
//!
//! Written from the protocol, not from the server's code, and without its types: null paths, numbers that mean nothing
//! and records that end early have to be askable too. Spec: client-protocol 3, 4, 8, 10.

/// The opcodes that this module has to tell apart; any other number may be asked as well.
pub mod opcode {
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const SASL: i32 = 102;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    pub const CLOSE_SESSION: i32 = -11;
}

/// A string or buffer on its way out; `None` is null. Strings need not be UTF-8.
pub type Bytes = Option<Vec<u8>>;

/// One ACL entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    pub perms: i32,
    pub scheme: Bytes,
    pub id: Bytes,
}

/// One request, or bytes that only look like one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub xid: i32,
    /// Tells how a reply is to be read.
    pub opcode: i32,
    pub body: Vec<u8>,
    /// Sent instead of the frame that the fields above make.
    pub raw: Option<Vec<u8>>,
    /// The path that a report searches the trace for.
    pub path: String,
    pub text: String,
}

impl Ask {
    pub fn new(opcode: i32, text: impl Into<String>, body: Body) -> Ask {
        Ask { xid: 0, opcode, body: body.0, raw: None, path: String::new(), text: text.into() }
    }

    pub fn about(self, path: &Bytes) -> Ask {
        Ask { path: path.as_ref().map(|path| String::from_utf8_lossy(path).into_owned()).unwrap_or_default(), ..self }
    }

    /// The frame, length word included.
    pub fn frame(&self) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let header = Body::default().int(8 + self.body.len() as i32).int(self.xid).int(self.opcode);
        [header.0, self.body.clone()].concat()
    }

    /// Whether it may change what subtrees with quotas hold, or be refused for that.
    pub fn changes_usage(&self) -> bool {
        matches!(self.opcode, 1 | 2 | 5 | 14 | 15 | 19 | 21)
    }

    /// Whether the answer is made when the frame is read, so that it may overtake others (client-protocol 8.2).
    pub fn is_answered_at_once(&self) -> bool {
        self.raw.is_some()
            || matches!(self.opcode, opcode::AUTH | opcode::SASL)
            || !matches!(self.opcode, 1..=9 | 11 | 12 | 14..=19 | 21 | 22 | 101 | 103..=107 | -11)
    }
}

/// A record under construction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body(pub Vec<u8>);

impl Body {
    pub fn int(mut self, value: i32) -> Body {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn long(mut self, value: i64) -> Body {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub fn byte(mut self, value: u8) -> Body {
        self.0.push(value);
        self
    }

    pub fn bytes(self, value: &Bytes) -> Body {
        let Some(value) = value else {
            return self.int(-1);
        };
        let mut body = self.int(value.len() as i32);
        body.0.extend(value);
        body
    }

    pub fn acl(self, acl: &Option<Vec<Acl>>) -> Body {
        let Some(acl) = acl else {
            return self.int(-1);
        };
        let body = self.int(acl.len() as i32);
        acl.iter().fold(body, |body, acl| body.int(acl.perms).bytes(&acl.scheme).bytes(&acl.id))
    }

    pub fn paths(self, paths: &[Bytes]) -> Body {
        let body = self.int(paths.len() as i32);
        paths.iter().fold(body, |body, path| body.bytes(path))
    }

    /// One item of a multi: its header and its record.
    pub fn item(self, kind: i32, record: &Body) -> Body {
        let mut body = self.int(kind).byte(0).int(-1);
        body.0.extend(&record.0);
        body
    }

    pub fn end_of_items(self) -> Body {
        self.int(-1).byte(1).int(-1)
    }
}

/// Bytes for a reader: text where they are short text.
pub fn readable(bytes: &Bytes) -> String {
    match bytes {
        None => "null".into(),
        Some(bytes) if bytes.len() > 60 => format!("<{} bytes>", bytes.len()),
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => format!("{text:?}"),
            Err(_) => format!("\"{}\"", bytes.escape_ascii()),
        },
    }
}

/// An ACL for a reader.
pub fn readable_acl(acl: &Option<Vec<Acl>>) -> String {
    let entry = |acl: &Acl| format!("{}:{}:{}", acl.perms, readable(&acl.scheme), readable(&acl.id));
    match acl {
        None => "null".into(),
        Some(acl) => format!("[{}]", acl.iter().map(entry).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_length_header_and_record() {
        let ask = Ask { xid: 7, ..Ask::new(opcode::EXISTS, "", Body::default().bytes(&Some(b"/a".to_vec())).byte(1)) };
        assert_eq!(ask.frame(), b"\0\0\0\x0f\0\0\0\x07\0\0\0\x03\0\0\0\x02/a\x01");
        assert_eq!(Body::default().bytes(&None).0, [0xff; 4]);
    }
}
