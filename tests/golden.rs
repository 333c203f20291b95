//! Bytes recorded from Java servers, against our codecs: each is read, understood, and written again byte for byte.

#[path = "golden/election.rs"]
mod election;
#[path = "golden/observer_master.rs"]
mod observer_master;

use ringkeeper::wire::client::multi::{MultiOp, MultiResult};
use ringkeeper::wire::client::{
    AddWatchMode, ConnectRequest, ConnectResponse, EventKind, OpCode, ReplyHeader, Request, RequestHeader, Response,
    WatcherEvent, xid,
};
use ringkeeper::wire::frame::Frames;
use ringkeeper::wire::jute::{Limits, Reader};
use ringkeeper::wire::quorum::{LearnerInfo, Packet};
use ringkeeper::wire::txn::{CreateKind, Txn, TxnDigest, TxnHeader, decode_header, decode_txn, encode_txn};
use ringkeeper::wire::{ErrorCode, error_code};
use ringkeeper_storage::Zxid;

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The payload of the one frame these bytes are.
fn payload(frame: &[u8]) -> &[u8] {
    let mut frames = Frames::new(frame);
    let payload = frames.next().expect("a complete frame");
    assert!(frames.rest().is_empty(), "the length word counts every byte");
    payload
}

/// The recorded dialogue: who spoke, and the frame.
fn dialogue() -> Vec<(char, Vec<u8>)> {
    include_str!("golden/frames.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| (line.chars().next().unwrap(), unhex(&line[2..])))
        .collect()
}

fn request(frame: &[u8]) -> (i32, Request<'_>) {
    let mut reader = Reader::new(payload(frame), &Limits::default());
    let header = RequestHeader::decode(&mut reader).unwrap();
    (header.xid, Request::decode(header.opcode, reader.rest(), &Limits::default()).unwrap())
}

fn reply(frame: &[u8]) -> (ReplyHeader, &[u8]) {
    let mut reader = Reader::new(payload(frame), &Limits::default());
    (ReplyHeader::decode(&mut reader).unwrap(), reader.rest())
}

#[test]
fn the_handshake_reads_and_writes_as_recorded() {
    let dialogue = dialogue();
    let asked = ConnectRequest::decode(payload(&dialogue[0].1), &Limits::default()).unwrap();
    assert_eq!((asked.timeout_ms, asked.session_id, asked.read_only), (10_000, 0, Some(false)));
    assert_eq!(asked.password, Some(&[0; 16][..]));
    let answered = ConnectResponse::decode(payload(&dialogue[1].1)).unwrap();
    assert_eq!((answered.timeout_ms, answered.session_id), (10_000, 0x0100_000c_a8fe_003c));

    let mut written = Vec::new();
    asked.encode(&mut written);
    answered.encode(&mut written);
    assert_eq!(written, [&dialogue[0].1[..], &dialogue[1].1].concat());
}

#[test]
fn every_recorded_request_and_reply_reads_and_writes_as_recorded() {
    let dialogue = dialogue();
    assert_eq!(dialogue.len(), 23, "the whole dialogue is there");
    let mut asked: Option<(i32, OpCode)> = None;
    let mut notified = 0;
    for (speaker, frame) in &dialogue[2..] {
        let mut written = Vec::new();
        if *speaker == 'C' {
            let (xid, request) = request(frame);
            request.encode(xid, &mut written);
            asked = Some((xid, request.opcode()));
        } else {
            let (header, body) = reply(frame);
            if header.xid == xid::NOTIFICATION {
                notified += 1;
                WatcherEvent::decode(body).unwrap().encode(header.zxid, &mut written);
            } else {
                let (xid, opcode) = asked.expect("a reply answers something");
                assert_eq!(header.xid, xid);
                let response = match header.err {
                    0 => Response::decode(opcode, body).unwrap(),
                    _ => Response::None,
                };
                response.encode(header, &mut written);
            }
        }
        assert_eq!(&written, frame, "{speaker} {frame:02x?}");
    }
    assert_eq!(notified, 1);
}

#[test]
fn recorded_frames_mean_what_was_done() {
    let frames: Vec<Vec<u8>> = dialogue().into_iter().map(|(_, frame)| frame).collect();

    let (xid, Request::Create(create)) = request(&frames[2]) else { panic!("a create") };
    assert_eq!((xid, create.path.as_deref(), create.data, create.flags), (1, Some("/g"), Some(&b"x"[..]), 0));
    let acl = &create.acl.unwrap()[0];
    assert_eq!((acl.perms, acl.scheme.as_deref(), acl.id.as_deref()), (31, Some("world"), Some("anyone")));

    let (header, body) = reply(&frames[5]);
    assert_eq!(error_code::ErrorCode::try_from(header.err), Ok(ErrorCode::NoNode));
    assert!(body.is_empty());

    let (_, body) = reply(&frames[7]);
    let Response::Children2 { children, stat } = Response::decode(OpCode::GetChildren2, body).unwrap() else {
        panic!()
    };
    assert!(children.is_empty());
    assert_eq!((stat.czxid, stat.ctime, stat.data_length, stat.pzxid), (0x19c, 0x1a1_fd69_5463, 1, 0x19c));

    let (_, Request::Multi(ops)) = request(&frames[8]) else { panic!("a multi") };
    assert!(matches!(
        &ops[..],
        [MultiOp::Create(_), MultiOp::Check { version: 9, .. }, MultiOp::Delete { version: -1, .. }]
    ));
    let (header, body) = reply(&frames[9]);
    assert_eq!(header.err, 0, "a multi that failed still succeeds in its header");
    let Response::Multi(results) = Response::decode(OpCode::Multi, body).unwrap() else { panic!() };
    let codes = [0, ErrorCode::BadVersion.number(), ErrorCode::RuntimeInconsistency.number()];
    assert_eq!(results, codes.map(|code| MultiResult::Error { code }));

    let (_, Request::Multi(ops)) = request(&frames[10]) else { panic!("a multi") };
    assert!(matches!(&ops[0], MultiOp::Create2(create) if create.data.is_none() && create.flags == 2));

    let (header, body) = reply(&frames[11]);
    assert_eq!((header.xid, header.zxid), (xid::NOTIFICATION, 0x19e));
    let event = WatcherEvent::decode(body).unwrap();
    assert_eq!((event.kind, event.path.as_ref()), (EventKind::NodeChildrenChanged, "/g"));

    let (_, body) = reply(&frames[12]);
    let Response::Multi(results) = Response::decode(OpCode::Multi, body).unwrap() else { panic!() };
    assert!(
        matches!(&results[..], [MultiResult::Create2 { path, .. }, MultiResult::Check] if path == "/g/s-0000000000")
    );

    let (_, watch) = request(&frames[13]);
    assert_eq!(watch, Request::AddWatch { path: Some("/g".into()), mode: AddWatchMode::PersistentRecursive });
    let (_, auth) = request(&frames[17]);
    assert_eq!(auth, Request::Auth { scheme: Some("digest".into()), auth: Some(b"u:p") });

    let (_, body) = reply(&frames[20]);
    let Response::WhoAmI(infos) = Response::decode(OpCode::WhoAmI, body).unwrap() else { panic!() };
    let infos: Vec<(&str, &str)> = infos.iter().map(|info| (info.scheme.as_ref(), info.user.as_ref())).collect();
    assert_eq!(infos, [("ip", "127.0.0.1"), ("digest", "u")]);
}

/// The transactions of a Java log, and a check that the log is read to its last byte.
fn transactions(log: &[u8]) -> Vec<&[u8]> {
    let (header, mut rest) = log.split_at(16);
    assert_eq!(header, unhex("5a4b4c47 00000002 0000000000000000"));
    let mut found = Vec::new();
    while let Some((_checksum, behind)) = rest.split_at_checked(8) {
        let mut frame = Frames::new(behind);
        found.push(frame.next().expect("a whole record"));
        rest = frame.rest().strip_prefix(&[0x42]).expect("the record's end mark");
    }
    assert!(rest.is_empty());
    found
}

fn assert_written_again_as_read(txn: &[u8]) {
    let (header, record, digest) = decode_txn(txn).unwrap();
    assert_eq!(decode_header(txn), Ok((header, record.opcode().number())));
    let mut written = Vec::new();
    encode_txn(&header, &record, digest, &mut written);
    assert_eq!(written, txn, "{header:?} {record:?} {digest:?}");
}

#[test]
fn every_transaction_of_real_logs_reads_and_writes_as_recorded() {
    let logs: [&[u8]; 3] = [
        include_bytes!("golden/java-3.9.3-log.100000001.bin"),
        include_bytes!("golden/java-3.9.3-log.100000026.bin"),
        include_bytes!("golden/java-3.9.3-log.10000004e.bin"),
    ];
    let mut kinds = Vec::new();
    let mut last_zxid = 0x1_0000_0000;
    for txn in logs.iter().flat_map(|log| transactions(log)) {
        assert_written_again_as_read(txn);
        let (header, record, digest) = decode_txn(txn).unwrap();
        assert_eq!(header.zxid, last_zxid + 1, "a log has no gap inside an epoch");
        // Semantics 16: the error transaction of a single request carries none.
        assert_eq!(
            digest.map(|digest| digest.version),
            if matches!(record, Txn::Error { .. }) { None } else { Some(2) }
        );
        last_zxid = header.zxid;
        kinds.push(record.opcode().number());
    }
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds, [-11, -10, -1, 1, 2, 5, 7, 14, 15, 16, 19, 20, 21], "every type a log can hold is there");
}

