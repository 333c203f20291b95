//! A transaction as a line: who, when, what, to which node.

use std::borrow::Cow;
use std::fmt;

use ringkeeper::wire::error_code::ErrorCode;
use ringkeeper::wire::txn::{AclList, CreateKind, Txn, decode_header, decode_txn};
use ringkeeper_storage::Zxid;
use serde::Serialize;

use crate::show::{Hex, Time, quoted};

/// A record of a log, as far as it can be understood.
#[derive(Serialize)]
pub struct Record {
    /// Its first byte in the file.
    pub at: u64,
    /// Of its batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    pub zxid: Hex,
    #[serde(flatten)]
    pub header: Option<Header>,
    #[serde(rename = "type")]
    pub kind: String,
    /// Of the node that was touched; of the first, in a multi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    pub bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Hex>,
    /// All that the record says, on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoded: Option<String>,
    /// Why it is not a transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

#[derive(Serialize)]
pub struct Header {
    pub session: Hex,
    pub cxid: Hex,
    pub time: Time,
    pub time_ms: i64,
}

impl Record {
    /// `zxid` is what the log says in front of the payload.
    pub fn decode(at: u64, sequence: Option<u64>, zxid: Zxid, payload: &[u8], whole: bool) -> Record {
        let (header, claimed) = match decode_header(payload) {
            Ok((header, kind)) => (Some(header), Some((header.zxid, kind))),
            Err(_) => (None, None),
        };
        let mut record = Record {
            at,
            sequence,
            zxid: zxid.into(),
            header: header.map(|header| Header {
                session: header.client_id.into(),
                cxid: Hex(u64::from(header.cxid as u32)),
                time: Time(header.time_ms),
                time_ms: header.time_ms,
            }),
            kind: claimed.map_or_else(|| "?".to_owned(), |(_, kind)| format!("type {kind}")),
            path: None,
            bytes: payload.len(),
            digest: None,
            decoded: None,
            damage: None,
        };
        match decode_txn(payload) {
            Ok((_, txn, digest)) => {
                record.kind = txn.opcode().name().to_owned();
                record.path = path_of(&txn).map(str::to_owned);
                record.digest = digest.map(|digest| digest.tree_digest.into());
                record.decoded = whole.then(|| Details(&txn).to_string().trim_start().to_owned());
            }
            Err(error) => record.damage = Some(format!("not a transaction: {error}")),
        }
        if let Some((own, _)) = claimed.filter(|(own, _)| *own as u64 != zxid.0) {
            record.damage.get_or_insert_with(|| format!("the transaction itself says zxid {own:#x}"));
        }
        record
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} ", self.at)?;
        if let Some(header) = &self.header {
            write!(f, "{} session {} cxid {} ", header.time, header.session, header.cxid)?;
        }
        write!(f, "zxid {} {}", self.zxid, self.kind)?;
        match (&self.decoded, &self.path) {
            (Some(decoded), _) if decoded.is_empty() => {}
            (Some(said), _) | (None, Some(said)) => write!(f, " {said}")?,
            (None, None) => {}
        }
        write!(f, " ({} bytes)", self.bytes)?;
        if let Some(digest) = self.digest {
            write!(f, " digest {digest}")?;
        }
        match &self.damage {
            Some(damage) => write!(f, "  DAMAGED: {damage}"),
            None => Ok(()),
        }
    }
}

/// The node a transaction is about; of a multi, the first.
pub fn path_of<'a>(txn: &'a Txn<'_>) -> Option<&'a str> {
    match txn {
        Txn::Create { path, .. }
        | Txn::Delete { path }
        | Txn::DeleteContainer { path }
        | Txn::SetData { path, .. }
        | Txn::Reconfig { path, .. }
        | Txn::SetAcl { path, .. }
        | Txn::Check { path, .. } => Some(path),
        Txn::Multi(parts) => parts.iter().find_map(path_of),
        Txn::CloseSession { paths: Some(paths) } => paths.first().map(Cow::as_ref),
        Txn::CreateSession { .. } | Txn::CloseSession { paths: None } | Txn::Error { .. } => None,
    }
}

/// Every field of a record.
struct Details<'a>(&'a Txn<'a>);

impl fmt::Display for Details<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Txn::CreateSession { timeout_ms } => write!(f, " timeout {timeout_ms} ms"),
            Txn::CloseSession { paths } => match paths {
                Some(paths) => paths.iter().try_for_each(|path| write!(f, " {path}")),
                None => Ok(()),
            },
            Txn::Create { path, data, acl, kind, parent_cversion, .. } => {
                write!(f, " {path} {}{}", Data(*data), Acls(acl))?;
                match kind {
                    CreateKind::Persistent => {}
                    CreateKind::Ephemeral => f.write_str(" ephemeral")?,
                    CreateKind::Container => f.write_str(" container")?,
                    CreateKind::Ttl { ttl_ms } => write!(f, " ttl {ttl_ms} ms")?,
                }
                write!(f, " parent cversion {parent_cversion}")
            }
            Txn::Delete { path } | Txn::DeleteContainer { path } => write!(f, " {path}"),
            Txn::SetData { path, data, version } | Txn::Reconfig { path, data, version } => {
                write!(f, " {path} {} version {version}", Data(*data))
            }
            Txn::SetAcl { path, acl, version } => write!(f, " {path}{} aversion {version}", Acls(acl)),
            Txn::Check { path, version } => write!(f, " {path} version {version}"),
            Txn::Error { code } => match ErrorCode::try_from(*code) {
                Ok(name) => write!(f, " {code} {}", name.name()),
                Err(_) => write!(f, " {code}"),
            },
            Txn::Multi(parts) => parts.iter().enumerate().try_for_each(|(index, part)| {
                let separator = if index > 0 { ";" } else { "" };
                write!(f, "{separator} {}{}", part.opcode().name(), Details(part))
            }),
        }
    }
}

struct Data<'a>(Option<&'a [u8]>);

impl fmt::Display for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(data) => f.write_str(&quoted(data)),
            None => f.write_str("null"),
        }
    }
}

struct Acls<'a>(&'a AclList<'a>);

impl fmt::Display for Acls<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|acl| {
            let text = |part: &Option<Cow<'_, str>>| part.as_deref().unwrap_or("null").to_owned();
            write!(f, " {}:{}:{}", text(&acl.scheme), text(&acl.id), perms(acl.perms))
        })
    }
}

/// As zkCli writes them.
pub fn perms(bits: i32) -> String {
    let letters = [(4, 'c'), (8, 'd'), (1, 'r'), (2, 'w'), (16, 'a')];
    let known: String = letters.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, letter)| letter).collect();
    if bits & !31 == 0 { known } else { format!("{bits:#x}") }
}
