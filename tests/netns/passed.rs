//! What is not for a service is the node's own, also at the VIP.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use lb_tests::echo;
use lb_tests::plain::{self, EchoClient};
use lb_tests::recorder::Recorder;
use lb_tests::topology::{API_PORT, Plan, Topology};
use socket2::{Domain, Protocol, Socket, Type};

use crate::measured;

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn what_is_not_the_service_reaches_the_kernel_of_the_lb() {
    let lab = Topology::build(&Plan::default()).unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    let controller = plain::start_up(&lab).unwrap();
    let lb = &lab.lbs[0].host.netns;
    let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let _ssh = echo::start(lb, "lb1-ssh", any(22)).unwrap();
    // Nobody may ever reach this one by the VIP.
    let _own = echo::start(lb, "lb1-own", any(API_PORT)).unwrap();
    let dns = lb.on_thread(|| Ok(UdpSocket::bind(any(53))?)).unwrap();
    dns.set_read_timeout(Some(Duration::from_secs(2))).unwrap();

    for host in lab.backends.iter().chain([&lab.client]) {
        let said = |port| {
            let target = SocketAddr::from((lab.vip(), port));
            host.netns.on_thread(|| {
                let mut client = EchoClient::connect(target, None)?;
                client.exchange("SSH-2.0-test")?;
                Ok(client.server)
            })
        };
        assert_eq!(said(22).unwrap(), "lb1-ssh", "from {}", host.name);
        if host.name == "client" {
            assert!(said(API_PORT).unwrap().starts_with("cp"));
        }

        let round_trip = host.netns.on_thread(|| ping(lab.vip())).unwrap();
        measured(&format!("ping from {}: {round_trip:.1?}", host.name));

        let word = format!("from {}", host.name);
        let sent = host.netns.on_thread(|| {
            let socket = UdpSocket::bind(any(0))?;
            Ok(socket.send_to(word.as_bytes(), (lab.vip(), 53))?)
        });
        assert_eq!(sent.unwrap(), word.len());
        let mut datagram = [0; 64];
        let (length, from) = dns.recv_from(&mut datagram).unwrap();
        assert_eq!((&datagram[..length], from.ip()), (word.as_bytes(), host.address.into()));
    }
    // A closed port of the VIP is refused by the kernel.
    let closed = SocketAddr::from((lab.vip(), 23));
    let connect = || Ok(TcpStream::connect_timeout(&closed, Duration::from_secs(1)));
    let refused = lab.client.netns.on_thread(connect).unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    for counter in ["pass_not_service", "pass_not_tcp", "forward_request"] {
        let count = plain::wait_counter(&controller, counter, |count| *count > 0).unwrap();
        measured(&format!("{counter} {count}"));
    }
}

/// One ICMP echo; how long the answer took.
fn ping(address: Ipv4Addr) -> Result<Duration> {
    let clock = Recorder::new();
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    // Type 8, code 0, checksum, identifier, sequence number.
    let request = [8, 0, 0xf7 - 0x12, 0xff - 0x34, 0x12, 0x34, 0, 0];
    socket.send_to(&request, &SocketAddr::from((address, 0)).into())?;
    let mut answer = [0; 64];
    loop {
        let length = (&socket).read(&mut answer)?;
        // Behind an IPv4 header without options; others' packets come here too.
        if answer[..length].get(20) == Some(&0) && answer[24..26] == request[4..6] {
            return Ok(clock.now());
        }
    }
}