#[test]
fn a_log_without_digests_and_closing_paths_reads_and_writes_as_recorded() {
    let log = include_bytes!("golden/java-3.9.3-no-digest-log.21.bin");
    let found = transactions(log);
    assert_eq!(found.len(), 2);
    found.iter().for_each(|txn| assert_written_again_as_read(txn));
    let closed = |txn: &&&[u8]| matches!(decode_txn(txn), Ok((_, Txn::CloseSession { paths: None }, None)));
    assert_eq!(found.iter().filter(closed).count(), 1);
}

#[test]
fn the_first_records_of_a_log_mean_what_was_done() {
    let log = include_bytes!("golden/java-3.9.3-log.100000001.bin");
    let found = transactions(log);
    let client_id = 0x0100_000e_0e65_0000;
    assert_eq!(
        decode_txn(found[0]).unwrap(),
        (
            TxnHeader { client_id, cxid: 0, zxid: 0x1_0000_0001, time_ms: 0x1a1_fd5c_5206 },
            Txn::CreateSession { timeout_ms: 30_000 },
            Some(TxnDigest { version: 2, tree_digest: 0x51c6_d660 }),
        )
    );
    let (header, record, digest) = decode_txn(found[1]).unwrap();
    assert_eq!(header, TxnHeader { client_id, cxid: 1, zxid: 0x1_0000_0002, time_ms: 0x1a1_fd5c_5228 });
    assert_eq!(digest, Some(TxnDigest { version: 2, tree_digest: 0x1_a7c4_2569 }));
    let Txn::Create { path, data, acl, kind, parent_cversion, create2 } = record else { panic!("a create") };
    assert_eq!((path.as_ref(), data, parent_cversion), ("/plain", Some(&b"v0"[..]), 1));
    assert_eq!((kind, create2), (CreateKind::Persistent, false));
    assert_eq!((acl.len(), acl[0].perms, acl[0].scheme.as_deref()), (1, 31, Some("world")));
}

