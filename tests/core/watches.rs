//! Notifications: who hears what, and that the event stands before any reply that shows the change.

use ringkeeper::core::Input;
use ringkeeper::wire::client::{
    AddWatchMode, CreateRequest, EventKind, OpCode, Request, Response, SetWatches, WatcherType, perms,
};

use crate::harness::*;

fn events(replies: &[Reply]) -> Vec<(EventKind, String)> {
    let events = replies.iter().filter(|reply| reply.xid == -1);
    events.map(|reply| (reply.event().kind, reply.event().path.into_owned())).collect()
}

#[test]
fn the_event_of_ones_own_write_comes_before_its_reply() {
    let mut server = Server::new();
    let client = server.client();
    assert_eq!(server.err(client, &exists("/a", true)), -101);
    server.send(client, 1, &create("/a", b"", PERSISTENT));
    let replies = server.replies(client);
    assert_eq!(replies.iter().map(|reply| reply.xid).collect::<Vec<_>>(), [-1, 1], "W12");
    assert_eq!(replies[0].zxid, replies[1].zxid, "W13");
    assert_eq!(events(&replies), [(EventKind::NodeCreated, "/a".to_string())]);
}

#[test]
fn one_shot_watches_are_spent_and_missing_nodes_arm_only_exists() {
    let mut server = Server::new();
    let (client, other) = (server.client(), server.client());
    assert_eq!(server.err(client, &get("/a", true)), -101);
    assert_eq!(server.err(client, &children("/a", true)), -101);
    server.must(other, &create("/a", b"", PERSISTENT));
    assert!(server.replies(client).is_empty(), "W8");
    server.must(client, &get("/a", true));
    server.must(client, &children("/a", true));
    server.must(other, &set("/a", b"", -1));
    server.must(other, &set("/a", b"", -1));
    assert_eq!(events(&server.replies(client)), [(EventKind::NodeDataChanged, "/a".to_string())]);
    server.must(other, &create("/a/c", b"", PERSISTENT));
    server.must(other, &set("/a/c", b"", -1));
    assert_eq!(events(&server.replies(client)), [(EventKind::NodeChildrenChanged, "/a".to_string())], "W3");
    server.must(client, &children("/a", true));
    server.must(other, &set("/a/c", b"1", -1));
    assert!(server.replies(client).is_empty(), "W1");
    server.must(other, &delete("/a/c", -1));
    assert_eq!(events(&server.replies(client)), [(EventKind::NodeChildrenChanged, "/a".to_string())], "it was armed");
}

#[test]
fn data_and_child_watches_on_a_deleted_node_make_one_event() {
    let mut server = Server::new();
    let (client, other) = (server.client(), server.client());
    server.must(other, &create("/a", b"", PERSISTENT));
    server.must(client, &get("/a", true));
    server.must(client, &children("/a", true));
    server.must(other, &delete("/a", -1));
    assert_eq!(events(&server.replies(client)), [(EventKind::NodeDeleted, "/a".to_string())], "W4");
}

#[test]
fn recursive_watches_name_the_changed_node_and_stay() {
    let mut server = Server::new();
    let (client, other) = (server.client(), server.client());
    let add = Request::AddWatch { path: Some("/a".into()), mode: AddWatchMode::PersistentRecursive };
    let reply = server.must(client, &add);
    assert_eq!(reply.body, [0; 4], "R1");
    for request in [create("/a", b"", 0), create("/a/b", b"", 0), set("/a/b", b"", -1), delete("/a/b", -1)] {
        server.must(other, &request);
    }
    let heard = [
        (EventKind::NodeCreated, "/a"),
        (EventKind::NodeCreated, "/a/b"),
        (EventKind::NodeDataChanged, "/a/b"),
        (EventKind::NodeDeleted, "/a/b"),
    ];
    let heard: Vec<(EventKind, String)> = heard.map(|(kind, path)| (kind, path.to_string())).into();
    assert_eq!(events(&server.replies(client)), heard, "W2, W14");
    let remove = |kind| Request::RemoveWatches { path: Some("/a".into()), kind };
    assert_eq!(server.err(client, &remove(WatcherType::Children)), -121, "W6");
    let check = Request::CheckWatches { path: Some("/a".into()), kind: WatcherType::PersistentRecursive };
    for request in [check, remove(WatcherType::PersistentRecursive)] {
        assert!(server.must(client, &request).body.is_empty(), "R2");
    }
    server.must(other, &set("/a", b"", -1));
    assert!(server.replies(client).is_empty());
}

