//! Session ids and passwords: pure functions that every server of an ensemble computes alike.
//! Spec: client-protocol 5.5 and 5.6. Java: `SessionTrackerImpl.initializeNextSessionId`, `ZooKeeperServer.generatePasswd`.

use crate::core::types::{ServerId, SessionId};
use crate::wire::txn::CONTAINER_OWNER;

/// Length of a session password, bytes.
pub const PASSWORD_BYTES: usize = 16;

/// Hands out session ids: top byte the server, then 40 bits of the clock at start, then a counter.
#[derive(Debug)]
pub struct SessionIds {
    next: i64,
}

impl SessionIds {
    /// `start_ms` is the wall clock: a monotonic one can repeat after a reboot and would hand out ids in use.
    pub fn new(server: ServerId, start_ms: i64) -> Self {
        let clock = (start_ms & 0xff_ffff_ffff) << 16;
        SessionIds { next: (server.0 << 56) | clock }
    }

    pub fn allocate(&mut self) -> SessionId {
        // The one value that marks container nodes is never a session.
        if self.next == CONTAINER_OWNER {
            self.next += 1;
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        SessionId(id)
    }
}

/// The password of a session: a checksum of its id, not a security boundary. Java fills it from `java.util.Random`.
pub fn password(session: SessionId) -> [u8; PASSWORD_BYTES] {
    const MASK: u64 = (1 << 48) - 1;
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    let mut state = ((session.0 as u64) ^ 0xB341_5C00 ^ MULTIPLIER) & MASK;
    let mut bytes = [0; PASSWORD_BYTES];
    for word in bytes.chunks_exact_mut(4) {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        word.copy_from_slice(&((state >> 16) as u32).to_le_bytes());
    }
    bytes
}

/// Whether a client that wants to resume `session` knows its password.
pub fn password_matches(session: SessionId, given: Option<&[u8]>) -> bool {
    session.0 != 0 && given == Some(&password(session)[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn passwords_are_javas() {
        for (id, expected) in [
            (1u64, "054cc74a37327db215e702e20c73f005"),
            (0x0100000000000000, "f22acd4a97e69d6d20a49bb638eadb38"),
            (0x0100000ca8fe002c, "e84f6bf32b557307a436047d9edabb4f"),
            (0x0100000ca8fe003c, "b73ec9f32c9b7eb9510790c6644d737e"),
            (0x7f00000000000001, "054cc74a37327db215e702e20c73f005"),
            (0xffffffffffffffff, "20f62cb5648dc2d771471c8a2486a9ee"),
        ] {
            assert_eq!(hex(&password(SessionId(id as i64))), expected, "{id:#x}");
        }
    }

    #[test]
    fn a_password_must_be_whole_and_right() {
        let session = SessionId(0x0100000ca8fe002c);
        let right = password(session);
        assert!(password_matches(session, Some(&right)));
        assert!(!password_matches(session, Some(&right[..15])));
        assert!(!password_matches(session, Some(&[0; 16])));
        assert!(!password_matches(session, None));
        assert!(!password_matches(SessionId(0), Some(&password(SessionId(0)))), "0 is nobody's session");
    }

    #[test]
    fn ids_carry_server_and_clock_and_count_up() {
        let mut ids = SessionIds::new(ServerId(3), 0x123_4567_89ab);
        assert_eq!(ids.allocate().0, 0x0323_4567_89ab_0000);
        assert_eq!(ids.allocate().0, 0x0323_4567_89ab_0001);
    }

    #[test]
    fn the_container_mark_is_never_a_session() {
        let mut ids = SessionIds::new(ServerId(0x80), 0);
        assert_eq!(ids.allocate().0, CONTAINER_OWNER + 1);
    }
}
