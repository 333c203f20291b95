//! The smallest server that loads can be run against: connect, create, delete, exists, get, set, children, ping, close and
//! `srvr`; one thread a connection, all znodes in one map. It can be told to answer wrongly, so that the checks can be seen to work.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::wire::{self, STAT_BYTES};

/// What the server does wrong, to requests below a session's znode only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    WrongXid,
    NoNode,
    ShortRecord,
    ZxidGoesBack,
    HangsUp,
}

#[derive(Default)]
struct State {
    znodes: BTreeMap<Vec<u8>, Vec<u8>>,
    versions: BTreeMap<Vec<u8>, i32>,
    zxid: i64,
    sessions: i64,
}

/// Starts a server and returns its address. Its threads end with their connections, the acceptor with the tests.
pub fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let state = Arc::new(Mutex::new(State::default()));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let state = Arc::clone(&state);
            thread::spawn(move || serve(stream.unwrap(), &state, fault));
        }
    });
    address
}

fn serve(mut stream: TcpStream, state: &Mutex<State>, fault: Fault) -> Option<()> {
    stream.set_nodelay(true).unwrap();
    frame(&mut stream)?;
    let session_id = {
        let mut state = state.lock().unwrap();
        state.sessions += 1;
        state.sessions
    };
    let timeout_ms = 40_000i32;
    let granted =
        [&[0; 4][..], &timeout_ms.to_be_bytes(), &session_id.to_be_bytes(), &16i32.to_be_bytes(), &[0; 17]].concat();
    send(&mut stream, &granted)?;
    while let Some(request) = frame(&mut stream) {
        let int = |at: usize| i32::from_be_bytes(request[at..at + 4].try_into().unwrap());
        let (mut xid, op, record) = (int(0), int(4), &request[8..]);
        let (zxid, mut err, mut body) = answer(&mut state.lock().unwrap(), op, record);
        let mut zxid = zxid;
        // The admin session works on these znodes too, but only the load's sessions ask op 4 or send value `x`.
        let of_the_load = op == 4 || (op == 5 && record.ends_with(b"x\xff\xff\xff\xff"));
        match fault {
            Fault::WrongXid if of_the_load => xid += 1,
            Fault::NoNode if of_the_load => (err, body) = (-101, Vec::new()),
            Fault::ShortRecord if of_the_load => body.truncate(body.len() - 1),
            Fault::ZxidGoesBack if of_the_load => zxid = 1_000 - i64::from(xid),
            Fault::HangsUp if of_the_load => return None,
            _ => {}
        }
        send(&mut stream, &[&xid.to_be_bytes()[..], &zxid.to_be_bytes(), &err.to_be_bytes(), &body].concat())?;
        if op == -11 {
            return Some(());
        }
    }
    Some(())
}

fn answer(state: &mut State, op: i32, record: &[u8]) -> (i64, i32, Vec<u8>) {
    let (path, rest) = wire::buffer(record).unwrap_or_default();
    let (err, body) = match op {
        1 if state.znodes.contains_key(path) => (wire::ERR_NODE_EXISTS, Vec::new()),
        1 => {
            state.znodes.insert(path.to_vec(), wire::buffer(rest).unwrap().0.to_vec());
            state.versions.insert(path.to_vec(), 0);
            (0, [&(path.len() as i32).to_be_bytes(), path].concat())
        }
        2 => (if state.znodes.remove(path).is_some() { 0 } else { -101 }, Vec::new()),
        3 if state.znodes.contains_key(path) => (0, stat(state, path)),
        4 => match state.znodes.get(path) {
            Some(data) => (0, [&(data.len() as i32).to_be_bytes(), data.as_slice(), &stat(state, path)].concat()),
            None => (-101, Vec::new()),
        },
        5 if state.znodes.contains_key(path) => {
            state.znodes.insert(path.to_vec(), wire::buffer(rest).unwrap().0.to_vec());
            *state.versions.get_mut(path).unwrap() += 1;
            (0, stat(state, path))
        }
        8 => (0, children(state, path)),
        11 | -11 => (0, Vec::new()),
        _ => (-101, Vec::new()),
    };
    state.zxid += 1;
    (state.zxid, err, body)
}

fn stat(state: &State, path: &[u8]) -> Vec<u8> {
    let mut stat = vec![0; STAT_BYTES];
    stat[32..36].copy_from_slice(&state.versions[path].to_be_bytes());
    stat
}

fn children(state: &State, path: &[u8]) -> Vec<u8> {
    let names = names_below(state, path);
    let mut body = (names.len() as i32).to_be_bytes().to_vec();
    for name in names {
        body.extend_from_slice(&(name.len() as i32).to_be_bytes());
        body.extend_from_slice(name);
    }
    body
}

fn names_below<'a>(state: &'a State, path: &[u8]) -> Vec<&'a [u8]> {
    let below = [path, b"/"].concat();
    let sorted = state.znodes.range(below.clone()..);
    let names = sorted.map_while(|(znode, _)| znode.strip_prefix(below.as_slice()));
    names.filter(|name| !name.contains(&b'/')).collect()
}

fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    if &length == b"srvr" {
        stream.write_all(b"Zookeeper version: fake\nMode: standalone\n").ok()?;
        return None;
    }
    let mut frame = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame).ok()?;
    Some(frame)
}

fn send(stream: &mut TcpStream, payload: &[u8]) -> Option<()> {
    let length = (payload.len() as i32).to_be_bytes();
    stream.write_all(&[&length, payload].concat()).ok()
}
