//! Every write: its effect, its refusals in the order of semantics 4, and the transaction it leaves.

use ringkeeper::core::Settings;
use ringkeeper::core::replay::Recovered;
use ringkeeper::core::tree::acl::PasswordHash;
use ringkeeper::core::tree::{RawStat, TreeBuilder};
use ringkeeper::wire::client::{
    CreateRequest, MultiOp, MultiReadOp, MultiResult, OpCode, Request, Response, Stat, perms,
};
use ringkeeper::wire::txn::{CreateKind, Txn, decode_txn};

use crate::harness::*;

const BAD_ARGUMENTS: i32 = -8;
const NO_NODE: i32 = -101;
const NO_AUTH: i32 = -102;
const BAD_VERSION: i32 = -103;
const NO_CHILDREN_FOR_EPHEMERALS: i32 = -108;
const NODE_EXISTS: i32 = -110;
const NOT_EMPTY: i32 = -111;
const INVALID_ACL: i32 = -114;
const MARSHALLING_ERROR: i32 = -5;

fn stat(server: &mut Server, client: Client, path: &str) -> Stat {
    let reply = server.must(client, &exists(path, false));
    let Response::Stat(stat) = reply.response(OpCode::Exists) else { panic!("{reply:?}") };
    stat
}

fn created(server: &mut Server, client: Client, path: &str, flags: i32) -> String {
    let reply = server.must(client, &create(path, b"", flags));
    let Response::Path(Some(path)) = reply.response(OpCode::Create) else { panic!("{reply:?}") };
    path.into_owned()
}

#[test]
fn a_child_changes_its_parent_and_a_grandchild_does_not() {
    let mut server = Server::new();
    let client = server.client();
    server.must(client, &create("/p", b"", PERSISTENT));
    let made = server.must(client, &create("/p/c", b"x", PERSISTENT)).zxid;
    let parent = stat(&mut server, client, "/p");
    assert_eq!((parent.cversion, parent.pzxid, parent.num_children, parent.version), (1, made, 1, 0), "S1");
    server.must(client, &set("/p/c", b"yy", -1));
    server.must(client, &Request::SetAcl { path: Some("/p/c".into()), acl: Some(open_acl()), version: -1 });
    assert_eq!(stat(&mut server, client, "/p"), parent, "S3");
    let child = stat(&mut server, client, "/p/c");
    assert_eq!((child.version, child.data_length, child.czxid), (1, 2, made));
    let gone = server.must(client, &delete("/p/c", 1)).zxid;
    let parent = stat(&mut server, client, "/p");
    assert_eq!((parent.cversion, parent.pzxid, parent.num_children), (2, gone, 0), "S2");
}

#[test]
fn sequence_numbers_count_every_create_and_are_never_reused() {
    let mut server = Server::new();
    let client = server.client();
    server.must(client, &create("/p", b"", PERSISTENT));
    assert_eq!(created(&mut server, client, "/p/s-", SEQUENTIAL), "/p/s-0000000000");
    assert_eq!(created(&mut server, client, "/p/plain", PERSISTENT), "/p/plain");
    assert_eq!(created(&mut server, client, "/p/", EPHEMERAL | SEQUENTIAL), "/p/0000000002", "C1, C3");
    server.must(client, &delete("/p/0000000002", -1));
    assert_eq!(server.err(client, &create("/p/plain", b"", PERSISTENT)), NODE_EXISTS);
    assert_eq!(created(&mut server, client, "/p/s-", SEQUENTIAL), "/p/s-0000000003", "C2");
    assert_eq!(created(&mut server, client, "/", SEQUENTIAL), "/0000000001", "C4");
}

#[test]
fn writes_in_flight_are_seen_by_the_writes_behind_them() {
    let mut server = Server::new();
    let (one, two) = (server.client(), server.client());
    server.slow_disk = true;
    let mut bytes = Vec::new();
    for (xid, request) in [
        create("/p", b"", PERSISTENT),
        create("/p/s-", b"", SEQUENTIAL),
        create("/p/s-", b"", SEQUENTIAL),
        delete("/p", -1),
        set("/p", b"1", 0),
        set("/p", b"2", 0),
        set("/p", b"2", 1),
        delete("/p/s-0000000000", -1),
        create("/p/e", b"", EPHEMERAL),
        create("/p/e/x", b"", PERSISTENT),
    ]
    .into_iter()
    .enumerate()
    {
        request.encode(xid as i32, &mut bytes);
    }
    server.bytes(one.connection, &bytes);
    server.send(two, 100, &create("/p/s-", b"", SEQUENTIAL));
    assert!(server.replies(one).is_empty());
    server.disk_finishes();
    let errors: Vec<i32> = server.replies(one).iter().map(|reply| reply.err).collect();
    assert_eq!(errors, [0, 0, 0, NOT_EMPTY, 0, BAD_VERSION, 0, 0, 0, NO_CHILDREN_FOR_EPHEMERALS]);
    let reply = server.replies(two).remove(0);
    assert_eq!(reply.response(OpCode::Create), Response::Path(Some("/p/s-0000000003".into())));
}

