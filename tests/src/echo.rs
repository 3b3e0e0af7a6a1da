//! A plain TCP server for what needs many connections and no TLS: it says its name and echoes.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::netns::Netns;
use crate::server_thread::ServerThread;

/// The line after which the server closes first.
pub const BYE: &str = "bye\n";
/// The line that is answered with the address that the server sees its client at.
pub const WHO: &str = "who am I?\n";

/// Connections that wait to be accepted: a burst must not be refused for the server's sake.
const BACKLOG: i32 = 4096;

/// Starts a server inside `netns`, at one address or several; when this returns, connections are accepted.
pub fn start(netns: &Netns, name: &str, addresses: impl ToSocketAddrs) -> Result<ServerThread> {
    let listeners = listen_inside(netns, addresses)?;
    let greeting = format!("{name}\n");
    ServerThread::start(name, || serve(listeners, greeting))
}

/// Listeners at one address or several, whatever namespace the calling thread is in.
pub fn listen_inside(
    netns: &Netns,
    addresses: impl ToSocketAddrs,
) -> Result<Vec<std::net::TcpListener>> {
    let addresses: Vec<_> = addresses.to_socket_addrs()?.collect();
    netns.on_thread(|| addresses.iter().map(|address| listen(*address)).collect())
}

/// A listener for tokio, with a backlog for bursts.
pub fn listen(address: SocketAddr) -> Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into()).with_context(|| format!("binding {address}"))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

async fn serve(listeners: Vec<std::net::TcpListener>, greeting: String) -> Result<()> {
    let mut serving = JoinSet::new();
    for listener in listeners {
        serving.spawn(accept(TcpListener::from_std(listener)?, greeting.clone()));
    }
    while let Some(ended) = serving.join_next().await {
        ended??;
    }
    Ok(())
}

async fn accept(listener: TcpListener, greeting: String) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let greeting = greeting.clone();
        // How a connection ends is for the client to judge.
        tokio::spawn(async move { echo(stream, &greeting).await });
    }
}

async fn echo(stream: TcpStream, greeting: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let client = format!("{}\n", stream.peer_addr()?);
    let mut stream = BufReader::new(stream);
    stream.write_all(greeting.as_bytes()).await?;
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await? > 0 {
        let answer = if line == WHO.as_bytes() { client.as_bytes() } else { &line };
        stream.write_all(answer).await?;
        if line == BYE.as_bytes() {
            break;
        }
        line.clear();
    }
    stream.shutdown().await
}
