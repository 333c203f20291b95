//! What the names of Java's files say. Java: `Util.getZxidFromName`, `SnapStream.getStreamMode`.

use crate::Zxid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Plain,
    Gzip,
    Snappy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// The zxid of its first record.
    Log(Zxid),
    /// The last zxid applied when its writing began.
    Snapshot(Zxid, Compression),
}

/// `None` for everything else in the directory. Parts after the number are ignored, but the last one says how it is packed.
pub fn parse(name: &str) -> Option<Name> {
    let mut parts = name.split('.');
    let kind = parts.next()?;
    let number = parts.next().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let zxid = Zxid(i64::from_str_radix(number, 16).ok()?.try_into().ok()?); // a long of Java's
    match kind {
        "log" => Some(Name::Log(zxid)),
        "snapshot" => Some(Name::Snapshot(
            zxid,
            match parts.next_back() {
                Some("gz") => Compression::Gzip,
                Some("snappy") => Compression::Snappy,
                _ => Compression::Plain,
            },
        )),
        _ => None,
    }
}

pub fn log(first: Zxid) -> String {
    format!("log.{:x}", first.0)
}

pub fn snapshot(zxid: Zxid) -> String {
    format!("snapshot.{:x}", zxid.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_kind_number_and_packing() {
        let snapshot = |packing| Some(Name::Snapshot(Zxid(0x10000006c), packing));
        assert_eq!(parse("log.100000001"), Some(Name::Log(Zxid(0x100000001))));
        assert_eq!(parse("snapshot.10000006c"), snapshot(Compression::Plain));
        assert_eq!(parse("snapshot.10000006c.gz"), snapshot(Compression::Gzip));
        assert_eq!(parse("snapshot.10000006c.snappy"), snapshot(Compression::Snappy));
        assert_eq!(parse("snapshot.10000006c.checked"), snapshot(Compression::Plain));
        assert_eq!(parse(&super::log(Zxid(0x22))), Some(Name::Log(Zxid(0x22))));
        assert_eq!(parse(&super::snapshot(Zxid(0))), Some(Name::Snapshot(Zxid(0), Compression::Plain)));
        let too_large = ["log.11112222333344445", "snapshot.ffffffffffffffff", "log.8000000000000000"];
        let others = ["log", "log.", "log.xyz", "log.+1", "logs.1", "snapshot-1", "currentEpoch"];
        for other in others.into_iter().chain(too_large) {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
