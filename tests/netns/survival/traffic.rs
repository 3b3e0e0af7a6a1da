//! Connections of every kind through the VIPs of both families: those that talk, those that are idle, streams whose
//! bytes are hashed at both ends, and new ones at a rate.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use lb_tests::family::Family;
use lb_tests::load::{Load, Pace, Running, Talk};
use lb_tests::recorder::Recorder;
use lb_tests::steady::Steady;
use lb_tests::topology::API_PORT;
use lb_tests::transfer::{MIB, Way, transfer_paced};

use super::STREAM_PORT;
use super::pair::Pair;

/// An answer that takes longer does not come any more.
const SILENCE: Duration = Duration::from_secs(10);
/// What has been established for so long survives everything: 200 ms, and a busy machine's delay.
const SETTLED: Duration = Duration::from_millis(300);
/// In between and at both ends of a handshake: connections that a take-over may cost.
const OPENING: Duration = Duration::from_millis(500);

/// Before a stream is opened again that broke.
const RETRY: Duration = Duration::from_millis(50);

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amount {
    pub(super) talking: usize,
    pub(super) idle: usize,
    pub(super) streams: usize,
    pub(super) stream: u64,
    /// Bytes that a stream moves in a second; `None`: as fast as it goes.
    pub(super) pace: Option<NonZeroU64>,
    pub(super) per_second: u32,
}

impl Amount {
    pub(super) const fn small() -> Self {
        Self { talking: 60, idle: 60, streams: 1, stream: 512 * MIB, pace: None, per_second: 100 }
    }

    /// What a soak by hand asks for: `FAIRLEAD_SURVIVAL=full`.
    pub(super) fn from_environment() -> Self {
        if is_full() {
            // Unpaced, 100 streams leave nothing of two cores for what is tested, nor for the backends.
            let pace = NonZeroU64::new(MIB);
            Self { talking: 500, idle: 500, streams: 100, stream: 24 * MIB, pace, per_second: 1000 }
        } else {
            Self::small()
        }
    }
}

/// Whether this is the soak by hand.
pub(super) fn is_full() -> bool {
    std::env::var("FAIRLEAD_SURVIVAL").is_ok_and(|amount| amount == "full")
}

/// Traffic under way.
pub(super) struct Traffic {
    amount: Amount,
    talking: Vec<Steady>,
    idle: Vec<TcpStream>,
    load: Running,
    streams: Vec<Stream>,
    stop: Arc<AtomicBool>,
    /// When the VIPs were moving.
    moves: Vec<Range<Duration>>,
}

impl Traffic {
    pub(super) fn start(pair: &Pair, amount: Amount) -> Result<Self> {
        let client = &pair.lab.client.netns;
        let talking = Family::ALL.map(|family| {
            Steady::start(&client.handle(), pair.target(family, API_PORT), amount.talking / 2)
        });
        let idle = open(pair, amount.idle)?;
        let load = Load {
            target: pair.target(Family::V4, API_PORT),
            talk: Talk::Plain { server_closes_first: false },
            pace: Pace::Open { per_second: amount.per_second },
            watches: 0,
        };
        let load = load.start(&client.handle())?;
        let stop = Arc::new(AtomicBool::new(false));
        let streams = (0..amount.streams).map(|number| {
            let family = if number % 2 == 0 { Family::V4 } else { Family::V6 };
            let way = if number % 3 == 0 { Way::Download } else { Way::Upload };
            let work = (pair.target(family, STREAM_PORT), way, amount.stream, amount.pace);
            Stream::start(pair, work, (&stop, load.recorder.clone()))
        });
        let streams = streams.collect::<Result<_>>()?;
        let talking = talking.into_iter().collect::<Result<_>>()?;
        Ok(Self { amount, talking, idle, load, streams, stop, moves: Vec::new() })
    }

    /// A moment to report from, at which everything but the load's own has been established for long enough.
    pub(super) fn begin(&self) -> Duration {
        thread::sleep(SETTLED);
        loop {
            let now = self.load.recorder.now();
            if self.streams.iter().all(|stream| now >= stream.began() + SETTLED) {
                return now;
            }
            thread::sleep(SETTLED / 10);
        }
    }

    /// The time that everything here is reported in.
    pub(super) fn clock(&self) -> &Recorder {
        &self.load.recorder
    }

    /// Connections that were opened while the VIPs moved may be lost.
    pub(super) fn moved(&mut self, during: impl IntoIterator<Item = Range<Duration>>) {
        self.moves.extend(during);
    }

    /// No connection that was there has ended or hangs; new ones failed only for a moment.
    pub(super) fn ensure_unbroken(&mut self, what: &str, from: Duration) -> Result<()> {
        self.talking.iter().try_for_each(Steady::ensure_unbroken)?;
        for (number, stream) in self.idle.iter_mut().enumerate() {
            echo(stream, &format!("{number}\n")).with_context(|| format!("idle {number}"))?;
        }
        self.ensure_streams_unbroken()?;
        let report = self.load.recorder.report(&(from..Duration::MAX));
        let failed: usize = report.failed.values().sum();
        let most = OPENING.as_secs_f64() * f64::from(self.amount.per_second);
        crate::measured(&format!(
            "{what}: {failed} of {} new connections failed ({:?}), longest without an answer {:?}",
            report.sent, report.failed, report.longest_gap
        ));
        ensure!(failed as f64 <= most, "{failed} of {} failed: {report:?}", report.sent);
        Ok(())
    }

