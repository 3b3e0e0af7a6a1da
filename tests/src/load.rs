//! Load from inside a namespace: new connections at a rate, or a number of them by some workers.
//! Each connection is recorded; see [`crate::recorder`].

#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::echo::BYE;
use crate::http;
use crate::netns::NetnsHandle;
use crate::pki::Pki;
use crate::recorder::{Failure, Outcome, Recorder};
use crate::watch::{Watches, watch_forever};

pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What is said on each connection.
#[derive(Clone)]
pub enum Talk {
    /// TLS, `GET /version`.
    Tls(TlsConnector),
    /// `GET /version` in clear, which the stand-ins answer too.
    Http,
    /// The echo server's greeting and one line; then the client or the server closes.
    Plain { server_closes_first: bool },
}

impl Talk {
    /// TLS that trusts the lab's CA.
    pub fn tls(pki: &Pki) -> Result<Self> {
        Ok(Self::Tls(TlsConnector::from(pki.client_config()?)))
    }
}

/// How many connections, and when.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// So many each second, however the earlier ones fare, until the load is stopped.
    Open { per_second: u32 },
    /// So many in all, `workers` of them at a time.
    Closed { connections: u64, workers: usize },
}

/// A load to start.
#[derive(Clone)]
pub struct Load {
    pub target: SocketAddr,
    pub talk: Talk,
    pub pace: Pace,
    /// Long watch streams besides; only with TLS.
    pub watches: usize,
}

/// A load under way, on a thread of its own; dropping it stops it.
#[derive(Debug)]
pub struct Running {
    pub recorder: Recorder,
    pub watches: Watches,
    stop: Sender<bool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Load {
    /// Starts on a thread inside the namespace.
    pub fn start(&self, netns: &NetnsHandle) -> Result<Running> {
        let (load, netns) = (self.clone(), Arc::clone(netns));
        let (recorder, watches) = (Recorder::new(), Watches::default());
        let (stop, stopped) = channel(false);
        let (thread_recorder, thread_watches) = (recorder.clone(), watches.clone());
        let thread = thread::Builder::new().name("load".to_owned()).spawn(move || {
            // The thread ends inside: there is nothing to come back for.
            nix::sched::setns(&*netns, nix::sched::CloneFlags::CLONE_NEWNET)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(load.run(thread_recorder, thread_watches, stopped));
            Ok(())
        })?;
        Ok(Running { recorder, watches, stop, thread: Some(thread) })
    }

    /// Runs in the namespace of the calling thread until `stop` says so or the last connection is done.
    pub async fn run(self, recorder: Recorder, watches: Watches, stop: Receiver<bool>) {
        let mut streams = JoinSet::new();
        if let Talk::Tls(tls) = &self.talk {
            for id in 0..self.watches {
                let log = watches.clone();
                streams.spawn(watch_forever(id, self.target, tls.clone(), log, recorder.clone()));
            }
        }
        match self.pace {
            Pace::Open { per_second } => self.open_loop(per_second, &recorder, stop).await,
            Pace::Closed { connections, workers } => {
                self.closed_loop(connections, workers, &recorder, stop).await;
            }
        }
    }

    async fn open_loop(&self, per_second: u32, recorder: &Recorder, mut stop: Receiver<bool>) {
        let mut connections = JoinSet::new();
        let mut clock = interval(Duration::from_secs(1) / per_second.max(1));
        // What a busy machine delays is caught up with: the rate is what was promised.
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
        if per_second == 0 {
            let _ = stop.changed().await;
            return;
        }
        loop {
            tokio::select! {
                _ = stop.changed() => break,
                _ = clock.tick() => {
                    connections.spawn(one(self.target, self.talk.clone(), recorder.clone()));
                }
                Some(_) = connections.join_next() => {}
            }
        }
        while connections.join_next().await.is_some() {}
    }

    async fn closed_loop(
        &self,
        connections: u64,
        workers: usize,
        recorder: &Recorder,
        stop: Receiver<bool>,
    ) {
        let left = Arc::new(AtomicU64::new(connections));
        let mut crew = JoinSet::new();
        for _ in 0..workers {
            let (left, stop) = (Arc::clone(&left), stop.clone());
            let (target, talk, recorder) = (self.target, self.talk.clone(), recorder.clone());
            crew.spawn(async move {
                let take = |left: u64| left.checked_sub(1);
                while !*stop.borrow()
                    && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
                {
                    one(target, talk.clone(), recorder.clone()).await;
                }
            });
        }
        while crew.join_next().await.is_some() {}
    }
}

impl Running {
    /// Starts no more connections, and waits for those under way; watch streams are dropped.
    pub fn stop(mut self) -> Result<Recorder> {
        self.end()?;
        Ok(self.recorder.clone())
    }

