//! A client of the ensemble: what it asks, what it makes of the answers, when it looks for another server.
//!
//! It has one connection at a time, which is TCP: what is sent arrives in order or not at all. A pure state machine: the world
//! gives it time, chance and frames.

use ringkeeper_storage::backend::memory::Chance;

use super::history::ClientEvent;

/// What can happen to a client.
#[derive(Debug)]
pub enum ClientInput<'a> {
    /// It may begin: the first input, once.
    Began,
    /// `ClientOutput::Connect` succeeded.
    Connected,
    /// One or more complete frames, each with its length.
    Received(&'a [u8]),
    /// The connection broke, or could not be made. Not said of one that this client gave up itself.
    Closed,
    /// The moment of `ClientOutput::WakeAt` has come.
    Woken,
    /// No more faults from here on; finish what was begun, then be content (`Client::is_content`).
    Healed,
}

/// What a client wants done.
#[derive(Debug)]
pub enum ClientOutput {
    /// Connect to the server of this place in the list; the connection there was before is given up.
    Connect { server: usize },
    /// Complete frames, each with its length. Without a connection they are lost.
    Send(Vec<u8>),
    /// Give the connection up: what was sent may still arrive.
    Close,
    /// One alarm a client; a later one takes its place. The world's microseconds.
    WakeAt(u64),
    /// For the properties.
    Event(ClientEvent),
}

/// What the world decided about a client.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// Its number, from 0.
    pub client: usize,
    pub servers: usize,
    pub tick_ms: u32,
    pub chance: Chance,
}

#[derive(Debug)]
pub struct Client {
    plan: ClientPlan,
}

impl Client {
    pub fn new(plan: ClientPlan) -> Client {
        Client { plan }
    }

    /// Consumes one input; effects go to `out`.
    pub fn step(&mut self, now_us: u64, input: ClientInput<'_>, out: &mut Vec<ClientOutput>) {
        let _ = (now_us, input, out, &self.plan);
    }

    /// After `Healed`: it was served everything it still wanted.
    pub fn is_content(&self) -> bool {
        true
    }
}
