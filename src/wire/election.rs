//! What electors say to each other on the election port: notifications, and how a connection introduces itself.
//!
//! The side that connects sends one [`Introduction`]; from then on both send frames, each a length ([`frame_bytes`]) and one
//! [`Notification`]. Nothing is acknowledged. Formats have grown with Java's versions: we write the newest and read them all.
//! Java: `QuorumCnxManager`, `FastLeaderElection`. Spec: quorum-protocol 3.2, 3.3, 4.2.

use bytes::Bytes;

use super::frame::LENGTH_BYTES;
use super::jute::{DecodeError, Limits, Reader, put_count, put_i32, put_i64};

/// The longest notification anybody takes.
pub const FRAME_BYTES_MAX: usize = 512 * 1024;

/// The most text with which a connection may introduce itself.
const ADDRESSES_BYTES_MAX: usize = 2048;

/// What a server is doing. Java: `QuorumPeer.ServerState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    Looking,
    Following,
    Leading,
    Observing,
}

impl PeerState {
    fn decode(state: i32) -> Result<PeerState, DecodeError> {
        Ok(match state {
            0 => PeerState::Looking,
            1 => PeerState::Following,
            2 => PeerState::Leading,
            3 => PeerState::Observing,
            other => return Err(DecodeError::UnknownType(other)),
        })
    }
}

/// A vote and who is casting it. Numbers as on the wire: an observer votes for nobody, with the lowest number each.
///
/// | state i32 | leader i64 | zxid i64 | electionEpoch i64 | peerEpoch i64 | version i32 | config: length i32, bytes |
///
/// Older senders stop after electionEpoch (28 bytes), after the version (40), or have a version below 2 and no config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub state: PeerState,
    /// The proposed or followed leader.
    pub leader: i64,
    pub zxid: i64,
    pub election_epoch: i64,
    pub peer_epoch: i64,
    /// Format: 2 now. 0 in old forms without a version.
    pub version: i32,
    /// The sender's configuration in force, as text; empty where the form has none.
    pub config: Bytes,
}

impl Notification {
    /// The format we write.
    pub const VERSION: i32 = 2;

    /// The longest configuration that a frame has room for.
    pub const CONFIG_BYTES_MAX: usize = FRAME_BYTES_MAX - Self::BYTES_WITHOUT_VERSION - LENGTH_BYTES;

    /// From this format on the configuration is part of it.
    const VERSION_WITH_CONFIG: i32 = 2;

    const BYTES_WITHOUT_EPOCH: usize = 28;
    const BYTES_WITHOUT_VERSION: usize = 40;

    /// Appends a whole frame, in the newest format.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.config.len() <= Self::CONFIG_BYTES_MAX, "a configuration of {} bytes", self.config.len());
        put_count(out, Self::BYTES_WITHOUT_VERSION + LENGTH_BYTES + self.config.len());
        put_i32(out, self.state as i32);
        for number in [self.leader, self.zxid, self.election_epoch, self.peer_epoch] {
            put_i64(out, number);
        }
        put_i32(out, Self::VERSION);
        put_count(out, self.config.len());
        out.extend_from_slice(&self.config);
    }

    /// One frame without its length. What stands behind the known fields is left alone, as Java does. After an error the
    /// connection is still good: it is this notification that is not heard.
    pub fn decode(body: &[u8]) -> Result<Notification, DecodeError> {
        let mut reader = Reader::new(body, &Limits::FORMAT);
        let state = reader.i32()?;
        let (leader, zxid, election_epoch) = (reader.i64()?, reader.i64()?, reader.i64()?);
        let without_epoch = body.len() == Self::BYTES_WITHOUT_EPOCH;
        let peer_epoch = if without_epoch { zxid >> 32 } else { reader.i64()? };
        let version = match body.len() {
            Self::BYTES_WITHOUT_EPOCH => 0,
            Self::BYTES_WITHOUT_VERSION => 0,
            _ => reader.i32()?,
        };
        let config = match version {
            Self::VERSION_WITH_CONFIG.. => {
                reader.buffer()?.ok_or(DecodeError::Invalid("a configuration of -1 bytes"))?
            }
            _ => &[],
        };
        Ok(Notification {
            state: PeerState::decode(state)?,
            leader,
            zxid,
            election_epoch,
            peer_epoch,
            version,
            config: Bytes::copy_from_slice(config),
        })
    }

    /// Of the configuration that is in force at the sender: the zxid that established it.
    pub fn config_version(&self) -> Option<u64> {
        config_version(&self.config)
    }
}

