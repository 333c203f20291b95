//! What must hold for every message: written and read it is the same, cut short it is refused, damaged it harms nobody.

use std::borrow::Cow;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use ringkeeper_storage::Zxid;

use super::client::*;
use super::frame::Frames;
use super::jute::{Limits, Reader, Text};
use super::quorum::{ForwardedRequest, LearnerInfo, Packet, PeerIdentity};
use super::txn::{CreateKind, DIGEST_VERSION, Txn, TxnDigest, TxnHeader, decode_header, decode_txn, encode_txn};

fn string() -> impl Strategy<Value = Cow<'static, str>> {
    "(?s).{0,12}".prop_map(Cow::Owned)
}

fn text() -> impl Strategy<Value = Text<'static>> {
    option::weighted(0.9, string())
}

/// Leaked, because messages borrow their data and a test's inputs live as long as the test.
fn data() -> impl Strategy<Value = Option<&'static [u8]>> {
    option::weighted(0.9, vec(any::<u8>(), 0..24).prop_map(|data| &*data.leak()))
}

fn acl() -> impl Strategy<Value = AclList<'static>> {
    let entry = (any::<i32>(), text(), text()).prop_map(|(perms, scheme, id)| Acl { perms, scheme, id });
    vec(entry, 0..4)
}

fn stat() -> impl Strategy<Value = Stat> {
    (any::<[i64; 6]>(), any::<[i32; 5]>()).prop_map(|(long, int)| Stat {
        czxid: long[0],
        mzxid: long[1],
        ctime: long[2],
        mtime: long[3],
        version: int[0],
        cversion: int[1],
        aversion: int[2],
        ephemeral_owner: long[4],
        data_length: int[3],
        num_children: int[4],
        pzxid: long[5],
    })
}

fn create_with(flags: impl Strategy<Value = i32>) -> impl Strategy<Value = CreateRequest<'static>> {
    (text(), data(), option::weighted(0.9, acl()), flags).prop_map(|(path, data, acl, flags)| CreateRequest {
        path,
        data,
        acl,
        flags,
    })
}

/// A path that is not null, as items of a `multi` must have it.
fn path() -> impl Strategy<Value = Text<'static>> {
    string().prop_map(Some)
}

fn item_with(flags: impl Strategy<Value = i32>) -> impl Strategy<Value = CreateRequest<'static>> {
    (path(), data(), acl().prop_map(Some), flags).prop_map(|(path, data, acl, flags)| CreateRequest {
        path,
        data,
        acl,
        flags,
    })
}

/// Only items that stay what they are when read.
fn multi_op() -> impl Strategy<Value = MultiOp<'static>> {
    prop_oneof![
        item_with(0..=3).prop_map(MultiOp::Create),
        item_with(0..=3).prop_map(MultiOp::Create2),
        item_with(0..=4).prop_map(MultiOp::CreateContainer),
        (item_with(5..=6), any::<i64>()).prop_map(|(create, ttl_ms)| MultiOp::CreateTtl { create, ttl_ms }),
        (path(), any::<i32>()).prop_map(|(path, version)| MultiOp::Delete { path, version }),
        (path(), data(), any::<i32>()).prop_map(|(path, data, version)| MultiOp::SetData { path, data, version }),
        (path(), any::<i32>()).prop_map(|(path, version)| MultiOp::Check { path, version }),
    ]
}

fn multi_read_op() -> impl Strategy<Value = MultiReadOp<'static>> {
    prop_oneof![
        (path(), any::<bool>()).prop_map(|(path, watch)| MultiReadOp::GetData { path, watch }),
        (path(), any::<bool>()).prop_map(|(path, watch)| MultiReadOp::GetChildren { path, watch }),
    ]
}

