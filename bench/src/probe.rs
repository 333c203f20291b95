//! Somebody who writes all the time, one write after the other, and comes back whenever a server turns them away.
//!
//! A probe holds one session with one server and never another one's: what it sees is that server's, and two probes at two
//! servers see what a service does, apart from any client library's way of looking for a server.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::{BenchError, Result, wire};

/// Between two attempts to be let in.
const RETRY_EVERY: Duration = Duration::from_millis(2);
/// For the answer to an attempt: a server may keep those who come too early without an answer for good. Longer, the longer it
/// takes.
const PATIENCE_MIN: Duration = Duration::from_millis(50);
/// For the answer to a write.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_millis(1);

const DATA: [u8; 100] = [b'v'; 100];

/// One acknowledged write.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    pub begun: Instant,
    pub acknowledged: Instant,
}

impl Write {
    pub fn took(&self) -> Duration {
        self.acknowledged - self.begun
    }
}

pub struct Probe {
    server: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    writes: Mutex<Vec<Write>>,
    over: AtomicBool,
}

impl Probe {
    /// `path` is there.
    pub fn start(server: SocketAddr, path: &str) -> Probe {
        let shared = Arc::new(Shared::default());
        let (theirs, request) = (shared.clone(), wire::set_data(path, &DATA));
        let thread = std::thread::spawn(move || write_until_over(server, &request, &theirs));
        Probe { server, shared, thread: Some(thread) }
    }

    /// Until a write that was begun after this moment is acknowledged.
    pub fn wait_for_write_after(&self, moment: Instant, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let newest = self.shared.writes.lock().expect("a probe does not panic").last().copied();
            match newest {
                Some(write) if write.begun > moment => return Ok(()),
                _ if start.elapsed() > limit => {
                    return Err(BenchError::new(format!("no write through {} within {limit:?}", self.server)));
                }
                _ => std::thread::sleep(POLL_EVERY),
            }
        }
    }

    /// All it wrote, in order.
    pub fn end(mut self) -> Vec<Write> {
        self.stop();
        std::mem::take(&mut self.shared.writes.lock().expect("a probe does not panic"))
    }

    fn stop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop();
    }
}

fn write_until_over(server: SocketAddr, request: &[u8], shared: &Shared) {
    let mut served = Instant::now();
    while !shared.over.load(Ordering::Relaxed) {
        let patience = (served.elapsed() / 5).max(PATIENCE_MIN);
        if let Ok(mut client) = Client::connect_within(server, patience)
            && client.set_reply_timeout(ANSWER_LIMIT).is_ok()
        {
            while !shared.over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                match client.call(request.to_vec()) {
                    Ok(reply) if reply.header.err == 0 => {}
                    _ => break, // turned away, or asked to come back
                }
                served = Instant::now();
                let write = Write { begun, acknowledged: served };
                shared.writes.lock().expect("its owner does not panic with it").push(write);
            }
            if shared.over.load(Ordering::Relaxed) {
                let _ = client.close(); // else the session lives on until it expires
            }
        }
        std::thread::sleep(RETRY_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_server::{self, Fault};

    #[test]
    fn a_probe_writes_until_it_is_ended() {
        let server = fake_server::start(Fault::None);
        let mut client = Client::connect(server).unwrap();
        client.put_all(&[("/probe".to_owned(), Vec::new())]).unwrap();
        let probe = Probe::start(server, "/probe");
        let moment = Instant::now();
        probe.wait_for_write_after(moment, Duration::from_secs(30)).unwrap();
        let writes = probe.end();
        assert!(writes.last().unwrap().begun > moment);
        assert!(writes.windows(2).all(|pair| pair[0].acknowledged <= pair[1].begun));
    }

    #[test]
    fn nobody_there_is_an_error_after_the_limit() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let probe = Probe::start(nobody, "/probe");
        let error = probe.wait_for_write_after(Instant::now(), Duration::from_millis(20)).unwrap_err().to_string();
        assert!(error.contains(&nobody.to_string()), "{error}");
        assert!(probe.end().is_empty());
    }
}
