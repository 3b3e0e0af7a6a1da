//! Who may connect, how often, and from which ports again.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use lb_tests::controller::Controller;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::plain::{self, EchoClient};
use lb_tests::recorder::Recorder;
use lb_tests::topology::{Backends, Plan, Topology};
use rstest::rstest;
use socket2::{Domain, Protocol, Socket, Type};

use crate::measured;
use crate::modes::{DNAT, DSR, NAT};

/// Less than a client waits before it sends its SYN again.
const DROPPED: Duration = Duration::from_millis(600);
/// What a SYN that had to be sent again would take at least.
const AT_ONCE: Duration = Duration::from_millis(900);

/// Another address of the client; in IPv6 of the same /64.
const NEIGHBOUR: [&str; 2] = ["10.77.0.7", "fd77::7"];

#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn only_allowed_sources_make_new_connections(
    #[values(V4, V6)] family: Family,
    #[values(NAT, DNAT, DSR)] backends_are: Backends,
) {
    let lab = Topology::build(&Plan { backends_are, ..Plan::default() }).unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    let mut controller = Controller::new(&lab.lbs[0], &plain::binary().unwrap(), lab.directory());
    let backends = plain::backends_of(&lab, family);
    let open = plain::config(&lab, &backends, controller.socket());
    let own = lab.client.address_of(family);
    let closed = format!("{open}    allow: [\"{own}/{}\"]\n", family.bits());
    controller.write_config(&open).unwrap();
    controller.start().unwrap();
    plain::wait_all_up(&lab, &controller).unwrap();
    let (target, other) = (plain::target_of(&lab, family), add_address(&lab, NEIGHBOUR, family));
    reach_by_client(&lab, family, other);
    let connect = |source| inside(&lab, || connect_from(source, target));

    let mut held = EchoClient::over(connect(other).unwrap()).unwrap();
    controller.write_config(&closed).unwrap();
    controller.reload().unwrap();
    held.exchange("what is there stays").unwrap();
    connect(own).unwrap();
    for _ in 0..3 {
        assert_eq!(connect(other).unwrap_err().kind(), ErrorKind::TimedOut);
    }
    plain::wait_counter(&controller, "drop_not_allowed", |count| *count >= 3).unwrap();
    controller.write_config(&open).unwrap();
    controller.reload().unwrap();
    connect(other).unwrap();
}

#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn a_source_connects_as_often_as_its_rate_allows(
    #[values(V4, V6)] family: Family,
    #[values(NAT, DNAT, DSR)] backends_are: Backends,
) {
    const BURST: usize = 10;
    let lab = Topology::build(&Plan { backends_are, ..Plan::default() }).unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    let rate = "    rate_limit: { connections_per_second: 4, burst: 10 }\n";
    let controller = plain::start_up_with(&lab, family, rate).unwrap();
    let target = plain::target_of(&lab, family);
    // A limit is one /64's in IPv6, so that is another one.
    let stranger = add_address(&lab, ["10.77.0.7", "fd77:0:0:9::7"], family);
    reach_by_client(&lab, family, stranger);
    let own = lab.client.address_of(family);
    let connect = |source| inside(&lab, || connect_from(source, target));

    let clock = Recorder::new();
    let burst = (0..BURST).filter(|_| connect(own).is_ok()).count();
    assert_eq!((burst, clock.now() < AT_ONCE), (BURST, true), "{:?}", clock.now());
    // One every 250 ms, and the burst took a moment: of ten at once few pass.
    let more = at_once(&lab, 10, || connect_from(own, target));
    assert!(more <= 4, "{more} of ten");
    assert_eq!(at_once(&lab, BURST, || connect_from(stranger, target)), BURST);
    let dropped = plain::wait_counter(&controller, "drop_rate_limited", |count| *count >= 6);
    measured(&format!("{} {family:?}: {more} of 10 more, {} drops", lab.mode, dropped.unwrap()));
    sleep(Duration::from_secs(1));
    assert!(connect(own).is_ok());
}

/// A server that closes first keeps the port in TIME_WAIT, and the client has it back at once.
#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn a_port_in_time_wait_can_be_used_again_by_its_client_and_by_another(
    #[values(V4, V6)] family: Family,
    #[values(NAT, DNAT, DSR)] backends_are: Backends,
) {
    let lab = Topology::build(&Plan { backends_are, ..Plan::default() }).unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    let _controller = plain::start_up_of(&lab, family).unwrap();
    let target = plain::target_of(&lab, family);
    let (own, other) = (lab.client.address_of(family), add_address(&lab, NEIGHBOUR, family));
    reach_by_client(&lab, family, other);
    let mut slowest = Duration::ZERO;
    for port in 3_000..3_100 {
        for source in [own, own, other, own] {
            let clock = Recorder::new();
            let stream = inside(&lab, || connect_as((source, port).into(), target));
            let client =
                stream.and_then(|stream| EchoClient::over(stream).map_err(io::Error::other));
            let client = client.unwrap_or_else(|error| panic!("{source}:{port}: {error}"));
            slowest = slowest.max(clock.now());
            client.bye().unwrap();
        }
    }
    measured(&format!("{} {family:?}: slowest {slowest:.1?}", lab.mode));
    assert!(slowest < AT_ONCE, "{slowest:?}");
}

fn add_address(lab: &Topology, [v4, v6]: [&str; 2], family: Family) -> IpAddr {
    let (address, nodad) = family.pick((v4, ""), (v6, "nodad"));
    lab.client.netns.ip(&format!("addr add {address}/{} dev eth0 {nodad}", family.bits())).unwrap();
    address.parse().unwrap()
}

/// As the client's own address is reached: in dnat by way of the VIP.
fn reach_by_client(lab: &Topology, family: Family, address: IpAddr) {
    let (client, bits) = (lab.client.address_of(family), family.bits());
    let via = if lab.mode == "dnat" { lab.vip_of(family) } else { client };
    for (netns, via) in
        lab.backends.iter().map(|host| (&host.netns, via)).chain([(&lab.lbs[0].host.netns, client)])
    {
        netns.ip(&format!("route add {address}/{bits} via {via} dev eth0")).unwrap();
    }
}

fn inside<T: Send>(lab: &Topology, work: impl FnOnce() -> T + Send) -> T {
    lab.client.netns.on_thread(|| Ok(work())).unwrap()
}

/// How many of so many connections, made at the same time, there are.
fn at_once(
    lab: &Topology,
    connections: usize,
    connect: impl Fn() -> io::Result<TcpStream> + Sync,
) -> usize {
    let netns = &lab.client.netns;
    std::thread::scope(|scope| {
        let attempt = |_| scope.spawn(|| netns.on_thread(|| Ok(connect().is_ok())).unwrap());
        let attempts: Vec<_> = (0..connections).map(attempt).collect();
        attempts.into_iter().filter_map(|attempt| attempt.join().ok()).filter(|made| *made).count()
    })
}

fn connect_from(source: IpAddr, target: SocketAddr) -> io::Result<TcpStream> {
    connect_as((source, 0).into(), target)
}

/// A connection from this address and port, if its first SYN is answered.
fn connect_as(source: SocketAddr, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&source.into())?;
    socket.connect_timeout(&target.into(), DROPPED)?;
    Ok(socket.into())
}
