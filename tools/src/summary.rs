//! What passed, failed and was skipped, said loudly and last.

use std::fmt::Write as _;
use std::time::Duration;

/// How one suite ended. The counts are of its own tests; a suite that is one question counts one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ran {
        passed: usize,
        failed: usize,
        skipped: usize,
    },
    Skipped {
        why: String,
    },
    /// The suite could not be carried out although everything it needs was there.
    Broke {
        why: String,
    },
}

impl Verdict {
    fn counts(&self) -> (usize, usize, usize) {
        match self {
            Verdict::Ran { passed, failed, skipped } => (*passed, *failed, *skipped),
            Verdict::Skipped { .. } => (0, 0, 1),
            Verdict::Broke { .. } => (0, 1, 0),
        }
    }
}

#[derive(Debug, Default)]
pub struct Summary {
    rows: Vec<(String, Verdict, Duration)>,
    remarks: Vec<String>,
}

impl Summary {
    pub fn add(&mut self, suite: &str, verdict: Verdict, took: Duration) {
        self.rows.push((suite.to_owned(), verdict, took));
    }

    /// Something a reader must know that is neither a pass nor a failure.
    pub fn remark(&mut self, text: String) {
        self.remarks.push(text);
    }

    pub fn is_success(&self) -> bool {
        let (passed, failed, _) = self.totals();
        failed == 0 && passed > 0
    }

    /// The table, the remarks and the plain closing line.
    pub fn text(&self) -> String {
        let mut text = format!("\n{:<28} {:>7} {:>7} {:>7} {:>7}\n", "suite", "passed", "failed", "skipped", "seconds");
        for (suite, verdict, took) in &self.rows {
            let (passed, failed, skipped) = verdict.counts();
            let note = match verdict {
                Verdict::Ran { .. } => String::new(),
                Verdict::Skipped { why } => format!("   SKIPPED: {}", first_line(why)),
                Verdict::Broke { why } => format!("   BROKE: {}", first_line(why)),
            };
            let seconds = took.as_secs();
            let _ = writeln!(text, "{suite:<28} {passed:>7} {failed:>7} {skipped:>7} {seconds:>7}{note}");
        }
        for remark in &self.remarks {
            let _ = writeln!(text, "NOTE: {remark}");
        }
        let (passed, failed, skipped) = self.totals();
        let _ = write!(text, "\n{passed} passed, {failed} failed, {skipped} skipped");
        text
    }

    fn totals(&self) -> (usize, usize, usize) {
        self.rows
            .iter()
            .map(|(_, verdict, _)| verdict.counts())
            .fold((0, 0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1, sum.2 + row.2))
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(verdicts: &[Verdict]) -> Summary {
        let mut summary = Summary::default();
        for verdict in verdicts {
            summary.add("suite", verdict.clone(), Duration::ZERO);
        }
        summary
    }

    #[test]
    fn the_last_line_adds_up_the_suites() {
        let ran = Verdict::Ran { passed: 5, failed: 1, skipped: 2 };
        let text =
            summary(&[ran, Verdict::Skipped { why: "no npm".into() }, Verdict::Broke { why: "gone".into() }]).text();
        assert_eq!(text.lines().last(), Some("5 passed, 2 failed, 3 skipped"));
    }

    #[test]
    fn a_skipped_suite_is_no_failure_and_a_broken_one_is() {
        let ran = Verdict::Ran { passed: 1, failed: 0, skipped: 0 };
        assert!(summary(&[ran.clone(), Verdict::Skipped { why: "no npm".into() }]).is_success());
        assert!(!summary(&[ran, Verdict::Broke { why: "gone".into() }]).is_success());
    }

    #[test]
    fn nothing_run_is_no_success() {
        assert!(!summary(&[]).is_success());
        assert!(!summary(&[Verdict::Skipped { why: "no java".into() }]).is_success());
    }
}