#[test]
fn a_refused_write_consumes_a_zxid_and_says_so_in_the_log() {
    let mut server = Server::new();
    let client = server.client();
    let before = server.node.last_processed().0 as i64;
    let reply = server.ask(client, &delete("/nothing", -1));
    assert_eq!((reply.err, reply.zxid), (NO_NODE, before + 1), "R11");
    let (header, txn, digest) = decode_txn(&server.log.last().unwrap().1).unwrap();
    assert_eq!((txn, header.cxid, header.client_id), (Txn::Error { code: NO_NODE }, 77, client.session.0));
    assert_eq!(digest, None, "single refusals carry no digest");
}

#[test]
fn creates_are_refused_in_the_order_of_the_checks() {
    let mut server = Server::new();
    let client = server.client();
    server.must(client, &create("/e", b"", EPHEMERAL));
    let with = |path: &'static str, flags: i32, acl| {
        Request::Create(ringkeeper::wire::client::CreateRequest { path: Some(path.into()), data: None, acl, flags })
    };
    let open = || Some(open_acl());
    for (request, expected) in [
        (with("/a", 7, None), BAD_ARGUMENTS),
        (with("/a", 5, None), -6),
        (with("a", 0, None), BAD_ARGUMENTS),
        (with("/x/y/", 0, None), INVALID_ACL),
        (with("/x/y/", 0, open()), NO_NODE),
        (with("/a/", 0, open()), NO_NODE),
        (with("/.", 0, open()), BAD_ARGUMENTS),
        (with("/e", 0, open()), NODE_EXISTS),
        (with("/e/x", 0, open()), NO_CHILDREN_FOR_EPHEMERALS),
        (with("/", 0, open()), NODE_EXISTS),
        (with("/\u{1}", 0, open()), BAD_ARGUMENTS),
        (with("/a", 0, Some(acl(perms::ALL, "nobody", "knows"))), INVALID_ACL),
        (with("/a", 0, Some(acl(perms::ALL, "auth", ""))), INVALID_ACL),
        (with("/a", 0, Some(acl(perms::READ, "ip", "not an address"))), INVALID_ACL),
    ] {
        assert_eq!(server.err(client, &request), expected, "C10: {request:?}");
    }
    let null =
        Request::Create(ringkeeper::wire::client::CreateRequest { path: None, data: None, acl: open(), flags: 0 });
    assert_eq!(server.err(client, &null), -5);
    let null = Request::SetData { path: None, data: None, version: -1 };
    assert_eq!(server.err(client, &null), BAD_ARGUMENTS);
    let null = Request::SetAcl { path: None, acl: open(), version: -1 };
    assert_eq!(server.err(client, &null), BAD_ARGUMENTS);
}

#[test]
fn deletes_are_refused_in_the_order_of_the_checks() {
    let mut server = Server::new();
    let client = server.client();
    server.must(client, &create("/p", b"", PERSISTENT));
    server.must(client, &create("/p/c", b"", PERSISTENT));
    for (path, version, expected) in [
        ("/", -1, BAD_ARGUMENTS),
        ("/zookeeper", -1, BAD_ARGUMENTS),
        ("/zookeeper/quota", -1, BAD_ARGUMENTS),
        ("no slash", -1, BAD_ARGUMENTS),
        ("/x/y", -1, NO_NODE),
        ("/x", -1, NO_NODE),
        ("/p", 5, BAD_VERSION),
        ("/p", -1, NOT_EMPTY),
        ("/p/c", 0, 0),
        ("/p", 0, 0),
    ] {
        assert_eq!(server.err(client, &delete(path, version)), expected, "{path} at {version}");
    }
}

