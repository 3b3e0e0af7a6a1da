//! Requests at a fixed rate over connections that stay, and how long each answer took.
//!
//! The loop is open: a request is due when its time has come, whatever became of those before it, and
//! its latency counts from then. A server that stalls thereby shows in every request that waited for it;
//! a closed loop would send less and not notice. One thread, with timers as fine as the kernel's.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::netns::Netns;

/// After the last request was due, the answers get so long.
const PATIENCE: Duration = Duration::from_secs(2);
/// The event that is the timer.
const TIMER: u64 = u64::MAX;
/// Events that one look takes.
const EVENTS: usize = 64;
/// Longer than the head and body of any answer.
const ROOM: usize = 4096;

/// A load to run.
#[derive(Clone, Copy, Debug)]
pub struct Paced<'a> {
    pub target: SocketAddr,
    /// Requests each second, evenly.
    pub rate: u32,
    pub connections: usize,
    pub span: Duration,
    /// What is sent; every answer to it has the same length.
    pub request: &'a [u8],
}

/// How long answers took, in nanoseconds and ascending order.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    pub sorted: Vec<u64>,
    /// Requests that were due and got no answer in time.
    pub unanswered: usize,
}

/// A connection; at most one request of it is under way.
struct Connection {
    stream: TcpStream,
    /// Of the answer under way.
    received: usize,
    due: Instant,
}

impl Paced<'_> {
    /// Runs from inside a namespace to its end.
    pub fn run(&self, netns: &Netns) -> Result<Latencies> {
        netns.on_thread(|| self.run_here())
    }

    fn run_here(&self) -> Result<Latencies> {
        ensure!(self.rate > 0 && self.connections > 0, "a load of nothing");
        let (mut connections, length) = self.connect()?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        for (index, connection) in connections.iter().enumerate() {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
            epoll.add(&connection.stream, event)?;
        }
        let mut schedule = Schedule::new(Instant::now(), self.rate, self.span);
        let mut idle: VecDeque<usize> = (0..connections.len()).collect();
        let mut under_way = 0_usize;
        let mut latencies = Latencies::default();
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let now = Instant::now();
            schedule.advance(now);
            while let Some(&due) = schedule.waiting.front()
                && let Some(index) = idle.pop_front()
            {
                schedule.waiting.pop_front();
                let connection = &mut connections[index];
                connection.due = due;
                connection.stream.write_all(self.request).context("sending a request")?;
                under_way += 1;
            }
            let is_over = now > schedule.end + PATIENCE;
            if schedule.is_done() && (under_way == 0 || is_over) {
                latencies.unanswered = under_way + schedule.waiting.len();
                break;
            }
            arm(&timer, schedule.next(now).unwrap_or(schedule.end + PATIENCE), now)?;
            let count = epoll.wait(&mut events, EpollTimeout::NONE).context("waiting")?;
            for event in &events[..count] {
                if event.data() == TIMER {
                    continue;
                }
                let index = usize::try_from(event.data())?;
                let connection = &mut connections[index];
                if connection.receive(length)? {
                    let took = Instant::now().duration_since(connection.due);
                    latencies.sorted.push(u64::try_from(took.as_nanos())?);
                    idle.push_back(index);
                    under_way -= 1;
                }
            }
        }
        latencies.sorted.sort_unstable();
        Ok(latencies)
    }

    /// The connections, each of which has had one answer, and the length of an answer.
    fn connect(&self) -> Result<(Vec<Connection>, usize)> {
        let (mut connections, mut length) = (Vec::new(), 0);
        for _ in 0..self.connections {
            let mut stream = TcpStream::connect_timeout(&self.target, PATIENCE)
                .with_context(|| format!("connecting to {}", self.target))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(self.request)?;
            let mut answer = [0; ROOM];
            let got = stream.read(&mut answer).context("reading the first answer")?;
            ensure!(answer.starts_with(b"HTTP/1.1 200"), "the first answer is not 200");
            ensure!(length == 0 || length == got, "answers of {length} and of {got} bytes");
            length = got;
            stream.set_nonblocking(true)?;
            connections.push(Connection { stream, received: 0, due: Instant::now() });
        }
        Ok((connections, length))
    }
}

