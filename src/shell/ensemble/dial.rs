//! Connections to other servers, from name to socket.
//!
//! Resolving a name blocks, and so may a connection that nobody answers; so attempts are made by threads. Names are resolved anew
//! at each attempt: a member may have moved. A server with several addresses is called at all of them, and the first that answers
//! is taken.
//!
//! What the configuration says is called at once. What somebody else said, who may be anybody that can reach the election port,
//! has to share a few threads: so many invented addresses that nobody answers at keep those threads busy, and nothing else: who
//! waits for one of them waits for a while. An attempt that is given up before its turn is not made.
//! Java: `QuorumCnxManager.initiateConnection`, `Learner.connectToLeader`. Spec: quorum-protocol 3.1, 6.1.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::TcpStream;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use crate::shell::cpus::leave_executors_cpu;
use crate::shell::mailbox::mailbox;
use crate::shell::reactor;
use crate::shell::resolve::{HostPort, addresses_of};

/// More than any ensemble has addresses, twice: as leader and as elector. Some may be of attempts that were given up.
const KNOWN_THREADS: usize = 128;

const TOLD_THREADS: usize = 8;

#[derive(Debug)]
pub struct Dials {
    known: Pool,
    told: Pool,
}

impl Default for Dials {
    fn default() -> Dials {
        Dials { known: Pool::of(KNOWN_THREADS), told: Pool::of(TOLD_THREADS) }
    }
}

impl Dials {
    /// Connects to the first of these that answers. `known`: by the configuration; `told`: by somebody who called. Given up by
    /// being dropped: what a thread still finds is closed. It takes `limit` for each, and all in all not more than twice that.
    pub async fn dial(&self, known: &[HostPort], told: &[HostPort], limit: Duration) -> io::Result<TcpStream> {
        let (mailbox, mut answers) = mailbox((known.len() + told.len()).max(1));
        let wanted = Arc::new(());
        for (pool, addresses) in [(&self.known, known), (&self.told, told)] {
            for (host, port) in addresses.iter().cloned() {
                let mailbox = mailbox.clone();
                pool.run(&wanted, move || {
                    let answer = connect(&host, port, limit);
                    let told = |error: io::Error| format!("{host}:{port}: {}", plain(&error));
                    // If nobody waits any more the socket closes.
                    mailbox.deliver(answer.map_err(|error| io::Error::new(error.kind(), told(error))));
                })?;
            }
        }
        drop(mailbox);
        let mut failure = match known.is_empty() && told.is_empty() {
            true => io::Error::new(io::ErrorKind::AddrNotAvailable, "it has no address"),
            false => io::Error::new(io::ErrorKind::TimedOut, "nobody answered in time"),
        };
        let mut late = pin!(reactor::sleep(2 * limit));
        let mut next = async || {
            poll_fn(|cx| match answers.poll_next(cx) {
                Poll::Pending if late.as_mut().poll(cx).is_ready() => Poll::Ready(None),
                answer => answer,
            })
            .await
        };
        while let Some(answer) = next().await {
            match answer {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// Threads that live as long as there is something to do, and never more of them than so many.
#[derive(Clone, Debug)]
struct Pool {
    most: usize,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Job>,
    threads: usize,
}

struct Job {
    /// Gone: nobody wants it done any more.
    wanted: Weak<()>,
    work: Box<dyn FnOnce() + Send>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("wanted", &self.is_wanted()).finish_non_exhaustive()
    }
}

impl Job {
    fn is_wanted(&self) -> bool {
        self.wanted.strong_count() > 0
    }
}

impl Pool {
    fn of(most: usize) -> Pool {
        Pool { most, queue: Arc::default() }
    }

    /// In its turn, unless `wanted` is dropped before.
    fn run(&self, wanted: &Arc<()>, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut queue = self.queue();
        queue.waiting.retain(Job::is_wanted); // else those who give up at once could make it long
        queue.waiting.push_back(Job { wanted: Arc::downgrade(wanted), work: Box::new(work) });
        if queue.threads == self.most {
            return Ok(());
        }
        let pool = self.clone();
        let spawned = std::thread::Builder::new().name("rk-dial".into()).spawn(move || {
            leave_executors_cpu();
            while let Some(job) = pool.next() {
                (job.work)();
            }
        });
        match spawned {
            Ok(_) => queue.threads += 1,
            Err(error) if queue.threads == 0 => {
                queue.waiting.clear();
                return Err(error);
            }
            Err(_) => {} // those that there are do it
        }
        Ok(())
    }

    /// None: this thread is one too many.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        while let Some(job) = queue.waiting.pop_front() {
            if job.is_wanted() {
                return Some(job);
            }
        }
        queue.threads -= 1; // whoever brings more work from now on sees that
        None
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let mut answer = Err(io::ErrorKind::NotFound.into());
    for address in addresses_of(host, port)? {
        answer = TcpStream::connect_timeout(&address, limit);
        if answer.is_ok() {
            break;
        }
    }
    answer
}

/// Without the number behind it, which says nothing more.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_first_that_answers_is_taken_and_else_the_reason_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // Bound and not listening: it refuses.
        let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        deaf.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        let deaf_port = deaf.local_addr().unwrap().as_socket().unwrap().port();
        let host = |port| ("127.0.0.1".to_owned(), port);
        reactor::run_here(async {
            let limit = Duration::from_secs(20);
            let dials = Dials::default();
            let both = [host(deaf_port), host(port)];
            for (known, told) in [(&both[..], &[][..]), (&both[..1], &both[1..]), (&[], &both)] {
                let stream = dials.dial(known, told, limit).await.unwrap();
                assert_eq!(stream.peer_addr().unwrap().port(), port);
            }
            let refused = dials.dial(&both[..1], &[], limit).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            assert_eq!(refused.to_string(), format!("127.0.0.1:{deaf_port}: Connection refused"));
            assert!(dials.dial(&[], &[], limit).await.unwrap_err().to_string().contains("no address"));
        });
    }

