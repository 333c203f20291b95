//! What a request costs the core alone: no socket, no disk, one turn of 100 frames of one connection.
//! Estimate before measuring: a read 0.15 us, a write 0.6 us from frame to reply.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringkeeper::core::replay::Replay;
use ringkeeper::core::tree::TreeOptions;
use ringkeeper::core::{ConnectionId, Input, Node, Now, Output, Settings};
use ringkeeper::wire::client::{Acl, ConnectRequest, CreateRequest, Request, perms};

const FRAMES: i32 = 100;
const CLIENT: ConnectionId = ConnectionId(1);

/// A node whose disk is as fast as the call.
struct Server {
    node: Node,
    now: Now,
    out: Vec<Output>,
}

impl Server {
    fn new() -> Server {
        let now = Now { mono_us: 1_000_000, wall_ms: 1_795_000_000_000 };
        let recovered = Replay::empty(TreeOptions::default()).finish();
        let mut server = Server { node: Node::standalone(Settings::default(), recovered, now), now, out: Vec::new() };
        server.turn(Input::Connected { connection: CLIENT, peer: "127.0.0.1:40000".parse().unwrap() });
        let connect = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout_ms: 10_000,
            session_id: 0,
            password: None,
            read_only: Some(false),
        };
        let mut bytes = Vec::new();
        connect.encode(&mut bytes);
        server.turn(Input::Received { connection: CLIENT, frames: &bytes });
        let mut bytes = Vec::new();
        let acl = vec![Acl { perms: perms::ALL, scheme: Some("world".into()), id: Some("anyone".into()) }];
        let create = CreateRequest { path: Some("/bench".into()), data: Some(&[0; 100]), acl: Some(acl), flags: 0 };
        Request::Create(create).encode(1, &mut bytes);
        server.turn(Input::Received { connection: CLIENT, frames: &bytes });
        server
    }

    /// One turn of the shell, the disk and the kernel included, both instantly. Returns bytes sent.
    fn turn(&mut self, input: Input<'_>) -> usize {
        let mut sent = 0;
        self.node.step(self.now, input, &mut self.out);
        loop {
            self.node.flush(&mut self.out);
            if self.out.is_empty() && self.node.wants_turn() {
                self.node.step(self.now, Input::NextTurn, &mut self.out);
                continue;
            }
            if self.out.is_empty() {
                return sent;
            }
            let mut durable = None;
            let mut taken = 0;
            for output in self.out.drain(..) {
                match output {
                    Output::Log { zxid, txn } => durable = Some((zxid, black_box(txn))),
                    Output::Send { bytes, .. } => taken += black_box(bytes).len(),
                    _ => {}
                }
            }
            sent += taken;
            if taken > 0 {
                self.node.step(self.now, Input::Sent { connection: CLIENT, bytes: taken }, &mut self.out);
            }
            if let Some((through, _)) = durable {
                self.node.step(self.now, Input::LogDurable { through }, &mut self.out);
            }
        }
    }
}

fn frames(request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    (0..FRAMES).for_each(|xid| request.encode(xid, &mut bytes));
    bytes
}

fn pipeline(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(FRAMES as u64));
    let mut server = Server::new();
    for (name, request) in [
        ("getData", Request::GetData { path: Some("/bench".into()), watch: false }),
        ("exists", Request::Exists { path: Some("/bench".into()), watch: false }),
        ("setData", Request::SetData { path: Some("/bench".into()), data: Some(&[1; 100]), version: -1 }),
    ] {
        let bytes = frames(&request);
        group.bench_function(name, |bencher| {
            bencher.iter(|| server.turn(Input::Received { connection: CLIENT, frames: &bytes }));
        });
    }
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
