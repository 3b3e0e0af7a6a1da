//! What is said on a bridge about VIPs: VRRP advertisements and announcements, with the times at which
//! the kernel saw them.

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
use socket2::{Domain, Protocol, Socket, Type};

use crate::eventually::{Seen, eventually};
use crate::netns::Netns;

const ETH_P_ALL: u16 = 3;
const VRRP: u8 = 112;
const ICMPV6: u8 = 58;

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
        ttl: u8,
        message: Vec<u8>,
    },
    /// Gratuitous ARP.
    Garp {
        vip: Ipv4Addr,
        mac: [u8; 6],
    },
    /// An unsolicited neighbour advertisement with its flags.
    Advertisement {
        vip: Ipv6Addr,
        mac: [u8; 6],
        flags: u8,
    },
}

impl Said {
    /// The priority in an advertisement of `source`.
    pub fn priority_of(&self, source: IpAddr) -> Option<u8> {
        match &self.what {
            What::Advert { source: from, message, .. } if *from == source => {
                message.get(2).copied()
            }
            What::Advert { .. } | What::Garp { .. } | What::Advertisement { .. } => None,
        }
    }

    /// It announces `vip`.
    pub fn announces(&self, vip: IpAddr) -> bool {
        match &self.what {
            What::Garp { vip: of, .. } => IpAddr::V4(*of) == vip,
            What::Advertisement { vip: of, .. } => IpAddr::V6(*of) == vip,
            What::Advert { .. } => false,
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
        let socket = netns.on_thread(|| {
            let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
            Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).context("a packet socket")
        })?;
        bind(&socket, netns, bridge)?;
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

fn bind(socket: &Socket, netns: &Netns, bridge: &str) -> std::io::Result<()> {
    let text = netns.ip(&format!("-o link show {bridge}")).map_err(std::io::Error::other)?;
    let index = text.split(':').next().and_then(|index| index.trim().parse::<i32>().ok());
    let mut storage = socket2::SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the address types that the storage is for, integers only.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = libc::AF_PACKET.try_into().unwrap_or_default();
    link.sll_protocol = ETH_P_ALL.to_be();
    link.sll_ifindex = index.unwrap_or_default();
    let length = size_of::<libc::sockaddr_ll>().try_into().unwrap_or_default();
    // SAFETY: the storage holds a sockaddr_ll with its family set, of this length.
    let address = unsafe { socket2::SockAddr::new(storage, length) };
    socket.bind(&address)
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
            (sender == target).then(|| What::Garp { vip: sender.into(), mac })
        }
        [0x08, 0x00] if rest.get(9) == Some(&VRRP) => {
            let header = usize::from(rest[0] & 0xf) * 4;
            let total = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
            Some(What::Advert {
                source: <[u8; 4]>::try_from(rest.get(12..16)?).ok()?.into(),
                destination: <[u8; 4]>::try_from(rest.get(16..20)?).ok()?.into(),
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
        return Some(What::Advert { source, destination, ttl: header[7], message });
    }
    // Neighbour advertisement, not solicited.
    let is_announcement =
        header[6] == ICMPV6 && payload.first() == Some(&136) && payload.get(4)? & 0x40 == 0;
    let target = <[u8; 16]>::try_from(payload.get(8..24)?).ok()?;
    is_announcement.then(|| What::Advertisement {
        vip: target.into(),
        mac,
        flags: payload.get(4).copied().unwrap_or_default(),
    })
}
