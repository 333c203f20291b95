//! A tree that moves between ringkeeper and the Java reference and back, and is the same everywhere.
//!
//!   made on one server -> stopped or killed -> taken over by the other -> walked -> changed there -> back again -> walked
//!
//! Every node is compared as a client sees it: stat, data (null is not empty), permissions, children; the sessions are resumed
//! under their passwords; the reference must not find one digest that does not match.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Result;
use crate::differential::ask::{Acl, Ask, Body, Bytes, opcode};
use crate::process::output_of;
use crate::server::{Home, Kind, Setup, four_letter, glance};

const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// Sessions outlive every stop and start here.
const SESSION_TIMEOUT_MS: i32 = 40_000;
const CREATE_SEQUENTIAL: i32 = 2;
const CREATE_EPHEMERAL: i32 = 1;
const CREATE_EPHEMERAL_SEQUENTIAL: i32 = 3;
const CREATE_CONTAINER: i32 = 4;
const CREATE_TTL: i32 = 5;
/// Nodes in one flat directory, beside those that are there for what they are.
const CROWD: usize = 10_000;

/// What a run needs.
#[derive(Clone, Debug)]
pub struct Options {
    pub ringkeeper: Kind,
    pub rk: PathBuf,
    pub java: Kind,
    pub directory: PathBuf,
    pub port: u16,
}

/// Both ways. Returns how many nodes were compared.
pub fn run(options: &Options) -> Result<usize> {
    let mut compared = 0;
    for (number, is_java_first) in [false, true].into_iter().enumerate() {
        compared += there_and_back(options, is_java_first, options.port + number as u16)?;
    }
    Ok(compared)
}

fn there_and_back(options: &Options, is_java_first: bool, port: u16) -> Result<usize> {
    let directory = options.directory.join(if is_java_first { "java-first" } else { "ringkeeper-first" });
    let setup = |kind: &Kind| Setup {
        kind: kind.clone(),
        directory: directory.clone(),
        home: Home::default(),
        port,
        tick_ms: 2000,
        my_id: None,
        // So few transactions a snapshot that logs and snapshots of several ages lie there.
        extra: vec!["snapCount=2500".into()],
    };
    let (java, ours) = (setup(&options.java), setup(&options.ringkeeper));
    java.wipe()?;
    let (first, second) = if is_java_first { (&java, &ours) } else { (&ours, &java) };
    let mut ticket = None;
    let mut walked = {
        let server = first.start()?;
        let mut client = Client::open(first.address(), None)?;
        populate(&mut client)?;
        ticket.replace(client.ticket());
        let walked = walk(&mut client)?;
        drop(client); // without a word: the session and its ephemerals stay
        server.stop()?;
        walked
    };
    println!("{} nodes made on {}", walked.len(), first.kind.name());
    let mut compared = 0;
    for round in 0..2 {
        // Over to the other, which is killed, and back to the first.
        for setup in [second, first] {
            hand_over(options, setup)?;
            let server = setup.start()?;
            let mut client = Client::open(setup.address(), ticket.take())?;
            let found = walk(&mut client)?;
            differences(&walked, &found).map_err(|what| format!("on {}, round {round}: {what}", setup.kind.name()))?;
            compared += found.len();
            no_mismatch(setup)?;
            change(&mut client, round)?;
            ticket.replace(client.ticket());
            walked = walk(&mut client)?;
            drop(client);
            println!("the same {} nodes on {}", found.len(), setup.kind.name());
            if round == 0 { server.kill()? } else { server.stop().map(drop)? }
        }
    }
    java.wipe()?;
    Ok(compared)
}

/// Makes the directory such that this server finds what the other one left.
fn hand_over(options: &Options, to: &Setup) -> Result<()> {
    let data = to.data();
    let mut rk = std::process::Command::new(&options.rk);
    match to.kind {
        Kind::Java { .. } => {
            rk.args(["export", "--replace"]).arg(&data);
        }
        // The first time there is nothing of ours and the start imports by itself.
        Kind::Ringkeeper { .. } if !data.join("ringkeeper-1").exists() => return Ok(()),
        Kind::Ringkeeper { .. } => {
            refuses_to_choose(to)?;
            rk.args(["import", "--replace"]).arg(&data);
        }
    }
    print!("{}", output_of(&mut rk)?);
    Ok(())
}