    /// Starts no more connections; [`Self::is_finished`] says when those under way have ended.
    pub fn finish_connections(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until a closed loop has done all its connections.
    pub fn wait(mut self) -> Result<Recorder> {
        self.join()?;
        Ok(self.recorder.clone())
    }

    /// Whether a closed loop is done; or the load failed.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn end(&mut self) -> Result<()> {
        self.stop.send_replace(true);
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_| anyhow!("the load panicked"))?,
            None => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever wants to know how it went calls `stop`.
        let _ = self.end();
    }
}

/// A connection's way from SYN to answer.
async fn one(target: SocketAddr, talk: Talk, recorder: Recorder) {
    let ticket = recorder.begin();
    let outcome = match connect(target).await {
        Err(error) => failed(&error, Failure::ConnectTimeout),
        Ok(stream) => {
            recorder.connected(ticket);
            match timeout(ANSWER_TIMEOUT, ask(stream, target, &talk)).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(error)) => failed(&error, Failure::AnswerTimeout),
                Err(_) => Outcome::Failed(Failure::AnswerTimeout, "no answer".to_owned()),
            }
        }
    };
    recorder.finish(ticket, outcome);
}

/// Connects, within [`CONNECT_TIMEOUT`].
pub async fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    match timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await {
        Ok(stream) => stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream)),
        Err(_) => Err(ErrorKind::TimedOut.into()),
    }
}

async fn ask(stream: TcpStream, target: SocketAddr, talk: &Talk) -> io::Result<Outcome> {
    match talk {
        Talk::Tls(tls) => {
            let stream = handshake(tls, target, stream).await?;
            version(stream).await
        }
        Talk::Http => version(stream).await,
        Talk::Plain { server_closes_first } => plain(stream, *server_closes_first).await,
    }
}

/// Asks an apiserver for its version.
async fn version(stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<Outcome> {
    let mut stream = BufReader::new(stream);
    stream.write_all(http::get("kubernetes", "/version").as_bytes()).await?;
    Ok(match http::read_answer(&mut stream).await? {
        Some((head, _)) if head.status == 200 => Outcome::Answered(head.served_by.into()),
        Some((head, _)) => Outcome::Failed(Failure::WrongAnswer, format!("status {}", head.status)),
        None => Outcome::Failed(Failure::CutShort, "half an answer".to_owned()),
    })
}

/// TLS with the server at `target`, which must prove to have that address.
pub async fn handshake(
    tls: &TlsConnector,
    target: SocketAddr,
    stream: TcpStream,
) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + use<>> {
    tls.connect(ServerName::IpAddress(target.ip().into()), stream).await
}

async fn plain(stream: TcpStream, server_closes_first: bool) -> io::Result<Outcome> {
    let line = if server_closes_first { BYE } else { "hello\n" };
    let mut stream = BufReader::new(stream);
    let (mut name, mut echoed) = (String::new(), String::new());
    stream.write_all(line.as_bytes()).await?;
    stream.read_line(&mut name).await?;
    stream.read_line(&mut echoed).await?;
    if !name.ends_with('\n') || echoed != line {
        let got = format!("{name:?}, {echoed:?}");
        return Ok(Outcome::Failed(Failure::CutShort, got));
    }
    if !server_closes_first {
        stream.shutdown().await?;
    }
    // To the server's FIN: an RST after the answer is a loss too.
    stream.read_to_string(&mut echoed).await?;
    Ok(Outcome::Answered(name.trim_end().into()))
}

fn failed(error: &io::Error, on_timeout: Failure) -> Outcome {
    let words = error.to_string();
    if error.kind() == ErrorKind::ConnectionRefused {
        return Outcome::Failed(Failure::Refused, words);
    }
    if error.kind() == ErrorKind::TimedOut {
        return Outcome::Failed(on_timeout, words);
    }
    if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) {
        return Outcome::Failed(Failure::Reset, words);
    }
    if error.kind() == ErrorKind::UnexpectedEof {
        return Outcome::Failed(Failure::CutShort, words);
    }
    Outcome::Failed(Failure::Other, words)
}
