//! What a learner and its master say to each other on the quorum port: packets without an outer length.
//!
//! ```text
//! packet:    | type i32 | zxid i64 | data: length i32, bytes | identities: count i32, (scheme, id) each |
//! ```
//!
//! [`Packet`] is one packet with its meaning; what follows a `Snap` on the same connection is not packets but the snapshot
//! itself. Strings of peers stay bytes: what a Java server logged is passed on as it is. Null, empty and absent are three
//! different things, and stay so. Java: `QuorumPacket`, `LearnerInfo`, `Learner`, `LearnerHandler`. Spec: quorum-protocol 5,
//! 11, 12.

use std::rc::Rc;

use bytes::Bytes;
use ringkeeper_storage::Zxid;

use super::jute::{DecodeError, Limits, Reader, put_bool, put_buffer, put_count, put_i32, put_i64};

/// What a learner of Java's says it speaks, and what a leader of Java's answers.
pub const PROTOCOL_JAVA: i32 = 0x10000;

/// The same with "RK" and one: a Java peer only asks whether it is at least its own. Both ends say so: the packets of the second
/// part of [`Packet`] may be used, and an ACK and a COMMIT are for everything before them, too (decision 0008). Another number than
/// this passes for Java's: a change of what it stands for takes the next one.
pub const PROTOCOL_RINGKEEPER: i32 = 0x1524C;

/// An identity that a client has proved to the learner that forwards its request. Java: `Id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    pub scheme: Option<Bytes>,
    pub id: Option<Bytes>,
}

/// A client's request on its way to the leader. Spec: 11.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedRequest {
    pub session: i64,
    pub cxid: i32,
    pub opcode: i32,
    /// As the client sent it, behind its header.
    pub body: Bytes,
    /// Those of the client's connection, which share them. None: null on the wire (createSession).
    pub identities: Option<Rc<[PeerIdentity]>>,
}

impl ForwardedRequest {
    /// Of what has no fixed length.
    pub fn bytes(&self) -> usize {
        let bytes = |text: &Option<Bytes>| text.as_ref().map_or(0, Bytes::len);
        let identities = self.identities.iter().flat_map(|identities| identities.iter());
        self.body.len()
            + identities.map(|id| size_of::<PeerIdentity>() + bytes(&id.scheme) + bytes(&id.id)).sum::<usize>()
    }
}

/// Who wants to follow or observe. Java: `LearnerInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnerInfo {
    pub server: i64,
    pub protocol: i32,
    /// Version of the configuration that is in force at the learner.
    pub config_version: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// 1
    Request(ForwardedRequest),
    /// 2: header, record and digest, as logged.
    Proposal {
        zxid: Zxid,
        txn: Bytes,
    },
    /// 3: of a proposal, or of NEWLEADER with (epoch, 0).
    Ack {
        zxid: Zxid,
    },
    /// 4
    Commit {
        zxid: Zxid,
    },
    /// 5: from the leader: `touched` is None (null). From a learner: sessions heard of since the last ping and their
    /// timeouts in milliseconds, possibly none of them (empty, not null).
    Ping {
        zxid: Zxid,
        touched: Option<Vec<(i64, i32)>>,
    },
    /// 6, from a learner.
    Revalidate {
        session: i64,
        timeout_ms: i32,
    },
    /// 6, from the leader.
    Revalidated {
        session: i64,
        valid: bool,
    },
    /// 7, from the leader: the oldest forwarded `sync` may be answered.
    Sync,
    /// 8, to observers: proposal and commit in one.
    Inform {
        zxid: Zxid,
        txn: Bytes,
    },
    /// 9: commits a reconfiguration; `leader` leads from now on.
    CommitAndActivate {
        zxid: Zxid,
        leader: i64,
    },
    /// 10: the configuration's text; None only in traffic with servers before 3.4.
    NewLeader {
        zxid: Zxid,
        config: Option<Bytes>,
    },
    /// 11
    FollowerInfo {
        accepted_epoch: u32,
        info: LearnerInfo,
    },
    /// 12
    UpToDate,
    /// 13: the leader's newest transaction.
    Diff {
        zxid: Zxid,
    },
    /// 14: what to keep.
    Trunc {
        zxid: Zxid,
    },
    /// 15: the snapshot follows.
    Snap {
        zxid: Zxid,
    },
    /// 16
    ObserverInfo {
        accepted_epoch: u32,
        info: LearnerInfo,
    },
    /// 17
    LeaderInfo {
        epoch: u32,
        protocol: i32,
    },
    /// 18: `last` None is -1: what this learner had may be lost. `current_epoch` None is -1: not an ack of the epoch, which
    /// it had accepted before.
    AckEpoch {
        last: Option<Zxid>,
        current_epoch: Option<u32>,
    },
    /// 19, to observers.
    InformAndActivate {
        zxid: Zxid,
        leader: i64,
        txn: Bytes,
    },

    // --- among ringkeeper peers only (docs/decisions/0006) ---
    /// The leader is going to count on in this epoch: promise it (acceptedEpoch durable), then answer `NextEpochAccepted`.
    NextEpoch {
        epoch: u32,
    },
    NextEpochAccepted {
        epoch: u32,
    },
    /// A quorum has promised. Everything before this is the history of the new epoch: make it durable, then currentEpoch,
    /// then answer `NextEpochAdopted`. The proposals behind this on the link are of the new epoch.
    NextEpochBegins {
        epoch: u32,
    },
    NextEpochAdopted {
        epoch: u32,
    },
    /// The leader steps back in favour of `leader`, who has everything: no election is needed to know whom to follow.
    HandOver {
        leader: i64,
    },
}

