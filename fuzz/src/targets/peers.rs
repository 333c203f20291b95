//! What anybody may send to the ports between servers.

use ringkeeper::core::zab::membership::Membership;
use ringkeeper::wire::election::{Introduction, Notification};
use ringkeeper::wire::jute::Limits;
use ringkeeper::wire::quorum::Packet;
use ringkeeper::wire::txn::{Txn, decode_header, decode_txn, encode_txn};

use super::{controlled, piece_ends};
use crate::memory::bounded;

/// An empty part of a multi is 8 bytes, a null identity too.
const TXN_GROWTH: usize = 48;
const PACKET_GROWTH: usize = 32;
/// A weight of seven characters is an entry of two maps, and a word in a message.
const CONFIGURATION_GROWTH: usize = 64;

/// As proposals, logs and DIFFs have it.
pub fn transaction(input: &[u8]) {
    let Ok((header, txn, digest)) = bounded("transaction", input.len(), TXN_GROWTH, || decode_txn(input)) else {
        return;
    };
    assert_eq!(decode_header(input), Ok((header, txn.opcode().number())));
    // Two empty paths are a digest, if they come alone; no session owns an empty path.
    if matches!(&txn, Txn::CloseSession { paths: Some(paths) } if paths.iter().all(|path| path.is_empty())) {
        return;
    }
    let mut written = Vec::new();
    encode_txn(&header, &txn, digest, &mut written);
    assert_eq!(decode_txn(&written), Ok((header, txn, digest)));
}

/// A stream of the quorum port.
pub fn packets(input: &[u8]) {
    let (control, stream) = controlled(input);
    let limits = Limits::default();
    let mut at = 0;
    for end in piece_ends(control, stream) {
        loop {
            let unread = &stream[at..end];
            let decode = || Packet::decode(unread, &limits);
            let decoded = match bounded("packets", unread.len(), PACKET_GROWTH, decode) {
                Err(_) => return,
                Ok(None) => break,
                Ok(Some(decoded)) => decoded,
            };
            assert!((16..=unread.len()).contains(&decoded.bytes));
            assert_eq!(
                Packet::decode(&unread[..decoded.bytes - 1], &limits),
                Ok(None),
                "understood before it was there"
            );
            at += decoded.bytes;
            let Some(packet) = decoded.packet else { continue };
            let mut written = Vec::new();
            packet.encode(&mut written);
            let again = Packet::decode(&written, &limits).expect("a packet of ours").expect("all of it");
            assert_eq!((again.bytes, again.packet), (written.len(), Some(packet)));
        }
    }
}

/// How a connection to the election port begins.
pub fn introduction(input: &[u8]) {
    let decode = || Introduction::decode(input);
    let Ok(Some((introduction, bytes))) = bounded("introduction", input.len(), 16, decode) else { return };
    assert!(bytes <= input.len());
    assert_eq!(Introduction::decode(&input[..bytes - 1]), Ok(None), "understood before it was there");
    if introduction.addresses.is_empty() {
        return; // of old, or nothing useful
    }
    let mut written = Vec::new();
    introduction.encode(&mut written);
    assert_eq!(Introduction::decode(&written), Ok(Some((introduction, written.len()))));
}

/// A vote.
pub fn notification(input: &[u8]) {
    let Ok(read) = bounded("notification", input.len(), 2, || Notification::decode(input)) else { return };
    let mut written = Vec::new();
    read.encode(&mut written);
    read.config_version();
    // Old forms become the newest.
    let newest = Notification { version: Notification::VERSION, ..read };
    assert_eq!(Notification::decode(&written[4..]), Ok(newest));
}

/// The text of a membership, as peers and `reconfig` bring it.
pub fn configuration(input: &[u8]) {
    let parse = || Membership::parse(input);
    let Ok(membership) = bounded("configuration", input.len(), CONFIGURATION_GROWTH, parse) else { return };
    // Addresses of one member have an order of their own there.
    let text = membership.to_text();
    let again = Membership::parse(text.as_bytes()).expect("a text of ours");
    assert_eq!(again.to_text(), text);
    assert!(again.members.keys().eq(membership.members.keys()) && again.kind == membership.kind);
}
