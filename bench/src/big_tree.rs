//! A tree of any size, made over the wire: numbered znodes in directories of a thousand, each with data that names it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::client::{Client, Reply};
use crate::{BenchError, Doing, Result, wire};

const ROOT: &str = "/tree";
const PER_DIRECTORY: u64 = 1000;
/// Transactions sent ahead of their replies.
const MULTIS_IN_FLIGHT: usize = 16;
/// What a multi may hold at most, well below anybody's `jute.maxbuffer`.
const MULTI_BYTES: usize = 128 << 10;
/// A server that collects its garbage under a big tree may be silent for longer than any other.
const REPLY_TIMEOUT: Duration = Duration::from_secs(120);

/// The shape of a tree: how many znodes, and how many bytes of data each.
#[derive(clap::Args, Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BigTree {
    #[arg(long, default_value_t = 1_000_000)]
    pub nodes: u64,
    /// Bytes of each znode's data.
    #[arg(long, default_value_t = 100)]
    pub bytes: usize,
}

impl BigTree {
    pub fn path(self, number: u64) -> String {
        format!("{}/node-{number:010}", directory(number / PER_DIRECTORY))
    }

    /// Those its znodes lie in.
    pub fn directories(self) -> impl Iterator<Item = String> {
        (0..self.nodes.div_ceil(PER_DIRECTORY)).map(directory)
    }

    /// Begins with the number, as far as there is room for it.
    pub fn data(self, number: u64) -> Vec<u8> {
        let mut data = format!("{number:010} ").into_bytes();
        data.resize(self.bytes, b'v');
        data
    }

    /// Creates all of it below a root that is not there yet.
    pub fn make(self, server: SocketAddr) -> Result<()> {
        let mut client = Client::connect(server)?;
        client.set_reply_timeout(REPLY_TIMEOUT)?;
        let directories = self.directories().map(|path| (path, Vec::new()));
        let nodes = (0..self.nodes).map(|number| (self.path(number), self.data(number)));
        let root = std::iter::once((ROOT.to_owned(), Vec::new()));
        create_all(&mut client, root.chain(directories).chain(nodes))?;
        client.close()
    }

    /// Reads one znode and holds what comes against what was put there.
    pub fn check(self, client: &mut Client, number: u64) -> Result<()> {
        let path = self.path(number);
        let Reply { header, body } = client.call(wire::get_data(&path, false))?;
        let data = wire::buffer(&body).map(|(data, _)| data);
        match (header.err, data) {
            (0, Some(data)) if data == self.data(number) => Ok(()),
            (0, _) => Err(BenchError::new(format!("{path} holds something else: {}", wire::hex(&body)))),
            (err, _) => Err(BenchError::new(format!("reading {path}: {}", wire::error_name(err)))),
        }
    }
}

fn directory(number: u64) -> String {
    format!("{ROOT}/d-{number:06}")
}

fn create_all(client: &mut Client, nodes: impl Iterator<Item = (String, Vec<u8>)>) -> Result<()> {
    let mut in_flight = VecDeque::new();
    let mut multi = wire::Multi::new();
    let settle = |client: &mut Client, in_flight: &mut VecDeque<(i32, usize)>| -> Result<()> {
        let (xid, creates) = in_flight.pop_front().expect("only asked for what was sent");
        let Reply { header, body } = client.receive(xid)?;
        match (header.err, wire::creates_done(&body, creates)) {
            (0, true) => Ok(()),
            (err, _) => {
                Err(BenchError::new(format!("creating the tree: {} {}", wire::error_name(err), wire::hex(&body))))
            }
        }
    };
    for (path, data) in nodes {
        if multi.bytes() + path.len() + data.len() > MULTI_BYTES && multi.creates() > 0 {
            let creates = multi.creates();
            in_flight.push_back((client.send(multi.finish()).doing("creating the tree")?, creates));
            multi = wire::Multi::new();
            if in_flight.len() == MULTIS_IN_FLIGHT {
                settle(client, &mut in_flight)?;
            }
        }
        multi.create(&path, &data);
    }
    let creates = multi.creates();
    in_flight.push_back((client.send(multi.finish())?, creates));
    while !in_flight.is_empty() {
        settle(client, &mut in_flight)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_znode_has_its_own_path_and_data() {
        let tree = BigTree { nodes: 3000, bytes: 100 };
        assert_eq!(tree.path(0), "/tree/d-000000/node-0000000000");
        assert_eq!(tree.path(2999), "/tree/d-000002/node-0000002999");
        assert_eq!(tree.data(7).len(), 100);
        assert_ne!(tree.data(7), tree.data(8));
        assert_eq!(BigTree { nodes: 1, bytes: 4 }.data(7), b"0000");
    }
}
