//! What lies between the servers, and between them and their clients.
//!
//! Connections are TCP: what one end sends arrives in order, each message later than it was sent, until the connection breaks;
//! then a suffix of it is lost, in each direction another one, and each end hears of it in its own time, or never. Messages
//! change their order only between connections. Election messages travel on connections of their own that the shells of both
//! ends keep up: of what is not sent yet only the newest is kept, what was on its way when such a connection broke is lost, and
//! the last one may come twice.
//!
//! A way between two parties can be cut, each direction on its own: what is on its way then waits (TCP tries again) until the
//! way is free or the connection is given up.

use std::collections::{BTreeMap, VecDeque};

use super::chance::{Chance, Draw};
use super::queue::{Happening, Queue, TcpId};
use crate::core::LinkMessage;
use crate::wire::election::Notification;

/// A place in the network: first all servers, then all clients.
pub type Party = usize;

/// What travels on a connection.
#[derive(Debug)]
pub enum Payload {
    /// For whoever connected: the first thing that comes from the other end. `attempt` is whose it was.
    Opened {
        attempt: Option<u32>,
    },
    Link(LinkMessage),
    /// Complete frames.
    Frames(Vec<u8>),
    /// Nothing comes after this.
    End,
}

impl Payload {
    fn cost_bytes(&self) -> usize {
        match self {
            Payload::Link(message) => message.cost_bytes(),
            Payload::Frames(frames) => frames.len(),
            Payload::Opened { .. } | Payload::End => 0,
        }
    }
}

/// What one end of a connection sends.
#[derive(Debug, Default)]
struct Direction {
    /// In its kernel, or on its way: when it arrives at the earliest, in order.
    flying: VecDeque<(u64, Payload)>,
    flying_bytes: usize,
    /// In its process: the kernel has no room.
    waiting: VecDeque<Payload>,
    /// An `Arrival` of the front is decided.
    decided: bool,
    /// The receiver does not read.
    held: bool,
    /// What is sent from now on is lost.
    broken: bool,
}

#[derive(Debug)]
struct Tcp {
    /// Who connected, and to whom.
    parties: [Party; 2],
    /// Of this end, still held by its process.
    open: [bool; 2],
    /// `Payload::Opened` has arrived.
    opened: bool,
    directions: [Direction; 2],
}

#[derive(Debug, Default)]
struct ElectionLine {
    unsent: Option<Notification>,
    /// A sender is about to take it up.
    decided: bool,
    flying: VecDeque<(u64, Notification)>,
    last: Option<Notification>,
    stalled: bool,
}

/// How a network is, drawn from the seed.
#[derive(Clone, Debug)]
pub struct NetworkPlan {
    /// Of most messages.
    pub latency_us: u64,
    /// What a kernel takes of one direction of a connection before its process has to wait.
    pub buffer_bytes: usize,
}

#[derive(Debug)]
pub struct Network {
    plan: NetworkPlan,
    chance: Chance,
    parties: usize,
    servers: usize,
    tcps: BTreeMap<TcpId, Tcp>,
    next_tcp: TcpId,
    lines: Vec<ElectionLine>,
    /// Ways that are cut, by how many faults.
    cuts: Vec<u32>,
    /// How many times as long as usual a message takes.
    slowness: Vec<u64>,
}

/// What arrived at an end.
#[derive(Debug)]
pub struct Arrived {
    pub sender: Party,
    pub party: Party,
    /// None: nobody is there any more.
    pub payload: Option<Payload>,
    /// Whoever connected knows that it did.
    pub opened: bool,
    /// What the kernel of the sender has taken over meanwhile.
    pub taken_bytes: usize,
}

impl Network {
    pub fn new(plan: NetworkPlan, servers: usize, clients: usize, chance: Chance) -> Network {
        let parties = servers + clients;
        Network {
            plan,
            chance,
            parties,
            servers,
            tcps: BTreeMap::new(),
            next_tcp: 1,
            lines: (0..servers * servers).map(|_| ElectionLine::default()).collect(),
            cuts: vec![0; parties * parties],
            slowness: vec![1; parties * parties],
        }
    }

    // --- ways ---

    pub fn is_cut(&self, from: Party, to: Party) -> bool {
        self.cuts[from * self.parties + to] > 0
    }

    pub fn cut(&mut self, from: Party, to: Party) {
        self.cuts[from * self.parties + to] += 1;
    }

