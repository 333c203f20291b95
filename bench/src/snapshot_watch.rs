//! When a server writes snapshots: told by the kernel (inotify on its directory), so that neither server nor load notices.
//!
//! A snapshot is under way from the moment its file is created until that file is closed under its final name, or removed.
//! Java writes `snapshot.ZXID` in place; ringkeeper writes `snapshot-ZXID.tmp` and renames it.

use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::{Arc, Weak, mpsc};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::{BenchError, Doing, Result};

/// One snapshot, as far as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub began: Instant,
    pub ended: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Began,
    Ended,
}

/// A thread that writes down when snapshots begin and end. It ends with this value.
pub struct SnapshotWatch {
    changes: mpsc::Receiver<(Instant, Change)>,
    began: Option<Instant>,
    /// The thread ends when it cannot reach this any more.
    _listening: Arc<()>,
}

impl SnapshotWatch {
    /// `directory` is where the server keeps its snapshots.
    pub fn start(directory: &Path) -> Result<SnapshotWatch> {
        let watched = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).doing("inotify")?;
        let wanted = WatchFlags::CREATE | WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        inotify::add_watch(&watched, directory, wanted)
            .doing(format_args!("watching {} for snapshots", directory.display()))?;
        let (sender, changes) = mpsc::channel();
        let listening = Arc::new(());
        let listener = Arc::downgrade(&listening);
        std::thread::Builder::new()
            .name("snapshot-watch".into())
            .spawn(move || tell_changes(watched, &sender, &listener))
            .doing("a thread that watches snapshots")?;
        Ok(SnapshotWatch { changes, began: None, _listening: listening })
    }

    /// The next snapshot that ends, if one does in time.
    pub fn next(&mut self, limit: Duration) -> Option<Span> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (at, change) = self.changes.recv_timeout(left).ok()?;
            match (change, self.began) {
                (Change::Began, None) => self.began = Some(at),
                (Change::Ended, Some(began)) => {
                    self.began = None;
                    return Some(Span { began, ended: at });
                }
                // An end whose beginning was before the watch; or another file of the same snapshot.
                (Change::Ended, None) | (Change::Began, Some(_)) => {}
            }
        }
    }

    /// All that ended so far, and when the one that still goes on began.
    pub fn finish(mut self) -> (Vec<Span>, Option<Instant>) {
        let mut spans = Vec::new();
        while let Some(span) = self.next(Duration::ZERO) {
            spans.push(span);
        }
        (spans, self.began)
    }
}

fn tell_changes(watched: OwnedFd, sender: &mpsc::Sender<(Instant, Change)>, listener: &Weak<()>) {
    let patience = Timespec { tv_sec: 1, tv_nsec: 0 };
    let mut buffer = [MaybeUninit::uninit(); 4096];
    while listener.strong_count() > 0 {
        match poll(&mut [PollFd::new(&watched, PollFlags::IN)], Some(&patience)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        let now = Instant::now();
        let mut events = inotify::Reader::new(&watched, &mut buffer);
        while let Ok(event) = events.next() {
            let name = event.file_name().map_or("".into(), |name| name.to_string_lossy());
            if let Some(change) = change_of(&name, event.events())
                && sender.send((now, change)).is_err()
            {
                return;
            }
        }
    }
}

fn change_of(name: &str, events: ReadFlags) -> Option<Change> {
    if !name.starts_with("snapshot") {
        return None;
    }
    let is_unfinished = name.ends_with(".tmp");
    if events.contains(ReadFlags::CREATE) {
        return Some(Change::Began);
    }
    let is_final = events.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) && !is_unfinished;
    let is_given_up = events.contains(ReadFlags::DELETE) && is_unfinished;
    (is_final || is_given_up).then_some(Change::Ended)
}

/// The one that waits for a snapshot says so when none comes.
pub fn none_came(server: &str, limit: Duration) -> BenchError {
    BenchError::new(format!("{server} wrote no snapshot within {limit:?}, though its snapCount was passed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn both_ways_of_writing_a_snapshot_are_seen_and_nothing_else_is() {
        let dir = std::env::temp_dir().join(format!("snapshot-watch-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut watch = SnapshotWatch::start(&dir).unwrap();
        fs::write(dir.join("log.1"), "not a snapshot").unwrap();
        fs::write(dir.join("snapshot.1f"), "Java's").unwrap();
        let first = watch.next(Duration::from_secs(10)).unwrap();
        assert!(first.began <= first.ended);
        fs::write(dir.join("snapshot-2.tmp"), "ours").unwrap();
        fs::rename(dir.join("snapshot-2.tmp"), dir.join("snapshot-2.rks")).unwrap();
        let second = watch.next(Duration::from_secs(10)).unwrap();
        assert!(first.ended <= second.began);
        fs::write(dir.join("snapshot-3.tmp"), "given up").unwrap();
        fs::remove_file(dir.join("snapshot-3.tmp")).unwrap();
        watch.next(Duration::from_secs(10)).unwrap();
        fs::remove_file(dir.join("snapshot.1f")).unwrap(); // a purge
        assert_eq!(watch.finish(), (Vec::new(), None));
        fs::remove_dir_all(&dir).unwrap();
    }
}
