//! What must be there after a crash: a prefix of what one session sent, with everything that was answered in it.
//!
//! Each actor alone writes below its own node, so what the tree must look like after its n-th write is known exactly.
//! A server that keeps its promises shows, after any crash, the tree after some n with `answered <= n <= sent`: no
//! answered write is lost, no later one survives an earlier one, no transaction is there by half.
//!
//! A server whose disk is full refuses writes, and takes them again when there is room: then what was refused is left out, and of
//! what was not answered any part may be left out ([`Round::has_gaps`]).

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Nodes of one actor by path.
pub type Tree = BTreeMap<String, Node>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Written once each, so that a value names its write. The data is made from it, see `data_of`.
    pub value: u64,
    pub version: i32,
    pub is_ephemeral: bool,
    pub written: Written,
}

/// Which transaction wrote a node last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// One of this round's writes, by its number.
    By(usize),
    /// One of an earlier round, seen under this zxid.
    At(i64),
}

/// One write request: all of its effects or none.
#[derive(Clone, Debug)]
pub struct Write {
    pub effects: Vec<(String, Option<Node>)>,
}

/// What the server shows after it came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub data: Vec<u8>,
    pub version: i32,
    pub mzxid: i64,
    pub ephemeral_owner: i64,
}

/// One actor's round.
#[derive(Debug, Default)]
pub struct Round {
    pub base: Tree,
    pub writes: Vec<Write>,
    /// Of the first ones, which are answered: the zxid, or that the write was refused.
    pub answers: Vec<Option<i64>>,
    /// A disk was full on the way.
    pub has_gaps: bool,
}

impl Round {
    pub fn answered(&self) -> usize {
        self.answers.len()
    }

    /// How many of the unanswered writes the server shows, and the tree that the next round begins with; or what is wrong.
    /// Ephemerals belong to `owner`; without one the session has ended, and they must be gone.
    pub fn survivors(&self, seen: &BTreeMap<String, Seen>, owner: Option<i64>) -> Result<(usize, Tree), String> {
        let mut tree = self.base.clone();
        let mut complaint = String::new();
        for count in 0..=self.writes.len() {
            if let Some(last) = count.checked_sub(1).filter(|last| self.answers.get(*last) != Some(&None)) {
                apply(&mut tree, &self.writes[last]);
            }
            if count < self.answered() {
                continue;
            }
            let mut left = tree.clone();
            left.retain(|_, node| owner.is_some() || !node.is_ephemeral);
            match self.difference(&left, seen, owner.unwrap_or(0)) {
                None => return Ok((count - self.answered(), settled(left, seen))),
                Some(difference) => {
                    let _ = write!(complaint, "\n  as after write {count}, but {difference}");
                }
            }
        }
        if self.has_gaps {
            return Ok((0, self.with_gaps(seen, owner)?));
        }
        let (answered, sent) = (self.answered(), self.writes.len());
        Err(format!(
            "the tree is as after none of the writes {answered} (last answered) to {sent} (last sent):{complaint}"
        ))
    }

    fn difference(&self, tree: &Tree, seen: &BTreeMap<String, Seen>, owner: i64) -> Option<String> {
        if let Some(path) = tree.keys().find(|path| !seen.contains_key(*path)) {
            return Some(format!("{path} is missing"));
        }
        if let Some(path) = seen.keys().find(|path| !tree.contains_key(*path)) {
            return Some(format!("{path} is there"));
        }
        tree.iter().find_map(|(path, node)| self.node_difference(path, node, &seen[path], owner))
    }

    fn node_difference(&self, path: &str, node: &Node, seen: &Seen, owner: i64) -> Option<String> {
        let wanted_owner = if node.is_ephemeral { owner } else { 0 };
        let wanted_zxid = match node.written {
            Written::At(zxid) => Some(zxid),
            Written::By(write) => self.answers.get(write).copied().flatten(), // unknown when the answer never came
        };
        if seen.data != data_of(node.value) {
            let shown = String::from_utf8_lossy(&seen.data[..seen.data.len().min(16)]).into_owned();
            Some(format!("{path} holds {shown} ({} bytes), not {:016x}", seen.data.len(), node.value))
        } else if seen.version != node.version {
            Some(format!("{path} has version {}, not {}", seen.version, node.version))
        } else if seen.ephemeral_owner != wanted_owner {
            Some(format!("{path} belongs to {:#x}, not {wanted_owner:#x}", seen.ephemeral_owner))
        } else if wanted_zxid.is_some_and(|zxid| zxid != seen.mzxid) {
            Some(format!("{path} has mzxid {:#x}, its write was answered with {wanted_zxid:x?}", seen.mzxid))
        } else {
            None
        }
    }

