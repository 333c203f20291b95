//! A reply shows exactly the committed state at its zxid: data, Stat, children, and what is not there.
//!
//! With [`session_zxid`](super::session_zxid) (zxids never go back, and a write's answer carries its own) this is read-your-writes,
//! and that nobody ever sees half a transaction, a transaction that is not committed, or one that was taken back.

use super::Property;
use super::truth::Truth;
use crate::core::Zxid;
use crate::sim::event::{Event, Moment};
use crate::sim::history::{Answered, ClientEvent, Op};
use crate::wire::ErrorCode;
use crate::wire::client::{Response, Stat};

#[derive(Debug, Default)]
pub struct ReadsShowTheirZxid {}

impl Property for ReadsShowTheirZxid {
    fn name(&self) -> &'static str {
        "reads_show_their_zxid"
    }

    fn observe(&mut self, _at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        match event {
            Event::Client(ClientEvent::Answered(answered)) if !answered.asked.op.is_write() => check(answered, truth)
                .map_err(|why| {
                    let (op, zxid) = (&answered.asked.op, Zxid(answered.zxid as u64));
                    format!("{op:?} of session {:#x}, answered at {zxid}: {why}", answered.asked.session)
                }),
            _ => Ok(()),
        }
    }
}

fn check(answered: &Answered, truth: &Truth) -> Result<(), String> {
    // What a server says of the session, not of the tree.
    if answered.err == ErrorCode::SessionExpired.number() {
        return Ok(());
    }
    let zxid = Zxid(answered.zxid.max(0) as u64);
    if zxid > truth.last() && zxid.counter() != 0 {
        return Err(format!("only {} is committed", truth.last()));
    }
    let node = |path: &str| truth.node_at(path, zxid);
    let no_node = |path: &str| if node(path).is_some() { 0 } else { ErrorCode::NoNode.number() };
    let err_due = match &answered.asked.op {
        Op::Exists { path, .. } | Op::Get { path, .. } | Op::Children { path, .. } => no_node(path),
        Op::RemoveWatches { .. } => return Ok(()), // for `watch_before_data`
        _ => 0,
    };
    if answered.err != err_due {
        return Err(format!("error {}, {err_due} was due", answered.err));
    }
    if answered.err != 0 {
        return Ok(());
    }
    match (&answered.asked.op, answered.response()?) {
        (Op::Exists { path, .. }, Response::Stat(stat)) => same_stat(&stat, node(path).map(|node| &node.stat)),
        (Op::Get { path, .. }, Response::Data { data, stat }) => {
            same_stat(&stat, node(path).map(|node| &node.stat))?;
            let due = node(path).and_then(|node| node.data.as_deref());
            if data == due { Ok(()) } else { Err(format!("data {data:x?}, {due:x?} was due")) }
        }
        (Op::Children { path, .. }, Response::Names(names)) => same_children(path, &names, zxid, truth),
        (Op::Children { path, .. }, Response::Children2 { children, stat }) => {
            same_stat(&stat, node(path).map(|node| &node.stat))?;
            same_children(path, &children, zxid, truth)
        }
        (Op::Ephemerals, Response::Names(names)) => {
            let due: Vec<&str> = truth.ephemerals_at(answered.asked.session, zxid).map(|path| &**path).collect();
            let same = names.len() == due.len() && names.iter().all(|name| due.contains(&&**name));
            if same { Ok(()) } else { Err(format!("{names:?}, {due:?} was due")) }
        }
        (Op::Sync { path }, Response::Path(echo)) if echo.as_deref() != Some(&**path) => {
            Err(format!("echoed {echo:?}"))
        }
        _ => Ok(()),
    }
}

fn same_stat(stat: &Stat, due: Option<&Stat>) -> Result<(), String> {
    match due {
        Some(due) if due == stat => Ok(()),
        due => Err(format!("{stat:?}, {due:?} was due")),
    }
}

