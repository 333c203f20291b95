//! Cases that alternative servers get wrong (docs/EDGE_CASES.md) and that no other test here is about.

use ringkeeper::core::Settings;
use ringkeeper::core::settings::ConnectThrottle;
use ringkeeper::wire::client::{
    AddWatchMode, CreateRequest, MultiOp, MultiResult, OpCode, Request, Response, SetWatches, Stat, perms,
};

use crate::harness::*;

const NO_AUTH: i32 = -102;
const NO_CHILDREN_FOR_EPHEMERALS: i32 = -108;

fn extended() -> Server {
    Server::with(Settings { extended_types: true, ..Settings::default() })
}

fn ttl(path: &str, ttl_ms: i64) -> Request<'_> {
    Request::CreateTtl { create: create_request(path, b"", 5), ttl_ms }
}

fn pass_a_minute(server: &mut Server, client: Client) {
    for _ in 0..61 {
        server.pass_ms(1000);
        server.send(client, -2, &Request::Ping);
    }
    let _ = server.replies(client);
}

#[test]
fn r6_containers_and_ttl_nodes_in_a_multi_answer_as_create2_does() {
    let mut server = extended();
    let client = server.client();
    let ops = vec![
        MultiOp::Create(create_request("/a", b"", PERSISTENT)),
        MultiOp::Create2(create_request("/b", b"", PERSISTENT)),
        MultiOp::CreateContainer(create_request("/c", b"", 4)),
        MultiOp::CreateTtl { create: create_request("/d", b"", 5), ttl_ms: 1000 },
    ];
    let reply = server.must(client, &Request::Multi(ops));
    let Response::Multi(results) = reply.response(OpCode::Multi) else { panic!("{reply:?}") };
    assert!(matches!(&results[0], MultiResult::Create { path } if path == "/a"));
    for (result, wanted) in results[1..].iter().zip(["/b", "/c", "/d"]) {
        assert!(matches!(result, MultiResult::Create2 { path, .. } if path == wanted), "{result:?}");
    }
}

#[test]
fn r8_a_ping_tells_the_last_applied_zxid() {
    let mut server = Server::new();
    let client = server.client();
    let written = server.must(client, &create("/a", b"", PERSISTENT)).zxid;
    server.send(client, -2, &Request::Ping);
    let replies = server.replies(client);
    assert_eq!(replies.iter().map(|reply| (reply.xid, reply.zxid, reply.err)).collect::<Vec<_>>(), [(-2, written, 0)]);
}

#[test]
fn c5_ttl_nodes_and_containers_have_children_and_ephemerals_have_none() {
    let mut server = extended();
    let client = server.client();
    server.must(client, &ttl("/ttl", 1000));
    server.must(client, &Request::CreateContainer(create_request("/box", b"", 4)));
    server.must(client, &create("/e", b"", EPHEMERAL));
    server.must(client, &create("/ttl/a", b"", PERSISTENT));
    server.must(client, &create("/ttl/b", b"", EPHEMERAL));
    server.must(client, &create("/box/a", b"", EPHEMERAL));
    assert_eq!(server.err(client, &create("/e/a", b"", PERSISTENT)), NO_CHILDREN_FOR_EPHEMERALS);
}

#[test]
fn c7_only_set_data_gives_a_ttl_node_more_time() {
    let mut server = extended();
    let client = server.client();
    for path in ["/idle", "/written", "/guarded", "/parent"] {
        server.must(client, &ttl(path, 70_000));
    }
    pass_a_minute(&mut server, client);
    server.must(client, &set("/written", b"1", -1));
    let acl = Some(open_acl());
    server.must(client, &Request::SetAcl { path: Some("/guarded".into()), acl, version: -1 });
    server.must(client, &create("/parent/child", b"", PERSISTENT));
    pass_a_minute(&mut server, client);
    for (path, expected) in [("/idle", -101), ("/written", 0), ("/guarded", -101), ("/parent", 0)] {
        assert_eq!(server.err(client, &exists(path, false)), expected, "{path}");
    }
    server.must(client, &delete("/parent/child", -1));
    pass_a_minute(&mut server, client);
    assert_eq!(server.err(client, &exists("/parent", false)), -101, "its last child is gone");
}

#[test]
fn a1_what_stands_beside_anyone_is_kept_and_everybody_has_access() {
    let mut server = Server::new();
    let (owner, stranger) = (server.client(), server.client());
    let list: Vec<_> = open_acl().iter().chain(acl(perms::READ, "digest", "a:b").iter()).cloned().collect();
    let request = CreateRequest { acl: Some(list.to_vec()), ..create_request("/a", b"", PERSISTENT) };
    server.must(owner, &Request::Create(request));
    server.must(stranger, &set("/a", b"1", -1));
    let reply = server.must(stranger, &Request::GetAcl { path: Some("/a".into()) });
    let Response::Acl { acl: Some(shown), .. } = reply.response(OpCode::GetAcl) else { panic!("{reply:?}") };
    assert_eq!(shown.iter().map(|entry| entry.scheme.as_deref()).collect::<Vec<_>>(), [Some("world"), Some("digest")]);
}

