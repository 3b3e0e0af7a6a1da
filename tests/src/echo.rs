//! A plain TCP server for what needs many connections and no TLS: it says its name and echoes.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::netns::Netns;
use crate::server_thread::ServerThread;

/// The line after which the server closes first.
pub const BYE: &str = "bye\n";

/// Connections that wait to be accepted: a burst must not be refused for the server's sake.
const BACKLOG: i32 = 4096;

/// Starts a server inside `netns`; when this returns, connections are accepted.
pub fn start(netns: &Netns, name: &str, address: SocketAddr) -> Result<ServerThread> {
    let listener = netns.on_thread(|| listen(address))?;
    let greeting = format!("{name}\n");
    ServerThread::start(name, || serve(listener, greeting))
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

async fn serve(listener: std::net::TcpListener, greeting: String) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let greeting = greeting.clone();
        // How a connection ends is for the client to judge.
        tokio::spawn(async move { echo(stream, &greeting).await });
    }
}

async fn echo(stream: TcpStream, greeting: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    stream.write_all(greeting.as_bytes()).await?;
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await? > 0 {
        stream.write_all(&line).await?;
        if line == BYE.as_bytes() {
            break;
        }
        line.clear();
    }
    stream.shutdown().await
}
