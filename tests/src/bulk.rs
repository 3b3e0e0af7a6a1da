//! Bulk data over plain TCP as fast as it goes, not looked at: for what [`crate::transfer`] hashes, this
//! only counts. Connections without a word are welcome, as health checks make them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::echo::listen_inside;
use crate::netns::Netns;
use crate::transfer::Way;

/// Of one read or write.
const BLOCK: usize = 256 * 1024;
/// A stalled connection fails after this.
const STALL: Duration = Duration::from_secs(5);
/// Between two looks for a connection or the end.
const POLL: Duration = Duration::from_millis(10);

/// Serves until this is dropped.
#[derive(Debug)]
pub struct BulkServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What came through.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moved {
    pub bytes: u64,
    pub took: Duration,
}

impl Moved {
    pub fn gbit_s(&self) -> f64 {
        self.bytes as f64 * 8e-9 / self.took.as_secs_f64()
    }
}

impl BulkServer {
    /// Listens inside `netns`, at one address or several.
    pub fn start(netns: &Netns, addresses: impl ToSocketAddrs) -> Result<Self> {
        let listeners = listen_inside(netns, addresses)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("bulk".to_owned())
            .spawn(move || serve(&listeners, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for BulkServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Whether it panicked shows in what its clients saw.
            let _ = thread.join();
        }
    }
}

/// Moves what it can in `span` over so many connections from inside `netns`. Counted is what was received,
/// until the last byte of it was.
pub fn run(
    netns: &Netns,
    target: SocketAddr,
    way: Way,
    streams: usize,
    span: Duration,
) -> Result<Moved> {
    thread::scope(|scope| {
        let start = Instant::now();
        let threads: Vec<_> = (0..streams)
            .map(|_| scope.spawn(|| netns.on_thread(|| stream(target, way, span))))
            .collect();
        let mut bytes = 0;
        for thread in threads {
            bytes += thread.join().map_err(|_| anyhow!("a transfer panicked"))??;
        }
        Ok(Moved { bytes, took: start.elapsed() })
    })
}

fn stream(target: SocketAddr, way: Way, span: Duration) -> Result<u64> {
    let mut stream = TcpStream::connect_timeout(&target, STALL).context("connecting")?;
    prepare(&stream)?;
    stream.write_all(&[way as u8])?;
    let end = Instant::now() + span;
    let mut block = vec![0; BLOCK];
    let mut bytes = 0;
    match way {
        Way::Download => {
            while Instant::now() < end {
                let got = stream.read(&mut block).context("receiving")?;
                ensure!(got > 0, "the server ended the transfer");
                bytes += got as u64;
            }
        }
        Way::Upload => {
            while Instant::now() < end {
                stream.write_all(&block).context("sending")?;
            }
            stream.shutdown(Shutdown::Write)?;
            let mut count = [0; 8];
            stream.read_exact(&mut count).context("reading the server's count")?;
            bytes = u64::from_be_bytes(count);
        }
    }
    Ok(bytes)
}

fn serve(listeners: &[TcpListener], stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let mut accepted = false;
        for listener in listeners {
            if let Ok((stream, _)) = listener.accept() {
                accepted = true;
                // How a transfer ends is for its client to judge.
                drop(thread::spawn(move || answer(stream)));
            }
        }
        if !accepted {
            thread::sleep(POLL);
        }
    }
}

fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_nonblocking(false)?;
    prepare(&stream)?;
    let mut way = [0];
    stream.read_exact(&mut way)?;
    let mut block = vec![0; BLOCK];
    if way == [Way::Download as u8] {
        // Until the client has had enough, and closes.
        loop {
            stream.write_all(&block)?;
        }
    }
    let mut bytes = 0_u64;
    loop {
        let got = stream.read(&mut block)?;
        if got == 0 {
            break;
        }
        bytes += got as u64;
    }
    stream.write_all(&bytes.to_be_bytes())?;
    Ok(())
}

fn prepare(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(STALL))?;
    stream.set_write_timeout(Some(STALL))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs root: cargo xtask test netns"]
    fn both_ways_move_something_and_end_on_time() {
        let netns = Netns::unique("bulk").unwrap();
        let target: SocketAddr = "127.0.0.1:7000".parse().unwrap();
        let _server = BulkServer::start(&netns, target).unwrap();
        for way in [Way::Download, Way::Upload] {
            let moved = run(&netns, target, way, 2, Duration::from_millis(200)).unwrap();
            assert!(moved.bytes > 1 << 20, "{moved:?}");
            assert!(moved.took < Duration::from_secs(3), "{moved:?}");
        }
    }
}
