//! What really happened: the one committed log, replayed once, and what each server has of it.
//!
//! Every property asks here instead of keeping books of its own. The truth is what servers that serve have applied: the first
//! to apply a transaction makes it committed for good, and everybody else is measured against that. Nothing is judged here: what
//! contradicts is kept as it is told, for the property whose business it is.
//!
//! * A server has a *log*: what it was given to log since its base (an empty disk, or a snapshot from its leader), cut where it
//!   was truncated or lost its end in a crash. * It *delivers* what it has applied once it serves, and from then on.
//! * The committed log is replayed on one tree, and each node's states are kept with the zxid they began with: what a node was
//!   like at a zxid is a look into a short list.
//!
//! Cost: each transaction is looked at once for each server, whatever happens in between.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::core::tree::{Applied, Change, ChangeKind, ChangeSink, DataTree, ItemOutcome, TreeOptions, path};
use crate::core::zab::membership::Membership;
use crate::core::{EpochKind, RoleView, ServerId, Standing, Zxid};
use crate::sim::event::Event;
use crate::sim::history::Path;
use crate::wire::client::multi::put_results;
use crate::wire::client::reply::put_create2;
use crate::wire::client::{MultiResult, Response, Stat};
use crate::wire::jute::put_string;
use crate::wire::txn::{CreateKind, DIGEST_VERSION, Txn, decode_txn};

pub type Map<K, V> = HashMap<K, V, FixedState>;

/// A committed transaction and what it did.
#[derive(Debug)]
pub struct Committed {
    pub zxid: Zxid,
    pub txn: Bytes,
    pub session: i64,
    /// 0 when a server asked for it.
    pub cxid: i32,
    /// What its client must hear: 0 or the code, and the record behind it.
    pub err: i32,
    pub answer: Vec<u8>,
    /// Of the tree afterwards, by replay.
    pub digest: u64,
    /// What its leader foresaw.
    pub foreseen: Option<u64>,
    /// The epoch that made it committed: its own, or a later one whose history had it, and no quorum until then.
    pub by_epoch: u32,
    pub changes: Vec<NodeChange>,
}

impl Committed {
    pub fn decoded(&self) -> Txn<'_> {
        decode_txn(&self.txn).expect("decoded before").1
    }
}

#[derive(Clone, Debug)]
pub struct NodeChange {
    pub kind: ChangeKind,
    pub path: Path,
}

/// What a node is like from a zxid on.
#[derive(Clone, Debug)]
pub struct NodeState {
    pub stat: Stat,
    pub data: Option<Rc<[u8]>>,
}

impl NodeState {
    /// Children ever created under it: what the next sequential name takes.
    pub fn create_counter(&self) -> i32 {
        (self.stat.cversion + self.stat.num_children) / 2
    }
}

/// A session by its transactions.
#[derive(Clone, Copy, Debug)]
pub struct SessionLife {
    pub created: Zxid,
    pub closed: Option<Zxid>,
}

/// One transaction in a server's log.
#[derive(Clone, Debug)]
pub struct Logged {
    pub zxid: Zxid,
    pub txn: Bytes,
    /// Of the tree after it, as its leader foresaw; of one that changes nothing, that before it. None: nobody foresaw it (a
    /// `closeSession` that does not list what goes with it).
    pub digest: Option<u64>,
}

/// What is known of one server.
#[derive(Debug)]
pub struct Server {
    pub up: bool,
    pub role: Option<RoleView>,
    pub standing: Standing,
    /// Where its log begins, and the tree's digest there.
    pub base: Zxid,
    pub base_digest: u64,
    /// What its base consists of beyond what was committed when it came: its leader may never serve, and be gone by the time
    /// that somebody does.
    behind_base: Vec<Logged>,
    pub log: Vec<Logged>,
    pub durable: Zxid,
    pub applied: Zxid,
    pub applied_digest: u64,
    pub accepted_epoch: u32,
    pub current_epoch: u32,
    /// Everything up to here was delivered by it and compared.
    pub delivered: Zxid,
    /// A snapshot of its leader's is on its way to its disk.
    installing: Option<Installing>,
}

