//! What a request must come to, given the tree right before it: the rules of semantics 4, 5 and 9, written down once more and
//! without a look at how the server does it.

use std::borrow::Cow;

use super::truth::{Committed, Truth};
use crate::core::tree::path;
use crate::core::zab::membership::MemberRole;
use crate::sim::administrator::{Reconfigure, roles_in};
use crate::sim::history::{Mode, Op, data_of};
use crate::wire::ErrorCode;
use crate::wire::txn::{CreateKind, Txn};

/// What the checks need to know of a node.
#[derive(Clone, Copy, Debug)]
struct Brief {
    version: i32,
    children: i32,
    /// Children ever created.
    counter: i32,
    ephemeral: bool,
}

/// The tree before a transaction, with what earlier items of it did.
struct View<'t> {
    truth: &'t Truth,
    committed: &'t Committed,
    changed: Vec<(String, Option<Brief>)>,
}

/// One item's effect, as its transaction must say it.
enum Effect {
    Create { path: String, value: u64, mode: Mode },
    Delete { path: String },
    Set { path: String, value: u64, version: i32 },
    Check { path: String },
    Close,
}

/// Whether a committed transaction is what its request must have come to. `lacks_room`: its leader's log was nearly full.
pub fn judge(op: &Op, committed: &Committed, truth: &Truth, lacks_room: bool) -> Result<(), String> {
    let mut view = View { truth, committed, changed: Vec::new() };
    let decoded = committed.decoded();
    if lacks_room && is_for_want_of_room(&decoded) && !matches!(op, Op::Close) {
        return Ok(());
    }
    match op {
        Op::Multi(ops) => {
            let Txn::Multi(items) = &decoded else {
                return Err(format!("{op:?} became {decoded:?}"));
            };
            if items.len() != ops.len() {
                return Err(format!("{} items became {}", ops.len(), items.len()));
            }
            let first_error = items.iter().find(|item| matches!(item, Txn::Error { .. }));
            if first_error.is_some_and(is_about_the_session) {
                return Ok(());
            }
            let mut failed = false;
            for (op, item) in ops.iter().zip(items) {
                let due = if failed { Err(ErrorCode::RuntimeInconsistency) } else { view.expect(op) };
                failed |= due.is_err();
                compare(op, due, item)?;
            }
            Ok(())
        }
        single if is_about_the_session(&decoded) && !matches!(single, Op::Close) => Ok(()),
        Op::Reconfig(wanted) => judge_reconfiguration(wanted, &decoded, truth, committed),
        single => compare(single, view.expect(single), &decoded),
    }
}

/// A change of the membership may be refused for what nobody outside can know: who is in step with the leader, what is proposed.
fn judge_reconfiguration(
    wanted: &Reconfigure,
    became: &Txn<'_>,
    truth: &Truth,
    committed: &Committed,
) -> Result<(), String> {
    let codes = [ErrorCode::NewConfigNoQuorum, ErrorCode::ReconfigInProgress];
    let malformed = [ErrorCode::BadArguments, ErrorCode::MarshallingError];
    let mut deciding = truth.deciding(committed.zxid);
    let due = wanted.outcome(deciding.next().expect("one is in force"));
    let voters = due.values().filter(|role| **role == MemberRole::Participant).count();
    match became {
        Txn::Error { code } if codes.iter().any(|known| known.number() == *code) => Ok(()),
        Txn::Error { code } if voters < 2 && malformed.iter().any(|known| known.number() == *code) => Ok(()),
        Txn::Reconfig { path, .. } if path == "/zookeeper/config" => match deciding.next() {
            Some(config) if voters > 0 && roles_in(config) == due => Ok(()),
            config => Err(format!("{wanted:?} became {config:?}")),
        },
        _ => Err(format!("{wanted:?} became {became:?}")),
    }
}

/// Refusals that depend on the session, not on the tree.
fn is_about_the_session(txn: &Txn<'_>) -> bool {
    let codes = [ErrorCode::SessionExpired, ErrorCode::SessionMoved];
    matches!(txn, Txn::Error { code } if codes.iter().any(|known| known.number() == *code))
}

/// The only answer that a leader can give to a learner's client is a transaction, a refusal too.
fn is_for_want_of_room(txn: &Txn<'_>) -> bool {
    matches!(txn, Txn::Error { code } if *code == ErrorCode::SystemError.number())
}