/// The version in a configuration's text, hexadecimal; its last line. Nothing else of the text is looked at.
fn config_version(config: &[u8]) -> Option<u64> {
    let line = config.split(|byte| *byte == b'\n').rfind(|line| line.starts_with(b"version"))?;
    let text = std::str::from_utf8(&line[b"version".len()..]).ok()?;
    u64::from_str_radix(text.trim().strip_prefix(['=', ':'])?.trim(), 16).ok()
}

/// The length of a notification, which its first four bytes announce. Anything else ends the connection.
pub fn frame_bytes(word: [u8; LENGTH_BYTES]) -> Result<usize, DecodeError> {
    let length = i32::from_be_bytes(word);
    let bytes = usize::try_from(length).ok().filter(|bytes| (1..=FRAME_BYTES_MAX).contains(bytes));
    bytes.ok_or(DecodeError::ItemLength { length, max_bytes: FRAME_BYTES_MAX })
}

/// One of the places where a server says its election port can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectionAddress {
    /// A name or an address, IPv6 without its brackets.
    pub host: String,
    pub port: u16,
}

/// The first bytes on a connection, from the side that opened it. Java: `QuorumCnxManager.InitialMessage`.
///
/// | protocol version i64 | sid i64 | addresses: length i32, `host:port`, more behind `|` |
///
/// Before 3.4 it was the sid alone: a version is negative, so the two can be told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    pub server: i64,
    /// Where to call back. Empty if nothing useful was said: the configuration knows.
    pub addresses: Vec<ElectionAddress>,
    /// Whether the sender has several addresses enabled (servers before 3.6 do not understand that they are spoken to so).
    pub multi_address: bool,
}

impl Introduction {
    /// The sid of an observer of old that has none. The receiver gives it a negative one.
    pub const ANONYMOUS: i64 = i64::MAX;

    const VERSION_ONE_ADDRESS: i64 = -65536;
    const VERSION_MULTI_ADDRESS: i64 = -65535;

