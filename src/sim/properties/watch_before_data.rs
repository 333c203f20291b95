//! Watch before data: the event of a change arrives before any reply that shows the state with the change in it; no armed watch is
//! lost, none fires twice or for nothing, and what a client missed between two connections it hears from `setWatches`.
//!
//! A server's replies say at which zxid they were made, so what a connection must have been told by then is known exactly: its watch
//! table is played again from the committed log (semantics 10), and the events that came must be those, in their order.

use std::collections::{BTreeSet, VecDeque};

use super::Property;
use super::truth::{Map, NodeChange, Truth};
use crate::core::Zxid;
use crate::core::tree::{ChangeKind, path};
use crate::sim::event::{Event, Moment};
use crate::sim::history::{Answered, ClientEvent, Link, Notified, Op, Path, WatchLists};
use crate::wire::ErrorCode;
use crate::wire::client::{AddWatchMode, EventKind, WatcherType};

/// What a connection watches, as its server must know it at the zxid of its last reply.
#[derive(Debug, Default)]
struct Watched {
    /// Place in the committed log of the next change to look at.
    place: usize,
    data: BTreeSet<Path>,
    child: BTreeSet<Path>,
    persistent: BTreeSet<Path>,
    recursive: BTreeSet<Path>,
    /// Events of changes looked at that have not arrived.
    due: VecDeque<(Zxid, EventKind, Path)>,
    /// Events without a zxid that arrived since the last `setWatches` was answered.
    caught_up: Vec<(EventKind, Path)>,
}

#[derive(Debug, Default)]
pub struct WatchBeforeData {
    links: Map<Link, Watched>,
}

impl Watched {
    fn is_idle(&self) -> bool {
        self.data.is_empty() && self.child.is_empty() && self.persistent.is_empty() && self.recursive.is_empty()
    }

    /// Plays the log up to a zxid; what it fires is due.
    fn play(&mut self, through: Zxid, truth: &Truth) {
        if self.is_idle() {
            self.place = self.place.max(truth.place_above(through));
            return;
        }
        while let Some(committed) = truth.log().get(self.place).filter(|committed| committed.zxid <= through) {
            self.place += 1;
            for change in &committed.changes {
                self.fire(committed.zxid, change);
            }
        }
    }

    /// Semantics 10.3.
    fn fire(&mut self, zxid: Zxid, NodeChange { kind, path }: &NodeChange) {
        let event = match kind {
            ChangeKind::Created => EventKind::NodeCreated,
            ChangeKind::DataChanged => EventKind::NodeDataChanged,
            ChangeKind::Deleted => EventKind::NodeDeleted,
        };
        let standard = self.data.remove(path);
        let mut told = standard || self.persistent.contains(path) || self.reaches(path);
        if *kind == ChangeKind::Deleted {
            told |= self.child.remove(path);
        }
        if told {
            self.due.push_back((zxid, event, path.clone()));
        }
        if *kind != ChangeKind::DataChanged
            && let Some((parent, _)) = path::split(path)
        {
            let standard = self.child.remove(parent);
            if standard || self.persistent.contains(parent) {
                self.due.push_back((zxid, EventKind::NodeChildrenChanged, parent.into()));
            }
        }
    }

    /// Whether a recursive watch stands at this path or above it.
    fn reaches(&self, path: &str) -> bool {
        if self.recursive.is_empty() {
            return false;
        }
        std::iter::successors(Some(path), |at| above(at)).any(|at| self.recursive.contains(at))
    }

    fn on_notified(&mut self, notified: &Notified, truth: &Truth) -> Result<(), String> {
        let Notified { zxid, kind, path, .. } = notified;
        if *zxid < 0 {
            self.caught_up.push((*kind, path.clone()));
            return Ok(());
        }
        let zxid = Zxid(*zxid as u64);
        self.play(zxid, truth);
        match self.due.pop_front() {
            Some(due) if due == (zxid, *kind, path.clone()) => Ok(()),
            Some((at, due, of)) => {
                Err(format!("{kind:?} of {path} at {zxid} came where {due:?} of {of} at {at} was due"))
            }
            None => Err(format!("{kind:?} of {path} at {zxid} came for no watch, or after a reply that shows it")),
        }
    }