    #[test]
    fn invented_addresses_do_not_keep_a_known_one_from_being_called_again() {
        let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        deaf.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        let refuses = ("127.0.0.1".to_owned(), deaf.local_addr().unwrap().as_socket().unwrap().port());
        let (dials, busy) = (Dials::default(), Arc::new(()));
        let (end, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        for _ in 0..TOLD_THREADS {
            let gate = gate.clone();
            dials.told.run(&busy, move || assert!(gate.lock().unwrap().recv().is_err())).unwrap();
        }
        let told = [("127.0.0.1".to_owned(), 1)];
        let limit = Duration::from_millis(20);
        let failure = reactor::run_here(async { dials.dial(&[refuses], &told, limit).await.unwrap_err() });
        assert_eq!(failure.kind(), io::ErrorKind::ConnectionRefused, "{failure}");
        drop(end);
    }

    #[test]
    fn there_are_never_more_threads_than_allowed_and_what_nobody_wants_is_not_done() {
        const MOST: usize = 2;
        let pool = Pool::of(MOST);
        let (wanted, given_up) = (Arc::new(()), Arc::new(()));
        let (begun, begins) = mpsc::channel();
        let (go_on, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let running = Arc::<AtomicUsize>::default();
        let run = |number: usize, wanted: &Arc<()>| {
            let (begun, gate, running) = (begun.clone(), gate.clone(), running.clone());
            let work = move || {
                begun.send((number, running.fetch_add(1, Ordering::SeqCst) + 1)).unwrap();
                gate.lock().unwrap().recv().unwrap();
                running.fetch_sub(1, Ordering::SeqCst);
            };
            pool.run(wanted, work).unwrap();
        };
        let next_begins = || {
            let (number, running) = begins.recv().unwrap();
            assert!(running <= MOST);
            number
        };
        run(0, &wanted);
        run(1, &wanted);
        let mut first = [next_begins(), next_begins()];
        first.sort_unstable();
        assert_eq!(first, [0, 1]);
        run(2, &given_up);
        run(3, &wanted);
        assert_eq!(pool.queue().waiting.len(), 2);
        drop(given_up);
        run(4, &wanted);
        assert_eq!(pool.queue().waiting.len(), 2, "what was given up waits no longer");
        for next in [3, 4] {
            go_on.send(()).unwrap();
            assert_eq!(next_begins(), next);
        }
        for _ in 0..MOST {
            go_on.send(()).unwrap();
        }
        while pool.queue().threads > 0 {
            std::thread::yield_now();
        }
        run(5, &wanted);
        assert_eq!(next_begins(), 5, "and there are threads again");
        go_on.send(()).unwrap();
    }
}