fn set_watches(persistent: bool) -> impl Strategy<Value = SetWatches<'static>> {
    let paths = || vec(string(), 0..4);
    (any::<i64>(), paths(), paths(), paths(), paths(), paths()).prop_map(
        move |(zxid, data, exist, child, once, tree)| SetWatches {
            relative_zxid: zxid,
            data,
            exist,
            child,
            persistent: if persistent { once } else { vec![] },
            persistent_recursive: if persistent { tree } else { vec![] },
        },
    )
}

fn request() -> impl Strategy<Value = Request<'static>> {
    let create = || create_with(any::<i32>());
    let path_watch = || (text(), any::<bool>());
    let writes = prop_oneof![
        create().prop_map(Request::Create),
        create().prop_map(Request::Create2),
        create().prop_map(Request::CreateContainer),
        (create(), any::<i64>()).prop_map(|(create, ttl_ms)| Request::CreateTtl { create, ttl_ms }),
        (text(), any::<i32>()).prop_map(|(path, version)| Request::Delete { path, version }),
        text().prop_map(|path| Request::DeleteContainer { path }),
        (text(), data(), any::<i32>()).prop_map(|(path, data, version)| Request::SetData { path, data, version }),
        (text(), option::weighted(0.9, acl()), any::<i32>()).prop_map(|(path, acl, version)| Request::SetAcl {
            path,
            acl,
            version
        }),
        vec(multi_op(), 0..6).prop_map(Request::Multi),
        (text(), text(), text(), any::<i64>()).prop_map(|(joining, leaving, new_members, config_id)| {
            Request::Reconfig { joining, leaving, new_members, config_id }
        }),
        any::<i32>().prop_map(|timeout_ms| Request::CreateSession { timeout_ms }),
        Just(Request::CloseSession),
    ];
    let reads = prop_oneof![
        path_watch().prop_map(|(path, watch)| Request::Exists { path, watch }),
        path_watch().prop_map(|(path, watch)| Request::GetData { path, watch }),
        path_watch().prop_map(|(path, watch)| Request::GetChildren { path, watch }),
        path_watch().prop_map(|(path, watch)| Request::GetChildren2 { path, watch }),
        text().prop_map(|path| Request::GetAcl { path }),
        text().prop_map(|path| Request::Sync { path }),
        text().prop_map(|prefix| Request::GetEphemerals { prefix }),
        text().prop_map(|path| Request::GetAllChildrenNumber { path }),
        vec(multi_read_op(), 0..6).prop_map(Request::MultiRead),
        Just(Request::Ping),
        Just(Request::WhoAmI),
    ];
    let connection = prop_oneof![
        (text(), select(WatcherType::ALL)).prop_map(|(path, kind)| Request::CheckWatches { path, kind }),
        (text(), select(WatcherType::ALL)).prop_map(|(path, kind)| Request::RemoveWatches { path, kind }),
        (text(), select(AddWatchMode::ALL)).prop_map(|(path, mode)| Request::AddWatch { path, mode }),
        (text(), data()).prop_map(|(scheme, auth)| Request::Auth { scheme, auth }),
        data().prop_map(|token| Request::Sasl { token }),
        set_watches(false).prop_map(Request::SetWatches),
        set_watches(true).prop_map(Request::SetWatches2),
    ];
    prop_oneof![writes, reads, connection]
}

fn multi_result() -> impl Strategy<Value = MultiResult<'static>> {
    prop_oneof![
        string().prop_map(|path| MultiResult::Create { path }),
        (string(), stat()).prop_map(|(path, stat)| MultiResult::Create2 { path, stat }),
        Just(MultiResult::Delete),
        stat().prop_map(|stat| MultiResult::SetData { stat }),
        Just(MultiResult::Check),
        (data(), stat()).prop_map(|(data, stat)| MultiResult::GetData { data: data.map(Cow::Borrowed), stat }),
        vec(string(), 0..5).prop_map(|children| MultiResult::GetChildren { children }),
        any::<i32>().prop_map(|code| MultiResult::Error { code }),
    ]
}