#[test]
fn permissions_guard_by_the_parent_for_create_and_delete_and_by_the_node_for_the_rest() {
    let mut server = Server::new();
    let (owner, stranger) = (server.client(), server.client());
    server.must(owner, &Request::Auth { scheme: Some("digest".into()), auth: Some(b"bob:secret") });
    let mine = Request::Create(ringkeeper::wire::client::CreateRequest {
        acl: Some(acl(perms::ALL, "auth", "")),
        ..create_request("/mine", b"s", PERSISTENT)
    });
    server.must(owner, &mine);
    server.must(owner, &create("/mine/open", b"", PERSISTENT));
    for request in [
        create("/mine/x", b"", PERSISTENT),
        delete("/mine/open", -1),
        set("/mine", b"", -1),
        get("/mine", false),
        exists("/mine", false),
        children("/mine", false),
        Request::GetAcl { path: Some("/mine".into()) },
        Request::SetAcl { path: Some("/mine".into()), acl: Some(open_acl()), version: -1 },
    ] {
        assert_eq!(server.err(stranger, &request), NO_AUTH, "{request:?}");
    }
    server.must(stranger, &get("/mine/open", false));
    // The other way round: a node that nobody may touch, below one that everybody may delete from (A6).
    let closed =
        CreateRequest { acl: Some(acl(perms::READ, "auth", "")), ..create_request("/closed", b"", PERSISTENT) };
    server.must(owner, &Request::Create(closed));
    assert_eq!(server.err(stranger, &set("/closed", b"", -1)), NO_AUTH);
    server.must(stranger, &delete("/closed", -1));
    let reply = server.must(owner, &Request::GetAcl { path: Some("/mine".into()) });
    let Response::Acl { acl: Some(list), .. } = reply.response(OpCode::GetAcl) else { panic!() };
    assert_eq!(list[0].id.as_deref(), Some("bob:fyVmFCwVbTJYrznoSu1koqYEYF0="));
    // An ACL in flight already guards the writes behind it.
    server.slow_disk = true;
    let lock =
        Request::SetAcl { path: Some("/mine/open".into()), acl: Some(acl(perms::READ, "world", "anyone")), version: 0 };
    server.send(stranger, 1, &lock);
    server.send(stranger, 2, &set("/mine/open", b"", -1));
    server.disk_finishes();
    let errors: Vec<i32> = server.replies(stranger).iter().map(|reply| reply.err).collect();
    assert_eq!(errors, [0, NO_AUTH]);
}

#[test]
fn set_acl_changes_only_the_acl_version() {
    let mut server = Server::new();
    let client = server.client();
    server.must(client, &create("/a", b"", PERSISTENT));
    let before = stat(&mut server, client, "/a");
    server.must(client, &Request::SetAcl { path: Some("/a".into()), acl: Some(open_acl()), version: 0 });
    assert_eq!(stat(&mut server, client, "/a"), Stat { aversion: 1, ..before }, "S5");
    let stale = Request::SetAcl { path: Some("/a".into()), acl: Some(open_acl()), version: 0 };
    assert_eq!(server.err(client, &stale), BAD_VERSION);
}

fn op(path: &str, flags: i32) -> MultiOp<'_> {
    MultiOp::Create(create_request(path, b"", flags))
}

fn results(server: &mut Server, client: Client, ops: Vec<MultiOp<'_>>) -> Vec<MultiResult<'static>> {
    let reply = server.must(client, &Request::Multi(ops));
    let Response::Multi(results) = reply.response(OpCode::Multi) else { panic!() };
    let own = |result: MultiResult<'_>| match result {
        MultiResult::Create { path } => MultiResult::Create { path: path.into_owned().into() },
        MultiResult::Create2 { path, stat } => MultiResult::Create2 { path: path.into_owned().into(), stat },
        MultiResult::Delete => MultiResult::Delete,
        MultiResult::SetData { stat } => MultiResult::SetData { stat },
        MultiResult::Check => MultiResult::Check,
        MultiResult::Error { code } => MultiResult::Error { code },
        other => panic!("{other:?}"),
    };
    results.into_iter().map(own).collect()
}

