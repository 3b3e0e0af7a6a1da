//! What is said on a bridge about VIPs: VRRP advertisements, announcements, and answers to who asked, with
//! the times at which the kernel saw them.

use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use socket2::Socket;

use crate::eventually::{Seen, eventually};
use crate::link::{self, Hears};
use crate::netns::Netns;

const VRRP: u8 = 112;
const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const SOLICITED: u8 = 0x40;

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Of CLOCK_REALTIME.
    pub at: Duration,
    pub what: What,
}

/// What it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Advert {
        source: IpAddr,
        destination: IpAddr,
        /// Or the traffic class.
        tos: u8,
        ttl: u8,
        message: Vec<u8>,
    },
    /// Gratuitous ARP.
    Garp { vip: Ipv4Addr, mac: [u8; 6] },
    /// An unsolicited neighbour advertisement with its flags.
    Advertisement { vip: Ipv6Addr, mac: [u8; 6], flags: u8 },
    /// An answer to a question, by ARP or a neighbour advertisement.
    Answer { address: IpAddr, mac: [u8; 6] },
}

impl Said {
    /// The priority in an advertisement of `source`.
    pub fn priority_of(&self, source: IpAddr) -> Option<u8> {
        match &self.what {
            What::Advert { source: from, message, .. } if *from == source => {
                message.get(2).copied()
            }
            What::Advert { .. }
            | What::Garp { .. }
            | What::Advertisement { .. }
            | What::Answer { .. } => None,
        }
    }

    /// It announces `vip`.
    pub fn announces(&self, vip: IpAddr) -> bool {
        match &self.what {
            What::Garp { vip: of, .. } => IpAddr::V4(*of) == vip,
            What::Advertisement { vip: of, .. } => IpAddr::V6(*of) == vip,
            What::Advert { .. } | What::Answer { .. } => false,
        }
    }

    /// Who answers for `vip`.
    pub fn answers(&self, vip: IpAddr) -> Option<[u8; 6]> {
        match &self.what {
            What::Answer { address, mac } if *address == vip => Some(*mac),
            What::Advert { .. }
            | What::Garp { .. }
            | What::Advertisement { .. }
            | What::Answer { .. } => None,
        }
    }
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Wire {
    said: Arc<Mutex<Vec<Said>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Listens on a bridge in `netns`.
    pub fn listen(netns: &Netns, bridge: &str) -> Result<Self> {
        netns.ip(&format!("link set {bridge} promisc on"))?;
        Self::start(netns, bridge, Hears::All)
    }

    /// Listens on a bridge's port, to what the host behind it sends.
    pub fn of_port(netns: &Netns, port: &str) -> Result<Self> {
        Self::start(netns, port, Hears::Arriving)
    }

    fn start(netns: &Netns, interface: &str, hears: Hears) -> Result<Self> {
        let socket = netns.on_thread(|| link::open(interface, hears).context("a packet socket"))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        socket.set_recv_buffer_size(4 << 20)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (heard, stopped) = (Arc::clone(&said), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(one) = receive(&socket) {
                    lock(&heard).push(one);
                }
            }
        });
        Ok(Self { said, stop, thread: Some(thread) })
    }

    /// Everything so far.
    pub fn said(&self) -> Vec<Said> {
        lock(&self.said).clone()
    }

    /// How much was said so far: for [`Self::wait`] to begin there.
    pub fn mark(&self) -> usize {
        lock(&self.said).len()
    }

    /// The first after `mark` that is `wanted`.
    pub fn wait(
        &self,
        what: &str,
        mark: usize,
        timeout: Duration,
        wanted: impl Fn(&Said) -> bool,
    ) -> Result<Said> {
        eventually(what, timeout, || {
            let said = lock(&self.said);
            Ok(match said.iter().skip(mark).find(|said| wanted(said)) {
                Some(found) => Seen::Done(found.clone()),
                None => Seen::Pending(format!("{:?}", said.last())),
            })
        })
    }

    /// The advertisements of `source` after `mark`: when, and with which priority.
    pub fn adverts(&self, source: IpAddr, mark: usize) -> Vec<(Duration, u8)> {
        let said = lock(&self.said);
        let adverts = said.iter().skip(mark);
        adverts.filter_map(|said| Some((said.at, said.priority_of(source)?))).collect()
    }
}