/// What was asked, and an answer to it.
fn response() -> impl Strategy<Value = (OpCode, Response<'static>)> {
    use OpCode::*;
    let names = || vec(string(), 0..6);
    let info = (string(), string()).prop_map(|(scheme, user)| ClientInfo { scheme, user });
    let silent =
        [Delete, DeleteContainer, Ping, Auth, CheckWatches, RemoveWatches, SetWatches, SetWatches2, CloseSession];
    prop_oneof![
        select(silent.to_vec()).prop_map(|asked| (asked, Response::None)),
        (select(vec![Create, Sync]), text()).prop_map(|(asked, path)| (asked, Response::Path(path))),
        (select(vec![Create2, CreateContainer, CreateTtl]), string(), stat())
            .prop_map(|(asked, path, stat)| (asked, Response::Create2 { path, stat })),
        (select(vec![Exists, SetData, SetAcl]), stat()).prop_map(|(asked, stat)| (asked, Response::Stat(stat))),
        (select(vec![GetData, Reconfig]), data(), stat())
            .prop_map(|(asked, data, stat)| (asked, Response::Data { data, stat })),
        (option::of(acl()), stat()).prop_map(|(acl, stat)| (GetAcl, Response::Acl { acl, stat })),
        (select(vec![GetChildren, GetEphemerals]), names()).prop_map(|(asked, names)| (asked, Response::Names(names))),
        (names(), stat()).prop_map(|(children, stat)| (GetChildren2, Response::Children2 { children, stat })),
        (select(vec![Multi, MultiRead]), vec(multi_result(), 0..5))
            .prop_map(|(asked, results)| (asked, Response::Multi(results))),
        data().prop_map(|token| (Sasl, Response::Sasl { token })),
        any::<i32>().prop_map(|number| (GetAllChildrenNumber, Response::AllChildrenNumber(number))),
        any::<i32>().prop_map(|code| (AddWatch, Response::Error { code })),
        vec(info, 0..4).prop_map(|infos| (WhoAmI, Response::WhoAmI(infos))),
    ]
}

fn create_txn() -> impl Strategy<Value = Txn<'static>> {
    let kind = prop_oneof![
        Just((CreateKind::Persistent, false)),
        Just((CreateKind::Persistent, true)),
        Just((CreateKind::Ephemeral, false)),
        Just((CreateKind::Ephemeral, true)),
        Just((CreateKind::Container, false)),
        any::<i64>().prop_map(|ttl_ms| (CreateKind::Ttl { ttl_ms }, false)),
    ];
    (string(), data(), acl(), kind, any::<i32>()).prop_map(|(path, data, acl, (kind, create2), parent_cversion)| {
        Txn::Create { path, data, acl, kind, parent_cversion, create2 }
    })
}

fn multi_part() -> impl Strategy<Value = Txn<'static>> {
    prop_oneof![
        create_txn(),
        string().prop_map(|path| Txn::Delete { path }),
        string().prop_map(|path| Txn::DeleteContainer { path }),
        (string(), data(), any::<i32>()).prop_map(|(path, data, version)| Txn::SetData { path, data, version }),
        (string(), any::<i32>()).prop_map(|(path, version)| Txn::Check { path, version }),
        any::<i32>().prop_map(|code| Txn::Error { code }),
    ]
}

fn txn() -> impl Strategy<Value = Txn<'static>> {
    prop_oneof![
        4 => multi_part().prop_filter("a check stands only inside a multi", |txn| !matches!(txn, Txn::Check { .. })),
        1 => any::<i32>().prop_map(|timeout_ms| Txn::CreateSession { timeout_ms }),
        1 => option::of(vec("/.{0,12}".prop_map(Cow::Owned), 0..4)).prop_map(|paths| Txn::CloseSession { paths }),
        1 => (string(), data(), any::<i32>()).prop_map(|(path, data, version)| Txn::Reconfig { path, data, version }),
        1 => (string(), acl(), any::<i32>()).prop_map(|(path, acl, version)| Txn::SetAcl { path, acl, version }),
        2 => vec(multi_part(), 0..6).prop_map(Txn::Multi),
    ]
}

