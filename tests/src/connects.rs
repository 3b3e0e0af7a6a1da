//! One connection after the other, and how long each took: to connect, and to the first answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::http;
use crate::netns::Netns;
use crate::paced::Latencies;

const PATIENCE: Duration = Duration::from_secs(2);

/// What connections took; see [`Latencies`].
#[derive(Clone, Debug, Default)]
pub struct Connects {
    /// From the SYN to its answer, whoever gave it.
    pub connect: Latencies,
    /// From the SYN to the first byte of a backend.
    pub first_answer: Latencies,
    /// Connections that got no answer, and why the first of them did not.
    pub failed: usize,
    pub why: Option<String>,
}

/// So many, from inside `netns`, to an HTTP server.
pub fn run(netns: &Netns, target: SocketAddr, count: usize) -> Result<Connects> {
    netns.on_thread(|| {
        let mut connects = Connects::default();
        let request = http::get("bench", "/version");
        for _ in 0..count {
            match one(target, request.as_bytes()) {
                Ok([connect, first_answer]) => {
                    connects.connect.sorted.push(connect);
                    connects.first_answer.sorted.push(first_answer);
                }
                Err(error) => {
                    connects.failed += 1;
                    connects.why.get_or_insert_with(|| format!("{error:#}"));
                }
            }
        }
        connects.connect.sorted.sort_unstable();
        connects.first_answer.sorted.sort_unstable();
        Ok(connects)
    })
}

fn one(target: SocketAddr, request: &[u8]) -> Result<[u64; 2]> {
    let start = Instant::now();
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE).context("connecting")?;
    let connected = start.elapsed();
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut answer = [0; 4096];
    let got = stream.read(&mut answer).context("reading an answer")?;
    let answered = start.elapsed();
    ensure!(answer[..got].starts_with(b"HTTP/1.1 200"), "an answer that is not 200");
    // To the server's FIN, so that connections end in order.
    while stream.read(&mut answer)? > 0 {}
    Ok([u64::try_from(connected.as_nanos())?, u64::try_from(answered.as_nanos())?])
}