#[test]
fn a_multi_sees_its_own_items_and_happens_at_once() {
    let mut server = Server::new();
    let client = server.client();
    let check = |path: &'static str, version| MultiOp::Check { path: Some(path.into()), version };
    let set_op = MultiOp::SetData { path: Some("/m/c".into()), data: Some(b"x"), version: 0 };
    let done = results(
        &mut server,
        client,
        vec![
            op("/m", PERSISTENT),
            op("/m/c", PERSISTENT),
            set_op,
            check("/m/c", 1),
            op("/m/s-", SEQUENTIAL),
            MultiOp::Delete { path: Some("/m/c".into()), version: 1 },
            op("/m/c", PERSISTENT),
        ],
    );
    assert_eq!(done[0], MultiResult::Create { path: "/m".into() });
    assert!(matches!(done[2], MultiResult::SetData { stat } if stat.version == 1));
    assert_eq!(done[3], MultiResult::Check);
    assert_eq!(done[4], MultiResult::Create { path: "/m/s-0000000001".into() });
    assert_eq!(done[5], MultiResult::Delete);
    let (a, b) = (stat(&mut server, client, "/m"), stat(&mut server, client, "/m/c"));
    assert_eq!((a.czxid, a.num_children, a.cversion), (b.czxid, 2, 4), "one zxid");
    assert!(results(&mut server, client, vec![]).is_empty(), "an empty multi succeeds");
}

#[test]
fn a_failed_multi_leaves_nothing_not_even_a_number() {
    let mut server = Server::new();
    let client = server.client();
    server.must(client, &create("/m", b"", PERSISTENT));
    let digest = server.node.tree().digest();
    let failed = results(
        &mut server,
        client,
        vec![
            op("/m/s-", SEQUENTIAL),
            MultiOp::SetData { path: Some("/m".into()), data: None, version: 9 },
            op("/m/never", PERSISTENT),
            MultiOp::Delete { path: Some("/m".into()), version: -1 },
        ],
    );
    let codes: Vec<i32> = failed.iter().map(|r| if let MultiResult::Error { code } = r { *code } else { 1 }).collect();
    assert_eq!(codes, [0, BAD_VERSION, -2, -2], "R3");
    assert_eq!(server.node.tree().digest(), digest);
    let (_, txn, logged) = decode_txn(&server.log.last().unwrap().1).unwrap();
    let Txn::Multi(items) = txn else { panic!("{txn:?}") };
    assert!(matches!(items[0], Txn::Create { kind: CreateKind::Persistent, .. }), "items before keep their records");
    assert_eq!(items[1..], [Txn::Error { code: BAD_VERSION }, Txn::Error { code: -2 }, Txn::Error { code: -2 }]);
    assert_eq!(logged.unwrap().tree_digest as u64, digest, "a failed multi carries the unchanged digest");
    assert_eq!(created(&mut server, client, "/m/s-", SEQUENTIAL), "/m/s-0000000000");
}

#[test]
fn multi_read_answers_each_item_for_itself() {
    let mut server = Server::new();
    let client = server.client();
    server.must(client, &create("/a", b"x", PERSISTENT));
    let ops = vec![
        MultiReadOp::GetData { path: Some("/a".into()), watch: true },
        MultiReadOp::GetData { path: Some("/none".into()), watch: false },
        MultiReadOp::GetChildren { path: Some("/".into()), watch: false },
    ];
    let reply = server.must(client, &Request::MultiRead(ops));
    let Response::Multi(results) = reply.response(OpCode::MultiRead) else { panic!() };
    assert!(matches!(&results[0], MultiResult::GetData { data: Some(data), .. } if &**data == b"x"));
    assert_eq!(results[1], MultiResult::Error { code: NO_NODE }, "R4");
    assert!(matches!(&results[2], MultiResult::GetChildren { children } if children.len() == 2));
    server.must(client, &set("/a", b"y", -1));
    assert!(server.replies(client).iter().all(|reply| reply.xid != -1), "it never arms a watch");
    // A write among them: R5, D-013.
    let mut bytes = Vec::new();
    let ops = vec![MultiReadOp::GetData { path: Some("/a".into()), watch: false }];
    Request::MultiRead(ops).encode(5, &mut bytes);
    let create_type = 12..16; // of the item, behind length, xid and opcode of the request
    bytes[create_type].copy_from_slice(&OpCode::Delete.number().to_be_bytes());
    server.bytes(client.connection, &bytes);
    let replies = server.replies(client);
    assert_eq!(replies.iter().map(|reply| (reply.xid, reply.err)).collect::<Vec<_>>(), [(5, -5)]);
    server.must(client, &exists("/a", false));
}

