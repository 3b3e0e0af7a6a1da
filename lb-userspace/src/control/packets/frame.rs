//! What the headers of a frame say, as far as it was captured. Pure.

use std::net::IpAddr;

use etherparse::{IpNumber, LaxNetSlice, LaxSlicedPacket, LinkSlice, TcpSlice, TransportSlice};
use lb_common::link::Mac;

use crate::admin::model::packet::{Frame, Tcp};

/// Describes a frame of `length` bytes, of which `bytes` were captured.
pub fn describe(bytes: &[u8], length: u32) -> Frame {
    let mut frame = Frame {
        length,
        source_mac: None,
        destination_mac: None,
        vlans: vec![],
        source: None,
        destination: None,
        hops: None,
        protocol: None,
        source_port: None,
        destination_port: None,
        tcp: None,
    };
    let Ok(packet) = LaxSlicedPacket::from_ethernet(bytes) else { return frame };
    if let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link {
        frame.source_mac = Some(Mac(ethernet.source()).to_string());
        frame.destination_mac = Some(Mac(ethernet.destination()).to_string());
    }
    frame.vlans = packet.vlan_ids().into_iter().map(|id| id.value()).collect();
    let Some(payload) = packet.net.as_ref().and_then(|net| network(&mut frame, net)) else {
        return frame;
    };
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            frame.source_port = Some(tcp.source_port());
            frame.destination_port = Some(tcp.destination_port());
            frame.tcp = Some(segment(tcp, payload));
        }
        Some(TransportSlice::Udp(udp)) => {
            frame.source_port = Some(udp.source_port());
            frame.destination_port = Some(udp.destination_port());
        }
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_))
        | None => {}
    }
    frame
}

/// Says how many bytes there are behind the IP headers, by what these say.
fn network(frame: &mut Frame, net: &LaxNetSlice<'_>) -> Option<u32> {
    let (source, destination, hops, protocol, behind): (IpAddr, IpAddr, _, _, _) = match net {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let behind = u32::from(header.total_len()).checked_sub(u32::from(header.ihl()) * 4);
            let (src, dst) = (header.source_addr(), header.destination_addr());
            (src.into(), dst.into(), header.ttl(), ip.payload_ip_number(), behind)
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let extensions = u32::try_from(ip.extensions().slice().len()).ok()?;
            let behind = u32::from(header.payload_length()).checked_sub(extensions);
            let (src, dst) = (header.source_addr(), header.destination_addr());
            let protocol = ip.payload().ip_number;
            (src.into(), dst.into(), header.hop_limit(), protocol, behind)
        }
        LaxNetSlice::Arp(_) => {
            frame.protocol = Some("arp".to_owned());
            return None;
        }
    };
    frame.source = Some(source);
    frame.destination = Some(destination);
    frame.hops = Some(hops);
    frame.protocol = Some(match protocol {
        IpNumber::TCP => "tcp".to_owned(),
        IpNumber::UDP => "udp".to_owned(),
        IpNumber::ICMP | IpNumber::IPV6_ICMP => "icmp".to_owned(),
        IpNumber(number) => number.to_string(),
    });
    behind
}

fn segment(tcp: &TcpSlice<'_>, behind: u32) -> Tcp {
    let named = [
        (tcp.syn(), "SYN"),
        (tcp.fin(), "FIN"),
        (tcp.rst(), "RST"),
        (tcp.psh(), "PSH"),
        (tcp.ack(), "ACK"),
        (tcp.urg(), "URG"),
        (tcp.ece(), "ECE"),
        (tcp.cwr(), "CWR"),
    ];
    let flags: Vec<&str> = named.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    Tcp {
        flags: flags.join(" "),
        seq: tcp.sequence_number(),
        ack: tcp.acknowledgment_number(),
        window: tcp.window_size(),
        payload: behind.saturating_sub(u32::from(tcp.data_offset()) * 4),
    }
}
