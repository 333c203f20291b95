//! Why this member serves nobody, in its log: once that has lasted a while, when the reason changes, and once in a while.
//!
//! An election that is over in a second is nobody's business, and a reason that flickers between two is told at its pace.

use crate::core::Now;
use crate::core::ensemble_view::Awaits;
use crate::shell::pipeline::Trouble;

/// Before the first line.
const PATIENCE_MS: u64 = 3_000;

/// Between two lines: of different reasons, and of the same.
const PAUSE_US: u64 = 10_000_000;
const REPEAT_US: u64 = 60_000_000;

#[derive(Debug, Default)]
pub struct Vigil {
    /// What was said last, and when.
    said: Option<(String, u64)>,
}

impl Vigil {
    /// The line that is due now. To be asked now and then; `awaits`: None while clients are served.
    pub fn look(&mut self, now: Now, awaits: Option<Awaits>, trouble: &Trouble<'_>) -> Option<String> {
        let Some(awaits) = awaits else {
            self.said = None;
            return None;
        };
        if awaits.since_ms < PATIENCE_MS {
            return None;
        }
        let reason = awaits.reason(trouble);
        if let Some((said, said_us)) = &self.said {
            let pause_us = if *said == reason { REPEAT_US } else { PAUSE_US };
            if now.mono_us < said_us + pause_us {
                return None;
            }
        }
        self.said = Some((reason, now.mono_us));
        Some(awaits.sentence(trouble))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ServerId;

    fn look(vigil: &mut Vigil, second: u64, trouble: &'static str) -> Option<String> {
        let awaits = Awaits {
            since_ms: second * 1000,
            ended: "it starts".to_owned(),
            what: "no leader is elected".to_owned(),
            servers: vec![(ServerId(2), "nothing was heard of it in this election")],
        };
        let now = Now { mono_us: second * 1_000_000, wall_ms: 0 };
        vigil.look(now, Some(awaits), &|_| Some(trouble.to_owned()).filter(|trouble| !trouble.is_empty()))
    }

    #[test]
    fn a_reason_is_said_after_a_while_when_it_changes_and_once_a_minute() {
        let mut vigil = Vigil::default();
        assert_eq!(look(&mut vigil, 2, ""), None, "it may be over at once");
        let said = look(&mut vigil, 3, "b:3888: Connection refused").unwrap();
        assert_eq!(
            said,
            "Not serving for 3 s (it starts): no leader is elected; waiting for server 2: b:3888: Connection refused"
        );
        assert_eq!(look(&mut vigil, 12, "b:3888: No route to host"), None, "not so soon");
        assert!(look(&mut vigil, 13, "b:3888: No route to host").unwrap().ends_with("No route to host"));
        assert_eq!(look(&mut vigil, 72, "b:3888: No route to host"), None, "the same");
        assert!(look(&mut vigil, 73, "b:3888: No route to host").is_some());
        let now = Now { mono_us: 74_000_000, wall_ms: 0 };
        assert_eq!(vigil.look(now, None, &|_| None), None, "it serves");
        assert!(look(&mut vigil, 75, "").is_some(), "another time");
    }
}