/// Each is there, none twice, and there are as many as there should be.
fn same_children(path: &str, names: &[impl AsRef<str>], zxid: Zxid, truth: &Truth) -> Result<(), String> {
    let mut names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("child {} twice", twice[0]));
    }
    let due = truth.node_at(path, zxid).map_or(0, |node| node.stat.num_children as usize);
    if names.len() != due {
        return Err(format!("{} children, {due} were due: {names:?}", names.len()));
    }
    let mut child = String::from(if path == "/" { "" } else { path });
    child.push('/');
    let prefix = child.len();
    let is_missing = |name: &&&str| {
        child.truncate(prefix);
        child.push_str(name);
        truth.node_at(&child, zxid).is_none()
    };
    match names.iter().find(is_missing) {
        Some(name) => Err(format!("child {name}, which is not there")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::sim::history::data_of;
    use crate::wire::client::reply::{put_data, put_names};

    fn get(xid: i32) -> std::rc::Rc<crate::sim::history::Asked> {
        asked(LINK, xid, Op::Get { path: "/a".into(), watch: false })
    }

    /// /a is made at (1, 1) and changed at (1, 2).
    fn with_a() -> Story<ReadsShowTheirZxid> {
        let mut story = Story::begun();
        story.commit(zxid(1, 1), &create(zxid(1, 1), 1, "/a", 7));
        story.commit(zxid(1, 2), &set(zxid(1, 2), 2, "/a", 8, 1));
        story
    }

    fn shown(story: &Story<ReadsShowTheirZxid>, at: Zxid, value: u64) -> Vec<u8> {
        let mut body = Vec::new();
        put_data(&mut body, Some(&data_of(value)), &story.truth.node_at("/a", at).unwrap().stat);
        body
    }

    #[test]
    fn the_past_may_be_shown_as_the_past() {
        let mut story = with_a();
        for (at, value) in [(zxid(1, 1), 7), (zxid(1, 2), 8)] {
            let body = shown(&story, at, value);
            story.good(answered(&get(1), at, 0, &body));
        }
        story.good(answered(&get(2), zxid(1, 0), ErrorCode::NoNode.number(), b""));
    }

    #[test]
    fn an_old_value_under_a_new_zxid_is_seen() {
        let mut story = with_a();
        let old = shown(&story, zxid(1, 1), 7);
        story.bad(answered(&get(1), zxid(1, 2), 0, &old), "was due");
    }

    #[test]
    fn another_value_with_the_right_stat_is_seen() {
        let mut story = with_a();
        let wrong = shown(&story, zxid(1, 2), 19);
        story.bad(answered(&get(1), zxid(1, 2), 0, &wrong), "data");
    }

    #[test]
    fn a_node_that_is_there_or_not_against_the_log_is_seen() {
        let mut story = with_a();
        story.bad(answered(&get(1), zxid(1, 2), ErrorCode::NoNode.number(), b""), "0 was due");
        let body = shown(&story, zxid(1, 1), 7);
        story.bad(answered(&get(1), zxid(1, 0), 0, &body), "-101 was due");
    }

    #[test]
    fn an_uncommitted_state_is_seen() {
        let mut story = with_a();
        let body = shown(&story, zxid(1, 2), 8);
        story.bad(answered(&get(1), zxid(1, 3), 0, &body), "only 0x100000002 is committed");
    }

    #[test]
    fn children_must_be_the_right_ones() {
        let mut story = with_a();
        let list = asked(LINK, 1, Op::Children { path: "/".into(), watch: false, stat: false });
        let body = |names: &[&str]| {
            let mut body = Vec::new();
            put_names(&mut body, names.len(), names.iter().copied());
            body
        };
        story.good(answered(&list, zxid(1, 2), 0, &body(&["zookeeper", "a"])));
        story.good(answered(&list, zxid(1, 0), 0, &body(&["zookeeper"])));
        story.bad(answered(&list, zxid(1, 2), 0, &body(&["zookeeper"])), "1 children, 2 were due");
        story.bad(answered(&list, zxid(1, 2), 0, &body(&["zookeeper", "b"])), "child b, which is not there");
        story.bad(answered(&list, zxid(1, 2), 0, &body(&["a", "a"])), "twice");
    }
}
