//! A dialogue between an observer and its observer master, both Java's, with ours in the master's place: what it says is what was
//! recorded, byte for byte, and in the same order.

use std::collections::VecDeque;

use ringkeeper::core::settings::Ensemble;
use ringkeeper::core::types::{Epochs, LinkId, LinkMessage, Now, Output, ServerId};
use ringkeeper::core::zab::Leader;
use ringkeeper::core::zab::leader::{LeaderEvent, LeaderStart, SyncView};
use ringkeeper::core::zab::membership::{Configurations, Membership};
use ringkeeper::core::zab::window::Window;
use ringkeeper::wire::jute::Limits;
use ringkeeper::wire::quorum::{PROTOCOL_JAVA, Packet};
use ringkeeper_storage::Zxid;

use super::unhex;

const LINK: LinkId = LinkId(1);

#[test]
fn a_recorded_observer_is_served_as_its_master_served_it() {
    let lines = include_str!("observer-master.txt").lines().filter(|line| !line.starts_with('#'));
    let dialogue: Vec<(bool, Vec<u8>)> = lines
        .map(|line| {
            let mut words = line.split(' ');
            (words.next() == Some("master"), unhex(words.nth(1).expect("who, what, bytes")))
        })
        .collect();
    let decode = |bytes: &[u8]| Packet::decode(bytes, &Limits::default()).unwrap().unwrap().packet.unwrap();
    let config = dialogue.iter().find_map(|(_, bytes)| match decode(bytes) {
        Packet::NewLeader { config, .. } => config,
        _ => None,
    });
    let configs = Configurations::settled(Membership::parse(&config.expect("NEWLEADER has it")).unwrap());

    let mut now = Now { mono_us: 1_000_000, wall_ms: 0 };
    let mut window = Window::new(500, Zxid::ZERO);
    let start = LeaderStart {
        id: ServerId(2),
        epochs: Epochs { accepted: 1, current: 1 },
        last: Zxid::ZERO,
        founds: false,
        reconfigures: false,
    };
    let mut out = Vec::new();
    let mut master = Leader::relaying(now, start, &Ensemble::default(), &configs, &mut out);
    assert!(matches!(out.remove(0), Output::AcceptObservers(true)));
    master.on_learner_connected(now, LINK);

    let mut said = VecDeque::new();
    let mut asked = Vec::new();
    for (place, (by_master, bytes)) in dialogue.into_iter().enumerate() {
        let packet = decode(&bytes);
        if !by_master {
            let view = SyncView { window: &window, applied: window.last().max(Zxid::new(1, 0)), snapshot_bytes: 0 };
            master.on_message(now, LINK, LinkMessage::Packet(packet.clone()), view, &mut out);
        } else if said.is_empty() {
            // What comes from above, or with time.
            match &packet {
                Packet::Inform { zxid, txn } => {
                    window.push(*zxid, txn.clone());
                    master.relay(*zxid, txn, &mut out);
                }
                Packet::Sync => master.synced(LINK, &mut out),
                Packet::Revalidated { session, valid } => master.revalidated(LINK, *session, *valid, &mut out),
                Packet::Ping { .. } => {
                    now.mono_us += 1_000_000; // half of a tick
                    master.on_tick(now, &mut out);
                }
                _ => {}
            }
        }
        for output in out.drain(..) {
            let Output::LinkSend { link: LINK, message: LinkMessage::Packet(mut packet) } = output else {
                panic!("{place}: {output:?}");
            };
            if let Packet::LeaderInfo { protocol, .. } = &mut packet {
                *protocol = PROTOCOL_JAVA; // ours is a later one
            }
            let mut bytes = Vec::new();
            packet.encode(&mut bytes);
            said.push_back((packet, bytes));
        }
        if by_master {
            let (said, said_bytes) =
                said.pop_front().unwrap_or_else(|| panic!("{place}: silence where {packet:?} was"));
            assert_eq!(said_bytes, bytes, "{place}: {said:?} and not {packet:?}");
        }
        while let Some(event) = master.next_event() {
            asked.push(match event {
                LeaderEvent::Syncs { .. } => continue, // for its metrics

                LeaderEvent::Request { request, .. } => format!("request {}", request.opcode),
                LeaderEvent::Revalidate { session, timeout_ms, .. } => format!("revalidate {session:#x} {timeout_ms}"),
                LeaderEvent::Touched { session, timeout_ms } => format!("touched {session:#x} {timeout_ms}"),
                other => panic!("{other:?}"),
            });
        }
    }
    assert!(said.is_empty(), "{said:?}");
    assert_eq!(
        asked,
        [
            "request -10",
            "request 1",
            "request 9",
            "revalidate 0x100001d1df20000 20000",
            "touched 0x400001d251c0000 20000",
            "request 5",
            "touched 0x100001d1df20000 20000",
        ]
    );
}
