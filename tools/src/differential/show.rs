//! A server's frame as one line of text in which everything that may differ between two servers is made equal.
//!
//! Times become `t`, session ids the number of the session in its order of birth, lists without a promised order are
//! sorted. Everything else stays: what is not excused here, by name, has to be the same.
//! Spec: client-protocol 4, 7, 10, 12.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::ask::{opcode, readable};

/// What is needed to make two servers' numbers equal.
#[derive(Clone, Copy, Debug)]
pub struct Eyes<'a> {
    /// Session ids in their order of birth.
    pub sessions: &'a [i64],
    /// Zxids that are known by a name.
    pub zxids: &'a BTreeMap<i64, String>,
    /// Addresses that are this server's own.
    pub own_texts: &'a [String],
}

/// A reply or notification taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub xid: i32,
    pub zxid: i64,
    pub code: i32,
}

/// Splits a frame's payload; `None` if it is shorter than a header.
pub fn split(payload: &[u8]) -> Option<(Header, &[u8])> {
    let mut fields = Fields(payload);
    let header = Header { xid: fields.int()?, zxid: fields.long()?, code: fields.int()? };
    Some((header, fields.0))
}

impl Eyes<'_> {
    /// A reply to `asked` as text.
    pub fn reply(&self, asked: i32, header: &Header, body: &[u8]) -> String {
        self.reply_at(&header.zxid.to_string(), asked, header, body)
    }

    /// The same where the zxid of a write is known by its name, and that of a read (the largest of all) by nothing.
    pub fn reply_of_many(&self, asked: i32, header: &Header, body: &[u8]) -> String {
        let zxid = if header.zxid == i64::MAX { "some".into() } else { self.zxid(header.zxid) };
        self.reply_at(&zxid, asked, header, body)
    }

    fn reply_at(&self, zxid: &str, asked: i32, header: &Header, body: &[u8]) -> String {
        let Header { xid, code, .. } = header;
        let mut line = format!("xid {xid} zxid {zxid} err {code}");
        if asked == opcode::MULTI_READ && *code == -5 {
            return line; // D-013: the reference appends an end of list
        }
        if *code != 0 && asked != opcode::SASL {
            let _ = write!(line, "{}", if body.is_empty() { String::new() } else { format!(" body {}", hex(body)) });
            return line;
        }
        let mut fields = Fields(body);
        match self.body(asked, &mut fields) {
            Some(text) if fields.0.is_empty() => line + &text,
            Some(text) => format!("{line}{text} and behind it {}", hex(fields.0)),
            None => format!("{line} undecodable {}", hex(body)),
        }
    }

    /// A notification as text.
    pub fn event(&self, header: &Header, body: &[u8]) -> String {
        let mut fields = Fields(body);
        let text = (|| Some(format!("type {} state {} path {}", fields.int()?, fields.int()?, fields.text()?)))();
        match text {
            Some(text) if fields.0.is_empty() => {
                format!("event zxid {} err {} {text}", self.zxid(header.zxid), header.code)
            }
            _ => format!("event {header:?} undecodable {}", hex(body)),
        }
    }

    fn body(&self, asked: i32, fields: &mut Fields<'_>) -> Option<String> {
        Some(match asked {
            opcode::CREATE | opcode::SYNC => format!(" {}", fields.text()?),
            opcode::CREATE2 | opcode::CREATE_CONTAINER | opcode::CREATE_TTL => {
                format!(" {} {}", fields.text()?, self.stat(fields)?)
            }
            opcode::EXISTS | opcode::SET_DATA | opcode::SET_ACL => format!(" {}", self.stat(fields)?),
            opcode::GET_DATA | opcode::RECONFIG => format!(" {} {}", self.data(fields)?, self.stat(fields)?),
            opcode::GET_ACL => {
                let entry = |f: &mut Fields<'_>| Some(format!("{}:{}:{}", f.int()?, f.text()?, f.text()?));
                let mut entries = fields.list(entry)?;
                // The identities that `auth` stood for come in no promised order: D-018.
                let group = |entry: &String| entry.split_once(':').map(|(perms, _)| perms.to_owned());
                for entries in entries.chunk_by_mut(|one, other| group(one) == group(other)) {
                    entries.sort();
                }
                format!(" [{}] {}", entries.join(", "), self.stat(fields)?)
            }
            opcode::GET_CHILDREN | opcode::GET_EPHEMERALS => format!(" {}", sorted(fields.list(Fields::text)?)),
            opcode::GET_CHILDREN2 => format!(" {} {}", sorted(fields.list(Fields::text)?), self.stat(fields)?),
            opcode::MULTI | opcode::MULTI_READ => self.items(fields)?,
            opcode::SASL => format!(" token {}", self.data(fields)?),
            opcode::GET_ALL_CHILDREN_NUMBER | opcode::ADD_WATCH => format!(" {}", fields.int()?),
            opcode::WHO_AM_I => {
                format!(" {}", sorted(fields.list(|f| Some(format!("{}:{}", f.text()?, f.text()?)))?))
            }
            _ => String::new(),
        })
    }

    fn items(&self, fields: &mut Fields<'_>) -> Option<String> {
        let mut text = String::new();
        loop {
            let (kind, is_end, code) = (fields.int()?, fields.byte()?, fields.int()?);
            let _ = write!(text, "\n      item {kind} {is_end} {code}");
            if is_end != 0 {
                return Some(text);
            }
            match kind {
                -1 => {
                    let _ = write!(text, " {}", fields.int()?);
                }
                _ => text += &self.body(kind, fields)?,
            }
        }
    }

    fn stat(&self, fields: &mut Fields<'_>) -> Option<String> {
        let (czxid, mzxid, ctime, mtime) = (fields.long()?, fields.long()?, fields.long()?, fields.long()?);
        let (version, cversion, aversion) = (fields.int()?, fields.int()?, fields.int()?);
        let (owner, data_bytes, children, pzxid) = (fields.long()?, fields.int()?, fields.int()?, fields.long()?);
        // Two times of one transaction are one time on every server.
        let mtime = if mtime == ctime && mzxid == czxid { "same" } else { time(mtime) };
        Some(format!(
            "{{c {} m {} p {} ctime {} mtime {mtime} v {version} cv {cversion} av {aversion} owner {} \
             bytes {data_bytes} children {children}}}",
            self.zxid(czxid),
            self.zxid(mzxid),
            self.zxid(pzxid),
            time(ctime),
            self.session(owner),
        ))
    }

    fn zxid(&self, zxid: i64) -> String {
        self.zxids.get(&zxid).cloned().unwrap_or_else(|| zxid.to_string())
    }

    /// Data in full: it has to be equal to the last byte. Only the server's own addresses in a configuration may differ.
    fn data(&self, fields: &mut Fields<'_>) -> Option<String> {
        let Some(bytes) = fields.bytes()? else { return Some("null".into()) };
        if bytes.starts_with(b"server.")
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            let named = |text: String, own: &String| text.replace(own.as_str(), "OWN");
            return Some(self.own_texts.iter().fold(format!("{text:?}"), named));
        }
        Some(match bytes.len() {
            0..=60 => readable(&Some(bytes.to_vec())),
            length => format!("{length} bytes {:08x} {}...", crc32fast::hash(bytes), hex(&bytes[..16])),
        })
    }

    pub fn session(&self, id: i64) -> String {
        match self.sessions.iter().position(|known| *known == id) {
            Some(number) => format!("S{number}"),
            None if id == 0 => "0".into(),
            None => format!("{id:#x}"),
        }
    }
}