/// The types on the wire. Ours are far from any that Java may come to use, and Java passes over what it does not know.
mod kind {
    pub const REQUEST: i32 = 1;
    pub const PROPOSAL: i32 = 2;
    pub const ACK: i32 = 3;
    pub const COMMIT: i32 = 4;
    pub const PING: i32 = 5;
    pub const REVALIDATE: i32 = 6;
    pub const SYNC: i32 = 7;
    pub const INFORM: i32 = 8;
    pub const COMMIT_AND_ACTIVATE: i32 = 9;
    pub const NEW_LEADER: i32 = 10;
    pub const FOLLOWER_INFO: i32 = 11;
    pub const UP_TO_DATE: i32 = 12;
    pub const DIFF: i32 = 13;
    pub const TRUNC: i32 = 14;
    pub const SNAP: i32 = 15;
    pub const OBSERVER_INFO: i32 = 16;
    pub const LEADER_INFO: i32 = 17;
    pub const ACK_EPOCH: i32 = 18;
    pub const INFORM_AND_ACTIVATE: i32 = 19;

    pub const NEXT_EPOCH: i32 = 0x524B_0001;
    pub const NEXT_EPOCH_ACCEPTED: i32 = 0x524B_0002;
    pub const NEXT_EPOCH_BEGINS: i32 = 0x524B_0003;
    pub const NEXT_EPOCH_ADOPTED: i32 = 0x524B_0004;
    pub const HAND_OVER: i32 = 0x524B_0005;
}

/// Where a packet has no zxid to tell.
const NO_ZXID: u64 = u64::MAX;

/// What identities may take altogether. Nobody proves to be so many.
const IDENTITIES_BYTES_MAX: usize = 1 << 20;

/// How many they may be. The packet is decoded anew whenever more of it has come.
const IDENTITIES_MAX: usize = 1 << 14;

/// Session and timeout in a touch table.
pub const TOUCH_BYTES: usize = 12;

/// One packet at the front of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// None: of a type that we do not know, and pass over as Java does.
    pub packet: Option<Packet>,
    /// Its length.
    pub bytes: usize,
}

/// A packet that no server sends. Its connection is beyond reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet of type {kind}: {why}")]
pub struct PacketError {
    pub kind: i32,
    #[source]
    pub why: DecodeError,
}

