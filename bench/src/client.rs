//! A plain blocking client: one session that prepares znodes before a run and removes them after it.

use std::collections::VecDeque;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::wire::{self, ReplyHeader};
use crate::{BenchError, Doing, Result};

/// Longest wait for one reply.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for a four-letter word, of a server that serves.
const WORD_TIMEOUT: Duration = Duration::from_secs(20);

/// Requests sent ahead of their replies by [`Client::call_all`].
const PIPELINE_DEPTH: usize = 200;

pub const SESSION_TIMEOUT_MS: i32 = 40_000;

pub struct Client {
    server: SocketAddr,
    stream: BufReader<TcpStream>,
    xid: i32,
}

pub struct Reply {
    pub header: ReplyHeader,
    pub body: Vec<u8>,
}

impl Client {
    /// Opens a session.
    pub fn connect(server: SocketAddr) -> Result<Client> {
        Client::connect_within(server, REPLY_TIMEOUT)
    }

    /// The same, and gives up after so long. The limit holds for later replies too.
    pub fn connect_within(server: SocketAddr, limit: Duration) -> Result<Client> {
        let stream = TcpStream::connect(server).doing(format_args!("connect to {server}"))?;
        stream.set_nodelay(true).doing("TCP_NODELAY")?;
        stream.set_read_timeout(Some(limit)).doing("SO_RCVTIMEO")?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT)).doing("SO_SNDTIMEO")?;
        let mut client = Client { server, stream: BufReader::new(stream), xid: 0 };
        client.write(&wire::connect_request(SESSION_TIMEOUT_MS))?;
        wire::connect_response(&client.frame()?)?;
        Ok(client)
    }

    /// For servers that may be silent for longer.
    pub fn set_reply_timeout(&self, limit: Duration) -> Result<()> {
        self.stream.get_ref().set_read_timeout(Some(limit)).doing("SO_RCVTIMEO")
    }

    /// Sends a request and returns its xid; [`Client::receive`] takes the replies in the same order.
    pub fn send(&mut self, mut request: Vec<u8>) -> Result<i32> {
        self.xid += 1;
        wire::stamp_xid(&mut request, self.xid);
        self.write(&request)?;
        Ok(self.xid)
    }

    /// The reply to request `xid`. Notifications, which this client never asks for, are errors like any other frame.
    pub fn receive(&mut self, xid: i32) -> Result<Reply> {
        let frame = self.frame()?;
        let (header, body) = wire::reply(&frame)?;
        if header.xid != xid {
            return Err(BenchError::new(format!(
                "expected the reply to xid {xid}, got {header:?}: {}",
                wire::hex(&frame)
            )));
        }
        Ok(Reply { header, body: body.to_vec() })
    }

    pub fn call(&mut self, request: Vec<u8>) -> Result<Reply> {
        let xid = self.send(request)?;
        self.receive(xid)
    }

    /// Sends all requests, some ahead of their replies; each has to succeed or fail with `tolerated`. Their error codes.
    pub fn call_all(&mut self, requests: impl IntoIterator<Item = Vec<u8>>, tolerated: i32) -> Result<Vec<i32>> {
        let mut in_flight = VecDeque::with_capacity(PIPELINE_DEPTH);
        let mut errs = Vec::new();
        for request in requests {
            if in_flight.len() == PIPELINE_DEPTH {
                errs.push(self.settle(&mut in_flight, tolerated)?);
            }
            in_flight.push_back(self.send(request)?);
        }
        while !in_flight.is_empty() {
            errs.push(self.settle(&mut in_flight, tolerated)?);
        }
        Ok(errs)
    }

    /// Makes sure the znodes exist and hold the data given with them.
    pub fn put_all(&mut self, nodes: &[(String, Vec<u8>)]) -> Result<()> {
        let creates = nodes.iter().map(|(path, data)| wire::create(path, data, wire::FLAG_PERSISTENT));
        self.call_all(creates, wire::ERR_NODE_EXISTS).doing("creating the znodes of the run")?;
        let sets = nodes.iter().map(|(path, data)| wire::set_data(path, data));
        self.call_all(sets, 0).doing("filling the znodes of the run").map(drop)
    }

    pub fn children(&mut self, path: &str) -> Result<Vec<String>> {
        let reply = self.call(wire::get_children(path))?;
        if reply.header.err != 0 {
            return Err(BenchError::new(format!("children of {path}: {}", wire::error_name(reply.header.err))));
        }
        let names = wire::strings(&reply.body)
            .ok_or_else(|| BenchError::new(format!("children of {path}: not a list: {}", wire::hex(&reply.body))))?;
        Ok(names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }

    /// Deletes a znode and everything below it.
    pub fn remove_tree(&mut self, root: &str) -> Result<()> {
        let below: Vec<String> = self.children(root)?.into_iter().map(|name| format!("{root}/{name}")).collect();
        // Most are leaves, and go without being looked into.
        let deletes = below.iter().map(|path| wire::delete(path));
        let errs = self.call_all(deletes, wire::ERR_NOT_EMPTY).doing(format_args!("deleting what is below {root}"))?;
        for (path, err) in below.iter().zip(errs) {
            if err == wire::ERR_NOT_EMPTY {
                self.remove_tree(path)?;
            }
        }
        self.call_all([wire::delete(root)], 0).doing(format_args!("deleting {root}")).map(drop)
    }

    /// Ends the session in order.
    pub fn close(mut self) -> Result<()> {
        let reply = self.call(wire::close_session())?;
        if reply.header.err != 0 {
            return Err(BenchError::new(format!("closing a session: {}", wire::error_name(reply.header.err))));
        }
        Ok(())
    }

    fn settle(&mut self, in_flight: &mut VecDeque<i32>, tolerated: i32) -> Result<i32> {
        let xid = in_flight.pop_front().expect("only called with requests in flight");
        let err = self.receive(xid)?.header.err;
        if err != 0 && err != tolerated {
            return Err(BenchError::new(format!("request {xid} failed: {err} {}", wire::error_name(err))));
        }
        Ok(err)
    }

    fn frame(&mut self) -> Result<Vec<u8>> {
        let reading = |server| format!("reading a reply of {server}");
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).doing(reading(self.server))?;
        let bytes = i32::from_be_bytes(length);
        if !(0..=wire::REPLY_BYTES_MAX as i32).contains(&bytes) {
            return Err(BenchError::new(format!("a frame that claims {bytes} bytes")));
        }
        let mut frame = vec![0; bytes as usize];
        self.stream.read_exact(&mut frame).doing(reading(self.server))?;
        Ok(frame)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(bytes).doing(format_args!("writing to {}", self.server))
    }
}

/// The version a server says it is; `None` where that is not answered.
pub fn server_version(server: SocketAddr) -> Option<String> {
    let answer = four_letter_word(server, "srvr")?;
    let (_, version) = answer.lines().next()?.split_once(": ")?;
    Some(version.to_owned())
}

/// `leader`, `follower`, `standalone`...; `None` of a server that serves nobody.
pub fn server_mode(server: SocketAddr) -> Option<String> {
    let answer = four_letter_word(server, "srvr")?;
    answer.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
}

/// What `mntr` says under this name.
pub fn monitored(server: SocketAddr, name: &str) -> Option<f64> {
    let answer = four_letter_word(server, "mntr")?;
    answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t')?.parse().ok())
}

fn four_letter_word(server: SocketAddr, word: &str) -> Option<String> {
    let mut stream = TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(WORD_TIMEOUT)).ok()?;
    stream.write_all(word.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
