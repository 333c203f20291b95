//! Short histories for the tests of properties: a good one passes, and the same with one thing wrong must not.

use std::rc::Rc;

use bytes::Bytes;

use super::Property;
use super::truth::Truth;
use crate::core::zab::membership::Membership;
use crate::core::{EpochKind, Epochs, RoleView, ServerId, Standing, Zxid};
use crate::sim::event::{Event, Moment};
use crate::sim::history::{Answered, Asked, ClientEvent, Link, Notified, Op, data_of};
use crate::wire::client::EventKind;
use crate::wire::txn::{AclList, CreateKind, Txn, TxnHeader, encode_txn};

pub const SESSION: i64 = 0x100;
pub const LINK: Link = Link { client: 0, number: 1 };
pub const LINK_2: Link = Link { client: 1, number: 1 };
const MS: u64 = 1000;

pub fn zxid(epoch: u32, counter: u32) -> Zxid {
    Zxid::new(epoch, counter)
}

pub fn server(id: i64) -> ServerId {
    ServerId(id)
}

/// Three voters and one property that listens.
#[derive(Debug)]
pub struct Story<P> {
    pub truth: Truth,
    pub property: P,
    pub now: Moment,
}

impl<P: Property + Default> Story<P> {
    pub fn new() -> Story<P> {
        Story { truth: Truth::new(&Membership::of(3, 0)), property: P::default(), now: Moment::default() }
    }

    /// Three servers on empty disks; the first leads epoch 1.
    pub fn begun() -> Story<P> {
        let mut story = Story::new();
        for id in 1..=3 {
            story.good(started(id, Zxid::ZERO));
        }
        story.leads(1, 1);
        story
    }

    pub fn event(&mut self, event: Event) -> Result<(), String> {
        self.now.us += 1;
        self.truth.observe(&event)?;
        self.property.observe(self.now, &event, &self.truth)
    }

    pub fn good(&mut self, event: Event) {
        let told = format!("{event:?}");
        if let Err(why) = self.event(event) {
            panic!("{told}: {why}");
        }
    }

    /// The complaint must say `what`.
    #[track_caller]
    pub fn bad(&mut self, event: Event, what: &str) {
        let why = self.event(event).expect_err("this history is bad");
        assert!(why.contains(what), "{why}");
    }

    pub fn pass(&mut self, ms: u64) {
        self.now.us += ms * MS;
    }

    /// An established leader with everything, whom the other two follow.
    pub fn leads(&mut self, id: i64, epoch: u32) {
        self.good(role(id, RoleView::Leading { epoch, serving: false }));
        for kind in [EpochKind::Accepted, EpochKind::Current] {
            for member in [1, 2, 3] {
                self.good(epoch_stored(member, kind, epoch));
            }
        }
        self.good(role(id, RoleView::Leading { epoch, serving: true }));
        for member in [1, 2, 3].into_iter().filter(|member| *member != id) {
            self.good(role(member, RoleView::Following { leader: ServerId(id), serving: true }));
        }
    }

    /// Proposed by 1, on the disks of 1 and 2, committed on 1. Nothing at all is wrong with it.
    pub fn commit(&mut self, zxid: Zxid, txn: &Bytes) {
        self.event_commit(zxid, txn).unwrap();
    }

    pub fn event_commit(&mut self, zxid: Zxid, txn: &Bytes) -> Result<(), String> {
        for id in [1, 2] {
            self.event(logged(id, zxid, txn))?;
            self.event(durable(id, zxid))?;
        }
        let digest = self.truth.server(ServerId(1)).and_then(|server| server.digest_at(zxid)).unwrap_or(0);
        self.event(Event::Applied { server: ServerId(1), zxid, digest })
    }

    /// A connected client with this session, which exists.
    pub fn connected(&mut self, link: Link, session: i64) {
        let at = Zxid(self.truth.last().0.max(zxid(1, 0).0) + 1);
        self.commit(at, &txn(at, session, 0, &Txn::CreateSession { timeout_ms: 4000 }));
        self.good(connecting(link, None, 0));
        self.good(client(ClientEvent::Welcomed { link, session, timeout_ms: 4000 }));
    }
}