#[derive(Debug)]
struct Installing {
    zxid: Zxid,
    /// As [`Server::behind_base`].
    behind: Vec<Logged>,
}

impl Server {
    fn new(fresh_digest: u64) -> Server {
        Server {
            up: false,
            role: None,
            standing: Standing::Fresh,
            base: Zxid::ZERO,
            base_digest: fresh_digest,
            behind_base: Vec::new(),
            log: Vec::new(),
            durable: Zxid::ZERO,
            applied: Zxid::ZERO,
            applied_digest: fresh_digest,
            accepted_epoch: 0,
            current_epoch: 0,
            delivered: Zxid::ZERO,
            installing: None,
        }
    }

    /// Whether clients are served: then everything applied here is committed.
    pub fn is_serving(&self) -> bool {
        matches!(
            self.role,
            Some(
                RoleView::Leading { serving: true, .. }
                    | RoleView::Following { serving: true, .. }
                    | RoleView::Observing { serving: true, .. }
            )
        )
    }

    pub fn is_leading(&self) -> bool {
        matches!(self.role, Some(RoleView::Leading { .. }))
    }

    /// The last zxid its log has.
    pub fn end(&self) -> Zxid {
        self.log.last().map_or(self.base, |last| last.zxid)
    }

    /// Transactions in its log above one zxid up to another.
    pub fn between(&self, above: Zxid, through: Zxid) -> &[Logged] {
        let end = self.count_through(through);
        &self.log[self.count_through(above).min(end)..end]
    }

    pub fn get(&self, zxid: Zxid) -> Option<&Logged> {
        let last = self.log.get(self.count_through(zxid).checked_sub(1)?)?;
        (last.zxid == zxid).then_some(last)
    }

    /// The digest its log foresees at a zxid of its log, or of a new epoch behind it.
    pub fn digest_at(&self, zxid: Zxid) -> Option<u64> {
        self.known_at(zxid).flatten()
    }

    /// The same; None: its log has no such zxid.
    fn known_at(&self, zxid: Zxid) -> Option<Option<u64>> {
        let count = self.count_through(zxid);
        let (at, digest) = match count.checked_sub(1) {
            Some(last) => (self.log[last].zxid, self.log[last].digest),
            None => (self.base, Some(self.base_digest)),
        };
        (at == zxid || zxid.counter() == 0 && at < zxid).then_some(digest)
    }

    fn count_through(&self, zxid: Zxid) -> usize {
        count_from_the_end(&self.log, |logged| logged.zxid <= zxid)
    }

    /// What its state at `through` consists of above `committed`, the end of the committed log, as far as that is known.
    fn history(&self, committed: Zxid, through: Zxid) -> impl Iterator<Item = &Logged> {
        let behind = self.behind_base.iter().filter(move |logged| logged.zxid > committed);
        behind.chain(self.between(committed, through))
    }

    fn knows_history(&self, committed: Zxid) -> bool {
        self.base <= committed || !self.behind_base.is_empty()
    }

    /// What the disk has is `last`: what is logged above is gone. Where the log does not lead there, it begins anew.
    fn restart_at(&mut self, last: Zxid, digest: u64) {
        let installed = self.installing.take().filter(|installing| installing.zxid == last);
        let known = self.known_at(last);
        if known == Some(Some(digest)) || (known.is_some() && installed.is_none()) {
            self.log.truncate(self.count_through(last));
        } else {
            self.log.clear();
            (self.base, self.base_digest) = (last, digest);
            self.behind_base = installed.map(|installed| installed.behind).unwrap_or_default();
        }
        self.delivered = self.delivered.min(last);
        self.durable = last;
        (self.applied, self.applied_digest) = (last, digest);
    }
}