#[test]
fn null_and_empty_data_are_kept_apart() {
    let mut server = Server::new();
    let client = server.client();
    let null = Request::Create2(ringkeeper::wire::client::CreateRequest { data: None, ..create_request("/n", b"", 0) });
    let reply = server.must(client, &null);
    let Response::Create2 { path, stat: made } = reply.response(OpCode::Create2) else { panic!("{reply:?}") };
    assert_eq!((&*path, made), ("/n", stat(&mut server, client, "/n")), "R7");
    server.must(client, &create("/e", b"", PERSISTENT));
    for (path, expected) in [("/n", None), ("/e", Some(&b""[..]))] {
        let reply = server.must(client, &get(path, false));
        let Response::Data { data, stat } = reply.response(OpCode::GetData) else { panic!() };
        assert_eq!((data, stat.data_length), (expected, 0), "R12");
    }
}

#[test]
fn containers_and_ttl_nodes_go_when_their_time_has_come() {
    let settings = Settings { extended_types: true, ..Settings::default() };
    let mut server = Server::with(settings);
    let client = server.client();
    server.must(client, &Request::CreateContainer(create_request("/box", b"", 4)));
    server.must(client, &Request::CreateContainer(create_request("/unused", b"", 4)));
    let ttl = Request::CreateTtl { create: create_request("/ttl", b"", 5), ttl_ms: 30_000 };
    server.must(client, &ttl);
    for path in ["/box", "/ttl"] {
        assert_eq!(stat(&mut server, client, path).ephemeral_owner, 0, "S6: {path}");
    }
    server.must(client, &create("/box/c", b"", PERSISTENT));
    server.must(client, &delete("/box/c", -1));
    for _ in 0..62 {
        server.pass_ms(1000);
        server.send(client, -2, &Request::Ping);
    }
    assert_eq!(server.err(client, &exists("/box", false)), NO_NODE, "C6");
    assert_eq!(server.err(client, &exists("/ttl", false)), NO_NODE);
    server.must(client, &exists("/unused", false));
    for (flags, ttl_ms) in [(0, -1), (0, 5), (5, 0), (5, 1 << 40)] {
        let bad = Request::CreateTtl { create: create_request("/bad", b"", flags), ttl_ms };
        assert_eq!(server.err(client, &bad), BAD_ARGUMENTS, "{flags} {ttl_ms}");
    }
}

#[test]
fn ttl_nodes_of_3_5_3_go_in_their_time() {
    let settings = Settings { extended_types: true, emulate_353_ttl: true, ..Settings::default() };
    let mut builder = TreeBuilder::new(settings.tree_options());
    builder.add("", None, -1, &RawStat::default()).unwrap();
    for (path, ttl_ms) in [("/short", 30_000), ("/long", 300_000)] {
        let stat = RawStat { ephemeral_owner: i64::MIN | ttl_ms, ..RawStat::default() };
        builder.add(path, None, -1, &stat).unwrap();
    }
    let tree = builder.finish(ringkeeper::core::Zxid::ZERO).unwrap();
    let mut server = Server::on(settings, Recovered { tree, sessions: vec![], mismatches: vec![] });
    let client = server.client();
    assert_eq!(stat(&mut server, client, "/short").ephemeral_owner, 0);
    // Each counts from the beginning of time, which is when both were made.
    server.must(client, &set("/short", b"", -1));
    server.must(client, &set("/long", b"", -1));
    for _ in 0..125 {
        server.pass_ms(1000);
        server.send(client, -2, &Request::Ping);
    }
    assert_eq!(server.err(client, &exists("/short", false)), NO_NODE);
    server.must(client, &exists("/long", false));
}

#[test]
fn without_extended_types_there_are_no_ttl_nodes() {
    let mut server = Server::new();
    let client = server.client();
    let ttl = Request::CreateTtl { create: create_request("/ttl", b"", 5), ttl_ms: 30_000 };
    assert_eq!(server.err(client, &ttl), -6);
}