    /// Takes one cut back. What waited for it goes on its way.
    pub fn mend(&mut self, now_us: u64, from: Party, to: Party, queue: &mut Queue) {
        let cuts = &mut self.cuts[from * self.parties + to];
        *cuts -= 1;
        if *cuts > 0 {
            return;
        }
        for (id, tcp) in &mut self.tcps {
            for side in 0..2 {
                let (sender, receiver) = (tcp.parties[side], tcp.parties[1 - side]);
                if (sender, receiver) == (from, to) {
                    // TCP tries again less and less often.
                    let again_us = now_us + self.chance.about(200_000);
                    tcp.directions[side].decide(*id, side, again_us, queue);
                }
            }
        }
        if from < self.servers && to < self.servers {
            let line = &mut self.lines[from * self.servers + to];
            if std::mem::take(&mut line.stalled) {
                let again_us = now_us + self.chance.about(200_000);
                queue.at(again_us, Happening::ElectionArrival { from, to });
            }
            if line.unsent.is_some() && !line.decided {
                line.decided = true;
                queue.at(now_us + self.chance.about(200_000), Happening::ElectionSent { from, to });
            }
        }
    }

    pub fn set_slowness(&mut self, from: Party, to: Party, times: u64) {
        self.slowness[from * self.parties + to] = times;
    }

    /// How long one message takes.
    pub fn latency_us(&mut self, from: Party, to: Party) -> u64 {
        self.chance.about(self.plan.latency_us) * self.slowness[from * self.parties + to] + 1
    }

    // --- connections ---

    /// The end that was connected to knows of it; the other is about to hear of it.
    pub fn connect(&mut self, now_us: u64, from: Party, to: Party, attempt: Option<u32>, queue: &mut Queue) -> TcpId {
        let id = self.next_tcp;
        self.next_tcp += 1;
        let directions = [Direction::default(), Direction::default()];
        self.tcps.insert(id, Tcp { parties: [from, to], open: [true, true], opened: false, directions });
        self.send(now_us, id, 1, Payload::Opened { attempt }, queue);
        id
    }

    /// Who gets what this side sends.
    pub fn receiver(&self, id: TcpId, side: usize) -> Option<Party> {
        self.tcps.get(&id).map(|tcp| tcp.parties[1 - side])
    }

    /// Whether this end is still held.
    pub fn is_open(&self, tcp: TcpId, side: usize) -> bool {
        self.tcps.get(&tcp).is_some_and(|tcp| tcp.open[side])
    }

    /// Who would hear what this side says right now: an end that knows of the connection, and holds it.
    pub fn hearer(&self, id: TcpId, side: usize) -> Option<Party> {
        let tcp = self.tcps.get(&id).filter(|tcp| tcp.open[1 - side] && (side == 0 || tcp.opened))?;
        Some(tcp.parties[1 - side])
    }

    /// Sends; says how many bytes the kernel took over, of this and of what waited.
    pub fn send(&mut self, now_us: u64, id: TcpId, side: usize, payload: Payload, queue: &mut Queue) -> usize {
        let Some(tcp) = self.tcps.get_mut(&id).filter(|tcp| tcp.open[side]) else { return 0 };
        tcp.directions[side].waiting.push_back(payload);
        self.pump(now_us, id, side, queue)
    }

    /// This end is given up; what it sent may still arrive, and then the end.
    pub fn close(&mut self, now_us: u64, id: TcpId, side: usize, queue: &mut Queue) {
        self.send(now_us, id, side, Payload::End, queue);
        self.forget(now_us, id, side, queue);
    }

    /// The same, and the other end never hears of it.
    pub fn forget(&mut self, now_us: u64, id: TcpId, side: usize, queue: &mut Queue) {
        let Some(tcp) = self.tcps.get_mut(&id) else { return };
        tcp.open[side] = false;
        // Nobody reads here any more, so nobody is kept waiting.
        tcp.directions[1 - side].held = false;
        tcp.directions[1 - side].decide(id, 1 - side, now_us, queue);
        self.forget_if_over(id);
    }

    /// The receiver of this direction reads, or does not.
    pub fn set_reading(&mut self, now_us: u64, id: TcpId, receiver_side: usize, reading: bool, queue: &mut Queue) {
        let Some(tcp) = self.tcps.get_mut(&id) else { return };
        let direction = &mut tcp.directions[1 - receiver_side];
        direction.held = !reading;
        if reading {
            direction.decide(id, 1 - receiver_side, now_us, queue);
        }
    }

