//! Every strategy of the log with every driver of the disk: what is acknowledged survives a kill, a failed write is the end,
//! and a disk that hangs is told of and waited for.

use std::sync::Arc;
use std::time::Duration;

use ringkeeper::config::LogStrategy;
use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::harness::*;
use crate::small_disk::{FileSystem, SmallDisk};

const DRIVERS: [(&str, &str); 3] = [
    ("io_uring,", "ringkeeper.logThread=inline"),
    ("io_uring on a thread of its own,", "ringkeeper.logThread=dedicated"),
    ("system calls on threads of their own,", "ringkeeper.log.backend=syscalls"),
];

fn each_combination(test: impl Fn(LogStrategy, &str, Setup)) {
    for strategy in LogStrategy::ALL {
        for (driver, line) in DRIVERS {
            let setup = Setup::new(1)
                .with(line)
                .with(&format!("ringkeeper.log.strategy={}", strategy.name()))
                .with("ringkeeper.log.batchesInFlight=3");
            test(strategy, driver, setup);
        }
    }
}

#[test]
fn what_is_acknowledged_survives_a_kill_with_every_strategy_and_driver() {
    each_combination(|strategy, driver, setup| {
        let mut server = setup.clone().start();
        let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
        for (index, client) in clients.iter_mut().enumerate() {
            client.must(&create(&format!("/w{index}"), b""));
        }
        for number in 0..40u32 {
            for (index, client) in clients.iter_mut().enumerate() {
                client.send(&set(&format!("/w{index}"), &number.to_be_bytes().repeat(3000)));
            }
            for client in &mut clients {
                assert_eq!(client.receive().header.err, 0);
            }
        }
        assert_eq!(server.gauge("ringkeeper_force_sync_disabled"), u64::from(strategy == LogStrategy::None));
        assert!(server.word("envi").contains(&format!("ringkeeper.log.strategy={}\n", strategy.name())));
        server.signal(Signal::KILL);
        server.process.wait();
        let log = server.process.log();
        let banner = format!("log strategy {}: {} by {driver}", strategy.name(), strategy.describe(true));
        assert!(
            log.contains(&banner) || log.contains(&banner.replace(&strategy.describe(true), &strategy.describe(false))),
            "{banner}\n{log}"
        );
        assert_eq!(log.contains("ERROR"), strategy == LogStrategy::None, "{log}");

        let server = setup.start_in(server.directory.clone());
        let mut client = server.client();
        for index in 0..4 {
            assert_eq!(client.must(&get(&format!("/w{index}"))).data(), 39u32.to_be_bytes().repeat(3000));
        }
        server.stop();
    });
}

#[test]
fn a_failed_write_is_the_end_with_every_strategy_and_driver() {
    each_combination(|strategy, driver, setup| {
        let mut server = setup.start();
        let mut client = server.client();
        client.must(&create("/n", b"acknowledged"));
        let nothing_more = Rlimit { current: Some(0), maximum: Some(0) };
        prlimit(Some(server.process.pid()), Resource::Fsize, nothing_more).unwrap();
        let _ = client.try_send(&set("/n", b"never acknowledged"));
        let told = client.try_receive();
        assert!(told.as_ref().is_err_and(is_gone), "{strategy:?} {driver} {told:?}");
        assert_eq!(server.process.wait().code(), Some(1), "{}", server.process.log());
        let errors = server.process.lines_with(&["Severe unrecoverable error, from thread : "]);
        assert_eq!(errors.len(), 1, "{strategy:?} {driver} {}", server.process.log());
        assert!(errors[0].contains("File too large"), "{errors:?}");
    });
}

#[test]
fn a_disk_that_hangs_is_told_of_and_waited_for() {
    for (driver, line) in DRIVERS {
        for strategy in [LogStrategy::Dsync, LogStrategy::TwoStep, LogStrategy::Buffered] {
            let disk = match SmallDisk::mount(FileSystem::Ext4, 64) {
                Ok(disk) => disk,
                Err(why) => return println!("SKIPPED: no small disk to freeze: {why}"),
            };
            let elsewhere = Arc::new(tempfile::tempdir().unwrap());
            let setup = Setup::new(1).with(line).with(&format!("ringkeeper.log.strategy={}", strategy.name()));
            let server = setup.start_on(elsewhere, &disk.root().join("data"));
            let mut writer = server.client();
            let mut reader = server.client();
            writer.must(&create("/n", b"before"));
            let frozen = match disk.freeze() {
                Ok(frozen) => frozen,
                Err(why) => return println!("SKIPPED: the disk cannot be frozen: {why}"),
            };
            writer.send(&set("/n", b"after"));
            eventually("the alarm", || {
                assert_eq!(reader.must(&get("/n")).data(), b"before", "nothing is shown before it is durable");
                std::thread::sleep(Duration::from_millis(20));
                server.process.log().contains("has not answered a write for")
            });
            assert!(server.gauge("ringkeeper_log_write_in_flight_ms") >= 1000, "{strategy:?} {driver}");
            drop(frozen);
            assert_eq!(writer.receive().header.err, 0);
            assert_eq!(reader.must(&get("/n")).data(), b"after");
            eventually("its end", || server.process.log().contains("answers again, after"));
            eventually("the gauge", || server.gauge("ringkeeper_log_write_in_flight_ms") == 0);
            assert!(server.gauge("fsync_threshold_exceed_count") > 0);
            let slow =
                ["fsync-ing the write ahead log in ", "ms which will adversely effect operation latency.File size is "];
            eventually("it says so", || !server.process.lines_with(&slow).is_empty());
            server.stop();
        }
    }
}
