//! How numbers of this trade are written: ids in hexadecimal, as the logs of all servers have them, times in UTC.

use std::fmt;

use ringkeeper_storage::Zxid;
use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// A zxid, session id or digest. A string in JSON: not every reader of JSON keeps 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex(pub u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<Zxid> for Hex {
    fn from(zxid: Zxid) -> Hex {
        Hex(zxid.0)
    }
}

impl From<i64> for Hex {
    fn from(bits: i64) -> Hex {
        Hex(bits as u64)
    }
}

const MOMENT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// Milliseconds since 1970, as the moment they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub i64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000);
        // Years that no calendar has are what damaged bytes may say.
        match moment.ok().and_then(|moment| moment.format(MOMENT).ok()) {
            Some(text) => f.write_str(&text),
            None => write!(f, "{} ms", self.0),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `0x1b` or `27`.
pub fn parse_zxid(text: &str) -> Result<Zxid, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map(Zxid).map_err(|_| format!("`{text}` is not a zxid: write 0x and hexadecimal digits, or decimal digits"))
}

/// Bytes of any kind on one line: text where it is text.
pub fn quoted(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("\"{}\"", bytes.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_times_read_as_operators_know_them() {
        assert_eq!(Hex::from(-1i64).to_string(), "0xffffffffffffffff");
        assert_eq!(serde_json::to_string(&Hex(0x1b)).unwrap(), "\"0x1b\"");
        assert_eq!(Time(1_795_251_797_005).to_string(), "2026-11-21T09:03:17.005Z");
        assert_eq!(Time(1_795_251_797_020).to_string(), "2026-11-21T09:03:17.020Z");
        for strange in [i64::MIN, i64::MAX] {
            assert_eq!(Time(strange).to_string(), format!("{strange} ms"));
        }
        assert_eq!(parse_zxid("0x1b"), Ok(Zxid(27)));
        assert_eq!(parse_zxid("27"), Ok(Zxid(27)));
        assert!(parse_zxid("1b").is_err() && parse_zxid("").is_err() && parse_zxid("-1").is_err());
    }
}