#[test]
fn the_super_user_may_do_everything() {
    let settings = Settings { super_digest: Some("super:xQJmxLMiHGwaqBvst5y6rkB6HQs=".into()), ..Settings::default() };
    let mut server = Server::with(settings);
    let client = server.client();
    assert_eq!(server.err(client, &set("/zookeeper/config", b"x", -1)), NO_AUTH);
    server.must(client, &Request::Auth { scheme: Some("digest".into()), auth: Some(b"super:admin") });
    server.must(client, &set("/zookeeper/config", b"x", -1));
    let nobodys = CreateRequest { acl: Some(acl(0, "world", "anyone")), ..create_request("/a", b"", PERSISTENT) };
    server.must(client, &Request::Create(nobodys));
    for request in [create("/a/b", b"", PERSISTENT), get("/a/b", false), delete("/a/b", -1), get("/a", false)] {
        server.must(client, &request);
    }
    let nobody = server.client();
    assert_eq!(server.err(nobody, &get("/a", false)), NO_AUTH);
    server.must(client, &Request::SetAcl { path: Some("/a".into()), acl: Some(open_acl()), version: -1 });
    server.must(nobody, &get("/a", false));
}

/// D-098: `auth` in a permission list may come to many times the length of the request.
#[test]
fn a_transaction_longer_than_servers_read_is_refused() {
    let mut server =
        Server::with(Settings { jute_max_buffer_bytes: 1500, jute_extra_bytes: 500, ..Settings::default() });
    let client = server.client();
    for user in 0..60 {
        let auth = format!("somebody-{user}:secret");
        server.must(client, &Request::Auth { scheme: Some("digest".into()), auth: Some(auth.as_bytes()) });
    }
    let long = |path| CreateRequest { acl: Some(acl(perms::ALL, "auth", "")), ..create_request(path, b"", 0) };
    assert_eq!(server.err(client, &Request::Create(long("/long"))), MARSHALLING_ERROR);
    let answers = results(&mut server, client, vec![op("/a", 0), MultiOp::Create(long("/long"))]);
    assert!(
        answers.len() == 2 && answers.iter().all(|answer| matches!(answer, MultiResult::Error { .. })),
        "{answers:?}"
    );
    for path in ["/a", "/long"] {
        assert_eq!(server.err(client, &exists(path, false)), NO_NODE, "{path}");
        server.must(client, &create(path, b"", PERSISTENT));
    }
}

#[test]
fn passwords_are_hashed_as_the_setting_says() {
    let super_digest = Some("super:WTA5ucCHTdJq645xIMibj8HviTPeB5mMuJ4/+v1dIEw=".into());
    let mut server =
        Server::with(Settings { password_hash: PasswordHash::Sha256, super_digest, ..Settings::default() });
    let client = server.client();
    server.must(client, &Request::Auth { scheme: Some("digest".into()), auth: Some(b"bob:secret") });
    let mine = CreateRequest { acl: Some(acl(perms::ALL, "auth", "")), ..create_request("/mine", b"", 0) };
    server.must(client, &Request::Create(mine));
    let reply = server.must(client, &Request::GetAcl { path: Some("/mine".into()) });
    let Response::Acl { acl: Some(acl), .. } = reply.response(OpCode::GetAcl) else { panic!() };
    assert_eq!(acl[0].id.as_deref(), Some("bob:huAluaVu3uER4LIpielGv9Qqk5x3YVDr6I2R/mXf2wE="));

    let client = server.client();
    assert_eq!(server.err(client, &set("/mine", b"x", -1)), NO_AUTH);
    server.must(client, &Request::Auth { scheme: Some("digest".into()), auth: Some(b"super:secret") });
    server.must(client, &set("/mine", b"x", -1));
}

#[test]
fn all_children_are_counted_and_the_root_under_its_other_name_once_more() {
    let mut server = Server::new();
    let client = server.client();
    let mut count = |path: &'static str| {
        let reply = server.must(client, &Request::GetAllChildrenNumber { path: Some(path.into()) });
        let Response::AllChildrenNumber(count) = reply.response(OpCode::GetAllChildrenNumber) else { panic!() };
        count
    };
    assert_eq!(["/zookeeper/quota", "/zookeeper", "/", ""].map(&mut count), [0, 2, 3, 4]);
}

#[test]
fn reconfig_is_refused_as_a_standalone_java_server_refuses_it() {
    let request = Request::Reconfig { joining: None, leaving: None, new_members: None, config_id: -1 };
    let mut server = Server::new();
    let client = server.client();
    assert_eq!(server.err(client, &request), -123);
    let mut server = Server::with(Settings { reconfig_enabled: true, ..Settings::default() });
    let client = server.client();
    assert_eq!(server.err(client, &request), -6);
}