#[test]
fn set_watches_tells_what_was_missed_before_its_own_answer() {
    let mut server = Server::new();
    let (client, other) = (server.client(), server.client());
    server.must(other, &create("/old", b"", PERSISTENT));
    let seen = server.must(other, &create("/changed", b"", PERSISTENT)).zxid;
    server.must(other, &set("/changed", b"", -1));
    let paths = |list: &[&'static str]| list.iter().map(|path| (*path).into()).collect::<Vec<_>>();
    let watches = SetWatches {
        relative_zxid: seen,
        data: paths(&["/old", "/changed", "/gone"]),
        exist: paths(&["/old", "/later"]),
        child: paths(&["/old"]),
        persistent: vec![],
        persistent_recursive: vec![],
    };
    server.send(client, -8, &Request::SetWatches(watches));
    let replies = server.replies(client);
    assert_eq!(replies.last().unwrap().xid, -8, "W10");
    assert!(replies.last().unwrap().body.is_empty(), "R2");
    assert!(replies[..3].iter().all(|reply| reply.zxid == -1));
    let missed = [
        (EventKind::NodeDataChanged, "/changed".to_string()),
        (EventKind::NodeDeleted, "/gone".to_string()),
        (EventKind::NodeCreated, "/old".to_string()),
    ];
    assert_eq!(events(&replies), missed);
    server.must(other, &set("/old", b"", -1));
    server.must(other, &create("/later", b"", PERSISTENT));
    assert_eq!(
        events(&server.replies(client)),
        [(EventKind::NodeDataChanged, "/old".to_string()), (EventKind::NodeCreated, "/later".to_string())]
    );
}

#[test]
fn a_watcher_without_read_hears_nothing_and_its_watch_is_spent() {
    let mut server = Server::new();
    let (client, owner) = (server.client(), server.client());
    server.must(owner, &Request::Auth { scheme: Some("digest".into()), auth: Some(b"o:p") });
    server.must(owner, &create("/a", b"", PERSISTENT));
    server.must(client, &get("/a", true));
    let auth_only = acl(perms::ALL, "auth", "");
    server.must(owner, &Request::SetAcl { path: Some("/a".into()), acl: Some(auth_only), version: -1 });
    server.must(owner, &set("/a", b"1", -1));
    server.must(owner, &Request::SetAcl { path: Some("/a".into()), acl: Some(open_acl()), version: -1 });
    server.must(owner, &set("/a", b"2", -1));
    assert!(server.replies(client).is_empty(), "W15");
}

#[test]
fn a_multi_fires_in_item_order_with_one_zxid() {
    use ringkeeper::wire::client::MultiOp;
    let mut server = Server::new();
    let (client, other) = (server.client(), server.client());
    server.must(client, &Request::AddWatch { path: Some("/".into()), mode: AddWatchMode::PersistentRecursive });
    let ops = vec![
        MultiOp::Create(create_request("/b", b"", 0)),
        MultiOp::Create2(CreateRequest { ..create_request("/a", b"", 0) }),
        MultiOp::Delete { path: Some("/b".into()), version: -1 },
    ];
    let reply = server.must(other, &Request::Multi(ops));
    assert!(matches!(reply.response(OpCode::Multi), Response::Multi(results) if results.len() == 3));
    let replies = server.replies(client);
    let heard = [(EventKind::NodeCreated, "/b"), (EventKind::NodeCreated, "/a"), (EventKind::NodeDeleted, "/b")];
    assert_eq!(events(&replies), heard.map(|(kind, path)| (kind, path.to_string())), "W16");
    assert!(replies.iter().all(|event| event.zxid == reply.zxid));
}

#[test]
fn a_gone_connection_leaves_no_watches() {
    let mut server = Server::new();
    let client = server.client();
    for mode in [AddWatchMode::Persistent, AddWatchMode::PersistentRecursive] {
        server.must(client, &Request::AddWatch { path: Some("/a".into()), mode });
    }
    assert_eq!(server.err(client, &exists("/b", true)), -101);
    assert!(server.node.watch_summary().watches > 0);
    // Its client is cut off, and back with its session before anybody notices more than that.
    server.step(Input::Disconnected { connection: client.connection });
    assert_eq!(server.node.watch_summary(), Default::default(), "W7");
    let back = server.resume(&client).expect("its session lives");
    server.must(back, &create("/a", b"", PERSISTENT));
    assert!(server.replies(back).is_empty());
    assert_eq!(server.err(back, &exists("/b", true)), -101);
    server.must(back, &Request::CloseSession);
    assert_eq!(server.node.watch_summary(), Default::default(), "W7");
}