    fn on_answered(&mut self, answered: &Answered, truth: &Truth) -> Result<(), String> {
        if answered.zxid < 0 {
            return Ok(());
        }
        let zxid = Zxid(answered.zxid as u64);
        self.play(zxid, truth);
        if let Some((at, kind, path)) = self.due.front() {
            return Err(format!("{kind:?} of {path} at {at} had to come before this reply at {zxid}"));
        }
        let ok = answered.err == 0;
        match &answered.asked.op {
            Op::Get { path, watch: true } if ok => self.data.insert(path.clone()),
            Op::Exists { path, watch: true } if ok || answered.err == ErrorCode::NoNode.number() => {
                self.data.insert(path.clone())
            }
            Op::Children { path, watch: true, .. } if ok => self.child.insert(path.clone()),
            Op::AddWatch { path, mode: AddWatchMode::Persistent } if ok => self.persistent.insert(path.clone()),
            Op::AddWatch { path, mode: AddWatchMode::PersistentRecursive } if ok => self.recursive.insert(path.clone()),
            Op::RemoveWatches { path, kind } => return self.on_removed(path, *kind, answered.err),
            Op::SetWatches(lists) if ok => return self.on_set(lists, zxid, truth),
            _ => return Ok(()),
        };
        Ok(())
    }

    fn on_removed(&mut self, path: &Path, kind: WatcherType, err: i32) -> Result<(), String> {
        // The session is being closed: nothing is done for it any more, and its watches stand until then.
        if err == ErrorCode::SessionExpired.number() {
            return Ok(());
        }
        let any = kind == WatcherType::Any;
        let mut removed = false;
        for (set, of) in [
            (&mut self.data, WatcherType::Data),
            (&mut self.child, WatcherType::Children),
            (&mut self.persistent, WatcherType::Persistent),
            (&mut self.recursive, WatcherType::PersistentRecursive),
        ] {
            removed |= (any || kind == of) && set.remove(path);
        }
        let due = if removed { 0 } else { ErrorCode::NoWatcher.number() };
        if err == due {
            return Ok(());
        }
        Err(format!("removing the {kind:?} watch of {path} is answered {err}, {due} was due"))
    }

    /// Semantics 10.7: what was missed is told at once, the rest is armed.
    fn on_set(&mut self, lists: &WatchLists, at: Zxid, truth: &Truth) -> Result<(), String> {
        let mut due = Vec::new();
        for path in &lists.data {
            match truth.node_at(path, at) {
                None => due.push((EventKind::NodeDeleted, path.clone())),
                Some(node) if node.stat.mzxid > lists.since => due.push((EventKind::NodeDataChanged, path.clone())),
                Some(_) => _ = self.data.insert(path.clone()),
            }
        }
        for path in &lists.exist {
            match truth.node_at(path, at) {
                None => _ = self.data.insert(path.clone()),
                Some(_) => due.push((EventKind::NodeCreated, path.clone())),
            }
        }
        for path in &lists.child {
            match truth.node_at(path, at) {
                None => due.push((EventKind::NodeDeleted, path.clone())),
                Some(node) if node.stat.pzxid > lists.since => due.push((EventKind::NodeChildrenChanged, path.clone())),
                Some(_) => _ = self.child.insert(path.clone()),
            }
        }
        self.persistent.extend(lists.persistent.iter().cloned());
        self.recursive.extend(lists.recursive.iter().cloned());
        let came = std::mem::take(&mut self.caught_up);
        if came == due {
            Ok(())
        } else {
            Err(format!("setWatches since {:#x} told {came:?}, {due:?} was due", lists.since))
        }
    }
}

fn above(path: &str) -> Option<&str> {
    if path == "/" { None } else { path::split(path).map(|(parent, _)| parent) }
}