    /// Java reads this with one call and wants all of it: send it with one write.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let version = if self.multi_address { Self::VERSION_MULTI_ADDRESS } else { Self::VERSION_ONE_ADDRESS };
        let address = |address: &ElectionAddress| match address.host.contains(':') {
            true => format!("[{}]:{}", address.host, address.port),
            false => format!("{}:{}", address.host, address.port),
        };
        // Java takes no more than so many bytes of them; any of them will do.
        let mut text = String::new();
        for address in self.addresses.iter().map(address) {
            let separator = if text.is_empty() { "" } else { "|" };
            if text.len() + separator.len() + address.len() <= ADDRESSES_BYTES_MAX {
                text += separator;
                text += &address;
            }
        }
        assert!(!text.is_empty(), "an introduction without an address");
        put_i64(out, version);
        put_i64(out, self.server);
        put_count(out, text.len());
        out.extend_from_slice(text.as_bytes());
    }

    /// What the first bytes of a connection say and how many of them, or None if there have to be more.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Introduction, usize)>, DecodeError> {
        let mut reader = Reader::new(bytes, &Limits::FORMAT);
        let Ok(version) = reader.i64() else { return Ok(None) };
        let multi_address = match version {
            0.. => {
                let introduction = Introduction { server: version, addresses: Vec::new(), multi_address: false };
                return Ok(Some((introduction, bytes.len() - reader.rest().len())));
            }
            Self::VERSION_ONE_ADDRESS => false,
            Self::VERSION_MULTI_ADDRESS => true,
            _ => return Err(DecodeError::Invalid("a protocol version that no server speaks on the election port")),
        };
        let (Ok(server), Ok(length)) = (reader.i64(), reader.i32()) else { return Ok(None) };
        let length = usize::try_from(length)
            .ok()
            .filter(|bytes| (1..=ADDRESSES_BYTES_MAX).contains(bytes))
            .ok_or(DecodeError::ItemLength { length, max_bytes: ADDRESSES_BYTES_MAX })?;
        let Some((text, rest)) = reader.rest().split_at_checked(length) else { return Ok(None) };
        let text =
            std::str::from_utf8(text).map_err(|_| DecodeError::Invalid("an election address that is not text"))?;
        let mut addresses = Vec::new();
        for part in text.split('|') {
            let (host, port) =
                split_address(part).ok_or(DecodeError::Invalid("an election address without host:port"))?;
            let port = port.parse().map_err(|_| DecodeError::Invalid("an election address whose port is no port"))?;
            if !is_wildcard(host) {
                addresses.push(ElectionAddress { host: host.into(), port });
            }
        }
        Ok(Some((Introduction { server, addresses, multi_address }, bytes.len() - rest.len())))
    }
}

fn split_address(text: &str) -> Option<(&str, &str)> {
    let parts = match text.strip_prefix('[') {
        Some(text) => text.split_once("]:"),
        None => text.split_once(':').filter(|(_, port)| !port.contains(':')),
    };
    parts.filter(|(host, _)| !host.is_empty() && !host.contains(['[', ']']))
}

