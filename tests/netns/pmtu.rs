//! A hop on the way to the client that takes smaller packets than the rest: its errors reach the backend.

use anyhow::Result;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::netns::Netns;
use lb_tests::plain;
use lb_tests::topology::{API_PORT, Backends, Plan, Topology};
use lb_tests::transfer::{MIB, TransferServer, Way, transfer};
use rstest::rstest;

use crate::measured;
use crate::modes::{DNAT, DSR, NAT};

/// Subnet beyond the lab's client, which routes between the two.
const BEYOND: [&str; 2] = ["10.78.0.", "fd78::"];
/// The least that IPv6 has (RFC 8200 section 5).
const NARROW: &str = "1280";

#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn a_download_through_a_narrow_hop_completes(
    #[values(V4, V6)] family: Family,
    #[values(NAT, DNAT, DSR)] backends_are: Backends,
) {
    let lab = Topology::build(&Plan { backends_are, backends: 1, ..Plan::default() }).unwrap();
    let cp1 = lab.backend("cp1").unwrap();
    let _server = TransferServer::start(&cp1.netns, &cp1.listens(API_PORT)[..]).unwrap();
    let far = beyond_a_narrow_hop(&lab).unwrap();
    let controller = plain::start_up_of(&lab, family).unwrap();

    let target = plain::target_of(&lab, family);
    let hashes = far.on_thread(|| transfer(target, Way::Download, 16 * MIB)).unwrap();
    assert_eq!(hashes.sent, hashes.received);
    let errors = plain::wait_counter(&controller, "forward_icmp_error", |count| *count > 0);
    measured(&format!("{} {family:?}: {} errors steered", lab.mode, errors.unwrap()));
}

/// A namespace whose own interface takes packets of the usual size, so that it announces no smaller
/// segments; the router's interface towards it does not.
fn beyond_a_narrow_hop(lab: &Topology) -> Result<Netns> {
    let (far, router) = (Netns::unique("far")?, &lab.client);
    let inside = far.name();
    router.netns.ip(&format!("link add narrow type veth peer name eth0 netns {inside}"))?;
    for (netns, interface) in [(&router.netns, "narrow"), (&far, "eth0")] {
        let offloads = "tx off rx off tso off gso off gro off".split(' ');
        netns.run("ethtool", ["-K", interface].into_iter().chain(offloads))?;
        netns.ip(&format!("link set {interface} up"))?;
    }
    router.netns.sysctl("ipv4/ip_forward", "1")?;
    router.netns.sysctl("ipv6/conf/all/forwarding", "1")?;
    for (family, subnet) in Family::ALL.into_iter().zip(BEYOND) {
        let (length, nodad) = family.pick(("24", ""), ("64", "nodad"));
        router.netns.ip(&format!("addr add {subnet}1/{length} dev narrow {nodad}"))?;
        far.ip(&format!("addr add {subnet}2/{length} dev eth0 {nodad}"))?;
        far.ip(&format!("{} route add default via {subnet}1", family.pick("-4", "-6")))?;
        // In dnat backends have a default route by way of the VIP; in nat they need none.
        let needs_way = if lab.mode == "dsr" { &lab.backends[..] } else { &[] };
        for host in [&lab.lbs[0].host].into_iter().chain(needs_way) {
            let via = router.address_of(family);
            host.netns.ip(&format!("route add {subnet}/{length} via {via}").replace("./", ".0/"))?;
        }
    }
    router.netns.ip(&format!("link set narrow mtu {NARROW}"))?;
    Ok(far)
}