/// What the latest event added.
#[derive(Debug, Default)]
pub struct News {
    /// Who delivered, if anybody, and its log above one zxid up to another.
    pub delivered: Option<Delivery>,
    /// Places in [`Truth::log`] that are new.
    pub committed: std::ops::Range<usize>,
}

#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    pub server: ServerId,
    pub above: Zxid,
    pub through: Zxid,
}

#[derive(Debug)]
pub struct Truth {
    /// Of the configuration in force.
    pub voters: Vec<ServerId>,
    /// Every configuration that was ever in force, in order.
    memberships: Vec<Membership>,
    tree: DataTree,
    log: Vec<Committed>,
    nodes: Map<Path, Vec<(Zxid, Option<NodeState>)>>,
    sessions: Map<i64, SessionLife>,
    ephemerals: Map<i64, Vec<Path>>,
    servers: BTreeMap<ServerId, Server>,
    news: News,
    pub healed: bool,
}

impl Truth {
    pub fn new(membership: &Membership) -> Truth {
        let tree = DataTree::new(TreeOptions::default());
        let mut truth = Truth {
            voters: membership.voters().collect(),
            memberships: vec![membership.clone()],
            log: Vec::new(),
            nodes: Map::default(),
            sessions: Map::default(),
            ephemerals: Map::default(),
            servers: BTreeMap::new(),
            news: News::default(),
            healed: false,
            tree,
        };
        for path in path::RESERVED {
            truth.note_node(Zxid::ZERO, path);
        }
        truth
    }

    pub fn log(&self) -> &[Committed] {
        &self.log
    }

    pub fn news(&self) -> &News {
        &self.news
    }

    /// The transactions that the latest event made committed.
    pub fn committed_now(&self) -> &[Committed] {
        &self.log[self.news.committed.clone()]
    }

    /// What the latest event delivered, and to whom.
    pub fn delivered_now(&self) -> Option<(Delivery, &Server)> {
        let delivery = self.news.delivered?;
        Some((delivery, &self.servers[&delivery.server]))
    }

    /// The last committed zxid.
    pub fn last(&self) -> Zxid {
        self.log.last().map_or(Zxid::ZERO, |last| last.zxid)
    }

    pub fn get(&self, zxid: Zxid) -> Option<&Committed> {
        self.at_or_before(zxid).filter(|committed| committed.zxid == zxid)
    }

    /// Place in the log of the first transaction above a zxid.
    pub fn place_above(&self, zxid: Zxid) -> usize {
        count_from_the_end(&self.log, |committed| committed.zxid <= zxid)
    }

    /// The last committed transaction up to a zxid.
    pub fn at_or_before(&self, zxid: Zxid) -> Option<&Committed> {
        self.place_above(zxid).checked_sub(1).map(|at| &self.log[at])
    }

    /// The tree's digest at a zxid that is committed, or of an epoch's beginning.
    pub fn digest_at(&self, zxid: Zxid) -> Option<u64> {
        let Some(last) = self.at_or_before(zxid) else {
            return (zxid.counter() == 0).then(fresh_digest);
        };
        (last.zxid == zxid || zxid.counter() == 0).then_some(last.digest)
    }

    /// A node as it was after every transaction up to `zxid`.
    pub fn node_at(&self, path: &str, zxid: Zxid) -> Option<&NodeState> {
        let states = self.nodes.get(path)?;
        // Nearly always asked about now.
        let (_, state) = states.iter().rev().find(|(since, _)| *since <= zxid)?;
        state.as_ref()
    }

    /// A node as it was right before this transaction.
    pub fn node_before(&self, path: &str, zxid: Zxid) -> Option<&NodeState> {
        self.node_at(path, Zxid(zxid.0 - 1))
    }