/// Nobody can be called back at an address that means "all of mine".
fn is_wildcard(host: &str) -> bool {
    host.parse().is_ok_and(|address: std::net::IpAddr| address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn notification(config: &[u8]) -> Notification {
        Notification {
            state: PeerState::Following,
            leader: 3,
            zxid: 0x5_0000_0007,
            election_epoch: 9,
            peer_epoch: 6,
            version: Notification::VERSION,
            config: Bytes::copy_from_slice(config),
        }
    }

    fn body(notification: &Notification) -> Vec<u8> {
        let mut frame = Vec::new();
        notification.encode(&mut frame);
        let (length, body) = frame.split_first_chunk().unwrap();
        assert_eq!(frame_bytes(*length), Ok(body.len()));
        body.to_vec()
    }

    #[test]
    fn a_server_with_very_many_addresses_tells_as_many_as_are_taken() {
        let addresses = (0..200).map(|at| ElectionAddress { host: format!("host-{at}.example"), port: 3888 });
        let told = Introduction { server: 4, addresses: addresses.collect(), multi_address: true };
        let mut bytes = Vec::new();
        told.encode(&mut bytes);
        let (heard, _) = Introduction::decode(&bytes).unwrap().unwrap();
        assert!(heard.addresses.len() > 80 && told.addresses.starts_with(&heard.addresses), "{heard:?}");
    }

    #[test]
    fn old_forms_are_understood() {
        let full = body(&notification(b"version=a"));
        let decode = |bytes: &[u8]| Notification::decode(bytes).unwrap();
        let old = Notification { version: 0, config: Bytes::new(), ..notification(b"") };
        assert_eq!(decode(&full[..28]), Notification { peer_epoch: 5, ..old.clone() }, "the epoch is that of the zxid");
        assert_eq!(decode(&full[..40]), old, "a version that is there and does not count");
        let mut first = full.clone();
        first[36..40].copy_from_slice(&1i32.to_be_bytes());
        assert_eq!(decode(&first), Notification { version: 1, ..old.clone() }, "version 1 has no configuration");
        let mut later = full.clone();
        later[36..40].copy_from_slice(&3i32.to_be_bytes());
        later.extend_from_slice(b"something new");
        assert_eq!(decode(&later), Notification { version: 3, ..notification(b"version=a") });
    }

    #[test]
    fn a_negative_epoch_of_an_old_form_keeps_its_sign() {
        let mut bytes = body(&notification(b""));
        bytes.truncate(28);
        bytes[12..20].copy_from_slice(&i64::MIN.to_be_bytes());
        assert_eq!(Notification::decode(&bytes).unwrap().peer_epoch, i64::MIN >> 32);
    }

    #[test]
    fn a_notification_cut_anywhere_is_not_heard() {
        let full = body(&notification(b"server.1=h:1:2:participant\nversion=1"));
        for bytes in (0..full.len()).filter(|bytes| ![28, 40].contains(bytes)) {
            assert!(Notification::decode(&full[..bytes]).is_err(), "{bytes} bytes");
        }
    }

    #[test]
    fn impossible_fields_are_not_heard() {
        let full = body(&notification(b"version=1"));
        let with = |at: usize, value: i32| {
            let mut bytes = full.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
            Notification::decode(&bytes)
        };
        for state in [-1, 4, i32::MAX] {
            assert_eq!(with(0, state), Err(DecodeError::UnknownType(state)));
        }
        for length in [-1, -2, i32::MIN, i32::MAX, full.len() as i32] {
            assert!(with(40, length).is_err(), "a configuration of {length} bytes");
        }
    }

    #[test]
    fn frames_have_a_length_that_can_be() {
        for length in [0, -1, i32::MIN, i32::MAX, 524_289] {
            assert!(frame_bytes(length.to_be_bytes()).is_err(), "{length}");
        }
        assert_eq!(frame_bytes(1i32.to_be_bytes()), Ok(1));
        assert_eq!(frame_bytes(524_288i32.to_be_bytes()), Ok(524_288));
    }

    #[test]
    fn the_version_of_a_configuration_is_found_in_its_text() {
        for (text, version) in [
            ("server.1=h:1:2:participant\nversion=100000000", Some(0x1_0000_0000)),
            ("version=0", Some(0)),
            ("version = 1f\n", Some(0x1f)),
            ("version: 1f\r\nserver.1=x", Some(0x1f)),
            ("version=", None),
            ("version=-1", None),
            ("version=1ffffffffffffffff", None),
            ("versions=1", None),
            ("", None),
        ] {
            assert_eq!(config_version(text.as_bytes()), version, "{text:?}");
        }
    }

    fn introduction(version: i64, server: i64, addresses: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_i64(&mut bytes, version);
        put_i64(&mut bytes, server);
        put_count(&mut bytes, addresses.len());
        bytes.extend_from_slice(addresses.as_bytes());
        bytes
    }

    #[test]
    fn an_introduction_may_arrive_in_pieces() {
        let mut bytes = introduction(-65536, 2, "127.0.0.1:27202");
        let complete = bytes.len();
        for cut in 0..complete {
            assert_eq!(Introduction::decode(&bytes[..cut]), Ok(None), "{cut} bytes");
        }
        bytes.extend_from_slice(&[0, 0, 0, 44]);
        let (introduction, length) = Introduction::decode(&bytes).unwrap().unwrap();
        assert_eq!(length, complete, "what stands behind it is the first frame");
        let address = ElectionAddress { host: "127.0.0.1".into(), port: 27202 };
        assert_eq!(introduction, Introduction { server: 2, addresses: vec![address], multi_address: false });
    }

    #[test]
    fn several_addresses_and_none() {
        let decode = |version, text: &str| Introduction::decode(&introduction(version, 2, text)).unwrap().unwrap().0;
        let several = decode(-65535, "a.example:3888|[fe80::1]:3889|0.0.0.0:3888|[::]:3888");
        let address = |host: &str, port| ElectionAddress { host: host.into(), port };
        assert!(several.multi_address);
        assert_eq!(several.addresses, [address("a.example", 3888), address("fe80::1", 3889)]);
        let mut written = Vec::new();
        several.encode(&mut written);
        assert_eq!(written, introduction(-65535, 2, "a.example:3888|[fe80::1]:3889"));
        assert_eq!(decode(-65536, "0.0.0.0:3888").addresses, []);
    }

    /// ZOOKEEPER-3720: servers before 3.6 know the older version only.
    #[test]
    fn case_20_15_by_default_everybody_understands_an_introduction() {
        let address = ElectionAddress { host: "a.example".into(), port: 3888 };
        let mut introduction = Introduction { server: 2, addresses: vec![address], multi_address: false };
        let version = |introduction: &Introduction| {
            let mut bytes = Vec::new();
            introduction.encode(&mut bytes);
            i64::from_be_bytes(bytes[..8].try_into().unwrap())
        };
        assert_eq!(version(&introduction), -65536);
        introduction.multi_address = true;
        assert_eq!(version(&introduction), -65535, "only for those who asked for it");
    }

    #[test]
    fn the_oldest_introduction_is_a_number() {
        let bytes = [&7i64.to_be_bytes()[..], &[0, 0, 0, 28]].concat();
        let expected = Introduction { server: 7, addresses: Vec::new(), multi_address: false };
        assert_eq!(Introduction::decode(&bytes), Ok(Some((expected, 8))));
        let (anonymous, _) = Introduction::decode(&i64::MAX.to_be_bytes()).unwrap().unwrap();
        assert_eq!(anonymous.server, Introduction::ANONYMOUS);
    }

    #[test]
    fn introductions_that_make_no_sense_are_refused() {
        for version in [-1, -65534, -65537, i64::MIN] {
            assert!(Introduction::decode(&introduction(version, 2, "h:1")).is_err(), "{version}");
        }
        for text in [
            "",
            "h",
            ":1",
            "h:",
            "h:x",
            "h:65536",
            "h:-1",
            "h:1|",
            "a:b:1",
            "[::1]1",
            "[::1:1",
            "h:1|\u{fffd}",
            "[]:1",
            "[[h]:1",
            "h]:1",
        ] {
            assert!(Introduction::decode(&introduction(-65536, 2, text)).is_err(), "{text:?}");
        }
        let long = format!("{}:1", "h".repeat(2047));
        assert!(Introduction::decode(&introduction(-65536, 2, &long)).is_err(), "2049 bytes");
        assert!(Introduction::decode(&introduction(-65536, 2, &long[1..])).is_ok(), "2048 bytes");
        let mut garbage = introduction(-65536, 2, "h:1");
        garbage[20] = 0xff;
        assert!(Introduction::decode(&garbage).is_err());
        let mut promised = introduction(-65536, 2, "h:1");
        promised[16..20].copy_from_slice(&2049i32.to_be_bytes());
        assert!(Introduction::decode(&promised).is_err(), "known to be too long before it is there");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            state in 0..4i32,
            numbers in prop::array::uniform4(any::<i64>()),
            config in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let [leader, zxid, election_epoch, peer_epoch] = numbers;
            let state = PeerState::decode(state).unwrap();
            let version = Notification::VERSION;
            let sent = Notification { state, leader, zxid, election_epoch, peer_epoch, version, config: config.into() };
            prop_assert_eq!(Notification::decode(&body(&sent)), Ok(sent));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..120), state in 0..5u8, tag in 0..3usize) {
            let _ = Notification::decode(&bytes);
            let _ = Introduction::decode(&bytes);
            // The same behind a beginning that makes sense.
            let _ = Notification::decode(&[&[0, 0, 0, state][..], &bytes].concat());
            let version = [-65536i64, -65535, 0][tag].to_be_bytes();
            let _ = Introduction::decode(&[&version[..], &bytes].concat());
            let _ = config_version(&[b"version=", &bytes[..]].concat());
        }
    }
}