fn header() -> impl Strategy<Value = TxnHeader> {
    (any::<i64>(), any::<i32>(), any::<i64>(), any::<i64>()).prop_map(|(client_id, cxid, zxid, time_ms)| TxnHeader {
        client_id,
        cxid,
        zxid,
        time_ms,
    })
}

fn digest() -> impl Strategy<Value = Option<TxnDigest>> {
    option::of(any::<i64>().prop_map(|tree_digest| TxnDigest { version: DIGEST_VERSION, tree_digest }))
}

/// Damage: some bytes replaced, then the end cut off.
fn damaged(bytes: &[u8], damage: &[(Index, u8)], cut: Index) -> &'static [u8] {
    written(|out| {
        out.extend_from_slice(bytes);
        if !bytes.is_empty() {
            damage.iter().for_each(|(at, byte)| out[at.index(bytes.len())] = *byte);
            out.truncate(cut.index(bytes.len() + 1));
        }
    })
}

fn damage() -> impl Strategy<Value = Vec<(Index, u8)>> {
    let byte = prop_oneof![Just(0u8), Just(0xff), Just(0x7f), any::<u8>()];
    vec((any::<Index>(), byte), 0..6)
}

/// What `write` appends, leaked like [`data`].
fn written(write: impl FnOnce(&mut Vec<u8>)) -> &'static [u8] {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes.leak()
}

