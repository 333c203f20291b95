//! From a name to addresses. It blocks for as long as the resolver likes: seconds where nobody answers.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// A name or an address, and a port.
pub type HostPort = (String, u16);

/// At least one, in the resolver's order.
pub fn addresses_of(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "this name has no address"));
    }
    Ok(addresses)
}

/// Where to listen under this name. Others that prefer IPv4 must find us where a name has addresses of both families, as
/// `localhost` does. Java: `InetAddress.getByName`, whose first is an IPv4 one.
pub fn own_address(host: &str, port: u16) -> io::Result<SocketAddr> {
    addresses_of(host, port).map(|addresses| preferred(&addresses))
}

fn preferred(addresses: &[SocketAddr]) -> SocketAddr {
    *addresses.iter().find(|address| address.is_ipv4()).unwrap_or(&addresses[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_listens_on_ipv4_where_its_name_has_it() {
        let [six, other_six, four] = ["[::1]:1", "[::2]:1", "127.0.0.1:1"].map(|address| address.parse().unwrap());
        assert_eq!(preferred(&[six, four]), four);
        assert_eq!(preferred(&[four, six]), four);
        assert_eq!(preferred(&[six, other_six]), six);
        assert_eq!(own_address("::1", 1).unwrap(), six);
    }
}
