//! A few calls through the Rust client `zookeeper-client`. Usage: rust-client-session HOST:PORT
//!
//! Prints only what two right servers must answer alike, for a comparison with expected.txt.

use std::time::Duration;

use zookeeper_client::{Acls, Client, CreateMode, Error};

type Answer<T> = Result<T, Error>;

fn show<T>(what: &str, answer: Answer<T>, pick: impl FnOnce(T) -> String) {
    match answer {
        Ok(result) => println!("{what}: {}", pick(result)),
        Err(error) => println!("{what}: {error:?}"),
    }
}

async fn session(client: &Client) {
    let persistent = CreateMode::Persistent.with_acls(Acls::anyone_all());
    let ephemeral = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    let sequential = CreateMode::PersistentSequential.with_acls(Acls::anyone_all());
    let container = CreateMode::Container.with_acls(Acls::anyone_all());
    show("create", client.create("/r", b"one", &persistent).await, |(stat, _)| format!("version {}", stat.version));
    show("create again", client.create("/r", b"one", &persistent).await, |_| "created".into());
    show("no parent", client.create("/none/child", b"", &persistent).await, |_| "created".into());
    show("get", client.get_data("/r").await, |(data, stat)| {
        format!("{} version {}", String::from_utf8_lossy(&data), stat.version)
    });
    show("get nobody", client.get_data("/nobody").await, |_| "data".into());

    let data_watcher = client.get_and_watch_data("/r").await;
    let child_watcher = client.list_and_watch_children("/r").await;
    let recursive = client.watch("/r", zookeeper_client::AddWatchMode::PersistentRecursive).await;
    show("set", client.set_data("/r", b"two", Some(0)).await, |stat| format!("version {}", stat.version));
    show("set bad version", client.set_data("/r", b"two", Some(9)).await, |_| "set".into());
    show("ephemeral", client.create("/r/e", b"", &ephemeral).await, |(stat, _)| {
        format!("owned {}", stat.ephemeral_owner != 0)
    });
    show("sequential", client.create("/r/s-", b"", &sequential).await, |(_, sequence)| sequence.to_string());
    show("container", client.create("/r/box", b"", &container).await, |(stat, _)| {
        format!("owned {}", stat.ephemeral_owner != 0)
    });
    show("children", client.get_children("/r").await, |(mut names, stat)| {
        names.sort();
        format!("{} of {}", names.join(","), stat.num_children)
    });
    show("acl", client.get_acl("/r").await, |(acl, stat)| format!("{} entries, version {}", acl.len(), stat.aversion));
    show("count", client.count_descendants_number("/r").await, |count| count.to_string());
    show("ephemerals", client.list_ephemerals("/r").await, |paths| paths.join(","));
    show("sync", client.sync("/r").await, |()| "done".into());
    show("not empty", client.delete("/r", None).await, |()| "deleted".into());

    let mut good = client.new_multi_writer();
    good.add_check_version("/r", 1).unwrap();
    good.add_create("/r/m", b"m", &persistent).unwrap();
    good.add_set_data("/r", b"three", Some(1)).unwrap();
    show("multi", good.commit().await.map_err(|_| Error::RuntimeInconsistent), |results| results.len().to_string());
    let mut bad = client.new_multi_writer();
    bad.add_create("/r/n", b"", &persistent).unwrap();
    bad.add_check_version("/r", 1).unwrap();
    match bad.commit().await {
        Ok(_) => println!("refused multi: committed"),
        Err(error) => println!("refused multi: {error:?}"),
    }
    show("half of it", client.check_stat("/r/n").await, |stat| if stat.is_some() { "there" } else { "not there" }.into());

    for child in ["e", "s-0000000001", "box", "m"] {
        show(&format!("delete {child}"), client.delete(&format!("/r/{child}"), None).await, |()| "deleted".into());
    }
    if let Ok((_, _, watcher)) = data_watcher {
        println!("data event: {:?}", watcher.changed().await.event_type);
    }
    if let Ok((_, watcher)) = child_watcher {
        println!("child event: {:?}", watcher.changed().await.event_type);
    }
    if let Ok(mut watcher) = recursive {
        for _ in 0..4 {
            let event = watcher.changed().await;
            println!("recursive event: {:?} {}", event.event_type, event.path);
        }
    }
    show("delete", client.delete("/r", None).await, |()| "deleted".into());
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = std::env::args().nth(1).expect("usage: rust-client-session HOST:PORT");
    let client = Client::connector()
        .with_session_timeout(Duration::from_secs(10))
        .connect(&server)
        .await
        .expect("a server that lets us in");
    if tokio::time::timeout(Duration::from_secs(20), session(&client)).await.is_err() {
        println!("gave up");
        std::process::exit(1);
    }
    println!("closed");
}