/// Java has run since: a start must not go on with either history by itself.
fn refuses_to_choose(setup: &Setup) -> Result<()> {
    let mut server = setup.launch()?;
    while server.is_alive() {
        if glance(setup.address(), "srvr").is_ok_and(|answer| answer.contains("Mode:")) {
            return Err("ringkeeper served its old data although Java had run in between".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let log = std::fs::read_to_string(setup.log())?;
    if log.contains("rk import --replace") { Ok(()) } else { Err(format!("no word of a choice in\n{log}").into()) }
}

fn no_mismatch(setup: &Setup) -> Result<()> {
    let answer = four_letter(setup.address(), "mntr")?;
    let count = answer.lines().find_map(|line| line.strip_prefix("zk_digest_mismatches_count\t"));
    match count {
        Some("0") => Ok(()),
        other => Err(format!("digest mismatches on {}: {other:?}", setup.kind.name()).into()),
    }
}

// --- what is in the tree ----------------------------------------------------------------------------------------------

fn open_acl() -> Vec<Acl> {
    acl(31, "world", "anyone")
}

fn acl(perms: i32, scheme: &str, id: &str) -> Vec<Acl> {
    vec![Acl { perms, scheme: Some(scheme.into()), id: Some(id.into()) }]
}

fn create(path: &str, data: &Bytes, acl: Vec<Acl>, flags: i32) -> Ask {
    let body = Body::default().bytes(&Some(path.into())).bytes(data).acl(&Some(acl)).int(flags);
    match flags {
        CREATE_CONTAINER => Ask::new(opcode::CREATE_CONTAINER, path, body),
        CREATE_TTL => Ask::new(opcode::CREATE_TTL, path, body.long(2_592_000_000)),
        _ => Ask::new(opcode::CREATE2, path, body),
    }
}

fn plain(path: &str, data: &str) -> Ask {
    create(path, &Some(data.into()), open_acl(), 0)
}

fn set(path: &str, data: &Bytes) -> Ask {
    Ask::new(opcode::SET_DATA, path, Body::default().bytes(&Some(path.into())).bytes(data).int(-1))
}

fn delete(path: &str) -> Ask {
    Ask::new(opcode::DELETE, path, Body::default().bytes(&Some(path.into())).int(-1))
}

fn populate(client: &mut Client) -> Result<()> {
    let mut read_only = acl(1, "world", "anyone");
    read_only.extend(acl(31, "ip", "127.0.0.1"));
    let auth = Body::default().int(0).bytes(&Some("digest".into())).bytes(&Some("owner:secret".into()));
    client.auth(&auth)?;
    for ask in [
        plain("/plain", "data"),
        create("/null", &None, open_acl(), 0),
        create("/empty", &Some(vec![]), open_acl(), 0),
        create("/bytes", &Some((0..=255).collect()), open_acl(), 0),
        plain("/ünïcödé-名前-имя", "ключ"),
        plain("/deep", ""),
        plain("/deep/er", ""),
        plain("/deep/er/still", "x"),
        create("/several-may", &Some("y".into()), read_only, 0),
        create("/owned", &Some("z".into()), acl(31, "auth", ""), 0),
        create("/owned/child", &Some("z".into()), acl(31, "auth", ""), 0),
        create("/container", &Some("c".into()), open_acl(), CREATE_CONTAINER),
        plain("/container/content", "c"),
        create("/container-unused", &Some("c".into()), open_acl(), CREATE_CONTAINER),
        create("/ttl", &Some("t".into()), open_acl(), CREATE_TTL),
        plain("/sequence", ""),
        plain("/live", ""),
        plain("/crowd", ""),
        plain("/gone", "soon"),
    ] {
        client.must(ask)?;
    }
    for number in 0..30 {
        client.must(create("/sequence/n-", &Some(vec![number]), open_acl(), CREATE_SEQUENTIAL))?;
        client.must(create(&format!("/live/e{number}"), &Some(vec![number]), open_acl(), CREATE_EPHEMERAL))?;
    }
    client.must(create("/live/s-", &None, open_acl(), CREATE_EPHEMERAL_SEQUENTIAL))?;
    let crowd = (0..CROWD).map(|number| plain(&format!("/crowd/{number}"), &"d".repeat(number % 300)));
    client.all(crowd.collect())?;
    client.all((0..CROWD).step_by(3).map(|number| set(&format!("/crowd/{number}"), &Some(vec![7; 50]))).collect())?;
    client.all((0..CROWD).step_by(7).map(|number| delete(&format!("/crowd/{number}"))).collect())?;
    client.must(delete("/gone"))?;
    let changed = Body::default().bytes(&Some("/plain".into())).acl(&Some(acl(15, "world", "anyone"))).int(-1);
    client.must(Ask::new(opcode::SET_ACL, "/plain", changed))?;
    client.must(set("/null", &None))?;
    let multi = Body::default()
        .item(opcode::CREATE2, &part(&plain("/multi", "m")))
        .item(opcode::SET_DATA, &part(&set("/multi", &Some("mm".into()))));
    client.must(Ask::new(opcode::MULTI, "/multi", multi.end_of_items()))?;
    // One that fails leaves a transaction without an effect behind.
    let multi = Body::default()
        .item(opcode::CREATE2, &part(&plain("/never", "")))
        .item(opcode::DELETE, &part(&delete("/absent")));
    client.call(Ask::new(opcode::MULTI, "/never", multi.end_of_items()))?;
    Ok(())
}

fn part(ask: &Ask) -> Body {
    Body(ask.body.clone())
}

/// A little of everything, so that each server's own log is part of the next hand-over.
fn change(client: &mut Client, round: usize) -> Result<()> {
    for number in 0..50 {
        client.must(create("/sequence/n-", &Some(vec![number]), open_acl(), CREATE_SEQUENTIAL))?;
    }
    client.must(create(&format!("/live/r{round}-"), &None, open_acl(), CREATE_EPHEMERAL_SEQUENTIAL))?;
    client.must(set("/plain", &Some(format!("round {round}").into())))?;
    client.must(plain(&format!("/deep/er/still/{}", client.next_xid), "deeper"))?;
    // Another list each time, always with the rights to read and to change it.
    let again = acl(17 | (client.next_xid % 16), "world", "anyone");
    let body = Body::default().bytes(&Some("/bytes".into())).acl(&Some(again)).int(-1);
    client.must(Ask::new(opcode::SET_ACL, "/bytes", body))?;
    Ok(())
}

// --- walking ----------------------------------------------------------------------------------------------------------

/// A node's answers as they came: stat and data, permissions, names of children.
type Walked = BTreeMap<String, [Vec<u8>; 3]>;

/// Everything but what a server writes by itself below `/zookeeper`.
fn walk(client: &mut Client) -> Result<Walked> {
    let mut walked = Walked::new();
    let mut level = vec!["/".to_owned()];
    while !level.is_empty() {
        let about = |kind: i32, is_watchable: bool| {
            let asks = level.iter().map(move |path| {
                let body = Body::default().bytes(&Some(path.as_str().into()));
                Ask::new(kind, path.as_str(), if is_watchable { body.byte(0) } else { body })
            });
            asks.collect::<Vec<_>>()
        };
        let data = client.all(about(opcode::GET_DATA, true))?;
        let acls = client.all(about(opcode::GET_ACL, false))?;
        let children = client.all(about(opcode::GET_CHILDREN, true))?;
        let mut next = vec![];
        for (((path, data), acl), children) in level.iter().zip(data).zip(acls).zip(children) {
            let mut names = names(&children)?;
            names.sort();
            let prefix = if path == "/" { "" } else { path };
            next.extend(names.iter().map(|name| format!("{prefix}/{name}")));
            walked.insert(path.clone(), [data, acl, names.join("\n").into()]);
        }
        next.retain(|path| path != "/zookeeper");
        level = next;
    }
    Ok(walked)
}

fn names(body: &[u8]) -> Result<Vec<String>> {
    let mut rest = body;
    let int = |rest: &mut &[u8]| -> Result<usize> {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or("a list of children ends early")?;
        *rest = tail;
        Ok(usize::try_from(i32::from_be_bytes(*head))?)
    };
    let count = int(&mut rest)?;
    let mut names = Vec::new();
    for _ in 0..count {
        let length = int(&mut rest)?;
        let (name, tail) = rest.split_at_checked(length).ok_or("a list of children ends early")?;
        names.push(String::from_utf8(name.to_vec())?);
        rest = tail;
    }
    Ok(names)
}

fn differences(expected: &Walked, found: &Walked) -> std::result::Result<(), String> {
    let what = ["stat or data", "permissions", "children"];
    for (path, node) in expected {
        let Some(other) = found.get(path) else { return Err(format!("{path} is missing")) };
        for (at, what) in what.iter().enumerate() {
            if node[at] != other[at] {
                let (was, is) = (node[at].escape_ascii(), other[at].escape_ascii());
                return Err(format!("{path}: other {what}:\n  was {was}\n  is  {is}"));
            }
        }
    }
    match found.keys().find(|path| !expected.contains_key(*path)) {
        Some(path) => Err(format!("{path} was not there before")),
        None => Ok(()),
    }
}

// --- a session --------------------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
struct Ticket {
    session: i64,
    password: Vec<u8>,
}

/// One session on one socket; the bytes are `differential::ask`'s.
struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    next_xid: i32,
    ticket: Ticket,
}

impl Client {
    fn open(address: SocketAddr, ticket: Option<Ticket>) -> Result<Client> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(READ_TIMEOUT))?;
        let is_resumed = ticket.is_some();
        let ticket = ticket.unwrap_or(Ticket { session: 0, password: vec![0; 16] });
        let hello = Body::default().int(0).long(0).int(SESSION_TIMEOUT_MS).long(ticket.session);
        let hello = hello.bytes(&Some(ticket.password.clone())).byte(0);
        let mut client = Client { reader: BufReader::new(socket.try_clone()?), writer: socket, next_xid: 1, ticket };
        client.writer.write_all(&Body::default().bytes(&Some(hello.0)).0)?;
        let answer = client.frame()?;
        let timeout_ms = i32::from_be_bytes(answer[4..8].try_into()?);
        let session = i64::from_be_bytes(answer[8..16].try_into()?);
        if timeout_ms <= 0 || is_resumed && session != client.ticket.session {
            return Err(format!("session {:#x} was not resumed", client.ticket.session).into());
        }
        client.ticket = Ticket { session, password: answer[20..36].to_vec() };
        if is_resumed {
            // Identities belong to connections.
            let auth = Body::default().int(0).bytes(&Some("digest".into())).bytes(&Some("owner:secret".into()));
            client.auth(&auth)?;
        }
        Ok(client)
    }

    fn ticket(&self) -> Ticket {
        self.ticket.clone()
    }

    fn auth(&mut self, body: &Body) -> Result<()> {
        let ask = Ask { xid: -4, ..Ask::new(opcode::AUTH, "auth", body.clone()) };
        self.writer.write_all(&ask.frame())?;
        let (xid, code, _) = self.reply()?;
        if (xid, code) == (-4, 0) { Ok(()) } else { Err(format!("auth was answered {xid} {code}").into()) }
    }

    fn must(&mut self, ask: Ask) -> Result<Vec<u8>> {
        let text = ask.text.clone();
        match self.call(ask)? {
            (0, body) => Ok(body),
            (code, _) => Err(format!("{text}: error {code}").into()),
        }
    }

    fn call(&mut self, mut ask: Ask) -> Result<(i32, Vec<u8>)> {
        ask.xid = self.take_xid();
        self.writer.write_all(&ask.frame())?;
        let (xid, code, body) = self.reply()?;
        assert_eq!(xid, ask.xid, "answers come in order");
        Ok((code, body))
    }

    /// Many, a few hundred under way at once; all of them must succeed.
    fn all(&mut self, asks: Vec<Ask>) -> Result<Vec<Vec<u8>>> {
        const UNDER_WAY: usize = 200;
        let mut bodies = Vec::with_capacity(asks.len());
        for some in asks.chunks(UNDER_WAY) {
            let mut frames = Vec::new();
            for ask in some {
                let xid = self.take_xid();
                frames.extend(Ask { xid, ..ask.clone() }.frame());
            }
            self.writer.write_all(&frames)?;
            for ask in some {
                let (_, code, body) = self.reply()?;
                if code != 0 {
                    return Err(format!("{}: error {code}", ask.text).into());
                }
                bodies.push(body);
            }
        }
        Ok(bodies)
    }

    fn take_xid(&mut self) -> i32 {
        self.next_xid += 1;
        self.next_xid - 1
    }

    fn reply(&mut self) -> Result<(i32, i32, Vec<u8>)> {
        let frame = self.frame()?;
        let (header, body) = frame.split_first_chunk::<16>().ok_or("a reply shorter than its header")?;
        let int = |at: usize| i32::from_be_bytes(header[at..at + 4].try_into().expect("4 bytes"));
        Ok((int(0), int(12), body.to_vec()))
    }

    fn frame(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.reader.read_exact(&mut length)?;
        let mut frame = vec![0; i32::from_be_bytes(length) as usize];
        self.reader.read_exact(&mut frame)?;
        Ok(frame)
    }
}

/// `rk` beside a server's binary.
pub fn rk_beside(binary: &Path) -> PathBuf {
    binary.with_file_name("rk")
}