    /// A session's ephemerals at a zxid.
    pub fn ephemerals_at(&self, session: i64, zxid: Zxid) -> impl Iterator<Item = &Path> {
        let owned = self.ephemerals.get(&session).into_iter().flatten();
        owned.filter(move |path| self.node_at(path, zxid).is_some_and(|node| node.stat.ephemeral_owner == session))
    }

    pub fn session(&self, session: i64) -> Option<SessionLife> {
        self.sessions.get(&session).copied()
    }

    pub fn server(&self, id: ServerId) -> Option<&Server> {
        self.servers.get(&id)
    }

    pub fn servers(&self) -> impl Iterator<Item = (ServerId, &Server)> {
        self.servers.iter().map(|(id, server)| (*id, server))
    }

    /// The configuration in force: that of the newest committed transaction which proposed one.
    pub fn membership(&self) -> &Membership {
        self.memberships.last().expect("there is always one")
    }

    /// Those that decide about a transaction: what was in force when everything before it was committed, and what it proposes.
    pub fn deciding(&self, zxid: Zxid) -> impl Iterator<Item = &Membership> {
        let next = self.memberships.partition_point(|membership| membership.version < zxid.0);
        let itself = self.memberships.get(next).filter(|membership| membership.version == zxid.0);
        std::iter::once(&self.memberships[next.max(1) - 1]).chain(itself)
    }

    /// Takes in what happened. `Err`: a server logged or delivered what nobody can read.
    pub fn observe(&mut self, event: &Event) -> Result<(), String> {
        self.news.delivered = None;
        self.news.committed = self.log.len()..self.log.len();
        match event {
            Event::Started { server, last, digest, epochs, standing } => {
                let this = self.server_mut(*server);
                this.restart_at(*last, *digest);
                this.up = true;
                this.role = None;
                this.standing = *standing;
                (this.accepted_epoch, this.current_epoch) = (epochs.accepted, epochs.current);
            }
            Event::Crashed { server, .. } => {
                let this = self.server_mut(*server);
                this.up = false;
                this.role = None;
            }
            Event::Wiped { server } => {
                self.servers.insert(*server, Server::new(fresh_digest()));
            }
            Event::Role { server, role } => {
                self.server_mut(*server).role = Some(role.clone());
                self.deliver(*server)?;
            }
            Event::EpochStored { server, kind, epoch } => {
                let this = self.server_mut(*server);
                match kind {
                    EpochKind::Accepted => this.accepted_epoch = *epoch,
                    EpochKind::Current => {
                        this.current_epoch = *epoch;
                        this.standing = Standing::Whole;
                    }
                }
            }
            Event::Logged { server, zxid, txn } => {
                let (_, decoded, digest) = decode_txn(txn).map_err(|why| format!("{zxid} cannot be read: {why}"))?;
                let this = self.server_mut(*server);
                let before = this.log.last().map_or(Some(this.base_digest), |last| last.digest);
                let foreseen = digest.filter(|digest| digest.version == DIGEST_VERSION);
                let changes_nothing = matches!(decoded, Txn::Error { .. });
                let digest = match foreseen {
                    Some(digest) => Some(digest.tree_digest as u64),
                    None => before.filter(|_| changes_nothing),
                };
                this.log.push(Logged { zxid: *zxid, txn: txn.clone(), digest });
            }
            Event::Durable { server, through } => {
                let this = self.server_mut(*server);
                this.durable = this.durable.max(*through);
            }
            Event::Installing { server, zxid, digest } => {
                let behind = self.behind(*zxid, *digest);
                self.server_mut(*server).installing = Some(Installing { zxid: *zxid, behind });
            }
            Event::Reloaded { server, last, digest, standing } => {
                let this = self.server_mut(*server);
                this.restart_at(*last, *digest);
                this.standing = *standing;
            }
            Event::Applied { server, zxid, digest } => {
                let this = self.server_mut(*server);
                (this.applied, this.applied_digest) = (*zxid, *digest);
                self.deliver(*server)?;
            }
            Event::Healed => self.healed = true,
            Event::Acked { .. }
            | Event::Promised { .. }
            | Event::EpochBegins { .. }
            | Event::LocalSessions { .. }
            | Event::Truncating { .. }
            | Event::Room { .. }
            | Event::Client(_) => {}
        }
        Ok(())
    }