pub fn txn(zxid: Zxid, session: i64, cxid: i32, txn: &Txn<'_>) -> Bytes {
    let header = TxnHeader { client_id: session, cxid, zxid: zxid.0 as i64, time_ms: 1 };
    let mut bytes = Vec::new();
    encode_txn(&header, txn, None, &mut bytes);
    bytes.into()
}

/// A create by `SESSION`.
pub fn create(zxid: Zxid, cxid: i32, path: &str, value: u64) -> Bytes {
    create_kind(zxid, SESSION, cxid, path, value, CreateKind::Persistent)
}

pub fn create_kind(zxid: Zxid, session: i64, cxid: i32, path: &str, value: u64, kind: CreateKind) -> Bytes {
    let data = data_of(value);
    let record = Txn::Create {
        path: path.into(),
        data: Some(&data),
        acl: AclList::new(),
        kind,
        parent_cversion: -1,
        create2: false,
    };
    txn(zxid, session, cxid, &record)
}

pub fn set(zxid: Zxid, cxid: i32, path: &str, value: u64, version: i32) -> Bytes {
    let data = data_of(value);
    txn(zxid, SESSION, cxid, &Txn::SetData { path: path.into(), data: Some(&data), version })
}

pub fn delete(zxid: Zxid, cxid: i32, path: &str) -> Bytes {
    txn(zxid, SESSION, cxid, &Txn::Delete { path: path.into() })
}

pub fn started(id: i64, last: Zxid) -> Event {
    let digest = Truth::new(&Membership::of(0, 0)).digest_at(Zxid::ZERO).unwrap_or(0);
    let epochs = Epochs { accepted: last.epoch(), current: last.epoch() };
    Event::Started { server: ServerId(id), last, digest, epochs, standing: Standing::Whole }
}

pub fn role(id: i64, role: RoleView) -> Event {
    Event::Role { server: ServerId(id), role }
}

pub fn looking(id: i64) -> Event {
    role(id, RoleView::Looking { why: "a test".to_owned() })
}

pub fn follows(id: i64, leader: i64) -> Event {
    role(id, RoleView::Following { leader: ServerId(leader), serving: true })
}

pub fn epoch_stored(id: i64, kind: EpochKind, epoch: u32) -> Event {
    Event::EpochStored { server: ServerId(id), kind, epoch }
}

pub fn logged(id: i64, zxid: Zxid, txn: &Bytes) -> Event {
    Event::Logged { server: ServerId(id), zxid, txn: txn.clone() }
}

pub fn durable(id: i64, through: Zxid) -> Event {
    Event::Durable { server: ServerId(id), through }
}

pub fn applied(id: i64, zxid: Zxid) -> Event {
    Event::Applied { server: ServerId(id), zxid, digest: 0 }
}

pub fn client(event: ClientEvent) -> Event {
    Event::Client(event)
}

pub fn connecting(link: Link, resumes: Option<i64>, seen: i64) -> Event {
    client(ClientEvent::Connecting { link, server: ServerId(1), resumes, seen })
}

pub fn asked(link: Link, xid: i32, op: Op) -> Rc<Asked> {
    Rc::new(Asked { link, session: SESSION + i64::from(link.client), xid, op })
}

pub fn sent(asked: &Rc<Asked>) -> Event {
    client(ClientEvent::Sent(asked.clone()))
}

pub fn answered(asked: &Rc<Asked>, zxid: Zxid, err: i32, body: &[u8]) -> Event {
    let answered = Answered { asked: asked.clone(), xid: asked.xid, zxid: zxid.0 as i64, err, body: body.into() };
    client(ClientEvent::Answered(answered))
}

pub fn notified(link: Link, zxid: i64, kind: EventKind, path: &str) -> Event {
    client(ClientEvent::Notified(Notified { link, zxid, kind, path: path.into() }))
}