    /// The front of a direction has crossed the network, if nothing is in its way.
    pub fn arrival(&mut self, now_us: u64, id: TcpId, side: usize, queue: &mut Queue) -> Option<Arrived> {
        let tcp = self.tcps.get_mut(&id)?;
        let (sender, receiver) = (tcp.parties[side], tcp.parties[1 - side]);
        let is_cut = self.cuts[sender * self.parties + receiver] > 0;
        let direction = &mut tcp.directions[side];
        direction.decided = false;
        if is_cut || direction.held {
            return None;
        }
        let (due_us, _) = direction.flying.front()?;
        if *due_us > now_us {
            let due_us = *due_us;
            direction.decide(id, side, due_us, queue);
            return None;
        }
        let (_, payload) = direction.flying.pop_front().expect("it was looked at");
        direction.flying_bytes -= payload.cost_bytes();
        direction.decide(id, side, now_us, queue);
        let is_heard = tcp.open[1 - side];
        match payload {
            Payload::Opened { .. } => tcp.opened = true,
            Payload::End => tcp.open[1 - side] = false,
            Payload::Link(_) | Payload::Frames(_) => {}
        }
        let opened = tcp.opened;
        let taken_bytes = self.pump(now_us, id, side, queue);
        self.forget_if_over(id);
        Some(Arrived { sender, party: receiver, payload: is_heard.then_some(payload), opened, taken_bytes })
    }

    /// The connection breaks: a suffix of each direction is lost, and nothing follows it.
    pub fn break_tcp(&mut self, now_us: u64, id: TcpId, queue: &mut Queue) {
        for side in 0..2 {
            // Mostly soon, sometimes after a long time, and sometimes an end never hears of it: it has to notice by itself.
            let told_us = match self.chance.below(10) {
                0..6 => Some(self.chance.about(20_000)),
                6..9 => Some(self.chance.about(3_000_000)),
                _ => None,
            };
            self.lose_suffix(now_us, id, side, told_us, queue);
        }
        self.forget_if_over(id);
    }

    /// One end's machine or process is gone. Its kernel may bring what it had taken to the other end (`told_us`), and tells it.
    pub fn party_is_gone(&mut self, now_us: u64, party: Party, power: bool, queue: &mut Queue) {
        let ids: Vec<TcpId> =
            self.tcps.iter().filter(|(_, tcp)| tcp.parties.contains(&party)).map(|(id, _)| *id).collect();
        for id in ids {
            for side in 0..2 {
                let tcp = &mut self.tcps.get_mut(&id).expect("listed just now");
                if tcp.parties[side] != party {
                    continue;
                }
                if tcp.open[side] {
                    tcp.open[side] = false;
                    tcp.directions[side].waiting.clear();
                    if power || self.chance.coin() {
                        // Without power nobody tells the other end before the machine is up again and asked.
                        let told_us = if power { self.chance.about(4_000_000) } else { self.chance.about(2_000) };
                        self.lose_suffix(now_us, id, side, Some(told_us), queue);
                    } else {
                        tcp.directions[side].flying.push_back((now_us, Payload::End));
                        tcp.directions[side].broken = true;
                        tcp.directions[side].decide(id, side, now_us, queue);
                    }
                }
                let towards = &mut self.tcps.get_mut(&id).expect("listed just now").directions[1 - side];
                towards.broken = true;
                towards.flying.clear();
                towards.waiting.clear();
                towards.flying_bytes = 0;
            }
            self.forget_if_over(id);
        }
        if party < self.servers {
            for other in 0..self.servers {
                *self.line(party, other) =
                    ElectionLine { decided: self.line(party, other).decided, ..ElectionLine::default() };
                let line = self.line(other, party);
                line.flying.clear();
                line.stalled = false;
            }
        }
    }

    /// Connections between these kinds of parties, for faults to choose from.
    pub fn connections(&self, clients: bool) -> Vec<TcpId> {
        let wanted =
            |tcp: &Tcp| (tcp.parties[0] >= self.servers) == clients && !tcp.directions.iter().any(|d| d.broken);
        self.tcps.iter().filter(|(_, tcp)| wanted(tcp)).map(|(id, _)| *id).collect()
    }

    fn lose_suffix(&mut self, now_us: u64, id: TcpId, side: usize, told_us: Option<u64>, queue: &mut Queue) {
        let Some(tcp) = self.tcps.get_mut(&id) else { return };
        let direction = &mut tcp.directions[side];
        if direction.broken {
            return;
        }
        direction.broken = true;
        direction.waiting.clear();
        let kept = self.chance.below(direction.flying.len() as u64 + 1) as usize;
        // The cost of what is lost stays in the kernel's buffer: it would send it if it could.
        direction.flying.truncate(kept);
        let last_us = direction.flying.back().map_or(now_us, |(due_us, _)| (*due_us).max(now_us));
        if let Some(told_us) = told_us {
            direction.flying.push_back((last_us + told_us, Payload::End));
        }
        let first_us = direction.flying.front().map_or(now_us, |(due_us, _)| *due_us);
        direction.decide(id, side, first_us.max(now_us), queue);
    }

