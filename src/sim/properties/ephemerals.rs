//! Ephemerals live exactly as long as their session: they are made while it is open, go with it, and never before it unless a
//! client deletes them. And the session lives as long as its client gives signs of life: nobody is told that it is over before
//! the leader of the latest epoch has at least proposed its end.
//!
//! What a leader must know of: requests that its own clients sent while it led, and that it has answered; every session, from the
//! moment it begins to lead. (For a while two servers may believe that they lead: what one of them hears, the other cannot know, and
//! what the deposed one ends is never committed.) What followers heard reaches it now and then, and in a broken world not at all: it
//! is asked for in the world after `Healed` only, with patience, and of the leader of the latest epoch: those who follow that one
//! tell nobody else; and who has not noticed yet that its leader is gone tells nobody. Clocks run a little fast or slow; that much earlier or later is right.

use std::collections::VecDeque;

use super::Property;
use super::truth::{Committed, Map, Truth};
use crate::core::tree::ChangeKind;
use crate::core::{RoleView, ServerId, Zxid};
use crate::sim::event::{Event, Moment, Settled};
use crate::sim::history::{ClientEvent, Link};
use crate::wire::client::OpCode;
use crate::wire::txn::{Txn, decode_header, decode_txn};

/// How much faster than the world's a server's clock may run, in hundredths.
const FASTER_PERCENT: u64 = 20;

#[derive(Debug)]
struct Connection {
    server: ServerId,
    session: i64,
    /// Its session was one of one server alone when it was asked for.
    resumes_local: bool,
    /// The server has died since; what it said before may be still on its way.
    outlived: bool,
    /// The latest epoch when it was asked for.
    epoch: u32,
    /// When each request on its way was sent, the handshake first.
    sent_us: VecDeque<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sign {
    /// Of life, that the server it was given to has answered: when it was given.
    us: u64,
    /// Whom that server followed then: itself if it led, though others may have left it already.
    followed: Option<ServerId>,
    timeout_us: u64,
    /// When its beginning was committed: a slow disk may take long for that.
    begun_us: u64,
}

#[derive(Debug, Default)]
pub struct Ephemerals {
    links: Map<Link, Connection>,
    signs: Map<i64, Sign>,
    /// Those given to a leader itself, by leader and session. They are forgotten with the role.
    to_leaders: Map<(ServerId, i64), u64>,
    /// Since when a server leads.
    leading: Map<ServerId, u64>,
    /// Whom a server follows.
    following: Map<ServerId, ServerId>,
    /// The latest epoch that anybody has led.
    latest_epoch: u32,
    last_leader_us: u64,
    healed_us: Option<u64>,
    /// Sessions whose end some leader has proposed, and where it did last.
    ending: Map<i64, Zxid>,
    given_up: Vec<i64>,
    /// Whether there may be sessions of one server alone, and which there were: where, and whether it may have forgotten them.
    local_sessions: bool,
    local: Map<i64, (ServerId, bool)>,
}

impl Ephemerals {
    fn on_committed(&mut self, at_us: u64, committed: &Committed, truth: &Truth) -> Result<(), String> {
        let (zxid, decoded) = (committed.zxid, committed.decoded());
        if let Txn::CreateSession { timeout_ms } = decoded {
            let sign = self.signs.entry(committed.session).or_default();
            (sign.timeout_us, sign.begun_us) = (u64::try_from(timeout_ms).unwrap_or(0) * 1000, at_us);
        }
        let closes = matches!(decoded, Txn::CloseSession { .. });
        for change in &committed.changes {
            let (path, kind) = (&change.path, change.kind);
            match kind {
                ChangeKind::Created => {
                    let owner = truth.node_at(path, zxid).map_or(0, |node| node.stat.ephemeral_owner);
                    if owner != 0 && !is_open(owner, zxid, truth) {
                        return Err(format!("{zxid} makes {path} for session {owner:#x}, which is not open"));
                    }
                }
                ChangeKind::Deleted => {
                    let owner = truth.node_before(path, zxid).map_or(0, |node| node.stat.ephemeral_owner);
                    let by_client = committed.cxid != 0 && !closes;
                    let with_its_session = closes && owner == committed.session;
                    if !by_client && !with_its_session && (owner != 0 || closes) {
                        return Err(format!("{zxid} takes {path} of session {owner:#x} away, which is open"));
                    }
                }
                ChangeKind::DataChanged => {}
            }
        }
        if closes && let Some(path) = truth.ephemerals_at(committed.session, zxid).next() {
            return Err(format!("{zxid} closes session {:#x} and leaves {path}", committed.session));
        }
        Ok(())
    }