impl Property for WatchBeforeData {
    fn name(&self) -> &'static str {
        "watch_before_data"
    }

    fn observe(&mut self, _at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        let Event::Client(event) = event else { return Ok(()) };
        let (link, checked) = match event {
            ClientEvent::Connecting { link, .. } => {
                self.links.insert(*link, Watched::default());
                return Ok(());
            }
            ClientEvent::Lost { link } => {
                self.links.remove(link);
                return Ok(());
            }
            ClientEvent::Notified(notified) => {
                (notified.link, self.links.entry(notified.link).or_default().on_notified(notified, truth))
            }
            ClientEvent::Answered(answered) => {
                let link = answered.asked.link;
                let checked = self.links.entry(link).or_default().on_answered(answered, truth);
                (link, checked.map_err(|why| format!("{why}: {:?}", answered.asked.op)))
            }
            _ => return Ok(()),
        };
        checked.map_err(|why| format!("client {} on connection {}: {why}", link.client, link.number))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    /// /a is there since (1, 1); the client watches its data and the children of the root, as of then.
    fn watching() -> Story<WatchBeforeData> {
        let mut story = Story::begun();
        story.good(connecting(LINK, None, 0));
        story.commit(zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1));
        story.good(answered(&asked(LINK, 1, Op::Get { path: "/a".into(), watch: true }), zxid(1, 1), 0, b""));
        let list = Op::Children { path: "/".into(), watch: true, stat: false };
        story.good(answered(&asked(LINK, 2, list), zxid(1, 1), 0, b""));
        story
    }

    fn reply(counter: u32) -> Event {
        answered(&asked(LINK, 9, Op::Ping), zxid(1, counter), 0, b"")
    }

    fn event(counter: u32, kind: EventKind, path: &str) -> Event {
        notified(LINK, zxid(1, counter).0 as i64, kind, path)
    }

    #[test]
    fn the_event_and_then_the_reply() {
        let mut story = watching();
        story.commit(zxid(1, 2), &set(zxid(1, 2), 2, "/a", 2, 1));
        story.good(reply(1)); // a server that is behind
        story.good(event(2, EventKind::NodeDataChanged, "/a"));
        story.good(reply(2));
        // Consumed: nothing is due for the next change.
        story.commit(zxid(1, 3), &set(zxid(1, 3), 3, "/a", 3, 2));
        story.good(reply(3));
    }

    #[test]
    fn a_reply_before_its_event_is_seen_and_so_is_the_event_behind_it() {
        let mut story = watching();
        story.commit(zxid(1, 2), &set(zxid(1, 2), 2, "/a", 2, 1));
        story.bad(reply(2), "NodeDataChanged of /a at 0x100000002 had to come before");
        let mut story = watching();
        story.bad(event(2, EventKind::NodeDataChanged, "/a"), "came for no watch");
    }

    #[test]
    fn another_event_than_the_one_due_is_seen() {
        let mut story = watching();
        story.commit(zxid(1, 2), &delete(zxid(1, 2), 2, "/a"));
        story.bad(event(2, EventKind::NodeChildrenChanged, "/"), "where NodeDeleted of /a at 0x100000002 was due");
    }

    #[test]
    fn a_deletion_tells_the_node_and_its_parent_in_that_order() {
        let mut story = watching();
        story.commit(zxid(1, 2), &delete(zxid(1, 2), 2, "/a"));
        story.good(event(2, EventKind::NodeDeleted, "/a"));
        story.good(event(2, EventKind::NodeChildrenChanged, "/"));
        story.good(reply(2));
    }

    #[test]
    fn a_recursive_watch_hears_of_everything_below() {
        let mut story = Story::<WatchBeforeData>::begun();
        story.good(connecting(LINK, None, 0));
        let watch = Op::AddWatch { path: "/".into(), mode: AddWatchMode::PersistentRecursive };
        story.commit(zxid(1, 1), &create(zxid(1, 1), 1, "/a", 1));
        story.good(answered(&asked(LINK, 1, watch), zxid(1, 1), 0, b""));
        for counter in 2..4 {
            story.commit(zxid(1, counter), &create(zxid(1, counter), 2, &format!("/a/{counter}"), 1));
            story.good(event(counter, EventKind::NodeCreated, &format!("/a/{counter}")));
            story.good(reply(counter));
        }
        story.commit(zxid(1, 4), &delete(zxid(1, 4), 2, "/a/2"));
        story.bad(reply(4), "NodeDeleted of /a/2");
    }

    #[test]
    fn what_was_missed_between_connections_is_told_by_set_watches() {
        let lists = WatchLists {
            since: zxid(1, 1).0 as i64,
            data: vec!["/a".into()],
            exist: vec!["/none".into()],
            child: vec!["/".into()],
            ..WatchLists::default()
        };
        let next = Link { number: LINK.number + 1, ..LINK };
        let again = || {
            let mut story = watching();
            story.good(client(ClientEvent::Lost { link: LINK }));
            story.commit(zxid(1, 2), &set(zxid(1, 2), 2, "/a", 2, 1));
            story.good(connecting(next, Some(SESSION), 0));
            story
        };
        let done = answered(&asked(next, -8, Op::SetWatches(lists)), zxid(1, 2), 0, b"");
        let mut story = again();
        story.good(notified(next, -1, EventKind::NodeDataChanged, "/a"));
        story.good(done.clone());
        story.commit(zxid(1, 3), &create(zxid(1, 3), 3, "/none", 1));
        story.good(notified(next, zxid(1, 3).0 as i64, EventKind::NodeCreated, "/none"));
        story.bad(answered(&asked(next, 3, Op::Ping), zxid(1, 3), 0, b""), "NodeChildrenChanged of /");

        again().bad(done.clone(), "told [], [(NodeDataChanged");
        let mut story = again();
        story.good(notified(next, -1, EventKind::NodeDataChanged, "/a"));
        story.good(notified(next, -1, EventKind::NodeChildrenChanged, "/"));
        story.bad(done, "was due");
    }

    #[test]
    fn removing_what_is_not_there_is_an_error_and_the_other_way_round() {
        let remove = |err| {
            let op = Op::RemoveWatches { path: "/a".into(), kind: WatcherType::Data };
            answered(&asked(LINK, 5, op), zxid(1, 1), err, b"")
        };
        watching().bad(remove(ErrorCode::NoWatcher.number()), "0 was due");
        let mut story = watching();
        story.good(remove(ErrorCode::SessionExpired.number())); // nothing was done
        story.good(remove(0));
        story.bad(remove(0), "-121 was due");
    }
}
