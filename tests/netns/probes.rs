//! What traceroute and broken middleboxes send to the VIP: the node's own TCP must not answer it.

use std::fs;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_tests::capture::Capture;
use lb_tests::eventually::eventually_is;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, ETH_LEN, Frame, PSH, TCP};
use lb_tests::plain::{self, EchoClient};
use lb_tests::topology::{Backends, Plan, Topology};
use rstest::rstest;
use socket2::{Domain, Protocol, Socket, Type};

use crate::measured;
use crate::modes::{DNAT, DSR, NAT};

/// A RST comes at once, a second SYN after a second.
const NOT_REFUSED: Duration = Duration::from_millis(700);

#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn the_last_hop_of_a_packet_is_answered_with_time_exceeded_not_with_a_reset(
    #[values(V4, V6)] family: Family,
    #[values(NAT, DNAT)] backends_are: Backends,
) {
    let lab = Topology::build(&Plan { backends_are, ..Plan::default() }).unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    let controller = plain::start_up_of(&lab, family).unwrap();
    let target = plain::target_of(&lab, family);
    let node = lab.lbs[0].host.address_of(family);

    let answer = lab.client.netns.on_thread(|| {
        let errors = icmp(family)?;
        let probe = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        plain::set_hops(&probe, family, 1)?;
        let refusal = probe.connect_timeout(&target.into(), NOT_REFUSED).unwrap_err();
        // As an error it is the client's to believe or not; a RST would be a refusal.
        let kinds = [ErrorKind::TimedOut, ErrorKind::HostUnreachable];
        assert!(kinds.contains(&refusal.kind()), "{refusal}");
        time_exceeded_by(&errors, family)
    });
    assert_eq!(answer.unwrap(), node);

    let mut client = lab.client.netns.on_thread(|| EchoClient::connect(target, None)).unwrap();
    client.exchange("before").unwrap();
    client.set_hops(1).unwrap();
    client.send("too far").unwrap();
    plain::wait_counter(&controller, "answer_time_exceeded", |count| *count >= 2).unwrap();
    client.set_hops(64).unwrap();
    assert_eq!(client.read_line().unwrap(), "too far");
    client.exchange("after").unwrap();
}

#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn fragments_are_dropped_and_their_connection_goes_on(
    #[values(V4, V6)] family: Family,
    #[values(NAT, DNAT, DSR)] backends_are: Backends,
) {
    let lab = Topology::build(&Plan { backends_are, ..Plan::default() }).unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    let controller = plain::start_up_of(&lab, family).unwrap();
    let target = plain::target_of(&lab, family);
    let file = lab.directory().join("client.pcap");
    let capture = Capture::start(&lab.fabric, "client", "ip or ip6", &file).unwrap();

    let mut client = lab.client.netns.on_thread(|| EchoClient::connect(target, None)).unwrap();
    client.exchange("before").unwrap();
    let own = client.local_addr().unwrap();
    lab.client.netns.on_thread(|| send_fragments(own, target)).unwrap();
    let dropped = plain::wait_counter(&controller, "drop_fragment", |count| *count >= 2).unwrap();
    client.exchange("after the fragments").unwrap();
    // tcpdump gets what it sees in blocks.
    let bytes = || Ok(fs::read(&file)?);
    let is_all = |bytes: &Vec<u8>| bytes.windows(19).any(|part| part == b"after the fragments");
    eventually_is("the capture", Duration::from_secs(5), bytes, is_all).unwrap();
    let sums = capture.finish().unwrap();
    measured(&format!("{} {family:?}: {dropped} fragments dropped, {sums:?}", lab.mode));
    sums.ensure_good().unwrap();
    assert_eq!(sums.resets, 0, "{sums:?}");
}

/// A segment with data of a connection, in two fragments.
fn send_fragments(own: SocketAddr, target: SocketAddr) -> Result<()> {
    // 20 bytes of header and 44 of data are eight units.
    let first = Frame::tcp(own, target).flags(ACK | PSH).payload(&[b'x'; 44]).fragment(0, true);
    let last = Frame::raw(own.ip(), target.ip(), TCP, &[b'x'; 20]).fragment(8, false);
    // This protocol stands for packets that bring their own IP header.
    let raw = Protocol::from(i32::from(u8::MAX));
    let socket = Socket::new(Domain::for_address(target), Type::RAW, Some(raw))?;
    for fragment in [first, last] {
        socket.send_to(&fragment.bytes()[ETH_LEN..], &SocketAddr::from((target.ip(), 0)).into())?;
    }
    Ok(())
}

/// Takes all messages of the family's ICMP that reach the namespace of the calling thread.
fn icmp(family: Family) -> Result<Socket> {
    let (domain, protocol) =
        family.pick((Domain::IPV4, Protocol::ICMPV4), (Domain::IPV6, Protocol::ICMPV6));
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    Ok(socket)
}

/// Waits for an error of type 11 (RFC 792) or 3 (RFC 4443), code 0; who sent it.
fn time_exceeded_by(errors: &Socket, family: Family) -> Result<IpAddr> {
    // Of IPv4 the header comes along.
    let (offset, kind) = family.pick((20, 11), (0, 3));
    let mut message = [MaybeUninit::uninit(); 1500];
    loop {
        let (length, from) = errors.recv_from(&mut message).context("no time exceeded")?;
        // SAFETY: as many bytes as were received were written.
        let said = unsafe { message[..length].assume_init_ref() };
        if said.get(offset..offset + 2) == Some(&[kind, 0]) {
            return Ok(from.as_socket().context("an address of no IP")?.ip());
        }
    }
}