/// Every packet of fourteen dialogues between Java servers: elections with every kind of synchronisation, all transactions
/// through every role, reconfigurations, observers of followers, 3.8.0 beside 3.9.3.
#[test]
fn every_recorded_packet_of_a_quorum_port_reads_and_writes_as_recorded() {
    let limits = Limits::default();
    let mut seen = std::collections::BTreeMap::<&str, u32>::new();
    let (mut stream, mut packets) = (Vec::new(), Vec::new());
    for line in include_str!("golden/quorum-packets.txt").lines().filter(|line| !line.starts_with('#')) {
        let (capture, rest) = line.split_once(' ').unwrap();
        let (name, bytes) = rest.split_once(' ').unwrap();
        let bytes = unhex(bytes);
        for cut in 0..bytes.len() {
            assert_eq!(Packet::decode(&bytes[..cut], &limits), Ok(None), "{capture} {name} cut at {cut}");
        }
        let decoded = Packet::decode(&bytes, &limits).unwrap_or_else(|error| panic!("{capture} {name}: {error}"));
        let decoded = decoded.expect("a whole packet");
        let packet = decoded.packet.unwrap_or_else(|| panic!("{capture} {name}: unknown"));
        assert_eq!((decoded.bytes, name_of(&packet)), (bytes.len(), name), "{capture}: {packet:?}");
        let mut written = Vec::new();
        packet.encode(&mut written);
        assert_eq!(written, bytes, "{capture} {name}: {packet:?}");
        if let Packet::Proposal { zxid, txn } | Packet::Inform { zxid, txn } = &packet {
            assert_eq!(decode_txn(txn).unwrap().0.zxid as u64, zxid.0, "{capture}");
        }
        *seen.entry(name).or_default() += 1;
        stream.extend(bytes);
        packets.push(packet);
    }
    assert_eq!((seen.len(), packets.len()), (19, 644), "{seen:?}");
    // As a stream, whose chunks end anywhere.
    let (mut from, mut read) = (0, Vec::new());
    for end in (0..stream.len()).step_by(1000).chain([stream.len()]) {
        while let Some(decoded) = Packet::decode(&stream[from..end], &limits).unwrap() {
            from += decoded.bytes;
            read.extend(decoded.packet);
        }
    }
    assert!(from == stream.len() && read == packets);
}