    /// A leader ends a session by itself.
    fn on_expired(&mut self, now: u64, leader: ServerId, session: i64, zxid: Zxid) -> Result<(), String> {
        let Some(sign) = self.signs.get(&session) else { return Ok(()) };
        let Some(since) = self.leading.get(&leader) else { return Ok(()) };
        let least = sign.timeout_us * 100 / (100 + FASTER_PERCENT);
        let known = self.to_leaders.get(&(leader, session)).map_or(*since, |us| *since.max(us));
        if now < known + least {
            let (silent, timeout) = ((now - known) / 1000, sign.timeout_us / 1000);
            return Err(format!(
                "{zxid} ends session {session:#x} {silent} ms after a sign of life, its timeout is {timeout} ms"
            ));
        }
        // Followers' tables take a while; half of the timeout is plenty once nothing is broken.
        let calm = self.healed_us.is_some_and(|healed_us| now > healed_us + 2 * sign.timeout_us);
        let deposed = zxid.epoch() < self.latest_epoch;
        let told_elsewhere = sign.followed.is_some_and(|followed| followed != leader);
        if calm && !deposed && !told_elsewhere && now < sign.us.max(*since) + least / 2 {
            let (silent, timeout) = ((now - sign.us) / 1000, sign.timeout_us / 1000);
            return Err(format!("{zxid} ends session {session:#x}, whose client spoke {silent} of {timeout} ms ago"));
        }
        Ok(())
    }

    /// The server has answered what was sent at this time.
    fn note_sign(&mut self, link: Link, session: i64) {
        let Some(connection) = self.links.get_mut(&link) else { return };
        let Some(sent_us) = connection.sent_us.pop_front() else { return };
        let sign = self.signs.entry(session).or_default();
        if sent_us >= sign.us {
            let leads = self.leading.contains_key(&connection.server).then_some(connection.server);
            (sign.us, sign.followed) = (sent_us, self.following.get(&connection.server).copied().or(leads));
        }
        if self.leading.get(&connection.server).is_some_and(|since| *since <= sent_us) {
            let known = self.to_leaders.entry((connection.server, session)).or_default();
            *known = sent_us.max(*known);
        }
    }

    /// A session that one server had for itself: others do not know it, and its own ends it when nobody was heard of.
    fn may_be_refused(&self, now: u64, link: Link, session: i64) -> bool {
        let Some((server, forgotten)) = self.local.get(&session) else { return false };
        // What becomes everybody's while its client asks elsewhere may be too late for it.
        let was_local = self.links.get(&link).is_some_and(|connection| connection.resumes_local);
        let is_elsewhere = self.links.get(&link).is_none_or(|connection| connection.server != *server);
        let sign = self.signs.get(&session).copied().unwrap_or_default();
        let is_silent = now >= sign.us + sign.timeout_us * 100 / (100 + FASTER_PERCENT);
        was_local && (is_elsewhere || is_silent || *forgotten)
    }

    fn on_client(&mut self, now: u64, event: &ClientEvent, truth: &Truth) -> Result<(), String> {
        match event {
            ClientEvent::Connecting { link, server, resumes, .. } => {
                let sent_us = VecDeque::from([now]);
                let session = resumes.unwrap_or(0);
                let epoch = self.latest_epoch;
                let resumes_local = self.local.contains_key(&session) && truth.session(session).is_none();
                let connection =
                    Connection { server: *server, session, resumes_local, outlived: false, epoch, sent_us };
                self.links.insert(*link, connection);
            }
            ClientEvent::Welcomed { link, session, timeout_ms } => {
                let timeout_us = *timeout_ms as u64 * 1000;
                let sign = self.signs.entry(*session).or_default();
                sign.timeout_us = if sign.timeout_us == 0 { timeout_us } else { sign.timeout_us.min(timeout_us) };
                if let Some(connection) = self.links.get_mut(link) {
                    connection.session = *session;
                }
                let (at, outlived) = match self.links.get(link) {
                    Some(connection) => (Some(connection.server), connection.outlived),
                    None => (None, false),
                };
                let is_own = at.is_some_and(|server| (session >> 56) as u8 == server.0 as u8);
                if truth.session(*session).is_none() && self.local_sessions && is_own {
                    self.local.entry(*session).or_insert((at.expect("it is its own"), outlived));
                } else if truth.session(*session).is_none() {
                    return Err(format!("session {session:#x} is given to a client, and nobody has committed it"));
                }
                self.note_sign(*link, *session);
            }
            ClientEvent::Refused { link, session } if self.may_be_refused(now, *link, *session) => {}
            ClientEvent::Refused { link, session } => {
                let closed = truth.session(*session).is_some_and(|life| life.closed.is_some());
                let epoch = self.links.get(link).map_or(0, |connection| connection.epoch);
                if !closed && self.ending.get(session).is_none_or(|end| end.epoch() < epoch) {
                    return Err(format!("session {session:#x} is refused as expired, and nobody ever ended it"));
                }
            }
            ClientEvent::Sent(asked) => {
                if let Some(connection) = self.links.get_mut(&asked.link) {
                    connection.sent_us.push_back(now);
                }
            }
            ClientEvent::Answered(answered) => self.note_sign(answered.asked.link, answered.asked.session),
            ClientEvent::Lost { link } => {
                self.links.remove(link);
            }
            ClientEvent::GaveUp { session } => self.given_up.push(*session),
            ClientEvent::Notified(_) | ClientEvent::Garbled { .. } => {}
        }
        Ok(())
    }
}

fn is_open(session: i64, at: Zxid, truth: &Truth) -> bool {
    truth.session(session).is_some_and(|life| life.created < at && life.closed.is_none_or(|closed| closed > at))
}

impl Property for Ephemerals {
    fn name(&self) -> &'static str {
        "ephemerals"
    }

