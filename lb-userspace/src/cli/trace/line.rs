//! A followed packet as a line. Pure.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::admin::model::packet::{Class, Frame, Packet};

/// Such as `18:03:11.201934100 eth0 10.0.0.2:40000 > 10.0.0.100:6443 SYN: forward, to the flow's backend:
/// 10.0.0.100:40000 > 10.0.0.11:6443 (kube-apiserver/cp1, SYN-SENT, new)`.
pub(super) fn show(packet: &Packet) -> String {
    let Packet { time, interface, verdict, reason, came, left, flow, .. } = packet;
    let clock = time.split_once('T').map_or(time.as_str(), |(_, clock)| clock);
    let clock = clock.trim_end_matches('Z');
    let interface = interface.as_deref().unwrap_or("-");
    let mut text = format!("{clock} {interface} {}: {}, {reason}", frame(came), verdict.as_str());
    // Writing to a string cannot fail.
    if let Some(left) = left {
        let _ = match verdict {
            Class::Forward | Class::Redirect => write!(text, ": {}", ends(left)),
            Class::Reset | Class::Answer | Class::Drop | Class::Pass => {
                write!(text, ": {}", frame(left))
            }
        };
    }
    if let Some(flow) = flow {
        let service = flow.service.as_deref().unwrap_or("?");
        let address = flow.backend_address.to_string();
        let backend = flow.backend.as_deref().unwrap_or(&address);
        let new = if packet.opens_flow { ", new" } else { "" };
        let _ = write!(text, " ({service}/{backend}, {}{new})", flow.state.as_str());
    }
    text
}

/// Ends, flags and length.
fn frame(frame: &Frame) -> String {
    let mut text = ends(frame);
    match (&frame.tcp, &frame.protocol) {
        (Some(tcp), _) => {
            let _ = write!(text, " {}", if tcp.flags.is_empty() { "no flags" } else { &tcp.flags });
            if tcp.payload > 0 {
                let _ = write!(text, " {} bytes", tcp.payload);
            }
        }
        (None, Some(protocol)) => {
            let _ = write!(text, " {protocol}");
        }
        (None, None) => {}
    }
    text
}

fn ends(frame: &Frame) -> String {
    let end = |address: Option<IpAddr>, port: Option<u16>| match (address, port) {
        (Some(address), Some(port)) => SocketAddr::new(address, port).to_string(),
        (Some(address), None) => address.to_string(),
        (None, _) => "?".to_owned(),
    };
    let source = end(frame.source, frame.source_port);
    format!("{source} > {}", end(frame.destination, frame.destination_port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::model::flows::{Closed, Flow, FlowState};
    use crate::admin::model::packet::{From, Tcp};

    fn segment(source: &str, destination: &str, flags: &str, payload: u32) -> Frame {
        let (source, destination): (SocketAddr, SocketAddr) =
            (source.parse().unwrap(), destination.parse().unwrap());
        Frame {
            length: 66,
            source_mac: None,
            destination_mac: None,
            vlans: vec![],
            source: Some(source.ip()),
            destination: Some(destination.ip()),
            hops: Some(64),
            protocol: Some("tcp".to_owned()),
            source_port: Some(source.port()),
            destination_port: Some(destination.port()),
            tcp: Some(Tcp { flags: flags.to_owned(), seq: 1, ack: 0, window: 9, payload }),
        }
    }

    fn packet() -> Packet {
        Packet {
            time: "2026-01-02T03:04:05.000000006Z".to_owned(),
            spent_ns: 900,
            interface: Some("eth0".to_owned()),
            cpu: 0,
            verdict: Class::Forward,
            counter: "forward_request".to_owned(),
            reason: "to the flow's backend".to_owned(),
            from: Some(From::Client),
            opens_flow: true,
            came: segment("10.0.0.2:40000", "10.0.0.100:6443", "SYN", 0),
            left: Some(segment("10.0.0.100:40000", "10.0.0.11:6443", "SYN", 0)),
            flow: Some(Flow {
                client: "10.0.0.2:40000".parse().unwrap(),
                vip: "10.0.0.100:6443".parse().unwrap(),
                service: Some("api".to_owned()),
                backend: Some("cp1".to_owned()),
                backend_address: "10.0.0.11:6443".parse().unwrap(),
                source: "10.0.0.100:40000".parse().unwrap(),
                mode: "nat".to_owned(),
                state: FlowState::SynSent,
                half_open: true,
                idle_ms: 0,
                expires_in_ms: None,
                closed_first: Closed::Nobody,
                reset_by: Closed::Nobody,
                given_up: false,
                attempts: 0,
            }),
        }
    }

    #[test]
    fn a_packet_is_a_line() {
        let expected = "03:04:05.000000006 eth0 10.0.0.2:40000 > 10.0.0.100:6443 SYN: forward, \
                        to the flow's backend: 10.0.0.100:40000 > 10.0.0.11:6443 \
                        (api/cp1, SYN-SENT, new)";
        assert_eq!(show(&packet()), expected);
    }

    #[test]
    fn what_is_dropped_leaves_nothing_and_an_answer_is_shown() {
        let dropped = Packet {
            verdict: Class::Drop,
            reason: "a fragment of TCP".to_owned(),
            left: None,
            flow: None,
            interface: None,
            ..packet()
        };
        let text = show(&dropped);
        assert!(text.ends_with("- 10.0.0.2:40000 > 10.0.0.100:6443 SYN: drop, a fragment of TCP"));
        let reset = Packet {
            verdict: Class::Reset,
            reason: "the service has no backend".to_owned(),
            left: Some(segment("10.0.0.100:6443", "10.0.0.2:40000", "RST ACK", 0)),
            flow: None,
            ..packet()
        };
        let text = show(&reset);
        assert!(text.ends_with("no backend: 10.0.0.100:6443 > 10.0.0.2:40000 RST ACK"), "{text}");
    }
}