    /// What a node is was made by the last answered write to it, or by an unanswered one behind that.
    fn with_gaps(&self, seen: &BTreeMap<String, Seen>, owner: Option<i64>) -> Result<Tree, String> {
        let mut possible: BTreeMap<&str, Vec<Option<&Node>>> =
            self.base.iter().map(|(path, node)| (path.as_str(), vec![Some(node)])).collect();
        for (number, write) in self.writes.iter().enumerate() {
            for (path, node) in &write.effects {
                let nodes = possible.entry(path).or_insert_with(|| vec![None]);
                match self.answers.get(number) {
                    Some(None) => {}
                    Some(Some(_)) => *nodes = vec![node.as_ref()],
                    None => nodes.push(node.as_ref()),
                }
            }
        }
        if let Some(path) = seen.keys().find(|path| !possible.contains_key(path.as_str())) {
            return Err(format!("{path} is there, and nobody made it"));
        }
        let mut tree = Tree::new();
        for (path, nodes) in possible {
            let living = nodes.into_iter().map(|node| node.filter(|node| owner.is_some() || !node.is_ephemeral));
            let mut complaint = String::new();
            let found = living.rev().find(|node| {
                let difference = match (node, seen.get(path)) {
                    (None, None) => None,
                    (Some(_), None) => Some(format!("{path} is missing")),
                    (None, Some(_)) => Some(format!("{path} is there")),
                    (Some(node), Some(seen)) => self.node_difference(path, node, seen, owner.unwrap_or(0)),
                };
                difference.map(|difference| complaint = complaint.clone() + "\n  " + &difference).is_none()
            });
            let Some(node) = found else {
                return Err(format!("a disk was full, and {path} is as no write left it:{complaint}"));
            };
            node.map(|node| tree.insert(path.to_owned(), node.clone()));
        }
        Ok(settled(tree, seen))
    }
}

pub fn apply(tree: &mut Tree, write: &Write) {
    for (path, node) in &write.effects {
        match node {
            Some(node) => tree.insert(path.clone(), node.clone()),
            None => tree.remove(path),
        };
    }
}

/// From here on the zxids are those that were seen.
fn settled(mut tree: Tree, seen: &BTreeMap<String, Seen>) -> Tree {
    for (path, node) in &mut tree {
        node.written = Written::At(seen[path].mzxid);
    }
    tree
}

