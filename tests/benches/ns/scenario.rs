//! What a run measures: a family, a mode of service, and how many flows and backends there are.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use fairlead::config::Limits;
use lb_common::nat::Kind;
use lb_tests::family::Family;
use lb_tests::packet::{ACK, ARP, Frame, SYN};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 100), 6443);
pub(crate) const LB_MAC: [u8; 6] = [2, 0, 0, 0, 0, 100];
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// One table of figures. All addresses are the family's own for IPv4 addresses that stand for them.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) family: Family,
    pub(crate) mode: Kind,
    pub(crate) flows: u32,
    pub(crate) backends: u32,
}

impl Scenario {
    pub(crate) const fn new(family: Family, mode: Kind) -> Self {
        Self { family, mode, flows: 60_000, backends: 3 }
    }

    /// As the configuration calls it.
    pub(crate) const fn mode_name(&self) -> &'static str {
        match self.mode {
            Kind::Nat => "nat",
            Kind::Dnat => "dnat",
            Kind::Dsr => "dsr",
        }
    }

    /// As many flows and backends as most tables have.
    pub(crate) fn is_usual(&self) -> bool {
        self.backends == Self::new(self.family, self.mode).backends
    }

    /// Established flows that there is room for. Of a million in a table for as many one in some finds none by chance,
    /// and what is measured then is a refusal.
    pub(crate) fn room(&self) -> u32 {
        Limits::default().flows.max(self.flows / 4 * 5)
    }

    /// Half-open flows that there is room for: all of them, were none answered.
    pub(crate) fn half_open_room(&self) -> u32 {
        Limits::default().half_open.max(self.flows / 10 * 11)
    }

    pub(crate) fn service(&self) -> SocketAddr {
        self.local(SERVICE)
    }

    /// Identifiers start at 1.
    pub(crate) fn backend(&self, id: u32) -> SocketAddr {
        self.local(SocketAddrV4::new(Ipv4Addr::from_bits(0x0a01_0000 + id), 6443))
    }

    /// The client of the `index`-th flow: 50 ports of each address.
    pub(crate) fn client(&self, index: u32) -> SocketAddr {
        let [.., high, low] = (32_768 + index % 50 * 577).to_be_bytes();
        let address = Ipv4Addr::from_bits(0x0a40_0001 + index / 50);
        self.local(SocketAddrV4::new(address, u16::from_be_bytes([high, low])))
    }

    fn local(&self, name: SocketAddrV4) -> SocketAddr {
        let [a, b, c, d] = name.ip().octets().map(u16::from);
        let ip = self.family.pick(
            IpAddr::V4(*name.ip()),
            Ipv6Addr::new(0xfd00, 0, a << 8 | b, c << 8 | d, 0, 0, 0, 1).into(),
        );
        SocketAddr::new(ip, name.port())
    }

    /// No frame on Ethernet is shorter, and none of a flow longer.
    pub(crate) fn frame_length(&self) -> usize {
        self.family.pick(60, 78)
    }

    pub(crate) fn padded(&self, frame: &Frame) -> Vec<u8> {
        let mut bytes = frame.bytes();
        bytes.resize(self.frame_length(), 0);
        bytes
    }

    /// A frame of a client.
    pub(crate) fn client_frame(&self, client: u32, to: SocketAddr) -> Frame {
        Frame::tcp(self.client(client), to).macs(CLIENT_MAC, LB_MAC)
    }

    /// A SYN to an address that is no VIP.
    pub(crate) fn stray_syn(&self) -> Vec<u8> {
        self.padded(&self.client_frame(0, self.another()).flags(SYN))
    }

    /// Likewise, from a backend's host.
    pub(crate) fn stray_syn_of_backend(&self) -> Vec<u8> {
        let client = SocketAddr::new(self.backend(1).ip(), 40_000);
        let frame = Frame::tcp(client, self.another()).macs(backend_mac(1), LB_MAC);
        self.padded(&frame.flags(SYN))
    }

    fn another(&self) -> SocketAddr {
        self.local(SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 99), SERVICE.port()))
    }

    /// By its type alone: nobody looks further.
    pub(crate) fn arp(&self) -> Vec<u8> {
        self.padded(&self.client_frame(0, self.service()).ether_type(ARP))
    }

    /// A segment to the service with less than a header.
    pub(crate) fn malformed(&self) -> Vec<u8> {
        self.padded(&self.client_frame(0, self.service()).flags(ACK).data_offset(4))
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = self.mode_name();
        write!(f, "{} {mode}", self.family.pick("IPv4", "IPv6"))?;
        if !self.is_usual() {
            write!(f, ", {} flows, {} backends", self.flows, self.backends)?;
        }
        Ok(())
    }
}

/// Of a backend.
pub(crate) fn backend_mac(id: u32) -> [u8; 6] {
    let [.., high, low] = id.to_be_bytes();
    [2, 0, 0, 1, high, low]
}