    /// Moves what waits into the kernel as far as there is room.
    fn pump(&mut self, now_us: u64, id: TcpId, side: usize, queue: &mut Queue) -> usize {
        let Some(tcp) = self.tcps.get_mut(&id) else { return 0 };
        let (sender, receiver) = (tcp.parties[side], tcp.parties[1 - side]);
        let direction = &mut tcp.directions[side];
        let mut taken_bytes = 0;
        while direction.flying_bytes < self.plan.buffer_bytes
            && let Some(payload) = direction.waiting.pop_front()
        {
            let cost_bytes = payload.cost_bytes();
            taken_bytes += cost_bytes;
            direction.flying_bytes += cost_bytes;
            if direction.broken {
                continue;
            }
            let slowness = self.slowness[sender * self.parties + receiver];
            let due_us = now_us + self.chance.about(self.plan.latency_us) * slowness + 1;
            let due_us = direction.flying.back().map_or(due_us, |(before_us, _)| due_us.max(*before_us));
            direction.flying.push_back((due_us, payload));
            direction.decide(id, side, due_us, queue);
        }
        taken_bytes
    }

    fn forget_if_over(&mut self, id: TcpId) {
        if self.tcps.get(&id).is_some_and(|tcp| tcp.open == [false, false]) {
            self.tcps.remove(&id);
        }
    }

    // --- elections ---

    /// Takes the place of what is not sent yet.
    pub fn notify(&mut self, now_us: u64, from: usize, to: usize, notification: Notification, queue: &mut Queue) {
        let delay_us = self.chance.below(200);
        let line = self.line(from, to);
        line.unsent = Some(notification);
        if !line.decided {
            line.decided = true;
            queue.at(now_us + delay_us, Happening::ElectionSent { from, to });
        }
    }

    /// The connection takes up what is to be sent. `is_up`: of the receiver.
    pub fn election_sent(&mut self, now_us: u64, from: usize, to: usize, is_up: bool, queue: &mut Queue) {
        // A kernel takes something even when the way is cut; not much of that is ever seen.
        let reachable = is_up && (!self.is_cut(from, to) || self.chance.one_in(4));
        let latency_us = self.latency_us(from, to);
        let again_us = self.chance.about(300_000);
        let line = self.line(from, to);
        line.decided = false;
        if line.unsent.is_none() {
            return;
        }
        if !reachable {
            line.decided = true;
            queue.at(now_us + again_us, Happening::ElectionSent { from, to });
            return;
        }
        let notification = line.unsent.take().expect("looked at just now");
        line.last = Some(notification.clone());
        let due_us =
            line.flying.back().map_or(now_us + latency_us, |(before_us, _)| (now_us + latency_us).max(*before_us));
        line.flying.push_back((due_us, notification));
        queue.at(due_us, Happening::ElectionArrival { from, to });
    }

    pub fn election_arrival(&mut self, now_us: u64, from: usize, to: usize, queue: &mut Queue) -> Option<Notification> {
        let is_cut = self.is_cut(from, to);
        let line = self.line(from, to);
        let (due_us, _) = line.flying.front()?;
        if is_cut {
            line.stalled = true;
            return None;
        }
        if *due_us > now_us {
            return None; // of one that was lost; the front has its own
        }
        let (_, notification) = line.flying.pop_front().expect("looked at just now");
        if let Some((due_us, _)) = line.flying.front() {
            queue.at((*due_us).max(now_us), Happening::ElectionArrival { from, to });
        }
        Some(notification)
    }

    /// A connection of electors breaks; the last message may be sent again by the next one.
    pub fn break_election_line(&mut self, now_us: u64, from: usize, to: usize, queue: &mut Queue) {
        let (again, delay_us) = (self.chance.coin(), self.chance.about(100_000));
        let line = self.line(from, to);
        line.flying.clear();
        line.stalled = false;
        // Java: `SendWorker.run`, `lastMessageSent`.
        if again && line.unsent.is_none() {
            line.unsent = line.last.clone();
        }
        if line.unsent.is_some() && !line.decided {
            line.decided = true;
            queue.at(now_us + delay_us, Happening::ElectionSent { from, to });
        }
    }

    fn line(&mut self, from: usize, to: usize) -> &mut ElectionLine {
        &mut self.lines[from * self.servers + to]
    }
}

impl Direction {
    /// The front is looked at then, unless that was decided already.
    fn decide(&mut self, tcp: TcpId, side: usize, us: u64, queue: &mut Queue) {
        if !self.decided
            && !self.held
            && let Some((due_us, _)) = self.flying.front()
        {
            self.decided = true;
            queue.at(us.max(*due_us), Happening::Arrival { tcp, side });
        }
    }
}
