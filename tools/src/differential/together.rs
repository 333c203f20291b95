//! Several sessions at the same moment, each at work in a subtree of its own.
//!
//! In which order their writes become transactions no server promises, so the same write may have one zxid here and another one
//! there. Each write is given a name (step, session, place), by which its zxid is known from then on; what a session reads of its
//! own subtree, and what it hears of it, has to be the same to the letter. What it hears of other subtrees comes at any moment, but
//! of each in order.

use std::collections::BTreeMap;

use super::ask::{Ask, opcode};
use super::show;
use super::side::{Said, Side};
use crate::Result;

impl Side {
    /// All of them send before anybody is read from.
    pub fn begin_together(&mut self, bursts: &[(usize, Vec<Ask>)], said: &mut Said) -> Result<()> {
        for (slot, _) in bursts {
            self.ensure_connected(*slot, &[], said)?;
            self.settle(*slot, said)?;
        }
        for (slot, burst) in bursts {
            self.send(*slot, &burst.iter().flat_map(Ask::frame).collect::<Vec<u8>>());
        }
        Ok(())
    }

    pub fn finish_together(&mut self, step: usize, bursts: &[(usize, Vec<Ask>)], said: &mut Said) -> Result<()> {
        let before = self.last_zxid;
        let mut heard = Vec::new();
        for (slot, burst) in bursts {
            let mut frames = Vec::new();
            for ask in burst {
                self.take_frames(*slot, ask, &mut frames, said);
            }
            heard.push((*slot, frames));
        }
        // What the others did is heard of behind the own answers, or by now.
        for (slot, frames) in &mut heard {
            let ping = Ask { xid: -2, ..Ask::new(opcode::PING, "", Default::default()) };
            self.send(*slot, &ping.frame());
            self.take_frames(*slot, &ping, frames, said);
        }
        for (slot, frames) in &heard {
            for (place, (asked, payload)) in frames.iter().enumerate() {
                let Some((header, _)) = show::split(payload) else { continue };
                self.last_zxid = self.last_zxid.max(header.zxid);
                if header.xid != -1 && header.zxid > before && is_write(*asked) && header.code != -5 {
                    self.zxids.insert(header.zxid, format!("w{step}.{slot}.{}", name_of(frames, place)));
                }
            }
        }
        for (slot, frames) in &heard {
            self.tell(*slot, frames, before, said);
        }
        Ok(())
    }

    /// A slot's answers and what it heard of its own subtree, then what it heard of each of the others.
    fn tell(&self, slot: usize, frames: &[(i32, Vec<u8>)], before: i64, said: &mut Said) {
        let mut foreign: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut last = before;
        for (asked, payload) in frames {
            let Some((mut header, body)) = show::split(payload) else {
                said.lines.push(format!("slot {slot} no header"));
                continue;
            };
            if header.xid == -1 {
                let line = self.eyes().event(&header, body);
                let top = line.rsplit_once(" path ").and_then(|(_, path)| path.split('/').nth(1)).unwrap_or_default();
                let top = top.trim_end_matches('"').to_owned();
                if top == own_top(slot) {
                    said.lines.push(format!("slot {slot} {line}"));
                } else {
                    foreign.entry(top).or_default().push(format!("slot {slot} {line}"));
                }
                continue;
            }
            if header.zxid != 0 && header.zxid < last {
                said.lines.push(format!("slot {slot} went back from zxid {last} to {}", header.zxid));
            }
            last = last.max(header.zxid);
            // A read shows as much of the others' work as is done; so does a refusal without a transaction.
            if header.zxid >= before && (!is_write(*asked) || header.code == -5) {
                header.zxid = i64::MAX;
            }
            said.lines.push(format!("slot {slot} {}", self.eyes().reply_of_many(*asked, &header, body)));
        }
        said.lines.extend(foreign.into_values().flatten());
    }
}

/// The subtree that a slot has for itself in such a step.
pub fn own_top(slot: usize) -> String {
    format!("t{slot}")
}

/// Replies are counted, notifications between them are not.
fn name_of(frames: &[(i32, Vec<u8>)], place: usize) -> usize {
    let is_reply = |payload: &[u8]| show::split(payload).is_some_and(|(header, _)| header.xid != -1);
    frames[..place].iter().filter(|(_, payload)| is_reply(payload)).count()
}

fn is_write(asked: i32) -> bool {
    use opcode::{CREATE, CREATE_CONTAINER, CREATE_TTL, CREATE2, DELETE, MULTI, SET_ACL, SET_DATA};
    [CREATE, CREATE2, CREATE_CONTAINER, CREATE_TTL, DELETE, SET_DATA, SET_ACL, MULTI].contains(&asked)
}