    fn observe(&mut self, at: Moment, event: &Event, truth: &Truth) -> Result<(), String> {
        for committed in truth.committed_now() {
            self.on_committed(at.us, committed, truth)?;
        }
        if let Event::Crashed { server, .. } = event {
            self.local.values_mut().filter(|(at, _)| at == server).for_each(|(_, forgotten)| *forgotten = true);
            let its = self.links.values_mut().filter(|connection| connection.server == *server);
            its.for_each(|connection| connection.outlived = true);
        }
        if let Event::Role { server, .. } | Event::Crashed { server, .. } = event {
            self.following.remove(server);
        }
        if let Event::Role { server, role: RoleView::Following { leader, .. } | RoleView::Observing { leader, .. } } =
            event
        {
            self.following.insert(*server, *leader);
        }
        match event {
            Event::LocalSessions { .. } => self.local_sessions = true,
            Event::Role { server, role: RoleView::Leading { epoch, serving: true } } => {
                self.leading.entry(*server).or_insert(at.us);
                self.latest_epoch = self.latest_epoch.max(*epoch);
                self.last_leader_us = at.us;
            }
            Event::Role { server, .. } | Event::Crashed { server, .. } => {
                self.leading.remove(server);
                self.to_leaders.retain(|(leader, _), _| leader != server);
            }
            Event::Logged { server, zxid, txn } if self.leading.contains_key(server) => {
                let is_close = decode_header(txn).is_ok_and(|(_, kind)| kind == OpCode::CloseSession.number());
                if is_close && let Ok((header, _, _)) = decode_txn(txn) {
                    let last = self.ending.entry(header.client_id).or_default();
                    *last = (*last).max(*zxid);
                    if header.cxid == 0 {
                        return self.on_expired(at.us, *server, header.client_id, *zxid);
                    }
                }
            }
            Event::Healed => self.healed_us = Some(at.us),
            Event::Client(event) => return self.on_client(at.us, event, truth),
            _ => {}
        }
        Ok(())
    }

