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
use crate::shell::ensemble::BoundEnsemble;
use crate::shell::reactor;
use crate::shell::resolve::HostPort;
use crate::shell::run::{self, Ports};
use crate::shell::settings::{CoreLoaders, ServeError, Settings};
use crate::shell::signals::StopRequest;

/// Serves until asked to stop; returns how many clients the stop did not wait for, as they did not take their answers. `ready`
/// hears the address clients can connect to, once they can.
pub fn serve(
    settings: Settings,
    load: CoreLoaders,
    stop: StopRequest,
    ready: impl FnOnce(Option<SocketAddr>) + Send + 'static,
) -> Result<usize, ServeError> {
    raise_open_files();
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

/// Every client is a descriptor; the soft limit of 1024 dates from `select`.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_err() {
        warn!("open files stay limited to {:?}", limit.current);
    }
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
