//! Three nodes and their clients: what is promised through a follower, and what happens to it when a leader goes.

use super::ensemble_harness::Ensemble;
use super::harness::{PERSISTENT, create, get};

#[test]
fn a_write_through_a_follower_is_everywhere() {
    let mut ensemble = Ensemble::settled();
    let follower = ensemble.followers()[0];
    let client = ensemble.client(follower);
    ensemble.at(follower, |server| server.send(client, 1, &create("/a", b"1", PERSISTENT)));
    let replies = ensemble.server(follower).replies(client);
    assert_eq!((replies.len(), replies[0].err), (1, 0));
    ensemble.assert_agreed();
    assert_eq!(ensemble.server(follower).must(client, &get("/a", false)).err, 0);
}
