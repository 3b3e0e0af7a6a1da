//! Long-lived connections to echo servers that say something all the time, and must never break.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::eventually::eventually_is;
use crate::load::connect;
use crate::netns::NetnsHandle;

/// Between an answer and the next line.
const PAUSE: Duration = Duration::from_millis(50);
/// An answer that takes longer does not come any more.
const SILENCE: Duration = Duration::from_secs(10);

/// Connections that are used until this is dropped; one that breaks is not opened again.
#[derive(Debug)]
pub struct Steady {
    wanted: usize,
    state: Arc<Mutex<State>>,
    stop: Sender<bool>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// What the connections saw.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Connections that were greeted.
    pub opened: usize,
    /// Lines that came back.
    pub exchanges: u64,
    /// Why connections ended before they should.
    pub breaks: Vec<String>,
    /// The longest that an answer took.
    pub longest: Duration,
    /// When each connection had its last answer.
    pub answered: BTreeMap<usize, Instant>,
}

impl State {
    /// How many connections had an answer within this time.
    pub fn speaking(&self, within: Duration) -> usize {
        self.answered.values().filter(|at| at.elapsed() <= within).count()
    }
}

impl Steady {
    /// Opens `wanted` connections from inside the namespace, and waits until all are greeted.
    pub fn start(netns: &NetnsHandle, target: SocketAddr, wanted: usize) -> Result<Self> {
        Self::start_paced(netns, target, wanted, PAUSE)
    }

    /// The same, with another pause between an answer and the next line.
    pub fn start_paced(
        netns: &NetnsHandle,
        target: SocketAddr,
        wanted: usize,
        pause: Duration,
    ) -> Result<Self> {
        let (netns, state) = (Arc::clone(netns), Arc::<Mutex<State>>::default());
        let (stop, stopped) = channel(false);
        let thread_state = Arc::clone(&state);
        let thread = thread::Builder::new().name("steady".to_owned()).spawn(move || {
            // The thread ends inside: there is nothing to come back for.
            nix::sched::setns(&*netns, nix::sched::CloneFlags::CLONE_NEWNET)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut crew = JoinSet::new();
                for id in 0..wanted {
                    let state = Arc::clone(&thread_state);
                    crew.spawn(keep(id, target, pause, state, stopped.clone()));
                }
                while crew.join_next().await.is_some() {}
            });
            Ok(())
        })?;
        let steady = Self { wanted, state, stop, thread: Some(thread) };
        let opened = || Ok(steady.state());
        eventually_is("steady connections", SILENCE, opened, |state| {
            state.opened + state.breaks.len() >= wanted
        })?;
        steady.ensure_unbroken()?;
        Ok(steady)
    }

    pub fn state(&self) -> State {
        lock(&self.state).clone()
    }

    /// Every connection is there, and has said something in the meantime.
    pub fn ensure_unbroken(&self) -> Result<()> {
        let state = self.state();
        ensure!(state.breaks.is_empty(), "steady connections broke: {:?}", state.breaks);
        ensure!(state.opened == self.wanted, "{} of {} connections", state.opened, self.wanted);
        Ok(())
    }

    /// Asks each connection for one more line, ends them in order, and says how all of it went.
    pub fn finish(mut self) -> Result<State> {
        self.end()?;
        self.ensure_unbroken()?;
        Ok(self.state())
    }

    fn end(&mut self) -> Result<()> {
        self.stop.send_replace(true);
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_| anyhow!("the connections panicked"))?,
            None => Ok(()),
        }
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        // Whoever wants to know how it went calls `finish`.
        let _ = self.end();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Whoever panicked while holding it left a whole state.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn keep(
    id: usize,
    target: SocketAddr,
    pause: Duration,
    state: Arc<Mutex<State>>,
    stop: Receiver<bool>,
) {
    // Spread, so that the lines don't come all at once.
    sleep(pause * u32::try_from(id % 50).unwrap_or_default() / 50).await;
    if let Err(error) = talk(id, target, pause, &state, &stop).await {
        lock(&state).breaks.push(format!("{id}: {error}"));
    }
}

async fn talk(
    id: usize,
    target: SocketAddr,
    pause: Duration,
    state: &Mutex<State>,
    stop: &Receiver<bool>,
) -> io::Result<()> {
    let mut stream = BufReader::new(connect(target).await?);
    let mut name = String::new();
    answer(stream.read_line(&mut name)).await?;
    lock(state).opened += 1;
    for count in 0_u64.. {
        // Looked at first: what is asked after the end was asked for must be answered too.
        let is_last = *stop.borrow();
        let asked = Instant::now();
        exchange(&mut stream, &format!("{id} {count}\n")).await?;
        let took = asked.elapsed();
        {
            let mut state = lock(state);
            state.exchanges += 1;
            state.longest = state.longest.max(took);
            state.answered.insert(id, asked + took);
        }
        if is_last {
            break;
        }
        sleep(pause).await;
    }
    stream.shutdown().await
}

async fn exchange(stream: &mut BufReader<TcpStream>, line: &str) -> io::Result<()> {
    stream.write_all(line.as_bytes()).await?;
    let mut echoed = String::new();
    answer(stream.read_line(&mut echoed)).await?;
    if echoed == line { Ok(()) } else { Err(io::Error::other(format!("{echoed:?} for {line:?}"))) }
}

async fn answer(read: impl Future<Output = io::Result<usize>>) -> io::Result<()> {
    match timeout(SILENCE, read).await {
        Ok(Ok(0)) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(read) => read.map(drop),
        Err(_) => Err(io::Error::new(ErrorKind::TimedOut, format!("silent for {SILENCE:?}"))),
    }
}
