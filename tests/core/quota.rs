//! Quotas at the server's door: what a limit refuses, when, and what a client is told.

use ringkeeper::core::Settings;
use ringkeeper::wire::client::{MultiOp, MultiResult, OpCode, Request, Response, perms};

use crate::ensemble::ask;
use crate::ensemble_harness::{Ensemble, quick};
use crate::harness::*;

const BAD_ARGUMENTS: i32 = -8;
const NO_AUTH: i32 = -102;
const BAD_VERSION: i32 = -103;
const NODE_EXISTS: i32 = -110;
const QUOTA_EXCEEDED: i32 = -125;
const RUNTIME_INCONSISTENCY: i32 = -2;

const LIMITS: &str = "/zookeeper/quota/a/zookeeper_limits";
const STATS: &str = "/zookeeper/quota/a/zookeeper_stats";

fn enforcing() -> Settings {
    Settings { enforce_quota: true, ..Settings::default() }
}

/// A server with `/a` and its quota. The shell gets what is said to operators.
fn server_with(settings: Settings, limits: &str) -> (Server, Client) {
    let mut server = Server::with(settings);
    let client = server.client();
    server.must(client, &create("/a", b"", PERSISTENT));
    server.must(client, &create("/zookeeper/quota/a", b"", PERSISTENT));
    server.must(client, &create(LIMITS, limits.as_bytes(), PERSISTENT));
    server.must(client, &create(STATS, b"", PERSISTENT));
    (server, client)
}

fn text(server: &mut Server, client: Client, path: &str) -> String {
    let reply = server.must(client, &get(path, false));
    let Response::Data { data, .. } = reply.response(OpCode::GetData) else { panic!("{reply:?}") };
    String::from_utf8(data.unwrap_or_default().to_vec()).unwrap()
}

#[test]
fn a_hard_limit_refuses_what_goes_beyond_it() {
    let (mut server, client) = server_with(enforcing(), "count=-1,bytes=-1=;byteHardLimit=5;countHardLimit=3");
    server.must(client, &create("/a/b", b"12", PERSISTENT));
    server.must(client, &set("/a/b", b"12345", -1));
    assert_eq!(server.err(client, &set("/a/b", b"123456", -1)), QUOTA_EXCEEDED);
    assert_eq!(server.err(client, &create("/a/c", b"1", PERSISTENT)), QUOTA_EXCEEDED);
    server.must(client, &create("/a/c", b"", PERSISTENT));
    assert_eq!(server.err(client, &create("/a/d", b"", PERSISTENT)), QUOTA_EXCEEDED, "the third node, /a included");
    assert_eq!(text(&mut server, client, STATS), "count=3,bytes=5");
    server.must(client, &set("/a/b", b"1", -1));
    server.must(client, &delete("/a/c", -1));
    server.must(client, &create("/a/d", b"1234", PERSISTENT));
    assert_eq!(text(&mut server, client, STATS), "count=3,bytes=5");
    server.must(client, &create("/b", b"elsewhere", PERSISTENT));
    let refused = server.node.view(server.now, client.connection, Default::default()).metrics;
    assert_eq!(refused.quota_exceeded_error_per_namespace.sorted(), [("a", &3)]);
}

#[test]
fn without_enforcement_nothing_is_refused_and_everything_is_counted() {
    let (mut server, client) = server_with(Settings::default(), "countHardLimit=0,byteHardLimit=0");
    server.must(client, &create("/a/b", b"12", PERSISTENT));
    assert_eq!(text(&mut server, client, STATS), "count=2,bytes=2");
}