fn compare(op: &Op, due: Result<Effect, ErrorCode>, became: &Txn<'_>) -> Result<(), String> {
    let fits = match (&due, became) {
        (Err(code), Txn::Error { code: became }) => code.number() == *became,
        (Ok(Effect::Create { path, value, mode }), Txn::Create { path: became, data, kind, .. }) => {
            let kind_due = match mode {
                Mode::Container => CreateKind::Container,
                mode if mode.is_ephemeral() => CreateKind::Ephemeral,
                _ => CreateKind::Persistent,
            };
            path == became && *data == Some(&data_of(*value)[..]) && *kind == kind_due
        }
        (Ok(Effect::Delete { path }), Txn::Delete { path: became }) => path == became,
        (Ok(Effect::Set { path, value, version }), Txn::SetData { path: became, data, version: next }) => {
            path == became && *data == Some(&data_of(*value)[..]) && version == next
        }
        (Ok(Effect::Check { path }), Txn::Check { path: became, .. }) => path == became,
        (Ok(Effect::Close), Txn::CloseSession { .. } | Txn::Error { .. }) => true,
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let due = due.map_or_else(|code| format!("was due {code}"), |_| "had to succeed".to_owned());
    Err(format!("{op:?} {due} and became {became:?}"))
}

impl View<'_> {
    fn node(&self, path: &str) -> Option<Brief> {
        if let Some((_, node)) = self.changed.iter().rev().find(|(changed, _)| changed == path) {
            return *node;
        }
        let node = self.truth.node_before(path, self.committed.zxid)?;
        Some(Brief {
            version: node.stat.version,
            children: node.stat.num_children,
            counter: node.create_counter(),
            ephemeral: node.stat.ephemeral_owner != 0,
        })
    }

    fn change(&mut self, path: &str, node: Option<Brief>) {
        self.changed.push((path.to_owned(), node));
    }

    /// Success, with its effect on the view, or the first of the checks that fails.
    fn expect(&mut self, op: &Op) -> Result<Effect, ErrorCode> {
        match op {
            Op::Create { path, value, mode, .. } => {
                let (parent_path, _) = path::split(path).ok_or(ErrorCode::BadArguments)?;
                let mut parent = self.node(parent_path).ok_or(ErrorCode::NoNode)?;
                let name = match mode.is_sequential() {
                    true => Cow::Owned(format!("{path}{:010}", parent.counter)),
                    false => Cow::Borrowed(&**path),
                };
                if self.node(&name).is_some() {
                    return Err(ErrorCode::NodeExists);
                }
                if parent.ephemeral {
                    return Err(ErrorCode::NoChildrenForEphemerals);
                }
                parent.children += 1;
                parent.counter += 1;
                self.change(parent_path, Some(parent));
                let ephemeral = mode.is_ephemeral();
                self.change(&name, Some(Brief { version: 0, children: 0, counter: 0, ephemeral }));
                Ok(Effect::Create { path: name.into_owned(), value: *value, mode: *mode })
            }
            Op::Delete { path, version } => {
                let (parent_path, _) = path::split(path).ok_or(ErrorCode::BadArguments)?;
                let mut parent = self.node(parent_path).ok_or(ErrorCode::NoNode)?;
                let node = self.node(path).ok_or(ErrorCode::NoNode)?;
                fits(node.version, *version)?;
                if node.children > 0 {
                    return Err(ErrorCode::NotEmpty);
                }
                parent.children -= 1;
                self.change(parent_path, Some(parent));
                self.change(path, None);
                Ok(Effect::Delete { path: path.to_string() })
            }
            Op::Set { path, value, version } => {
                let mut node = self.node(path).ok_or(ErrorCode::NoNode)?;
                fits(node.version, *version)?;
                node.version += 1;
                self.change(path, Some(node));
                Ok(Effect::Set { path: path.to_string(), value: *value, version: node.version })
            }
            Op::Check { path, version } => {
                let node = self.node(path).ok_or(ErrorCode::NoNode)?;
                fits(node.version, *version)?;
                Ok(Effect::Check { path: path.to_string() })
            }
            Op::Close => Ok(Effect::Close),
            read => unreachable!("{read:?} is no write"),
        }
    }
}

fn fits(version: i32, expected: i32) -> Result<(), ErrorCode> {
    if expected == -1 || expected == version { Ok(()) } else { Err(ErrorCode::BadVersion) }
}
