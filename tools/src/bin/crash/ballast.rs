//! Znodes that only lie there: so many that a start cannot have all of them in memory at once, and a snapshot takes a while.

use std::collections::VecDeque;

use ringkeeper_tools::Result;
use ringkeeper_tools::wire::{Client, Request, code};

use ringkeeper_tools::load::model::data_of;
use ringkeeper_tools::load::random::Random;

const ROOT: &str = "/crash/ballast";
const PER_DIRECTORY: u64 = 1000;
const PER_MULTI: u64 = 100;
const MULTIS_IN_FLIGHT: usize = 16;
/// Looked at after each restart.
const CHECKED: u64 = 50;

/// Is there, every znode of it, from the moment it was loaded on.
#[derive(Debug)]
pub struct Ballast {
    count: u64,
}

impl Ballast {
    /// `idle`: others who are connected meanwhile. The load may take longer than a silent session lives.
    pub fn load(client: &mut Client, count: u64, idle: &mut [Client]) -> Result<Ballast> {
        let create = |path: String, data| Request::Create { path, data, ephemeral: false };
        let directories = (0..count.div_ceil(PER_DIRECTORY)).map(|number| create(directory(number), Vec::new()));
        let nodes = (0..count).map(|number| create(path(number), data_of(number)));
        let all: Vec<Request> =
            std::iter::once(create(ROOT.to_owned(), Vec::new())).chain(directories).chain(nodes).collect();
        let mut in_flight = VecDeque::new();
        for part in all.chunks(PER_MULTI as usize) {
            if in_flight.len() == MULTIS_IN_FLIGHT {
                settle(client, &mut in_flight)?;
                for other in &mut *idle {
                    other.ask(&Request::Exists { path: ROOT.to_owned() })?;
                }
            }
            let (xid, frame) = client.encode(&Request::Multi(part.to_vec()));
            client.send(&frame)?;
            in_flight.push_back(xid);
        }
        while !in_flight.is_empty() {
            settle(client, &mut in_flight)?;
        }
        client.ask(&Request::CloseSession)?;
        Ok(Ballast { count })
    }

    /// Some of it, drawn anew each time. Returns how many.
    pub fn check(&self, client: &mut Client, random: &mut Random) -> Result<u64> {
        for _ in 0..CHECKED {
            let number = random.below(self.count);
            let path = path(number);
            let (data, stat) = client.ask(&Request::Get { path: path.clone() })?.data()?;
            if data != data_of(number) || stat.version != 0 {
                return Err(format!("{path} has changed: {} bytes, version {}", data.len(), stat.version).into());
            }
        }
        Ok(CHECKED)
    }
}

fn settle(client: &mut Client, in_flight: &mut VecDeque<i32>) -> Result<()> {
    let reply = client.reply()?;
    let xid = in_flight.pop_front().ok_or("an answer to nothing")?;
    if reply.xid != xid || reply.write_code()? != code::OK {
        return Err(format!("the ballast was not taken: {reply:?}").into());
    }
    Ok(())
}

fn directory(number: u64) -> String {
    format!("{ROOT}/d-{number:06}")
}

fn path(number: u64) -> String {
    format!("{}/n-{number:010}", directory(number / PER_DIRECTORY))
}