impl Packet {
    /// As people write it.
    pub fn name(&self) -> &'static str {
        match self {
            Packet::Request(_) => "REQUEST",
            Packet::Proposal { .. } => "PROPOSAL",
            Packet::Ack { .. } => "ACK",
            Packet::Commit { .. } => "COMMIT",
            Packet::Ping { .. } => "PING",
            Packet::Revalidate { .. } | Packet::Revalidated { .. } => "REVALIDATE",
            Packet::Sync => "SYNC",
            Packet::Inform { .. } => "INFORM",
            Packet::CommitAndActivate { .. } => "COMMITANDACTIVATE",
            Packet::NewLeader { .. } => "NEWLEADER",
            Packet::FollowerInfo { .. } => "FOLLOWERINFO",
            Packet::UpToDate => "UPTODATE",
            Packet::Diff { .. } => "DIFF",
            Packet::Trunc { .. } => "TRUNC",
            Packet::Snap { .. } => "SNAP",
            Packet::ObserverInfo { .. } => "OBSERVERINFO",
            Packet::LeaderInfo { .. } => "LEADERINFO",
            Packet::AckEpoch { .. } => "ACKEPOCH",
            Packet::InformAndActivate { .. } => "INFORMANDACTIVATE",
            Packet::NextEpoch { .. } => "NEXTEPOCH",
            Packet::NextEpochAccepted { .. } => "NEXTEPOCHACCEPTED",
            Packet::NextEpochBegins { .. } => "NEXTEPOCHBEGINS",
            Packet::NextEpochAdopted { .. } => "NEXTEPOCHADOPTED",
            Packet::HandOver { .. } => "HANDOVER",
        }
    }

    /// What the end that this is from says it speaks, if it says so in this packet.
    pub fn protocol(&self) -> Option<i32> {
        match self {
            Packet::FollowerInfo { info, .. } | Packet::ObserverInfo { info, .. } => Some(info.protocol),
            Packet::LeaderInfo { protocol, .. } => Some(*protocol),
            _ => None,
        }
    }

    /// The learner that says in this packet who it is.
    pub fn learner(&self) -> Option<i64> {
        match self {
            Packet::FollowerInfo { info, .. } | Packet::ObserverInfo { info, .. } => Some(info.server),
            _ => None,
        }
    }

    /// What `protocol` gives, to be another one: for ends that are to take each other for Java's.
    pub fn protocol_mut(&mut self) -> Option<&mut i32> {
        match self {
            Packet::FollowerInfo { info, .. } | Packet::ObserverInfo { info, .. } => Some(&mut info.protocol),
            Packet::LeaderInfo { protocol, .. } => Some(protocol),
            _ => None,
        }
    }

    /// The packet at the front of these bytes; `None`: the rest of it has to arrive first. What is too long is refused as
    /// soon as its length is there.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Option<Decoded>, PacketError> {
        Packet::decode_keeping(bytes, limits, &Bytes::copy_from_slice)
    }

    /// The same. `keep` makes of parts of `bytes` what the packet keeps of them.
    pub fn decode_keeping(bytes: &[u8], limits: &Limits, keep: Keep<'_>) -> Result<Option<Decoded>, PacketError> {
        let mut reader = Reader::new(bytes, limits);
        let Ok(kind) = reader.i32() else { return Ok(None) };
        let fail = |why| PacketError { kind, why };
        let (zxid, data, identities) = match read_outer(&mut reader, keep) {
            Ok(outer) => outer,
            Err(DecodeError::Truncated { .. }) => {
                let max_bytes = limits.item_bytes.saturating_add(IDENTITIES_BYTES_MAX);
                if bytes.len() > max_bytes {
                    let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
                    return Err(fail(DecodeError::ItemLength { length, max_bytes }));
                }
                return Ok(None);
            }
            Err(why) => return Err(fail(why)),
        };
        let bytes = bytes.len() - reader.rest().len();
        let packet = read_packet(kind, zxid, data, identities, limits, keep).map_err(fail)?;
        Ok(Some(Decoded { packet, bytes }))
    }

    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Packet::Request(request) => {
                open(out, kind::REQUEST, Zxid(NO_ZXID));
                put_count(out, 16 + request.body.len());
                put_i64(out, request.session);
                put_i32(out, request.cxid);
                put_i32(out, request.opcode);
                out.extend_from_slice(&request.body);
                put_identities(out, request.identities.as_deref());
            }
            Packet::Proposal { zxid, txn } => with_data(out, kind::PROPOSAL, *zxid, |out| out.extend_from_slice(txn)),
            Packet::Ack { zxid } => bare(out, kind::ACK, *zxid),
            Packet::Commit { zxid } => bare(out, kind::COMMIT, *zxid),
            Packet::Ping { zxid, touched: None } => bare(out, kind::PING, *zxid),
            Packet::Ping { zxid, touched: Some(touched) } => with_data(out, kind::PING, *zxid, |out| {
                for (session, timeout_ms) in touched {
                    put_i64(out, *session);
                    put_i32(out, *timeout_ms);
                }
            }),
            Packet::Revalidate { session, timeout_ms } => with_data(out, kind::REVALIDATE, Zxid(NO_ZXID), |out| {
                put_i64(out, *session);
                put_i32(out, *timeout_ms);
            }),
            Packet::Revalidated { session, valid } => with_data(out, kind::REVALIDATE, Zxid(NO_ZXID), |out| {
                put_i64(out, *session);
                put_bool(out, *valid);
            }),
            Packet::Sync => bare(out, kind::SYNC, Zxid::ZERO),
            Packet::Inform { zxid, txn } => with_data(out, kind::INFORM, *zxid, |out| out.extend_from_slice(txn)),
            Packet::CommitAndActivate { zxid, leader } => {
                with_data(out, kind::COMMIT_AND_ACTIVATE, *zxid, |out| put_i64(out, *leader));
            }
            Packet::NewLeader { zxid, config: None } => bare(out, kind::NEW_LEADER, *zxid),
            Packet::NewLeader { zxid, config: Some(config) } => {
                with_data(out, kind::NEW_LEADER, *zxid, |out| out.extend_from_slice(config));
            }
            Packet::FollowerInfo { accepted_epoch, info } => {
                with_data(out, kind::FOLLOWER_INFO, begin_of(*accepted_epoch), |out| info.encode(out));
            }
            Packet::UpToDate => bare(out, kind::UP_TO_DATE, Zxid(NO_ZXID)),
            Packet::Diff { zxid } => bare(out, kind::DIFF, *zxid),
            Packet::Trunc { zxid } => bare(out, kind::TRUNC, *zxid),
            Packet::Snap { zxid } => bare(out, kind::SNAP, *zxid),
            Packet::ObserverInfo { accepted_epoch, info } => {
                with_data(out, kind::OBSERVER_INFO, begin_of(*accepted_epoch), |out| info.encode(out));
            }
            Packet::LeaderInfo { epoch, protocol } => {
                with_data(out, kind::LEADER_INFO, begin_of(*epoch), |out| put_i32(out, *protocol));
            }
            Packet::AckEpoch { last, current_epoch } => {
                with_data(out, kind::ACK_EPOCH, last.unwrap_or(Zxid(NO_ZXID)), |out| {
                    put_i32(out, current_epoch.map_or(-1, u32::cast_signed));
                });
            }
            Packet::InformAndActivate { zxid, leader, txn } => {
                with_data(out, kind::INFORM_AND_ACTIVATE, *zxid, |out| {
                    put_i64(out, *leader);
                    out.extend_from_slice(txn);
                });
            }
            Packet::NextEpoch { epoch } => bare(out, kind::NEXT_EPOCH, begin_of(*epoch)),
            Packet::NextEpochAccepted { epoch } => bare(out, kind::NEXT_EPOCH_ACCEPTED, begin_of(*epoch)),
            Packet::NextEpochBegins { epoch } => bare(out, kind::NEXT_EPOCH_BEGINS, begin_of(*epoch)),
            Packet::NextEpochAdopted { epoch } => bare(out, kind::NEXT_EPOCH_ADOPTED, begin_of(*epoch)),
            Packet::HandOver { leader } => {
                with_data(out, kind::HAND_OVER, Zxid(NO_ZXID), |out| put_i64(out, *leader));
            }
        }
    }
}