/// The data that stands for a value: the value, then a filling of a length of its own. Now and then it is large.
pub fn data_of(value: u64) -> Vec<u8> {
    let length = if value.is_multiple_of(97) { 20_000 } else { value % 13 * 17 };
    let mut data = format!("{value:016x}").into_bytes();
    data.extend((0..length).map(|at| (value.wrapping_mul(31).wrapping_add(at)) as u8));
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(value: u64, version: i32, write: usize) -> Node {
        Node { value, version, is_ephemeral: false, written: Written::By(write) }
    }

    fn seen(value: u64, version: i32, mzxid: i64) -> Seen {
        Seen { data: data_of(value), version, mzxid, ephemeral_owner: 0 }
    }

    /// Sets /a to 1, then /b and /c to 2 in one transaction, then /a to 3. The first was answered.
    fn round() -> Round {
        let write = |effects: &[(&str, Node)]| Write {
            effects: effects.iter().map(|(path, node)| ((*path).to_owned(), Some(node.clone()))).collect(),
        };
        let writes = vec![
            write(&[("/a", node(1, 0, 0))]),
            write(&[("/b", node(2, 0, 1)), ("/c", node(2, 0, 1))]),
            write(&[("/a", node(3, 1, 2))]),
        ];
        Round { base: Tree::new(), writes, answers: vec![Some(10)], has_gaps: false }
    }

    fn shown(nodes: &[(&str, Seen)]) -> BTreeMap<String, Seen> {
        nodes.iter().map(|(path, seen)| ((*path).to_owned(), seen.clone())).collect()
    }

    #[test]
    fn unanswered_writes_may_be_there_or_not() {
        let one = shown(&[("/a", seen(1, 0, 10))]);
        assert_eq!(round().survivors(&one, Some(0)).unwrap().0, 0);
        let all = shown(&[("/a", seen(3, 1, 12)), ("/b", seen(2, 0, 11)), ("/c", seen(2, 0, 11))]);
        assert_eq!(round().survivors(&all, Some(0)).unwrap().0, 2);
    }

    #[test]
    fn an_answered_write_must_be_there() {
        assert!(round().survivors(&BTreeMap::new(), Some(0)).is_err());
    }

    #[test]
    fn half_a_transaction_is_seen() {
        let half = shown(&[("/a", seen(1, 0, 10)), ("/b", seen(2, 0, 11))]);
        assert!(round().survivors(&half, Some(0)).is_err());
    }

    #[test]
    fn a_write_that_overtook_another_is_seen() {
        let overtaken = shown(&[("/a", seen(3, 1, 12))]);
        assert!(round().survivors(&overtaken, Some(0)).is_err());
    }

    /// The first was answered; the second was refused, or what became of it is not known; the third was answered, or not.
    #[test]
    fn where_a_disk_was_full_what_was_refused_is_left_out_and_what_is_not_known_may_be() {
        let round = |answers: &[Option<i64>]| Round { answers: answers.to_vec(), has_gaps: true, ..round() };
        let overtaken = shown(&[("/a", seen(3, 1, 12))]);
        assert!(round(&[Some(10), None, Some(12)]).survivors(&overtaken, Some(0)).is_ok());
        assert!(round(&[Some(10)]).survivors(&overtaken, Some(0)).is_ok());
        assert!(round(&[Some(10), None]).survivors(&overtaken, Some(0)).is_ok());
        assert!(round(&[Some(10), Some(11), Some(12)]).survivors(&overtaken, Some(0)).is_err(), "/b was answered");
        assert!(round(&[Some(10), None, Some(13)]).survivors(&overtaken, Some(0)).is_err(), "another zxid");
        let refused = shown(&[("/a", seen(1, 0, 10)), ("/b", seen(2, 0, 11)), ("/c", seen(2, 0, 11))]);
        assert!(round(&[Some(10), None]).survivors(&refused, Some(0)).is_err());
        let nobodys = shown(&[("/a", seen(3, 1, 12)), ("/d", seen(4, 0, 13))]);
        assert!(round(&[Some(10)]).survivors(&nobodys, Some(0)).is_err());
        assert!(round(&[Some(10)]).survivors(&BTreeMap::new(), Some(0)).is_err());
    }

    #[test]
    fn an_answered_write_keeps_its_zxid_and_its_bytes() {
        assert!(round().survivors(&shown(&[("/a", seen(1, 0, 9))]), Some(0)).is_err());
        let mut torn = seen(1, 0, 10);
        torn.data.pop();
        assert!(round().survivors(&shown(&[("/a", torn)]), Some(0)).is_err());
    }

    #[test]
    fn ephemerals_end_with_their_session() {
        let ephemeral = Node { is_ephemeral: true, ..node(1, 0, 0) };
        let write = Write { effects: vec![("/a".into(), Some(ephemeral))] };
        let round = Round { writes: vec![write], answers: vec![Some(10)], ..Round::default() };
        let there = shown(&[("/a", Seen { ephemeral_owner: 7, ..seen(1, 0, 10) })]);
        assert_eq!(round.survivors(&there, Some(7)).unwrap().1.len(), 1);
        assert!(round.survivors(&BTreeMap::new(), Some(7)).is_err());
        assert!(round.survivors(&there, None).is_err());
        assert!(round.survivors(&BTreeMap::new(), None).unwrap().1.is_empty());
    }

    #[test]
    fn a_foreign_owner_is_seen() {
        let mut theirs = seen(1, 0, 10);
        theirs.ephemeral_owner = 7;
        assert!(round().survivors(&shown(&[("/a", theirs)]), Some(0)).is_err());
    }
}
