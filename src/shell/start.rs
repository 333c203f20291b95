//! From settings to a serving process: look at the machine first, then start the executors, and wait for their end.
//!
//! The runtime panics where io_uring is not to be had and blames the kernel's age, so everything it needs is looked at
//! here, before an executor is made, and a refusal names cause and cure. The client port is bound early (a port in use ends
//! the start before a long recovery) and listens only when the server can serve.

use std::io;
use std::net::SocketAddr;

use ringkeeper_storage::Ring;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::shell::client_door::resolve;
use crate::shell::client_listener::BoundListener;
use crate::shell::cpus;
use crate::shell::ensemble::BoundEnsemble;
use crate::shell::reactor;
use crate::shell::resolve::HostPort;
use crate::shell::run::{self, Ports};
use crate::shell::settings::{CoreLoaders, ServeError, Settings};
use crate::shell::signals::StopRequest;

/// Serves until asked to stop; returns how many clients the stop did not wait for, as they did not take their answers. `ready`
/// hears the address clients can connect to, once they can.
pub fn serve(
    mut settings: Settings,
    load: CoreLoaders,
    stop: StopRequest,
    ready: impl FnOnce(Option<SocketAddr>) + Send + 'static,
) -> Result<usize, ServeError> {
    cpus::remember_given_cpus();
    let open_files_max = raise_open_files();
    let wanted = settings.listener.connections_total;
    let possible = connections_within(open_files_max, wanted);
    if possible < wanted {
        warn!(
            "maxCnxns={wanted} is more than open files are allowed: {possible} clients at a time; raise that limit (LimitNOFILE, \
             ulimit -n)"
        );
    }
    settings.listener.connections_total = possible;
    check_memlock()?;
    drop(Ring::new()?);
    let ports = Ports {
        clients: settings.clients_at.as_ref().map(|at| bind_clients(&settings, at)).transpose()?,
        ensemble: settings.ensemble.as_ref().map(BoundEnsemble::bind).transpose()?,
    };
    let (builder, spin) = (settings.plan.builder(0), settings.plan.spin(0));
    let not_run = |executor| move |error: io::Error| ServeError::Executor { executor, why: error.to_string() };
    let pipeline = builder
        .spawn(move || reactor::run(spin, run::run(settings, ports, load, stop, ready)))
        .map_err(|error| ServeError::Executor { executor: 0, why: error.to_string() })?;
    // A panic; its own line has said why.
    let served = pipeline.join().map_err(|_| ServeError::ExecutorLost(0))?;
    let run::Served { ending, io_executors } = served.map_err(not_run(0))?;
    // After a failure the process is about to end, and nobody may be left to tell the other executors to.
    let mut left = ending?;
    for (index, executor) in io_executors.into_iter().enumerate() {
        left += executor.join().map_err(|_| ServeError::ExecutorLost(index + 1))?.map_err(not_run(index + 1))?;
    }
    Ok(left)
}

fn bind_clients(settings: &Settings, (host, port): &HostPort) -> Result<BoundListener, ServeError> {
    let unknown = |why: String| ServeError::UnknownAddress { address: host.clone(), why };
    let address = resolve(host, *port).map_err(|error| unknown(error.to_string()))?;
    Ok(BoundListener::bind(settings.listener, address, *port)?)
}

/// Every client is a descriptor; the soft limit of 1024 dates from `select`. Returns the limit, if there is one.
fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_err() {
        warn!("open files stay limited to {:?}", limit.current);
    }
    getrlimit(Resource::Nofile).current
}

/// As many clients as there may be: some files are for the log, the epochs and the other servers. A member that cannot store an epoch
/// because clients have every descriptor takes no part. `wanted`: 0 is no limit.
fn connections_within(open_files_max: Option<u64>, wanted: u32) -> u32 {
    let Some(files) = open_files_max else { return wanted };
    let for_clients = (files - (files / 8).clamp(64, 1024).min(files / 2)).clamp(1, u32::MAX.into()) as u32;
    if wanted == 0 { for_clients } else { wanted.min(for_clients) }
}

/// The runtime refuses to start an executor below this.
const MEMLOCK_NEEDED_BYTES: u64 = 512 * 1024;

fn check_memlock() -> Result<(), ServeError> {
    let limit = getrlimit(Resource::Memlock);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Memlock, raised).is_ok() { limit.maximum } else { limit.current };
    match current {
        Some(limit_bytes) if limit_bytes < MEMLOCK_NEEDED_BYTES => {
            Err(ServeError::Memlock { limit_bytes, needed_bytes: MEMLOCK_NEEDED_BYTES })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_some_open_files_to_the_server() {
        let within = |files, wanted| connections_within(Some(files), wanted);
        assert_eq!([within(1024, 0), within(1024, 100), within(1024, 5000)], [896, 100, 896]);
        assert_eq!([within(4096, 0), within(1 << 20, 0), within(100, 0)], [3584, (1 << 20) - 1024, 50]);
        assert_eq!([connections_within(None, 0), connections_within(None, 7), within(u64::MAX, 0)], [0, 7, u32::MAX]);
    }
}
