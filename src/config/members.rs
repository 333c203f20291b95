//! What the server lines say about the mode: one server, or an ensemble (operations 1.5). The lines themselves:
//! `wire/server_line.rs`. Java: `QuorumPeerConfig.parseDynamicConfig`.

pub use crate::wire::server_line::{Member, Role, parse_member};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Standalone { single_line_ignored: bool },
    Ensemble { participants: usize },
}

/// Standalone or not, or why the member list fits neither.
pub fn decide_mode(members: &[Member], standalone_enabled: bool) -> Result<Mode, &'static str> {
    let participants = members.iter().filter(|member| member.role == Role::Participant).count();
    let observers = members.len() - participants;
    match (participants, standalone_enabled) {
        (0, false) => {
            Err("no participant while standaloneEnabled=false; write server.N lines, or remove standaloneEnabled")
        }
        (0, true) if observers > 0 => {
            Err("observers without participants is an invalid configuration; write the voting servers too")
        }
        (0, true) => Ok(Mode::Standalone { single_line_ignored: false }),
        (1, true) if observers > 0 => Err(
            "observers without a quorum is an invalid configuration; write at least two participants, or standaloneEnabled=false",
        ),
        (1, true) => Ok(Mode::Standalone { single_line_ignored: true }),
        _ => Ok(Mode::Ensemble { participants }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        let members = |roles: &[Role]| -> Vec<Member> {
            let member =
                |(id, role): (usize, &Role)| Member { id: id as i64, addresses: vec![], role: *role, client: None };
            roles.iter().enumerate().map(member).collect()
        };
        use Role::{Observer as O, Participant as P};
        assert_eq!(decide_mode(&[], true), Ok(Mode::Standalone { single_line_ignored: false }));
        assert_eq!(decide_mode(&members(&[P]), true), Ok(Mode::Standalone { single_line_ignored: true }));
        assert_eq!(decide_mode(&members(&[P]), false), Ok(Mode::Ensemble { participants: 1 }));
        assert_eq!(decide_mode(&members(&[P, P, O]), true), Ok(Mode::Ensemble { participants: 2 }));
        for (roles, standalone) in [(&[][..], false), (&[O][..], true), (&[O][..], false), (&[P, O][..], true)] {
            assert!(decide_mode(&members(roles), standalone).is_err(), "{roles:?} {standalone}");
        }
    }
}