    /// Everything ends in order.
    pub(super) fn finish(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for steady in std::mem::take(&mut self.talking) {
            steady.finish()?;
        }
        for stream in &mut self.idle {
            echo(stream, "the last\n")?;
        }
        let mut bytes = 0;
        for stream in &mut self.streams {
            bytes += stream.join()?;
        }
        self.ensure_streams_unbroken()?;
        drop(self.load.stop()?);
        crate::measured(&format!("streams moved {} MiB", bytes / MIB));
        Ok(())
    }

    /// What a stream lost was not yet settled when the VIPs moved.
    fn ensure_streams_unbroken(&self) -> Result<()> {
        for stream in &self.streams {
            for Broken { opened, ended, why } in stream.broken() {
                let excuse = self
                    .moves
                    .iter()
                    .find(|moving| opened + SETTLED >= moving.start && opened <= moving.end);
                let Some(moving) = excuse else {
                    bail!(
                        "a stream opened at {opened:?} broke at {ended:?}: {why}; {:?}",
                        self.moves
                    );
                };
                crate::measured(&format!(
                    "a stream opened at {opened:?}, while the VIPs moved ({moving:?}), broke at {ended:?}: {why}"
                ));
            }
        }
        Ok(())
    }
}

/// Connections of both families that were greeted.
pub(super) fn open(pair: &Pair, wanted: usize) -> Result<Vec<TcpStream>> {
    let targets = Family::ALL.map(|family| pair.target(family, API_PORT));
    pair.lab.client.netns.on_thread(|| {
        (0..wanted)
            .map(|number| {
                let stream = TcpStream::connect_timeout(&targets[number % 2], SILENCE)?;
                stream.set_read_timeout(Some(SILENCE))?;
                let mut greeting = String::new();
                BufReader::new(&stream).read_line(&mut greeting)?;
                ensure!(greeting.starts_with("cp"), "greeted by {greeting:?}");
                Ok(stream)
            })
            .collect()
    })
}

/// Says a line and hears it again.
pub(super) fn echo(stream: &mut TcpStream, line: &str) -> Result<()> {
    stream.write_all(line.as_bytes())?;
    let mut echoed = String::new();
    BufReader::new(&*stream).read_line(&mut echoed)?;
    ensure!(echoed == line, "{echoed:?} for {line:?}");
    Ok(())
}

/// Whether the other end has said, without being asked, that the connection is over.
pub(super) fn ended(stream: &mut TcpStream) -> Result<bool> {
    use std::io::Read as _;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let seen = stream.read(&mut [0]);
    stream.set_read_timeout(Some(SILENCE))?;
    match seen {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Whether the connection was reset; hanging is no answer.
pub(super) fn is_reset(said: &Result<()>) -> Result<bool> {
    let Err(error) = said else { return Ok(false) };
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    let is_reset =
        matches!(kind, Some(std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe));
    ensure!(is_reset, "it is neither well nor reset: {error:#}");
    Ok(true)
}

/// A connection of a stream that did not carry all that it should; times are the recorder's.
#[derive(Debug)]
struct Broken {
    opened: Duration,
    ended: Duration,
    why: String,
}

/// Moves so many bytes, again and again, each time over a new connection.
struct Stream {
    thread: Option<JoinHandle<Result<u64>>>,
    /// When the present one was opened, in microseconds of the recorder's time.
    began: Arc<AtomicU64>,
    broken: Arc<Mutex<Vec<Broken>>>,
}

impl Stream {
    fn start(
        pair: &Pair,
        (target, way, length, pace): (SocketAddr, Way, u64, Option<NonZeroU64>),
        (stop, clock): (&Arc<AtomicBool>, Recorder),
    ) -> Result<Self> {
        let (netns, stop) = (pair.lab.client.netns.handle(), Arc::clone(stop));
        let began = Arc::new(AtomicU64::new(u64::MAX));
        let broken = Arc::<Mutex<Vec<Broken>>>::default();
        let (opens, breaks) = (Arc::clone(&began), Arc::clone(&broken));
        let work = move || -> Result<u64> {
            // The thread ends inside: there is nothing to come back for.
            nix::sched::setns(&*netns, nix::sched::CloneFlags::CLONE_NEWNET)?;
            let mut moved = 0;
            while !stop.load(Ordering::Relaxed) {
                let opened = clock.now();
                opens.store(u64::try_from(opened.as_micros())?, Ordering::Relaxed);
                match transfer_paced(target, way, length, pace) {
                    Ok(hashes) => {
                        ensure!(hashes.sent == hashes.received, "{way:?}: other bytes arrived");
                        moved += length;
                    }
                    Err(error) => {
                        let why = format!("{way:?} from {target}: {error:#}");
                        let broken = Broken { opened, ended: clock.now(), why };
                        breaks.lock().unwrap_or_else(PoisonError::into_inner).push(broken);
                        thread::sleep(RETRY);
                    }
                }
            }
            Ok(moved)
        };
        let thread = thread::Builder::new().name("stream".to_owned()).spawn(work)?;
        Ok(Self { thread: Some(thread), began, broken })
    }

    fn began(&self) -> Duration {
        // Not yet: it is to be waited for, not to overflow.
        Duration::from_micros(self.began.load(Ordering::Relaxed).min(u64::MAX / 2))
    }

    /// Those that broke since this was asked last.
    fn broken(&self) -> Vec<Broken> {
        std::mem::take(&mut *self.broken.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn join(&mut self) -> Result<u64> {
        let thread = self.thread.take().context("joined before")?;
        thread.join().map_err(|_| anyhow!("a stream panicked"))?
    }
}