fn payload(frame: &'static [u8]) -> &'static [u8] {
    let mut frames = Frames::new(frame);
    let payload = frames.next().expect("a complete frame");
    assert!(frames.rest().is_empty(), "the length counts every byte");
    payload
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn packet() -> impl Strategy<Value = Packet> {
    let zxid = || any::<u64>().prop_map(Zxid);
    let epoch = || 0..=i32::MAX as u32;
    let info = || {
        (any::<i64>(), any::<i32>(), any::<u64>()).prop_map(|(server, protocol, config_version)| LearnerInfo {
            server,
            protocol,
            config_version,
        })
    };
    let identity = (option::of(bytes()), option::of(bytes())).prop_map(|(scheme, id)| PeerIdentity { scheme, id });
    let request = (any::<(i64, i32, i32)>(), bytes(), option::of(vec(identity, 0..4)));
    let broadcast = prop_oneof![
        request.prop_map(|((session, cxid, opcode), body, identities)| {
            Packet::Request(ForwardedRequest {
                session,
                cxid,
                opcode,
                body,
                identities: identities.map(std::rc::Rc::from),
            })
        }),
        (zxid(), bytes()).prop_map(|(zxid, txn)| Packet::Proposal { zxid, txn }),
        zxid().prop_map(|zxid| Packet::Ack { zxid }),
        zxid().prop_map(|zxid| Packet::Commit { zxid }),
        (zxid(), option::of(vec(any::<(i64, i32)>(), 0..4))).prop_map(|(zxid, touched)| Packet::Ping { zxid, touched }),
        any::<(i64, i32)>().prop_map(|(session, timeout_ms)| Packet::Revalidate { session, timeout_ms }),
        any::<(i64, bool)>().prop_map(|(session, valid)| Packet::Revalidated { session, valid }),
        Just(Packet::Sync),
        (zxid(), bytes()).prop_map(|(zxid, txn)| Packet::Inform { zxid, txn }),
        (zxid(), any::<i64>()).prop_map(|(zxid, leader)| Packet::CommitAndActivate { zxid, leader }),
        (zxid(), any::<i64>(), bytes()).prop_map(|(zxid, leader, txn)| Packet::InformAndActivate { zxid, leader, txn }),
    ];
    let joining = prop_oneof![
        (zxid(), option::of(bytes())).prop_map(|(zxid, config)| Packet::NewLeader { zxid, config }),
        (epoch(), info()).prop_map(|(accepted_epoch, info)| Packet::FollowerInfo { accepted_epoch, info }),
        (epoch(), info()).prop_map(|(accepted_epoch, info)| Packet::ObserverInfo { accepted_epoch, info }),
        Just(Packet::UpToDate),
        zxid().prop_map(|zxid| Packet::Diff { zxid }),
        zxid().prop_map(|zxid| Packet::Trunc { zxid }),
        zxid().prop_map(|zxid| Packet::Snap { zxid }),
        (epoch(), any::<i32>()).prop_map(|(epoch, protocol)| Packet::LeaderInfo { epoch, protocol }),
        (option::of((0..u64::MAX).prop_map(Zxid)), option::of(epoch()))
            .prop_map(|(last, current_epoch)| Packet::AckEpoch { last, current_epoch }),
    ];
    let ours = prop_oneof![
        epoch().prop_map(|epoch| Packet::NextEpoch { epoch }),
        epoch().prop_map(|epoch| Packet::NextEpochAccepted { epoch }),
        epoch().prop_map(|epoch| Packet::NextEpochBegins { epoch }),
        epoch().prop_map(|epoch| Packet::NextEpochAdopted { epoch }),
        any::<i64>().prop_map(|leader| Packet::HandOver { leader }),
    ];
    prop_oneof![broadcast, joining, ours]
}

proptest! {
    #[test]
    fn every_packet_is_read_as_it_was_written_and_not_before_all_of_it_is_there(packet in packet(), next in packet()) {
        let mut stream = written(|out| packet.encode(out)).to_vec();
        let limits = Limits::default();
        for cut in 0..stream.len() {
            prop_assert_eq!(Packet::decode(&stream[..cut], &limits), Ok(None));
        }
        let bytes = stream.len();
        next.encode(&mut stream);
        let decoded = Packet::decode(&stream, &limits).unwrap().unwrap();
        prop_assert_eq!((decoded.packet, decoded.bytes), (Some(packet), bytes));
    }

    /// Whatever comes of it, it is not a panic, and what is understood could have been sent.
    #[test]
    fn damaged_packets_harm_nobody(packet in packet(), damage in damage(), cut: Index) {
        let bytes = damaged(written(|out| packet.encode(out)), &damage, cut);
        let limits = Limits::new(64, Some(1024));
        if let Ok(Some(decoded)) = Packet::decode(bytes, &limits) {
            prop_assert!(decoded.bytes <= bytes.len());
            if let Some(packet) = decoded.packet {
                let again = written(|out| packet.encode(out));
                prop_assert_eq!(Packet::decode(again, &limits).unwrap().unwrap().packet, Some(packet));
            }
        }
    }

    #[test]
    fn any_bytes_are_no_danger_to_a_quorum_port(bytes in vec(any::<u8>(), 0..80), kind in 0..20i32) {
        let _ = Packet::decode(&bytes, &Limits::default());
        let packet = [&kind.to_be_bytes()[..], &[0; 8], &(bytes.len() as i32).to_be_bytes(), &bytes, &[0xff; 4]].concat();
        let decoded = Packet::decode(&packet, &Limits::default());
        prop_assert!(!matches!(decoded, Ok(None)), "all of it is there");
    }

    #[test]
    fn every_request_is_read_as_it_was_written(request in request(), xid: i32) {
        let frame = written(|out| request.encode(xid, out));
        let mut reader = Reader::new(payload(frame), &Limits::default());
        let header = RequestHeader::decode(&mut reader).unwrap();
        prop_assert_eq!(header, RequestHeader { xid, opcode: request.opcode().number() });
        let read = Request::decode(header.opcode, reader.rest(), &Limits::default()).unwrap();
        prop_assert_eq!(written(|out| read.encode(xid, out)), frame);
        prop_assert_eq!(read, request);
    }

    /// The promise that keeps Java leaders alive: what is cut short is refused here, at every byte.
    #[test]
    fn a_request_cut_short_is_malformed(request in request()) {
        let body = written(|out| request.encode_body(out));
        for cut in 0..body.len() {
            let read = Request::decode(request.opcode().number(), &body[..cut], &Limits::default());
            prop_assert!(matches!(read, Err(RequestError::Malformed(_))), "{:?} cut at {}: {:?}", request, cut, read);
        }
    }

    #[test]
    fn every_reply_is_read_as_it_was_written((asked, response) in response(), xid: i32, zxid: i64) {
        let header = ReplyHeader { xid, zxid, err: 0 };
        let frame = written(|out| response.encode(header, out));
        let mut reader = Reader::new(payload(frame), &Limits::default());
        prop_assert_eq!(ReplyHeader::decode(&mut reader), Ok(header));
        prop_assert_eq!(Response::decode(asked, reader.rest()), Ok(response));
    }

    #[test]
    fn every_notification_is_read_as_it_was_written(kind in select(EventKind::ALL), path in string(), zxid: i64) {
        let event = WatcherEvent { kind, path };
        let frame = written(|out| event.encode(zxid, out));
        let mut reader = Reader::new(payload(frame), &Limits::default());
        let header = ReplyHeader { xid: xid::NOTIFICATION, zxid, err: 0 };
        prop_assert_eq!(ReplyHeader::decode(&mut reader), Ok(header));
        prop_assert_eq!(WatcherEvent::decode(reader.rest()), Ok(event));
    }

    #[test]
    fn every_transaction_is_read_as_it_was_written(header in header(), txn in txn(), digest in digest()) {
        let bytes = written(|out| encode_txn(&header, &txn, digest, out));
        prop_assert_eq!(decode_header(bytes), Ok((header, txn.opcode().number())));
        prop_assert_eq!(decode_txn(bytes), Ok((header, txn, digest)));
    }

    #[test]
    fn damaged_requests_are_refused_or_mean_something_that_can_be_written(
        request in request(),
        damage in damage(),
        cut: Index,
        other_opcode in option::of(-12i32..110),
    ) {
        let body = damaged(written(|out| request.encode_body(out)), &damage, cut);
        let opcode = other_opcode.unwrap_or(request.opcode().number());
        if let Ok(read) = Request::decode(opcode, body, &Limits::default()) {
            let again = written(|out| read.encode_body(out));
            // Replacement characters take three bytes for one; beyond that nothing grows.
            prop_assert!(again.len() <= 3 * body.len() + 16);
            // A createTTL item may have become a create that no client may send as such.
            let stays = !matches!(read, Request::Multi(_));
            prop_assert!(!stays || Request::decode(opcode, again, &Limits::default()) == Ok(read));
        }
    }

    #[test]
    fn damaged_transactions_are_refused_or_mean_something_that_can_be_written(
        header in header(), txn in txn(), digest in digest(), damage in damage(), cut: Index,
    ) {
        let bytes = damaged(written(|out| encode_txn(&header, &txn, digest, out)), &damage, cut);
        if let Ok((header, txn, digest)) = decode_txn(bytes) {
            let again = written(|out| encode_txn(&header, &txn, digest, out));
            // Two paths without a byte and no digest are, by the rule, a digest.
            let ambiguous = matches!(&txn, Txn::CloseSession { paths: Some(paths) } if *paths == ["", ""]);
            prop_assert!(ambiguous || decode_txn(again) == Ok((header, txn, digest)));
        }
    }

    #[test]
    fn no_bytes_can_make_a_decoder_panic(bytes in vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0..200)) {
        for opcode in -12..110 {
            let _ = Request::decode(opcode, &bytes, &Limits::default());
        }
        for asked in OpCode::ALL {
            let _ = Response::decode(*asked, &bytes);
        }
        let _ = (decode_txn(&bytes), WatcherEvent::decode(&bytes), ConnectResponse::decode(&bytes));
        let _ = ConnectRequest::decode(&bytes, &Limits::default());
        prop_assert!(Frames::new(&bytes).map(<[u8]>::len).sum::<usize>() <= bytes.len());
    }
}