    fn server_mut(&mut self, id: ServerId) -> &mut Server {
        self.servers.entry(id).or_insert_with(|| Server::new(fresh_digest()))
    }

    /// What a serving server has applied is delivered; what nobody delivered before is committed from now on.
    fn deliver(&mut self, id: ServerId) -> Result<(), String> {
        let last = self.last();
        let server = self.server_mut(id);
        if !server.is_serving() || server.delivered >= server.applied {
            return Ok(());
        }
        let (above, through) = (server.delivered, server.applied);
        server.delivered = through;
        self.news.delivered = Some(Delivery { server: id, above, through });
        let server = &self.servers[&id];
        let by_epoch = server.current_epoch;
        let fresh: Vec<Logged> = server.history(last, through).cloned().collect();
        for Logged { zxid, txn, .. } in fresh {
            self.commit(zxid, txn, by_epoch)?;
        }
        self.news.committed.end = self.log.len();
        Ok(())
    }

    /// A server may be the first to serve what it was given as a snapshot, by a leader that logged it and never served. Who
    /// has the same state knows what it consists of.
    fn behind(&self, zxid: Zxid, digest: u64) -> Vec<Logged> {
        let last = self.last();
        let knows = |other: &&Server| other.digest_at(zxid) == Some(digest) && other.knows_history(last);
        let known = self.servers.values().filter(|_| zxid > last).find(knows);
        known.map_or_else(Vec::new, |other| other.history(last, zxid).cloned().collect())
    }

    fn commit(&mut self, zxid: Zxid, bytes: Bytes, by_epoch: u32) -> Result<(), String> {
        let (header, txn, digest) = decode_txn(&bytes).map_err(|why| format!("{zxid} cannot be read: {why}"))?;
        let mut noted = Noted::default();
        let applied = self.tree.apply(&header, &txn, &mut noted);
        let (err, answer) = answer(&txn, &applied);
        let session = header.client_id;
        match &txn {
            Txn::CreateSession { .. } => {
                // Who did not hear that its session became everybody's asks for that again: it lives on.
                let before = self.sessions.get(&session).copied().filter(|life| life.closed.is_none());
                self.sessions.insert(session, before.unwrap_or(SessionLife { created: zxid, closed: None }));
            }
            Txn::CloseSession { .. } => {
                if let Some(life) = self.sessions.get_mut(&session) {
                    life.closed.get_or_insert(zxid);
                }
            }
            Txn::Reconfig { data, .. } => {
                let config = Membership::parse(data.unwrap_or_default()).map_err(|why| format!("{zxid}: {why}"))?;
                if config.version != zxid.0 {
                    return Err(format!("{zxid} proposes a configuration of version {:x}", config.version));
                }
                self.voters = config.voters().collect();
                self.memberships.push(config);
            }
            _ => {}
        }
        let committed = Committed {
            zxid,
            session,
            cxid: header.cxid,
            err,
            answer,
            digest: self.tree.digest(),
            foreseen: digest.filter(|digest| digest.version == DIGEST_VERSION).map(|digest| digest.tree_digest as u64),
            by_epoch: by_epoch.max(zxid.epoch()),
            changes: noted.0,
            txn: bytes.clone(),
        };
        for change in &committed.changes {
            self.note_node(zxid, &change.path);
            if change.kind != ChangeKind::DataChanged
                && let Some((parent, _)) = path::split(&change.path)
            {
                self.note_node(zxid, parent);
            }
            if change.kind == ChangeKind::Created {
                self.note_owner(&change.path, zxid);
            }
        }
        self.log.push(committed);
        Ok(())
    }

