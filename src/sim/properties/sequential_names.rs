//! Sequential names are unique and count upwards, for as long as their parent lives, whatever was deleted in between and whoever
//! led. (A parent that is made anew begins anew.)

use std::rc::Rc;

use super::Property;
use super::truth::{Committed, Map, Truth};
use crate::core::Zxid;
use crate::core::tree::path;
use crate::sim::event::{Event, Moment};
use crate::sim::history::{Asked, ClientEvent, Op};
use crate::wire::txn::Txn;

#[derive(Debug, Default)]
pub struct SequentialNames {
    /// Requests that make sequential nodes.
    asked: Map<(i64, i32), Rc<Asked>>,
    /// For each parent, by its path and the zxid that made it: the last number given.
    last: Map<(String, i64), i64>,
}

/// Digits of a number, its sign included.
const DIGITS: usize = 10;

impl SequentialNames {
    fn on_created(&mut self, op: &Op, name: &str, zxid: Zxid, truth: &Truth) -> Result<(), String> {
        let Op::Create { path, mode, .. } = op else { return Ok(()) };
        if !mode.is_sequential() {
            return Ok(());
        }
        let number = name.strip_prefix(&**path).filter(|digits| digits.len() == DIGITS);
        let Some(number) = number.and_then(|digits| digits.parse::<i64>().ok()) else {
            return Err(format!("{zxid}: {path} became {name}"));
        };
        let (parent, _) = path::split(name).unwrap_or(("/", ""));
        let made = truth.node_at(parent, zxid).map_or(0, |parent| parent.stat.czxid);
        let last = self.last.entry((parent.to_owned(), made)).or_insert(-1);
        if number <= *last {
            return Err(format!("{zxid} made {name}, and {last} was given below {parent} before"));
        }
        *last = number;
        Ok(())
    }

    fn on_committed(&mut self, committed: &Committed, truth: &Truth) -> Result<(), String> {
        let Some(asked) = self.asked.remove(&(committed.session, committed.cxid)) else { return Ok(()) };
        match (&asked.op, committed.decoded()) {
            (op, Txn::Create { path, .. }) => self.on_created(op, &path, committed.zxid, truth),
            (Op::Multi(_), Txn::Multi(items)) if items.iter().any(|item| matches!(item, Txn::Error { .. })) => Ok(()),
            (Op::Multi(ops), Txn::Multi(items)) => ops.iter().zip(&items).try_for_each(|(op, item)| match item {
                Txn::Create { path, .. } => self.on_created(op, path, committed.zxid, truth),
                _ => Ok(()),
            }),
            _ => Ok(()),
        }
    }
}

impl Property for SequentialNames {
    fn name(&self) -> &'static str {
        "sequential_names"
    }

    fn observe(&mut self, _at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        for committed in truth.committed_now() {
            self.on_committed(committed, truth)?;
        }
        if let Event::Client(ClientEvent::Sent(asked)) = event {
            let is_sequential = |op: &Op| matches!(op, Op::Create { mode, .. } if mode.is_sequential());
            let makes = match &asked.op {
                Op::Multi(ops) => ops.iter().any(is_sequential),
                op => is_sequential(op),
            };
            if makes {
                self.asked.insert((asked.session, asked.xid), asked.clone());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::sim::history::Mode;

    fn make(story: &mut Story<SequentialNames>, counter: u32, name: &str) -> Result<(), String> {
        let xid = counter as i32;
        let op = Op::Create { path: "/s-".into(), value: 1, mode: Mode::Sequential, stat: false };
        story.good(sent(&asked(LINK, xid, op)));
        story.event_commit(zxid(1, counter), &create(zxid(1, counter), xid, name, 1))
    }

    #[test]
    fn counting_up_is_fine_with_gaps() {
        let mut story = Story::begun();
        make(&mut story, 1, "/s-0000000000").unwrap();
        make(&mut story, 2, "/s-0000000007").unwrap();
    }

    #[test]
    fn a_number_given_again_is_seen_though_its_node_is_gone() {
        let mut story = Story::begun();
        make(&mut story, 1, "/s-0000000003").unwrap();
        story.commit(zxid(1, 2), &delete(zxid(1, 2), 77, "/s-0000000003"));
        let why = make(&mut story, 3, "/s-0000000003").unwrap_err();
        assert!(why.contains("and 3 was given below / before"), "{why}");
    }

    #[test]
    fn a_name_without_its_number_is_seen() {
        let mut story = Story::begun();
        assert!(make(&mut story, 1, "/s-1").unwrap_err().contains("/s- became /s-1"));
    }
}
