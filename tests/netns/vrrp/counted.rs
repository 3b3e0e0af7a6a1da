//! Advertisements that are sound and of no use to the instance as it is, and its own that cannot be sent: each
//! is counted for what it is and for nothing else, in `status` and in metrics, and none is obeyed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::advert::{self, Advert};
use lb_tests::controller::Controller;
use lb_tests::eventually::eventually_is;
use lb_tests::link::{self, Hears};
use lb_tests::packet::Mac;
use lb_tests::scrape::{Scrape, wait_sum};
use lb_tests::topology::{Host, LbNode};
use nix::net::if_::if_nametoindex;
use socket2::{Domain, InterfaceIndexOrAddress, Socket, Type};

use super::{INTERVAL, Ours, Pair, link_local, wait_both};
use crate::scene::PATIENCE;

const GROUP: (IpAddr, Mac) = (IpAddr::V4(advert::GROUP), [1, 0, 0x5e, 0, 0, 18]);
const GROUP_V6: (IpAddr, Mac) =
    (IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12)), [0x33, 0x33, 0, 0, 0, 0x12]);
const VRID: u8 = 77;
/// Above all of ours: who obeys gives its VIP up.
const HIGHEST: u8 = 254;
const SECOND: Duration = Duration::from_secs(1);

/// What comes back from the kernel's output path is what a broken route or a firewall makes of it.
const REFUSED: &str = "add table inet mute;
    add chain inet mute out { type filter hook output priority 0; };
    add rule inet mute out meta l4proto 112 drop";

