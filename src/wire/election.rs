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

    /// From this format on the configuration is part of it.
    const VERSION_WITH_CONFIG: i32 = 2;

    const BYTES_WITHOUT_EPOCH: usize = 28;
    const BYTES_WITHOUT_VERSION: usize = 40;

    /// Appends a whole frame, in the newest format.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let body_bytes = Self::BYTES_WITHOUT_VERSION + LENGTH_BYTES + self.config.len();
        assert!(body_bytes <= FRAME_BYTES_MAX, "a configuration of {} bytes", self.config.len());
        put_count(out, body_bytes);
        put_i32(out, self.state as i32);
        for number in [self.leader, self.zxid, self.election_epoch, self.peer_epoch] {
            put_i64(out, number);
        }
        put_i32(out, Self::VERSION);
        put_count(out, self.config.len());
        out.extend_from_slice(&self.config);
    }

    /// One frame without its length. What stands behind the known fields is left alone, as Java does.
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
        let text = self.addresses.iter().map(address).collect::<Vec<String>>().join("|");
        assert!(
            (1..=ADDRESSES_BYTES_MAX).contains(&text.len()),
            "an introduction with {} bytes of addresses",
            text.len()
        );
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
    match text.strip_prefix('[') {
        Some(text) => text.split_once("]:"),
        None => text.split_once(':').filter(|(host, port)| !host.is_empty() && !port.contains(':')),
    }
}

/// Nobody can be called back at an address that means "all of mine".
fn is_wildcard(host: &str) -> bool {
    host.parse().is_ok_and(|address: std::net::IpAddr| address.is_unspecified())
}
