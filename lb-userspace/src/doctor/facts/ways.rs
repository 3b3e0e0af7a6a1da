//! The ways to the backends. I/O.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::IpMtu;

use super::apiservers::Target;
use super::echo::Echo;
use crate::netlink::snapshot::{Hop, Resolution, Snapshot};

/// How frames get to one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    pub address: IpAddr,
    /// The backends there, as SERVICE/BACKEND.
    pub backends: Vec<String>,
    pub state: State,
    /// What the kernel has learned of the longest packet that gets there, if that is less than the interface
    /// lets through.
    pub narrow: Option<u32>,
    /// `None`: it was not asked.
    pub echo: Option<Echo>,
}

/// How far the way is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Out of this interface.
    Known(String),
    /// Nobody has asked for the neighbour yet, or it has not answered yet.
    Unresolved {
        neighbour: IpAddr,
        interface: String,
    },
    /// It was asked for and does not answer.
    Failed {
        neighbour: IpAddr,
        interface: String,
    },
    NoRoute,
    /// The address is this node's.
    Local,
}

pub(super) fn read(
    snapshot: &Snapshot,
    targets: &[Target],
    echoes: &BTreeMap<IpAddr, Echo>,
) -> Vec<Way> {
    let mut backends: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    for target in targets {
        let name = format!("{}/{}", target.service, target.backend);
        backends.entry(target.endpoint.ip()).or_default().push(name);
    }
    let way = |(address, backends)| {
        let echo = echoes.get(&address).copied();
        Way { echo, ..way(snapshot, address, backends) }
    };
    backends.into_iter().map(way).collect()
}

fn way(snapshot: &Snapshot, address: IpAddr, backends: Vec<String>) -> Way {
    let name = |index: u32| {
        let link = snapshot.links.get(&index);
        link.map_or_else(|| format!("interface {index}"), |link| link.name.clone())
    };
    let mut limit = None;
    let state = match snapshot.next_hop(address) {
        Resolution::Known(Hop { through, ifindex, .. }) => {
            limit = snapshot.links.get(&through).map(|link| link.mtu);
            State::Known(name(ifindex))
        }
        Resolution::Unresolved { neighbour, ifindex } => {
            State::Unresolved { neighbour, interface: name(ifindex) }
        }
        Resolution::Failed { neighbour, ifindex } => {
            State::Failed { neighbour, interface: name(ifindex) }
        }
        Resolution::NoRoute => State::NoRoute,
        Resolution::Local => State::Local,
    };
    let narrow = limit.and_then(|limit| path_mtu(address).filter(|learned| *learned < limit));
    Way { address, backends, state, narrow, echo: None }
}

/// Connecting a socket for datagrams sends nothing, and chooses a route.
fn path_mtu(address: IpAddr) -> Option<u32> {
    let any: SocketAddr = match address {
        IpAddr::V4(_) => ([0; 4], 0).into(),
        IpAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect((address, 9)).ok()?;
    let mtu = match address {
        IpAddr::V4(_) => getsockopt(&socket, IpMtu).ok()?,
        IpAddr::V6(_) => mtu_v6(&socket)?,
    };
    u32::try_from(mtu).ok()
}

/// `IPV6_MTU` of ipv6(7).
fn mtu_v6(socket: &UdpSocket) -> Option<libc::c_int> {
    let mut mtu: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of_val(&mtu)).ok()?;
    // SAFETY: the kernel writes at most `length` bytes to `mtu`; the socket is open.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU,
            (&raw mut mtu).cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(mtu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_its_mtu_as_that_of_a_way() {
        assert!(path_mtu("127.0.0.1".parse().unwrap()).is_some_and(|mtu| mtu >= 1280));
        assert_eq!(way(&Snapshot::default(), [10, 0, 0, 1].into(), vec![]).state, State::NoRoute);
    }
}
