//! The floor of an ensemble: how long one write takes at least when three servers share a machine, whatever they are.
//!
//!   client -> follower: request -> leader: proposals -> [each of the three: one O_DIRECT block, flushed] -> acks
//!     -> the first ack and the leader's own block are a quorum: commits -> follower: reply -> client
//!
//! Three threads that block in every call, and know nothing of sessions, znodes or each other's failures: the messages, as long as the
//! protocol's, and the disk writes are all there is. A server has to beat one thing only: here the leader's write keeps it from
//! reading an ack that comes meanwhile.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};

use crate::floor::Log;
use crate::report::{Latency, latency_histogram, record_ns};
use crate::server::Cpus;
use crate::{Doing, Result};

#[derive(Args, Clone, Debug)]
pub struct Arguments {
    #[arg(long, default_value_t = 10_000)]
    writes: u64,
    /// Nothing is written to disk: messages alone.
    #[arg(long)]
    without_log: bool,
    /// CPUs of the three.
    #[arg(long, default_value = "1")]
    cores: Cpus,
    /// CPU of the client.
    #[arg(long, default_value = "0")]
    cpu: Cpus,
    /// Where the logs are made. Choose the disk you mean to measure.
    #[arg(long, default_value = ".")]
    data: PathBuf,
}

/// Bytes of a setData of 100 bytes, as the protocols frame it.
const REQUEST: usize = 150;
const FORWARDED: usize = 200;
const PROPOSAL: usize = 240;
const ACK: usize = 20;
const COMMIT: usize = 20;
const REPLY: usize = 88;

pub fn run(arguments: &Arguments) -> Result<()> {
    let directory = arguments.data.join(format!("floor-ensemble-{}", std::process::id()));
    fs::create_dir_all(&directory).doing(directory.display())?;
    let mut logs = Vec::new();
    for member in 0..3 {
        logs.push(if arguments.without_log {
            None
        } else {
            Some(Log::create(&directory.join(format!("log-{member}")))?)
        });
    }
    let outcome = measure(arguments, logs);
    fs::remove_dir_all(&directory).doing(directory.display())?;
    let latency = outcome?;
    println!(
        "one write of three servers, {} log, us: p50 {:.0} p90 {:.0} p99 {:.0} max {:.0}",
        if arguments.without_log { "without a" } else { "with a flushed" },
        latency.p50,
        latency.p90,
        latency.p99,
        latency.max
    );
    Ok(())
}

fn measure(arguments: &Arguments, mut logs: Vec<Option<Log>>) -> Result<Latency> {
    let (first, second, door) = (Pair::new()?, Pair::new()?, Pair::new()?);
    let mut log = || logs.pop().expect("one each");
    let members = [
        member(&arguments.cores, lead(first.0, second.0, log())),
        member(&arguments.cores, follow(first.1, log(), Some(door.0))),
        member(&arguments.cores, follow(second.1, log(), None)),
    ];
    arguments.cpu.pin_this_thread()?;
    let mut client = door.1;
    let mut histogram = latency_histogram();
    for write in 0..arguments.writes + arguments.writes / 10 {
        let began = Instant::now();
        send(&mut client, REQUEST)?;
        receive(&mut client, REPLY)?;
        if write >= arguments.writes / 10 {
            record_ns(&mut histogram, began.elapsed().as_nanos() as u64, 1);
        }
    }
    drop(client);
    for member in members {
        member.join().expect("a member does not panic")?;
    }
    Ok(Latency::of(&histogram))
}

/// Two ends of a connection.
struct Pair(TcpStream, TcpStream);

impl Pair {
    fn new() -> Result<Pair> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing("listening")?;
        let near = TcpStream::connect(listener.local_addr().doing("listening")?).doing("connecting")?;
        let (far, _) = listener.accept().doing("accepting")?;
        for end in [&near, &far] {
            end.set_nodelay(true).doing("TCP_NODELAY")?;
        }
        Ok(Pair(near, far))
    }
}

/// Runs until its connections end.
fn member(cores: &Cpus, work: impl FnOnce() -> Result<()> + Send + 'static) -> thread::JoinHandle<Result<()>> {
    let cores = cores.clone();
    thread::spawn(move || {
        cores.pin_this_thread()?;
        work()
    })
}

fn lead(mut first: TcpStream, mut second: TcpStream, mut log: Option<Log>) -> impl FnOnce() -> Result<()> + Send {
    move || {
        // Acks of the second that are no longer needed when they come.
        let mut late = 0u64;
        while receive(&mut first, FORWARDED)? {
            send(&mut first, PROPOSAL)?;
            send(&mut second, PROPOSAL)?;
            store(&mut log)?;
            let decided_by_first = loop {
                if has_arrived(&first, &second)? {
                    break true;
                }
                receive(&mut second, ACK)?;
                if late == 0 {
                    break false;
                }
                late -= 1;
            };
            if decided_by_first {
                late += 1;
                receive(&mut first, ACK)?;
            }
            send(&mut first, COMMIT)?;
            send(&mut second, COMMIT)?;
            if !decided_by_first {
                receive(&mut first, ACK)?;
            }
        }
        Ok(())
    }
}

/// Waits until one of them has something to read. Whether the first has.
fn has_arrived(first: &TcpStream, second: &TcpStream) -> Result<bool> {
    let mut both = [first, second].map(|peer| PollFd::from_borrowed_fd(peer.as_fd(), PollFlags::IN));
    poll(&mut both, None).doing("waiting for acks")?;
    Ok(!both[0].revents().is_empty())
}

fn follow(
    mut leader: TcpStream,
    mut log: Option<Log>,
    mut client: Option<TcpStream>,
) -> impl FnOnce() -> Result<()> + Send {
    move || {
        loop {
            if let Some(client) = &mut client {
                if !receive(client, REQUEST)? {
                    return Ok(());
                }
                send(&mut leader, FORWARDED)?;
            }
            if !receive(&mut leader, PROPOSAL)? {
                return Ok(());
            }
            store(&mut log)?;
            send(&mut leader, ACK)?;
            receive(&mut leader, COMMIT)?;
            if let Some(client) = &mut client {
                send(client, REPLY)?;
            }
        }
    }
}

fn store(log: &mut Option<Log>) -> Result<()> {
    log.as_mut().map_or(Ok(()), |log| log.flush(PROPOSAL))
}

fn send(peer: &mut TcpStream, bytes: usize) -> Result<()> {
    match peer.write_all(&[0; PROPOSAL][..bytes]) {
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Ok(()),
        sent => sent.doing("sending"),
    }
}

/// False: the other end is gone.
fn receive(peer: &mut TcpStream, bytes: usize) -> Result<bool> {
    match peer.read_exact(&mut [0; PROPOSAL][..bytes]) {
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => Ok(false),
        read => read.map(|()| true).doing("receiving"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_write_comes_back_and_everybody_ends() {
        let all = Cpus(vec![0]);
        let arguments =
            Arguments { writes: 200, without_log: true, cores: all.clone(), cpu: all, data: std::env::temp_dir() };
        // Pins the thread that measures.
        let measured = thread::spawn(move || measure(&arguments, vec![None, None, None])).join().unwrap().unwrap();
        assert!(measured.p50 > 0.0 && measured.max >= measured.p99);
    }
}