fn name_of(packet: &Packet) -> &'static str {
    match packet {
        Packet::NextEpoch { .. }
        | Packet::NextEpochAccepted { .. }
        | Packet::NextEpochBegins { .. }
        | Packet::NextEpochAdopted { .. }
        | Packet::HandOver { .. } => panic!("no Java server says {packet:?}"),
        packet => packet.name(),
    }
}

#[test]
fn what_a_recorded_learner_and_leader_say_is_understood() {
    let decode = |text: &str| Packet::decode(&unhex(text), &Limits::default()).unwrap().unwrap().packet.unwrap();
    assert_eq!(
        decode("0000000b 0000000100000000 00000014 0000000000000001 00010000 0000000100000063 ffffffff"),
        Packet::FollowerInfo {
            accepted_epoch: 1,
            info: LearnerInfo { server: 1, protocol: 0x10000, config_version: 0x1_0000_0063 },
        }
    );
    assert_eq!(
        decode("00000005 0000000100000023 0000000c 0100000e0e650000 00007530 ffffffff"),
        Packet::Ping { zxid: Zxid(0x1_0000_0023), touched: Some(vec![(0x0100_000e_0e65_0000, 30_000)]) }
    );
    let request = decode("00000001 ffffffffffffffff 00000014 0100000e0e650000 00000000 fffffff6 00007530 ffffffff");
    let Packet::Request(request) = request else { panic!("{request:?}") };
    assert_eq!((request.session, request.cxid, request.opcode), (0x0100_000e_0e65_0000, 0, -10));
    assert_eq!((request.body.as_ref(), request.identities), (&[0, 0, 0x75, 0x30][..], None));
}