impl LearnerInfo {
    fn encode(&self, out: &mut Vec<u8>) {
        put_i64(out, self.server);
        put_i32(out, self.protocol);
        put_i64(out, self.config_version.cast_signed());
    }

    /// Older learners stop earlier. Behind what is known here nothing is read, as in Java.
    fn decode(reader: &mut Reader<'_>) -> Result<LearnerInfo, DecodeError> {
        let server = reader.i64()?;
        let protocol = if reader.rest().len() >= 4 { reader.i32()? } else { 1 };
        let config_version = if reader.rest().len() >= 8 { reader.i64()?.cast_unsigned() } else { 0 };
        reader.skip_rest();
        Ok(LearnerInfo { server, protocol, config_version })
    }
}

/// The zxid that stands for an epoch.
fn begin_of(epoch: u32) -> Zxid {
    Zxid::new(epoch, 0)
}

fn open(out: &mut Vec<u8>, kind: i32, zxid: Zxid) {
    put_i32(out, kind);
    put_i64(out, zxid.0.cast_signed());
}

/// Without data, and without identities.
fn bare(out: &mut Vec<u8>, kind: i32, zxid: Zxid) {
    open(out, kind, zxid);
    put_buffer(out, None);
    put_identities(out, None);
}

/// With the data that `write` appends.
fn with_data(out: &mut Vec<u8>, kind: i32, zxid: Zxid, write: impl FnOnce(&mut Vec<u8>)) {
    open(out, kind, zxid);
    let length_at = out.len();
    put_count(out, 0);
    write(out);
    let bytes = i32::try_from(out.len() - length_at - 4).expect("a packet fits its length");
    out[length_at..length_at + 4].copy_from_slice(&bytes.to_be_bytes());
    put_identities(out, None);
}

