//! How the parties of the world meet: connections that are made, what arrives on them, and the clients at their other ends.

use super::chance::Draw;
use super::client::{ClientInput, ClientOutput};
use super::event::Event;
use super::network::{Arrived, Party, Payload};
use super::queue::{Happening, TcpId};
use super::world::{Knock, Search, Step, World};
use crate::core::{ConnectionId, Input, LinkId, ServerId};

impl World {
    pub(super) fn number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number
    }

    pub(super) fn search(&mut self, s: usize, master: ServerId, observes: bool, limit_ms: u64) -> Step {
        assert!(self.finds(s, master), "server {} does not know where {master:?} is", s + 1);
        let (master, attempt) = (self.place(master), self.number());
        let until_us = self.now_us + limit_ms * 1000;
        self.servers[s].search = Some(Search { master, observes, until_us, attempt });
        self.look_for_master(s, attempt)
    }

    pub(super) fn look_for_master(&mut self, s: usize, attempt: u32) -> Step {
        let (now_us, server) = (self.now_us, &mut self.servers[s]);
        let Some(search) = server.search.as_ref().filter(|search| search.attempt == attempt) else { return Ok(()) };
        if now_us >= search.until_us {
            server.search = None;
            return self.turn(s, Input::MasterUnreachable);
        }
        let (to, life, until_us) = (search.master, server.life, search.until_us);
        self.knock_at(s, to, Some(attempt));
        let again_us = (now_us + self.chance.about(100_000)).min(until_us);
        self.queue.at(again_us, Happening::MasterRetry { server: s, life, attempt });
        Ok(())
    }

    pub(super) fn knock_at(&mut self, from: Party, to: usize, attempt: Option<u32>) -> u32 {
        let knock = self.number();
        self.knocks.insert(knock, Knock { from, to, attempt, tries: 0 });
        let latency_us = self.network.latency_us(from, to);
        self.queue.at(self.now_us + latency_us, Happening::Knock { knock });
        knock
    }

    pub(super) fn knock(&mut self, number: u32) -> Step {
        let Some(mut knock) = self.knocks.remove(&number) else { return Ok(()) };
        let (from, to) = (knock.from, knock.to);
        let is_wanted = match knock.attempt {
            None => self.clients[from - self.servers.len()].knock == Some(number),
            Some(attempt) => self.servers[from].search.as_ref().is_some_and(|search| search.attempt == attempt),
        };
        if !is_wanted {
            return Ok(());
        }
        if self.network.is_cut(from, to) || self.network.is_cut(to, from) {
            // As TCP does, and then the shell.
            knock.tries += 1;
            if knock.tries < 4 {
                let again_us = self.now_us + self.chance.about(1_000_000);
                self.knocks.insert(number, knock);
                self.queue.at(again_us, Happening::Knock { knock: number });
                return Ok(());
            }
            return self.not_connected(from);
        }
        let server = &self.servers[to];
        let is_open = match self.servers.get(from).and_then(|from| from.search.as_ref()) {
            Some(search) if search.observes => server.accepts_observers,
            Some(_) => server.accepts,
            None => true,
        };
        if server.process.is_none() || !is_open {
            return self.not_connected(from);
        }
        let tcp = self.network.connect(self.now_us, from, to, knock.attempt, &mut self.queue);
        match knock.attempt {
            Some(_) => self.turn(to, Input::LearnerConnected { link: link_of(tcp, 1) }),
            None => {
                let client = from - self.servers.len();
                (self.clients[client].connection, self.clients[client].knock) = (Some(tcp), None);
                let address = [10, 1, (client >> 8) as u8, client as u8];
                let peer = (address, 1024 + (tcp % 60_000) as u16).into();
                self.turn(to, Input::Connected { connection: ConnectionId(tcp.into()), peer })
            }
        }
    }

    /// A server tries again by itself.
    pub(super) fn not_connected(&mut self, from: Party) -> Step {
        match from.checked_sub(self.servers.len()) {
            None => Ok(()),
            Some(client) => {
                self.clients[client].knock = None;
                self.client_step(client, ClientInput::Closed)
            }
        }
    }

    pub(super) fn arrival(&mut self, tcp: TcpId, side: usize) -> Step {
        let Some(arrived) = self.network.arrival(self.now_us, tcp, side, &mut self.queue) else { return Ok(()) };
        let Arrived { party, sender, payload, opened, taken_bytes } = arrived;
        if taken_bytes > 0 && sender < self.servers.len() && self.network.is_open(tcp, side) {
            let is_client = party >= self.servers.len();
            let bytes = taken_bytes;
            self.give(
                sender,
                match is_client {
                    true => Input::Sent { connection: ConnectionId(tcp.into()), bytes },
                    false => Input::LinkSent { link: link_of(tcp, side), bytes },
                },
            )?;
        }
        let here = 1 - side;
        match payload {
            None => Ok(()),
            Some(Payload::Opened { attempt: None }) => self.client_arrival(party, tcp, ClientInput::Connected),
            Some(Payload::Opened { attempt }) => {
                let search = &mut self.servers[party].search;
                if search.as_ref().map(|search| search.attempt) == attempt {
                    *search = None;
                    return self.turn(party, Input::MasterConnected { link: link_of(tcp, here) });
                }
                self.network.close(self.now_us, tcp, here, &mut self.queue);
                Ok(())
            }
            Some(Payload::Link(message)) => self.turn(party, Input::LinkReceived { link: link_of(tcp, here), message }),
            Some(Payload::Frames(frames)) if party >= self.servers.len() => {
                self.client_arrival(party, tcp, ClientInput::Received(&frames))
            }
            Some(Payload::Frames(frames)) => {
                self.turn(party, Input::Received { connection: ConnectionId(tcp.into()), frames: &frames })
            }
            Some(Payload::End) if party >= self.servers.len() => self.client_arrival(party, tcp, ClientInput::Closed),
            Some(Payload::End) if sender >= self.servers.len() => {
                self.turn(party, Input::Disconnected { connection: ConnectionId(tcp.into()) })
            }
            // Of one that was never opened here nothing is known here.
            Some(Payload::End) if here == 0 && !opened => Ok(()),
            Some(Payload::End) => self.turn(party, Input::LinkClosed { link: link_of(tcp, here) }),
        }
    }

    // --- clients ---

    pub(super) fn client_arrival(&mut self, party: Party, tcp: TcpId, input: ClientInput<'_>) -> Step {
        let client = party - self.servers.len();
        if self.clients[client].connection != Some(tcp) {
            return Ok(());
        }
        if matches!(input, ClientInput::Closed) {
            self.clients[client].connection = None;
        }
        self.client_step(client, input)
    }

    pub(super) fn client_step(&mut self, client: usize, input: ClientInput<'_>) -> Step {
        let mut outputs = Vec::new();
        self.clients[client].client.step(self.now_us, input, &mut outputs);
        for output in outputs {
            match output {
                ClientOutput::Connect { server } => {
                    match self.chance.coin() {
                        true => self.client_closes(client),
                        false => self.client_forgets(client),
                    }
                    let knock = self.knock_at(self.servers.len() + client, server, None);
                    self.clients[client].knock = Some(knock);
                }
                ClientOutput::Send(frames) => {
                    self.trace.mix(frames.len() as u64);
                    if let Some(tcp) = self.clients[client].connection {
                        self.network.send(self.now_us, tcp, 0, Payload::Frames(frames), &mut self.queue);
                    }
                }
                ClientOutput::Close => self.client_closes(client),
                ClientOutput::Reading(reading) => {
                    if let Some(tcp) = self.clients[client].connection {
                        self.network.set_reading(self.now_us, tcp, 0, reading, &mut self.queue);
                    }
                }
                ClientOutput::WakeAt(us) => {
                    let (us, place) = (us.max(self.now_us), &mut self.clients[client]);
                    // One that comes too early sees that it does, and asks for the next.
                    if place.alarm_us.is_none_or(|decided_us| us < decided_us) {
                        place.alarm_us = Some(us);
                        place.alarm += 1;
                        self.queue.at(us, Happening::ClientAlarm { client, alarm: place.alarm });
                    }
                }
                ClientOutput::Event(event) => self.tell(Event::Client(event))?,
            }
        }
        Ok(())
    }

    pub(super) fn client_closes(&mut self, client: usize) {
        let place = &mut self.clients[client];
        place.knock = None;
        if let Some(tcp) = place.connection.take() {
            self.network.close(self.now_us, tcp, 0, &mut self.queue);
        }
    }

    /// The other end never hears of it: a laptop that was closed.
    pub(super) fn client_forgets(&mut self, client: usize) {
        let place = &mut self.clients[client];
        place.knock = None;
        if let Some(tcp) = place.connection.take() {
            self.network.forget(self.now_us, tcp, 0, &mut self.queue);
        }
    }
}

/// The ends of a connection have different names.
pub(super) fn link_of(tcp: TcpId, side: usize) -> LinkId {
    LinkId(u64::from(tcp) * 2 + side as u64)
}

pub(super) fn tcp_of(link: LinkId) -> (TcpId, usize) {
    ((link.0 / 2) as TcpId, (link.0 % 2) as usize)
}
