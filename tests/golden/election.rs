//! What Java's electors said to each other, against our codec.

use ringkeeper::wire::election::{Introduction, Notification, PeerState, frame_bytes};

use super::unhex;

fn recorded(kind: char) -> Vec<(Vec<&'static str>, Vec<u8>)> {
    include_str!("election.txt")
        .lines()
        .filter(|line| line.starts_with(kind))
        .map(|line| {
            let (facts, bytes) = line[2..].rsplit_once(' ').unwrap();
            (facts.split(' ').collect(), unhex(bytes))
        })
        .collect()
}

#[test]
fn every_recorded_notification_reads_and_writes_as_recorded() {
    let recorded = recorded('N');
    assert_eq!(recorded.len(), 43, "all of them are there");
    for (facts, frame) in recorded {
        let (length, body) = frame.split_first_chunk().unwrap();
        assert_eq!(frame_bytes(*length).unwrap(), body.len());
        let notification = Notification::decode(body).unwrap();
        let state = match facts[0] {
            "LOOKING" => PeerState::Looking,
            "FOLLOWING" => PeerState::Following,
            "LEADING" => PeerState::Leading,
            other => panic!("{other} is not among them"),
        };
        assert_eq!(notification.state, state);
        assert_eq!(notification.leader.to_string(), facts[1]);
        assert_eq!(format!("{:x}", notification.zxid), facts[2]);
        assert_eq!(notification.election_epoch.to_string(), facts[3]);
        assert_eq!(notification.peer_epoch.to_string(), facts[4]);
        assert_eq!(notification.version, 2);
        assert!(notification.config.starts_with(b"server.1="));
        assert!([Some(0), Some(0x1_0000_0000), Some(0x1_0000_0063)].contains(&notification.config_version()));
        let mut written = Vec::new();
        notification.encode(&mut written);
        assert_eq!(written, frame);
    }
}

/// ZOOKEEPER-3720 (20.15).
#[test]
fn every_recorded_introduction_reads_and_writes_as_recorded() {
    let recorded = recorded('I');
    assert_eq!(recorded.len(), 10, "all of them are there");
    for (facts, bytes) in recorded {
        let (introduction, length) = Introduction::decode(&bytes).unwrap().unwrap();
        assert_eq!(length, bytes.len());
        assert_eq!(introduction.server.to_string(), facts[0]);
        assert!(!introduction.multi_address);
        let address = &introduction.addresses[0];
        assert_eq!(format!("{}:{}", address.host, address.port), facts[1]);
        let mut written = Vec::new();
        introduction.encode(&mut written);
        assert_eq!(written, bytes);
    }
}
