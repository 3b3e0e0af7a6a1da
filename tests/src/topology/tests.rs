use std::io::ErrorKind::ConnectionRefused;
use std::net::TcpStream;
use std::time::Duration;

use super::*;
use crate::capture::Capture;
use crate::echo;
use crate::plain::EchoClient;

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn hosts_of_one_subnet_reach_each_other_and_those_of_two_do_not() {
    let one = Topology::build(&Plan { lb_nodes: 2, ..Plan::default() }).unwrap();
    let two = Topology::build(&Plan { arms: Arms::Two, ..Plan::default() }).unwrap();
    for family in Family::ALL {
        for host in one.hosts() {
            ping(&one.client, host.address_of(family)).unwrap();
        }
        ping(&two.client, two.lbs[0].host.address_of(family)).unwrap();
        ping(&two.backends[0], two.lbs[0].backend_side.unwrap().of(family)).unwrap();
        ping(&two.client, two.backends[0].address_of(family)).unwrap_err();
    }
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_dropped_lab_leaves_no_namespace_no_mount_and_no_file() {
    let lab = Topology::build(&Plan::default()).unwrap();
    let directory = lab.directory().to_owned();
    let client = lab.client.netns.name().to_owned();
    drop(lab);
    assert!(!directory.exists());
    assert!(Netns::open(&client).is_err());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(directory.to_str().unwrap()), "{mounts}");
}

/// As a LB without translation would send to it: by its MAC.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_backend_that_holds_the_vips_answers_those_who_have_its_mac_and_tells_nobody() {
    let plan = Plan { backends_are: Backends::HoldVips, backends: 2, ..Plan::default() };
    let lab = Topology::build(&plan).unwrap();
    let (client, cp2) = (&lab.client, &lab.backends[1]);
    let _server = echo::start(&cp2.netns, "cp2", &cp2.listens(API_PORT)[..]).unwrap();
    let show = cp2.netns.ip("-br link show eth0").unwrap();
    let mac = show.split_whitespace().nth(2).unwrap();
    let told = "(arp src host 10.77.0.100) or (icmp6 and src host fd77::100 and ip6[40] != 1)";
    let file = lab.directory().join("told.pcap");
    let capture = Capture::start(&lab.fabric, "cp2", told, &file).unwrap();
    for family in Family::ALL {
        let vip = lab.vip_of(family);
        ping(client, vip).unwrap_err();
        client.netns.ip(&format!("neigh replace {vip} lladdr {mac} dev eth0")).unwrap();
        // The backend must find out where the client is, and may not ask in the VIP's name.
        for host in lab.hosts() {
            host.netns.ip(&format!("{} neigh flush nud all", family.pick("-4", "-6"))).unwrap();
        }
        client.netns.ip(&format!("neigh replace {vip} lladdr {mac} dev eth0")).unwrap();
        let target = (vip, API_PORT).into();
        let server = client.netns.on_thread(|| {
            let mut connection = EchoClient::connect(target, None)?;
            connection.exchange("hello")?;
            Ok(connection.server)
        });
        assert_eq!(server.unwrap(), "cp2");
        // What it opens itself is from its own address.
        ping(cp2, client.address_of(family)).unwrap();
    }
    assert_eq!(capture.finish().unwrap().packets, 0);
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn what_backends_behind_a_gateway_send_to_the_client_goes_there() {
    for arms in [Arms::One, Arms::Two] {
        let backends_are = Backends::Behind(Gateway::Vip);
        let lab = Topology::build(&Plan { arms, backends_are, ..Plan::default() }).unwrap();
        for family in Family::ALL {
            let gateway =
                lab.backend_vip().map_or_else(|| lab.vip_of(family), |vip| vip.of(family));
            for address in [lab.client.address_of(family), family.pick(ELSEWHERE.0, ELSEWHERE.1)] {
                let way = lab.backends[0].netns.ip(&format!("route get {address}")).unwrap();
                assert!(way.contains(&format!(" via {gateway} dev eth0")), "{way}");
            }
            let peer = lab.backends[1].address_of(family);
            ping(&lab.backends[0], peer).unwrap();
        }
    }
}

/// Documentation addresses.
const ELSEWHERE: (IpAddr, IpAddr) = (
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
);

/// Without ping(8): a SYN to a closed port is refused by whoever has the address.
fn ping(from: &Host, address: IpAddr) -> Result<()> {
    let timeout = Duration::from_secs(1);
    let target = SocketAddr::from((address, 1));
    from.netns.on_thread(|| match TcpStream::connect_timeout(&target, timeout) {
        Err(error) if error.kind() == ConnectionRefused => Ok(()),
        other => anyhow::bail!("{other:?}"),
    })
}