fn put_identities(out: &mut Vec<u8>, identities: Option<&[PeerIdentity]>) {
    let Some(identities) = identities else { return put_i32(out, -1) };
    put_count(out, identities.len());
    for identity in identities {
        put_buffer(out, identity.scheme.as_deref());
        put_buffer(out, identity.id.as_deref());
    }
}

type Keep<'a> = &'a dyn Fn(&[u8]) -> Bytes;
type Outer<'a> = (Zxid, Option<&'a [u8]>, Option<Vec<PeerIdentity>>);

fn read_outer<'a>(reader: &mut Reader<'a>, keep: Keep<'_>) -> Result<Outer<'a>, DecodeError> {
    let zxid = Zxid(reader.i64()?.cast_unsigned());
    let data = reader.buffer()?;
    let text = |reader: &mut Reader<'a>| Ok(reader.buffer()?.map(keep));
    let mut left = IDENTITIES_MAX;
    let identities = reader.vector(|reader| {
        left = left.checked_sub(1).ok_or(DecodeError::Invalid("more identities than anybody proves"))?;
        Ok(PeerIdentity { scheme: text(reader)?, id: text(reader)? })
    })?;
    Ok((zxid, data, identities))
}

fn read_packet(
    kind: i32,
    zxid: Zxid,
    data: Option<&[u8]>,
    identities: Option<Vec<PeerIdentity>>,
    limits: &Limits,
    keep: Keep<'_>,
) -> Result<Option<Packet>, DecodeError> {
    let needed = data.ok_or(DecodeError::Invalid("no data, where this type has some"));
    let fields = || Ok(Reader::new(needed?, limits));
    let packet = match kind {
        kind::REQUEST => {
            let mut fields = fields()?;
            let (session, cxid, opcode) = (fields.i64()?, fields.i32()?, fields.i32()?);
            let (body, identities) = (keep(fields.rest()), identities.map(Rc::from));
            Packet::Request(ForwardedRequest { session, cxid, opcode, body, identities })
        }
        kind::PROPOSAL => Packet::Proposal { zxid, txn: keep(needed?) },
        kind::ACK => Packet::Ack { zxid },
        kind::COMMIT => Packet::Commit { zxid },
        kind::PING => Packet::Ping { zxid, touched: data.map(read_touched).transpose()? },
        kind::REVALIDATE => {
            let mut fields = fields()?;
            let session = fields.i64()?;
            match fields.rest().len() {
                1 => Packet::Revalidated { session, valid: fields.bool()? },
                _ => Packet::Revalidate { session, timeout_ms: exactly(fields, Reader::i32)? },
            }
        }
        kind::SYNC => Packet::Sync,
        kind::INFORM => Packet::Inform { zxid, txn: keep(needed?) },
        kind::COMMIT_AND_ACTIVATE => Packet::CommitAndActivate { zxid, leader: exactly(fields()?, Reader::i64)? },
        kind::NEW_LEADER => Packet::NewLeader { zxid, config: data.map(keep) },
        kind::FOLLOWER_INFO => {
            Packet::FollowerInfo { accepted_epoch: epoch_of(zxid)?, info: exactly(fields()?, LearnerInfo::decode)? }
        }
        kind::UP_TO_DATE => Packet::UpToDate,
        kind::DIFF => Packet::Diff { zxid },
        kind::TRUNC => Packet::Trunc { zxid },
        kind::SNAP => Packet::Snap { zxid },
        kind::OBSERVER_INFO => {
            Packet::ObserverInfo { accepted_epoch: epoch_of(zxid)?, info: exactly(fields()?, LearnerInfo::decode)? }
        }
        kind::LEADER_INFO => Packet::LeaderInfo { epoch: epoch_of(zxid)?, protocol: exactly(fields()?, Reader::i32)? },
        kind::ACK_EPOCH => {
            let current_epoch = match exactly(fields()?, Reader::i32)? {
                -1 => None,
                epoch => Some(checked_epoch(epoch)?),
            };
            Packet::AckEpoch { last: (zxid != Zxid(NO_ZXID)).then_some(zxid), current_epoch }
        }
        kind::INFORM_AND_ACTIVATE => {
            let mut fields = fields()?;
            let leader = fields.i64()?;
            Packet::InformAndActivate { zxid, leader, txn: keep(fields.rest()) }
        }
        kind::NEXT_EPOCH => Packet::NextEpoch { epoch: epoch_of(zxid)? },
        kind::NEXT_EPOCH_ACCEPTED => Packet::NextEpochAccepted { epoch: epoch_of(zxid)? },
        kind::NEXT_EPOCH_BEGINS => Packet::NextEpochBegins { epoch: epoch_of(zxid)? },
        kind::NEXT_EPOCH_ADOPTED => Packet::NextEpochAdopted { epoch: epoch_of(zxid)? },
        kind::HAND_OVER => Packet::HandOver { leader: exactly(fields()?, Reader::i64)? },
        _ => return Ok(None),
    };
    Ok(Some(packet))
}

