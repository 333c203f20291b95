//! The client port, which moves when this server's own line in the configuration says so.
//!
//! Clients that are connected stay; new ones find the server at the new address only. Limits count connections of all places.
//! Java: `NIOServerCnxnFactory.reconfigure`. Spec: quorum-protocol 16.5.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info};

use crate::shell::client_listener::{
    AcceptedSocket, Admission, BoundListener, ClientListener, ExecutorLoad, ListenError, ListenerSettings,
};
use crate::shell::logging::Throttle;
use crate::shell::mailbox::Mailbox;
use crate::shell::pipeline::PipelineHandle;
use crate::shell::resolve::own_address;

/// Between two attempts at an address that cannot be had.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

pub struct ClientDoor {
    settings: ListenerSettings,
    mailboxes: Vec<Mailbox<AcceptedSocket>>,
    loads: Vec<Arc<ExecutorLoad>>,
    pub admission: Arc<Admission>,
    /// None: it could not be had where it has to be, or the server stops.
    listener: RefCell<Option<ClientListener>>,
}

impl ClientDoor {
    /// `mailboxes` and `loads` have one entry per executor, the pipeline's first.
    pub fn open(
        bound: BoundListener,
        mailboxes: Vec<Mailbox<AcceptedSocket>>,
        loads: Vec<Arc<ExecutorLoad>>,
    ) -> Result<ClientDoor, ListenError> {
        let settings = bound.settings().clone();
        let admission = Admission::new(settings.connections_per_address, settings.connections_total);
        let listener = bound.start(mailboxes.clone(), loads.clone(), admission.clone())?;
        Ok(ClientDoor { settings, mailboxes, loads, admission, listener: RefCell::new(Some(listener)) })
    }

    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.borrow().as_ref().map(|listener| listener.address)
    }

    pub fn close(&self) {
        *self.listener.borrow_mut() = None;
    }

    /// Moves whenever the core says so, for as long as the executor runs.
    pub async fn follow(self: Rc<Self>, pipeline: PipelineHandle) {
        let moved = pipeline.borrow().client_moved();
        let (mut wanted, mut failures) = (None, Throttle::new());
        loop {
            if wanted.is_none() {
                moved.lowered().await;
            }
            wanted = pipeline.borrow_mut().take_client_address().or(wanted);
            let Some((host, port)) = wanted.clone() else { continue };
            match self.move_to(host, port).await {
                Ok(()) => wanted = None,
                Err(why) => {
                    if let Some(left_out) = failures.pass() {
                        error!("{why}; trying again{left_out}");
                    }
                    glommio::timer::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn move_to(&self, host: String, port: u16) -> Result<(), String> {
        let name = host.clone();
        let found = glommio::executor().spawn_blocking(move || resolve(&name, port)).await;
        let address = found.map_err(|error| format!("client address {host}:{port}: {error}"))?;
        let is_there = |listener: &ClientListener| {
            let at = listener.address;
            at.port() == port
                && at.ip() == address.unwrap_or(at.ip())
                && (address.is_some() || at.ip().is_unspecified())
        };
        if self.listener.borrow().as_ref().is_some_and(is_there) {
            return Ok(());
        }
        // Both may be one port, on every address and on one of them.
        self.close();
        let settings = ListenerSettings { address, port, ..self.settings.clone() };
        let started = BoundListener::bind(settings)
            .and_then(|bound| bound.start(self.mailboxes.clone(), self.loads.clone(), self.admission.clone()));
        let listener = started.map_err(|error| error.to_string())?;
        info!("clients connect to {} from now on", listener.address);
        *self.listener.borrow_mut() = Some(listener);
        Ok(())
    }
}

/// None: every address of the machine.
pub fn resolve(host: &str, port: u16) -> std::io::Result<Option<IpAddr>> {
    Ok(Some(own_address(host, port)?.ip()).filter(|address| !address.is_unspecified()))
}
