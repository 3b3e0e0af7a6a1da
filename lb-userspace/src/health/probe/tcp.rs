//! The connection of every probe, and the probe that makes no more of it. I/O.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::{Reason, Stage, Target};

/// Connects and closes, by RST: that leaves neither side with a connection to wait for.
pub(super) async fn probe(target: Target) -> Result<Reason, Reason> {
    let stream = connect(target).await?;
    // If it does not work, the connection ends with FIN, and all there is to it is TIME_WAIT.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    Ok(Reason::Connected)
}

/// Connects from the source, or from what the kernel chooses.
pub(super) async fn connect(target: Target) -> Result<TcpStream, Reason> {
    let Target { endpoint, source, budget } = target;
    let socket = socket(endpoint, source)?;
    let connecting = async { socket.connect(endpoint).await.map_err(|error| classify(&error)) };
    budget.to_connect().spend(Stage::Connect, connecting).await
}

fn socket(endpoint: SocketAddr, source: Option<IpAddr>) -> Result<TcpSocket, Reason> {
    let local = |doing: &str, error: io::Error| Reason::Local(format!("{doing}: {error}"));
    let socket = Socket::new(Domain::for_address(endpoint), Type::STREAM, Some(Protocol::TCP))
        .map_err(|error| local("socket", error))?;
    socket.set_nonblocking(true).map_err(|error| local("socket", error))?;
    if let Some(source) = source {
        // The port is chosen at connect(), so that it need only be unique for this endpoint.
        setsockopt(&socket, IpBindAddressNoPort, &true)
            .map_err(|error| local("IP_BIND_ADDRESS_NO_PORT", error.into()))?;
        socket
            .bind(&SocketAddr::new(source, 0).into())
            .map_err(|error| local(&format!("bind to {source}"), error))?;
    }
    Ok(TcpSocket::from_std_stream(socket.into()))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the kind goes into the reason")]
fn classify(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Reason::Refused,
        io::ErrorKind::TimedOut => Reason::Timeout(Stage::Connect),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Reason::Closed,
        // No port is left, or a firewall of this host's forbids it.
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::PermissionDenied => {
            Reason::Local(Reason::bounded(format_args!("connect: {error}")))
        }
        kind => Reason::Unreachable(kind),
    }
}