/// All of the data, and nothing but this.
fn exactly<'a, T>(
    mut reader: Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let value = read(&mut reader)?;
    if reader.is_empty() { Ok(value) } else { Err(DecodeError::Invalid("more data than this type has")) }
}

fn read_touched(data: &[u8]) -> Result<Vec<(i64, i32)>, DecodeError> {
    let (touches, rest) = data.as_chunks::<TOUCH_BYTES>();
    if !rest.is_empty() {
        return Err(DecodeError::Invalid("a touch table that ends in the middle of a session"));
    }
    let mut touched = Vec::with_capacity(touches.len());
    for touch in touches {
        let mut reader = Reader::new(touch, &Limits::FORMAT);
        touched.push((reader.i64()?, reader.i32()?));
    }
    Ok(touched)
}

fn epoch_of(zxid: Zxid) -> Result<u32, DecodeError> {
    checked_epoch(zxid.epoch().cast_signed())
}

/// Java's epochs are signed, and it promises none below zero.
fn checked_epoch(epoch: i32) -> Result<u32, DecodeError> {
    u32::try_from(epoch).map_err(|_| DecodeError::Invalid("an epoch below zero"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }

    fn decode(text: &str) -> Result<Packet, DecodeError> {
        let bytes = hex(text);
        let decoded = Packet::decode(&bytes, &Limits::default()).map_err(|error| error.why)?.expect("a whole packet");
        assert_eq!(decoded.bytes, bytes.len());
        Ok(decoded.packet.expect("of a type we know"))
    }

    #[test]
    fn a_number_that_is_not_there_is_not_zero() {
        let none = decode("00000012 ffffffffffffffff 00000004 ffffffff ffffffff");
        assert_eq!(none, Ok(Packet::AckEpoch { last: None, current_epoch: None }));
        let zero = decode("00000012 0000000000000000 00000004 00000000 ffffffff");
        assert_eq!(zero, Ok(Packet::AckEpoch { last: Some(Zxid::ZERO), current_epoch: Some(0) }));
        let negative = DecodeError::Invalid("an epoch below zero");
        assert_eq!(decode("00000012 0000000000000000 00000004 fffffffe ffffffff"), Err(negative));
        assert_eq!(decode("00000011 ffffffff00000000 00000004 00010000 ffffffff"), Err(negative));
    }

    #[test]
    fn null_and_empty_are_told_apart() {
        let zxid = Zxid(7);
        let leader = decode("00000005 0000000000000007 ffffffff ffffffff");
        assert_eq!(leader, Ok(Packet::Ping { zxid, touched: None }));
        let learner = decode("00000005 0000000000000007 00000000 ffffffff");
        assert_eq!(learner, Ok(Packet::Ping { zxid, touched: Some(vec![]) }));
        assert_eq!(
            decode("0000000a 0000000000000007 00000000 ffffffff"),
            Ok(Packet::NewLeader { zxid, config: Some(Bytes::new()) })
        );
        let request =
            decode("00000001 ffffffffffffffff 00000010 0000000000000001 00000002 00000009 00000001 ffffffff 00000000");
        let identity = PeerIdentity { scheme: None, id: Some(Bytes::new()) };
        let Ok(Packet::Request(request)) = request else { panic!("{request:?}") };
        assert_eq!((request.identities, request.body), (Some(Rc::from([identity])), Bytes::new()));
    }

    #[test]
    fn older_learners_say_less_of_themselves() {
        let info = |text| match decode(text) {
            Ok(Packet::FollowerInfo { accepted_epoch: 1, info }) => info,
            other => panic!("{other:?}"),
        };
        let of = |protocol, config_version| LearnerInfo { server: 3, protocol, config_version };
        assert_eq!(info("0000000b 0000000100000000 00000008 0000000000000003 ffffffff"), of(1, 0));
        assert_eq!(info("0000000b 0000000100000000 0000000c 0000000000000003 00010000 ffffffff"), of(PROTOCOL_JAVA, 0));
        assert!(decode("0000000b 0000000100000000 ffffffff ffffffff").is_err(), "who it is has to be said");
    }

    #[test]
    fn what_no_server_sends_is_refused_with_its_type() {
        for text in [
            "00000002 0000000100000001 ffffffff ffffffff",
            "00000006 ffffffffffffffff 0000000a 00000000000000010000 ffffffff",
            "00000005 0000000000000007 0000000b 0000000000000001000000 ffffffff",
            "00000009 0000000000000007 00000009 000000000000000100 ffffffff",
            "00000002 0000000100000001 fffffffe ffffffff",
            "00000002 0000000100000001 7fffffff",
            "00000001 ffffffffffffffff 0000000c 000000000000000100000002 ffffffff",
        ] {
            let error = Packet::decode(&hex(text), &Limits::default()).unwrap_err();
            assert!(error.to_string().starts_with(&format!("a packet of type {}: ", error.kind)), "{error}");
        }
    }

    #[test]
    fn a_type_we_do_not_know_is_passed_over() {
        let bytes = hex("00000063 0000000000000007 00000003 aabbcc ffffffff 00000004");
        let decoded = Packet::decode(&bytes, &Limits::default()).unwrap().unwrap();
        assert_eq!(decoded, Decoded { packet: None, bytes: 23 });
        assert_eq!(Packet::decode(&bytes[23..], &Limits::default()), Ok(None));
    }

    #[test]
    fn who_never_comes_to_an_end_is_not_listened_to_for_ever() {
        let limits = Limits::new(1024, Some(1024));
        let bytes = hex("00000001 ffffffffffffffff 00000010 0000000000000001 00000002 00000009 7fffffff");
        // Not by their number, nor by their length.
        for (identity, many) in [
            ("ffffffff ffffffff".to_owned(), IDENTITIES_MAX),
            (format!("00000400 {} ffffffff", "61".repeat(1024)), 1024),
        ] {
            let mut bytes = bytes.clone();
            bytes.extend(std::iter::repeat_n(hex(&identity), many - 8).flatten());
            assert_eq!(Packet::decode(&bytes, &limits), Ok(None), "{many}");
            bytes.extend(std::iter::repeat_n(hex(&identity), 16).flatten());
            assert!(matches!(Packet::decode(&bytes, &limits), Err(PacketError { kind: 1, .. })), "{many}");
        }
    }
}