fn time(ms: i64) -> &'static str {
    match ms {
        0 => "0",
        1_600_000_000_000..4_000_000_000_000 => "t",
        _ => "not a time",
    }
}

fn sorted(mut list: Vec<String>) -> String {
    list.sort();
    format!("[{}]", list.join(", "))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads big-endian fields off the front.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    pub fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    pub fn int(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    pub fn long(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    /// A string or buffer; the inner `None` is null.
    pub fn bytes(&mut self) -> Option<Option<&'a [u8]>> {
        match self.int()? {
            -1 => Some(None),
            length => Some(Some(self.take(usize::try_from(length).ok()?)?)),
        }
    }

    fn text(&mut self) -> Option<String> {
        Some(readable(&self.bytes()?.map(<[u8]>::to_vec)))
    }

    fn list<T>(&mut self, mut element: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.int()?;
        (0..count).map(|_| element(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ask::Body;
    use super::*;

    fn stat(time: i64, owner: i64) -> Body {
        let body = Body::default().long(5).long(5).long(time).long(time).int(1).int(2).int(3);
        body.long(owner).int(4).int(6).long(7)
    }

    #[test]
    fn times_and_session_ids_are_made_equal_and_nothing_else() {
        let header = Header { xid: 1, zxid: 9, code: 0 };
        let zxids = BTreeMap::new();
        let show = |sessions: &[i64], body: Body| {
            Eyes { sessions, zxids: &zxids, own_texts: &[] }.reply(opcode::EXISTS, &header, &body.0)
        };
        let here = show(&[70, 71], stat(1_795_000_000_000, 71));
        assert_eq!(here, show(&[80, 81], stat(1_796_000_000_000, 81)));
        assert_ne!(here, show(&[80, 81], stat(1_796_000_000_000, 80)), "another session's");
        assert_ne!(here, show(&[80, 81], stat(0, 81)), "no time at all");
        assert_ne!(here, show(&[80, 81], stat(1_796_000_000_000, 81).byte(0)), "something behind the record");
    }

    #[test]
    fn a_reply_that_ends_early_is_shown_as_what_it_is() {
        let header = Header { xid: 1, zxid: 9, code: 0 };
        let eyes = Eyes { sessions: &[], zxids: &BTreeMap::new(), own_texts: &[] };
        assert!(eyes.reply(opcode::GET_DATA, &header, &[0, 0, 0, 9, 1]).contains("undecodable"));
    }
}