impl Latencies {
    /// The smallest that so many of a thousand are not longer than, in nanoseconds.
    pub fn per_mille(&self, rank: usize) -> u64 {
        let index = (self.sorted.len() * rank).div_ceil(1000).saturating_sub(1);
        self.sorted.get(index).copied().unwrap_or_default()
    }
}

/// When requests are due.
#[derive(Debug)]
struct Schedule {
    start: Instant,
    end: Instant,
    interval: Duration,
    made: u32,
    /// Due and not sent, for want of an idle connection.
    waiting: VecDeque<Instant>,
}

impl Schedule {
    fn new(start: Instant, rate: u32, span: Duration) -> Self {
        let interval = Duration::from_secs(1) / rate;
        Self { start, end: start + span, interval, made: 0, waiting: VecDeque::new() }
    }

    /// The next one, if it is before the end.
    fn upcoming(&self) -> Option<Instant> {
        Some(self.start + self.interval * self.made).filter(|due| *due < self.end)
    }

    /// Those that have become due are waiting.
    fn advance(&mut self, now: Instant) {
        while let Some(due) = self.upcoming().filter(|due| *due <= now) {
            self.waiting.push_back(due);
            self.made += 1;
        }
    }

    /// When to look again at the latest, if any are to come. While some wait only an answer helps.
    fn next(&self, now: Instant) -> Option<Instant> {
        self.upcoming().map(|due| due.max(now))
    }

    fn is_done(&self) -> bool {
        self.upcoming().is_none()
    }
}

impl Connection {
    /// Reads what has come; whether that completes the answer.
    fn receive(&mut self, length: usize) -> Result<bool> {
        let mut answer = [0; ROOM];
        match self.stream.read(&mut answer) {
            Ok(0) => bail!("the server ended a connection"),
            Ok(got) => self.received += got,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("receiving an answer"),
        }
        ensure!(self.received <= length, "an answer of more than {length} bytes");
        let is_whole = self.received == length;
        if is_whole {
            self.received = 0;
        }
        Ok(is_whole)
    }
}

/// Has the timer fire at `when`, or as soon as it can.
fn arm(timer: &TimerFd, when: Instant, now: Instant) -> Result<()> {
    // Zero would switch it off.
    let delay = when.saturating_duration_since(now).max(Duration::from_nanos(1));
    let expiration = Expiration::OneShot(TimeSpec::from_duration(delay));
    timer.set(expiration, TimerSetTimeFlags::empty()).context("setting the timer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_waits_from_then_on_whoever_is_late() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut schedule = Schedule::new(start, 1000, ms(10));
        schedule.advance(start + ms(3));
        let due: Vec<Duration> = schedule.waiting.iter().map(|due| *due - start).collect();
        assert_eq!(due, [ms(0), ms(1), ms(2), ms(3)]);
        assert_eq!(schedule.next(start + ms(3)), Some(start + ms(4)));
        schedule.advance(start + ms(50));
        assert_eq!(schedule.waiting.len(), 10);
        assert!(schedule.is_done());
    }

    #[test]
    fn ranks_are_those_of_the_definition() {
        let latencies = Latencies { sorted: (1..=1000).collect(), unanswered: 0 };
        assert_eq!([500, 990, 999].map(|rank| latencies.per_mille(rank)), [500, 990, 999]);
        assert_eq!(Latencies::default().per_mille(500), 0);
        let few = Latencies { sorted: vec![7, 9], unanswered: 0 };
        assert_eq!([500, 501].map(|rank| few.per_mille(rank)), [7, 9]);
    }
}
