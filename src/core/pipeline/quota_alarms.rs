//! What operators hear of quotas that are exceeded: a counter of refused writes, and a line in the log at times.
//!
//! Java has the line again as soon as its numbers change, which behind a soft limit is with every write; here a quota is
//! silent for as long as the same line is there. Java: `ZooKeeperServer.checkQuota`, `RateLogger`.

use std::collections::BTreeMap;

use crate::core::node::Node;
use crate::core::tree::quota::{Exceeded, Quantity};
use crate::core::types::{Now, Output};

const SILENCE_US: u64 = 15 * 60 * 1_000_000;

/// A quota that a write exceeds, or would have.
#[derive(Clone, Debug)]
pub struct QuotaAlarm {
    path: String,
    subtree: String,
    quantity: Quantity,
    is_hard: bool,
    usage: i64,
    limit: i64,
}

impl QuotaAlarm {
    pub fn of(exceeded: &Exceeded<'_>, path: &str) -> QuotaAlarm {
        let Exceeded { subtree, quantity, is_hard, usage, limit } = *exceeded;
        QuotaAlarm { path: path.to_owned(), subtree: subtree.to_owned(), quantity, is_hard, usage, limit }
    }

    fn words(&self) -> String {
        let QuotaAlarm { path, subtree, quantity, is_hard, usage, limit } = self;
        let what = match quantity {
            Quantity::Nodes => "nodes",
            Quantity::Bytes => "bytes of data",
        };
        let (kind, verdict) = if *is_hard { ("hard", "refused") } else { ("soft", "allowed") };
        format!(
            "quota of {subtree}: {usage} {what} with {path}, which is {verdict}; the {kind} limit is {limit} (said once in 15 \
             minutes)"
        )
    }
}

/// Quotas that were told of, and until when they are silent.
#[derive(Debug, Default)]
pub(in crate::core) struct QuotaAlarms {
    silent_until_us: BTreeMap<(String, Quantity), u64>,
}

impl QuotaAlarms {
    fn is_news(&mut self, now: Now, alarm: &QuotaAlarm) -> bool {
        let quota = (alarm.subtree.clone(), alarm.quantity);
        if self.silent_until_us.get(&quota).is_some_and(|until_us| now.mono_us < *until_us) {
            return false;
        }
        // No more than there are quotas.
        self.silent_until_us.retain(|_, until_us| now.mono_us < *until_us);
        self.silent_until_us.insert(quota, now.mono_us + SILENCE_US);
        true
    }
}

impl Node {
    pub(super) fn tell_of_quotas(&mut self, now: Now, alarms: &[QuotaAlarm], out: &mut Vec<Output>) {
        for alarm in alarms {
            if alarm.is_hard {
                self.metrics.quota_exceeded(&alarm.path);
            }
            if self.quota_alarms.is_news(now, alarm) {
                out.push(Output::Warned(alarm.words()));
            }
        }
    }
}
