//! Floods from random sources, at a rate: what nobody should send, and somebody will.
//!
//! Frames go into the network as they are, by one thread inside a namespace, many with each system
//! call. Answers go to a MAC address that nobody has, and end at the first link; so does most of what
//! the lab's load balancer forwards (`xdp_pass`).

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use nix::time::{ClockId, clock_gettime};
use socket2::Socket;

use crate::family::Family;
use crate::link::{self, Hears};
use crate::netns::NetnsHandle;
use crate::packet::Mac;
use crate::xdp_pass::NOBODY;

mod frames;

pub use frames::Kind;
use frames::{Frames, ROOM, length};

/// Frames of one system call.
const BATCH: usize = 64;
/// Between two looks at the clock.
const TICK: Duration = Duration::from_micros(500);
/// What a busy machine delays longer is not caught up with.
const DEBT: Duration = Duration::from_millis(100);
/// After a frame that the link had no room for.
const BACK_OFF: Duration = Duration::from_millis(2);

/// A flood to start.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    pub kind: Kind,
    pub per_second: u32,
    pub target: SocketAddr,
    /// Whose interface has the target's address.
    pub target_mac: Mac,
}

/// A flood under way; dropping it stops it.
#[derive(Debug)]
pub struct Running {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Sent>>>,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Those that the link took.
    pub frames: u64,
    /// Those that it had no room for.
    pub refused: u64,
    pub took: Duration,
    /// Of the thread that sent, with what the kernel did in its place: a veth's far end is part of that.
    pub cpu: Duration,
}

impl Sent {
    pub fn per_second(&self) -> f64 {
        self.frames as f64 / self.took.as_secs_f64()
    }
}

impl Flood {
    /// Sends out of an interface of the namespace, until the flood is stopped.
    pub fn start(&self, netns: &NetnsHandle, interface: &str) -> Result<Running> {
        let (flood, netns, interface) = (*self, Arc::clone(netns), interface.to_owned());
        let (sent, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (thread_sent, thread_stop) = (Arc::clone(&sent), Arc::clone(&stop));
        let thread = thread::Builder::new().name("flood".to_owned()).spawn(move || {
            // The thread ends inside: there is nothing to come back for.
            nix::sched::setns(&*netns, nix::sched::CloneFlags::CLONE_NEWNET)?;
            let opened = link::open(&interface, Hears::Nothing);
            let socket = opened.with_context(|| format!("opening {interface}"))?;
            flood.send(&socket, &thread_sent, &thread_stop)
        })?;
        Ok(Running { sent, stop, thread: Some(thread) })
    }

    fn send(&self, socket: &Socket, sent: &AtomicU64, stop: &AtomicBool) -> Result<Sent> {
        let macs = (NOBODY, self.target_mac);
        // A seed for each kind: floods that run together have sources of their own.
        let seed = 0x9e37_79b9_7f4a_7c15 ^ self.kind as u64;
        let mut frames = Frames::new(self.kind, macs, self.target, seed);
        let mut batch = [[0; ROOM]; BATCH];
        let length = length(Family::of(self.target.ip()));
        let start = Instant::now();
        let mut paid = start;
        let (mut total, mut refused) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            paid = paid.max(now.checked_sub(DEBT).unwrap_or(now));
            let due = (now - paid).as_secs_f64() * f64::from(self.per_second);
            // As an integer, at most a batch: what is more is due in the next round.
            let due = (0..BATCH).take_while(|count| ((count + 1) as f64) <= due).count();
            if due < BATCH.min(self.per_second as usize / 2000) || due == 0 {
                thread::sleep(TICK);
                continue;
            }
            batch[..due].iter_mut().for_each(|frame| frames.next(frame));
            let taken = send_all(socket, &batch[..due], length).context("sending a batch")?;
            paid += Duration::from_secs_f64(due as f64 / f64::from(self.per_second));
            total += taken;
            refused += due as u64 - taken;
            if taken < due as u64 {
                // The link is full, also for those who share it: what it does not carry harms them, and not whom it is for.
                thread::sleep(BACK_OFF);
                paid = Instant::now();
            }
            sent.store(total, Ordering::Relaxed);
        }
        let cpu = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
        Ok(Sent { frames: total, refused, took: start.elapsed(), cpu: cpu.into() })
    }
}

impl Running {
    /// Frames so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub fn stop(mut self) -> Result<Sent> {
        self.end()
    }

    fn end(&mut self) -> Result<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_| anyhow!("the flood panicked"))?,
            None => Ok(Sent::default()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever wants to know how it went calls `stop`.
        let _ = self.end();
    }
}

/// How many of the frames, a batch at most, all of one length, the link took.
fn send_all(socket: &Socket, frames: &[[u8; ROOM]], length: usize) -> io::Result<u64> {
    let mut parts = [const { libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 } }; BATCH];
    // SAFETY: integers and pointers, for which zeros are valid.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    for ((frame, part), message) in frames.iter().zip(&mut parts).zip(&mut messages) {
        part.iov_base = frame.as_ptr().cast_mut().cast();
        part.iov_len = length;
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
    }
    let mut left = &mut messages[..frames.len().min(BATCH)];
    let mut taken = 0;
    while !left.is_empty() {
        let count = u32::try_from(left.len()).map_err(io::Error::other)?;
        // SAFETY: `count` messages, each with one part of a frame, all of which outlive the call.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), left.as_mut_ptr(), count, 0) };
        match usize::try_from(sent) {
            Ok(sent) => {
                taken += sent as u64;
                left = &mut left[sent..];
            }
            // No room for the first of them: it is lost, as on any wire.
            Err(_) if io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS) => {
                left = &mut left[1..];
            }
            Err(_) => return Err(io::Error::last_os_error()),
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::Netns;
    use crate::standstill;

    const RATE: u32 = 100_000;

    #[test]
    #[ignore = "needs root: cargo xtask test netns"]
    fn a_hundred_thousand_a_second_arrive_and_cost_half_a_core_at_most() {
        standstill::watch().unwrap();
        let (near, far) = (Netns::unique("near").unwrap(), Netns::unique("far").unwrap());
        near.ip(&format!("link add eth0 type veth peer name eth0 netns {}", far.name())).unwrap();
        for netns in [&near, &far] {
            netns.sysctl("ipv6/conf/eth0/disable_ipv6", "1").unwrap();
            netns.ip("link set eth0 up").unwrap();
        }
        for kind in [Kind::Syn, Kind::Ack, Kind::Garbage] {
            let before = received(&far);
            let target = "10.0.0.1:1".parse().unwrap();
            let flood = Flood { kind, per_second: RATE, target, target_mac: [2; 6] };
            let running = flood.start(&near.handle(), "eth0").unwrap();
            thread::sleep(Duration::from_secs(1));
            let sent = running.stop().unwrap();
            let stood = standstill::lately(sent.took);
            eprintln!("measured: {kind:?} {:.0}/s, {sent:?}, {stood:?}", sent.per_second());
            assert_eq!(received(&far) - before, sent.frames);
            let least = 0.8 - stood.as_secs_f64() / sent.took.as_secs_f64();
            assert!((least..1.1).contains(&(sent.per_second() / f64::from(RATE))), "{sent:?}");
            assert!(sent.cpu < sent.took / 2, "{sent:?}");
        }
    }

    /// Frames that came in by eth0.
    fn received(netns: &Netns) -> u64 {
        let said = netns.run("ip", ["-j", "-s", "link", "show", "eth0"]).unwrap();
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        said[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
    }
}
