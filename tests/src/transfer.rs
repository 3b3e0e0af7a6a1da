//! Bulk data over plain TCP, hashed at both ends.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::echo::listen_inside;
use crate::netns::Netns;

pub const MIB: u64 = 1 << 20;
/// What is written at once; its first bytes are its number, so that no two are alike.
const BLOCK: usize = 256 * 1024;
/// A stalled transfer fails after this.
const STALL: Duration = Duration::from_secs(10);
/// Between two looks for a connection or the end.
const POLL: Duration = Duration::from_millis(5);

/// Which way the data goes, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Way {
    Download = b'D',
    Upload = b'U',
}

/// The hashes of what was sent and of what arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashes {
    pub sent: [u8; 32],
    pub received: [u8; 32],
}

/// A server that sends or takes what its clients ask for; it ends when this is dropped.
#[derive(Debug)]
pub struct TransferServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl TransferServer {
    /// Listens inside `netns`, at one address or several.
    pub fn start(netns: &Netns, addresses: impl ToSocketAddrs) -> Result<Self> {
        let listeners = listen_inside(netns, addresses)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("transfer".to_owned())
            .spawn(move || serve(&listeners, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for TransferServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A failure shows in what the test sees of the server.
            let _ = thread.join();
        }
    }
}

/// Moves `length` bytes between the namespace of the calling thread and the server at `target`.
pub fn transfer(target: SocketAddr, way: Way, length: u64) -> Result<Hashes> {
    transfer_slowly(target, way, length, Duration::ZERO)
}

/// The same with a pause after each 256 KiB that the client sends, so that the connection lasts.
pub fn transfer_slowly(
    target: SocketAddr,
    way: Way,
    length: u64,
    pause: Duration,
) -> Result<Hashes> {
    let mut stream = TcpStream::connect_timeout(&target, STALL)?;
    prepare(&stream)?;
    stream.write_all(&[way as u8])?;
    stream.write_all(&length.to_be_bytes())?;
    let (sent, received) = match way {
        Way::Download => {
            let received = receive(&mut stream, length).context("receiving")?;
            (read_hash(&mut stream)?, received)
        }
        Way::Upload => {
            let sent = send(&mut stream, length, pause).context("sending")?;
            (sent, read_hash(&mut stream)?)
        }
    };
    Ok(Hashes { sent, received })
}

fn serve(listeners: &[TcpListener], stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let mut accepted = false;
        for listener in listeners {
            match listener.accept() {
                // A health check says nothing; how a transfer ends is for its client to judge.
                Ok((stream, _)) => {
                    accepted = true;
                    drop(thread::spawn(move || answer(stream)));
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !accepted {
            thread::sleep(POLL);
        }
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_nonblocking(false)?;
    prepare(&stream)?;
    let (mut way, mut length) = ([0], [0; 8]);
    stream.read_exact(&mut way)?;
    stream.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    let hash = match way {
        [way] if way == Way::Download as u8 => send(&mut stream, length, Duration::ZERO)?,
        _ => receive(&mut stream, length)?,
    };
    stream.write_all(&hash)?;
    stream.shutdown(Shutdown::Write)?;
    Ok(())
}

fn prepare(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(STALL))?;
    stream.set_write_timeout(Some(STALL))?;
    Ok(())
}

fn send(stream: &mut TcpStream, length: u64, pause: Duration) -> Result<[u8; 32]> {
    let (mut digest, mut block) = (Sha256::new(), vec![0; BLOCK]);
    File::open("/dev/urandom")?.read_exact(&mut block)?;
    let mut left = length;
    while left > 0 {
        block[..8].copy_from_slice(&left.to_be_bytes());
        let now = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        digest.update(&block[..now]);
        stream.write_all(&block[..now])?;
        left -= u64::try_from(now)?;
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
    Ok(digest.finalize().into())
}

fn receive(stream: &mut TcpStream, length: u64) -> Result<[u8; 32]> {
    let (mut digest, mut block) = (Sha256::new(), vec![0; BLOCK]);
    let mut left = length;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        let got = stream.read(&mut block[..wanted])?;
        ensure!(got > 0, "the sender ended {left} bytes before the end");
        digest.update(&block[..got]);
        left -= u64::try_from(got)?;
    }
    Ok(digest.finalize().into())
}

fn read_hash(stream: &mut TcpStream) -> Result<[u8; 32]> {
    let mut hash = [0; 32];
    stream.read_exact(&mut hash).context("reading the other end's hash")?;
    ensure!(stream.read(&mut [0])? == 0, "more data than was asked for");
    Ok(hash)
}