/// Semantics 4: behind everything else of a create, before the version of a setData.
#[test]
fn a_quota_is_looked_at_in_its_turn() {
    let (mut server, client) = server_with(enforcing(), "countHardLimit=2;byteHardLimit=0");
    server.must(client, &create("/a/b", b"", PERSISTENT));
    assert_eq!(server.err(client, &create("/a/b", b"", PERSISTENT)), NODE_EXISTS);
    assert_eq!(server.err(client, &set("/a/b", b"1", 7)), QUOTA_EXCEEDED);
    assert_eq!(server.err(client, &set("/a/b", b"", 7)), BAD_VERSION, "no byte more");
    let list = acl(perms::ALL & !perms::WRITE, "world", "anyone");
    server.must(client, &Request::SetAcl { path: Some("/a/b".into()), acl: Some(list), version: -1 });
    assert_eq!(server.err(client, &set("/a/b", b"1", -1)), NO_AUTH);
}

/// Usage is what has been applied: neither earlier items of a multi nor writes in flight are part of it (semantics 7.4).
#[test]
fn a_multi_and_writes_in_flight_may_overshoot() {
    let (mut server, client) = server_with(enforcing(), "countHardLimit=2");
    let item = |path| MultiOp::Create(create_request(path, b"", PERSISTENT));
    server.must(client, &Request::Multi(vec![item("/a/b"), item("/a/c")]));
    assert_eq!(text(&mut server, client, STATS), "count=3,bytes=0");
    let ops = vec![MultiOp::Delete { path: Some("/a/b".into()), version: -1 }, item("/a/d"), item("/e")];
    let reply = server.ask(client, &Request::Multi(ops));
    let Response::Multi(results) = reply.response(OpCode::Multi) else { panic!("{reply:?}") };
    let errors = [0, QUOTA_EXCEEDED, RUNTIME_INCONSISTENCY];
    assert!(
        results
            .iter()
            .zip(errors)
            .all(|(result, code)| matches!(result, MultiResult::Error { code: told } if *told == code))
    );
    assert_eq!(text(&mut server, client, STATS), "count=3,bytes=0", "nothing of it happened");

    server.must(client, &delete("/a/b", -1));
    server.must(client, &delete("/a/c", -1));
    server.slow_disk = true;
    server.send(client, 1, &create("/a/b", b"", PERSISTENT));
    server.send(client, 2, &create("/a/c", b"", PERSISTENT));
    server.disk_finishes();
    assert_eq!(server.replies(client).iter().map(|reply| reply.err).collect::<Vec<_>>(), [0, 0]);
}

/// A setData in flight counts for the next one of the same node: only the difference is new.
#[test]
fn the_difference_is_to_the_data_as_it_will_be() {
    let (mut server, client) = server_with(enforcing(), "byteHardLimit=4");
    server.slow_disk = true;
    server.send(client, 1, &set("/a", b"1234", -1));
    server.send(client, 2, &set("/a", b"12345", -1)); // one more than the first, none of which is applied
    server.send(client, 3, &set("/a", b"123456789a", -1));
    server.disk_finishes();
    assert_eq!(server.replies(client).iter().map(|reply| reply.err).collect::<Vec<_>>(), [0, 0, QUOTA_EXCEEDED]);
    assert_eq!(text(&mut server, client, STATS), "count=1,bytes=5");
}

#[test]
fn operators_hear_of_a_quota_once_in_a_while() {
    let (mut server, client) = server_with(enforcing(), "count=1,bytes=1");
    let warned = |server: &mut Server, path: &str, data: &[u8]| {
        server.must(client, &create(path, data, PERSISTENT));
        server.warned.drain(..).collect::<Vec<_>>()
    };
    let first = warned(&mut server, "/a/b", b"");
    assert_eq!(first.len(), 1);
    assert!(first[0].starts_with("quota of /a: 2 nodes with /a/b, which is allowed; the soft limit is 1"), "{first:?}");
    assert_eq!(warned(&mut server, "/a/c", b"22").len(), 1, "bytes are another matter");
    assert_eq!(warned(&mut server, "/a/d", b"22").len(), 0);
    server.now.mono_us += 16 * 60 * 1_000_000;
    let client = server.client();
    server.must(client, &create("/a/e", b"", PERSISTENT));
    assert_eq!(server.warned.len(), 1);
}