impl Wire {
    /// When `mac` answered for `vip`.
    pub fn answers(&self, vip: IpAddr, mac: [u8; 6]) -> Vec<Duration> {
        let said = lock(&self.said);
        said.iter().filter(|said| said.answers(vip) == Some(mac)).map(|said| said.at).collect()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

fn lock(said: &Mutex<Vec<Said>>) -> MutexGuard<'_, Vec<Said>> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

fn receive(socket: &Socket) -> Option<Said> {
    let mut frame = [0; 2048];
    let mut control = cmsg_space!(TimeSpec);
    let mut parts = [IoSliceMut::new(&mut frame)];
    let flags = MsgFlags::empty();
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags).ok()?;
    let stamp = received.cmsgs().ok()?.find_map(|message| {
        let ControlMessageOwned::ScmTimestampns(stamp) = message else { return None };
        Some(Duration::from(stamp))
    })?;
    let length = received.bytes;
    Some(Said { at: stamp, what: what(frame.get(..length)?)? })
}

/// What a frame says, if it is about VIPs.
fn what(frame: &[u8]) -> Option<What> {
    let (ethernet, rest) = frame.split_at_checked(14)?;
    let mac = <[u8; 6]>::try_from(&ethernet[6..12]).ok()?;
    match [ethernet[12], ethernet[13]] {
        [0x08, 0x06] => {
            let sender = <[u8; 4]>::try_from(rest.get(14..18)?).ok()?;
            let target = <[u8; 4]>::try_from(rest.get(24..28)?).ok()?;
            let is_reply = rest.get(6..8) == Some(&[0, 2]);
            let answer = || What::Answer { address: IpAddr::from(sender), mac };
            let garp = (sender == target).then(|| What::Garp { vip: sender.into(), mac });
            garp.or_else(|| is_reply.then(answer))
        }
        [0x08, 0x00] if rest.get(9) == Some(&VRRP) => {
            let header = usize::from(rest[0] & 0xf) * 4;
            let total = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
            Some(What::Advert {
                source: <[u8; 4]>::try_from(rest.get(12..16)?).ok()?.into(),
                destination: <[u8; 4]>::try_from(rest.get(16..20)?).ok()?.into(),
                tos: rest[1],
                ttl: rest[8],
                message: rest.get(header..total)?.to_vec(),
            })
        }
        [0x86, 0xdd] => of_ipv6(rest, mac),
        _ => None,
    }
}

fn of_ipv6(packet: &[u8], mac: [u8; 6]) -> Option<What> {
    let (header, rest) = packet.split_at_checked(40)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let source = <[u8; 16]>::try_from(&header[8..24]).ok()?;
    let destination = <[u8; 16]>::try_from(&header[24..40]).ok()?;
    let payload = rest.get(..length)?;
    if header[6] == VRRP {
        let (source, destination) = (source.into(), destination.into());
        let message = payload.to_vec();
        let [tos, ttl] = [header[0] << 4 | header[1] >> 4, header[7]];
        return Some(What::Advert { source, destination, tos, ttl, message });
    }
    let (kind, flags) = (*payload.first()?, *payload.get(4)?);
    if header[6] != ICMPV6 || kind != NEIGHBOUR_ADVERTISEMENT {
        return None;
    }
    let target = <[u8; 16]>::try_from(payload.get(8..24)?).ok()?;
    Some(if flags & SOLICITED == 0 {
        What::Advertisement { vip: target.into(), mac, flags }
    } else {
        What::Answer { address: IpAddr::from(target), mac }
    })
}
