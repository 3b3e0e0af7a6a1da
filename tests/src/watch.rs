//! Long watch streams: what kubelets hold open for hours, and what a load balancer must not cut.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::http;
use crate::load::{connect, handshake};
use crate::recorder::{Recorder, Span};

/// A stream has a line each 100 ms; after so long without one it is counted as lost.
const SILENCE: Duration = Duration::from_secs(10);
/// Before a lost stream is opened again, as clients of Kubernetes do.
const RETRY: Duration = Duration::from_millis(200);

/// A stream that ended, or a break in one.
#[derive(Clone, Debug)]
pub struct Break {
    /// Since the recorder's start.
    pub at: Duration,
    pub stream: usize,
    /// Empty if it had not been answered.
    pub server: String,
    pub why: String,
}

/// What all the streams of a load saw; shared with it.
#[derive(Clone, Debug, Default)]
pub struct Watches {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Who serves each stream at the moment.
    servers: BTreeMap<usize, String>,
    breaks: Vec<Break>,
    lines: u64,
    /// When each gap ended, and how long it was; only those above [`NOTABLE`].
    gaps: Vec<(Duration, Duration)>,
}

/// Gaps no longer than this are a busy machine's.
const NOTABLE: Duration = Duration::from_millis(150);

impl Watches {
    /// How many streams each server holds open.
    pub fn by_server(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for server in self.lock().servers.values() {
            *counts.entry(server.clone()).or_default() += 1;
        }
        counts
    }

    /// The streams that `server` holds open.
    pub fn of_server(&self, server: &str) -> Vec<usize> {
        let state = self.lock();
        state.servers.iter().filter(|(_, by)| *by == server).map(|(id, _)| *id).collect()
    }

    pub fn open(&self) -> usize {
        self.lock().servers.len()
    }

    pub fn lines(&self) -> u64 {
        self.lock().lines
    }

    pub fn breaks(&self, span: &Span) -> Vec<Break> {
        self.lock().breaks.iter().filter(|seen| span.contains(&seen.at)).cloned().collect()
    }

    /// The longest silence within streams that went on after it.
    pub fn longest_gap(&self, span: &Span) -> Duration {
        let state = self.lock();
        let gaps = state.gaps.iter().filter(|(at, _)| span.contains(at));
        gaps.map(|(_, gap)| *gap).max().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked while holding it left a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps one stream open until the task is dropped.
pub(crate) async fn watch_forever(
    id: usize,
    target: SocketAddr,
    tls: TlsConnector,
    watches: Watches,
    recorder: Recorder,
) {
    loop {
        let why = match follow(id, target, &tls, &watches, &recorder).await {
            Ok(never) => match never {},
            Err(error) => error.to_string(),
        };
        {
            let mut state = watches.lock();
            let server = state.servers.remove(&id).unwrap_or_default();
            state.breaks.push(Break { at: recorder.now(), stream: id, server, why });
        }
        sleep(RETRY).await;
    }
}

async fn follow(
    id: usize,
    target: SocketAddr,
    tls: &TlsConnector,
    watches: &Watches,
    recorder: &Recorder,
) -> io::Result<std::convert::Infallible> {
    let stream = connect(target).await?;
    let mut stream = BufReader::new(handshake(tls, target, stream).await?);
    stream.write_all(http::get("kubernetes", "/watch?watch=true").as_bytes()).await?;
    let head = timeout(SILENCE, http::read_head(&mut stream)).await??;
    let head = head.ok_or_else(|| io::Error::other("ended before its head"))?;
    if head.status != 200 {
        return Err(io::Error::other(format!("status {}", head.status)));
    }
    watches.lock().servers.insert(id, head.served_by);
    let (mut expected, mut last) = (0, recorder.now());
    loop {
        let count = timeout(SILENCE, next_count(&mut stream)).await.map_err(|_| {
            io::Error::new(ErrorKind::TimedOut, format!("silent for {SILENCE:?}"))
        })??;
        if count != expected {
            return Err(io::Error::other(format!("line {count} where {expected} was due")));
        }
        expected += 1;
        let now = recorder.now();
        let mut state = watches.lock();
        state.lines += 1;
        if now - last > NOTABLE {
            state.gaps.push((now, now - last));
        }
        last = now;
    }
}

/// The number of the next line. Each chunk is a line of JSON: the rest is chunk sizes.
async fn next_count(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<u64> {
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "ended"));
        }
        if line.starts_with('{') {
            let value: Value = serde_json::from_str(&line)?;
            return value["count"].as_u64().ok_or_else(|| io::Error::other("a line without count"));
        }
    }
}