    fn at_end(&mut self, at: Moment, _settled: &[Settled], truth: &Truth) -> Result<(), String> {
        let Some(healed_us) = self.healed_us else { return Ok(()) };
        for session in &self.given_up {
            let Some(sign) = self.signs.get(session) else { continue };
            let since = sign.us.max(sign.begun_us).max(healed_us).max(self.last_leader_us);
            let is_open = truth.session(*session).is_some_and(|life| life.closed.is_none());
            if is_open && at.us > since + 3 * sign.timeout_us {
                let (silent, timeout) = ((at.us - since) / 1000, sign.timeout_us / 1000);
                return Err(format!(
                    "session {session:#x} was given up, {silent} ms passed, and it lives; {timeout} ms"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::sim::history::Op;
    use crate::wire::txn::CreateKind;

    /// A session with /e, whose client is connected to the leader.
    fn with_ephemeral() -> Story<Ephemerals> {
        let mut story = Story::begun();
        story.connected(LINK, SESSION);
        story.commit(zxid(1, 2), &create_kind(zxid(1, 2), SESSION, 1, "/e", 1, CreateKind::Ephemeral));
        story
    }

    fn close(at: Zxid, session: i64, cxid: i32, paths: &[&'static str]) -> bytes::Bytes {
        let paths = paths.iter().map(|path| (*path).into()).collect();
        txn(at, session, cxid, &Txn::CloseSession { paths: Some(paths) })
    }

    /// What a server said before it died may arrive after its death.
    #[test]
    fn a_session_of_one_server_dies_with_it_even_if_its_client_hears_of_it_later() {
        let link = |number| Link { client: 1, number };
        let session = 1 << 56 | 7;
        let connecting = |number, resumes| {
            Event::Client(ClientEvent::Connecting { link: link(number), server: server(1), resumes, seen: 0 })
        };
        let mut story = Story::<Ephemerals>::begun();
        story.good(Event::LocalSessions { upgrading: true });
        story.good(connecting(1, None));
        story.good(Event::Crashed { server: server(1), power: false });
        story.good(Event::Client(ClientEvent::Welcomed { link: link(1), session, timeout_ms: 1000 }));
        story.good(connecting(2, Some(session)));
        story.good(Event::Client(ClientEvent::Refused { link: link(2), session }));
    }

    #[test]
    fn a_session_closed_by_its_client_takes_its_ephemerals_along() {
        let mut story = with_ephemeral();
        story.commit(zxid(1, 3), &close(zxid(1, 3), SESSION, 2, &["/e"]));
    }

    /// An observer that was cut off before it heard that its session is everybody's asks for that again, and a new leader commits
    /// all of it at once.
    #[test]
    fn a_session_that_is_made_twice_lives_since_the_first_time() {
        let mut story = with_ephemeral();
        let late = create_kind(zxid(1, 3), SESSION, 2, "/late", 1, CreateKind::Ephemeral);
        story.good(logged(1, zxid(1, 3), &late));
        let again = txn(zxid(1, 4), SESSION, 0, &Txn::CreateSession { timeout_ms: 4000 });
        story.good(logged(1, zxid(1, 4), &again));
        story.good(applied(1, zxid(1, 4)));
        assert_eq!(story.truth.last(), zxid(1, 4));
    }

    #[test]
    fn an_ephemeral_without_a_session_is_seen() {
        let mut story = with_ephemeral();
        story.commit(zxid(1, 3), &close(zxid(1, 3), SESSION, 2, &["/e"]));
        let late = create_kind(zxid(1, 4), SESSION, 3, "/late", 1, CreateKind::Ephemeral);
        assert!(story.event_commit(zxid(1, 4), &late).unwrap_err().contains("which is not open"));
    }

    #[test]
    fn an_ephemeral_taken_away_with_somebody_elses_session_is_seen() {
        let mut story = with_ephemeral();
        story.connected(LINK_2, SESSION + 1);
        let at = zxid(1, 4);
        let why = story.event_commit(at, &close(at, SESSION + 1, 2, &["/e"])).unwrap_err();
        assert!(why.contains("takes /e of session 0x100 away"), "{why}");
    }

    #[test]
    fn a_session_that_is_silent_may_expire_and_not_before() {
        let mut story = with_ephemeral();
        story.good(sent(&asked(LINK, -2, Op::Ping)));
        story.pass(1000);
        story.good(answered(&asked(LINK, -2, Op::Ping), zxid(1, 2), 0, b""));
        story.pass(1500);
        story.bad(logged(1, zxid(1, 3), &close(zxid(1, 3), SESSION, 0, &["/e"])), "2500 ms after a sign of life");
        story.pass(1500);
        story.good(logged(1, zxid(1, 4), &close(zxid(1, 4), SESSION, 0, &["/e"])));
    }

    #[test]
    fn a_new_leader_gives_everybody_their_whole_timeout() {
        let mut story = with_ephemeral();
        story.pass(60_000);
        story.good(looking(1));
        story.good(looking(2));
        story.leads(1, 2);
        story.pass(2000);
        story.bad(logged(1, zxid(2, 1), &close(zxid(2, 1), SESSION, 0, &["/e"])), "2000 ms after");
    }

    #[test]
    fn a_deposed_leader_knows_only_what_it_was_told_itself() {
        let mut story = with_ephemeral();
        story.pass(2000);
        story.good(looking(2));
        story.leads(2, 2);
        story.pass(2500);
        let resume =
            |link, id| client(ClientEvent::Connecting { link, server: server(id), resumes: Some(SESSION), seen: 0 });
        story.good(resume(LINK_2, 2));
        story.good(client(ClientEvent::Welcomed { link: LINK_2, session: SESSION, timeout_ms: 4000 }));
        story.good(logged(1, zxid(1, 3), &close(zxid(1, 3), SESSION, 0, &["/e"])));
        story.pass(1600);
        let late = close(zxid(2, 1), SESSION, 0, &["/e"]);
        story.bad(logged(2, zxid(2, 1), &late), "1600 ms after a sign of life");
    }

    #[test]
    fn in_a_world_that_is_well_followers_pass_on_what_they_hear() {
        let mut story = with_ephemeral();
        story.good(Event::Healed);
        story.good(client(ClientEvent::Connecting {
            link: LINK_2,
            server: server(2),
            resumes: Some(SESSION),
            seen: 0,
        }));
        story.pass(20_000);
        let ping = asked(LINK_2, -2, Op::Ping);
        story.good(client(ClientEvent::Welcomed { link: LINK_2, session: SESSION, timeout_ms: 4000 }));
        story.good(sent(&ping));
        let answered = crate::sim::history::Asked { link: LINK_2, session: SESSION, xid: -2, op: Op::Ping };
        story.good(super::super::testing::answered(&std::rc::Rc::new(answered), zxid(1, 2), 0, b""));
        story.pass(500);
        story.bad(logged(1, zxid(1, 3), &close(zxid(1, 3), SESSION, 0, &["/e"])), "whose client spoke");
        // To whom nobody passes anything on any more.
        story.leads(3, 2);
        story.good(logged(1, zxid(1, 4), &close(zxid(1, 4), SESSION, 0, &["/e"])));
    }

    #[test]
    fn one_who_follows_a_leader_that_is_gone_tells_nobody() {
        let mut story = with_ephemeral();
        let observing = |leader| RoleView::Observing { leader: server(leader), serving: true };
        story.good(Event::Role { server: server(4), role: observing(1) });
        story.good(looking(1));
        story.good(looking(2));
        story.leads(2, 2);
        story.good(Event::Healed);
        story.good(connecting_to(4));
        story.pass(20_000);
        story.good(client(ClientEvent::Welcomed { link: LINK_2, session: SESSION, timeout_ms: 4000 }));
        let speaks = |story: &mut Story<Ephemerals>| {
            let ping = crate::sim::history::Asked { link: LINK_2, session: SESSION, xid: -2, op: Op::Ping };
            let ping = std::rc::Rc::new(ping);
            story.good(sent(&ping));
            story.good(answered(&ping, zxid(1, 2), 0, b""));
            story.pass(500);
        };
        speaks(&mut story);
        story.good(logged(2, zxid(2, 1), &close(zxid(2, 1), SESSION, 0, &["/e"])));
        story.good(Event::Role { server: server(4), role: observing(2) });
        speaks(&mut story);
        story.bad(logged(2, zxid(2, 2), &close(zxid(2, 2), SESSION, 0, &["/e"])), "whose client spoke");
    }

    fn connecting_to(id: i64) -> Event {
        client(ClientEvent::Connecting { link: LINK_2, server: server(id), resumes: Some(SESSION), seen: 0 })
    }

    #[test]
    fn a_refusal_without_an_end_is_seen() {
        let mut story = with_ephemeral();
        story.bad(client(ClientEvent::Refused { link: LINK, session: SESSION }), "nobody ever ended it");
        story.good(logged(1, zxid(1, 3), &close(zxid(1, 3), SESSION, 2, &["/e"])));
        story.good(client(ClientEvent::Refused { link: LINK, session: SESSION }));
    }

    #[test]
    fn a_refusal_because_of_what_a_deposed_leader_wants_is_seen() {
        let mut story = with_ephemeral();
        story.leads(2, 2);
        story.good(logged(1, zxid(1, 3), &close(zxid(1, 3), SESSION, 2, &["/e"])));
        story.good(connecting(LINK_2, Some(SESSION), 0));
        story.bad(client(ClientEvent::Refused { link: LINK_2, session: SESSION }), "nobody ever ended it");
        story.good(logged(2, zxid(2, 1), &close(zxid(2, 1), SESSION, 2, &["/e"])));
        story.good(client(ClientEvent::Refused { link: LINK_2, session: SESSION }));
    }

    #[test]
    fn a_session_that_nobody_committed_is_seen() {
        let mut story = with_ephemeral();
        let welcome = ClientEvent::Welcomed { link: LINK, session: 77, timeout_ms: 4000 };
        story.bad(client(welcome), "nobody has committed it");
    }

    #[test]
    fn a_session_given_up_that_never_ends_is_seen() {
        let mut story = with_ephemeral();
        story.good(client(ClientEvent::GaveUp { session: SESSION }));
        story.good(Event::Healed);
        story.pass(5_000);
        story.property.at_end(story.now, &[], &story.truth).unwrap();
        story.pass(10_000);
        assert!(story.property.at_end(story.now, &[], &story.truth).is_err());
    }
}
