//! The client port, which moves when this server's own line in the configuration says so.
//!
//! Clients that are connected stay; new ones find the server at the new address only. Limits count connections of all places. A
//! server that was started without a client port may be given one.
//! Java: `NIOServerCnxnFactory.reconfigure`. Spec: quorum-protocol 16.5.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use tracing::info;

use crate::shell::client_listener::{
    AcceptedSocket, Admission, BoundListener, ClientListener, ExecutorLoad, ListenError, ListenerSettings,
};
use crate::shell::door::Door;
use crate::shell::mailbox::Mailbox;
use crate::shell::reactor;
use crate::shell::resolve::{HostPort, own_address};

pub struct ClientDoor {
    settings: ListenerSettings,
    mailboxes: Vec<Mailbox<AcceptedSocket>>,
    loads: Vec<Arc<ExecutorLoad>>,
    pub admission: Arc<Admission>,
    /// What the configuration of the start says; None: there is no client port so far.
    at_first: Option<HostPort>,
    door: Door<HostPort, ClientListener>,
}

impl ClientDoor {
    /// Nobody is let in yet. `mailboxes` and `loads` have one entry per executor, the pipeline's first.
    pub fn new(
        settings: ListenerSettings,
        at_first: Option<HostPort>,
        mailboxes: Vec<Mailbox<AcceptedSocket>>,
        loads: Vec<Arc<ExecutorLoad>>,
    ) -> ClientDoor {
        let admission = Admission::new(settings.connections_per_address, settings.connections_total);
        ClientDoor { settings, mailboxes, loads, admission, door: Door::new(at_first.clone()), at_first }
    }

    /// Listens where it was bound at the start.
    pub fn open(&self, bound: BoundListener) -> Result<(), ListenError> {
        let listener = self.listen(bound)?;
        self.door.had(self.at_first.as_ref().expect("it was bound there"), listener);
        Ok(())
    }

    /// None: clients cannot connect for now.
    pub fn address(&self) -> Option<SocketAddr> {
        self.door.port().as_ref().map(|listener| listener.address)
    }

    pub fn move_to(&self, place: HostPort) {
        self.door.move_to(Some(place));
    }

    pub fn close(&self) {
        self.door.move_to(None);
    }

    /// Goes where it is told to, for as long as the executor runs.
    pub async fn follow(self: Rc<Self>) {
        self.door.follow(async |place| self.listen_at(place).await).await;
    }

    async fn listen_at(&self, (host, port): HostPort) -> Result<ClientListener, String> {
        let name = host.clone();
        let found = reactor::off_thread(move || resolve(&name, port)).await;
        let address = found.map_err(|error| format!("client address {host}:{port}: {error}"))?;
        let started = BoundListener::bind(self.settings, address, port).and_then(|bound| self.listen(bound));
        let listener = started.map_err(|error| error.to_string())?;
        info!("clients connect to {} from now on", listener.address);
        Ok(listener)
    }

    fn listen(&self, bound: BoundListener) -> Result<ClientListener, ListenError> {
        bound.start(self.mailboxes.clone(), self.loads.clone(), self.admission.clone())
    }
}

/// None: every address of the machine.
pub fn resolve(host: &str, port: u16) -> std::io::Result<Option<IpAddr>> {
    Ok(Some(own_address(host, port)?.ip()).filter(|address| !address.is_unspecified()))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::shell::client_listener::HANDOVER_SOCKETS;
    use crate::shell::mailbox::mailbox;
    use crate::shell::reactor::next_turn;

    #[test]
    fn a_server_without_a_client_port_is_given_one_and_it_moves() {
        let ports = [0; 2].map(|any| TcpListener::bind(("127.0.0.1", any)).unwrap().local_addr().unwrap().port());
        let settings =
            ListenerSettings { backlog: -1, keep_alive: false, connections_per_address: 0, connections_total: 0 };
        let (mailbox, mut arrivals) = mailbox(HANDOVER_SOCKETS);
        let door = Rc::new(ClientDoor::new(settings, None, vec![mailbox], vec![Arc::default()]));
        reactor::run_here(async {
            let _following = reactor::spawn(door.clone().follow());
            assert_eq!(door.address(), None);
            for port in ports {
                door.move_to(("127.0.0.1".to_owned(), port));
                while door.address().is_none() {
                    next_turn().await;
                }
                assert_eq!(door.address().unwrap().to_string(), format!("127.0.0.1:{port}"));
                let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
                assert!(poll_fn(|cx| arrivals.poll_next(cx)).await.is_some());
            }
            assert!(TcpStream::connect(("127.0.0.1", ports[0])).is_err(), "nobody is where it was");
            door.close();
            assert!(TcpStream::connect(("127.0.0.1", ports[1])).is_err());
        });
    }
}
