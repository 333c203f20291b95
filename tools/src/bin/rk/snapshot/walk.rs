//! Through a tree, or through two at once, depth first, children by name. No recursion: paths may be as deep as they are long.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::{Add, AddAssign};

use serde::Serialize;

use super::node::{Found, Node, Tree};
use crate::console::Result;

/// Nodes, and the bytes of their data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub nodes: u64,
    pub bytes: u64,
}

impl Totals {
    pub fn of(node: &Node<'_>) -> Totals {
        Totals { nodes: 1, bytes: node.data_bytes() }
    }
}

impl Add for Totals {
    type Output = Totals;
    fn add(self, other: Totals) -> Totals {
        Totals { nodes: self.nodes + other.nodes, bytes: self.bytes + other.bytes }
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        *self = *self + other;
    }
}

/// What a walk meets.
pub enum Step<'a> {
    /// A node, before everything below it.
    Enter { path: &'a str, depth: usize, nodes: [Option<u32>; 2] },
    /// The same, after; the totals are of it and all below it.
    Leave { path: &'a str, depth: usize, nodes: [Option<u32>; 2], totals: [Totals; 2] },
    /// Nodes below cannot be found.
    Damaged { path: &'a str, tree: usize, why: String },
}

/// Whether to go on below a node that was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    Go,
    Skip,
}

struct Frame {
    nodes: [Option<u32>; 2],
    totals: [Totals; 2],
    path_bytes: usize,
    /// The last first.
    children: Vec<(String, [Option<u32>; 2])>,
}

/// One bit for each number of a tree that was met: damaged links may lead in circles, and to any number.
#[derive(Default)]
struct Seen(HashMap<u32, [u64; 64]>);

impl Seen {
    fn is_first_time(&mut self, number: u32) -> bool {
        let page = self.0.entry(number / 4096).or_insert([0; 64]);
        let (word, bit) = (&mut page[number as usize % 4096 / 64], 1 << (number % 64));
        let first = *word & bit == 0;
        *word |= bit;
        first
    }
}

/// Walks what is below `from`, in both trees where there are two. A node of one tree is met together with the node of the same
/// path in the other.
pub fn walk(
    trees: [Option<&dyn Tree>; 2],
    from: [Option<u32>; 2],
    path: &str,
    step: &mut dyn FnMut(Step<'_>) -> Result<Below>,
) -> Result<()> {
    let mut seen = [Seen::default(), Seen::default()];
    let mut path = path.to_owned();
    let mut frames: Vec<Frame> = Vec::new();
    let mut next = Some(from);
    loop {
        if let Some(nodes) = next.take() {
            frames.push(enter(trees, nodes, &path, frames.len(), &mut seen, step)?);
        }
        let Some(frame) = frames.last_mut() else { return Ok(()) };
        match frame.children.pop() {
            Some((name, nodes)) => {
                path.truncate(frame.path_bytes);
                if !path.ends_with('/') {
                    path.push('/');
                }
                path.push_str(&name);
                next = Some(nodes);
            }
            None => {
                let Frame { nodes, totals, path_bytes, .. } = frames.pop().expect("looked at above");
                path.truncate(path_bytes);
                step(Step::Leave { path: &path, depth: frames.len(), nodes, totals })?;
                if let Some(parent) = frames.last_mut() {
                    parent.totals[0] += totals[0];
                    parent.totals[1] += totals[1];
                }
            }
        }
    }
}

fn enter(
    trees: [Option<&dyn Tree>; 2],
    nodes: [Option<u32>; 2],
    path: &str,
    depth: usize,
    seen: &mut [Seen; 2],
    step: &mut dyn FnMut(Step<'_>) -> Result<Below>,
) -> Result<Frame> {
    let mut frame = Frame { nodes, totals: Default::default(), path_bytes: path.len(), children: Vec::new() };
    let below = step(Step::Enter { path, depth, nodes })?;
    let mut lists: [Vec<(String, u32)>; 2] = Default::default();
    for tree in 0..2 {
        let (Some(of), Some(number)) = (trees[tree], nodes[tree]) else { continue };
        // A damaged node was shown to whoever asked for it; here it has no size.
        frame.totals[tree] = of.node(number).map(|node| Totals::of(&node)).unwrap_or_default();
        if below == Below::Skip {
            continue;
        }
        let mut numbers = Vec::new();
        if let Err(why) = of.children(number, &mut numbers) {
            step(Step::Damaged { path, tree, why })?;
        }
        for child in numbers {
            if !seen[tree].is_first_time(child) {
                let why = format!("a child that is met twice (node {child})");
                step(Step::Damaged { path, tree, why })?;
                continue;
            }
            match of.node(child) {
                Ok(node) => lists[tree].push((node.name.to_owned(), child)),
                Err(why) => drop(step(Step::Damaged { path, tree, why })?),
            }
        }
        lists[tree].sort_unstable();
    }
    frame.children = paired(lists);
    Ok(frame)
}

/// Two sorted lists as one, the last name first.
fn paired([left, right]: [Vec<(String, u32)>; 2]) -> Vec<(String, [Option<u32>; 2])> {
    let mut pairs = Vec::with_capacity(left.len().max(right.len()));
    let (mut left, mut right) = (left.into_iter().rev().peekable(), right.into_iter().rev().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return pairs,
            (Some(_), None) => Ordering::Greater,
            (None, Some(_)) => Ordering::Less,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let mut pair = (String::new(), [None, None]);
        if order != Ordering::Less
            && let Some((name, number)) = left.next()
        {
            pair = (name, [Some(number), None]);
        }
        if order != Ordering::Greater
            && let Some((name, number)) = right.next()
        {
            pair = (name, [pair.1[0], Some(number)]);
        }
        pairs.push(pair);
    }
}

/// The node at a path. None: there is none.
pub fn find(tree: &dyn Tree, path: &str) -> Found<Option<u32>> {
    let mut number = tree.root();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        match tree.child(number, name)? {
            Some(child) => number = child,
            None => return Ok(None),
        }
    }
    Ok(Some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_paired_by_name() {
        let list =
            |names: &[&str]| (0..).zip(names).map(|(number, name)| (name.to_string(), number)).collect::<Vec<_>>();
        let pairs = paired([list(&["a", "c", "d"]), list(&["b", "c"])]);
        let expected =
            [("d", [Some(2), None]), ("c", [Some(1), Some(1)]), ("b", [None, Some(0)]), ("a", [Some(0), None])];
        assert_eq!(pairs, expected.map(|(name, nodes)| (name.to_owned(), nodes)));
    }
}
