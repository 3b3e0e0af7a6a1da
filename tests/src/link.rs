//! Whole frames on an interface: packet sockets, and who is asked for an address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use crate::netns::Netns;
use crate::packet::checksum::l4_checksum;
use crate::packet::{ICMPV6, Mac};
use crate::topology::Host;

const ETH_P_ALL: u16 = 3;
const BROADCAST: Mac = [0xff; 6];
const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
const SOLICITATION: u8 = 135;
const SOURCE_LINK_LAYER: [u8; 2] = [1, 1];

/// Which frames a socket receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hears {
    Nothing,
    /// What arrives, and what is sent too.
    All,
    /// What arrives: on the fabric's end of a host's link, what that host sends.
    Arriving,
}

/// Opens a packet socket on an interface of the calling thread's namespace.
pub fn open(interface: &str, hears: Hears) -> Result<Socket> {
    let protocol = match hears {
        Hears::Nothing => 0,
        Hears::All | Hears::Arriving => ETH_P_ALL.to_be(),
    };
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
    if hears == Hears::Arriving {
        ignore_outgoing(&socket)?;
    }
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the address types that the storage is for, integers only.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = u16::try_from(libc::AF_PACKET)?;
    link.sll_protocol = protocol;
    link.sll_ifindex = i32::try_from(if_nametoindex(interface)?)?;
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>())?;
    // SAFETY: the storage holds a sockaddr_ll with its family set, of this length.
    socket.bind(&unsafe { SockAddr::new(storage, length) })?;
    Ok(socket)
}

fn ignore_outgoing(socket: &Socket) -> io::Result<()> {
    let (on, length) = (1 as libc::c_int, size_of::<libc::c_int>());
    let length = libc::socklen_t::try_from(length).map_err(io::Error::other)?;
    let fd = socket.as_raw_fd();
    let option = libc::PACKET_IGNORE_OUTGOING;
    // SAFETY: the option takes an integer, which outlives the call.
    let done = unsafe {
        libc::setsockopt(fd, libc::SOL_PACKET, option, std::ptr::from_ref(&on).cast(), length)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The MAC of an interface of a namespace.
pub fn mac_of(netns: &Netns, interface: &str) -> Result<Mac> {
    let said = netns.ip(&format!("-o link show {interface}"))?;
    let text = said.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
    let bytes = text.context("no MAC")?.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes: Vec<u8> = bytes.collect::<Result<_, _>>()?;
    Mac::try_from(bytes.as_slice()).context("a MAC of another length")
}

/// Asks again and again who has addresses, by ARP and neighbour solicitations, until it is dropped.
/// A [`crate::wire::Wire`] hears who answers.
#[derive(Debug)]
pub struct Asking {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Asking {
    /// From a host's eth0, each address once in a `pause`.
    pub fn start(host: &Host, addresses: &[IpAddr], pause: Duration) -> Result<Self> {
        let mac = mac_of(&host.netns, "eth0")?;
        let frames: Vec<Vec<u8>> = addresses
            .iter()
            .map(|address| match address {
                IpAddr::V4(address) => arp_request(mac, host.address, *address).to_vec(),
                IpAddr::V6(address) => solicitation(mac, host.address6, *address),
            })
            .collect();
        let socket = host.netns.on_thread(|| open("eth0", Hears::Nothing))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for frame in &frames {
                    // One that is lost is followed by another.
                    let _ = socket.send(frame);
                }
                std::thread::sleep(pause);
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// RFC 826.
fn arp_request(mac: Mac, own: Ipv4Addr, wanted: Ipv4Addr) -> [u8; 42] {
    let (own, wanted) = (own.octets(), wanted.octets());
    let parts: [&[u8]; 8] = [&BROADCAST, &mac, &[8, 6], &REQUEST, &mac, &own, &[0; 6], &wanted];
    let mut frame = [0; 42];
    frame.iter_mut().zip(parts.concat()).for_each(|(byte, part)| *byte = part);
    frame
}

/// RFC 4861 4.3, to the solicited-node group.
fn solicitation(mac: Mac, own: Ipv6Addr, wanted: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = wanted.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let mut message = [&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0][..], &wanted.octets()].concat();
    message.extend(SOURCE_LINK_LAYER);
    message.extend(mac);
    let sum = l4_checksum(own.into(), group.into(), ICMPV6, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let length = u8::try_from(message.len()).unwrap_or(u8::MAX);
    let ethernet = [&[0x33, 0x33, 0xff, a, b, c][..], &mac, &[0x86, 0xdd]].concat();
    let header = [0x60, 0, 0, 0, 0, length, ICMPV6, 255];
    [&ethernet[..], &header, &own.octets(), &group.octets(), &message].concat()
}
