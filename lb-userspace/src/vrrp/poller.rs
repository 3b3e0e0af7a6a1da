//! Waiting for sockets, for a wake and for an instant, at once. Used by the VRRP thread. I/O.

use std::io;
use std::os::fd::AsFd;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::Nanos;

/// Seen at one time; those left are seen at the next.
const EVENTS: usize = 16;

/// What is waited for. A descriptor that is closed is waited for no more.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
    timer: TimerFd,
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        epoll.add(timer.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        Ok(Self { epoll, timer })
    }

    /// Waits for `fd` to have something to read, too.
    pub fn add(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0))?)
    }

    /// Returns when there is something to do, at `until` at the latest; `None`: it may be long.
    pub fn wait(&self, until: Option<Nanos>) -> io::Result<()> {
        match until {
            // Zero would switch the timer off.
            Some(Nanos(at)) => self.timer.set(
                Expiration::OneShot(instant(at.max(1))),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            )?,
            None => self.timer.unset()?,
        }
        let mut events = [EpollEvent::empty(); EVENTS];
        match self.epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn instant(nanoseconds: u64) -> TimeSpec {
    let part = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    TimeSpec::new(part(nanoseconds / 1_000_000_000), part(nanoseconds % 1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::super::{channel, clock};
    use super::*;

    #[test]
    fn a_wake_and_an_instant_end_the_wait() {
        let poller = Poller::new().unwrap();
        let wake = channel::waker().unwrap();
        poller.add(&*wake).unwrap();
        let until = Nanos(clock::now().0 + 5_000_000);
        poller.wait(Some(until)).unwrap();
        assert!(clock::now() >= until);
        // Of the past.
        poller.wait(Some(Nanos(0))).unwrap();
        wake.write(1).unwrap();
        poller.wait(None).unwrap();
    }
}