/// D-082, D-083: alone, in a multi, and whatever is enforced.
#[test]
fn what_java_servers_end_of_is_refused() {
    for settings in [Settings::default(), enforcing()] {
        let (mut server, client) = server_with(settings, "count=9");
        let logged = server.log.len();
        for request in [
            set(LIMITS, b"many", -1),
            set(STATS, b"count=1,bytes=", -1),
            Request::SetData { path: Some(STATS.into()), data: None, version: -1 },
            create("/zookeeper/quota/zookeeper_limits", b"count=1", PERSISTENT),
            create("/zookeeper/quota/a/b/zookeeper_limits", b"count=1", PERSISTENT),
            delete("/zookeeper/zookeeper_limits", -1),
        ] {
            let expected = if format!("{request:?}").contains("/a/b/") { -101 } else { BAD_ARGUMENTS };
            assert_eq!(server.err(client, &request), expected, "{request:?}");
        }
        let ops = vec![MultiOp::SetData { path: Some(STATS.into()), data: Some(b"junk"), version: -1 }];
        let reply = server.ask(client, &Request::Multi(ops));
        assert!(
            matches!(&reply.response(OpCode::Multi), Response::Multi(r) if matches!(r[..], [MultiResult::Error { code: BAD_ARGUMENTS }]))
        );
        assert_eq!(server.log.len(), logged + 7, "each refusal is a transaction");
        server.must(client, &create("/a/b", b"1", PERSISTENT));
        assert_eq!(text(&mut server, client, STATS), "count=2,bytes=1");
    }
}

/// Usage is kept by every server for itself, and is the same everywhere; the leader refuses.
#[test]
fn members_keep_the_same_usage() {
    let mut ensemble = Ensemble::of(3, 0, Settings { enforce_quota: true, ..quick() });
    ensemble.settle();
    let here = ensemble.followers()[0];
    let client = ensemble.client(here);
    for (path, data) in [("/a", ""), ("/zookeeper/quota/a", ""), (LIMITS, "countHardLimit=2"), (STATS, "")] {
        assert_eq!(ask(&mut ensemble, here, client, &create(path, data.as_bytes(), PERSISTENT)), 0, "{path}");
    }
    assert_eq!(ask(&mut ensemble, here, client, &create("/a/b", b"12", EPHEMERAL)), 0);
    assert_eq!(ask(&mut ensemble, here, client, &create("/a/c", b"", PERSISTENT)), QUOTA_EXCEEDED);
    // Who leads is not known for long: what would end a Java leader is not forwarded (D-062).
    let before = ensemble.server(here).node.last_processed();
    assert_eq!(ask(&mut ensemble, here, client, &set(LIMITS, b"many", -1)), BAD_ARGUMENTS);
    assert_eq!(ask(&mut ensemble, here, client, &delete("/zookeeper/zookeeper_limits", -1)), BAD_ARGUMENTS);
    assert_eq!(ensemble.server(here).node.last_processed(), before);
    assert_eq!(ask(&mut ensemble, here, client, &Request::CloseSession), 0);
    ensemble.pass_ms(500);
    let usage = |ensemble: &mut Ensemble, id| {
        let tree = ensemble.server(id).node.tree();
        String::from_utf8(tree.data(tree.find(STATS).unwrap()).unwrap().to_vec()).unwrap()
    };
    assert_eq!([1, 2, 3].map(|id| usage(&mut ensemble, id)), ["count=1,bytes=0"; 3].map(str::to_owned));
    let leader = ensemble.leader();
    let warned = &ensemble.server(leader).warned;
    assert!(
        warned[0].starts_with("quota of /a: 3 nodes with /a/c, which is refused; the hard limit is 2"),
        "{warned:?}"
    );
}