    fn note_node(&mut self, zxid: Zxid, path: &str) {
        let state = self
            .tree
            .find(path)
            .map(|id| NodeState { stat: self.tree.stat(id), data: self.tree.data(id).map(Rc::from) });
        if !self.nodes.contains_key(path) {
            self.nodes.insert(path.into(), Vec::new());
        }
        let states = self.nodes.get_mut(path).expect("just put there");
        states.pop_if(|(since, _)| *since == zxid);
        states.push((zxid, state));
    }

    fn note_owner(&mut self, path: &Path, zxid: Zxid) {
        let owner = self.node_at(path, zxid).map_or(0, |node| node.stat.ephemeral_owner);
        if owner != 0 {
            let owned = self.ephemerals.entry(owner).or_default();
            if !owned.contains(path) {
                owned.push(path.clone());
            }
        }
    }
}

/// `partition_point` for what is nearly always asked about a place close to the end.
fn count_from_the_end<T>(sorted: &[T], is_before: impl Fn(&T) -> bool) -> usize {
    let (mut from, mut to, mut step) = (sorted.len(), sorted.len(), 1);
    while let Some(last) = from.checked_sub(1).filter(|last| !is_before(&sorted[*last])) {
        to = last;
        from = last.saturating_sub(step);
        step *= 2;
    }
    from + sorted[from..to].partition_point(is_before)
}

fn fresh_digest() -> u64 {
    DataTree::new(TreeOptions::default()).digest()
}

#[derive(Default)]
struct Noted(Vec<NodeChange>);

impl ChangeSink for Noted {
    fn changed(&mut self, change: &Change<'_>) {
        self.0.push(NodeChange { kind: change.kind, path: change.path.into() });
    }
}

/// What the client of a transaction must be told (client-protocol 8, 10.2).
fn answer(txn: &Txn<'_>, applied: &Applied<'_>) -> (i32, Vec<u8>) {
    let mut body = Vec::new();
    let is_plain = |txn: &Txn<'_>| {
        matches!(txn, Txn::Create { kind: CreateKind::Persistent | CreateKind::Ephemeral, create2: false, .. })
    };
    if let Txn::Multi(items) = txn {
        let results: Vec<MultiResult<'_>> = items
            .iter()
            .zip(&applied.items)
            .map(|(item, outcome)| match outcome {
                ItemOutcome::Created { path, .. } if is_plain(item) => MultiResult::Create { path: (*path).into() },
                ItemOutcome::Created { path, stat } => MultiResult::Create2 { path: (*path).into(), stat: *stat },
                ItemOutcome::Deleted => MultiResult::Delete,
                ItemOutcome::DataSet { stat } | ItemOutcome::AclSet { stat } => MultiResult::SetData { stat: *stat },
                ItemOutcome::Checked | ItemOutcome::Session => MultiResult::Check,
                ItemOutcome::Failed { code } => MultiResult::Error { code: *code },
            })
            .collect();
        put_results(&mut body, &results);
        return (0, body);
    }
    match applied.items.first() {
        Some(ItemOutcome::Failed { code }) => return (*code, body),
        Some(ItemOutcome::Created { path, .. }) if is_plain(txn) => put_string(&mut body, path),
        Some(ItemOutcome::Created { path, stat }) => put_create2(&mut body, path, stat),
        Some(ItemOutcome::DataSet { stat }) if let Txn::Reconfig { data, .. } = txn => {
            Response::Data { data: *data, stat: *stat }.encode_body(&mut body);
        }
        Some(ItemOutcome::DataSet { stat } | ItemOutcome::AclSet { stat }) => stat.encode(&mut body),
        Some(ItemOutcome::Deleted | ItemOutcome::Checked | ItemOutcome::Session) | None => {}
    }
    (0, body)
}