/// The name of an instance, and its place in `status`.
type Instance = (&'static str, usize);
const API: Instance = ("api", 0);
const API6: Instance = ("api6", 1);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn what_goes_to_all_and_what_goes_to_one_are_not_mixed() -> Result<()> {
    let pair = Pair::build()?;
    let controller = pair.start(&pair.settings(100))?;
    pair.wait_state(&controller, "active")?;
    let (theirs, one) = (pair.theirs(), (pair.ours(), pair.mac(pair.node())?));
    ensure_counted(&controller, API, "cast_errors", || {
        send(&pair.other().host, &to(&pair, theirs, one))
    })?;
    drop(controller);

    let more = "    unicast_peers: [10.77.0.3]";
    let controller = pair.start(&Ours { more, ..pair.settings(100) })?;
    pair.wait_state(&controller, "active")?;
    // An instance with peers is not in the group, but another one on the interface may be.
    let _member = join_group(pair.node())?;
    ensure_counted(&controller, API, "cast_errors", || {
        send(&pair.other().host, &to(&pair, theirs, GROUP))
    })?;
    let stranger = &pair.lab.backends[0];
    ensure_counted(&controller, API, "stranger_packets", || {
        send(stranger, &to(&pair, stranger.address.into(), one))
    })?;
    // From who is listed it is obeyed.
    send(&pair.other().host, &to(&pair, theirs, one))?;
    pair.wait_state(&controller, "backup")
}

/// IPv4 of Linux hands such a packet over only where it is told to take its own addresses from outside.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn what_comes_from_an_address_of_this_node_is_counted_and_alarms() -> Result<()> {
    let pair = Pair::build()?;
    pair.node().host.netns.sysctl("ipv4/conf/eth0/accept_local", "1")?;
    let controller = pair.start(&pair.dual_stack(""))?;
    wait_both(&controller, "active")?;
    let own6 = link_local(pair.node())?;
    let mut message6 = vec![0x31, VRID, HIGHEST, 2, 0, 10, 0, 0];
    for vip in pair.vips6() {
        let IpAddr::V6(vip) = vip else { continue };
        message6.extend(vip.octets());
    }
    advert::seal_to(own6, GROUP_V6.0, &mut message6);
    let frames =
        [(API, to(&pair, pair.ours(), GROUP)), (API6, advert::frame_to(own6, GROUP_V6, &message6))];
    for (instance, frame) in frames {
        let alarm = [&*format!("vrrp_instance=\"{}\"", instance.0), "kind=\"duplicate_node\""];
        ensure!(Scrape::of(&controller)?.sum("fairlead_vrrp_alarm", &alarm) == 0.0, "too early");
        ensure_counted(&controller, instance, "own_source_packets", || {
            send(&pair.other().host, &frame)
        })?;
        wait_sum(&controller, "fairlead_vrrp_alarm", &alarm, |sum| sum == 1.0)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn an_instance_that_takes_no_part_counts_what_it_hears_and_goes_on_as_before() -> Result<()> {
    let pair = Pair::build()?;
    let netns = &pair.node().host.netns;
    netns.ip("link add uplink type veth peer name far-uplink")?;
    netns.ip("link set uplink up")?;
    let more = "    track: { interfaces: [{ name: uplink }] }";
    let controller = pair.start(&Ours { more, ..pair.settings(100) })?;
    pair.wait_state(&controller, "fault")?;
    ensure_counted(&controller, API, "not_running_packets", || {
        send(&pair.other().host, &to(&pair, pair.theirs(), GROUP))
    })?;
    netns.ip("link set far-uplink up")?;
    pair.wait_state(&controller, "active")
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn another_kind_of_authentication_is_counted_apart_from_another_password() -> Result<()> {
    const MISMATCH: &str = "auth_type_mismatches";
    const FAILURE: &str = "auth_failures";
    let none = "    version: 2";
    let pass = "    version: 2\n    authentication: { type: pass, password: ours }";
    for (more, cases) in [
        (none, [(1, *b"ours\0\0\0\0", MISMATCH), (2, [0; 8], MISMATCH)]),
        (pass, [(0, [0; 8], MISMATCH), (1, *b"theirs\0\0", FAILURE)]),
    ] {
        let pair = Pair::build()?;
        let ours = Ours { interval: SECOND, more, ..pair.settings(100) };
        let controller = pair.start(&ours)?;
        pair.wait_state(&controller, "active")?;
        for (kind, data, counter) in cases {
            let message = advert::version_2((VRID, HIGHEST), 1, pair.lab.vip(), (kind, data));
            let frame = advert::frame_to(pair.theirs(), GROUP, &message);
            ensure_counted(&controller, API, counter, || send(&pair.other().host, &frame))
                .with_context(|| format!("authentication {kind} for {more}"))?;
        }
    }
    Ok(())
}

/// Nobody hears of a node whose advertisements do not leave, so it may not serve for longer than its last one lasts.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn advertisements_that_cannot_be_sent_are_counted_and_end_the_lease() -> Result<()> {
    const ERRORS: &str = "fairlead_vrrp_send_errors_total";
    const LEASE: &str = "fairlead_vip_lease_remaining_seconds";
    let pair = Pair::build()?;
    let controller = pair.start(&pair.settings(100))?;
    pair.wait_state(&controller, "active")?;
    wait_sum(&controller, "fairlead_vrrp_sent_advertisements_total", &[], |sum| sum >= 3.0)?;
    wait_sum(&controller, LEASE, &[], |left| left > 0.0)?;
    ensure!(Scrape::of(&controller)?.sum(ERRORS, &[]) == 0.0, "{}", controller.log());

    pair.node().host.netns.run("nft", [REFUSED])?;
    wait_sum(&controller, ERRORS, &[], |sum| sum >= 3.0)?;
    wait_sum(&controller, LEASE, &[], |left| left == 0.0)?;
    let mark = pair.wire.mark();
    std::thread::sleep(INTERVAL * 5);
    let heard = pair.wire.adverts(pair.ours(), mark);
    ensure!(heard.is_empty(), "they were sent: {heard:?}");

    pair.node().host.netns.run("nft", ["delete table inet mute"])?;
    wait_sum(&controller, LEASE, &[], |left| left > 0.0)?;
    let count = |name: &str| -> Result<u64> {
        counters(&controller, API)?.get(name).copied().with_context(|| format!("no counter {name}"))
    };
    let (before, sent) = (count("send_errors")?, count("advertisements_sent")?);
    let more = |now: &u64| *now >= sent + 3;
    eventually_is("to go on", PATIENCE, || count("advertisements_sent"), more)?;
    let after = count("send_errors")?;
    ensure!(after == before, "{before} errors became {after}");
    Ok(())
}

/// A sound advertisement above ours of this address, for `to`.
fn to(pair: &Pair, source: IpAddr, to: (IpAddr, Mac)) -> Vec<u8> {
    let IpAddr::V4(own) = source else { unreachable!("{source} is of IPv4") };
    let mut message = Advert::new(own, VRID, HIGHEST, pair.lab.vip()).message();
    advert::seal_to(source, to.0, &mut message);
    advert::frame_to(source, to, &message)
}

/// Has the node's kernel take what goes to the group, until the socket is dropped.
fn join_group(node: &LbNode) -> Result<Socket> {
    node.host.netns.on_thread(|| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        let interface = InterfaceIndexOrAddress::Index(if_nametoindex("eth0")?);
        socket.join_multicast_v4_n(&advert::GROUP, &interface)?;
        Ok(socket)
    })
}

fn send(host: &Host, frame: &[u8]) -> Result<()> {
    let socket = host.netns.on_thread(|| link::open("eth0", Hears::Nothing))?;
    socket.send(frame).context("sending a frame").map(drop)
}

/// `send` adds one to this counter, and to no other that is not of the node's own doing; neither state nor term change.
fn ensure_counted(
    controller: &Controller<'_>,
    instance: Instance,
    counter: &str,
    send: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let (family, label) =
        (format!("fairlead_vrrp_{counter}_total"), format!("vrrp_instance=\"{}\"", instance.0));
    let scraped = Scrape::of(controller)?.sum(&family, &[&label]);
    let (state, mut expected) = (state(controller, instance)?, heard(controller, instance)?);
    *expected.get_mut(counter).with_context(|| format!("no counter {counter}"))? += 1;
    // Who else is there is worth to know at any time.
    if counter == "not_running_packets" {
        *expected.entry("advertisements_received".to_owned()).or_default() += 1;
    }
    send()?;
    let seen = || heard(controller, instance);
    eventually_is(counter, PATIENCE, seen, |seen| *seen == expected)?;
    wait_sum(controller, &family, &[&label], |sum| sum == scraped + 1.0)?;
    std::thread::sleep(INTERVAL);
    ensure!(heard(controller, instance)? == expected, "{counter}: it was counted once more");
    let after = self::state(controller, instance)?;
    ensure!(after == state, "{counter}: {state} became {after}");
    Ok(())
}

/// State and term.
fn state(controller: &Controller<'_>, (_, place): Instance) -> Result<String> {
    let status = controller.status()?;
    let instance = &status["vrrp"][place];
    Ok(format!("{} {}", instance["state"], instance["term"]))
}

fn counters(controller: &Controller<'_>, (name, place): Instance) -> Result<BTreeMap<String, u64>> {
    let status = controller.status()?;
    let instance = &status["vrrp"][place];
    ensure!(instance["name"] == name, "{instance} is not {name}");
    let counters = instance["counters"].as_object().context("no counters")?;
    Ok(counters.iter().map(|(name, count)| (name.clone(), count.as_u64().unwrap_or(0))).collect())
}

/// Counters of what others send.
fn heard(controller: &Controller<'_>, instance: Instance) -> Result<BTreeMap<String, u64>> {
    const OWN: [&str; 5] = [
        "master_transitions",
        "advertisements_sent",
        "priority_zero_packets_sent",
        "send_errors",
        "worst_lateness_us",
    ];
    let mut counters = counters(controller, instance)?;
    counters.retain(|name, _| !OWN.contains(&&**name));
    Ok(counters)
}