#[test]
fn a4_who_may_read_sees_no_hashes_and_who_may_nothing_sees_nothing() {
    let mut server = Server::new();
    let client = server.client();
    for (perms, expected) in [(perms::READ, Some("u:x")), (perms::ADMIN, Some("u:hash")), (perms::WRITE, None)] {
        let path = format!("/{perms}");
        let list: Vec<_> =
            acl(perms::ALL, "digest", "u:hash").iter().chain(acl(perms, "world", "anyone").iter()).cloned().collect();
        let request = CreateRequest { acl: Some(list.into_iter().collect()), ..create_request(&path, b"", PERSISTENT) };
        server.must(client, &Request::Create(request));
        let reply = server.ask(client, &Request::GetAcl { path: Some((&*path).into()) });
        match expected {
            None => assert_eq!(reply.err, NO_AUTH),
            Some(id) => {
                let Response::Acl { acl: Some(shown), .. } = reply.response(OpCode::GetAcl) else {
                    panic!("{reply:?}")
                };
                assert_eq!(shown[0].id.as_deref(), Some(id), "{perms}");
            }
        }
    }
}

#[test]
fn w11_persistent_watches_that_are_set_again_hear_of_nothing_that_was() {
    let mut server = Server::new();
    let (client, other) = (server.client(), server.client());
    server.must(other, &create("/a", b"", PERSISTENT));
    server.must(other, &set("/a", b"1", -1));
    let watches = SetWatches {
        relative_zxid: 1,
        persistent: vec!["/a".into(), "/gone".into()],
        persistent_recursive: vec!["/a".into(), "/gone".into()],
        ..SetWatches::default()
    };
    server.send(client, -8, &Request::SetWatches2(watches));
    assert_eq!(server.replies(client).iter().map(|reply| reply.xid).collect::<Vec<_>>(), [-8]);
    server.must(other, &set("/a", b"2", -1));
    server.must(other, &create("/gone", b"", PERSISTENT));
    let heard: Vec<String> = server.replies(client).iter().map(|reply| reply.event().path.into_owned()).collect();
    assert_eq!(heard, ["/a", "/gone"]);
}

#[test]
fn w5_modes_on_one_path_are_independent_and_one_event_is_enough() {
    let mut server = Server::new();
    let (client, other) = (server.client(), server.client());
    for mode in [AddWatchMode::Persistent, AddWatchMode::PersistentRecursive] {
        server.must(client, &Request::AddWatch { path: Some("/a".into()), mode });
    }
    assert_eq!(server.err(client, &exists("/a", true)), -101);
    server.must(other, &create("/a", b"", PERSISTENT));
    server.must(other, &set("/a", b"", -1));
    assert_eq!(server.replies(client).len(), 2, "one a change, and the one-shot one is spent");
}

/// Semantics 19: the flags say container, the opcode does not.
#[test]
fn a_create_with_the_flags_of_a_container_makes_a_plain_node() {
    let mut server = Server::new();
    let client = server.client();
    server.must(client, &create("/a", b"", 4));
    server.must(client, &create("/a/b", b"", PERSISTENT));
    server.must(client, &delete("/a/b", -1));
    pass_a_minute(&mut server, client);
    let reply = server.must(client, &exists("/a", false));
    assert!(matches!(reply.response(OpCode::Exists), Response::Stat(Stat { ephemeral_owner: 0, num_children: 0, .. })));
}

/// Client-protocol 13: what a handshake costs.
#[test]
fn a_new_session_costs_more_tokens_than_one_that_comes_back() {
    let connect_throttle = ConnectThrottle {
        tokens: 6,
        fill_ms: 1_000_000,
        new_weight: 3,
        resumed_weight: 2,
        ..ConnectThrottle::default()
    };
    let mut server = Server::with(Settings { connect_throttle, ..Settings::default() });
    let client = server.client();
    assert!(server.resume(&client).is_some());
    assert!(server.resume(&client).is_none(), "one token is left");
}

/// Java: `ServerCnxn`, as `cons` shows it.
#[test]
fn a_connection_tells_its_last_operation_and_none_for_a_refused_write() {
    use ringkeeper::core::ConnectionId;
    use ringkeeper::core::connection::LastOperation;
    use ringkeeper::core::node_view::Wanted;
    let mut server = Server::new();
    let client = server.client();
    let last = |server: &Server| {
        let wanted = Wanted { connections: true, ..Wanted::default() };
        let view = server.node.view(server.now, ConnectionId(0), wanted);
        let session = view.connections.iter().filter_map(|connection| connection.session.as_ref()).next();
        session.map(|session| (session.last_operation, session.last_cxid)).expect("a session")
    };
    assert_eq!(last(&server), (LastOperation::Of(OpCode::CreateSession), 0));
    assert_eq!(server.err(client, &delete("/none", -1)), -101);
    assert_eq!(last(&server).0, LastOperation::Nameless);
    assert_eq!(server.err(client, &get("/none", false)), -101);
    assert_eq!(last(&server).0, LastOperation::Of(OpCode::GetData), "a refused read has its name");
    server.send(client, 77, &Request::Ping);
    assert_eq!(server.replies(client).pop().expect("an answer").xid, -2);
    assert_eq!(last(&server), (LastOperation::Of(OpCode::Ping), 77), "its answer says -2, whatever was sent");
    assert!(server.resume(&client).is_some());
    assert_eq!(last(&server), (LastOperation::Never, 0), "who came back has asked for nothing");
}
